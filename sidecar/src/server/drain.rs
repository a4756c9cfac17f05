//! What a request leaves unread.
//!
//! A route that refuses before it reads the body (401, 403, 404, 413, 503) would make hyper close the connection
//! without a word, under a client that keeps it for the next request; CyborgDB's SDK 0.17 does not try that again. So a
//! short rest is read after all, and for a long one the answer says that the connection closes.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderValue, Version, header};
use axum::middleware::Next;
use axum::response::Response;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;

/// Bytes that are read for nothing.
const REST_MAX: usize = 256 << 10;
/// Time that they may take.
const REST_TIME_MAX: Duration = Duration::from_secs(1);

/// A body that stays when the route has dropped it.
struct Shared(Arc<Mutex<Body>>);

impl Shared {
    fn with<T>(&self, look: impl FnOnce(&mut Body) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl HttpBody for Shared {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.with(|body| Pin::new(body).poll_frame(context))
    }

    fn is_end_stream(&self) -> bool {
        self.with(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.with(|body| body.size_hint())
    }
}

pub(super) async fn drain(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    if body.is_end_stream() || parts.version > Version::HTTP_11 {
        return next.run(Request::from_parts(parts, body)).await; // HTTP/2 resets the one stream
    }
    // To read on would ask the client for what it holds back until it is asked.
    let waits = parts.headers.contains_key(header::EXPECT);
    let body = Arc::new(Mutex::new(body));
    let shared = Body::new(Shared(Arc::clone(&body)));
    let mut response = next.run(Request::from_parts(parts, shared)).await;
    let mut rest = Shared(body);
    if !rest.is_end_stream() && (waits || !read(&mut rest).await) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Reads to the end; false if that is too far.
async fn read(rest: &mut Shared) -> bool {
    let mut bytes = 0;
    let all = async {
        while let Some(frame) = rest.frame().await {
            bytes += frame.ok()?.data_ref().map_or(0, Bytes::len);
            if bytes > REST_MAX {
                return None;
            }
        }
        Some(())
    };
    matches!(tokio::time::timeout(REST_TIME_MAX, all).await, Ok(Some(())))
}
