//! `cargo xtask test`: every ring of tests, a line and a time for each.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};

use crate::pg::{self, How, Profile, Which};
use crate::run::{cargo, logged, step};
use crate::tree;

/// Run every ring of tests, or the rings named by --ring.
///
/// Prints one line a ring with its time; a ring that fails prints what went wrong and the rest still run. Exit code 0
/// only if all passed. With a Postgres other than 15 only the rings that need a server run.
#[derive(Args)]
pub struct Test {
    /// Run only this ring; may be given several times.
    #[arg(long = "ring", value_enum, value_name = "NAME")]
    rings: Vec<Ring>,
    /// Major version of Postgres.
    #[arg(long, value_name = "VERSION", default_value_t = 15, value_parser = clap::value_parser!(u32).range(15..=18))]
    pg: u32,
    /// Build profile of the extension that the regress and e2e rings test.
    #[arg(long, value_enum, default_value_t = Profile::Dev)]
    profile: Profile,
    /// In the regress ring, run `setup` and these tests only; may be given several times.
    #[arg(long = "only", value_name = "TEST")]
    only: Vec<String>,
    /// In the regress ring, write what came out over the expected files. Read the diff before you commit it.
    #[arg(long)]
    accept: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Ring {
    /// cargo fmt --check
    Fmt,
    /// cargo clippy with warnings as errors
    Clippy,
    /// cargo test in every crate that needs no Postgres
    Unit,
    /// pg_regress on tests/pg_regress
    Regress,
    /// tests/e2e: whole servers, seen through SQL only
    E2e,
}

impl Ring {
    fn name(self) -> &'static str {
        match self {
            Ring::Fmt => "fmt",
            Ring::Clippy => "clippy",
            Ring::Unit => "unit",
            Ring::Regress => "regress",
            Ring::E2e => "e2e",
        }
    }

    fn needs_server(self) -> bool {
        matches!(self, Ring::Regress | Ring::E2e)
    }
}

impl Test {
    pub fn run(self) -> Result<()> {
        pg::server::toolchain(self.pg)?; // clippy compiles against the server's headers
        let rings: Vec<Ring> = match self.rings[..] {
            [] => Ring::value_variants().iter().copied().filter(|ring| self.pg == 15 || ring.needs_server()).collect(),
            ref named => named.to_vec(),
        };
        let logs = tree::target().join("test-logs");
        fs::create_dir_all(&logs)?;
        let mut lines = Vec::new();
        let mut failed = 0;
        for ring in rings {
            let begun = Instant::now();
            let log = logs.join(format!("{}.log", ring.name()));
            let (verdict, note) = match self.run_ring(ring, &log) {
                Ok(note) => ("ok", note),
                Err(error) => {
                    eprintln!("{error:#}\n");
                    failed += 1;
                    ("FAILED", format!("log: {}", log.display()))
                }
            };
            lines.push(format!("{:8} {verdict:6} {:7.1} s  {note}", ring.name(), begun.elapsed().as_secs_f64()));
        }
        println!("{}", lines.join("\n"));
        ensure!(failed == 0, "{failed} of {} rings failed", lines.len());
        Ok(())
    }

    /// Runs one ring; what it returns is shown beside its time.
    fn run_ring(&self, ring: Ring, log: &Path) -> Result<String> {
        match ring {
            Ring::Fmt => {
                step("fmt", || logged(cargo().args(["fmt", "--all", "--", "--check", "--color=never"]), log))?;
                Ok(String::new())
            }
            Ring::Clippy => {
                let mut command = cargo();
                command.args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]);
                step("clippy", || logged(&mut command, log))?;
                Ok(String::new())
            }
            Ring::Unit => {
                let mut command = cargo();
                command.args(["test", "--workspace", "--exclude", "sealvec"]);
                if has_e2e() {
                    command.args(["--exclude", E2E]);
                }
                step("unit tests", || logged(&mut command, log))?;
                cargo_summary(log)
            }
            Ring::Regress => self.regress(log),
            Ring::E2e if !has_e2e() => Ok(String::from("none: there is no tests/e2e/Cargo.toml")),
            Ring::E2e => {
                // Built and installed once here; the tests start their clusters with --no-build.
                pg::install(self.pg, self.profile)?;
                let mut command = cargo();
                command
                    .args(["test", "--package", E2E])
                    .env("RUST_TEST_THREADS", "1") // each has servers of its own, and some measure time
                    .env("SEALVEC_E2E_PG", self.pg.to_string())
                    .env("SEALVEC_E2E_PROFILE", self.profile.name());
                step("end-to-end tests", || logged(&mut command, log))?;
                cargo_summary(log)
            }
        }
    }

    fn regress(&self, log: &Path) -> Result<String> {
        let inputs = tree::root().join("tests/pg_regress");
        let tests = schedule(&inputs, &self.only)?;
        if tests.is_empty() {
            return Ok(String::from("none: there is no file in tests/pg_regress/sql"));
        }
        let runner = runner()?;
        let which = Which { pg: self.pg, name: String::from("regress") };
        let how = How { profile: self.profile, no_build: false, settings: Vec::new(), fresh: true, sidecar: false };
        let cluster = pg::start(&which, &how)?;
        cluster.connect("postgres")?.batch_execute("CREATE DATABASE regression")?;

        let output = cluster.home.join("regress");
        fs::create_dir_all(&output)?;
        let list = output.join("schedule");
        fs::write(&list, tests.iter().map(|test| format!("test: {test}\n")).collect::<String>())?;
        let mut command = Command::new(runner);
        command
            .arg("--use-existing")
            .arg("--dbname=regression")
            .arg(format!("--host={}", cluster.socket().display()))
            .arg(format!("--port={}", cluster.port()?))
            .arg("--user=postgres")
            .arg(format!("--bindir={}", cluster.programs()?.display()))
            .arg(format!("--inputdir={}", inputs.display()))
            .arg(format!("--outputdir={}", output.display()))
            .arg(format!("--schedule={}", list.display()))
            .env_remove("RUST_BACKTRACE")
            .current_dir(&output);
        let result = step(&format!("pg_regress, {} tests", tests.len()), || logged(&mut command, log));
        if self.accept {
            for test in &tests {
                let result = output.join("results").join(format!("{test}.out"));
                fs::create_dir_all(inputs.join("expected"))?;
                fs::copy(&result, inputs.join("expected").join(format!("{test}.out")))
                    .with_context(|| format!("no result of {test} to accept"))?;
            }
            eprintln!(
                "  wrote {} expected files; `git diff tests/pg_regress/expected` shows what changed",
                tests.len()
            );
            cluster.stop("fast")?;
            return Ok(format!("{} tests accepted", tests.len()));
        }
        if let Err(error) = result {
            if let Ok(diff) = fs::read_to_string(output.join("regression.diffs")) {
                eprintln!("{diff}");
            }
            bail!("{error:#}\nthe server still runs: cargo xtask pg psql --pg {} --name regress", self.pg);
        }
        cluster.stop("fast")?;
        Ok(format!("{} tests", tests.len()))
    }
}

/// `cargo xtask ci`
pub fn ci() -> Result<()> {
    let status = Command::new(tree::root().join(".ci/run")).status().context("could not run .ci/run")?;
    ensure!(status.success(), ".ci/run failed ({status})");
    Ok(())
}

const E2E: &str = "sealvec-e2e";

fn has_e2e() -> bool {
    tree::root().join("tests/e2e/Cargo.toml").exists()
}

/// Tests in order: `setup` first, then by name; all of them when `only` is empty.
fn schedule(inputs: &Path, only: &[String]) -> Result<Vec<String>> {
    let dir = inputs.join("sql");
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let mut names: Vec<String> = fs::read_dir(&dir)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<PathBuf>>>()?
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "sql"))
        .filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned()))
        .collect();
    if let Some(unknown) = only.iter().find(|test| !names.contains(test)) {
        bail!("expected a test of {}, not {unknown:?}", dir.display());
    }
    names.retain(|name| only.is_empty() || name == "setup" || only.contains(name));
    names.sort_by_key(|name| (name != "setup", name.clone()));
    Ok(names)
}

/// pg_regress lies beside the makefiles for extensions. Debian 12's serves every version, since it only runs the psql
/// that it is given; the one in the wheel for 18 crashes.
fn runner() -> Result<PathBuf> {
    let toolchain = pg::server::toolchain(15)?;
    let makefile = tree::output_of(Command::new(&toolchain.pg_config).arg("--pgxs"))?;
    let runner = Path::new(makefile.trim())
        .parent()
        .and_then(Path::parent)
        .context("pg_config --pgxs printed no path")?
        .join("test/regress/pg_regress");
    ensure!(runner.exists(), "expected pg_regress at {}: this Postgres comes without it", runner.display());
    Ok(runner)
}

/// How many tests `cargo test` ran, from its log. A ring that ran none has not passed.
fn cargo_summary(log: &Path) -> Result<String> {
    let text = fs::read_to_string(log)?;
    let count = |word: &str| -> u64 {
        text.lines()
            .filter_map(|line| line.strip_prefix("test result:"))
            .flat_map(|line| line.split(['.', ';']))
            .filter_map(|part| part.trim().strip_suffix(word)?.trim().parse::<u64>().ok())
            .sum()
    };
    let passed = count("passed");
    ensure!(passed > 0, "no test ran; log: {}", log.display());
    Ok(format!("{passed} tests, {} ignored", count("ignored")))
}
