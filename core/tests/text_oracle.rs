//! Random collections against a second BM25, which counts anew for each score and reads the formula as it is printed;
//! and random rankings against a second fusion. Words here are their own stems, as letters and digits alone.

use std::collections::BTreeSet;

use proptest::prelude::*;
use sealvec_core::filter::Schema;
use sealvec_core::json::Json;
use sealvec_core::text::{Bm25, Fusion, FusionArguments, TextArguments, TextQuery};
use serde_json::{Value, json};

const FIELDS: [&str; 3] = ["a", "b", "c"];

/// An item's texts by field; a field may be missing.
type Item = [Option<String>; 3];

struct Case {
    items: Vec<(Item, bool)>, // with whether it is a candidate
    query: String,
    weights: Vec<f64>,
    require_all: bool,
    k1: f64,
    b: f64,
}

fn words(text: &str) -> Vec<&str> {
    text.split(' ').filter(|word| !word.is_empty() && *word != "the").collect()
}

/// Rows with their scores, best first.
fn oracle(case: &Case) -> Vec<(u64, f64)> {
    let terms: BTreeSet<&str> = words(&case.query).into_iter().collect();
    let mut scored = Vec::new();
    for (row, (item, candidate)) in case.items.iter().enumerate() {
        let holds = |term: &str| item.iter().flatten().any(|text| words(text).contains(&term));
        let held = terms.iter().filter(|term| holds(term)).count();
        if !candidate || held == 0 || case.require_all && held < terms.len() {
            continue;
        }
        let mut score = 0.0;
        for (field, text) in item.iter().enumerate() {
            let texts: Vec<Vec<&str>> =
                case.items.iter().flat_map(|(item, _)| &item[field]).map(|text| words(text)).collect();
            let texts: Vec<&Vec<&str>> = texts.iter().filter(|text| !text.is_empty()).collect();
            let mean = texts.iter().map(|text| text.len()).sum::<usize>() as f64 / texts.len() as f64;
            let text = text.as_deref().map(words).unwrap_or_default();
            for term in &terms {
                let tf = text.iter().filter(|word| *word == term).count() as f64;
                if tf > 0.0 {
                    let n = texts.iter().filter(|text| text.contains(term)).count() as f64;
                    let idf = (1.0 + (texts.len() as f64 - n + 0.5) / (n + 0.5)).ln();
                    let norm = 1.0 - case.b + case.b * text.len() as f64 / mean;
                    score += case.weights[field] * idf * tf * (case.k1 + 1.0) / (tf + case.k1 * norm);
                }
            }
        }
        scored.push((row as u64, score));
    }
    scored.sort_by(|a, b| b.1.total_cmp(&a.1));
    scored
}

fn searched(case: &Case) -> Vec<(u64, f64)> {
    let schema: Value = FIELDS.iter().map(|field| ((*field).to_owned(), json!({"full_text": true}))).collect();
    let schema = Schema::parse(&schema).unwrap();
    let bm25 = Bm25::parse(Some(case.k1), Some(case.b), &schema).unwrap();
    let arguments = TextArguments {
        text: Some(&case.query),
        fields: None,
        weights: Some(&case.weights),
        require_all: Some(case.require_all),
    };
    let Some(query) = TextQuery::parse(&arguments, false, &schema, bm25).unwrap() else { return Vec::new() };
    let mut search = query.search();
    for (row, (item, candidate)) in (0..).zip(&case.items) {
        let fields = FIELDS.iter().zip(item).filter_map(|(field, text)| text.as_ref().map(|text| (field, text)));
        let metadata: Value = fields.map(|(field, text)| ((*field).to_owned(), Value::from(text.as_str()))).collect();
        let text = metadata.to_string();
        search.add(row, Some(Json::parse(&text).unwrap()), *candidate);
    }
    search.finish(usize::MAX)
}

fn text() -> impl Strategy<Value = String> {
    proptest::collection::vec("w[1-6]|the|é1|", 0..8).prop_map(|words| words.join(" "))
}

fn cases() -> impl Strategy<Value = Case> {
    let item = proptest::array::uniform3(proptest::option::weighted(0.7, text()));
    let items = proptest::collection::vec((item, proptest::bool::weighted(0.8)), 0..12);
    let weights =
        proptest::collection::vec(prop_oneof![Just(1.0), Just(0.0), (1..32u8).prop_map(|n| f64::from(n) / 8.0)], 3);
    let k1 = prop_oneof![Just(0.0), 0.0..5.0, Just(1e6)];
    let b = prop_oneof![Just(0.0), Just(1.0), 0.0..1.0];
    let query = text().prop_map(|text| format!("{text} ")); // never empty: that would be no text query
    (items, query, weights, any::<bool>(), k1, b).prop_map(|(items, query, weights, require_all, k1, b)| Case {
        items,
        query,
        weights,
        require_all,
        k1,
        b,
    })
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Case { items, query, weights, require_all, k1, b } = self;
        write!(f, "{query:?} all={require_all} weights={weights:?} k1={k1} b={b} in {items:#?}")
    }
}

/// The other way round: each row looks for itself in both rankings.
fn fused(vectors: &[u64], texts: &[u64], alpha: f64, k: f64, window: usize, top_k: usize) -> Vec<f64> {
    let part = |rows: &[u64], row: u64| {
        rows.iter()
            .take(window * top_k)
            .position(|found| *found == row)
            .map_or(0.0, |place| 1.0 / (k + place as f64 + 1.0))
    };
    let rows: BTreeSet<u64> = vectors.iter().chain(texts).copied().collect();
    let mut scores: Vec<f64> =
        rows.into_iter().map(|row| alpha * part(vectors, row) + (1.0 - alpha) * part(texts, row)).collect();
    scores.retain(|score| *score > 0.0);
    scores.sort_by(|a, b| b.total_cmp(a));
    scores.truncate(top_k);
    scores
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn scores_are_the_formulas(case in cases()) {
        let (found, expected) = (searched(&case), oracle(&case));
        let by_row = |mut rows: Vec<(u64, f64)>| { rows.sort_by_key(|row| row.0); rows };
        prop_assert!(found.is_sorted_by(|a, b| a.1 > b.1 || a.1 == b.1 && a.0 < b.0), "best first, ties as they came");
        let (found, expected) = (by_row(found), by_row(expected));
        prop_assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            prop_assert_eq!(found.0, expected.0);
            prop_assert!((found.1 - expected.1).abs() <= 1e-6 * expected.1.abs(), "{found:?}, not {expected:?}");
        }
    }

    #[test]
    fn fused_scores_are_the_formulas(
        vectors in Just((0..12u64).collect::<Vec<_>>()).prop_shuffle(),
        texts in Just((6..18u64).collect::<Vec<_>>()).prop_shuffle(),
        (lengths, top_k, window) in ((0..12usize, 0..12usize), 0..8usize, 1..4usize),
        alpha in prop_oneof![Just(0.0), Just(1.0), 0.0..=1.0],
        k in prop_oneof![Just(60.0), 0.001..100.0],
    ) {
        let (vectors, texts) = (&vectors[..lengths.0], &texts[..lengths.1]);
        let arguments = FusionArguments { alpha: Some(alpha), rrf_k: Some(k), window_mult: Some(window as i64) };
        let found = Fusion::parse(&arguments).unwrap().fuse(vectors, texts, top_k);
        let expected = fused(vectors, texts, alpha, k, window, top_k);
        prop_assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            prop_assert!((found.1 - expected).abs() <= 1e-6 * expected, "{found:?}, not {expected}");
        }
    }

    /// Parameters at their ends give numbers still.
    #[test]
    fn no_parameter_makes_a_score_that_is_no_number(
        k1 in prop_oneof![Just(f64::MAX), Just(f64::MIN_POSITIVE), 0.0..f64::MAX],
        b in 0.0..=1.0,
        weight in prop_oneof![Just(f64::from(f32::MAX)), Just(1e-320)],
    ) {
        let item = |text: &str| ([Some(text.to_owned()), None, None], true);
        let items = vec![item("w1"), item("w1 w1 w2 w3 w4"), item("w2")];
        let case = Case { items, query: "w1 w2".into(), weights: vec![weight; 3], require_all: false, k1, b };
        for (_, score) in searched(&case) {
            prop_assert!(score.is_finite() && score >= 0.0, "{score}");
        }
    }
}
