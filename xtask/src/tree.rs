//! Where things lie: the source tree, its target directory, and the directory that holds clusters.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// A Unix socket's path may have 107 bytes; this is what `/name/socket/.s.PGSQL.65535` and some slack need.
const SOCKET_TAIL: usize = 48;

/// The source tree that this `xtask` belongs to.
pub fn root() -> PathBuf {
    // `cargo run` sets CARGO_MANIFEST_DIR; the built-in value serves a binary that is started by hand.
    let manifest = env::var_os("CARGO_MANIFEST_DIR")
        .map(PathBuf::from)
        .filter(|dir| dir.ends_with("xtask"))
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    manifest.parent().expect("xtask lies in the workspace").to_path_buf()
}

/// Cargo's target directory.
pub fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) if Path::new(&dir).is_absolute() => PathBuf::from(dir),
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// Are we root? Then servers run as `postgres`, because Postgres refuses to run as root.
pub fn is_root() -> bool {
    output_of(Command::new("id").arg("-u")).is_ok_and(|uid| uid.trim() == "0")
}

/// The directory of private servers and clusters: `target/pg`, or a directory under /var/tmp when user `postgres`
/// could not reach it (a clone under /root), others could change it, or a socket's path would be too long.
pub fn clusters() -> Result<PathBuf> {
    let wanted = target().join("pg");
    fs::create_dir_all(&wanted).with_context(|| format!("could not create {}", wanted.display()))?;
    if wanted.as_os_str().len() + SOCKET_TAIL < 107 && reachable(&wanted)? && trusted(&wanted)? {
        return Ok(wanted);
    }
    let fallback = Path::new("/var/tmp").join(format!("sealvec-{:016x}", fnv(wanted.as_os_str())));
    if !fallback.exists() {
        // create, not create_all: a directory that another user put there first is an error, not a home.
        fs::DirBuilder::new()
            .mode(0o755)
            .create(&fallback)
            .with_context(|| format!("could not create {}", fallback.display()))?;
        eprintln!(
            "note: {} is too long, closed to user postgres, or open to others' writing; clusters live in {}",
            wanted.display(),
            fallback.display()
        );
    }
    let owner = fs::symlink_metadata(&fallback)?.uid();
    let me = fs::metadata("/proc/self")?.uid();
    anyhow::ensure!(
        owner == me,
        "{} belongs to another user: remove it, or move this tree to a shorter, reachable path",
        fallback.display()
    );
    Ok(fallback)
}

fn reachable(dir: &Path) -> Result<bool> {
    if !is_root() {
        return Ok(true);
    }
    if output_of(Command::new("id").args(["-u", "postgres"])).is_err() {
        return Ok(true); // the user comes with the package; `pg::server::ensure` runs first and asks again
    }
    let status =
        Command::new("runuser").args(["-u", "postgres", "--", "test", "-x"]).arg(dir).current_dir("/").status();
    Ok(status.context("could not run runuser")?.success())
}

/// Would the `local` key provider accept a key below `dir`? It refuses a path that another user could change.
fn trusted(dir: &Path) -> Result<bool> {
    let me = fs::metadata("/proc/self")?.uid();
    for step in dir.ancestors() {
        let meta = fs::metadata(step)?;
        let open = meta.mode() & 0o022 != 0 && meta.mode() & 0o1000 == 0;
        if open || (meta.uid() != 0 && meta.uid() != me) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Standard output of a command that must succeed.
pub fn output_of(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}");
    let output = command.output().with_context(|| format!("could not run {shown}"))?;
    anyhow::ensure!(output.status.success(), "{shown} failed:\n{}", String::from_utf8_lossy(&output.stderr).trim_end());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// FNV-1a: names the fallback directory; stable across runs and Rust versions.
fn fnv(text: &OsStr) -> u64 {
    text.as_encoded_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
