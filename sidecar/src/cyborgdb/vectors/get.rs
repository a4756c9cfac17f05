//! `POST /v1/vectors/get`.

use axum::extract::State;

use super::super::body::JsonBody;
use super::super::dto::answers::GetResponse;
use super::super::dto::vectors::GetRequest;
use super::super::failure::{Answer, Failures, json};
use super::super::rows::{self, Shown};
use super::super::target::Target;
use super::super::words;
use crate::auth::Caller;
use crate::sql::Payload;
use crate::state::AppState;

const SQL: &str = "SELECT id, vector, contents, metadata FROM sealvec.get($1, $2, $3, index_key => $4, user_id => $5)";

/// Items by their ids, in the order of the ids; missing ones left out, repeated ones repeated.
#[utoipa::path(
    post, path = "/vectors/get", tag = "vectors", request_body = GetRequest,
    responses((status = 200, body = GetResponse), Failures), security(("ApiKey" = [])),
)]
pub async fn get(State(state): State<AppState>, caller: Caller, body: JsonBody) -> Answer {
    let text = body.text()?;
    let GetRequest { index_name, index_key, ids, include } = text.read()?;
    let target = Target::of(&state, &caller, words::GET, &index_name, index_key.as_deref()).await?;
    if let Err(error) = state.limits.check_batch("ids", ids.len()) {
        return Err(target.refuse(error).await);
    }
    let all = Shown { vector: true, contents: true, metadata: true };
    let shown = include.map_or(all, |include| Shown::of(&include));
    let ids: Vec<Payload<'_>> = ids.iter().map(|id| Payload::text(id)).collect();
    let found = target.rows(SQL, &[&index_name, &ids, &shown.names()]).await?;
    Ok(json(rows::get_results(&found, shown)))
}
