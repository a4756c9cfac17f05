//! Embedding models over HTTP, as far as no database is asked: what there is, what is unknown, what is missing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request};
use sealvec_sidecar::auth::Auth;
use sealvec_sidecar::db::{Pool, PoolSettings};
use sealvec_sidecar::embed::Local;
use sealvec_sidecar::limits::Limits;
use sealvec_sidecar::server::{Options, router};
use sealvec_sidecar::state::AppState;
use serde_json::{Value, json};
use tower::ServiceExt;

const ROOT: &str = "root key of a test";
const FULL_NAME: &str = "sentence-transformers/all-MiniLM-L6-v2";

/// Status, headers and body of an answer of a server whose model directory is empty and whose database is not there.
async fn ask(method: &str, path: &str, body: Value) -> (u16, HeaderMap, Value) {
    let config = "postgres://nobody@127.0.0.1:1/none".parse().unwrap();
    let settings = PoolSettings { wait_max: Duration::from_millis(200), ..PoolSettings::default() };
    let state = AppState {
        pool: Pool::new(config, None, &settings),
        auth: Arc::new(Auth::root(ROOT)),
        limits: Limits::default(),
        embedder: Some(Arc::new(Local::new("/nowhere/models".into(), None))),
        slots: Arc::new([]),
        started: Instant::now(),
    };
    let request = Request::builder().method(method).uri(path).header("x-api-key", ROOT);
    let request = request.header("content-type", "application/json").body(Body::from(body.to_string())).unwrap();
    let response = router(state, Options { metrics: None, cors_origins: vec![] }).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    (parts.status.as_u16(), parts.headers, serde_json::from_slice(&body).unwrap())
}

async fn create(with: Value) -> (u16, HeaderMap, String) {
    let mut body = json!({"index_name": "notes", "index_key": "5a".repeat(32)});
    body.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
    let (status, headers, body) = ask("POST", "/v1/indexes/create", body).await;
    assert_eq!(body["status_code"], status);
    (status, headers, body["detail"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn models_are_listed_whether_their_files_are_there_or_not() {
    let (status, _, body) = ask("GET", "/v1/embedding-models", Value::Null).await;
    let expected = json!({"models": [{"name": FULL_NAME, "dimension": 384, "max_seq_length": 256}]});
    assert_eq!((status, body), (200, expected));
}

#[tokio::test]
async fn an_index_with_an_unknown_model_is_refused_with_what_there_is() {
    let (status, _, detail) = create(json!({"embedding_model": "e5-base-v2"})).await;
    assert_eq!((status, detail), (400, format!("e5-base-v2 is not a supported model; supported: {FULL_NAME}")));
}

#[tokio::test]
async fn an_index_of_another_dimension_than_its_model_s_is_refused() {
    let (status, _, detail) = create(json!({"embedding_model": "all-MiniLM-L6-v2", "dimension": 768})).await;
    let expected = format!("dimension 768 does not match embedding model '{FULL_NAME}', which produces 384.");
    assert!(status == 400 && detail.contains(&expected), "{status} {detail}");
}

#[tokio::test]
async fn a_model_that_is_missing_says_which_directory_to_fill_and_when_to_come_back() {
    for name in ["all-MiniLM-L6-v2", "ALL-minilm-l6-V2", FULL_NAME] {
        let (status, headers, detail) = create(json!({"embedding_model": name})).await;
        assert_eq!((status, headers["retry-after"].to_str().unwrap()), (503, "30"), "{detail}");
        let files = format!("model.safetensors, tokenizer.json, config.json in /nowhere/models/{FULL_NAME}");
        assert!(detail.contains(&files) && detail.contains("pip install"), "{detail}");
    }
}
