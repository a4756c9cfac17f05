//! Timing: a sweep of settings over one index, a build, and the WAL of inserts.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use postgres::Client;
use serde::Serialize;

use super::engine::Engine;
use super::truth::{K, Metric, Truth};
use super::wire::Wire;
use crate::data::Matrix;
use crate::pg::Cluster;
use crate::run::step;

/// What every measurement needs.
pub struct Ground<'a> {
    pub cluster: &'a Cluster,
    pub vectors: &'a Matrix,
    pub queries: &'a Matrix,
    pub truth: &'a Truth,
    pub metric: Metric,
    pub precision: &'a str,
    pub seconds: f64,
    pub vector_oid: u32,
}

pub const DATABASE: &str = "bench";

/// One setting's result. Times in microseconds.
#[derive(Serialize, Clone)]
pub struct Point {
    pub setting: String,
    pub recall: f64,
    pub qps: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    /// Time on a CPU that the backend used for a query: what stays true when other programs share the machine.
    pub cpu_us: f64,
}

#[derive(Serialize)]
pub struct Sweep {
    pub engine: &'static str,
    pub table: String,
    pub points: Vec<Point>,
    /// Peak resident memory of the backend that answered, with the shared buffers it touched; and what of its memory
    /// at the end was its own.
    pub peak_kb: u64,
    pub private_kb: u64,
}

impl Sweep {
    /// The fastest setting whose recall reaches `level`.
    pub fn best(&self, level: f64) -> Option<&Point> {
        self.points.iter().filter(|point| point.recall >= level).max_by(|a, b| a.qps.total_cmp(&b.qps))
    }
}

/// Asks every query at each setting: once to measure recall and warm caches, then for `seconds`.
pub fn sweep(ground: &Ground, engine: Engine, table: &str, only_until: f64) -> Result<Sweep> {
    let mut wire = Wire::connect(&ground.cluster.socket(), ground.cluster.port()?, DATABASE)?;
    // One plan for all: planning each of some thousand equal queries again would add as much as it measures.
    wire.execute("SET plan_cache_mode = force_generic_plan")?;
    hurry(wire.pid);
    let sql = engine.query(table, ground.metric);
    wire.prepare(&sql, engine.parameter_type(ground.vector_oid))?;
    let parameters: Vec<Vec<u8>> = ground.queries.iter().map(|query| engine.parameter(query)).collect();
    let mut points = Vec::new();
    for (setting, commands) in engine.settings() {
        for command in &commands {
            wire.execute(command)?;
        }
        let point = step(&format!("{} on {table}: {setting}", engine.name()), || {
            let mut rows = Vec::new();
            let mut found = 0;
            for (query, parameter) in parameters.iter().enumerate() {
                wire.query(parameter, &mut rows)?;
                ensure!(rows.len() <= K, "expected {K} rows at most, got {}", rows.len());
                found += ground.truth.found(query, ground.queries.row(query), &rows, ground.vectors);
            }
            let mut times = Vec::new();
            let cpu_before = cpu_seconds(wire.pid)?;
            let begun = Instant::now();
            let span = Duration::from_secs_f64(ground.seconds);
            'timing: loop {
                for parameter in &parameters {
                    let before = Instant::now();
                    wire.query(parameter, &mut rows)?;
                    times.push(before.elapsed());
                    if begun.elapsed() > span {
                        break 'timing;
                    }
                }
            }
            let elapsed = begun.elapsed().as_secs_f64();
            let cpu = cpu_seconds(wire.pid)? - cpu_before;
            times.sort_unstable();
            let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e6;
            Ok(Point {
                recall: found as f64 / (K * parameters.len()) as f64,
                qps: times.len() as f64 / elapsed,
                p50_us: at(0.50),
                p99_us: at(0.99),
                cpu_us: cpu / times.len() as f64 * 1e6,
                setting,
            })
        })?;
        let enough = point.recall > only_until && setting_is_ordered(&point.setting);
        points.push(point);
        if enough {
            break; // more probes only get slower from here
        }
    }
    let (peak_kb, private_kb) = memory(wire.pid)?;
    Ok(Sweep { engine: engine.name(), table: table.to_owned(), points, peak_kb, private_kb })
}

/// Is the setting part of a rising series (unlike "nothing set" and targets, which come first)?
fn setting_is_ordered(setting: &str) -> bool {
    setting.starts_with("probes") || setting.starts_with("ef_search")
}

#[derive(Serialize)]
pub struct Build {
    pub engine: &'static str,
    pub seconds: f64,
    pub index_bytes: i64,
    pub peak_kb: u64,
    pub private_kb: u64,
}

pub fn build(ground: &Ground, engine: Engine, index: &str, table: &str) -> Result<Build> {
    let mut client = ground.cluster.connect(DATABASE)?;
    let sql = engine.create_index(index, table, ground.metric, ground.precision);
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[])?.get(0);
    hurry(pid as u32);
    let begun = Instant::now();
    step(&sql, || client.batch_execute(&sql).with_context(|| format!("in: {sql}")))?;
    let seconds = begun.elapsed().as_secs_f64();
    let (peak_kb, private_kb) = memory(pid as u32)?;
    Ok(Build { engine: engine.name(), seconds, index_bytes: relation_bytes(&mut client, index)?, peak_kb, private_kb })
}

pub fn relation_bytes(client: &mut Client, relation: &str) -> Result<i64> {
    Ok(client.query_one("SELECT pg_relation_size($1::text::regclass)", &[&relation])?.get(0))
}

/// Does the planner choose the index by itself? If not, the sweep would time a sequential scan.
pub fn check_plan(ground: &Ground, engine: Engine, table: &str, index: &str) -> Result<()> {
    let mut client = ground.cluster.connect(DATABASE)?;
    let array = ground.queries.row(0).iter().map(f32::to_string).collect::<Vec<_>>().join(",");
    let sql = engine.query(table, ground.metric).replace("$1", &format!("'[{array}]'"));
    let plan: Vec<String> = client.query(&format!("EXPLAIN {sql}"), &[])?.iter().map(|row| row.get(0)).collect();
    ensure!(
        plan.iter().any(|line| line.contains(&format!("using {index}"))),
        "expected a plan that uses {index}; the planner chose:\n{}",
        plan.join("\n")
    );
    Ok(())
}

#[derive(Serialize)]
pub struct Wal {
    pub engine: &'static str,
    pub rows: usize,
    pub index_bytes_per_row: f64,
    pub table_bytes_per_row: f64,
    pub inserts_per_second: f64,
}

/// Inserts rows one statement each into an indexed and a bare table with the same columns and subtracts their WAL.
///
/// Half of the rows are there before the index is made. No checkpoint falls in between, so no full-page images of old
/// pages are in the figure; merges are, because the rows go well over one merge's size.
pub fn wal(ground: &Ground, engine: Engine, rows: usize) -> Result<Wal> {
    let mut client = ground.cluster.connect(DATABASE)?;
    let rows = rows.min(ground.vectors.rows() / 2);
    let column = engine.column(ground.vectors.dims);
    client.batch_execute("DROP TABLE IF EXISTS wal_bare, wal_indexed")?;
    for table in ["wal_bare", "wal_indexed"] {
        client.batch_execute(&format!("CREATE TABLE {table} (id int PRIMARY KEY, embedding {column})"))?;
        client.execute(&format!("INSERT INTO {table} SELECT id, v FROM staging WHERE id < $1"), &[&(rows as i32)])?;
    }
    client.batch_execute(&engine.create_index("wal_index", "wal_indexed", ground.metric, ground.precision))?;
    let mut spent = [0i64; 2];
    let mut seconds = 0.0;
    for (table, spent) in ["wal_bare", "wal_indexed"].into_iter().zip(&mut spent) {
        let insert = client.prepare(&format!("INSERT INTO {table} SELECT id, v FROM staging WHERE id = $1"))?;
        let before = lsn(&mut client)?;
        let begun = Instant::now();
        step(&format!("{}: {rows} inserts into {table}", engine.name()), || {
            for batch in 0..rows.div_ceil(100) {
                let mut transaction = client.transaction()?;
                for id in (rows + batch * 100)..(rows + (batch + 1) * 100).min(2 * rows) {
                    transaction.execute(&insert, &[&(id as i32)])?;
                }
                transaction.commit()?;
            }
            Ok(())
        })?;
        seconds = begun.elapsed().as_secs_f64();
        *spent = lsn(&mut client)? - before;
    }
    client.batch_execute("DROP TABLE wal_bare, wal_indexed")?;
    Ok(Wal {
        engine: engine.name(),
        rows,
        index_bytes_per_row: (spent[1] - spent[0]) as f64 / rows as f64,
        table_bytes_per_row: spent[0] as f64 / rows as f64,
        inserts_per_second: rows as f64 / seconds,
    })
}

fn lsn(client: &mut Client) -> Result<i64> {
    Ok(client.query_one("SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint", &[])?.get(0))
}

/// Time that a process has spent on a CPU.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/schedstat");
    let text = fs::read_to_string(&path).with_context(|| format!("could not read {path}"))?;
    let nanoseconds: u64 = text.split(' ').next().context("an empty schedstat")?.parse()?;
    Ok(nanoseconds as f64 / 1e9)
}

/// Puts the backend and ourselves before other programs, when we may; what is measured is the same either way.
pub fn hurry(pid: u32) {
    let processes = [pid.to_string(), std::process::id().to_string()];
    let _ = Command::new("renice")
        .args(["-n", "-15", "-p"])
        .args(processes)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

/// VmHWM and RssAnon of a process, in kB.
fn memory(pid: u32) -> Result<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the backend is gone")?;
    let field = |name: &str| -> Result<u64> {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .with_context(|| format!("no {name} in /proc/{pid}/status"))?;
        Ok(line.trim().trim_end_matches("kB").trim().parse()?)
    };
    Ok((field("VmHWM:")?, field("RssAnon:")?))
}
