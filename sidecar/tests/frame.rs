//! The router in this process, without a socket and without a database: what the frame answers by itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use sealvec_sidecar::auth::Auth;
use sealvec_sidecar::db::{Pool, PoolSettings};
use sealvec_sidecar::limits::Limits;
use sealvec_sidecar::server::{Options, router};
use sealvec_sidecar::state::AppState;
use sealvec_sidecar::telemetry::Metrics;
use serde_json::{Value, json};
use tower::ServiceExt;

const ROOT: &str = "root key of a test";

fn state(auth: Auth, limits: Limits) -> AppState {
    // Port 1 refuses at once.
    let config = "postgres://nobody@127.0.0.1:1/none".parse().unwrap();
    let settings = PoolSettings { wait_max: Duration::from_millis(200), ..PoolSettings::default() };
    AppState {
        pool: Pool::new(config, None, &settings),
        auth: Arc::new(auth),
        limits,
        embedder: None,
        slots: Arc::new([]),
        started: Instant::now(),
    }
}

fn service(auth: Auth) -> Router {
    router(state(auth, Limits::default()), Options { metrics: Some(Metrics::of_process()), cors_origins: vec![] })
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn error(&self) -> (u16, Value) {
        let body = self.json();
        assert_eq!(body["status_code"], self.status.as_u16());
        (self.status.as_u16(), body["detail"].clone())
    }
}

async fn send(service: &Router, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = service.clone().oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap().to_vec();
    Answer { status: parts.status, headers: parts.headers, body }
}

async fn get(service: &Router, path: &str) -> Answer {
    send(service, "GET", path, &[], "").await
}

#[tokio::test]
async fn unknown_paths_wrong_methods_and_slashes() {
    let service = service(Auth::root(ROOT));
    assert_eq!(get(&service, "/v1/nothing").await.error(), (404, json!("Not Found")));
    assert_eq!(get(&service, "/").await.error(), (404, json!("Not Found")));
    for (method, path) in [("POST", "/docs"), ("HEAD", "/docs"), ("OPTIONS", "/v1/docs"), ("DELETE", "/metrics")] {
        let answer = send(&service, method, path, &[], "").await;
        assert_eq!(answer.status, 405, "{method} {path}");
        if method == "HEAD" {
            assert_eq!(answer.body.len(), 0);
        } else {
            assert_eq!(answer.error(), (405, json!("Method Not Allowed")));
        }
        assert_eq!(answer.headers["allow"], "GET");
    }
    for (path, place) in [("/docs/", "/docs"), ("/v1/docs/?a=b&c", "/v1/docs?a=b&c")] {
        for method in ["GET", "POST"] {
            let answer = send(&service, method, path, &[], "").await;
            assert_eq!(
                (answer.status, answer.headers["location"].to_str().unwrap()),
                (StatusCode::TEMPORARY_REDIRECT, place)
            );
        }
    }
    // axum's own words would be a text.
    assert_eq!(get(&service, "/docs/%FF").await.error(), (400, json!("Bad Request")));
    // A slash leads nowhere if the path without it does not exist, and never to another host.
    for path in ["/nothing/", "//evil.example/", "//docs/", "/docs//"] {
        assert_eq!(get(&service, path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_request_has_an_id() {
    let service = service(Auth::root(ROOT));
    let made = get(&service, "/v1/nothing").await.headers["x-request-id"].clone();
    assert_eq!(made.len(), 32);
    assert_ne!(made, get(&service, "/v1/nothing").await.headers["x-request-id"]);
    let ask = async |id: &str| {
        let answer = send(&service, "GET", "/docs", &[("x-request-id", id)], "").await;
        answer.headers["x-request-id"].to_str().unwrap().to_owned()
    };
    assert_eq!(ask("Client-7_a.b").await, "Client-7_a.b");
    for insane in ["", "a b", "a\tb", "<script>", &"x".repeat(65), "ä"] {
        assert_ne!(ask(insane).await, insane);
    }
}

#[tokio::test]
async fn without_a_database_it_lives_but_is_not_ready() {
    let service = service(Auth::root(ROOT));
    let answer = get(&service, "/ready").await;
    assert_eq!(answer.error(), (503, json!("The database is not available")));
    assert_eq!(answer.headers["retry-after"], "2");
}

#[tokio::test]
async fn metrics_name_routes_by_pattern() {
    let service = service(Auth::root(ROOT));
    get(&service, "/docs/SECRET-NAME").await;
    get(&service, "/SECRET-NAME").await;
    send(&service, "SECRETMETHOD", "/docs", &[], "").await;
    let text = get(&service, "/metrics").await.text();
    assert!(text.contains(r#"sealvec_http_requests_total{method="GET",route="/docs/{file}",status="404"}"#), "{text}");
    assert!(text.contains(r#"method="other""#));
    assert!(text.contains("sealvec_http_request_duration_seconds_bucket"));
    assert!(text.contains(r#"sealvec_db_connections{state="idle"}"#));
    assert!(!text.contains("SECRET"));
    let without = router(state(Auth::root(ROOT), Limits::default()), Options::default());
    assert_eq!(get(&without, "/metrics").await.status, 404);
}

#[tokio::test]
async fn documentation_needs_nothing_from_elsewhere() {
    let service = service(Auth::root(ROOT));
    let openapi = get(&service, "/v1/openapi.json").await;
    assert_eq!(openapi.headers["content-type"], "application/json");
    assert!(openapi.json()["openapi"].as_str().unwrap().starts_with("3."));
    for (page, folder) in [("/docs", ""), ("/v1/docs", "/v1")] {
        let html = get(&service, page).await;
        assert_eq!(html.headers["content-type"], "text/html; charset=utf-8");
        let policy = html.headers["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("http"), "{policy}");
        assert!(!policy.contains("script-src 'self' 'unsafe"));
        let html = html.text();
        assert!(!html.contains("//"), "an absolute address: {html}");
        let mut loaded = 0;
        for attribute in ["src=\"", "href=\""] {
            for (at, _) in html.match_indices(attribute) {
                let place = html[at + attribute.len()..].split('"').next().unwrap();
                let file = get(&service, &format!("{folder}/{place}")).await;
                assert_eq!(file.status, 200, "{place}");
                assert!(file.body.len() > 100);
                loaded += 1;
            }
        }
        assert_eq!(loaded, 4);
        // The description's address, as a browser resolves it.
        let place = html.split("data-openapi=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!(get(&service, &format!("{folder}/{place}")).await.status, 200);
        // Swagger UI asks validator.swagger.io unless it is told not to.
        assert!(get(&service, &format!("{page}/start.js")).await.text().contains("validatorUrl: null"));
        let css = get(&service, &format!("{page}/swagger-ui.css")).await.text();
        for (at, _) in css.match_indices("url(") {
            let address = css[at + 4..].trim_start_matches(['"', '\'']);
            assert!(address.starts_with("data:"), "{}", &address[..40]);
        }
        assert!(!css.contains("@import"));
    }
    assert_eq!(get(&service, "/docs/..%2Fstart.js").await.status, 404);
}

#[tokio::test]
async fn the_description_refers_to_nothing_that_it_lacks() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let openapi = get(&service(Auth::root(ROOT)), "/v1/openapi.json").await.json();
    let mut found = Vec::new();
    references(&openapi, &mut found);
    assert!(found.len() > 20);
    for reference in found {
        let place = reference.strip_prefix('#').unwrap();
        assert!(openapi.pointer(place).is_some(), "{reference}");
    }
    for (path, methods) in openapi["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            for scheme in operation["security"].as_array().into_iter().flatten() {
                for name in scheme.as_object().unwrap().keys() {
                    assert!(openapi["components"]["securitySchemes"][name].is_object(), "{method} {path}: {name}");
                }
            }
        }
    }
}

/// Every route of the description but the open ones, so that a new route cannot be forgotten.
#[tokio::test]
async fn the_key_comes_before_the_body() {
    const OPEN: [&str; 1] = ["/v1/health"];
    let service = service(Auth::root(ROOT));
    let openapi = get(&service, "/v1/openapi.json").await.json();
    let paths = openapi["paths"].as_object().unwrap();
    assert!(paths.len() >= 19, "the routes of the original have 19 paths, not {}", paths.len());
    for (path, methods) in paths {
        for method in methods.as_object().unwrap().keys().filter(|_| !OPEN.contains(&path.as_str())) {
            let method = method.to_uppercase();
            // The one route that the original's older version leaves open says nothing without a key.
            if path == "/v1/indexes/training-status" {
                continue;
            }
            let path = path.replace("{index_name}", "a").replace("{user_id}", "00");
            for (headers, detail) in [
                (&[][..], "API Key is required"),
                (&[("x-api-key", "")], "API Key is required"),
                (&[("x-api-key", "wrong")], "Invalid API Key"),
                (&[("x-api-key", "cdbk_1_wrong")], "Invalid user API key"),
            ] {
                let answer = send(&service, &method, &path, headers, "{not json").await;
                assert_eq!(answer.error(), (401, json!(detail)), "{method} {path}");
            }
        }
    }
}

#[tokio::test]
async fn cors_is_off_unless_configured() {
    let ask = async |origins: &[&str], origin: &str| {
        let options =
            Options { metrics: None, cors_origins: origins.iter().map(|origin| origin.to_string()).collect() };
        let service = router(state(Auth::root(ROOT), Limits::default()), options);
        let preflight = [("origin", origin), ("access-control-request-method", "POST")];
        let asked = send(&service, "OPTIONS", "/v1/docs", &preflight, "").await;
        let simple = send(&service, "GET", "/v1/openapi.json", &[("origin", origin)], "").await;
        let allowed = |answer: &Answer| answer.headers.get("access-control-allow-origin").is_some();
        assert_eq!(allowed(&asked), allowed(&simple));
        (asked.status.as_u16(), allowed(&asked))
    };
    assert_eq!(ask(&[], "https://a.example").await, (405, false));
    assert_eq!(ask(&["https://a.example"], "https://a.example").await, (200, true));
    assert_eq!(ask(&["https://a.example"], "https://b.example").await, (200, false));
    assert_eq!(ask(&["*"], "https://b.example").await, (200, true));
}
