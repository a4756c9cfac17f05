//! Vectors of texts: the model on a thread of its own, and what is said when it is not there.

use std::sync::Arc;

use super::words;
use crate::embed::{EmbedError, Model};
use crate::error::ApiError;
use crate::state::AppState;

/// Texts that are embedded before it is seen whether anyone still waits: about a second on one thread.
const PIECE: usize = 64;

const NO_MODELS: &str = "this program was built without them; cargo build --release --package sealvec-sidecar makes \
    one with them";

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
    let embedder = state.embedder.as_ref().ok_or_else(|| unavailable(label, NO_MODELS))?;
    embedder.find(name).cloned().ok_or_else(|| {
        let known: Vec<&str> = embedder.models().iter().map(|model| model.name.as_str()).collect();
        ApiError::bad_request(format!("{name} is not a supported model; supported: {}", known.join(", ")))
    })
}

/// Vectors of `texts`, row-major, float32 little-endian, in their order. A caller that is gone, or whose time is over,
/// costs one more piece of texts at most: dropping the future ends the rest.
///
/// # Errors
/// 503 with `Retry-After` if the model's files are not there.
pub async fn embed(state: &AppState, label: &str, model: &str, texts: Vec<String>) -> Result<Vec<u8>, ApiError> {
    let embedder = state.embedder.as_ref().ok_or_else(|| unavailable(label, NO_MODELS))?;
    let texts: Arc<[String]> = texts.into();
    let mut vectors = Vec::new();
    for start in (0..texts.len()).step_by(PIECE) {
        let (embedder, model, texts) = (Arc::clone(embedder), model.to_owned(), Arc::clone(&texts));
        let work = tokio::task::spawn_blocking(move || {
            let piece: Vec<&str> = texts[start..].iter().take(PIECE).map(String::as_str).collect();
            embedder.embed(&model, &piece)
        });
        let floats = match work.await {
            Ok(Ok(floats)) => floats,
            Ok(Err(EmbedError::Unavailable(reason))) => return Err(unavailable(label, &reason)),
            Ok(Err(EmbedError::Unknown)) => {
                let what = "the index's embedding model is none that this server has";
                return Err(ApiError::bad_request(words::invalid(label, what)));
            }
            Err(_) => {
                tracing::error!(label, "the embedding model panicked");
                return Err(ApiError::internal());
            }
        };
        vectors.extend(floats.iter().flat_map(|x| x.to_le_bytes()));
    }
    Ok(vectors)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::auth::Auth;
    use crate::db::{Pool, PoolSettings};
    use crate::embed::Embedder;
    use crate::limits::Limits;

    /// A vector of one element, the text's number; keeps how many texts each call had.
    struct Numbers(Mutex<Vec<usize>>, Duration);

    impl Embedder for Numbers {
        fn models(&self) -> &[Model] {
            &[]
        }

        fn find(&self, _: &str) -> Option<&Model> {
            None
        }

        fn embed(&self, _: &str, texts: &[&str]) -> Result<Vec<f32>, EmbedError> {
            std::thread::sleep(self.1);
            self.0.lock().unwrap().push(texts.len());
            Ok(texts.iter().map(|text| text.parse().unwrap()).collect())
        }
    }

    fn state(embedder: Arc<Numbers>) -> AppState {
        AppState {
            pool: Pool::new(tokio_postgres::Config::new(), None, &PoolSettings::default()),
            auth: Arc::new(Auth::root("k")),
            limits: Limits::default(),
            embedder: Some(embedder),
            slots: Arc::new([]),
            started: Instant::now(),
        }
    }

    fn texts() -> Vec<String> {
        (0..150).map(|i| i.to_string()).collect()
    }

    #[tokio::test]
    async fn texts_go_in_pieces_and_come_back_in_order() {
        let embedder = Arc::new(Numbers(Mutex::default(), Duration::ZERO));
        let bytes = embed(&state(Arc::clone(&embedder)), "label", "model", texts()).await.unwrap();
        let expected: Vec<u8> = (0..150u8).flat_map(|i| f32::from(i).to_le_bytes()).collect();
        assert_eq!(bytes, expected);
        assert_eq!(*embedder.0.lock().unwrap(), [64, 64, 22]);
    }

    #[tokio::test]
    async fn nothing_is_begun_once_nobody_waits() {
        let embedder = Arc::new(Numbers(Mutex::default(), Duration::from_millis(200)));
        let state = state(Arc::clone(&embedder));
        let late = tokio::time::timeout(Duration::from_millis(50), embed(&state, "label", "model", texts())).await;
        assert!(late.is_err());
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert_eq!(*embedder.0.lock().unwrap(), [64]);
    }
}
