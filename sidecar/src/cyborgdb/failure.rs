//! How a route of these fails: an [`ApiError`], or a body that is not what it takes.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use utoipa::IntoResponses;

use super::dto::answers::{ErrorResponse, ValidationErrorResponse};
use super::validate::Refusal;
use crate::error::ApiError;

/// A failed request.
#[derive(Debug)]
pub enum Failure {
    /// With one sentence.
    Api(ApiError),
    /// 422, written already: numbers in it stay as they came.
    Refused(Refusal),
}

/// A route's answer.
pub type Answer = Result<Response, Failure>;

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Self::Api(error) => error.into_response(),
            Self::Refused(Refusal(body)) => {
                (StatusCode::UNPROCESSABLE_ENTITY, [(header::CONTENT_TYPE, "application/json")], body).into_response()
            }
        }
    }
}

/// A body that is written already.
pub fn json(body: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// What any route may answer, for the description.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "a description")]
pub enum Failures {
    /// The request does not fit the index, or holds what is not allowed.
    #[response(status = 400)]
    BadRequest(ErrorResponse),
    /// No API key or a wrong one; or no index key or a wrong one.
    #[response(status = 401)]
    Unauthorized(ErrorResponse),
    /// The API key does not allow this.
    #[response(status = 403)]
    Forbidden(ErrorResponse),
    /// No such index.
    #[response(status = 404)]
    NotFound(ErrorResponse),
    /// The body is not what the route takes.
    #[response(status = 422)]
    Unprocessable(ValidationErrorResponse),
    /// Something is wrong with the server; its log says what.
    #[response(status = 500)]
    Internal(ErrorResponse),
    /// The key provider does not answer as it should.
    #[response(status = 502)]
    BadGateway(ErrorResponse),
    /// The database or an embedding model is not there; `Retry-After` says when to try again.
    #[response(status = 503)]
    Unavailable(ErrorResponse),
}
