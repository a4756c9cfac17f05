//! `GET /v1/audit`: what was done with keys, for the root key only. No route of the original.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::IntoResponse;
use tokio_postgres::Row;

use super::dto::answers::{Audit, AuditEvent};
use super::failure::{Answer, Failures};
use super::words;
use crate::auth::Caller;
use crate::db::DbError;
use crate::error::{ApiError, Call};
use crate::state::AppState;

/// Events of an answer, unless `limit` asks for another number.
const LIMIT: i64 = 100;
/// Most that it may ask for.
const LIMIT_MAX: i64 = 1_000;

const SQL: &str = "
    SELECT to_char(a.time AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), a.session_user, a.role, a.client_addr, a.client_port,
           a.application_name, a.pid, a.operation, a.result, a.sqlstate, a.ring, a.kms, a.detail, a.source
    FROM sealvec.audit a
    WHERE $1::text IS NULL OR a.time >= $1::text::timestamptz
    ORDER BY a.time DESC
    LIMIT $2";
/// SQLSTATEs of a text that is no time.
const NO_TIME: [&str; 3] = ["22007", "22008", "22009"];

/// What was done with keys: the newest first. A key never stands in it.
#[utoipa::path(
    get, path = "/audit", tag = "audit",
    params(
        ("limit" = Option<i64>, Query, description = "1 to 1000; 100 if left out"),
        ("since" = Option<String>, Query, description = "RFC 3339; nothing earlier is told"),
    ),
    responses((status = 200, body = Audit), Failures), security(("ApiKey" = [])),
)]
pub async fn audit(State(state): State<AppState>, caller: Caller, RawQuery(query): RawQuery) -> Answer {
    let Caller::Root = caller else {
        return Err(ApiError::forbidden("The audit log requires the root API key").into());
    };
    let asked = Asked::read(query.as_deref().unwrap_or_default()).map_err(ApiError::bad_request)?;
    let call = Call { label: words::AUDIT, index: "", by_user: false, with_key: false };
    let rows = state.pool.query(SQL, &[&asked.since, &asked.limit]).await.map_err(|error| match &error {
        DbError::Sql(sql) if sql.code().is_some_and(|code| NO_TIME.contains(&code.code())) => {
            ApiError::bad_request(SINCE)
        }
        _ => ApiError::from_sql(&call)(error),
    })?;
    Ok(Json(Audit { events: rows.iter().map(event).collect() }).into_response())
}

const SINCE: &str = "since must be a time such as 2026-01-31T12:00:00Z";

fn event(row: &Row) -> AuditEvent<'_> {
    AuditEvent {
        time: row.get(0),
        session_user: row.get(1),
        role: row.get(2),
        client_addr: row.get(3),
        client_port: row.get(4),
        application_name: row.get(5),
        pid: row.get(6),
        operation: row.get(7),
        result: row.get(8),
        sqlstate: row.get(9),
        ring: row.get(10),
        kms: row.get(11),
        detail: row.get(12),
        source: row.get(13),
    }
}

/// The query of the address.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    limit: i64,
    since: Option<String>,
}

impl Asked {
    fn read(query: &str) -> Result<Self, String> {
        let mut asked = Self { limit: LIMIT, since: None };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "limit" => {
                    asked.limit = value
                        .parse()
                        .ok()
                        .filter(|limit| (1..=LIMIT_MAX).contains(limit))
                        .ok_or_else(|| format!("limit must be a number from 1 to {LIMIT_MAX}"))?;
                }
                "since" => asked.since = Some(time(value).ok_or(SINCE)?),
                _ => return Err("the audit log takes limit and since, and nothing else".to_owned()),
            }
        }
        Ok(asked)
    }
}

/// A time of RFC 3339, as far as its characters go; the database reads the rest. Of what an address escapes, a time has
/// `:` and `+` only; a bare `+`, which stands for a blank elsewhere, is itself: no time has a blank.
fn time(value: &str) -> Option<String> {
    let text = ["%3A", "%3a"].iter().fold(value.to_owned(), |text, escaped| text.replace(escaped, ":"));
    let text = ["%2B", "%2b"].iter().fold(text, |text, escaped| text.replace(escaped, "+"));
    let is_time = text.len() <= 40
        && text.starts_with(|first: char| first.is_ascii_digit())
        && text.contains('T')
        && text.chars().all(|c| c.is_ascii_digit() || "-:.+TZ".contains(c));
    is_time.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_asked() {
        let asked = |limit, since: Option<&str>| Ok(Asked { limit, since: since.map(str::to_owned) });
        assert_eq!(Asked::read(""), asked(100, None));
        assert_eq!(Asked::read("limit=1000"), asked(1000, None));
        assert_eq!(Asked::read("since=2026-01-31T12:00:00Z&limit=1"), asked(1, Some("2026-01-31T12:00:00Z")));
        assert_eq!(Asked::read("since=2026-01-31T12%3A00%3A00%2B01:00"), asked(100, Some("2026-01-31T12:00:00+01:00")));
        for bad in [
            "limit=0",
            "limit=1001",
            "limit=-1",
            "limit=x",
            "limit",
            "since=now",
            "since=",
            "since=2026-01-31",
            "other=1",
            "since=2026-01-31T00:00:00Z'--",
        ] {
            assert!(Asked::read(bad).is_err(), "{bad}");
        }
    }
}
