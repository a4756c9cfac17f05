//! `GET /v1/embedding-models`.

use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::dto::answers::{EmbeddingModel, EmbeddingModels};
use super::failure::Failures;
use crate::auth::Caller;
use crate::state::AppState;

/// Models that turn contents into vectors.
#[utoipa::path(
    get, path = "/embedding-models", tag = "models",
    responses((status = 200, body = EmbeddingModels), Failures),
    security(("ApiKey" = [])),
)]
pub async fn embedding_models(State(state): State<AppState>, _: Caller) -> Response {
    let known = state.embedder.as_ref().map(|embedder| embedder.models()).unwrap_or_default();
    let models = known
        .iter()
        .map(|model| EmbeddingModel {
            name: &model.name,
            dimension: model.dimension,
            max_seq_length: model.max_seq_length,
        })
        .collect();
    axum::Json(EmbeddingModels { models }).into_response()
}
