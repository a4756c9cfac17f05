//! Every request type against FastAPI and pydantic themselves: their 422s are recorded in
//! `tests/data/cyborgdb_422.jsonl` (see there), and ours must be the same, but for keys.

use serde_json::{Value, json};

use super::indexes::{CreateIndexRequest, IndexOperationRequest, TrainRequest};
use super::query::{BinaryQuery, MetadataQuery, Query, QueryVectors};
use super::users::CreateUserRequest;
use super::vectors::{BinaryUpsertRequest, DeleteRequest, GetRequest, UpsertRequest, all_finite};
use super::*;
use crate::cyborgdb::body::read_bytes;
use crate::cyborgdb::failure::Failure;

const RECORDED: &str = include_str!("../../../../tests/data/cyborgdb_422.jsonl");

/// The 422's `detail`, or nothing if the body is good.
fn refusal(path: &str, content_type: &str, body: &str) -> Option<Value> {
    fn of<'a, T: Body<'a>>(json: Json<'a>) -> Result<(), Failure> {
        T::parse(json).map(drop).map_err(Failure::from)
    }
    let outcome = read_bytes(body.as_bytes(), content_type.as_bytes(), |json| match path {
        "/v1/indexes/create" => of::<CreateIndexRequest<'_>>(json),
        "/v1/indexes/train" => of::<TrainRequest<'_>>(json),
        "/v1/indexes/describe" | "/v1/indexes/delete" => of::<IndexOperationRequest<'_>>(json),
        "/v1/indexes/a/users" => of::<CreateUserRequest<'_>>(json),
        "/v1/vectors/upsert" => of::<UpsertRequest<'_>>(json),
        "/v1/vectors/upsert_binary" => of::<BinaryUpsertRequest<'_>>(json),
        "/v1/vectors/query" => of::<Query<'_>>(json),
        "/v1/vectors/query_binary" => of::<BinaryQuery<'_>>(json),
        "/v1/vectors/query_metadata" => of::<MetadataQuery<'_>>(json),
        "/v1/vectors/get" => of::<GetRequest<'_>>(json),
        "/v1/vectors/delete" => of::<DeleteRequest<'_>>(json),
        other => panic!("no request type for {other}"),
    });
    match outcome {
        Ok(()) => None,
        Err(Failure::Refused(refusal)) => {
            let body: Value = serde_json::from_str(&refusal.0).expect("a 422 is JSON");
            assert_eq!(body["status_code"], 422);
            Some(body["detail"].clone())
        }
        Err(Failure::Api(error)) => panic!("{body}: {error:?}"),
    }
}

#[test]
fn refusals_are_pydantics() {
    let (mut cases, mut differ) = (0, Vec::new());
    for line in RECORDED.lines() {
        let case: Value = serde_json::from_str(line).expect("a recording is JSON");
        let text = |name: &str| case[name].as_str().expect("a string");
        let ours = refusal(text("path"), text("content_type"), text("body")).unwrap_or(Value::Null);
        if ours != case["detail"] {
            differ.push(format!("{} {}\n ours    {ours}\n pydantic {}", text("path"), text("body"), case["detail"]));
        }
        cases += 1;
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
    assert!(cases > 120, "only {cases} cases were recorded");
}

#[test]
fn a_refusal_never_repeats_a_key() {
    let key = "0123456789abcdef".repeat(4);
    let bodies = [
        ("vectors/get", json!({"index_name": "a", "index_key": key})),
        ("vectors/get", json!({"index_name": "a", "index_key": [key], "ids": 5})),
        ("vectors/get", json!({"index_name": 5, "index_key": {"k": key}, "ids": [key, 1]})),
        ("vectors/get", json!([key])),
        ("vectors/upsert", json!({"index_name": "a", "index_key": key, "items": [{"index_key": key}]})),
        ("indexes/create", json!({"index_key": key, "metadata_schema": {"x": {"index_key": key}, (key.clone()): 1}})),
        ("vectors/query", json!({"index_key": key})),
        ("vectors/query", json!(json!({"index_name": "a", "index_key": key}).to_string())),
    ];
    for (path, body) in bodies {
        for content_type in ["application/json", "text/plain"] {
            let body = body.to_string();
            let detail = refusal(&format!("/v1/{path}"), content_type, &body).expect("a bad body").to_string();
            assert!(!detail.contains(&key) && !detail.contains(&key[..40]), "{body} => {detail}");
        }
    }
}

#[test]
fn not_a_number_is_read_as_one_beyond_all() {
    let body = br#"{"index_name":"a","query_vectors":[NaN,0,-Infinity]}"#;
    let mut vectors = QueryVectors::default();
    read_bytes(body, b"application/json", |json| {
        vectors = Query::parse(json)?.vectors;
        Ok(())
    })
    .expect("Python takes it, so it is no 422");
    assert_eq!((vectors.count, vectors.width), (1, Some(3)));
    assert!(!all_finite(&vectors.bytes));
}

#[test]
fn finite_is_what_float32_holds() {
    let bytes = |floats: &[f32]| floats.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    assert!(all_finite(&bytes(&[0.0, -0.0, f32::MAX, f32::MIN, f32::MIN_POSITIVE / 2.0, 1.5])));
    for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e39_f64 as f32] {
        assert!(!all_finite(&bytes(&[1.0, odd, 2.0])), "{odd}");
    }
}

#[test]
fn vectors_of_a_query_are_rows() {
    let read = |text: &'static str| Query::parse(Json::parse(text).expect("JSON")).expect("a query").vectors;
    let row = |floats: &[f32]| floats.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let cases = [
        (r#"{"index_name":"a","query_vectors":[1,2.5,-3e0]}"#, row(&[1.0, 2.5, -3.0]), 1, Some(3)),
        (r#"{"index_name":"a","query_vectors":[[1,2]]}"#, row(&[1.0, 2.0]), 1, Some(2)),
        (r#"{"index_name":"a","query_vectors":[[1,2],["3",true]]}"#, row(&[1.0, 2.0, 3.0, 1.0]), 2, Some(2)),
        (r#"{"index_name":"a","query_vectors":[[1,2],[3]]}"#, row(&[1.0, 2.0, 3.0]), 2, None),
        (r#"{"index_name":"a","query_vectors":[]}"#, vec![], 0, None),
        (r#"{"index_name":"a","query_vectors":null}"#, vec![], 0, None),
        (r#"{"index_name":"a","query_vectors":[[]]}"#, vec![], 1, Some(0)),
        // Two roundings, as the original has them: through float64.
        (r#"{"index_name":"a","query_vectors":[0.1]}"#, row(&[0.1]), 1, Some(1)),
    ];
    for (text, bytes, count, width) in cases {
        assert_eq!(read(text), QueryVectors { bytes, count, width }, "{text}");
    }
}

#[test]
fn empty_contents_and_metadata_are_none() {
    let text = r#"{"index_name":"a","items":[{"id":"1","vector":[1],"contents":"","metadata":{}},
        {"id":"2","contents":"x","metadata":{"big":12345678901234567890, "f":1.0}},{"id":"3","vector":null}]}"#;
    let items = UpsertRequest::parse(Json::parse(text).expect("JSON")).expect("an upsert").items;
    assert_eq!(items.ids, ["1", "2", "3"]);
    assert_eq!(items.widths, [Some(1), None, None]);
    assert_eq!(items.contents.iter().map(|c| c.as_deref()).collect::<Vec<_>>(), [None, Some("x"), None]);
    let metadata: Vec<_> = items.metadata.iter().map(|object| object.map(Json::text)).collect();
    assert_eq!(metadata, [None, Some(r#"{"big":12345678901234567890, "f":1.0}"#), None]);
}
