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
    /// The caller shows an index key. If he does not, a key that does not open is the provider's.
    pub with_key: bool,
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
        if crate::db::is_stale_plan(report) {
            return ApiError::unavailable("The index has just changed");
        }
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
        let Self { label, index, by_user, with_key } = *self;
        match sqlstate {
            // To a user an index that is not his does not exist, and the other way round.
            "42704" | "28P01" if by_user => self.explain_state("42501", ""),
            "42704" => ApiError::not_found(format!("No KMS envelope for index '{index}'")),
            "42710" => ApiError::new(StatusCode::CONFLICT, format!("KMS blob already exists for index '{index}'.")),
            "28P01" if !with_key => self.explain_state("58000", ""),
            "28P01" => ApiError::unauthorized(format!("Invalid encryption key for index '{index}'")),
            "55000" => ApiError::unauthorized(format!("index '{index}' is provider=none; client_kek required")),
            "28000" => ApiError::bad_request(format!(
                "index '{index}' is KMS-backed; do not supply index_key. The service resolves the KEK via the index's KMSBlob.  Omit index_key from the request."
            )),
            "42501" => ApiError::forbidden(format!("{label}: permission denied")),
            "55006" => ApiError::bad_request(format!(
                "{label}: Invalid input: Index dimension is not set. Please upsert vectors first to auto-detect dimension."
            )),
            "22023" | "22000" | "22004" | "42602" | "54000" | "0A000" => {
                ApiError::bad_request(format!("{label}: Invalid input: {message}"))
            }
            "22P02" | "22P03" => ApiError::bad_request(format!("{label}: Invalid input: malformed JSON or vectors")),
            "22021" => ApiError::bad_request(format!("{label}: Invalid input: a text holds a NUL or is not UTF-8")),
            "58000" | "58030" | "58P01" | "F0000" => {
                ApiError::new(StatusCode::BAD_GATEWAY, "KMS error: the key provider did not answer as it should")
            }
            "57014" => ApiError::new(StatusCode::GATEWAY_TIMEOUT, "The request took too long"),
            "3F000" | "42883" => ApiError::unavailable("The database has no sealvec extension of this version"),
            "25006" => ApiError::unavailable("The database takes no writes at the moment"),
            "40001" | "40P01" | "55P03" | "SV001" => ApiError::unavailable("The index is busy"),
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

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Call<'static> = Call { label: "Failed to query", index: "a", by_user: false, with_key: true };

    fn explain(call: &Call<'_>, sqlstate: &str) -> (u16, String, Option<u32>) {
        let error = call.explain_state(sqlstate, "MESSAGE");
        let Detail::Text(text) = error.detail else { panic!("a list") };
        (error.status.as_u16(), text, error.retry_after)
    }

    #[test]
    fn the_table() {
        for (sqlstate, status, text) in [
            ("42704", 404, "No KMS envelope for index 'a'"),
            ("42710", 409, "KMS blob already exists for index 'a'."),
            ("28P01", 401, "Invalid encryption key for index 'a'"),
            ("55000", 401, "index 'a' is provider=none; client_kek required"),
            ("28000", 400, "index 'a' is KMS-backed; do not supply index_key. "),
            ("42501", 403, "Failed to query: permission denied"),
            ("55006", 400, "Failed to query: Invalid input: Index dimension is not set."),
            ("22023", 400, "Failed to query: Invalid input: MESSAGE"),
            ("22000", 400, "Failed to query: Invalid input: MESSAGE"),
            ("54000", 400, "Failed to query: Invalid input: MESSAGE"),
            ("42602", 400, "Failed to query: Invalid input: MESSAGE"),
            ("22021", 400, "Failed to query: Invalid input: a text holds a NUL"),
            ("22P02", 400, "Failed to query: Invalid input: malformed"),
            ("58030", 502, "KMS error: "),
            ("F0000", 502, "KMS error: "),
            ("57014", 504, "The request took too long"),
            ("XX001", 500, "Internal Server Error"),
            ("XX002", 500, "Internal Server Error"),
            ("42P01", 500, "Internal Server Error"),
            ("P0001", 500, "Internal Server Error"),
        ] {
            let (got, detail, retry) = explain(&CALL, sqlstate);
            assert_eq!((got, retry), (status, None), "{sqlstate}");
            assert!(detail.starts_with(text), "{sqlstate}: {detail}");
        }
    }

    #[test]
    fn what_passes_says_when_to_come_back() {
        for sqlstate in
            ["08006", "08P01", "53300", "53200", "57P01", "57P03", "40001", "40P01", "55P03", "25006", "3F000", "42883"]
        {
            let (status, _, retry) = explain(&CALL, sqlstate);
            assert_eq!((status, retry), (503, Some(RETRY_AFTER_SECONDS)), "{sqlstate}");
        }
        let response = ApiError::unavailable("x").into_response();
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
    }

    /// Only the extension's own sentences are shown; Postgres' may quote what someone else sent, or our SQL.
    #[test]
    fn a_message_of_postgres_is_not_shown() {
        let shown = ["22023", "22000", "22004", "42602", "54000", "0A000"];
        for class in 0..=99 {
            for rest in ["000", "001", "004", "P01", "P02", "501", "602", "704"] {
                let sqlstate = format!("{class:02}{rest}");
                if !shown.contains(&sqlstate.as_str()) {
                    assert!(!explain(&CALL, &sqlstate).1.contains("MESSAGE"), "{sqlstate}");
                }
            }
        }
    }

    #[test]
    fn a_user_does_not_hear_whether_an_index_exists() {
        let without_key = Call { with_key: false, ..CALL };
        assert_eq!(explain(&without_key, "28P01"), explain(&CALL, "58000"));
        let by_user = Call { by_user: true, with_key: false, ..CALL };
        for sqlstate in ["42704", "28P01", "42501"] {
            assert_eq!(explain(&by_user, sqlstate), (403, "Failed to query: permission denied".to_owned(), None));
        }
    }

    #[tokio::test]
    async fn a_body_has_both_fields() {
        for (error, expected) in [
            (ApiError::not_found("no"), r#"{"status_code":404,"detail":"no"}"#),
            (
                ApiError::unprocessable(vec![serde_json::json!({"type": "missing"})]),
                r#"{"status_code":422,"detail":[{"type":"missing"}]}"#,
            ),
        ] {
            let response = error.into_response();
            assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
            let body = axum::body::to_bytes(response.into_body(), 1000).await.unwrap();
            assert_eq!(body, expected);
        }
    }
}
