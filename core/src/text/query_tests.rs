//! Arguments, good and bad, and the order in which they are found bad; as cyborgdb-core 0.18.0 answers.

use serde_json::{Value, json};

use super::*;

fn schema() -> Schema {
    let declared = json!({
        "head": {"full_text": true}, "body": {"full_text": true}, "title": {"pattern": true}, "blob": {"filterable": false},
    });
    Schema::parse(&declared).unwrap()
}

fn bm25() -> Bm25 {
    Bm25::parse(None, None, &schema()).unwrap()
}

/// The arguments of a request in JSON, in the form that borrows from it.
struct Request {
    text: Option<String>,
    fields: Option<Vec<String>>,
    weights: Option<Vec<f64>>,
    require_all: Option<bool>,
    ordered: bool,
    fusion: FusionArguments,
}

impl Request {
    fn new(request: &Value) -> Self {
        let list = |name: &str| request[name].as_array().cloned();
        Self {
            text: request["text"].as_str().map(str::to_owned),
            fields: list("text_fields").map(|all| all.iter().map(|field| field.as_str().unwrap().into()).collect()),
            weights: list("text_field_weights").map(|all| all.iter().map(|weight| weight.as_f64().unwrap()).collect()),
            require_all: request["require_all_terms"].as_bool(),
            ordered: !request["order_by"].is_null(),
            fusion: FusionArguments {
                alpha: request["alpha"].as_f64(),
                rrf_k: request["rrf_k"].as_f64(),
                window_mult: request["window_mult"].as_i64(),
            },
        }
    }

    fn arguments(&self) -> TextArguments<'_> {
        TextArguments {
            text: self.text.as_deref(),
            fields: self.fields.as_deref(),
            weights: self.weights.as_deref(),
            require_all: self.require_all,
        }
    }

    fn metadata_query(&self, schema: &Schema) -> Result<Option<TextQuery>, TextError> {
        TextQuery::parse(&self.arguments(), self.ordered, schema, bm25())
    }

    fn hybrid(&self, schema: &Schema) -> Result<Option<Hybrid>, TextError> {
        Hybrid::parse(&self.arguments(), &self.fusion, schema, bm25())
    }
}

/// What `query_metadata` says to `request`.
#[track_caller]
fn check_metadata(request: Value, expected: TextError) {
    assert_eq!(Request::new(&request).metadata_query(&schema()).err(), Some(expected), "{request}");
}

/// What `query` says to `request`.
#[track_caller]
fn check_hybrid(request: Value, expected: TextError) {
    assert_eq!(Request::new(&request).hybrid(&schema()).err(), Some(expected), "{request}");
}

#[test]
fn without_a_text_there_is_no_text_query() {
    for request in [
        json!({}),
        json!({"text": ""}),
        json!({"text_fields": [], "text_field_weights": [], "require_all_terms": false}),
    ] {
        let request = Request::new(&request);
        for schema in [schema(), Schema::default()] {
            assert!(request.metadata_query(&schema).unwrap().is_none());
            assert!(request.hybrid(&schema).unwrap().is_none());
        }
    }
}

#[test]
fn without_a_text_its_arguments_are_refused() {
    for request in [
        json!({"text_fields": ["body"]}),
        json!({"text_field_weights": [1.0]}),
        json!({"require_all_terms": true}),
        json!({"text": "", "text_fields": ["nope"], "order_by": "x"}),
    ] {
        check_metadata(request.clone(), TextError::ArgumentsWithoutText);
        check_hybrid(request, TextError::ArgumentsWithoutText);
    }
    for request in [
        json!({"alpha": 0.5}),
        json!({"rrf_k": 60.0}),
        json!({"window_mult": 3}),
        json!({"text": "", "alpha": 2.0}),
        json!({"text_fields": ["body"], "alpha": 0.5}),
    ] {
        check_hybrid(request, TextError::FusionWithoutText);
    }
}

#[test]
fn a_text_needs_an_index_with_words() {
    let request = Request::new(&json!({"text": "fox", "alpha": 3.0, "text_fields": ["x"]}));
    let none = Schema::parse(&json!({"title": {"pattern": true}})).unwrap();
    let message = |error: TextError| error.quoting_message();
    let end = "query requires an index with at least one full_text field; this index has none (full_text designations are fixed at index creation).";
    assert_eq!(message(request.metadata_query(&none).unwrap_err()), format!("text {end}"));
    assert_eq!(message(request.hybrid(&none).unwrap_err()), format!("hybrid {end}"));
}

#[test]
fn fields_and_weights_are_checked() {
    let unknown = |field: &str| TextError::UnknownField(field.into());
    check_metadata(json!({"text": "fox", "text_fields": ["title"]}), unknown("title"));
    check_metadata(json!({"text": "the", "text_fields": [""]}), unknown(""));
    check_metadata(json!({"text": "fox", "text_fields": ["nope", "body", "body"]}), unknown("nope"));
    check_metadata(
        json!({"text": "fox", "text_fields": ["body", "body", "nope"]}),
        TextError::RepeatedField("body".into()),
    );
    check_metadata(json!({"text": "fox", "text_fields": ["nope"], "text_field_weights": [1, 2]}), unknown("nope"));
    let count = |found, fields| TextError::WeightCount { found, fields };
    check_metadata(json!({"text": "fox", "text_fields": ["body"], "text_field_weights": [-1, 2]}), count(2, 1));
    check_metadata(json!({"text": "fox", "text_field_weights": [1, 2, 3]}), count(3, 2));
    check_metadata(json!({"text": "fox", "text_field_weights": [-1, 2]}), TextError::Weight("body".into()));
    check_metadata(json!({"text": "fox", "text_field_weights": [1, 1e308]}), TextError::Weight("head".into()));
    check_hybrid(json!({"text": "fox", "text_fields": ["nope"]}), unknown("nope"));
    assert_eq!(
        count(2, 1).quoting_message(),
        "text_field_weights has 2 entries but the query searches 1 field(s); weights must be parallel to the searched \
         fields (all full_text fields when text_fields is empty)."
    );
}

#[test]
fn nan_is_no_weight() {
    for weight in [f64::NAN, f64::INFINITY, -0.1] {
        let arguments = TextArguments { text: Some("fox"), weights: Some(&[1.0, weight]), ..TextArguments::default() };
        assert_eq!(
            TextQuery::parse(&arguments, false, &schema(), bm25()).err(),
            Some(TextError::Weight("head".into()))
        );
    }
}

#[test]
fn an_order_has_no_place_beside_a_text() {
    check_metadata(json!({"text": "fox", "order_by": "views"}), TextError::OrderWithText);
    check_metadata(json!({"text": "the", "order_by": {"views": 1}, "text_fields": ["nope"]}), TextError::OrderWithText);
}

#[test]
fn fusion_is_checked_around_the_index() {
    check_hybrid(json!({"text": "fox", "rrf_k": 0, "window_mult": 0, "alpha": 2}), TextError::RrfK);
    check_hybrid(json!({"text": "fox", "window_mult": 0, "alpha": 2}), TextError::WindowMult);
    check_hybrid(json!({"text": "fox", "alpha": 2, "text_fields": ["nope"]}), TextError::Alpha(2.0));
    let hybrid = Request::new(&json!({"text": "fox"})).hybrid(&schema()).unwrap().unwrap();
    assert_eq!(hybrid.fusion, Fusion::parse(&FusionArguments::default()).unwrap());
}

#[test]
fn good_queries_are_read() {
    let read = |request: Value| Request::new(&request).metadata_query(&schema()).unwrap().unwrap();
    let query = read(json!({"text": "The quick foxes fox"}));
    assert_eq!(query.terms, ["quick", "fox"]);
    assert_eq!(query.fields, [("body".to_owned(), 1.0), ("head".to_owned(), 1.0)], "by name, as weights count them");
    assert!(!query.require_all && !query.is_empty());
    let query =
        read(json!({"text": "fox", "text_fields": ["head"], "text_field_weights": [0], "require_all_terms": true}));
    assert_eq!((query.fields, query.require_all), (vec![("head".to_owned(), 0.0)], true));
    for text in [" ", "the", "!?"] {
        assert!(read(json!({"text": text, "require_all_terms": true})).is_empty());
    }
    assert_eq!(format!("{:?}", read(json!({"text": "secret"}))), "TextQuery(1 terms, 2 fields)");
}

#[test]
fn terms_are_limited() {
    let text: Vec<String> = (0..=TERMS_MAX).map(|number| format!("w{number}")).collect();
    check_metadata(json!({"text": text.join(" ")}), TextError::Terms(TERMS_MAX + 1));
    assert!(Request::new(&json!({"text": text[1..].join(" ")})).metadata_query(&schema()).is_ok());
    assert!(Request::new(&json!({"text": "fox ".repeat(10_000)})).metadata_query(&schema()).is_ok());
}

#[test]
fn parameters_are_checked() {
    let parse = |k1: Option<f64>, b: Option<f64>| Bm25::parse(k1, b, &schema());
    let default = parse(None, None).unwrap();
    assert_eq!((default.k1(), default.b()), (1.2, 0.75));
    assert!(parse(Some(0.0), Some(0.0)).is_ok() && parse(Some(f64::MAX), Some(1.0)).is_ok());
    for k1 in [-1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(parse(Some(k1), Some(2.0)), Err(TextError::K1));
    }
    for b in [-0.1, 1.1, f64::NAN] {
        assert_eq!(parse(Some(1.3), Some(b)), Err(TextError::B));
    }
    assert!(Bm25::parse(None, None, &Schema::default()).is_ok());
    for (k1, b) in [(Some(1.3), None), (None, Some(7.0))] {
        assert_eq!(Bm25::parse(k1, b, &Schema::default()), Err(TextError::Bm25WithoutField));
    }
}
