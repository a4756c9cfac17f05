//! Inserts into an indexed table by one client: committed in batches, and one by one.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use super::engine::{Engine, INT4, parameter};
use super::figure::Figure;
use super::measure::{DATABASE, Ground};
use super::times::Latencies;
use super::wire::Wire;
use crate::data::Matrix;
use crate::data::derive::Maker;
use crate::run::step;

/// Rows committed together.
const BATCH: usize = 1_000;
/// Numbers of derived rows that no derived set holds: what is inserted lies among the rows and equals none.
const FIRST: u64 = 1 << 40;
/// Ids of inserted rows begin here.
const FIRST_ID: i32 = 1_000_000_000;

#[derive(Serialize)]
pub struct Inserts {
    pub engine: String,
    pub batched_rows: usize,
    pub batched_rows_per_second: f64,
    pub single: Latencies,
}

/// Inserts `rows` rows in batches, then half as many one statement and one commit each, into the engine's own table.
pub fn measure(ground: &Ground, engine: Engine, base: &Matrix, rows: usize) -> Result<Inserts> {
    let batches = rows.div_ceil(BATCH);
    let (batched, single) = (batches * BATCH, (rows / 2).max(1));
    let maker = Maker::new(base)?;
    let made = maker.rows(FIRST, batched + single);
    let parameters: Vec<Vec<u8>> = made.iter().map(parameter).collect();
    let mut wire = Wire::connect(&ground.cluster.socket(), ground.cluster.port()?, DATABASE)?;
    ground.hurry(wire.pid);
    let table = engine.table();
    wire.prepare(
        &format!("INSERT INTO {table} (id, embedding) VALUES ($1, $2)"),
        &[INT4, engine.parameter_type(ground.types)],
    )?;
    let row = |number: usize| (FIRST_ID + number as i32, &parameters[number][..]);

    let begun = Instant::now();
    step(&format!("{}: {batched} inserts in batches of {BATCH}", engine.name()), || {
        (0..batched).step_by(BATCH).try_for_each(|first| wire.insert((first..first + BATCH).map(row)))
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    let times: Vec<Duration> = step(&format!("{}: {single} inserts one by one", engine.name()), || {
        (batched..batched + single)
            .map(|number| {
                let begun = Instant::now();
                wire.insert([row(number)]).map(|()| begun.elapsed())
            })
            .collect()
    })?;
    Ok(Inserts {
        engine: engine.name(),
        batched_rows: batched,
        batched_rows_per_second: batched as f64 / seconds,
        single: Latencies::of(&times),
    })
}

pub fn print(all: &[Inserts]) {
    if all.is_empty() {
        return;
    }
    println!(
        "\ninserts by one client: rows/s in batches of {BATCH}; ms of one row and its commit, merges and splits included"
    );
    println!("  {:14} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}", "", "rows", "rows/s", "single", "p50", "p99", "max");
    for inserts in all {
        let single = &inserts.single;
        println!(
            "  {:14} {:9} {:9.0} {:9} {:9.2} {:9.2} {:9.2}",
            inserts.engine,
            inserts.batched_rows,
            inserts.batched_rows_per_second,
            single.count,
            single.p50_ms,
            single.p99_ms,
            single.max_ms
        );
    }
}

pub fn figures(all: &[Inserts]) -> Vec<Figure> {
    let Some(sealed) = all.iter().find(|inserts| inserts.engine == Engine::Sealed.name()) else { return Vec::new() };
    let mut figures =
        vec![Figure::higher("inserts in batches of 1,000, one client", sealed.batched_rows_per_second, "rows/s")];
    if let Some(hnsw) = all.iter().find(|inserts| inserts.engine.starts_with("hnsw")) {
        let ratio = sealed.batched_rows_per_second / hnsw.batched_rows_per_second;
        figures.push(
            Figure::higher("inserts in batches of 1,000 / hnsw", ratio, "x")
                .wanted(2.0)
                .note(format!("{} does {:.0} rows/s", hnsw.engine, hnsw.batched_rows_per_second)),
        );
    }
    let single = &sealed.single;
    figures.extend([
        Figure::lower("single insert, p50", single.p50_ms, "ms"),
        Figure::lower("single insert, p99", single.p99_ms, "ms")
            .wanted(50.0)
            .note(format!("longest of {}: {:.1} ms", single.count, single.max_ms)),
    ]);
    figures
}
