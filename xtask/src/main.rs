//! `cargo xtask`: the project's toolbox.

mod bench;
mod data;
mod demo;
mod pg;
mod run;
mod scan;
mod sidecar;
mod test;
mod tree;

use clap::{Parser, Subcommand};

/// Builds, runs, tests, measures and shows sealvec.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    Demo(demo::Demo),
    Test(test::Test),
    Bench(bench::Bench),
    /// Run what CI runs: .ci/run, which installs what is missing and ends in `cargo xtask test`.
    Ci,
    /// Private clusters under target/ with the extension installed.
    #[command(subcommand)]
    Pg(pg::Pg),
    Scan(scan::Scan),
    /// Make tests/data from the full deb_10k data set.
    #[command(hide = true)]
    MakeData {
        /// Directory laid out like deb_10k.
        source: std::path::PathBuf,
    },
}

fn main() -> std::process::ExitCode {
    let result = match Cli::parse().command {
        Task::Demo(demo) => demo.run(),
        Task::Pg(pg) => pg.run(),
        Task::Test(test) => test.run(),
        Task::Ci => test::ci(),
        Task::Bench(bench) => bench.run(),
        Task::Scan(scan) => scan.run(),
        Task::MakeData { source } => data::make::make(&source),
    };
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
