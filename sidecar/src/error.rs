//! What a request is answered when it fails: one type, and one table from SQLSTATE to status.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;
use tokio_postgres::error::DbError as Report;

use crate::db::DbError;

/// Seconds after which a client may try again when the database was not there.
const RETRY_AFTER_SECONDS: u32 = 2;

/// The `detail` of a body.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Detail {
    /// One sentence.
    Text(String),
    /// FastAPI's list of a 422: `{type, loc, msg, …}`.
    List(Vec<Value>),
}

/// A failed request: `{"status_code": 404, "detail": "…"}`. Never holds a key, or what went wrong inside.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiError {
    /// Status, 4xx or 5xx.
    pub status: StatusCode,
    /// What the caller is told.
    pub detail: Detail,
    /// Seconds, for the header of a 503.
    pub retry_after: Option<u32>,
}

/// Result of a route.
pub type Result<T, E = ApiError> = std::result::Result<T, E>;

impl ApiError {
    /// Any status with one sentence.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: Detail::Text(detail.into()), retry_after: None }
    }

    /// 400.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 401.
    pub fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, detail)
    }

    /// 403.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    /// 404.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// 413 for a body longer than `limit` bytes.
    pub fn too_large(limit: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is longer than {limit} bytes"))
    }

    /// 422 in FastAPI's shape.
    pub fn unprocessable(list: Vec<Value>) -> Self {
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, detail: Detail::List(list), retry_after: None }
    }

    /// 500 that says nothing: the cause is in the log.
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
    }

    /// 503 with a time to come back.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self { retry_after: Some(RETRY_AFTER_SECONDS), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, detail) }
    }

    /// For `map_err` on a call of the database.
    pub fn from_sql(call: &Call<'_>) -> impl FnOnce(DbError) -> Self {
        move |error| call.explain(&error)
    }
}

/// The form of every error's body: the documents' `status_code` beside FastAPI's `detail`.
#[derive(Serialize)]
struct Body<'a> {
    status_code: u16,
    detail: &'a Detail,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = Body { status_code: self.status.as_u16(), detail: &self.detail };
        let mut response = (self.status, Json(body)).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// What a statement was for: the words around its error.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// `Failed to query`, `Failed to upsert vectors`, …
    pub label: &'static str,
    /// The index as the caller named it; empty where there is none.
    pub index: &'a str,
    /// The caller shows a user token.
    pub by_user: bool,
}

impl Call<'_> {
    fn explain(&self, error: &DbError) -> ApiError {
        match error {
            DbError::Unavailable(reason) => ApiError::unavailable(*reason),
            DbError::Sql(error) => match error.as_db_error() {
                Some(report) => self.explain_report(report),
                None if error.is_closed() || is_io(error) => {
                    ApiError::unavailable("The connection to the database was lost")
                }
                None => {
                    // A parameter or a row that does not fit its type: extension and sidecar differ.
                    tracing::error!(label = self.label, "statement and database do not fit each other");
                    ApiError::internal()
                }
            },
        }
    }

    fn explain_report(&self, report: &Report) -> ApiError {
        let answer = self.explain_state(report.code().code(), report.message());
        if answer.status.is_server_error() {
            // The message of another part of Postgres may quote what the user sent: only its place is logged.
            let (code, routine) = (report.code().code(), report.routine().unwrap_or("?"));
            tracing::error!(sqlstate = code, routine, label = self.label, "the database refused a statement");
        }
        answer
    }

    /// The table. `message` is shown only where it is the extension's own.
    pub fn explain_state(&self, sqlstate: &str, message: &str) -> ApiError {
        let Self { label, index, by_user } = *self;
        match sqlstate {
            "42704" if by_user => ApiError::not_found(format!(
                "Index not found: Index '{index}' does not exist at the configured storage target"
            )),
            "42704" => ApiError::not_found(format!("No KMS envelope for index '{index}'")),
            "42710" => ApiError::new(StatusCode::CONFLICT, format!("KMS blob already exists for index '{index}'.")),
            "28P01" => ApiError::unauthorized(format!("Invalid encryption key for index '{index}'")),
            "55000" => ApiError::unauthorized(format!("index '{index}' is provider=none; client_kek required")),
            "28000" => ApiError::bad_request(format!(
                "index '{index}' is KMS-backed; do not supply index_key. The service resolves the KEK via the index's KMSBlob.  Omit index_key from the request."
            )),
            "42501" => ApiError::forbidden(format!("{label}: permission denied")),
            "55006" => ApiError::bad_request(format!(
                "{label}: Invalid input: Index dimension is not set. Please upsert vectors first to auto-detect dimension."
            )),
            "22023" | "22000" | "54000" => ApiError::bad_request(format!("{label}: Invalid input: {message}")),
            "22P02" | "22P03" => ApiError::bad_request(format!("{label}: Invalid input: malformed JSON or vectors")),
            "58000" | "58030" | "58P01" | "F0000" => {
                ApiError::new(StatusCode::BAD_GATEWAY, "KMS error: the key provider did not answer as it should")
            }
            "57014" => ApiError::new(StatusCode::GATEWAY_TIMEOUT, "The request took too long"),
            "3F000" | "42883" => ApiError::unavailable("The database has no sealvec extension of this version"),
            "25006" => ApiError::unavailable("The database takes no writes at the moment"),
            "40001" | "40P01" | "55P03" => ApiError::unavailable("The index is busy"),
            state if ["08", "53", "57P"].iter().any(|class| state.starts_with(class)) => {
                ApiError::unavailable("The database is not available")
            }
            _ => ApiError::internal(),
        }
    }
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>())
}
