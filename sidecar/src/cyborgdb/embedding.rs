//! Vectors of texts: the model on a thread of its own, and what is said when it is not there.

use std::sync::Arc;

use super::words;
use crate::embed::{EmbedError, Embedder, Model};
use crate::error::ApiError;
use crate::state::AppState;

const NO_DIRECTORY: &str = "no directory of models is configured; put the model's files into one and name it in \
    SEALVEC_MODEL_DIR";

fn unavailable(label: &str, reason: &str) -> ApiError {
    ApiError {
        retry_after: Some(30),
        ..ApiError::unavailable(format!("{label}: embedding model unavailable: {reason}"))
    }
}

/// The model that a request names.
///
/// # Errors
/// 400 for no model of ours, 503 if there is none at all.
pub fn find(state: &AppState, label: &str, name: &str) -> Result<Model, ApiError> {
    let embedder = state.embedder.as_ref().ok_or_else(|| unavailable(label, NO_DIRECTORY))?;
    embedder.find(name).cloned().ok_or_else(|| {
        let known: Vec<&str> = embedder.models().iter().map(|model| model.name.as_str()).collect();
        ApiError::bad_request(format!("{name} is not a supported model; supported: {}", known.join(", ")))
    })
}

/// Vectors of `texts`, row-major, float32 little-endian, in their order.
///
/// # Errors
/// 503 with `Retry-After` if the model's files are not there.
pub async fn embed(state: &AppState, label: &str, model: &str, texts: Vec<String>) -> Result<Vec<u8>, ApiError> {
    let embedder: Arc<dyn Embedder> = state.embedder.clone().ok_or_else(|| unavailable(label, NO_DIRECTORY))?;
    let model = model.to_owned();
    let work = tokio::task::spawn_blocking(move || {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        embedder.embed(&model, &texts)
    });
    match work.await {
        Ok(Ok(floats)) => Ok(floats.iter().flat_map(|x| x.to_le_bytes()).collect()),
        Ok(Err(EmbedError::Unavailable(reason))) => Err(unavailable(label, &reason)),
        Ok(Err(EmbedError::Unknown)) => Err(ApiError::bad_request(words::invalid(
            label,
            "the index's embedding model is none that this server has",
        ))),
        Err(_) => {
            tracing::error!(label, "the embedding model panicked");
            Err(ApiError::internal())
        }
    }
}
