//! Which of several faults a request is answered for: the table of docs/COMPATIBILITY.md, walked pair by pair.

use std::fs;

use sealvec_e2e::sidecar::ROOT_KEY;
use sealvec_e2e::xtask::root;
use sealvec_e2e::{Cluster, Sidecar};
use serde_json::{Value, json};

use super::wire::send;

/// The faults, in the table's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    ApiKey,
    Route,
    Body,
    Stranger,
    Index,
    Value,
    IndexKey,
    Permission,
}

const FAULTS: [Fault; 8] = [
    Fault::ApiKey,
    Fault::Route,
    Fault::Body,
    Fault::Stranger,
    Fault::Index,
    Fault::Value,
    Fault::IndexKey,
    Fault::Permission,
];

/// The statuses of the table, in its order.
fn table() -> Vec<u16> {
    let page = fs::read_to_string(root().join("docs/COMPATIBILITY.md")).expect("the page is there");
    let (_, from) = page.split_once("## Which fault is answered first").expect("the section is there");
    let section = from.split("\n## ").next().expect("split gives one");
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let rows = section.lines().filter(|line| line.starts_with("| ")).map(cells);
    rows.filter_map(|row| row[0].parse::<usize>().ok().map(|_| row[1].parse().expect("a status"))).collect()
}

struct Server {
    sidecar: Sidecar,
    key: String,
    /// May write and not read.
    writer: String,
    /// May do everything with another index.
    stranger: String,
}

impl Server {
    fn start(cluster: &Cluster) -> Self {
        let sidecar = Sidecar::start(cluster, "precedence", &[]);
        let mut server = Self { sidecar, key: "a1".repeat(32), writer: String::new(), stranger: String::new() };
        for name in ["a", "other"] {
            let index = json!({"index_name": name, "index_key": server.key, "dimension": 2});
            server.post(ROOT_KEY, "/v1/indexes/create", index);
        }
        let items = json!([{"id": "1", "vector": [1, 0]}]);
        server.post(
            ROOT_KEY,
            "/v1/vectors/upsert",
            json!({"index_name": "a", "index_key": server.key, "items": items}),
        );
        server.writer = server.user("a", json!(["write"]));
        server.stranger = server.user("other", json!(["read", "write"]));
        server
    }

    fn user(&self, index: &str, permissions: Value) -> String {
        let user = json!({"permissions": permissions, "index_key": self.key});
        let answer = self.post(ROOT_KEY, &format!("/v1/indexes/{index}/users"), user);
        answer["api_key"].as_str().expect("a token").to_owned()
    }

    fn post(&self, api_key: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.ask(Some(api_key), path, &body);
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    fn ask(&self, api_key: Option<&str>, path: &str, body: &Value) -> (u16, Value) {
        let mut headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
        headers.extend(api_key.map(|key| ("X-API-Key".to_owned(), key.to_owned())));
        let answer = send(&self.sidecar.address(), "POST", path, &headers, Some(&body.to_string()));
        let body: Value = serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("no JSON: {}", answer.body));
        if answer.status != 200 {
            assert_eq!(body["status_code"], answer.status, "{body}");
        }
        (answer.status, body)
    }

    /// Asks with all of `faults`; nothing if no request has them all.
    fn with(&self, faults: &[Fault], wrong_dimension: bool) -> Option<(u16, Value)> {
        let has = |fault| faults.contains(&fault);
        // A user's token is his index key, and whoever shows no API key, or the root key, is no user. A user of an index
        // that is not there, and one who lacks a permission on an index that is not his, is a stranger.
        let no_user = [Fault::IndexKey, Fault::Route, Fault::Index, Fault::Stranger];
        if has(Fault::Permission) && no_user.into_iter().any(has) {
            return None;
        }
        let by_user = has(Fault::Permission) || has(Fault::Route) || has(Fault::Stranger);
        let api_key = match (has(Fault::ApiKey), by_user) {
            (true, true) => Some("cdbk_1_not-a-token"),
            (true, false) => None,
            (false, true) if has(Fault::Stranger) => Some(self.stranger.as_str()),
            (false, true) => Some(self.writer.as_str()),
            (false, false) => Some(ROOT_KEY),
        };
        let index = if has(Fault::Index) { "zzz" } else { "a" };
        let key = if has(Fault::IndexKey) { "b2".repeat(32) } else { self.key.clone() };
        let mut body = json!({"index_name": index, "index_key": key});
        let path = if has(Fault::Route) {
            // Only an administrator trains.
            body["n_lists"] = if has(Fault::Body) { json!("x") } else { json!(if has(Fault::Value) { -1 } else { 2 }) };
            "/v1/indexes/train"
        } else {
            let bad = has(Fault::Value);
            body["query_vectors"] = if bad && wrong_dimension { json!([1, 0, 0]) } else { json!([1, 0]) };
            body["top_k"] = json!(if bad && !wrong_dimension { 0 } else { 1 });
            if has(Fault::Body) {
                body["include"] = Value::Null;
            }
            "/v1/vectors/query"
        };
        Some(self.ask(api_key, path, &body))
    }
}

#[test]
fn the_first_fault_of_the_table_is_answered() {
    let table = table();
    assert_eq!(table, [401, 403, 422, 403, 404, 400, 401, 403], "the table of docs/COMPATIBILITY.md");
    let cluster = Cluster::start("precedence", &[]);
    let server = Server::start(&cluster);
    assert_eq!(server.with(&[], false).expect("a good request").0, 200);
    let mut pairs = 0;
    for (first, status) in FAULTS.iter().zip(&table) {
        let alone = server.with(&[*first], false).expect("any fault can come alone");
        assert_eq!(alone.0, *status, "{first:?}: {}", alone.1);
        for second in FAULTS.iter().skip_while(|fault| *fault != first).skip(1) {
            for wrong_dimension in [false, true] {
                // Who may not read an index is not told its dimension.
                if wrong_dimension && (*first, *second) == (Fault::Value, Fault::Permission) {
                    continue;
                }
                let Some((found, answer)) = server.with(&[*first, *second], wrong_dimension) else { continue };
                assert_eq!(found, *status, "{first:?} and {second:?}, wrong dimension {wrong_dimension}: {answer}");
                pairs += 1;
            }
        }
    }
    assert!(pairs > 30, "only {pairs} pairs");
}
