//! `bench --rest`: an encrypted index through the sidecar, over HTTP, with nothing set.

use std::fmt::Write as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::json;

use super::measure::Ground;
use super::truth::{K, Metric};
use crate::data::random_bytes;
use crate::run::step;
use crate::sidecar::{Client, Sidecar};

/// Vectors of a request.
const BATCH: usize = 1_000;
/// Clients at a time, besides one alone.
const CLIENTS: usize = 8;
const INDEX: &str = "bench";

/// What was measured.
#[derive(Serialize)]
pub struct Rest {
    pub upserts_per_second: f64,
    pub upserts_per_second_two: f64,
    pub recall: f64,
    pub one: Timing,
    pub many: Timing,
}

#[derive(Serialize)]
pub struct Timing {
    pub clients: usize,
    pub qps: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

/// Fills an index and asks it, through a sidecar of its own.
pub fn measure(ground: &Ground, program: &Path) -> Result<Rest> {
    let root_key = hex(&random_bytes(32)?);
    let sidecar = Sidecar::start(program, ground.cluster, super::measure::DATABASE, &root_key, &["local"])?;
    let key = hex(&random_bytes(32)?);
    let mut client = Client::new(&sidecar);
    let upserts_per_second_two = fill(ground, &sidecar, &mut client, &key, 2)?;
    client.post("/v1/indexes/delete", &json!({"index_name": INDEX, "index_key": key}))?.ok()?;
    let upserts_per_second = fill(ground, &sidecar, &mut client, &key, 1)?;
    let bodies: Vec<String> = ground.queries.iter().map(|query| body_of(query, &key)).collect();
    let recall = step("asking every query once", || recall(ground, &mut client, &bodies))?;
    let one = step("one client", || time(ground, &sidecar, &bodies, 1))?;
    let many = step(&format!("{CLIENTS} clients"), || time(ground, &sidecar, &bodies, CLIENTS))?;
    Ok(Rest { upserts_per_second, upserts_per_second_two, recall, one, many })
}

/// Makes the index and sends every vector by `upsert_binary`; vectors a second, the requests' bodies made before.
fn fill(ground: &Ground, sidecar: &Sidecar, client: &mut Client, key: &str, clients: usize) -> Result<f64> {
    let metric = if ground.metric == Metric::L2 { "euclidean" } else { "cosine" };
    let dims = ground.vectors.dims;
    client
        .post(
            "/v1/indexes/create",
            &json!({"index_name": INDEX, "index_key": key, "dimension": dims, "metric": metric}),
        )?
        .ok()?;
    let bodies: Vec<String> = (0..ground.vectors.rows())
        .step_by(BATCH)
        .map(|first| {
            let rows = first..(first + BATCH).min(ground.vectors.rows());
            let ids: Vec<String> = rows.clone().map(|row| row.to_string()).collect();
            let vectors = encode(&ground.vectors.values[rows.start * dims..rows.end * dims]);
            let batch = json!({"ids": ids, "vectors_b64": vectors, "dimension": dims});
            json!({"index_name": INDEX, "index_key": key, "batch": batch}).to_string()
        })
        .collect();
    let begun = Instant::now();
    step(&format!("upserting in batches of {BATCH}, {clients} at a time"), || {
        thread::scope(|scope| {
            let workers: Vec<_> =
                (0..clients)
                    .map(|worker| {
                        let bodies = &bodies;
                        scope.spawn(move || {
                            let mut client = Client::new(sidecar);
                            bodies.iter().skip(worker).step_by(clients).try_for_each(|body| {
                                client.post_text("/v1/vectors/upsert_binary", body)?.ok().map(|_| ())
                            })
                        })
                    })
                    .collect();
            workers.into_iter().try_for_each(|worker| worker.join().expect("a client does not panic"))
        })
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    let count = client.post("/v1/vectors/num_vectors", &json!({"index_name": INDEX, "index_key": key}))?.ok()?;
    ensure!(
        count["result"].as_u64() == Some(ground.vectors.rows() as u64),
        "expected {} vectors, the index says {count}",
        ground.vectors.rows()
    );
    Ok(ground.vectors.rows() as f64 / seconds)
}

/// A query as the Python SDK sends a list: JSON, nothing but the vector and how many are wanted.
fn body_of(query: &[f32], key: &str) -> String {
    let mut vector = String::with_capacity(query.len() * 12);
    for element in query {
        let _ = write!(vector, "{}{element}", if vector.is_empty() { "" } else { "," });
    }
    format!(
        r#"{{"index_name":"{INDEX}","index_key":"{key}","query_vectors":[{vector}],"top_k":{K},"include":["distance"]}}"#
    )
}

fn recall(ground: &Ground, client: &mut Client, bodies: &[String]) -> Result<f64> {
    let mut found = 0;
    for (query, body) in bodies.iter().enumerate() {
        let answer = client.post_text("/v1/vectors/query", body)?.ok()?;
        let rows = answer["results"].as_array().context("no results")?;
        let rows = rows
            .iter()
            .map(|row| row["id"].as_str().and_then(|id| id.parse().ok()).context("an id that was never sent"))
            .collect::<Result<Vec<i32>>>()?;
        found += ground.truth.found(query, ground.queries.row(query), &rows, ground.vectors);
    }
    Ok(found as f64 / (K * bodies.len()) as f64)
}

/// Asks with `clients` at a time for as long as the bench times each setting, after a warm-up of a tenth of it.
fn time(ground: &Ground, sidecar: &Sidecar, bodies: &[String], clients: usize) -> Result<Timing> {
    let (warm, timed) = (Duration::from_secs_f64(ground.seconds / 10.0), Duration::from_secs_f64(ground.seconds));
    let latencies: Vec<Vec<f64>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..clients)
            .map(|worker| {
                scope.spawn(move || -> Result<Vec<f64>> {
                    let mut client = Client::new(sidecar);
                    let mut latencies = Vec::new();
                    let begun = Instant::now();
                    for body in bodies.iter().cycle().skip(worker * bodies.len() / clients) {
                        let asked = Instant::now();
                        client.post_text("/v1/vectors/query", body)?.ok()?;
                        if begun.elapsed() > warm {
                            latencies.push(asked.elapsed().as_secs_f64() * 1e3);
                        }
                        if begun.elapsed() > warm + timed {
                            break;
                        }
                    }
                    Ok(latencies)
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("a client does not panic")).collect::<Result<_>>()
    })?;
    let mut all: Vec<f64> = latencies.into_iter().flatten().collect();
    all.sort_by(f64::total_cmp);
    ensure!(!all.is_empty(), "no query was answered in time");
    let at = |share: f64| all[((all.len() - 1) as f64 * share) as usize];
    Ok(Timing { clients, qps: all.len() as f64 / timed.as_secs_f64(), p50_ms: at(0.5), p99_ms: at(0.99) })
}

impl Rest {
    pub fn print(&self, machine: &str) {
        println!("\nencrypted index through the sidecar, HTTP on loopback, nothing set, top_k {K}; {machine}");
        println!(
            "  upsert_binary in batches of {BATCH}: {:.0} vectors/s with one client, {:.0} with two",
            self.upserts_per_second, self.upserts_per_second_two
        );
        println!("  recall@{K} {:.4}", self.recall);
        for timing in [&self.one, &self.many] {
            println!(
                "  {} client{}: {:.0} QPS, p50 {:.2} ms, p99 {:.2} ms",
                timing.clients,
                if timing.clients == 1 { "" } else { "s" },
                timing.qps,
                timing.p50_ms,
                timing.p99_ms
            );
        }
    }
}

fn encode(elements: &[f32]) -> String {
    let bytes: Vec<u8> = elements.iter().flat_map(|element| element.to_le_bytes()).collect();
    STANDARD.encode(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
