//! The network: candle's BERT, then the mean over a text's tokens, at length one.
//!
//! Texts of a group are rows of one tensor, short ones padded; the mask keeps padding out of attention and mean.

use std::iter;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config, HiddenAct};

use crate::error::EmbedError;
use crate::files;

/// Reads `config.json` and refuses what is not `dims` wide, or what would be computed otherwise than its authors meant.
pub(crate) fn open_config(path: &Path, dims: usize, token_numbers: usize) -> Result<Config, EmbedError> {
    let config: Config = files::read_json(path)?;
    let heads = config.num_attention_heads;
    let rows = [
        (config.model_type.as_deref() == Some("bert"), "model_type is not bert"),
        (config.hidden_act == HiddenAct::Gelu, "hidden_act is not gelu"),
        (config.hidden_size == dims, "hidden_size is not this model's"),
        (heads > 0 && dims.is_multiple_of(heads), "hidden_size is no multiple of num_attention_heads"),
        (config.vocab_size >= token_numbers, "vocab_size is less than tokenizer.json's"),
    ];
    match rows.into_iter().find(|(holds, _)| !holds) {
        Some((_, why)) => Err(EmbedError::corrupt(path, why)),
        None => Ok(config),
    }
}

/// Weights in memory.
pub(crate) struct Bert(BertModel);

impl Bert {
    /// Reads every tensor that `config` asks for, in its shape.
    pub fn open(config: &Config, path: &Path) -> Result<Self, EmbedError> {
        let bytes = files::read(path)?;
        VarBuilder::from_buffered_safetensors(bytes, DType::F32, &Device::Cpu)
            .and_then(|weights| BertModel::load(weights, config))
            .map(Bert)
            .map_err(|e| EmbedError::corrupt(path, first_line(&e)))
    }

    /// One vector of length one for each text, in order. Runs on the current rayon pool.
    ///
    /// A text is at least one token and at most `max_position_embeddings`, each less than `vocab_size`.
    ///
    /// # Errors
    /// [`EmbedError::Failed`], also where the weights make something of a text that is no number.
    pub fn embed(&self, texts: &[&[u32]]) -> Result<Vec<f32>, EmbedError> {
        let vectors = self.forward(texts).map_err(|e| EmbedError::Failed(first_line(&e)))?;
        match vectors.iter().all(|v| v.is_finite()) {
            true => Ok(vectors),
            false => Err(EmbedError::Failed("the weights give a vector that is not finite".into())),
        }
    }

    fn forward(&self, texts: &[&[u32]]) -> candle_core::Result<Vec<f32>> {
        let longest = texts.iter().map(|ids| ids.len()).max().unwrap_or(0);
        let shape = (texts.len(), longest);
        let padded = |ids: &[u32]| ids.iter().copied().chain(iter::repeat(0)).take(longest).collect::<Vec<u32>>();
        let ids: Vec<u32> = texts.iter().flat_map(|ids| padded(ids)).collect();
        let ids = Tensor::from_vec(ids, shape, &Device::Cpu)?;
        let counts = |len: usize| (0..longest).map(move |at| if at < len { 1f32 } else { 0f32 });
        let mask: Vec<f32> = texts.iter().flat_map(|ids| counts(ids.len())).collect();
        let mask = Tensor::from_vec(mask, shape, &Device::Cpu)?;

        let rows = self.0.forward(&ids, &ids.zeros_like()?, Some(&mask))?;
        // Dividing by the number of tokens would change the length alone, which becomes one here.
        let sums = mask.unsqueeze(1)?.matmul(&rows)?.squeeze(1)?;
        let lengths = sums.sqr()?.sum_keepdim(1)?.sqrt()?;
        sums.broadcast_div(&lengths)?.flatten_all()?.to_vec1()
    }
}

/// What is wrong, without the stack trace that candle adds where `RUST_BACKTRACE` is set.
fn first_line(error: &candle_core::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
