//! What a full-text search may ask for, in the original's words.

use sealvec_core::filter::{Filter, FilterError, Schema, Search};
use sealvec_core::json::Json;
use serde_json::Value;

use super::dto::query::{FusionOptions, TextOptions};

/// The words of a refusal.
pub type Refused = Result<(), String>;

impl TextOptions<'_> {
    /// The text, unless it is empty.
    pub fn words(&self) -> Option<&str> {
        self.text.as_deref().filter(|text| !text.is_empty())
    }

    /// What can be refused without a look at the index.
    ///
    /// # Errors
    /// The sentence.
    pub fn check_alone(&self) -> Refused {
        let more = self.text_fields.is_some() || self.text_field_weights.is_some() || self.require_all_terms.is_some();
        if self.words().is_none() && more {
            return Err("text_fields / text_field_weights / require_all_terms require non-empty query text.".into());
        }
        if self.text_field_weights.as_ref().is_some_and(|weights| !weights.iter().all(|w| w.is_finite())) {
            return Err("text_field_weights must be finite numbers.".into());
        }
        Ok(())
    }

    /// What the index's schema does not allow.
    ///
    /// # Errors
    /// The sentence.
    pub fn check_against(&self, schema: &Schema, kind: &str) -> Refused {
        let has = |name: &str| schema.fields().any(|(field, policy)| field == name && policy.full_text);
        let all = schema.fields().filter(|(_, policy)| policy.full_text).count();
        if all == 0 {
            return Err(format!(
                "{kind} query requires an index with at least one full_text field; this index has none (full_text \
                 designations are fixed at index creation)."
            ));
        }
        let named = self.text_fields.as_deref().unwrap_or_default();
        if let Some(other) = named.iter().find(|name| !has(name)) {
            return Err(format!(
                "text query names '{other}', which is not a full_text field on this index; full_text fields are fixed \
                 at index creation (metadata_schema)."
            ));
        }
        let searched = if named.is_empty() { all } else { named.len() };
        match &self.text_field_weights {
            Some(weights) if weights.len() != searched => Err(format!(
                "text_field_weights has {} entries but the query searches {searched} field(s); pass one weight per \
                 searched field.",
                weights.len()
            )),
            _ => Ok(()),
        }
    }
}

impl FusionOptions {
    /// What can be refused without a look at the index.
    ///
    /// # Errors
    /// The sentence.
    pub fn check(&self, hybrid: bool) -> Refused {
        if !hybrid && (self.alpha.is_some() || self.rrf_k.is_some() || self.window_mult.is_some()) {
            return Err("alpha / rrf_k / window_mult configure the fusion of a hybrid query and require non-empty \
                        `text`."
                .into());
        }
        if let Some(alpha) = self.alpha.filter(|alpha| !(0.0..=1.0).contains(alpha)) {
            return Err(format!("alpha must be in [0, 1]; got {alpha:.6} (0 = pure BM25, 1 = pure vector)."));
        }
        if self.rrf_k.is_some_and(|k| k.is_nan() || k <= 0.0 || k.is_infinite()) {
            return Err("rrf_k must be > 0 (pass None for the default of 60).".into());
        }
        if self.window_mult.is_some_and(|mult| mult < 1) {
            return Err("window_mult must be >= 1 — it is a MULTIPLE of top_k, not an absolute candidate count (pass \
                        None for the default of 3)."
                .into());
        }
        Ok(())
    }
}

/// A filter that was read: its conditions, to be checked against a schema.
///
/// # Errors
/// The sentence, which quotes the filter: for its author only.
pub fn parse_filter(filters: Json<'_>) -> Result<Filter, String> {
    // The parser's own limit on nesting is stricter than serde's, whose refusal has no better words.
    let value: Value =
        serde_json::from_str(filters.text()).map_err(|_| "filters nest too deep, or hold no number".to_owned())?;
    Filter::parse(&value).map_err(|error| error.quoting_message())
}

/// The schema of an index.
pub fn schema(of: Option<&Value>) -> Schema {
    of.and_then(|value| Schema::parse(value).ok()).unwrap_or_default()
}

/// Whether `search` may ask for `filter`.
///
/// # Errors
/// The sentence.
pub fn check_filter(schema: &Schema, filter: &Filter, search: Search) -> Refused {
    schema.check(filter, search).map_err(|error: FilterError| error.quoting_message())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> Schema {
        let declared = serde_json::json!({"body": {"full_text": true}, "head": {"full_text": true}, "title": {}});
        Schema::parse(&declared).expect("a schema")
    }

    #[test]
    fn each_refusal_has_the_originals_words() {
        let text = |fields: Option<&[&'static str]>, weights: Option<Vec<f64>>| TextOptions {
            text: Some("fox".into()),
            text_fields: fields.map(|names| names.iter().map(|name| (*name).into()).collect()),
            text_field_weights: weights,
            require_all_terms: None,
        };
        let schema = fields();
        assert_eq!(text(None, None).check_against(&schema, "text"), Ok(()));
        assert_eq!(text(Some(&["head"]), Some(vec![2.0])).check_against(&schema, "text"), Ok(()));
        let cases = [
            (text(Some(&["title"]), None).check_against(&schema, "text"), "text query names 'title', which is not"),
            (
                text(None, Some(vec![1.0])).check_against(&schema, "text"),
                "text_field_weights has 1 entries but the query searches 2 field(s)",
            ),
            (
                text(None, None).check_against(&Schema::default(), "hybrid"),
                "hybrid query requires an index with at least one full_text field; this index has none",
            ),
            (
                TextOptions { require_all_terms: Some(true), ..TextOptions::default() }.check_alone(),
                "text_fields / text_field_weights / require_all_terms require",
            ),
            (
                FusionOptions { alpha: Some(0.5), ..FusionOptions::default() }.check(false),
                "alpha / rrf_k / window_mult configure",
            ),
            (
                FusionOptions { alpha: Some(2.0), ..FusionOptions::default() }.check(true),
                "alpha must be in [0, 1]; got 2.000000 (0 = pure BM25, 1 = pure vector).",
            ),
            (
                FusionOptions { rrf_k: Some(0.0), ..FusionOptions::default() }.check(true),
                "rrf_k must be > 0 (pass None for the default of 60).",
            ),
            (
                FusionOptions { window_mult: Some(0), ..FusionOptions::default() }.check(true),
                "window_mult must be >= 1 — it is a MULTIPLE",
            ),
        ];
        for (refused, words) in cases {
            let said = refused.expect_err(words);
            assert!(said.starts_with(words), "{said}");
        }
    }
}
