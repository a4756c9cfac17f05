//! Routes under `/v1/indexes/{index_name}/users`: for the root key only.

use std::borrow::Cow;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use sealvec_core::keys::UserToken;

use super::body::JsonBody;
use super::dto::answers::{NewUser, User, Users};
use super::dto::users::CreateUserRequest;
use super::failure::{Answer, Failure, Failures};
use super::target::{Target, parse_key};
use super::words;
use crate::auth::{Caller, Root};
use crate::error::ApiError;
use crate::sql::{Kek, ShownKey};
use crate::state::AppState;

/// The index key of requests without a body.
const KEY_HEADER: &str = "x-index-key";
const USER_ID_LEN: usize = 16;
const PERMISSIONS: [&str; 2] = ["read", "write"];

const CREATE_SQL: &str = "SELECT 1 FROM sealvec.create_user($1, $2, user_id => $3, user_key => $4, index_key => $5)";
const LIST_SQL: &str = "SELECT id, permissions FROM sealvec.list_users($1, index_key => $2)";
const DELETE_SQL: &str = "SELECT sealvec.delete_user($1, $2, index_key => $3)";

/// A new user of the index. The answer's key is shown once and kept nowhere.
#[utoipa::path(
    post, path = "/indexes/{index_name}/users", tag = "users", params(("index_name" = String, Path)),
    request_body = CreateUserRequest, responses((status = 200, body = NewUser), Failures), security(("ApiKey" = [])),
)]
pub async fn create_user(
    State(state): State<AppState>,
    root: Root,
    Path(index): Path<String>,
    body: JsonBody,
) -> Answer {
    let text = body.text()?;
    let request: CreateUserRequest<'_> = text.read()?;
    let target = Target::of(&state, &Caller::Root, words::CREATE_USER, &index, request.index_key.as_deref()).await?;
    if let Err(what) = check_permissions(&request.permissions) {
        return Err(target.refuse(ApiError::bad_request(what)).await);
    }
    let permissions: Vec<&str> =
        PERMISSIONS.into_iter().filter(|name| request.permissions.iter().any(|given| given == name)).collect();
    let token = UserToken::generate().map_err(|_| ApiError::internal())?;
    let (user, kek) = (token.user(), Kek::new(token.kek().expose()));
    let (own, shown) = (ShownKey::of_new_user(&index, &kek), target.shown_key());
    state
        .pool
        .query_keyed(CREATE_SQL, &[&index, &permissions, &&user.as_bytes()[..], &own, &shown], &[&own, &shown])
        .await
        .map_err(ApiError::from_sql(&target.call))?;
    let api_key = token.encode(root.server_key());
    let user_id = hex::encode(user.as_bytes());
    Ok(axum::Json(NewUser { user_id: &user_id, api_key: &api_key }).into_response())
}

/// Users of the index.
#[utoipa::path(
    get, path = "/indexes/{index_name}/users", tag = "users",
    params(("index_name" = String, Path), ("X-Index-Key" = Option<String>, Header)),
    responses((status = 200, body = Users), Failures), security(("ApiKey" = [])),
)]
pub async fn list_users(
    State(state): State<AppState>,
    _: Root,
    Path(index): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let target = target(&state, words::LIST_USERS, &index, &headers).await?;
    let key = target.shown_key();
    let rows =
        state.pool.query_keyed(LIST_SQL, &[&index, &key], &[&key]).await.map_err(ApiError::from_sql(&target.call))?;
    let users =
        rows.iter().map(|row| User { user_id: hex::encode(row.get::<_, &[u8]>(0)), permissions: row.get(1) }).collect();
    Ok(axum::Json(Users { users }).into_response())
}

/// Takes a user's access away, from his next request on. One who is not there is no error.
#[utoipa::path(
    delete, path = "/indexes/{index_name}/users/{user_id}", tag = "users",
    params(("index_name" = String, Path), ("user_id" = String, Path), ("X-Index-Key" = Option<String>, Header)),
    responses((status = 204), Failures), security(("ApiKey" = [])),
)]
pub async fn delete_user(
    State(state): State<AppState>,
    _: Root,
    Path((index, user)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer {
    let target = target(&state, words::DELETE_USER, &index, &headers).await?;
    let Ok(user) = hex::decode(&user) else {
        return Err(target.refuse(ApiError::bad_request("user_id must be hex")).await);
    };
    if user.len() != USER_ID_LEN {
        return Err(target.refuse_value("user_id must be exactly 16 bytes").await);
    }
    let key = target.shown_key();
    state
        .pool
        .query_keyed(DELETE_SQL, &[&index, &user, &key], &[&key])
        .await
        .map_err(ApiError::from_sql(&target.call))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn target<'a>(
    state: &'a AppState,
    label: &'static str,
    index: &'a str,
    headers: &HeaderMap,
) -> Result<Target<'a>, Failure> {
    // What is no text is no key either.
    let key = headers.get(KEY_HEADER).map(|value| value.to_str().unwrap_or("?"));
    debug_assert!(parse_key("?").is_err());
    Target::of(state, &Caller::Root, label, index, key).await
}

fn check_permissions(given: &[Cow<'_, str>]) -> Result<(), String> {
    if given.is_empty() {
        return Err("permissions must include at least one of 'read', 'write'".to_owned());
    }
    let mut odd: Vec<&str> = given.iter().map(|name| &**name).filter(|name| !PERMISSIONS.contains(name)).collect();
    odd.sort_unstable();
    odd.dedup();
    if odd.is_empty() {
        return Ok(());
    }
    Err(format!("invalid permissions {}; allowed: {}", words::python_list(odd), words::python_list(PERMISSIONS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_read_and_write() {
        let said = |given: &[&'static str]| {
            check_permissions(&given.iter().map(|name| Cow::Borrowed(*name)).collect::<Vec<_>>())
        };
        assert_eq!(said(&["read"]), Ok(()));
        assert_eq!(said(&["write", "read", "read"]), Ok(()));
        assert_eq!(said(&[]), Err("permissions must include at least one of 'read', 'write'".to_owned()));
        assert_eq!(
            said(&["admin", "read"]),
            Err("invalid permissions ['admin']; allowed: ['read', 'write']".to_owned())
        );
    }
}
