//! What a user's token learns of an index that is not its own: nothing, not even whether there is one.

use sealvec_e2e::sidecar::{ROLE, ROOT_KEY};
use sealvec_e2e::{Cluster, Http, Sidecar, eventually, one, run};
use serde_json::{Value, json};

use super::made::base64;

const KEY: &str = "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1";

/// Every route that takes a user's token, with what it is asked; most of it is answered by what the index is.
fn requests(index: &str) -> Vec<(&'static str, Value)> {
    let three = base64(&[0; 12]);
    let bodies = [
        ("/v1/indexes/describe", json!({})),
        ("/v1/vectors/list_ids", json!({})),
        ("/v1/vectors/num_vectors", json!({})),
        ("/v1/vectors/get", json!({"ids": ["1"]})),
        ("/v1/vectors/delete", json!({"ids": ["1"]})),
        ("/v1/vectors/query", json!({"query_vectors": [1, 0, 0]})),
        ("/v1/vectors/query", json!({"query_vectors": [1, 0]})),
        ("/v1/vectors/query", json!({"query_vectors": [[1, 0], [1]]})),
        ("/v1/vectors/query", json!({"query_vectors": [1, 0], "top_k": 0})),
        ("/v1/vectors/query", json!({"query_vectors": [1, 0], "filters": {"$no": 1}})),
        ("/v1/vectors/query", json!({"query_vectors": [1, 0], "text": "fox"})),
        ("/v1/vectors/query", json!({"query_vectors": [1, 0], "text": "fox", "text_fields": ["title"]})),
        ("/v1/vectors/query", json!({"query_contents": "fox"})),
        ("/v1/vectors/query", json!({"query_contents": "fox", "text": "fox"})),
        ("/v1/vectors/query", json!({})),
        ("/v1/vectors/query_binary", json!({"batch": {"vectors_b64": three, "dimension": 3}})),
        ("/v1/vectors/query_binary", json!({"batch": {"vectors_b64": three, "dimension": 2}})),
        ("/v1/vectors/query_binary", json!({"batch": {"vectors_b64": "", "dimension": 3}})),
        ("/v1/vectors/query_metadata", json!({})),
        ("/v1/vectors/query_metadata", json!({"filters": {"title": 1}})),
        ("/v1/vectors/query_metadata", json!({"text": "fox", "text_fields": ["body"]})),
        ("/v1/vectors/upsert", json!({"items": []})),
        ("/v1/vectors/upsert", json!({"items": [{"id": "1", "vector": [1, 0, 0]}]})),
        ("/v1/vectors/upsert", json!({"items": [{"id": "1", "vector": [1, 0]}, {"id": "2", "vector": [1]}]})),
        ("/v1/vectors/upsert", json!({"items": [{"id": "1", "contents": "fox"}]})),
        ("/v1/vectors/upsert", json!({"items": [{"id": "1"}]})),
        ("/v1/vectors/upsert_binary", json!({"batch": {"ids": ["1"], "vectors_b64": three, "dimension": 3}})),
        ("/v1/vectors/upsert_binary", json!({"batch": {"ids": ["1", "2"], "vectors_b64": three, "dimension": 3}})),
    ];
    let named = |mut body: Value| {
        body["index_name"] = json!(index);
        body
    };
    bodies.into_iter().map(|(path, body)| (path, named(body))).collect()
}

/// Makes a user of an index; his token and id.
fn user(root: &mut Http, index: &str, index_key: Option<&str>) -> (String, String) {
    let body = json!({"permissions": ["read", "write"], "index_key": index_key});
    let made = root.must(&format!("/v1/indexes/{index}/users"), &body);
    let text = |name: &str| made[name].as_str().expect("a text").to_owned();
    (text("api_key"), text("user_id"))
}

#[test]
fn a_token_learns_of_no_index_but_its_own() {
    let cluster = Cluster::start("strangers", &[]);
    // No model's files are there: whoever gets as far as to embed hears so.
    let nowhere = cluster.home().join("no-models").display().to_string();
    let sidecar = Sidecar::start(&cluster, "strangers", &["--model-dir", &nowhere]);
    let mut root = sidecar.http();
    root.must("/v1/indexes/create", &json!({"index_name": "own", "index_key": KEY, "dimension": 3}));
    root.must("/v1/indexes/create", &json!({"index_name": "client-held", "index_key": KEY, "dimension": 5}));
    run(
        &mut cluster.connect_as(ROLE, "e2e"),
        "SELECT sealvec.create_index('embedding', 7, kms_name => 'local',
             embedding_model => 'sentence-transformers/all-MiniLM-L6-v2', metadata_schema => '{\"body\": {\"full_text\": true}}')",
    );
    let (stranger, _) = user(&mut root, "own", Some(KEY));
    let (revoked, id) = user(&mut root, "embedding", None);
    let gone = root.request("DELETE", &format!("/v1/indexes/embedding/users/{id}"), None).expect("an answer");
    assert_eq!(gone.status, 204);

    for (token, indexes) in
        [(&stranger, &["embedding", "client-held", "none", "default"][..]), (&revoked, &["embedding", "none"])]
    {
        let mut http = Http::new(sidecar.address(), Some(token));
        let mut ask = |index: &str| -> Vec<String> {
            let requests = requests(index);
            requests
                .into_iter()
                .map(|(path, body)| {
                    let answer = http.post(path, &body).expect("an answer");
                    let (status, text) = (answer.status, answer.text());
                    assert_eq!(status, 403, "{index} {path} {body}: {text}");
                    assert!(text.ends_with(": permission denied\"}"), "{index} {path} {body}: {text}");
                    text
                })
                .collect()
        };
        let first = ask(indexes[0]);
        for other in &indexes[1..] {
            assert_eq!(ask(other), first, "{other}");
        }
    }

    // The same requests do tell, and embed, who may know.
    let (token, _) = user(&mut root, "embedding", None);
    let mut http = Http::new(sidecar.address(), Some(&token));
    let mut told = Vec::new();
    for (path, body) in requests("embedding") {
        let answer = http.post(path, &body).expect("an answer");
        assert_ne!(answer.status, 403, "{path} {body}: {}", answer.text());
        told.push(format!("{} {}", answer.status, answer.text()));
    }
    let count = |what: &str| told.iter().filter(|answer| answer.contains(what)).count();
    assert!(count("503 ") >= 3 && count("embedding model unavailable") >= 3, "{told:#?}");
    assert!(count("index configuration (7)") >= 2 && count("expected 7, got") >= 2, "{told:#?}");
    assert!(count("which is not a full_text field") >= 1, "{told:#?}");
}

#[test]
fn a_plain_call_is_one_statement_whoever_calls() {
    let cluster = Cluster::start("round-trips", &["track_functions=all"]);
    let mut sidecar = Sidecar::start(&cluster, "round-trips", &[]);
    let mut root = Http::new(sidecar.address(), Some(ROOT_KEY));
    root.must("/v1/indexes/create", &json!({"index_name": "own", "index_key": KEY, "dimension": 3}));
    let (token, _) = user(&mut root, "own", Some(KEY));
    let mut user = Http::new(sidecar.address(), Some(&token));
    for round in 0..10 {
        for http in [&mut root, &mut user] {
            let items =
                json!([{"id": round.to_string(), "vector": [round, 1, 0], "contents": "c", "metadata": {"a": 1}}]);
            http.must("/v1/vectors/upsert", &json!({"index_name": "own", "index_key": KEY, "items": items}));
            let query = json!({"index_name": "own", "index_key": KEY, "query_vectors": [1, 0, 0], "filters": {"a": 1}});
            http.must("/v1/vectors/query", &query);
        }
    }
    // The text of a filter of query_metadata is checked against the schema: a user's key is looked at for that.
    for http in [&mut root, &mut user] {
        http.must("/v1/vectors/query_metadata", &json!({"index_name": "own", "index_key": KEY, "filters": {"a": 1}}));
    }
    sidecar.stop(); // its backends report what they counted when they end
    let mut client = cluster.client();
    let mut calls = |name: &str| -> i64 {
        let sql =
            format!("SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_user_functions WHERE funcname = '{name}'");
        one(&mut client, &sql)
    };
    eventually("the calls are counted", 30, || (calls("query") >= 20 && calls("query_metadata") >= 2).then_some(()));
    let counted = ["query", "upsert", "query_metadata", "index_info", "describe_index"].map(&mut calls);
    assert_eq!(counted, [20, 20, 2, 1, 1]);
}
