//! `sealvec-sidecar`: reads what the operator says, then serves.

use std::process::ExitCode;

use sealvec_sidecar::config::{self, ConfigError};
use sealvec_sidecar::{serve, telemetry};

fn main() -> ExitCode {
    let settings = match config::read(std::env::args(), &|name| std::env::var(name).ok()) {
        Ok(settings) => settings,
        Err(ConfigError::Usage(usage)) => usage.exit(),
        Err(ConfigError::Invalid(message)) => return refuse(&message),
    };
    if let Err(message) = telemetry::log(&settings.log_level, settings.log_format) {
        return refuse(&message);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&format!("cannot start threads: {error}")),
    };
    match runtime.block_on(serve::serve(settings)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => refuse(&message),
    }
}

fn refuse(message: &str) -> ExitCode {
    eprintln!("sealvec-sidecar: {message}");
    ExitCode::FAILURE
}
