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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use axum::body::{Body, to_bytes};
    use axum::routing::{get, post};
    use tower::ServiceExt;

    use super::*;
    use crate::auth::Auth;
    use crate::db::{Pool, PoolSettings};
    use crate::extract::RawBody;
    use crate::limits::Limits;

    async fn slow() {
        tokio::time::sleep(Duration::from_millis(300)).await;
    }

    fn service(limits: Limits) -> Router {
        let pool = Pool::new(Default::default(), None, &PoolSettings::default());
        let (auth, slots) = (Arc::new(Auth::Open), Arc::new([]));
        let state = AppState { pool, auth, limits, embedder: None, slots, started: Instant::now() };
        let routes = Router::new()
            .route("/slow", get(slow))
            .route(TRAIN, get(slow))
            .route("/v1/health", get(slow))
            .route("/panic", get(async || panic!("what the caller sent") as &str))
            .route("/body", post(async |body: RawBody| body.0.len().to_string()));
        layer(routes.with_state(state.clone()), &state)
    }

    async fn send(service: &Router, method: &str, path: &str, body: Body, length: Option<usize>) -> (u16, String) {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(length) = length {
            request = request.header("content-length", length);
        }
        let response = service.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 10_000).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn ask(service: &Router, path: &str) -> (u16, String) {
        send(service, "GET", path, Body::empty(), None).await
    }

    #[tokio::test]
    async fn time_is_limited_and_training_has_more() {
        let short = Duration::from_millis(50);
        let service = service(Limits { request_time_max: short, ..Limits::default() });
        let (status, body) = ask(&service, "/slow").await;
        assert_eq!(status, 504);
        assert!(body.starts_with(r#"{"status_code":504,"detail":"The request took longer"#), "{body}");
        assert_eq!(ask(&service, TRAIN).await.0, 200);
    }

    #[tokio::test]
    async fn a_full_house_says_come_back() {
        let service = service(Limits { requests_max: 2, ..Limits::default() });
        let (first, second, third, health) = tokio::join!(
            ask(&service, "/slow"),
            ask(&service, "/slow"),
            ask(&service, "/slow"),
            ask(&service, "/v1/health")
        );
        assert_eq!((first.0, second.0, third.0, health.0), (200, 200, 503, 200));
        assert_eq!(ask(&service, "/slow").await.0, 200); // places are given back
    }

    #[tokio::test]
    async fn a_panic_says_nothing() {
        let service = service(Limits::default());
        let (status, body) = ask(&service, "/panic").await;
        assert_eq!((status, body.as_str()), (500, r#"{"status_code":500,"detail":"Internal Server Error"}"#));
        assert_eq!(ask(&service, "/slow").await.0, 200);
    }

    #[tokio::test]
    async fn a_body_is_limited_whether_it_says_its_length_or_not() {
        let service = service(Limits { body_bytes_max: 10, ..Limits::default() });
        for (bytes, length, status) in [(10, Some(10), 200), (10, None, 200), (11, Some(11), 413), (11, None, 413)] {
            // A stream has no length of its own.
            let chunks = vec![b'x'; bytes].into_iter().map(|byte| Ok::<_, std::io::Error>(vec![byte]));
            let body = match length {
                Some(_) => Body::from(vec![b'x'; bytes]),
                None => Body::from_stream(futures_util::stream::iter(chunks)),
            };
            let (got, text) = send(&service, "POST", "/body", body, length).await;
            assert_eq!(got, status, "{bytes} {length:?} {text}");
        }
        let (status, body) = send(&service, "POST", "/body", Body::empty(), Some(usize::MAX)).await;
        assert_eq!(
            (status, body.as_str()),
            (413, r#"{"status_code":413,"detail":"the body is longer than 10 bytes"}"#)
        );
    }
}
