//! schemathesis on our own OpenAPI: whatever it thinks of, no answer is a 5xx.

use std::process::Command;

use sealvec_e2e::packages::virtual_environment;
use sealvec_e2e::sidecar::{ROOT_KEY, SLOT};
use sealvec_e2e::xtask::root;
use sealvec_e2e::{Cluster, Sidecar};
use serde_json::json;

const KEY: &str = "5ea1edc0ffee0123456789abcdef00005ea1edc0ffee0123456789abcdef1111";

/// Examples for each operation; `SEALVEC_E2E_EXAMPLES` for more. `SEALVEC_E2E_SEED` repeats a run.
fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn schemathesis_finds_no_server_error() {
    let python = virtual_environment("python-schemathesis-4.32.5", &["schemathesis==4.32.5"]);
    let cluster = Cluster::start("sdk-fuzz", &[]);
    let mut sidecar = Sidecar::start(&cluster, "fuzz", &[]);
    let mut http = sidecar.http();
    // Something to hit: the hooks put these names and the key into most bodies.
    http.must("/v1/indexes/create", &json!({"index_name": "my_index", "index_key": KEY, "dimension": 2}));
    http.must("/v1/indexes/create", &json!({"index_name": "kms_index", "kms_name": SLOT, "dimension": 2}));
    let seed = number("SEALVEC_E2E_SEED", u64::from(std::process::id()));
    let output = Command::new(python.with_file_name("schemathesis"))
        .args(["run", &format!("{}/v1/openapi.json", sidecar.url())])
        .args(["--header", &format!("X-API-Key: {ROOT_KEY}")])
        .args(["--checks", "not_a_server_error", "--phases", "examples,coverage,fuzzing"])
        .args(["--max-examples", &number("SEALVEC_E2E_EXAMPLES", 20).to_string()])
        .args(["--seed", &seed.to_string(), "--request-timeout", "20", "--generation-database", "none", "--no-color"])
        .env("SCHEMATHESIS_HOOKS", "fuzz_hooks")
        .env("PYTHONPATH", root().join("tests/e2e/sdk/python"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("SEALVEC_INDEX_KEY", KEY)
        .current_dir(cluster.home())
        .output()
        .expect("schemathesis was installed");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let end: Vec<&str> = said.lines().rev().take(120).collect();
    let end = end.into_iter().rev().collect::<Vec<_>>().join("\n").replace(ROOT_KEY, "[root key]");
    let server_errors: Vec<String> =
        sidecar.log().lines().filter(|line| line.contains("ERROR")).take(5).map(str::to_owned).collect();
    println!("seed {seed}\n{end}");
    assert!(output.status.success(), "SEALVEC_E2E_SEED={seed}: schemathesis found something\n{end}\n{server_errors:?}");
    let fine =
        sidecar.log().lines().filter(|line| line.contains(r#"status="200""#) && line.contains("/v1/vectors")).count();
    assert!(fine > 20, "only {fine} requests came as far as an index");
    // It is still there.
    assert_eq!(http.get("/v1/health").expect("an answer").status, 200);
    for line in sidecar.log().lines() {
        assert!(!line.contains("panicked"), "the sidecar logged: {line}");
    }
    sidecar.stop();
    cluster.log_is_clean();
}
