//! `agent`: the key agent as a process, or beside the REST server.

use std::sync::Arc;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use sealvec_agent::{Server, Service};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use crate::config::AgentSettings;

/// A key agent that runs. Dropping it ends it.
#[derive(Debug)]
pub struct Running(JoinHandle<()>);

impl Running {
    /// Ends it; its socket is gone then.
    pub async fn stop(mut self) {
        self.0.abort();
        let _ = (&mut self.0).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Listens, and serves in the background.
///
/// # Errors
/// A message for the operator.
pub fn start(settings: AgentSettings) -> Result<Running, String> {
    keep_out_of_core_dumps();
    let AgentSettings { socket, access, limits, registry } = settings;
    let (slots, credentials) = registry.names();
    tracing::info!(?slots, ?credentials, "key agent on {}", socket.display());
    let server = Server::bind(&socket, access)?;
    let service = Arc::new(Service::new(registry, limits));
    Ok(Running(tokio::spawn(server.serve(service, std::future::pending()))))
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// A message for the operator.
pub async fn run(settings: AgentSettings) -> Result<(), String> {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return Err("cannot wait for signals".to_owned());
    };
    let mut running = start(settings)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        _ = &mut running.0 => return Err("the key agent ended".to_owned()),
    }
    running.stop().await;
    tracing::info!("stopped");
    Ok(())
}

/// Keys are in this process's memory: neither a core dump nor a debugger of the same user gets them.
fn keep_out_of_core_dumps() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let done = setrlimit(Resource::Core, none).and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable));
    if let Err(error) = done {
        tracing::warn!("core dumps of this process stay possible: {error}");
    }
}
