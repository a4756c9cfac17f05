//! `sealvec-sidecar`: reads what the operator says, then serves.

use std::process::ExitCode;

#[cfg(feature = "agent")]
use sealvec_sidecar::agent;
use sealvec_sidecar::config::{self, ConfigError, Job};
use sealvec_sidecar::{seal, serve, telemetry};

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("seal") {
        return match seal::run(std::env::args().skip(1)) {
            Ok(sealed) => {
                println!("{sealed}");
                ExitCode::SUCCESS
            }
            Err(message) => refuse(&message),
        };
    }
    let job = match config::read(std::env::args(), &|name| std::env::var(name).ok()) {
        Ok(job) => job,
        Err(ConfigError::Usage(usage)) => usage.exit(),
        Err(ConfigError::Invalid(message)) => return refuse(&message),
    };
    let (level, format) = match &job {
        Job::Serve(settings) => (&settings.log_level, settings.log_format),
        #[cfg(feature = "agent")]
        Job::Agent(job) => (&job.log_level, job.log_format),
    };
    if let Err(message) = telemetry::log(level, format) {
        return refuse(&message);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&format!("cannot start threads: {error}")),
    };
    let done = runtime.block_on(async {
        match job {
            Job::Serve(settings) => serve::serve(*settings).await,
            #[cfg(feature = "agent")]
            Job::Agent(job) => agent::run(job.agent).await,
        }
    });
    runtime.shutdown_background(); // a token's module may never come back
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => refuse(&message),
    }
}

fn refuse(message: &str) -> ExitCode {
    eprintln!("sealvec-sidecar: {message}");
    ExitCode::FAILURE
}
