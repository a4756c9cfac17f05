//! One build, the WAL of inserts, memory and sizes.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use postgres::Client;
use postgres::binary_copy::BinaryCopyInWriter;
use postgres::types::Type;
use serde::Serialize;

use super::engine::{Engine, Types};
use super::goals::Goals;
use super::one_core::{self, Held};
use super::truth::{Metric, Truth};
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
    pub types: Types,
    pub goals: Goals,
    /// Leave priorities as they are.
    pub background: bool,
    /// Where client and backend of a timed query work, unless the system is to place them.
    pub core: Option<u32>,
}

impl Ground<'_> {
    /// Puts the backend and ourselves before other programs, when we may; what is measured is the same either way.
    pub fn hurry(&self, pid: u32) {
        if self.background {
            return;
        }
        let processes = [pid.to_string(), std::process::id().to_string()];
        let _ = Command::new("renice")
            .args(["-n", "-15", "-p"])
            .args(processes)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }

    /// As [`hurry`](Self::hurry), for a backend that only answers queries that are timed one by one.
    pub fn answer_beside_us(&self, pid: u32) {
        self.hurry(pid);
        self.core.inspect(|core| one_core::put(pid, *core));
    }

    /// Holds us beside such backends while the answer lives.
    pub fn hold(&self) -> Option<Held> {
        self.core.and_then(Held::on)
    }
}

pub const DATABASE: &str = "bench";

#[derive(Serialize)]
pub struct Build {
    pub engine: String,
    pub seconds: f64,
    pub index_bytes: i64,
    /// Most resident memory, shared buffers that it touched included.
    pub peak_kb: u64,
    /// Most of its own.
    pub private_kb: u64,
    pub maintenance_work_mem: String,
}

pub fn build(ground: &Ground, engine: Engine, index: &str, table: &str, memory_limit: &str) -> Result<Build> {
    let mut client = ground.cluster.connect(DATABASE)?;
    let sql = engine.create_index(index, table, ground.metric, ground.precision);
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[])?.get(0);
    client.batch_execute(&format!("SET maintenance_work_mem = '{memory_limit}'"))?;
    ground.hurry(pid as u32);
    let (begun, watch) = (Instant::now(), Watch::begin(pid as u32));
    step(&sql, || client.batch_execute(&sql).with_context(|| format!("in: {sql}")))?;
    let seconds = begun.elapsed().as_secs_f64();
    let private_kb = watch.end();
    let (peak_kb, _) = memory(pid as u32)?;
    client.batch_execute("CHECKPOINT")?;
    Ok(Build {
        engine: engine.name(),
        seconds,
        index_bytes: relation_bytes(&mut client, index)?,
        peak_kb,
        private_kb,
        maintenance_work_mem: memory_limit.to_owned(),
    })
}

/// Looks at a process's own memory fifty times a second: the kernel keeps a peak only of all that it touched.
struct Watch {
    stop: std::sync::mpsc::Sender<()>,
    watcher: thread::JoinHandle<u64>,
}

impl Watch {
    fn begin(pid: u32) -> Self {
        let (stop, stopped) = channel();
        let watcher = thread::spawn(move || {
            let mut peak = 0;
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(Duration::from_millis(20)) {
                peak = memory(pid).map_or(peak, |(_, private)| peak.max(private));
            }
            memory(pid).map_or(peak, |(_, private)| peak.max(private))
        });
        Self { stop, watcher }
    }

    fn end(self) -> u64 {
        drop(self.stop);
        self.watcher.join().expect("reading a file does not panic")
    }
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
    pub engine: String,
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
    client.batch_execute("DROP TABLE IF EXISTS wal_bare, wal_indexed, staging")?;
    stage(&mut client, ground.vectors, 2 * rows)?;
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
    client.batch_execute("DROP TABLE wal_bare, wal_indexed, staging")?;
    Ok(Wal {
        engine: engine.name(),
        rows,
        index_bytes_per_row: (spent[1] - spent[0]) as f64 / rows as f64,
        table_bytes_per_row: spent[0] as f64 / rows as f64,
        inserts_per_second: rows as f64 / seconds,
    })
}

/// Vectors as arrays, for INSERT … SELECT into either type.
pub fn stage(client: &mut Client, vectors: &Matrix, rows: usize) -> Result<()> {
    client.batch_execute("CREATE UNLOGGED TABLE staging (id int PRIMARY KEY, v real[])")?;
    step(&format!("staging {rows} vectors"), || {
        let sink = client.copy_in("COPY staging FROM STDIN (FORMAT binary)")?;
        let mut writer = BinaryCopyInWriter::new(sink, &[Type::INT4, Type::FLOAT4_ARRAY]);
        for (id, vector) in vectors.iter().take(rows).enumerate() {
            writer.write(&[&(id as i32), &vector])?;
        }
        writer.finish()?;
        Ok(())
    })
}

fn lsn(client: &mut Client) -> Result<i64> {
    Ok(client.query_one("SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint", &[])?.get(0))
}

/// VmHWM and RssAnon of a process, in kB.
pub fn memory(pid: u32) -> Result<(u64, u64)> {
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
