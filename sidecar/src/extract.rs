//! A request's body as bytes, within the limits.

use axum::body::{Body, HttpBody};
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use bytes::Bytes;
use http_body_util::BodyExt;

use crate::error::ApiError;
use crate::state::AppState;
use crate::turn::{Incoming, Turn};

/// The whole body, unread by anything else. Its parsing is the route's.
pub struct RawBody(pub Bytes);

impl FromRequest<AppState> for RawBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let limit = state.limits.body_bytes_max;
        // A body that says it is too long is refused before a byte of it is taken.
        let declared = request.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok());
        if declared.and_then(|v| v.parse::<u64>().ok()).is_some_and(|length| length > limit as u64) {
            return Err(ApiError::too_large(limit));
        }
        let (mut parts, body) = request.into_parts();
        if body.is_end_stream() {
            return Ok(Self(Bytes::new()));
        }
        let turn = parts.extensions.remove::<Turn>().ok_or_else(|| {
            tracing::error!("a route reads a body outside of the limits");
            ApiError::internal()
        })?;
        let mut incoming = turn.receive()?;
        let time_max = state.limits.body_time_max;
        let read = tokio::time::timeout(time_max, read(body, limit, &mut incoming)).await;
        let bytes = read.unwrap_or_else(|_| {
            let detail = format!("The body took longer than {} seconds", time_max.as_secs());
            Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, detail))
        })?;
        incoming.end()?;
        Ok(Self(bytes))
    }
}

async fn read(mut body: Body, limit: usize, incoming: &mut Incoming) -> Result<Bytes, ApiError> {
    // Grows with what came: a length that was only declared takes no memory.
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::bad_request("the body ended early"))?;
        let Ok(data) = frame.into_data() else { continue };
        let length = bytes.len() + data.len();
        if length > limit {
            return Err(ApiError::too_large(limit));
        }
        incoming.make_room(length)?;
        if bytes.is_empty() && body.is_end_stream() {
            return Ok(data);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.into())
}
