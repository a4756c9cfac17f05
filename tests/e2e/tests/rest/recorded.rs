//! Every recorded exchange, in its order, on fresh indexes of a real server: the same answer, or a listed other one.
//!
//! `tests/data/cyborgdb_differences.jsonl` lists them, each with its reason; docs/COMPATIBILITY.md tells of them. A
//! difference that is not listed fails, and so does a listed one that is none any more.

use std::collections::{BTreeMap, HashMap, HashSet};

use sealvec_e2e::sidecar::ROOT_KEY;
use sealvec_e2e::{Cluster, Sidecar, run};
use serde_json::{Value, json};

use super::exchange::{Difference, Exchange, Setup, differences, exchanges, setups};
use super::same::{has, same, sort_rows, sort_ties, without_additions, without_keys};
use super::wire::{Answer, send};
use super::{made, wire};

/// Exchanges whose answers hang on numbers that were cut: status, and count of rows where that does not.
const BY_STATUS: [(&str, Option<usize>); 8] = [
    ("openapi", None),
    ("openapi_noauth", None),
    ("lim_query_topk5000", Some(5_000)),
    ("at_q_trained", Some(3)),
    ("at_q_topk_gt", Some(500)),
    ("mt_topk600_np1", Some(600)),
    ("mt_filter_trained", Some(0)),
    ("conc_list", None),
];

/// A server in one of the recorded modes.
struct Replay {
    mode: String,
    sidecar: Sidecar,
    /// Placeholders of the recording, and what stands for them.
    words: BTreeMap<String, String>,
    listed: HashMap<String, Difference>,
    wrong: Vec<String>,
    replayed: usize,
}

fn words() -> BTreeMap<String, String> {
    let key = |digit: &str| digit.repeat(32);
    [
        ("<KEY_A hex>", key("a1")),
        ("<KEY_B hex>", key("b2")),
        ("<KEY_P hex>", key("c3")),
        ("<ROOT_KEY>", ROOT_KEY.to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

impl Replay {
    fn fill(&self, text: &str) -> String {
        self.words.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name.as_str(), value))
    }

    fn send(&self, method: &str, path: &str, headers: &HashMap<String, String>, body: Option<&str>) -> Answer {
        let headers: Vec<(String, String)> =
            headers.iter().map(|(name, value)| (name.clone(), self.fill(value))).collect();
        send(&self.sidecar.address(), method, &self.fill(path), &headers, body)
    }

    fn keep_user(&mut self, answer: &Value, token: &str, user: &str) {
        let text = |name: &str| answer[name].as_str().unwrap_or_else(|| panic!("no {name} in {answer}")).to_owned();
        assert!(text("api_key").starts_with("cdbk_1_") && text("api_key").len() == 82);
        self.words.insert(format!("<{token}>"), text("api_key"));
        self.words.insert(user.to_owned(), text("user_id"));
    }

    fn set_up(&mut self, setup: &Setup) {
        if let Some(text) = &setup.body
            && let Ok(Value::Array(made)) = serde_json::from_str::<Value>(text.get())
            && let [Value::String(index), from, to, dimension] = &made[..]
        {
            let number = |value: &Value| usize::try_from(value.as_u64().expect("a number")).expect("fits");
            let (from, to, dimension) = (number(from), number(to), number(dimension));
            let body = made::upsert(index, &self.words["<KEY_A hex>"], from, to, dimension).to_string();
            let answer = self.send(&setup.method, &setup.path, &setup.headers, Some(&body));
            assert_eq!(answer.status, 200, "before {}: {}", setup.before, answer.body);
            return;
        }
        let body = setup.body.as_ref().map(|body| self.fill(body.get()));
        let answer = self.send(&setup.method, &setup.path, &setup.headers, body.as_deref());
        if !matches!(answer.status, 200 | 204) {
            self.wrong.push(format!("before {}: {} {}", setup.before, answer.status, answer.body));
            return;
        }
        if let (Some(token), Some(user)) = (&setup.token, &setup.user) {
            let answer: Value = serde_json::from_str(&answer.body).expect("a user is JSON");
            self.keep_user(&answer, token, user);
        }
    }

    fn replay(&mut self, exchange: &Exchange) {
        let name = &exchange.name;
        let listed = self.listed.remove(name);
        if let Some(Difference { status: None, .. }) = listed {
            return;
        }
        self.replayed += 1;
        let key = &self.words["<KEY_A hex>"];
        let body = made::body(&exchange.mode, name, key).or_else(|| exchange.body().map(|body| self.fill(&body)));
        let answer = self.send(&exchange.method, &exchange.path, &exchange.request_headers, body.as_deref());
        let recorded = self.agrees(exchange, &answer);
        match (recorded, listed) {
            (Ok(()), None) => {}
            (Ok(()), Some(_)) => self.wrong.push(format!("{name}: listed as different, and is the same")),
            (Err(why), None) => self.wrong.push(format!("{name}: {why}")),
            (Err(_), Some(listed)) => {
                if let Err(why) = as_listed(&answer, &listed) {
                    self.wrong.push(format!("{name}: differs, but not as listed: {why}"));
                }
            }
        }
    }

    /// Whether `answer` is what was recorded.
    fn agrees(&mut self, exchange: &Exchange, answer: &Answer) -> Result<(), String> {
        let differ = || {
            let recorded = exchange.response_body.to_string();
            Err(format!(
                "\n    ours   {} {:.1500}\n    theirs {} {recorded:.1500}",
                answer.status,
                answer.body,
                exchange.status.map_or("crash".to_owned(), |status| status.to_string()),
            ))
        };
        if Some(answer.status) != exchange.status {
            return differ();
        }
        if let Some((_, rows)) = BY_STATUS.iter().find(|(name, _)| name == &exchange.name) {
            let body: Value = serde_json::from_str(&answer.body).map_err(|error| error.to_string())?;
            let found = body["results"].as_array().map(Vec::len);
            return if rows.is_none() || found == *rows { Ok(()) } else { differ() };
        }
        if answer.status == 307 {
            return match answer.location.as_deref() {
                Some(place) if place.ends_with("/v1/health") => Ok(()),
                other => Err(format!("leads to {other:?}")),
            };
        }
        if exchange.response_body == "" {
            return if answer.body.is_empty() || exchange.method == "HEAD" { Ok(()) } else { differ() };
        }
        let Ok(ours) = serde_json::from_str::<Value>(&answer.body) else { return differ() };
        let mut ours = without_additions(answer.status, &ours)?;
        let mut theirs = exchange.response_body.clone();
        without_keys(&mut theirs);
        if exchange.method == "POST" && exchange.path.ends_with("/users") && answer.status == 200 {
            let user = theirs["user_id"].as_str().expect("recorded").to_owned();
            // user_create_i_k1_r: the key that is <USERKEY i_k1 r> later on.
            let named = exchange.name.strip_prefix("user_create_").and_then(|rest| rest.rsplit_once('_'));
            let token = named.map_or(exchange.name.clone(), |(index, may)| format!("USERKEY {index} {may}"));
            self.keep_user(&ours, &token, &user);
            return Ok(());
        }
        let body = exchange.body().unwrap_or_default();
        let unordered = exchange.path.ends_with("/list_ids")
            || (exchange.path.ends_with("/query_metadata")
                && !body.contains("\"views\"")
                && !body.contains("\"text\""));
        if unordered {
            sort_rows(&mut ours);
            sort_rows(&mut theirs);
        }
        sort_ties(&mut ours);
        sort_ties(&mut theirs);
        if same(&ours, &theirs) { Ok(()) } else { differ() }
    }
}

fn as_listed(answer: &Answer, listed: &Difference) -> Result<(), String> {
    let said = || format!("\n    ours   {} {:.1500}\n    listed {listed:?}", answer.status, answer.body);
    if Some(answer.status) != listed.status {
        return Err(said());
    }
    let Some(told) = &listed.body else { return Ok(()) };
    let Ok(ours) = serde_json::from_str::<Value>(&answer.body) else { return Err(said()) };
    let ours = without_additions(answer.status, &ours)?;
    match (ours.as_object(), told.as_object()) {
        (Some(ours), Some(told)) if has(ours, told) => Ok(()),
        _ => Err(said()),
    }
}

/// Replays all exchanges of a mode.
fn check(mode: &str, cluster: &Cluster, sidecar: Sidecar) {
    let listed = differences().into_iter().filter(|d| d.mode == mode).map(|d| (d.name.clone(), d)).collect();
    let mut replay = Replay { mode: mode.to_owned(), sidecar, words: words(), listed, wrong: Vec::new(), replayed: 0 };
    let mut setups: Vec<Setup> = setups().into_iter().filter(|setup| setup.mode == mode).collect();
    for exchange in exchanges().iter().filter(|exchange| exchange.mode == mode) {
        let (now, later): (Vec<Setup>, Vec<Setup>) =
            setups.into_iter().partition(|setup| setup.before == exchange.name);
        setups = later;
        for setup in &now {
            replay.set_up(setup);
        }
        replay.replay(exchange);
    }
    let Replay { mode, listed, mut wrong, replayed, .. } = replay;
    wrong.extend(listed.into_keys().map(|name| format!("{name}: listed, and no exchange has this name")));
    wrong.extend(setups.into_iter().map(|setup| format!("before {}: no exchange has this name", setup.before)));
    println!("{mode}: {replayed} exchanges replayed");
    assert!(wrong.is_empty(), "{} wrong of {replayed} in {mode}:\n{}", wrong.len(), wrong.join("\n"));
    cluster.log_is_clean();
}

const OPEN: [(&str, &str); 2] = [("SEALVEC_ROOT_KEY", ""), ("REQUIRE_API_KEY", "false")];

#[test]
fn without_a_key_every_recorded_answer_comes_again() {
    let cluster = Cluster::start("recorded-open", &[]);
    let sidecar = Sidecar::start_with(&cluster, "recorded-open", &[], &OPEN);
    every_route_is_described(&sidecar.address());
    check("noauth", &cluster, sidecar);
}

#[test]
fn with_a_root_key_and_kms_every_recorded_answer_comes_again() {
    let cluster = Cluster::start("recorded-root", &[]);
    for slot in ["k1", "s1", "byok"] {
        run(&mut cluster.client(), &format!("SELECT sealvec.create_kms('{slot}', 'local')"));
    }
    let sidecar = Sidecar::start(&cluster, "recorded-root", &[]);
    check("rootkey+kms(moto)", &cluster, sidecar);
}

#[test]
fn while_indexes_grow_every_recorded_answer_comes_again() {
    let cluster = Cluster::start("recorded-train", &[]);
    let sidecar = Sidecar::start(&cluster, "recorded-train", &[]);
    check("rootkey,AUTO_TRAIN_MIN_VECTORS=500", &cluster, sidecar);
    let cluster = Cluster::start("recorded-untrained", &[]);
    let sidecar = Sidecar::start_with(&cluster, "recorded-untrained", &[], &OPEN);
    check("noauth,AUTO_TRAIN_DISABLED", &cluster, sidecar);
}

#[test]
fn every_exchange_has_a_mode_that_is_replayed_or_is_listed() {
    let replayed = ["noauth", "rootkey+kms(moto)", "rootkey,AUTO_TRAIN_MIN_VECTORS=500", "noauth,AUTO_TRAIN_DISABLED"];
    let listed: HashSet<(String, String)> = differences().into_iter().map(|d| (d.mode, d.name)).collect();
    for exchange in exchanges() {
        let known = replayed.contains(&exchange.mode.as_str())
            || listed.contains(&(exchange.mode.clone(), exchange.name.clone()));
        assert!(known, "{} {}", exchange.mode, exchange.name);
    }
    for difference in differences() {
        assert!(!difference.reason.is_empty(), "{difference:?}");
    }
}

/// The bytes of an answer, where the order of members is part of what clients see.
#[test]
fn members_come_in_the_originals_order() {
    let cluster = Cluster::start("recorded-bytes", &[]);
    let sidecar = Sidecar::start(&cluster, "recorded-bytes", &[]);
    let key = "a1".repeat(32);
    let post = |path: &str, body: Value| {
        let headers = [("X-API-Key", ROOT_KEY), ("Content-Type", "application/json")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let answer = wire::send(&sidecar.address(), "POST", path, &headers, Some(&body.to_string()));
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.body
    };
    post("/v1/indexes/create", json!({"index_name": "a", "index_key": key, "dimension": 2}));
    // Metadata as it came: order of members, white space, 1.0, numbers beyond 64 bits.
    let metadata = r#"{"z": 1.0, "a":12345678901234567890,"m":[ 1e2 ]}"#;
    let body = format!(
        r#"{{"index_name":"a","index_key":"{key}","items":[{{"id":"1","vector":[1,0.5],"contents":"c","metadata":{metadata}}}]}}"#
    );
    let headers = [("X-API-Key", ROOT_KEY), ("Content-Type", "application/json")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let answer = wire::send(&sidecar.address(), "POST", "/v1/vectors/upsert", &headers, Some(&body));
    assert_eq!(answer.body, r#"{"status":"success","message":"Upserted 1 vectors"}"#);
    assert_eq!(
        post("/v1/vectors/get", json!({"index_name": "a", "index_key": key, "ids": ["1"]})),
        format!(r#"{{"results":[{{"id":"1","vector":[1.0,0.5],"contents":"c","metadata":{metadata}}}]}}"#)
    );
    let query =
        json!({"index_name": "a", "index_key": key, "query_vectors": [1, 0.5], "include": ["metadata", "distance"]});
    assert_eq!(
        post("/v1/vectors/query", query),
        format!(r#"{{"results":[{{"id":"1","distance":0.0,"metadata":{metadata}}}]}}"#)
    );
}

/// The routes of the original's own description, with their methods.
const ROUTES: [(&str, &str); 20] = [
    ("get", "/v1/health"),
    ("get", "/v1/indexes/list"),
    ("post", "/v1/indexes/create"),
    ("post", "/v1/indexes/describe"),
    ("post", "/v1/indexes/delete"),
    ("post", "/v1/indexes/train"),
    ("get", "/v1/indexes/training-status"),
    ("post", "/v1/indexes/{index_name}/users"),
    ("get", "/v1/indexes/{index_name}/users"),
    ("delete", "/v1/indexes/{index_name}/users/{user_id}"),
    ("post", "/v1/vectors/upsert"),
    ("post", "/v1/vectors/upsert_binary"),
    ("post", "/v1/vectors/query"),
    ("post", "/v1/vectors/query_binary"),
    ("post", "/v1/vectors/get"),
    ("post", "/v1/vectors/delete"),
    ("post", "/v1/vectors/list_ids"),
    ("post", "/v1/vectors/num_vectors"),
    ("post", "/v1/vectors/query_metadata"),
    ("get", "/v1/embedding-models"),
];

fn every_route_is_described(address: &str) {
    let answer = send(address, "GET", "/v1/openapi.json", &[], None);
    let described: Value = serde_json::from_str(&answer.body).expect("a description is JSON");
    for (method, path) in ROUTES {
        assert!(
            described["paths"][path][method]["responses"]["422"].is_object() || path == "/v1/health",
            "{method} {path}"
        );
    }
}
