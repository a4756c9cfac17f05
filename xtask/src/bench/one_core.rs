//! Client and backend on one core.
//!
//! They work by turns, so one core is enough. On two, each query wakes the other core twice, and on a virtual machine
//! that is a hypervisor's work: 50 to 200 µs a query here, of every method alike, which drowns what is compared.

use std::fs;
use std::process::{Command, Stdio};

/// The last core that we may use, if there is another for whoever else works.
pub fn core() -> Option<u32> {
    let allowed = allowed()?;
    let last = allowed.rsplit([',', '-']).next()?.parse().ok()?;
    (allowed.parse() != Ok(last)).then_some(last)
}

/// Puts a process that serves queries only on `core`, for good.
pub fn put(pid: u32, core: u32) {
    taskset(&["-c", "-p", &core.to_string(), &pid.to_string()]);
}

/// Our main thread on one core while this lives. What it starts in that time stays there.
pub struct Held {
    /// As it was before.
    mask: String,
}

impl Held {
    pub fn on(core: u32) -> Option<Self> {
        let mask = allowed()?;
        put(std::process::id(), core);
        Some(Self { mask })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        taskset(&["-c", "-p", &self.mask, &std::process::id().to_string()]);
    }
}

/// The cores that our main thread may use, as a list.
fn allowed() -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    Some(status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?.trim().to_owned())
}

/// Without it, or without the right to use it, figures are as the system places us.
fn taskset(arguments: &[&str]) {
    let _ = Command::new("taskset").args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
}
