//! `serve`: from settings to a listening server, and its farewell.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum_server::Handle;
use axum_server::accept::NoDelayAcceptor;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hyper_util::rt::TokioTimer;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_postgres_rustls::MakeRustlsConnect;

#[cfg(feature = "agent")]
use crate::agent;
use crate::config::{Secret, Settings, TlsFiles};
use crate::db::Pool;
use crate::embed;
use crate::server::{self, Options};
use crate::state::AppState;
use crate::telemetry::Metrics;
use crate::{slots, tls};

/// For a request's head, and between two requests of a connection.
const HEAD_TIME_MAX: Duration = Duration::from_secs(75);

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// A message for the operator: a file, an address or the connection string.
pub async fn serve(settings: Settings) -> Result<(), String> {
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    tls::install_provider();
    let signals = Signals::watch()?; // before anybody can know that it runs, and end it
    let pool = pool(&settings)?;
    #[cfg(feature = "agent")]
    let agent = settings.agent.map(agent::start).transpose()?;
    let metrics = Metrics::of_process();
    let state = AppState {
        pool: pool.clone(),
        auth: Arc::new(settings.auth),
        limits: settings.limits,
        embedder: embed::embedder(settings.model_dir, settings.model_threads),
        slots: settings.slots.into(),
        started: Instant::now(),
    };
    tokio::spawn(slots::register(pool.clone(), Arc::clone(&state.slots)));
    tokio::spawn(metrics.clone().upkeep());

    let handle = Handle::new();
    let own = settings.metrics_listen.map(|address| (address, server::metrics(state.clone(), metrics.clone())));
    let options = Options { metrics: own.is_none().then_some(metrics), cors_origins: settings.cors_origins };
    if let Some((address, routes)) = own {
        let routes = routes.with_state(state.clone());
        tokio::spawn(listen(address, routes, None, handle.clone(), "metrics"));
    }
    tokio::spawn(farewell(signals, handle.clone(), settings.shutdown_max));
    let routes = server::router(state, options);
    listen(settings.listen, routes, settings.tls, handle, "REST").await?;
    pool.close();
    #[cfg(feature = "agent")]
    if let Some(agent) = agent {
        agent.stop().await;
    }
    tracing::info!("stopped");
    Ok(())
}

fn pool(settings: &Settings) -> Result<Pool, String> {
    let (config, tls) =
        database(settings.database_url.expose(), settings.database_password.as_ref(), settings.database_ca.as_deref())?;
    Ok(Pool::new(config, tls, &settings.pool))
}

/// How to reach the database of a connection string.
///
/// # Errors
/// A message that quotes nothing of it.
pub fn database(
    url: &str,
    password: Option<&Secret>,
    ca: Option<&Path>,
) -> Result<(tokio_postgres::Config, Option<MakeRustlsConnect>), String> {
    // tokio-postgres has no words for checked certificates; here they are always checked.
    let url = url.replace("sslmode=verify-full", "sslmode=require").replace("sslmode=verify-ca", "sslmode=require");
    let config: tokio_postgres::Config =
        url.parse().map_err(|_| "the database URL must look like postgres://user@host:5432/name")?;
    let mut config = config;
    if let Some(password) = password {
        config.password(password.expose());
    }
    let tls = tls::database(config.get_ssl_mode(), ca)?;
    if tls.is_none() {
        config.ssl_mode(tokio_postgres::config::SslMode::Disable);
        if !config.get_hosts().iter().all(is_near) {
            tracing::warn!("vectors travel to the database in clear: add sslmode=require to its URL");
        }
    }
    Ok((config, tls))
}

fn is_near(host: &tokio_postgres::config::Host) -> bool {
    match host {
        tokio_postgres::config::Host::Tcp(name) => {
            name == "localhost" || name.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
        }
        tokio_postgres::config::Host::Unix(_) => true,
    }
}

async fn listen(
    address: SocketAddr,
    routes: Router,
    files: Option<TlsFiles>,
    handle: Handle<SocketAddr>,
    what: &'static str,
) -> Result<(), String> {
    let tls =
        files.map(|files| tls::server(&files).map(|config| (files, RustlsConfig::from_config(config)))).transpose()?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let socket =
        std::net::TcpListener::bind(address).map_err(|error| format!("cannot listen on {address}: {error}"))?;
    socket.set_nonblocking(true).map_err(|error| format!("cannot listen on {address}: {error}"))?;
    let bound = socket.local_addr().map_err(|error| error.to_string())?;
    let mut server = axum_server::from_tcp(socket).map_err(|error| error.to_string())?.handle(handle);
    server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIME_MAX);
    server.http_builder().http2().timer(TokioTimer::new()).keep_alive_interval(Some(HEAD_TIME_MAX));
    let service = routes.into_make_service();
    tracing::info!("{what} on {scheme}://{bound}");
    let served = match tls {
        None => server.acceptor(NoDelayAcceptor::new()).serve(service).await,
        Some((files, config)) => {
            tokio::spawn(reload(files, config.clone()));
            server.acceptor(RustlsAcceptor::new(config).acceptor(NoDelayAcceptor::new())).serve(service).await
        }
    };
    served.map_err(|error| format!("the server on {bound} failed: {error}"))
}

/// SIGHUP reads the certificate again; a bad file leaves the old one in use.
async fn reload(files: TlsFiles, config: RustlsConfig) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
    while hangup.recv().await.is_some() {
        match tls::server(&files) {
            Ok(fresh) => {
                config.reload_from_config(fresh);
                tracing::info!("read the certificate again");
            }
            Err(error) => tracing::error!("the certificate stays as it was: {error}"),
        }
    }
}

/// What ends the server.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on they are kept until [`next`](Self::next), and end the process no more.
    fn watch() -> Result<Self, String> {
        match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
            (Ok(terminate), Ok(interrupt)) => Ok(Self { terminate, interrupt }),
            (Err(error), _) | (_, Err(error)) => Err(format!("cannot wait for signals: {error}")),
        }
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// At the first signal no connection is taken any more and running requests have their time; a second one ends all.
async fn farewell(mut signals: Signals, handle: Handle<SocketAddr>, time_max: Duration) {
    let mut stopping = false;
    loop {
        signals.next().await;
        if stopping {
            return handle.shutdown();
        }
        stopping = true;
        tracing::info!("stopping; running requests have {} seconds", time_max.as_secs());
        handle.graceful_shutdown(Some(time_max));
    }
}
