//! A request's id, log line and metrics. Routes are named by their pattern: a path holds names and ids.

use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;

/// Taken over where it is sane, made otherwise, always returned.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_ID_LEN_MAX: usize = 64;
/// nginx's status for a client that left before the answer.
const CLIENT_LEFT: &str = "499";

/// Hands the pattern of the route to [`observe`], which is outside of the router.
pub(super) async fn label(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    if let Some(route) = route {
        response.extensions_mut().insert(route);
    }
    response
}

/// The outermost layer.
pub(super) async fn observe(mut request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let watch = Watch::start(request.method());
    let span = tracing::info_span!("request", id = id.to_str().unwrap_or_default());
    async {
        let mut response = next.run(request).await;
        watch.finish(&response);
        response.headers_mut().insert(REQUEST_ID, id);
        response
    }
    .instrument(span)
    .await
}

fn request_id(headers: &HeaderMap) -> HeaderValue {
    let sane = |id: &&HeaderValue| {
        let bytes = id.as_bytes();
        let fits = (1..=REQUEST_ID_LEN_MAX).contains(&bytes.len());
        fits && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
    };
    headers.get(REQUEST_ID).filter(sane).cloned().unwrap_or_else(|| {
        let mut id = [0; 16];
        // No id is unique without the kernel's help; a request is served all the same.
        let _ = getrandom::fill(&mut id);
        HeaderValue::from_str(&hex::encode(id)).expect("hexadecimal digits are a header")
    })
}

/// Counts a request as running until it is dropped, and as served or left.
struct Watch {
    method: &'static str,
    start: Instant,
    done: bool,
}

impl Watch {
    fn start(method: &Method) -> Self {
        metrics::gauge!("sealvec_http_requests_in_flight").increment(1);
        // An unknown method is the client's text: it must not make a label.
        let method = match method.as_str() {
            "GET" => "GET",
            "POST" => "POST",
            "DELETE" => "DELETE",
            "HEAD" => "HEAD",
            "OPTIONS" => "OPTIONS",
            _ => "other",
        };
        Self { method, start: Instant::now(), done: false }
    }

    fn finish(mut self, response: &Response) {
        self.done = true;
        let route = response.extensions().get::<MatchedPath>();
        self.record(route.map_or("none", MatchedPath::as_str), response.status().as_str());
    }

    fn record(&self, route: &str, status: &str) {
        let (method, time) = (self.method, self.start.elapsed());
        let (route, status) = (route.to_owned(), status.to_owned());
        tracing::info!(method, route, status, us = time.as_micros() as u64, "answered");
        metrics::counter!("sealvec_http_requests_total", "method" => method, "route" => route.clone(), "status" => status)
            .increment(1);
        metrics::histogram!("sealvec_http_request_duration_seconds", "method" => method, "route" => route)
            .record(time.as_secs_f64());
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        metrics::gauge!("sealvec_http_requests_in_flight").decrement(1);
        if !self.done {
            self.record("none", CLIENT_LEFT);
        }
    }
}
