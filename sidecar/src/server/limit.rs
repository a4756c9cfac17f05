//! Time, number and panics: what keeps one request from being everyone's trouble. Of bodies see [`crate::turn`].

use std::any::Any;
use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tower_http::catch_panic::CatchPanicLayer;

use crate::error::ApiError;
use crate::state::AppState;
use crate::turn::Places;

/// Training is the one route that may take long.
const TRAIN: &str = "/v1/indexes/train";
/// Routes that answer however busy the server is.
const ALWAYS: [&str; 3] = ["/v1/health", "/ready", "/metrics"];

#[derive(Clone)]
struct Gate {
    places: Places,
    time_max: Duration,
    train_time_max: Duration,
}

/// Puts the limits of `state` around every route.
pub(super) fn layer(routes: Router, state: &AppState) -> Router {
    let limits = state.limits;
    let gate =
        Gate { places: Places::new(&limits), time_max: limits.request_time_max, train_time_max: limits.train_time_max };
    routes.layer(CatchPanicLayer::custom(panicked)).layer(from_fn_with_state(gate, pass))
}

/// Dropping the route's future ends its statement too (see [`crate::db::Conn`]).
async fn pass(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str).unwrap_or_default();
    let free = ALWAYS.contains(&route);
    let time_max = if route == TRAIN { gate.train_time_max } else { gate.time_max };
    let turn = match gate.places.enter(free) {
        Ok(turn) => turn,
        Err(busy) => return busy.into_response(),
    };
    request.extensions_mut().insert(turn.clone()); // this clone lasts until the answer
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
    use std::sync::Arc;
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

    /// A body of `bytes` at once, and then nothing more, without an end.
    fn endless(bytes: usize) -> Body {
        use futures_util::{StreamExt, stream};
        let come = stream::iter([Ok::<_, std::io::Error>(vec![b'x'; bytes])]);
        Body::from_stream(come.chain(stream::pending()))
    }

    /// Sends bodies that do not end, each as long as told, and waits until they are being read.
    async fn trickle(service: &Router, bodies: &[usize]) -> tokio::task::JoinSet<(u16, String)> {
        let mut clients = tokio::task::JoinSet::new();
        for &bytes in bodies {
            let service = service.clone();
            clients.spawn(async move { send(&service, "POST", "/body", endless(bytes), None).await });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        clients
    }

    #[tokio::test]
    async fn slow_bodies_keep_nobody_out_and_have_their_time() {
        let limits = Limits { requests_max: 2, body_time_max: Duration::from_millis(500), ..Limits::default() };
        let service = service(limits);
        let mut slow = trickle(&service, &[1; 8]).await;
        for _ in 0..3 {
            let (status, body) = send(&service, "POST", "/body", Body::from("a query"), None).await;
            assert_eq!((status, body.as_str()), (200, "7"));
            assert_eq!(ask(&service, "/slow").await.0, 200);
        }
        while let Some(ended) = slow.join_next().await {
            let (status, body) = ended.unwrap();
            assert_eq!(
                (status, body.as_str()),
                (408, r#"{"status_code":408,"detail":"The body took longer than 0 seconds"}"#)
            );
        }
    }

    #[tokio::test]
    async fn a_request_has_a_place_again_once_its_body_is_there() {
        let service = service(Limits { requests_max: 1, ..Limits::default() });
        let (tell, told) = tokio::sync::oneshot::channel::<()>();
        let end = futures_util::stream::once(async move {
            told.await.unwrap();
            Ok::<_, std::io::Error>("the end")
        });
        let (late, busy) = tokio::join!(send(&service, "POST", "/body", Body::from_stream(end), None), async {
            let working = ask(&service, "/slow"); // has the only place while the body ends
            let ends = async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                tell.send(()).unwrap();
            };
            tokio::join!(working, ends).0
        });
        assert_eq!((late.0, busy.0), (503, 200), "{}", late.1);
    }

    /// Whoever holds what he may of the room keeps out other long bodies, and no short one.
    #[tokio::test]
    async fn long_bodies_share_the_room() {
        const KIB: usize = 1 << 10;
        let limits = Limits {
            requests_max: 4,
            body_bytes_max: 512 * KIB,
            bodies_bytes_max: 1024 * KIB,
            body_time_max: Duration::from_millis(500),
            ..Limits::default()
        };
        let service = service(limits);
        let post = async |bytes: usize| send(&service, "POST", "/body", Body::from(vec![b'x'; bytes]), None).await.0;
        assert_eq!(post(512 * KIB).await, 200);
        let mut slow = trickle(&service, &[511 * KIB, 511 * KIB]).await;
        assert_eq!((post(300 * KIB).await, post(64 * KIB).await, post(100).await), (503, 200, 200));
        while let Some(ended) = slow.join_next().await {
            assert_eq!(ended.unwrap().0, 408);
        }
        assert_eq!(post(512 * KIB).await, 200);
    }
}
