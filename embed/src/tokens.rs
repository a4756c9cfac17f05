//! Text to token numbers: the reference tokenizer itself, and a bound on what it reads.

use std::path::Path;

use tokenizers::{ModelWrapper, NormalizerWrapper, TruncationParams};

use crate::error::EmbedError;
use crate::files;

/// What is tried first: two or three times what plain words take.
const BYTES_PER_TOKEN: usize = 8;
/// What is read at most: 1 MB for 256 tokens. Only controls, or words of hundreds of letters, take as much.
const BYTES_PER_TOKEN_MAX: usize = 4096;

/// A loaded tokenizer.
pub(crate) struct Tokenizer {
    inner: tokenizers::Tokenizer,
    len_max: usize,
}

impl Tokenizer {
    /// Reads `tokenizer.json`, and refuses one that is for other weights than an uncased BERT's. Padding and truncation
    /// that it asks for are not used: `len_max` is the most tokens of a text, the two that mark its ends among them.
    pub fn open(path: &Path, len_max: usize) -> Result<Self, EmbedError> {
        let corrupt = |why: String| EmbedError::corrupt(path, why);
        let failed = |e: tokenizers::Error| EmbedError::corrupt(path, e.to_string());

        let mut inner = tokenizers::Tokenizer::from_bytes(files::read(path)?).map_err(failed)?;
        if !matches!(inner.get_model(), ModelWrapper::WordPiece(_)) {
            return Err(corrupt("expected WordPiece at /model/type".into()));
        }
        if !matches!(inner.get_normalizer(), Some(NormalizerWrapper::BertNormalizer(n)) if n.lowercase) {
            return Err(corrupt(
                "expected BertNormalizer and true at /normalizer/type and /normalizer/lowercase".into(),
            ));
        }
        inner.with_padding(None);
        inner.with_truncation(Some(TruncationParams { max_length: len_max, ..Default::default() })).map_err(failed)?;
        let ends = inner.encode_fast("", true).map_err(failed)?.get_ids().to_vec();
        if ["[CLS]", "[SEP]"].map(|mark| inner.token_to_id(mark)) != *ends.into_iter().map(Some).collect::<Vec<_>>() {
            return Err(corrupt(
                "expected a post_processor that puts the vocabulary's [CLS] and [SEP] around a text".into(),
            ));
        }
        Ok(Tokenizer { inner, len_max })
    }

    /// One more than the greatest token number: the rows that the network's word table must have.
    pub fn numbers(&self) -> usize {
        self.inner.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1)
    }

    /// `[CLS]`, the text's tokens, `[SEP]`: the text's end is cut off, and is not even read.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, EmbedError> {
        let text = &text[..text.floor_char_boundary(BYTES_PER_TOKEN_MAX * self.len_max)];
        let mut len = BYTES_PER_TOKEN * self.len_max;
        loop {
            // No token reaches over white space, so what comes before some has the tokens that it has in the whole.
            let head = text
                .as_bytes()
                .get(..len)
                .map_or(text.len(), |head| head.iter().rposition(|byte| b" \t\n\r".contains(byte)).unwrap_or(0));
            let encoding =
                self.inner.encode_fast(&text[..head], true).map_err(|e| EmbedError::Failed(e.to_string()))?;
            if head == text.len() || encoding.len() == self.len_max {
                return Ok(encoding.get_ids().to_vec());
            }
            len *= 4;
        }
    }
}
