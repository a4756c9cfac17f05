//! What can be wrong with the arguments of a text query; two messages each, as with a [`FilterError`](crate::filter::FilterError).

use std::fmt;

use super::query::TERMS_MAX;
use crate::filter::Search;

/// Why the arguments of a text query were refused. The caller's fault, always.
#[non_exhaustive]
#[derive(Clone, PartialEq)]
pub enum TextError {
    /// `text_fields`, `text_field_weights` or `require_all_terms` without a text.
    ArgumentsWithoutText,
    /// `alpha`, `rrf_k` or `window_mult` without a text.
    FusionWithoutText,
    /// `order_by` with a text.
    OrderWithText,
    /// The index has no field of words.
    NoTextField(Search),
    /// A field that is none of words.
    UnknownField(String),
    /// A field that is named twice.
    RepeatedField(String),
    /// Another number of weights than of fields.
    WeightCount {
        /// Weights that came.
        found: usize,
        /// Fields that are searched.
        fields: usize,
    },
    /// A negative or infinite weight, of this field.
    Weight(String),
    /// Outside of 0 to 1.
    Alpha(f64),
    /// Not above 0.
    RrfK,
    /// Infinite.
    RrfKInfinite,
    /// Below 1.
    WindowMult,
    /// More different words than [`TERMS_MAX`].
    Terms(usize),
    /// `bm25_k1` negative or infinite.
    K1,
    /// `bm25_b` outside of 0 to 1.
    B,
    /// `bm25_k1` or `bm25_b` for an index without a field of words.
    Bm25WithoutField,
}

impl TextError {
    /// The original's words, which **quote the request**: for the client that sent it, never for a log.
    pub fn quoting_message(&self) -> String {
        match self {
            Self::UnknownField(field) => format!(
                "text query names '{field}', which is not a full_text field on this index; full_text fields are fixed \
                 at index creation (metadata_schema)."
            ),
            Self::RepeatedField(field) => format!("text query names field '{field}' more than once."),
            Self::Weight(field) => format!("text_field_weights['{field}'] must be finite and >= 0."),
            Self::Alpha(alpha) => {
                let alpha = format!("{alpha:.6}").replace("NaN", "nan");
                format!("alpha must be in [0, 1]; got {alpha} (0 = pure BM25, 1 = pure vector).")
            }
            _ => self.to_string(),
        }
    }
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ArgumentsWithoutText => {
                "text_fields / text_field_weights / require_all_terms require non-empty query text."
            }
            Self::FusionWithoutText => {
                "alpha / rrf_k / window_mult configure the fusion of a hybrid query and require non-empty `text`."
            }
            Self::OrderWithText => {
                "order_by is not supported together with query text: full-text results are ranked by BM25 score. Drop \
                 order_by, or query without text."
            }
            Self::NoTextField(search) => {
                let query = if *search == Search::Hybrid { "hybrid" } else { "text" };
                return write!(
                    f,
                    "{query} query requires an index with at least one full_text field; this index has none (full_text \
                     designations are fixed at index creation)."
                );
            }
            Self::UnknownField(_) => "a text query may name full_text fields of the index only",
            Self::RepeatedField(_) => "a text query may name a field once only",
            Self::WeightCount { found, fields } => {
                return write!(
                    f,
                    "text_field_weights has {found} entries but the query searches {fields} field(s); weights must be \
                     parallel to the searched fields (all full_text fields when text_fields is empty)."
                );
            }
            Self::Weight(_) => "text_field_weights must be finite and >= 0",
            Self::Alpha(_) => "alpha must be in [0, 1] (0 = pure BM25, 1 = pure vector).",
            Self::RrfK => "rrf_k must be > 0 (pass None for the default of 60).",
            Self::RrfKInfinite => "FuseRRF: k must be finite and > 0.",
            Self::WindowMult => {
                "window_mult must be >= 1 — it is a MULTIPLE of top_k, not an absolute candidate count (pass None for \
                 the default of 3)."
            }
            Self::Terms(found) => {
                return write!(f, "a text query may have {TERMS_MAX} different words, not {found}");
            }
            Self::K1 => "BM25 k1 must be finite and >= 0.",
            Self::B => "BM25 b must be in [0, 1].",
            Self::Bm25WithoutField => {
                "bm25_k1/bm25_b are BM25 scoring parameters and require at least one full_text field (mark one in \
                 metadata_schema, or pass text_fields)."
            }
        })
    }
}

/// As `Display`.
impl fmt::Debug for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TextError({self})")
    }
}

impl std::error::Error for TextError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_quoting_message_quotes() {
        for error in [
            TextError::UnknownField("secret".into()),
            TextError::RepeatedField("secret".into()),
            TextError::Weight("secret".into()),
        ] {
            assert!(error.quoting_message().contains("'secret'"));
            assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
        }
    }

    #[test]
    fn alpha_is_written_as_c_writes_it() {
        for (alpha, written) in [(2.0, "2.000000"), (-0.5, "-0.500000"), (f64::NAN, "nan"), (f64::INFINITY, "inf")] {
            assert!(TextError::Alpha(alpha).quoting_message().contains(&format!("got {written} (")));
        }
    }
}
