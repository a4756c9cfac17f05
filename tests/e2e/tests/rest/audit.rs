//! `GET /v1/audit`: for the root key, newest first, with a limit and a beginning; no key in it.

use sealvec_e2e::sidecar::{ROLE, ROOT_KEY};
use sealvec_e2e::{Cluster, Http, Sidecar, run};
use serde_json::{Value, json};

const KEY: &str = "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1";
const WRONG: &str = "b1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1";

fn status(http: &mut Http, path: &str) -> u16 {
    http.get(path).unwrap_or_else(|error| panic!("{path}: {error}")).status
}

fn events(http: &mut Http, query: &str) -> Vec<Value> {
    let answer = http.get(&format!("/v1/audit{query}")).expect("an answer");
    assert_eq!(answer.status, 200, "{query}: {}", answer.text());
    answer.json()["events"].as_array().expect("a list").clone()
}

#[test]
fn the_root_key_reads_what_was_done_with_keys() {
    let cluster = Cluster::start("rest-audit", &[]);
    let sidecar = Sidecar::start(&cluster, "rest-audit", &[]);
    let mut root = sidecar.http();
    root.must("/v1/indexes/create", &json!({"index_name": "docs", "index_key": KEY, "dimension": 2}));
    assert_eq!(status(&mut root, "/v1/audit"), 403, "the server's role may not, until somebody lets it");
    run(&mut cluster.client(), &format!("GRANT pg_read_all_stats TO {ROLE}"));

    let user = root.must("/v1/indexes/docs/users", &json!({"permissions": ["read"], "index_key": KEY}));
    let token = user["api_key"].as_str().expect("a text").to_owned();
    let wrong =
        root.post("/v1/vectors/num_vectors", &json!({"index_name": "docs", "index_key": WRONG})).expect("an answer");
    assert_eq!(wrong.status, 401);

    for (key, expected) in [(None, 401), (Some("no key"), 401), (Some(&*token), 403), (Some(ROOT_KEY), 200)] {
        assert_eq!(status(&mut Http::new(sidecar.address(), key), "/v1/audit"), expected, "{key:?}");
    }
    let all = events(&mut root, "");
    let of = |operation: &str| {
        all.iter().find(|event| event["operation"] == operation).unwrap_or_else(|| panic!("{operation}: {all:?}"))
    };
    assert_eq!(of("create_index")["result"], "ok");
    assert_eq!(of("create_index")["detail"], "index docs");
    assert_eq!(of("create_index")["session_user"], ROLE);
    assert_eq!(of("create_index")["client_addr"], "127.0.0.1");
    assert_eq!(of("create_index")["source"], "table");
    let detail = format!("index docs; user {}: read", user["user_id"].as_str().expect("a text"));
    assert_eq!(of("create_user")["detail"], detail);
    let failed = all.iter().find(|event| event["result"] == "failed").expect("the wrong key");
    assert_eq!(
        (&failed["operation"], &failed["sqlstate"], &failed["source"]),
        (&json!("open"), &json!("28P01"), &json!("memory"))
    );
    let text = serde_json::to_string(&all).expect("JSON");
    for secret in [KEY, WRONG, &token, token.trim_start_matches("cdbk_1_"), ROOT_KEY] {
        assert!(!text.contains(secret));
    }

    // Newest first, and not more than asked for.
    let times: Vec<&str> = all.iter().map(|event| event["time"].as_str().expect("a time")).collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "{times:?}");
    assert_eq!(events(&mut root, "?limit=1"), all[..1]);
    let since = events(&mut root, &format!("?since={}&limit=1000", times[1]));
    assert_eq!(since, all[..2]);
    assert_eq!(events(&mut root, "?since=2999-01-01T00%3A00%3A00%2B01%3A00"), [] as [Value; 0]);
    for bad in [
        "limit=0",
        "limit=1001",
        "limit=x",
        "since=yesterday",
        "since=2026-13-40T00:00:00Z",
        "since=99999999T",
        "before=1",
    ] {
        assert_eq!(status(&mut root, &format!("/v1/audit?{bad}")), 400, "{bad}");
    }
    let described = root.get("/v1/openapi.json").expect("an answer").json();
    assert!(described["paths"]["/v1/audit"]["get"]["responses"]["200"].is_object());
    cluster.log_is_clean();
}

#[test]
fn without_a_root_key_nobody_reads_the_audit() {
    let cluster = Cluster::start("rest-audit-open", &[]);
    let sidecar = Sidecar::start_with(
        &cluster,
        "rest-audit-open",
        &[],
        &[("SEALVEC_ROOT_KEY", ""), ("REQUIRE_API_KEY", "false")],
    );
    run(&mut cluster.client(), &format!("GRANT pg_read_all_stats TO {ROLE}"));
    for key in [None, Some("any"), Some(ROOT_KEY)] {
        assert_eq!(status(&mut Http::new(sidecar.address(), key), "/v1/audit"), 403, "{key:?}");
    }
}
