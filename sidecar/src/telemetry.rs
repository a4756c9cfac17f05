//! Logs and metrics of the process.

use std::sync::OnceLock;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Seconds; a query should be in the lower half, a bulk upsert in the upper.
const BUCKETS: [f64; 14] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 20.0, 60.0];
/// How often samples are folded into buckets when nobody reads them.
const UPKEEP_PERIOD: Duration = Duration::from_secs(5);

/// Sends events of this crate from `level` on, and warnings of all others, to stderr.
///
/// # Errors
/// If `level` is neither a level nor tracing-subscriber's directives.
pub fn log(level: &str, format: LogFormat) -> Result<(), String> {
    let own = match level.to_lowercase().as_str() {
        "critical" | "error" => "error",
        "warn" | "warning" => "warn",
        "info" => "info",
        "debug" => "debug",
        "trace" => "trace",
        _ => return Err("the log level must be error, warn, info, debug or trace".to_owned()),
    };
    // Never more of the others: hyper and axum may print headers.
    // And nothing of the AWS SDK's: it repeats what the service said.
    let filter = EnvFilter::new(format!("warn,aws_config=off,sealvec_sidecar={own},sealvec_agent={own}"));
    let events = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let set = match format {
        LogFormat::Text => events.with_ansi(false).with_target(false).try_init(),
        LogFormat::Json => events.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init(),
    };
    set.map_err(|_| "logs are set up already".to_owned())?;
    std::panic::set_hook(Box::new(|panic| {
        // Its place, not its text: the text may hold what a caller sent.
        let place = panic.location().map(|place| format!("{}:{}", place.file(), place.line()));
        tracing::error!(place, "panic");
    }));
    Ok(())
}

/// The process's metrics in Prometheus' text form.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Those of this process, set up by the first call.
    pub fn of_process() -> Self {
        static METRICS: OnceLock<Metrics> = OnceLock::new();
        METRICS.get_or_init(Self::install).clone()
    }

    fn install() -> Self {
        let name = Matcher::Full("sealvec_http_request_duration_seconds".to_owned());
        let builder = PrometheusBuilder::new().set_buckets_for_metric(name, &BUCKETS).expect("buckets are not empty");
        let handle = builder.install_recorder().expect("only this function installs a recorder");
        metrics::describe_counter!("sealvec_http_requests_total", "Requests by route and status; 499: the client left");
        metrics::describe_histogram!("sealvec_http_request_duration_seconds", "From a request's head to its answer");
        metrics::describe_gauge!("sealvec_http_requests_in_flight", "Requests that have no answer yet");
        metrics::describe_gauge!("sealvec_db_connections", "Connections to the database");
        metrics::describe_gauge!("sealvec_db_waiting", "Requests that wait for a connection");
        metrics::describe_gauge!("sealvec_uptime_seconds", "Age of the process");
        Self(handle)
    }

    /// Everything, with what is only known when it is asked for.
    pub fn render(&self, connections: usize, idle: usize, waiting: usize, uptime: Duration) -> String {
        let busy = connections.saturating_sub(idle);
        metrics::gauge!("sealvec_db_connections", "state" => "idle").set(idle as f64);
        metrics::gauge!("sealvec_db_connections", "state" => "busy").set(busy as f64);
        metrics::gauge!("sealvec_db_waiting").set(waiting as f64);
        metrics::gauge!("sealvec_uptime_seconds").set(uptime.as_secs_f64());
        self.0.render()
    }

    /// Keeps samples from piling up where nobody reads them. Never ends.
    pub async fn upkeep(self) {
        loop {
            tokio::time::sleep(UPKEEP_PERIOD).await;
            self.0.run_upkeep();
        }
    }
}
