//! The router, and what every request passes before and after its route.

mod docs;
mod drain;
mod front;
mod limit;
mod observe;

use axum::Router;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::from_fn;
use axum::routing::get;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;

use crate::cyborgdb;
use crate::error::ApiError;
use crate::state::AppState;
use crate::telemetry::Metrics;

pub use observe::REQUEST_ID;

/// What the routes are served with.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where `/metrics` come from; `None` leaves the route out.
    pub metrics: Option<Metrics>,
    /// Origins that may call from a browser; `*` for all.
    pub cors_origins: Vec<String>,
}

/// The whole service; tests call it without a socket.
pub fn router(state: AppState, options: Options) -> Router {
    let (routes, openapi) = OpenApiRouter::with_openapi(docs::Description::openapi())
        .nest("/v1", cyborgdb::router(&state))
        .split_for_parts();
    let mut routes = routes.merge(docs::routes(&openapi)).route("/ready", get(ready));
    if let Some(metrics) = options.metrics {
        routes = routes.merge(self::metrics(state.clone(), metrics));
    }
    let routes = routes
        .fallback(|| async { ApiError::not_found("Not Found") })
        .method_not_allowed_fallback(|| async { ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed") })
        .with_state(state.clone());
    let front = front::Front::new(routes.clone(), limit::layer(routes, &state).layer(from_fn(observe::label)));
    let service = Router::new().fallback(move |request| front.clone().call(request));
    let service = match cors(&options.cors_origins) {
        Some(cors) => service.layer(cors),
        None => service,
    };
    service
        .layer(CatchPanicLayer::custom(limit::panicked))
        .layer(from_fn(drain::drain))
        .layer(from_fn(observe::observe))
}

/// `/metrics` alone, for a listener of its own.
pub fn metrics(state: AppState, metrics: Metrics) -> Router<AppState> {
    let render = move || async move {
        let (size, idle, waiting) = state.pool.status();
        metrics.render(size, idle, waiting, state.started.elapsed())
    };
    Router::new().route("/metrics", get(render))
}

/// Whether the database answers and has the extension: for a load balancer. `/v1/health` says only that this process
/// lives.
async fn ready(axum::extract::State(state): axum::extract::State<AppState>) -> Result<&'static str, ApiError> {
    let row = state.pool.query_one("SELECT pg_catalog.to_regclass('sealvec.collections') IS NOT NULL", &[]).await;
    match row.map(|row| row.get(0)) {
        Ok(true) => Ok("ready\n"),
        Ok(false) => Err(ApiError::unavailable("The database has no sealvec extension")),
        Err(_) => Err(ApiError::unavailable("The database is not available")),
    }
}

fn cors(origins: &[String]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let allowed = match origins.iter().any(|origin| origin == "*") {
        true => AllowOrigin::any(),
        false => AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok())),
    };
    let layer = CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers([
            header::CONTENT_TYPE,
            HeaderName::from_static("x-api-key"),
            HeaderName::from_static("x-index-key"),
            REQUEST_ID,
        ])
        .expose_headers([REQUEST_ID, header::RETRY_AFTER]);
    Some(layer)
}
