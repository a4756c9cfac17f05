//! The first query of a fresh backend: library, keys and directory are opened in it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::Serialize;

use super::engine::{Engine, parameter};
use super::figure::Figure;
use super::measure::{DATABASE, Ground};
use super::times::Latencies;
use super::truth::K;
use super::wire::Wire;
use crate::run::step;

const CONNECTIONS: usize = 21;

#[derive(Serialize)]
pub struct First {
    pub engine: String,
    pub connect: Latencies,
    /// From sending the query's text to the last row.
    pub first: Latencies,
    pub second: Latencies,
}

/// Connects again and again, and asks twice each time.
pub fn measure(ground: &Ground, engine: Engine) -> Result<First> {
    let (mut connects, mut firsts, mut seconds) = (Vec::new(), Vec::new(), Vec::new());
    let sql = engine.query(&engine.table(), ground.metric);
    let types = [engine.parameter_type(ground.types)];
    step(&format!("{}: {CONNECTIONS} fresh backends", engine.name()), || {
        for number in 0..CONNECTIONS {
            let parameter = parameter(ground.queries.row(number % ground.queries.rows()));
            let mut rows = Vec::new();
            let begun = Instant::now();
            let mut wire = Wire::connect(&ground.cluster.socket(), ground.cluster.port()?, DATABASE)?;
            connects.push(begun.elapsed());
            let begun = Instant::now();
            wire.prepare(&sql, &types)?;
            wire.query(&parameter, &mut rows)?;
            firsts.push(begun.elapsed());
            ensure!(rows.len() == K, "expected {K} rows, got {}", rows.len());
            let begun = Instant::now();
            wire.query(&parameter, &mut rows)?;
            seconds.push(begun.elapsed());
        }
        Ok(())
    })?;
    let of = |times: Vec<Duration>| Latencies::of(&times);
    Ok(First { engine: engine.name(), connect: of(connects), first: of(firsts), second: of(seconds) })
}

pub fn print(all: &[First]) {
    if all.is_empty() {
        return;
    }
    println!("\nfirst query of a fresh backend, ms (median and longest of {CONNECTIONS})");
    println!("  {:14} {:>9} {:>9} {:>9} {:>9}", "", "connect", "first", "longest", "second");
    for first in all {
        println!(
            "  {:14} {:9.2} {:9.2} {:9.2} {:9.2}",
            first.engine, first.connect.p50_ms, first.first.p50_ms, first.first.max_ms, first.second.p50_ms
        );
    }
}

pub fn figures(ground: &Ground, all: &[First]) -> Vec<Figure> {
    let sealed = all.iter().filter(|first| first.engine == Engine::Sealed.name());
    sealed
        .map(|first| {
            let figure = Figure::lower("first query of a fresh backend", first.first.p50_ms, "ms")
                .note(format!("longest {:.1} ms; connect {:.1} ms", first.first.max_ms, first.connect.p50_ms));
            ground.goals.first_query_ms.into_iter().fold(figure, Figure::wanted)
        })
        .collect()
}
