//! Time, number and panics: what keeps one request from being everyone's trouble.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;
use tower_http::catch_panic::CatchPanicLayer;

use crate::error::ApiError;
use crate::state::AppState;

/// Training is the one route that may take long.
const TRAIN: &str = "/v1/indexes/train";
/// Routes that answer however busy the server is.
const ALWAYS: [&str; 3] = ["/v1/health", "/ready", "/metrics"];

#[derive(Clone)]
struct Gate {
    places: Arc<Semaphore>,
    time_max: Duration,
    train_time_max: Duration,
}

/// Puts the limits of `state` around every route.
pub(super) fn layer(routes: Router, state: &AppState) -> Router {
    let limits = state.limits;
    let gate = Gate {
        places: Arc::new(Semaphore::new(limits.requests_max as usize)),
        time_max: limits.request_time_max,
        train_time_max: limits.train_time_max,
    };
    routes.layer(CatchPanicLayer::custom(panicked)).layer(from_fn_with_state(gate, pass))
}

/// Dropping the route's future ends its statement too (see [`crate::db::Conn`]).
async fn pass(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str).unwrap_or_default();
    let free = ALWAYS.contains(&route);
    let time_max = if route == TRAIN { gate.train_time_max } else { gate.time_max };
    let place = gate.places.try_acquire();
    if place.is_err() && !free {
        return ApiError::unavailable("The server is busy").into_response();
    }
    match tokio::time::timeout(time_max, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let detail = format!("The request took longer than {} seconds", time_max.as_secs());
            ApiError::new(StatusCode::GATEWAY_TIMEOUT, detail).into_response()
        }
    }
}

/// The panic's text may hold what the caller sent; the hook of [`crate::telemetry`] has logged its place.
pub(super) fn panicked(_: Box<dyn Any + Send>) -> Response {
    ApiError::internal().into_response()
}
