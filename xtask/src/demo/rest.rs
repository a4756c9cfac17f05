//! The documented round over HTTP: create, upsert, query, get, delete, delete index, through a sidecar of the demo's own.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::SHOWN;
use super::data::{Kek, Packages};
use crate::data::random_bytes;
use crate::pg::{Cluster, Profile};
use crate::sidecar::{self, Client, Sidecar};

/// Items of the index.
pub const ITEMS: usize = 1_000;
const INDEX: &str = "my_index";

/// Runs the round; returns the index's key and the API key, so that they can be searched for.
pub fn round(cluster: &Cluster, packages: &Packages) -> Result<[Kek; 2]> {
    let program = sidecar::program(super::PG, Profile::Release)?;
    let (root, key) = (Kek(random_bytes(32)?), Kek(random_bytes(32)?));
    let sidecar = Sidecar::start(&program, cluster, "postgres", &hex(&root.0), &["prod-aws"])?;
    let mut client = Client::new(&sidecar);
    println!("   sealvec-sidecar serve --listen {}", sidecar.url.trim_start_matches("http://"));
    let asked = hex(&key.0);
    let with = |rest: Value| {
        let mut body = json!({"index_name": INDEX, "index_key": asked});
        body.as_object_mut().expect("an object").extend(rest.as_object().expect("an object").clone());
        body
    };

    let made =
        client.post("/v1/indexes/create", &with(json!({"dimension": packages.vectors.dims, "metric": "cosine"})))?;
    println!("   POST /v1/indexes/create    {} {}", made.status, made.body);
    made.ok()?;
    let items: Vec<Value> = packages.sealed().take(ITEMS).map(|row| item(packages, row)).collect();
    let begun = Instant::now();
    let done = client.post("/v1/vectors/upsert", &with(json!({"items": items})))?;
    println!("   POST /v1/vectors/upsert    {} {}  ({:.0} ms)", done.status, done.body, milliseconds(begun));
    done.ok()?;

    let question = packages.questions.row(SHOWN[0]);
    let ask = with(json!({"query_vectors": question, "top_k": 3, "include": ["distance", "metadata"]}));
    client.post("/v1/vectors/query", &ask)?.ok()?; // the first opens the index's directory
    let begun = Instant::now();
    let found = client.post("/v1/vectors/query", &ask)?.ok()?;
    println!(
        "   POST /v1/vectors/query     \"{}\"  ({:.1} ms)",
        packages.question_texts[SHOWN[0]],
        milliseconds(begun)
    );
    let rows = found["results"].as_array().context("no results")?;
    ensure!(rows.len() == 3, "expected 3 rows, got {}", rows.len());
    let mut exact: Vec<(f64, &str)> =
        packages.sealed().take(ITEMS).map(|row| (packages.distance(row, question), packages.name(row))).collect();
    exact.sort_by(|a, b| a.0.total_cmp(&b.0));
    for (row, (distance, _)) in rows.iter().zip(&exact) {
        let (id, told) = (row["id"].as_str().context("no id")?, row["distance"].as_f64().context("no distance")?);
        println!("     {told:.4}  {id:28} {}", row["metadata"]);
        ensure!((told - distance).abs() < 1e-4, "{id}: expected distance {distance}, the sidecar says {told}");
    }
    let first = rows[0]["id"].clone();
    let got = client.post("/v1/vectors/get", &with(json!({"ids": [first], "include": ["contents"]})))?.ok()?;
    let contents = got["results"][0]["contents"].as_str().context("no contents")?;
    println!("   POST /v1/vectors/get       {first}: {}…", contents.chars().take(60).collect::<String>());
    let row = first.as_str().and_then(|id| packages.row_of(id)).context("an id that was never stored")?;
    ensure!(contents == self::contents(packages, row), "{first} has other contents than it was given");

    let done = client.post("/v1/vectors/delete", &with(json!({"ids": [first]})))?.ok()?;
    println!("   POST /v1/vectors/delete    {done}");
    let again = client.post("/v1/vectors/query", &ask)?.ok()?;
    ensure!(again["results"][0]["id"] != first, "{first} was deleted and is still found");
    let mut wrong = key.0.clone();
    wrong[31] ^= 1;
    let refused = client.post("/v1/indexes/delete", &json!({"index_name": INDEX, "index_key": hex(&wrong)}))?;
    println!(
        "   POST /v1/indexes/delete    with a key that differs in one bit: {} {}",
        refused.status, refused.body["detail"]
    );
    ensure!(refused.status == 401, "a wrong key was not refused");

    let kms = json!({"index_name": "kms_index", "kms_name": "prod-aws", "dimension": 4});
    client.post("/v1/indexes/create", &kms)?.ok()?;
    client.post("/v1/indexes/delete", &json!({"index_name": "kms_index"}))?.ok()?;
    let done = client.post("/v1/indexes/delete", &with(json!({})))?.ok()?;
    println!("   POST /v1/indexes/delete    {done}");
    let listed = client.get("/v1/indexes/list")?.ok()?;
    ensure!(listed["indexes"].as_array().is_some_and(Vec::is_empty), "an index is left over: {listed}");
    Ok([root, key])
}

fn item(packages: &Packages, row: usize) -> Value {
    json!({
        "id": packages.name(row),
        "vector": packages.vectors.row(row),
        "contents": contents(packages, row),
        "metadata": {"note": note(packages, row)},
    })
}

/// Contents that stand nowhere else: the demo's own tables hold the descriptions in the clear.
pub fn contents(packages: &Packages, row: usize) -> String {
    packages.description(row).to_uppercase()
}

/// The same for metadata.
pub fn note(packages: &Packages, row: usize) -> String {
    format!("kept beside {}", packages.name(row).to_uppercase())
}

fn milliseconds(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e3
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
