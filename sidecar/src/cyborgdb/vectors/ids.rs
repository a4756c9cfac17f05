//! `POST /v1/vectors/list_ids` and `num_vectors`.

use axum::extract::State;
use axum::response::IntoResponse;

use super::super::body::JsonBody;
use super::super::dto::answers::{Count, IdList};
use super::super::dto::indexes::IndexOperationRequest;
use super::super::failure::{Answer, Failures};
use super::super::target::Target;
use super::super::words;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::state::AppState;

const LIST_SQL: &str = "SELECT id FROM sealvec.list_ids($1, index_key => $2, user_id => $3) AS id";
const COUNT_SQL: &str = "SELECT sealvec.num_vectors($1, index_key => $2, user_id => $3)";

/// Ids of all items, in no order.
#[utoipa::path(
    post, path = "/vectors/list_ids", tag = "vectors", request_body = IndexOperationRequest,
    responses((status = 200, body = IdList), Failures), security(("ApiKey" = [])),
)]
pub async fn list_ids(State(state): State<AppState>, caller: Caller, body: JsonBody) -> Answer {
    let text = body.text()?;
    let IndexOperationRequest { index_name, index_key } = text.read()?;
    let target = Target::of(&state, &caller, words::LIST_IDS, &index_name, index_key.as_deref()).await?;
    let rows = target.rows(LIST_SQL, &[&index_name]).await?;
    let ids: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
    let count = ids.len();
    Ok(axum::Json(IdList { ids, count }).into_response())
}

/// How many items there are.
#[utoipa::path(
    post, path = "/vectors/num_vectors", tag = "vectors", request_body = IndexOperationRequest,
    responses((status = 200, body = Count), Failures), security(("ApiKey" = [])),
)]
pub async fn num_vectors(State(state): State<AppState>, caller: Caller, body: JsonBody) -> Answer {
    let text = body.text()?;
    let IndexOperationRequest { index_name, index_key } = text.read()?;
    let target = Target::of(&state, &caller, words::NUM_VECTORS, &index_name, index_key.as_deref()).await?;
    let rows = target.rows(COUNT_SQL, &[&index_name]).await?;
    let result = rows.first().ok_or_else(ApiError::internal)?.get(0);
    Ok(axum::Json(Count { result }).into_response())
}
