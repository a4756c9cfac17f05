//! The server's programs: found or installed, then copied, so that nothing of ours ever goes into the system.
//!
//! Postgres finds its share and library directories relative to its own binary as long as the layout between them is
//! kept, so a plain copy of `lib/postgresql/15` and `share/postgresql/15` is a server of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::wheel::LIBRARIES;
use crate::run::{quiet, step};
use crate::tree;

/// What `cargo build` needs to compile for one Postgres version.
pub struct Toolchain {
    pub version: u32,
    pub pg_config: PathBuf,
}

/// A private copy of a server, one per build profile so that a release demo and a dev test do not swap each other's
/// library.
pub struct Server {
    pub bin: PathBuf,
    pub lib: PathBuf,
    pub extension: PathBuf,
}

impl Server {
    /// A program of this server, run as the user that owns clusters, without variables that change its behaviour.
    pub fn program(&self, name: &str) -> Command {
        as_server_user(&self.bin.join(name))
    }
}

/// `program` as user `postgres` when we are root (Postgres refuses root), else as ourselves.
///
/// RUST_BACKTRACE is taken away: with it every error to a client carries a Rust backtrace as DETAIL.
pub fn as_server_user(program: &Path) -> Command {
    let mut command = if tree::is_root() {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--", "env", "-u", "RUST_BACKTRACE"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.env_remove("RUST_BACKTRACE").env("LC_ALL", "C.UTF-8").current_dir("/");
    for name in ["PGDATA", "PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGOPTIONS", "PGSERVICE", "PGPASSFILE"] {
        command.env_remove(name);
    }
    command
}

/// Finds what builds and runs version `version`, installing what is missing when we are root.
pub fn toolchain(version: u32) -> Result<Toolchain> {
    let _lock = super::lock("toolchain")?; // one download at a time
    // Whatever the version: user postgres, gcc, and the libclang that bindgen reads headers with.
    let debian = debian_15()?;
    let pg_config = match version {
        15 => debian,
        16 | 18 => super::wheel::pg_config(version)?,
        17 => super::debian13::pg_config()?,
        _ => bail!("expected Postgres 15, 16, 17 or 18, not {version}"),
    };
    Ok(Toolchain { version, pg_config })
}

/// A fresh or already made private copy for `profile`.
pub fn private_copy(toolchain: &Toolchain, profile: &str) -> Result<Server> {
    let home = tree::clusters()?.join(toolchain.version.to_string()).join(format!("root-{profile}"));
    let source = Layout::of(&toolchain.pg_config)?;
    let server = Server {
        bin: home.join(&source.bin_tail),
        lib: home.join(&source.lib_tail),
        extension: home.join(&source.share_tail).join("extension"),
    };
    let stamp = home.join("copied-from");
    let wanted = source.identity()?;
    if fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(server);
    }
    step(&format!("copying Postgres {} to {}", toolchain.version, home.display()), || {
        if home.exists() {
            fs::remove_dir_all(&home).with_context(|| format!("could not remove {}", home.display()))?;
        }
        copy_tree(&source.bin, &server.bin, &[])?;
        copy_tree(&source.lib, &server.lib, &["bitcode", "pgxs", "pkgconfig"])?;
        copy_tree(&source.share, &home.join(&source.share_tail), &["man", "doc"])?;
        if let Some((from, to)) = &source.more {
            copy_tree(from, &home.join(to), &[])?;
        }
        fs::write(&stamp, &wanted)?;
        Ok(())
    })?;
    Ok(server)
}

/// The directories of an installed server and their paths below its prefix.
struct Layout {
    bin: PathBuf,
    lib: PathBuf,
    share: PathBuf,
    bin_tail: PathBuf,
    lib_tail: PathBuf,
    share_tail: PathBuf,
    /// A further directory that the programs need: a wheel's own shared libraries.
    more: Option<(PathBuf, PathBuf)>,
}

impl Layout {
    fn of(pg_config: &Path) -> Result<Self> {
        let ask = |what: &str| -> Result<PathBuf> {
            Ok(PathBuf::from(tree::output_of(Command::new(pg_config).arg(what))?.trim()))
        };
        let (bin, lib, share) = (ask("--bindir")?, ask("--pkglibdir")?, ask("--sharedir")?);
        // A wheel's programs look for its libraries beside the directory that holds the server.
        let wheel = bin.ancestors().find(|dir| dir.join(LIBRARIES).is_dir());
        let common = bin.ancestors().find(|dir| lib.starts_with(dir) && share.starts_with(dir));
        let prefix = wheel.or(common).unwrap_or(Path::new("/"));
        let tail = |path: &Path| {
            path.strip_prefix(prefix).map(Path::to_path_buf).context("server directories share no prefix")
        };
        let more = wheel.map(|dir| (dir.join(LIBRARIES), PathBuf::from(LIBRARIES)));
        Ok(Self { bin_tail: tail(&bin)?, lib_tail: tail(&lib)?, share_tail: tail(&share)?, more, bin, lib, share })
    }

    /// Changes when the package is upgraded.
    fn identity(&self) -> Result<String> {
        use std::os::unix::fs::MetadataExt;
        let meta = fs::metadata(self.bin.join("postgres"))
            .with_context(|| format!("no postgres in {}", self.bin.display()))?;
        Ok(format!("{} {} {}\n", self.bin.display(), meta.len(), meta.mtime()))
    }
}

/// Copies a directory with its modes; symbolic links stay links unless they point out of the tree by a relative path.
fn copy_tree(from: &Path, to: &Path, skip: &[&str]) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("could not create {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("could not read {}", from.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        if skip.iter().any(|skipped| name == *skipped) {
            continue;
        }
        let (source, target) = (entry.path(), to.join(&name));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_tree(&source, &target, skip)?;
        } else if kind.is_symlink() && fs::read_link(&source)?.is_absolute() {
            std::os::unix::fs::symlink(fs::read_link(&source)?, &target)?;
        } else if !source.exists() {
            continue; // a relative link to a skipped or missing file
        } else {
            fs::copy(&source, &target).with_context(|| format!("could not copy {}", source.display()))?;
        }
    }
    Ok(())
}

fn debian_15() -> Result<PathBuf> {
    let pg_config = PathBuf::from("/usr/lib/postgresql/15/bin/pg_config");
    let mut missing = Vec::new();
    if !Path::new("/usr/lib/postgresql/15/bin/postgres").exists() {
        missing.push("postgresql-15");
    }
    if !pg_config.exists() || !Path::new("/usr/include/postgresql/15/server/postgres.h").exists() {
        missing.push("postgresql-server-dev-15");
    }
    if !on_path("gcc") {
        missing.push("gcc");
    }
    if !Path::new("/usr/include/stdio.h").exists() {
        missing.push("libc6-dev");
    }
    install(&missing)?;
    ensure!(
        pg_config.exists(),
        "expected {} after installing postgresql-server-dev-15; is this Debian 12?",
        pg_config.display()
    );
    Ok(pg_config)
}

/// Installs Debian packages when root, otherwise says which command to run.
pub fn install(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    ensure!(
        tree::is_root(),
        "missing: {list}. Run `apt-get install --no-install-recommends {list}` as root, then try again"
    );
    ensure!(
        on_path("apt-get"),
        "missing: {list}, and this machine has no apt-get. Install them by hand, then try again"
    );
    step(&format!("apt-get install {list}"), || {
        quiet(Command::new("apt-get").arg("update").env("DEBIAN_FRONTEND", "noninteractive"))?;
        quiet(
            Command::new("apt-get")
                .args(["install", "-y", "--no-install-recommends"])
                .args(packages)
                .env("DEBIAN_FRONTEND", "noninteractive"),
        )?;
        Ok(())
    })
}

/// Is `program` in a directory of PATH?
pub fn on_path(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}
