//! Running commands and saying so: every step that may take over a second shows its name, and its time when done.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Runs `work` under a line on standard error: at a terminal with a running clock, elsewhere with a line at its start
/// (only if it takes longer than half a second) and one at its end.
pub fn step<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let begun = Instant::now();
    let terminal = std::io::stderr().is_terminal();
    let (done, waiting) = channel::<()>();
    let ticker = thread::spawn({
        let name = name.to_owned();
        move || {
            let mut ticks = 0u64;
            while let Err(RecvTimeoutError::Timeout) = waiting.recv_timeout(Duration::from_millis(500)) {
                ticks += 1;
                if terminal {
                    eprint!("\r\x1b[K  {name} … {} s", ticks / 2);
                } else if ticks == 1 {
                    eprintln!("  {name} …");
                } else if ticks.is_multiple_of(120) {
                    eprintln!("  {name} … {} s", ticks / 2);
                }
            }
        }
    });
    let result = work();
    drop(done);
    let _ = ticker.join();
    let clear = if terminal { "\r\x1b[K" } else { "" };
    let seconds = begun.elapsed().as_secs_f64();
    match &result {
        Ok(_) => eprintln!("{clear}  {name}: {seconds:.1} s"),
        Err(_) => eprintln!("{clear}  {name}: FAILED after {seconds:.1} s"),
    }
    let _ = std::io::stderr().flush();
    result
}

/// A `cargo` command without the variables that the outer `cargo run` set: with them, build scripts that watch
/// `CARGO_*` would run again at each change between a plain `cargo build` and ours.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let set_by_cargo = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"]
            .iter()
            .any(|prefix| text.starts_with(prefix))
            || matches!(&*text, "CARGO" | "CARGO_CRATE_NAME" | "CARGO_PRIMARY_PACKAGE" | "OUT_DIR" | "LD_LIBRARY_PATH");
        if set_by_cargo {
            command.env_remove(&name);
        }
    }
    command.current_dir(crate::tree::root());
    command
}

/// Runs a command with its output captured; on failure the error holds the end of what it printed.
pub fn quiet(command: &mut Command) -> Result<String> {
    let shown = shown(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("could not run `{shown}`"))?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        bail!("`{shown}` failed ({}):\n{}", output.status, tail(&text, 60));
    }
    Ok(text)
}

/// Like [`quiet`], with the output in a file as well, for commands whose whole log is wanted later.
pub fn logged(command: &mut Command, log: &Path) -> Result<()> {
    let shown = shown(command);
    let file = File::create(log).with_context(|| format!("could not create {}", log.display()))?;
    let status = command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .status()
        .with_context(|| format!("could not run `{shown}`"))?;
    if !status.success() {
        let text = String::from_utf8_lossy(&std::fs::read(log)?).into_owned();
        bail!("`{shown}` failed ({status}); whole output in {}\n{}", log.display(), tail(&text, 80));
    }
    Ok(())
}

/// A command as a person would type it.
pub fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
