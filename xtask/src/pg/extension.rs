//! The extension's files: built by cargo, with the sidecar if asked, and put into a private copy of the server.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::server::{Server, Toolchain};
use crate::run::{cargo, quiet, step};
use crate::tree;

const CONTROL: &str = "sealvec.control";

/// Does this tree hold the extension? (It may not, early in its life.)
pub fn present() -> bool {
    tree::root().join(CONTROL).exists() && tree::root().join("src/lib.rs").exists()
}

/// Builds the library for `toolchain` and returns its path. `sidecar` is built in the same run, which keeps both cores
/// busy and compiles once what both stand on; without embedding models, which are most of it and which nobody here uses.
pub fn build(toolchain: &Toolchain, profile: &str, sidecar: bool) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--package", "sealvec"]);
    if sidecar {
        command.args(["--package", "sealvec-sidecar"]);
    }
    if profile == "release" {
        command.arg("--release");
    }
    // The same value as in .cargo/config.toml for the default version, or bindgen would run again at each change.
    command.env("PGRX_PG_CONFIG_PATH", &toolchain.pg_config);
    if sidecar || toolchain.version != 15 {
        command.args(["--no-default-features", "--features", &format!("sealvec/pg{}", toolchain.version)]);
    }
    let what = if sidecar { "the extension and the sidecar" } else { "the extension" };
    let directory = directory(toolchain.version, profile);
    command.env("CARGO_TARGET_DIR", directory.parent().expect("a directory of the profile"));
    step(&format!("building {what} for Postgres {} ({profile})", toolchain.version), || quiet(&mut command))?;
    let library = directory.join("libsealvec.so");
    ensure!(
        library.exists(),
        "cargo built no {}; does the root package still make a cdylib named sealvec?",
        library.display()
    );
    Ok(library)
}

/// Where cargo puts what it builds for this version: each has its own, or the features of one would undo the other's.
pub fn directory(version: u32, profile: &str) -> PathBuf {
    let target = if version == 15 { tree::target() } else { tree::target().join(format!("pg{version}")) };
    target.join(if profile == "release" { "release" } else { "debug" })
}

/// Puts library, control file and SQL into the copy; true when any of them differs from what lay there.
pub fn install(server: &Server, library: &Path) -> Result<bool> {
    let control = fs::read(tree::root().join(CONTROL)).context("could not read sealvec.control")?;
    let version = default_version(&String::from_utf8_lossy(&control))?;
    let mut changed = replace(&server.lib.join("sealvec.so"), &fs::read(library)?)?;
    changed |= replace(&server.extension.join(CONTROL), &control)?;
    changed |= replace(&server.extension.join(format!("sealvec--{version}.sql")), whole_sql()?.as_bytes())?;
    for script in upgrade_scripts()? {
        let name = script.file_name().expect("a listed file has a name");
        changed |= replace(&server.extension.join(name), &fs::read(&script)?)?;
    }
    Ok(changed)
}

/// Writes by rename, so that a server that has the old library mapped keeps it whole.
fn replace(path: &Path, bytes: &[u8]) -> Result<bool> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(false);
    }
    let fresh = path.with_extension("new");
    fs::write(&fresh, bytes).with_context(|| format!("could not write {}", fresh.display()))?;
    fs::rename(&fresh, path)?;
    Ok(true)
}

fn default_version(control: &str) -> Result<String> {
    control
        .lines()
        .filter_map(|line| line.split_once('='))
        .find(|(name, _)| name.trim() == "default_version")
        .map(|(_, value)| value.trim().trim_matches('\'').to_owned())
        .context("sealvec.control names no default_version")
}

/// The SQL that CREATE EXTENSION runs: the files of `sql/` in the order that `sql/ORDER` lists, else by name.
fn whole_sql() -> Result<String> {
    let dir = tree::root().join("sql");
    let files = match fs::read_to_string(dir.join("ORDER")) {
        Ok(order) => order
            .lines()
            .map(|line| line.split('#').next().unwrap_or("").trim())
            .filter(|line| !line.is_empty())
            .map(|line| dir.join(line))
            .collect(),
        Err(_) => sql_files(&dir)?.into_iter().filter(|path| !is_upgrade(path)).collect::<Vec<_>>(),
    };
    ensure!(!files.is_empty(), "expected SQL files in {}, found none", dir.display());
    let mut whole = String::new();
    for file in files {
        whole.push_str(
            &fs::read_to_string(&file)
                .with_context(|| format!("could not read {} (listed in sql/ORDER?)", file.display()))?,
        );
        whole.push('\n');
    }
    Ok(whole)
}

fn upgrade_scripts() -> Result<Vec<PathBuf>> {
    Ok(sql_files(&tree::root().join("sql"))?.into_iter().filter(|path| is_upgrade(path)).collect())
}

fn sql_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir)
        .with_context(|| format!("could not read {}", dir.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "sql"))
        .collect();
    files.sort();
    Ok(files)
}

/// `sealvec--A--B.sql`
fn is_upgrade(path: &Path) -> bool {
    path.file_stem().is_some_and(|stem| stem.to_string_lossy().starts_with("sealvec--"))
}
