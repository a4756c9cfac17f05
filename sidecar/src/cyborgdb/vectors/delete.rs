//! `POST /v1/vectors/delete`.

use axum::extract::State;
use axum::response::IntoResponse;

use super::super::body::JsonBody;
use super::super::dto::answers::Success;
use super::super::dto::vectors::DeleteRequest;
use super::super::failure::{Answer, Failures};
use super::super::target::Target;
use super::super::words;
use crate::auth::Caller;
use crate::sql::Payload;
use crate::state::AppState;

const SQL: &str = "SELECT sealvec.delete($1, $2, index_key => $3, user_id => $4)";

/// Deletes items. An id that is not there is no error; the message counts the ids of the request.
#[utoipa::path(
    post, path = "/vectors/delete", tag = "vectors", request_body = DeleteRequest,
    responses((status = 200, body = Success), Failures), security(("ApiKey" = [])),
)]
pub async fn delete(State(state): State<AppState>, caller: Caller, body: JsonBody) -> Answer {
    let text = body.text()?;
    let DeleteRequest { index_name, index_key, ids } = text.read()?;
    let target = Target::of(&state, &caller, words::DELETE, &index_name, index_key.as_deref()).await?;
    if let Err(error) = state.limits.check_batch("ids", ids.len()) {
        return Err(target.refuse(error).await);
    }
    let tokens: Vec<Payload<'_>> = ids.iter().map(|id| Payload::text(id)).collect();
    target.rows(SQL, &[&index_name, &tokens]).await?;
    Ok(axum::Json(Success::new(format!("Deleted {} vectors", ids.len()))).into_response())
}
