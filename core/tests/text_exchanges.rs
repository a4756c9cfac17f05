//! Replays what CyborgDB 0.18.0 answered to text and hybrid queries: the same rows, scores to the last bit, or the same message.

use sealvec_core::filter::{Filter, Schema, Search};
use sealvec_core::json::Json;
use sealvec_core::text::{Bm25, FusionArguments, Hybrid, TextArguments, TextQuery};
use serde_json::{Map, Value};

const RECORDED: &str = include_str!("data/cyborgdb_text.json");

/// Answered otherwise on purpose.
const DIFFERENCES: [(&str, &str); 2] = [
    ("observed_83", "internal and international have different stems since Snowball 3.1"),
    ("observed_84", "as observed_83"),
];

type Rows = Vec<(String, f64)>;

/// A recorded index, open.
struct Index<'a> {
    schema: Schema,
    bm25: Bm25,
    items: &'a Map<String, Value>,
}

impl<'a> Index<'a> {
    fn new(index: &'a Value) -> Self {
        let texts = list(&index["text_fields"], |field| field.as_str().unwrap().to_owned()).unwrap_or_default();
        let schema = Schema::parse(&index["schema"]).unwrap().with_text_fields(&texts).unwrap();
        let bm25 = Bm25::parse(index["k1"].as_f64(), index["b"].as_f64(), &schema).unwrap();
        Self { schema, bm25, items: index["items"].as_object().unwrap() }
    }

    /// The rows, or the rows of each of several vectors.
    fn answer(&self, exchange: &Value) -> Result<Vec<Rows>, String> {
        let fields = list(&exchange["text_fields"], |field| field.as_str().unwrap().to_owned());
        let weights = list(&exchange["text_field_weights"], |weight| weight.as_f64().unwrap());
        let arguments = TextArguments {
            text: exchange["text"].as_str(),
            fields: fields.as_deref(),
            weights: weights.as_deref(),
            require_all: exchange["require_all_terms"].as_bool(),
        };
        let fusion = FusionArguments {
            alpha: exchange["alpha"].as_f64(),
            rrf_k: exchange["rrf_k"].as_f64(),
            window_mult: exchange["window_mult"].as_i64(),
        };
        let top_k = exchange["top_k"].as_u64().unwrap_or(100) as usize;
        let filter = Filter::parse(&exchange["filters"]).unwrap();
        let named = |rows: Vec<(u64, f64)>| {
            let id = |row: u64| self.items.keys().nth(row as usize).unwrap().clone();
            rows.into_iter().map(|(row, score)| (id(row), score)).collect()
        };
        if exchange["route"] == "query_metadata" {
            let ordered = !exchange["order_by"].is_null();
            let query = TextQuery::parse(&arguments, ordered, &self.schema, self.bm25);
            let query = query.map_err(|error| error.quoting_message())?.expect("a text");
            self.schema.check(&filter, Search::Text).map_err(|error| error.quoting_message())?;
            return Ok(vec![named(self.texts(&query, &filter, top_k))]);
        }
        let hybrid = Hybrid::parse(&arguments, &fusion, &self.schema, self.bm25);
        let Hybrid { text, fusion } = hybrid.map_err(|error| error.quoting_message())?.expect("a text");
        self.schema.check(&filter, Search::Hybrid).map_err(|error| error.quoting_message())?;
        let texts = self.texts(&text, &filter, fusion.depth(top_k));
        let texts: Vec<u64> = texts.into_iter().map(|(row, _)| row).collect();
        let vectors = exchange["query_vectors"].as_array().unwrap();
        let vectors = if vectors[0].is_array() { vectors.clone() } else { vec![exchange["query_vectors"].clone()] };
        Ok(vectors.iter().map(|vector| named(fusion.fuse(&self.nearest(vector, &filter), &texts, top_k))).collect())
    }

    /// Metadata as text, by row.
    fn metadata(&self) -> Vec<String> {
        self.items.values().map(|item| item[1].to_string()).collect()
    }

    fn texts(&self, query: &TextQuery, filter: &Filter, limit: usize) -> Vec<(u64, f64)> {
        let mut search = query.search();
        for (row, text) in (0..).zip(self.metadata()) {
            let metadata = Some(Json::parse(&text).unwrap());
            search.add(row, metadata, filter.matches_json(metadata));
        }
        search.finish(limit)
    }

    fn nearest(&self, vector: &Value, filter: &Filter) -> Vec<u64> {
        let distance = |item: &Value| {
            let part = |axis: usize| item[0][axis].as_f64().unwrap() - vector[axis].as_f64().unwrap();
            part(0).hypot(part(1))
        };
        let mut near: Vec<_> = (0..).zip(self.items.values()).map(|(row, item)| (row, distance(item))).collect();
        near.retain(|(row, _)| filter.matches(&self.items.values().nth(*row as usize).unwrap()[1]));
        near.sort_by(|a, b| a.1.total_cmp(&b.1));
        near.into_iter().map(|(row, _)| row).collect()
    }
}

fn list<T>(value: &Value, of: impl Fn(&Value) -> T) -> Option<Vec<T>> {
    value.as_array().map(|values| values.iter().map(of).collect())
}

fn expected(results: &Value) -> Vec<Rows> {
    let row = |row: &Value| (row[0].as_str().unwrap().to_owned(), row[1].as_f64().unwrap());
    match results[0][0].is_array() {
        true => list(results, |rows| list(rows, row).unwrap()).unwrap(),
        false => vec![list(results, row).unwrap()],
    }
}

/// Rows of equal scores came in an order of the original's own.
fn settle(mut answers: Vec<Rows>) -> Vec<Rows> {
    answers.iter_mut().for_each(|rows| rows.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0))));
    answers
}

#[test]
fn every_recorded_text_query_is_answered_as_the_original_did() {
    let recorded: Value = serde_json::from_str(RECORDED).unwrap();
    let (mut rows, mut messages) = (0, 0);
    for exchange in recorded["exchanges"].as_array().unwrap() {
        let name = exchange["name"].as_str().unwrap();
        let different = DIFFERENCES.iter().any(|(different, _)| *different == name);
        let answer = Index::new(&recorded["indexes"][exchange["index"].as_str().unwrap()]).answer(exchange);
        match (exchange["status"].as_u64().unwrap(), answer) {
            (200, Ok(answer)) => {
                let expected = expected(&exchange["results"]);
                rows += 1;
                if different {
                    assert_ne!(answer, expected, "{name} is no difference any more");
                    continue;
                }
                let scores = |answers: &[Rows]| answers.iter().flatten().map(|row| row.1).collect::<Vec<_>>();
                assert_eq!(scores(&answer), scores(&expected), "{name}: best first");
                assert_eq!(settle(answer), settle(expected), "{name}");
            }
            (400, Err(message)) => {
                assert_eq!(Some(message.as_str()), exchange["detail"].as_str(), "{name}");
                messages += 1;
            }
            (status, answer) => panic!("{name}: the original answered {status}, not {answer:?}"),
        }
    }
    assert_eq!((rows, messages), (92, 28), "has the recording changed?");
}
