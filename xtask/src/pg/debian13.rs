//! Postgres 17 with pgvector, from Debian 13's packages on a Debian 12 machine, without a chroot.
//!
//! The packages are unpacked, not installed, together with the C library that they were built for; `patchelf` then makes
//! the programs use that library. So they run like the other versions: same user, same paths, same sockets.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::server::{install, on_path};
use crate::run::{quiet, step};
use crate::tree;

const SUITE: &str = "trixie";
/// Taken with all that they depend on.
const WHOLE: [&str; 1] = ["postgresql-17"];
/// Taken alone: their dependencies are compilers, which the host has.
const ALONE: [&str; 3] = ["postgresql-server-dev-17", "libpq-dev", "postgresql-17-pgvector"];

/// Unpacks Postgres 17 below target/pg, once, and returns the program that describes it.
pub fn pg_config() -> Result<PathBuf> {
    let home = tree::clusters()?.join(SUITE);
    let pg_config = home.join("usr/lib/postgresql/17/bin/pg_config");
    if !home.join("complete").exists() {
        if !on_path("patchelf") {
            install(&["patchelf"])?;
        }
        step("fetching Postgres 17 from Debian 13", || fetch(&home))?;
        step("making its programs use its own C library", || adopt(&home))?;
        fs::write(home.join("complete"), "")?;
    }
    Ok(pg_config)
}

/// Downloads with apt, in a state directory of its own, and unpacks.
fn fetch(home: &Path) -> Result<()> {
    let apt = home.join("apt");
    if home.exists() {
        fs::remove_dir_all(home)?; // one that was cut off
    }
    for dir in ["state/lists/partial", "cache/archives/partial", "debs"] {
        fs::create_dir_all(apt.join(dir))?;
    }
    fs::write(apt.join("status"), "")?; // nothing is installed: every dependency is taken
    fs::write(
        apt.join("sources.list"),
        format!("deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {} {SUITE} main\n", mirror()?),
    )?;
    let apt_get = |words: &[&str]| -> Command {
        let mut command = Command::new("apt-get");
        for (option, value) in [
            ("Dir::State", "state"),
            ("Dir::State::status", "status"),
            ("Dir::Cache", "cache"),
            ("Dir::Etc::sourcelist", "sources.list"),
        ] {
            command.arg("-o").arg(format!("{option}={}", apt.join(value).display()));
        }
        // As user _apt it could not write below a closed directory; signatures are checked all the same.
        command.args(["-o", "Dir::Etc::sourceparts=-", "-o", "APT::Sandbox::User=root"]);
        command.args(words).env("DEBIAN_FRONTEND", "noninteractive").current_dir(apt.join("debs"));
        command
    };
    quiet(&mut apt_get(&["update"]))?;
    quiet(apt_get(&["install", "-y", "--no-install-recommends", "--download-only"]).args(WHOLE))?;
    quiet(apt_get(&["download"]).args(ALONE))?;
    for dir in [apt.join("cache/archives"), apt.join("debs")] {
        for entry in fs::read_dir(dir)? {
            let package = entry?.path();
            if package.extension().is_some_and(|extension| extension == "deb") {
                quiet(Command::new("dpkg-deb").arg("-x").arg(&package).arg(home))?;
            }
        }
    }
    fs::remove_dir_all(&apt)?;
    Ok(())
}

/// The mirror that this machine already uses.
fn mirror() -> Result<String> {
    let said = tree::output_of(Command::new("apt-get").args(["indextargets", "--format", "$(SITE) $(CODENAME)"]))?;
    match said
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(site, codename)| *codename == "bookworm" && !site.contains("security"))
    {
        Some((site, _)) => Ok(site.to_owned()),
        None => bail!("expected an apt source for Debian 12 (bookworm); run `apt-get update` and try again"),
    }
}

/// Points programs at the unpacked loader and libraries. An RPATH, unlike a RUNPATH, also serves what they load later.
fn adopt(home: &Path) -> Result<()> {
    let libraries = home.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH));
    let loader = fs::read_dir(&libraries)
        .with_context(|| format!("no C library in {}", libraries.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ld-linux")))
        .with_context(|| format!("no loader in {}", libraries.display()))?;
    let postgres = home.join("usr/lib/postgresql/17");
    let programs: Vec<PathBuf> =
        fs::read_dir(postgres.join("bin"))?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    for program in programs {
        if !fs::read(&program)?.starts_with(b"\x7fELF") {
            continue; // a script
        }
        quiet(
            Command::new("patchelf")
                .arg("--set-interpreter")
                .arg(&loader)
                .args(["--force-rpath", "--set-rpath"])
                .arg(&libraries)
                .arg(&program),
        )?;
    }
    let said = tree::output_of(Command::new(postgres.join("bin/postgres")).arg("--version"))?;
    ensure!(said.contains(" 17."), "expected Postgres 17 from Debian 13, found {said}");
    Ok(())
}
