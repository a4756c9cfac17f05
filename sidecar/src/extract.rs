//! A request's body as bytes, within the limits.

use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use crate::error::ApiError;
use crate::state::AppState;

/// The whole body, unread by anything else. Its parsing is the route's.
pub struct RawBody(pub Bytes);

impl FromRequest<AppState> for RawBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let limit = state.limits.body_bytes_max;
        // A body that says it is too long is refused before a byte of it is taken.
        let declared = request.headers().get(axum::http::header::CONTENT_LENGTH).and_then(|v| v.to_str().ok());
        if declared.and_then(|v| v.parse::<u64>().ok()).is_some_and(|length| length > limit as u64) {
            return Err(ApiError::too_large(limit));
        }
        match Limited::new(request.into_body(), limit).collect().await {
            Ok(body) => Ok(Self(body.to_bytes())),
            Err(error) if error.is::<LengthLimitError>() => Err(ApiError::too_large(limit)),
            Err(_) => Err(ApiError::bad_request("the body ended early".to_owned())),
        }
    }
}
