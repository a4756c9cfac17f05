//! The `xtask` program: built once, then run as a user would run it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The source tree.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("tests/e2e lies in the tree")
}

/// Cargo's target directory, where the running test binary lies.
pub fn target() -> PathBuf {
    let binary = std::env::current_exe().expect("a running program has a path");
    binary.ancestors().find(|dir| dir.join("CACHEDIR.TAG").exists()).expect("tests run below target/").to_path_buf()
}

/// Major version of Postgres that `cargo xtask test --pg` asks for.
pub fn version() -> String {
    std::env::var("SEALVEC_E2E_PG").unwrap_or_else(|_| "15".into())
}

/// Runs it and returns its standard output; panics with what it said if it fails.
pub fn xtask<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> String {
    let output = output(arguments);
    assert!(output.status.success(), "xtask failed:\n{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Runs it and returns what came of it.
pub fn output<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> Output {
    Command::new(program()).args(arguments).current_dir("/").output().expect("xtask was built")
}

fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| build("xtask", "dev"))
}

/// Builds a program of the workspace, a package of its own name, and returns where it lies. `profile` is dev or release.
pub fn build(package: &str, profile: &str) -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--profile", profile, "--package", package]).current_dir(root());
    // What cargo set for this test would make build scripts that watch it run again.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|prefix| text.starts_with(prefix))
            || matches!(&*text, "CARGO" | "CARGO_CRATE_NAME" | "CARGO_PRIMARY_PACKAGE" | "OUT_DIR" | "LD_LIBRARY_PATH")
        {
            cargo.env_remove(&name);
        }
    }
    assert!(cargo.status().expect("cargo runs").success(), "could not build {package}");
    let program = target().join(if profile == "release" { "release" } else { "debug" }).join(package);
    assert!(program.exists(), "expected {}", program.display());
    program
}

/// Runs a program that must succeed; returns its standard output.
pub fn must(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?} failed:\n{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
