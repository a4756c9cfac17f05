//! From a request's arguments to a text query: which fields, which terms. Checks come in the original's order.

use std::collections::HashSet;

use super::analyze;
use super::error::TextError;
use super::fusion::{Fusion, FusionArguments};
use super::search::TextSearch;
use crate::filter::{Schema, Search};

/// Most different terms of a query: each may cost a count per item and field.
pub const TERMS_MAX: usize = 1_024;

/// BM25's parameters, of an index.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bm25 {
    k1: f64,
    b: f64,
}

impl Bm25 {
    /// For an index with this schema; `None` takes the default, 1.2 and 0.75.
    ///
    /// # Errors
    /// [`TextError`] if either is out of its range, or given where no field is searched.
    pub fn parse(k1: Option<f64>, b: Option<f64>, schema: &Schema) -> Result<Self, TextError> {
        if (k1.is_some() || b.is_some()) && fields_of(schema).next().is_none() {
            return Err(TextError::Bm25WithoutField);
        }
        let (k1, b) = (k1.unwrap_or(1.2), b.unwrap_or(0.75));
        if !(k1.is_finite() && k1 >= 0.0) {
            return Err(TextError::K1);
        }
        if !(0.0..=1.0).contains(&b) {
            return Err(TextError::B);
        }
        Ok(Self { k1, b })
    }

    /// Term-frequency saturation: 0 = once is enough.
    pub fn k1(&self) -> f64 {
        self.k1
    }

    /// Length normalization: 0 = none, 1 = in full.
    pub fn b(&self) -> f64 {
        self.b
    }

    /// What a term adds for `tf` occurrences in a text `length` times as long as the mean, without its idf.
    pub(super) fn saturation(&self, tf: f64, length: f64) -> f64 {
        let norm = 1.0 - self.b + self.b * length;
        // tf · (k1 + 1) / (tf + k1 · norm), both sides divided by k1 + 1: no product overflows
        tf / (tf / (self.k1 + 1.0) + self.k1 / (self.k1 + 1.0) * norm)
    }
}

/// What a request says of its text.
#[derive(Clone, Copy, Default)]
pub struct TextArguments<'a> {
    /// `text`; nothing and `""` are no text query, white space is one that finds nothing.
    pub text: Option<&'a str>,
    /// `text_fields`; none = all fields of words.
    pub fields: Option<&'a [String]>,
    /// `text_field_weights`, one for each of the fields in their order; those of the schema are ordered by name. None = 1.
    pub weights: Option<&'a [f64]>,
    /// `require_all_terms`: whether an item must hold each term, in any of the fields.
    pub require_all: Option<bool>,
}

impl TextArguments<'_> {
    fn text(&self) -> Option<&str> {
        self.text.filter(|text| !text.is_empty())
    }

    /// Without a text there must be nothing else.
    fn check_no_text(&self) -> Result<(), TextError> {
        let fields = self.fields.is_some_and(|fields| !fields.is_empty());
        let weights = self.weights.is_some_and(|weights| !weights.is_empty());
        match fields || weights || self.require_all == Some(true) {
            true => Err(TextError::ArgumentsWithoutText),
            false => Ok(()),
        }
    }
}

/// A text query: fields with their weights, and terms.
#[derive(Clone)]
pub struct TextQuery {
    pub(super) fields: Vec<(String, f64)>,
    pub(super) terms: Vec<String>,
    pub(super) require_all: bool,
    pub(super) bm25: Bm25,
}

impl TextQuery {
    /// The text query of `query_metadata`, if it has one; check its filter with [`Schema::check`] as a [`Search::Text`].
    ///
    /// # Errors
    /// [`TextError`] for the first thing that is wrong with it.
    pub fn parse(
        arguments: &TextArguments<'_>,
        ordered: bool,
        schema: &Schema,
        bm25: Bm25,
    ) -> Result<Option<Self>, TextError> {
        let Some(text) = arguments.text() else { return arguments.check_no_text().map(|()| None) };
        if ordered {
            return Err(TextError::OrderWithText);
        }
        check_any(schema, Search::Text)?;
        Self::of_text(text, arguments, schema, bm25).map(Some)
    }

    fn of_text(text: &str, arguments: &TextArguments<'_>, schema: &Schema, bm25: Bm25) -> Result<Self, TextError> {
        let fields: Vec<String> = match arguments.fields {
            None | Some([]) => fields_of(schema).map(str::to_owned).collect(),
            Some(fields) => {
                let mut named = HashSet::new();
                for field in fields {
                    if !fields_of(schema).any(|known| known == field) {
                        return Err(TextError::UnknownField(field.clone()));
                    }
                    if !named.insert(field) {
                        return Err(TextError::RepeatedField(field.clone()));
                    }
                }
                fields.to_vec()
            }
        };
        let weights = match arguments.weights {
            None | Some([]) => vec![1.0; fields.len()],
            Some(weights) if weights.len() != fields.len() => {
                return Err(TextError::WeightCount { found: weights.len(), fields: fields.len() });
            }
            Some(weights) => weights.to_vec(),
        };
        let weighed = fields.into_iter().zip(weights).map(|(field, weight)| match weight as f32 {
            float if float.is_finite() && weight >= 0.0 => Ok((field, f64::from(float))),
            _ => Err(TextError::Weight(field)),
        });
        let fields = weighed.collect::<Result<_, _>>()?;
        let terms = analyze::terms(text);
        if terms.len() > TERMS_MAX {
            return Err(TextError::Terms(terms.len()));
        }
        Ok(Self { fields, terms, require_all: arguments.require_all == Some(true), bm25 })
    }

    /// Whether no item can match: the text is stop words and punctuation.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Starts a search, which must see every item once.
    pub fn search(&self) -> TextSearch<'_> {
        TextSearch::new(self)
    }
}

/// Says how many: the text is a user's.
impl std::fmt::Debug for TextQuery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TextQuery({} terms, {} fields)", self.terms.len(), self.fields.len())
    }
}

/// A query with a vector and a text.
#[derive(Clone, Debug)]
pub struct Hybrid {
    /// Its text.
    pub text: TextQuery,
    /// How the two rankings are fused.
    pub fusion: Fusion,
}

impl Hybrid {
    /// The hybrid part of `query`, if it has one; check its filter with [`Schema::check`] as a [`Search::Hybrid`].
    ///
    /// # Errors
    /// [`TextError`] for the first thing that is wrong with it.
    pub fn parse(
        arguments: &TextArguments<'_>,
        fusion: &FusionArguments,
        schema: &Schema,
        bm25: Bm25,
    ) -> Result<Option<Self>, TextError> {
        let Some(text) = arguments.text() else {
            return match fusion.is_empty() {
                true => arguments.check_no_text().map(|()| None),
                false => Err(TextError::FusionWithoutText),
            };
        };
        let fusion = Fusion::window(fusion)?;
        check_any(schema, Search::Hybrid)?;
        let fusion = fusion.blend()?;
        Ok(Some(Self { text: TextQuery::of_text(text, arguments, schema, bm25)?, fusion }))
    }
}

fn check_any(schema: &Schema, search: Search) -> Result<(), TextError> {
    fields_of(schema).next().map(|_| ()).ok_or(TextError::NoTextField(search))
}

/// The fields of words, by name.
fn fields_of(schema: &Schema) -> impl Iterator<Item = &str> {
    schema.fields().filter(|(_, policy)| policy.full_text).map(|(field, _)| field)
}

#[cfg(test)]
#[path = "query_tests.rs"]
mod tests;
