//! Tables without an index: COPY into them, and the exact scan that answers a query.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::Serialize;

use super::engine::{Engine, REAL_ARRAY, array, parameter};
use super::figure::Figure;
use super::load::Form;
use super::measure::{DATABASE, Ground};
use super::times::Latencies;
use super::truth::K;
use super::wire::Wire;
use crate::run::step;

/// Rows copied, at most.
const ROWS: usize = 100_000;
/// Times that each table is filled in each form; the fastest counts, because a slower one tells about other programs.
const ROUNDS: usize = 3;
/// Queries of the exact scan.
const SCANS: usize = 15;

#[derive(Serialize)]
pub struct Copies {
    pub rows: usize,
    /// Rows a second into a sealed column.
    pub sealed: Rates,
    /// The same into pgvector's.
    pub plain: Option<Rates>,
}

#[derive(Serialize, Default)]
pub struct Rates {
    pub binary: f64,
    pub text: f64,
}

#[derive(Serialize)]
pub struct Scans {
    pub rows: usize,
    pub sealed: Latencies,
    /// With the query bound as real[], which the server casts.
    pub sealed_array: Latencies,
    pub plain: Option<Latencies>,
}

/// The tables, sealed first. No primary key: what it costs is the same for both.
fn tables(rival: Option<Engine>) -> Vec<(Engine, String)> {
    [Some(Engine::Sealed), rival]
        .into_iter()
        .flatten()
        .map(|engine| (engine, format!("bare_{}", if engine == Engine::Sealed { "sealed" } else { "plain" })))
        .collect()
}

/// Copies the same rows into both kinds of table in turns; leaves the tables full.
pub fn copy(ground: &Ground, rival: Option<Engine>) -> Result<Copies> {
    let rows = ground.vectors.rows().min(ROWS);
    let tables = tables(rival);
    let mut client = ground.cluster.connect(DATABASE)?;
    for (engine, table) in &tables {
        let column = engine.column(ground.vectors.dims);
        client.batch_execute(&format!("CREATE TABLE {table} (id int, embedding {column})"))?;
    }
    let mut best: Vec<Rates> = tables.iter().map(|_| Rates::default()).collect();
    for form in [Form::Text, Form::Binary] {
        let pieces: Vec<Vec<u8>> = form.pieces(ground.vectors, 0..rows).collect();
        let name = if form == Form::Binary { "binary" } else { "text" };
        step(&format!("COPY of {rows} rows, {name}, {ROUNDS} times"), || {
            for _ in 0..ROUNDS {
                for ((_, table), best) in tables.iter().zip(&mut best) {
                    client.batch_execute(&format!("TRUNCATE {table}"))?;
                    client.batch_execute("CHECKPOINT")?;
                    let mut wire = Wire::connect(&ground.cluster.socket(), ground.cluster.port()?, DATABASE)?;
                    ground.hurry(wire.pid);
                    wire.execute("SELECT")?; // the backend is up
                    let begun = Instant::now();
                    wire.copy(&form.command(table), &pieces)?;
                    let rate = rows as f64 / begun.elapsed().as_secs_f64();
                    let best = if form == Form::Binary { &mut best.binary } else { &mut best.text };
                    *best = best.max(rate);
                }
            }
            Ok(())
        })?;
    }
    let mut best = best.into_iter();
    Ok(Copies { rows, sealed: best.next().expect("the sealed table comes first"), plain: best.next() })
}

/// Asks the tables that [`copy`] left. One process scans, for both: the sealed type is bound to it, and one client's
/// query is what is compared.
pub fn scan(ground: &Ground, rival: Option<Engine>) -> Result<Scans> {
    let tables = tables(rival);
    for (_, table) in &tables {
        ground.cluster.connect(DATABASE)?.batch_execute(&format!("VACUUM ANALYZE {table}"))?;
    }
    let (_, sealed) = &tables[0];
    let plain = tables
        .get(1)
        .map(|(engine, table)| scan_one(ground, *engine, table, engine.parameter_type(ground.types), parameter));
    Ok(Scans {
        rows: ground.vectors.rows().min(ROWS),
        sealed: scan_one(ground, Engine::Sealed, sealed, ground.types.sealvec, parameter)?,
        sealed_array: scan_one(ground, Engine::Sealed, sealed, REAL_ARRAY, array)?,
        plain: plain.transpose()?,
    })
}

fn scan_one(
    ground: &Ground,
    engine: Engine,
    table: &str,
    parameter_type: u32,
    bind: fn(&[f32]) -> Vec<u8>,
) -> Result<Latencies> {
    let mut wire = Wire::connect(&ground.cluster.socket(), ground.cluster.port()?, DATABASE)?;
    ground.hurry(wire.pid);
    wire.execute("SET max_parallel_workers_per_gather = 0")?;
    wire.prepare(&engine.query(table, ground.metric), &[parameter_type])?;
    let mut answer = Vec::new();
    let times: Vec<Duration> = step(&format!("exact scan of {table}"), || {
        let mut times = Vec::new();
        for query in ground.queries.iter().take(SCANS + 1) {
            let parameter = bind(query);
            let begun = Instant::now();
            wire.query(&parameter, &mut answer)?;
            times.push(begun.elapsed());
            ensure!(answer.len() == K, "expected a full answer, got {} rows", answer.len());
        }
        Ok(times.split_off(1)) // the first warmed the buffers
    })?;
    Ok(Latencies::of(&times))
}

impl Copies {
    pub fn figures(&self, ground: &Ground) -> Vec<Figure> {
        let about = |rate: f64| format!("{} rows; pgvector {rate:.0} rows/s", self.rows);
        let binary = Figure::higher("COPY binary into a sealed column", self.sealed.binary, "rows/s");
        let mut figures = vec![
            ground.goals.copy_rows_per_second.into_iter().fold(binary, Figure::wanted),
            Figure::higher("COPY text into a sealed column", self.sealed.text, "rows/s"),
        ];
        if let Some(plain) = &self.plain {
            figures.extend([
                Figure::higher("COPY binary / pgvector", self.sealed.binary / plain.binary, "x")
                    .wanted(0.7)
                    .note(about(plain.binary)),
                Figure::higher("COPY text / pgvector", self.sealed.text / plain.text, "x")
                    .wanted(0.8)
                    .note(about(plain.text)),
            ]);
        }
        figures
    }
}

impl Scans {
    pub fn figures(&self) -> Vec<Figure> {
        let mut figures = vec![
            Figure::lower("exact scan, no index", self.sealed.p50_ms, "ms").note(format!("{} rows, p50", self.rows)),
            Figure::lower("exact scan, query bound as real[]", self.sealed_array.p50_ms, "ms"),
        ];
        if let Some(plain) = &self.plain {
            figures.push(
                Figure::lower("exact scan / pgvector", self.sealed.p50_ms / plain.p50_ms, "x")
                    .wanted(2.0)
                    .note(format!("pgvector {:.1} ms", plain.p50_ms)),
            );
        }
        figures
    }
}
