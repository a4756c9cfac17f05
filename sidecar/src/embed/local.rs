//! Models of `sealvec-embed`, run by this process.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use sealvec_embed::Catalog;

use super::{EmbedError, Embedder, Model};

/// Models in a directory, run by this process. Nothing is read before the first text.
pub struct Local {
    catalog: Catalog,
    models: Vec<Model>,
}

impl Local {
    /// Of the models below `dir`, on `threads` threads or as many as are sensible.
    pub fn new(dir: PathBuf, threads: Option<NonZeroUsize>) -> Self {
        let catalog = Catalog::new(dir);
        let catalog = match threads {
            Some(threads) => catalog.with_threads(threads),
            None => catalog,
        };
        let models = catalog.supported().into_iter().map(|model| Model {
            name: model.name.to_owned(),
            dimension: u16::try_from(model.dims).expect("a model's dimension is one that an index takes"),
            max_seq_length: u32::try_from(model.max_seq_length).expect("a text's length in tokens"),
        });
        Self { models: models.collect(), catalog }
    }
}

impl Embedder for Local {
    fn models(&self) -> &[Model] {
        &self.models
    }

    fn find(&self, name: &str) -> Option<&Model> {
        let found = self.catalog.find(name)?;
        self.models.iter().find(|model| model.name == found.name)
    }

    fn embed(&self, model: &str, texts: &[&str]) -> Result<Vec<f32>, EmbedError> {
        self.catalog.embed(model, texts).map_err(|error| match error.is_unavailable() {
            false => EmbedError::Unknown,
            // Routes put these words before it themselves.
            true => {
                let text = error.to_string();
                EmbedError::Unavailable(text.trim_start_matches("embedding model unavailable: ").to_owned())
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_found_by_either_name_and_missing_files_are_named() {
        let local = Local::new("/nowhere/models".into(), NonZeroUsize::new(1));
        let full = "sentence-transformers/all-MiniLM-L6-v2";
        for name in [full, "all-MiniLM-L6-v2", "ALL-minilm-l6-V2"] {
            let model = local.find(name).unwrap();
            assert_eq!((model.name.as_str(), model.dimension), (full, 384));
        }
        assert!(local.find("all-MiniLM").is_none());
        match local.embed(full, &["a"]) {
            Err(EmbedError::Unavailable(text)) => {
                assert!(text.contains("/nowhere/models") && !text.starts_with("embedding"), "{text}");
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(local.embed("all-MiniLM", &["a"]), Err(EmbedError::Unknown)));
    }
}
