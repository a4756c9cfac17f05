//! Keys sealed by `sealvec-sidecar seal`, as a user of the shell has them.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::sidecar::program;

/// What it prints for `secret` (64 hex digits or a token), which it reads from its standard input. `arguments` say for
/// what and whom.
pub fn seal(secret: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program());
    command.arg("seal").args(arguments).env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().expect("the sidecar was built");
    process.stdin.take().expect("piped").write_all(secret.as_bytes()).expect("it reads");
    let output = process.wait_with_output().expect("our own child");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "seal {arguments:?} failed: {said}");
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

/// Of the superuser, over loopback.
pub fn url(port: u16) -> String {
    format!("postgresql://postgres@127.0.0.1:{port}/e2e")
}
