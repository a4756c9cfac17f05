//! The seam between routes and an embedding model.

#[cfg(feature = "embedding")]
mod local;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

#[cfg(feature = "embedding")]
pub use local::Local;

/// A model that can be named in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// Full name, such as `sentence-transformers/all-MiniLM-L6-v2`.
    pub name: String,
    /// Dimension of its vectors.
    pub dimension: u16,
    /// Tokens of a text that it reads; the rest is cut off.
    pub max_seq_length: u32,
}

/// Why no vector came.
#[derive(Debug)]
pub enum EmbedError {
    /// The name is no supported model's.
    Unknown,
    /// The model's files are missing or unreadable. The text says which directory to fill.
    Unavailable(String),
}

/// Makes vectors of texts. Blocking: call it on a blocking thread.
pub trait Embedder: Send + Sync {
    /// Every model that it knows, whether its files are there or not.
    fn models(&self) -> &[Model];

    /// The model of a short or full name, in any case.
    fn find(&self, name: &str) -> Option<&Model>;

    /// Row-major vectors, one row a text, in the order of the texts.
    ///
    /// # Errors
    /// See [`EmbedError`].
    fn embed(&self, model: &str, texts: &[&str]) -> Result<Vec<f32>, EmbedError>;
}

/// The models below `dir`, on `threads` threads or as many as are sensible; none in a program that was built without.
#[cfg(feature = "embedding")]
pub fn embedder(dir: PathBuf, threads: Option<NonZeroUsize>) -> Option<Arc<dyn Embedder>> {
    Some(Arc::new(Local::new(dir, threads)))
}

/// None: this program was built without.
#[cfg(not(feature = "embedding"))]
pub fn embedder(_dir: PathBuf, _threads: Option<NonZeroUsize>) -> Option<Arc<dyn Embedder>> {
    None
}
