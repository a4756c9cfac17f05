//! `cargo xtask`: the project's toolbox.

mod pg;
mod run;
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
    /// Private clusters under target/ with the extension installed.
    #[command(subcommand)]
    Pg(pg::Pg),
}

fn main() -> std::process::ExitCode {
    let result = match Cli::parse().command {
        Task::Pg(pg) => pg.run(),
    };
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
