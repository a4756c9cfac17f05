//! Timing queries: every setting of one index, and then the best settings of all indexes in turns.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::engine::{Engine, parameter};
use super::measure::{DATABASE, Ground, memory};
use super::times::Latencies;
use super::truth::K;
use super::wire::Wire;
use crate::run::step;

/// Turns that each method gets at each level, and how long one lasts.
const TURNS: usize = 8;
/// Settings of each method that play: the sweep is too coarse a clock to tell the cheapest from the next.
const CANDIDATES: usize = 3;
const TURN_SECONDS: f64 = 0.4;

/// How fast queries were answered. Times in microseconds.
#[derive(Serialize, Clone)]
pub struct Timing {
    pub qps: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    /// Time on a CPU that the backend used for a query: other programs on the machine blur it least.
    pub cpu_us: f64,
}

impl Timing {
    /// Each figure of the better turn: a turn that another program cut into tells about that program.
    pub fn bettered_by(&self, other: &Timing) -> Timing {
        Timing {
            qps: self.qps.max(other.qps),
            p50_us: self.p50_us.min(other.p50_us),
            p99_us: self.p99_us.min(other.p99_us),
            cpu_us: self.cpu_us.min(other.cpu_us),
        }
    }
}

/// One setting's result.
#[derive(Serialize, Clone)]
pub struct Point {
    pub setting: String,
    pub recall: f64,
    #[serde(flatten)]
    pub timing: Timing,
    #[serde(skip)]
    pub commands: Vec<String>,
}

#[derive(Serialize)]
pub struct Sweep {
    pub name: String,
    #[serde(skip)]
    pub engine: Engine,
    pub table: String,
    pub points: Vec<Point>,
    /// Peak resident memory of the backend that answered, with the shared buffers it touched; and what of its memory
    /// at the end was its own.
    pub peak_kb: u64,
    pub private_kb: u64,
}

impl Sweep {
    /// The cheapest setting whose recall reaches `level`.
    pub fn best(&self, level: f64) -> Option<&Point> {
        self.cheapest(level).into_iter().next()
    }

    /// The settings whose recall reaches `level`, cheapest first.
    fn cheapest(&self, level: f64) -> Vec<&Point> {
        let mut reaching: Vec<&Point> = self.points.iter().filter(|point| point.recall >= level).collect();
        reaching.sort_by(|a, b| a.timing.cpu_us.total_cmp(&b.timing.cpu_us));
        reaching
    }
}

/// A connection with the query prepared.
pub struct Session<'a> {
    ground: &'a Ground<'a>,
    pub wire: Wire,
    parameters: Vec<Vec<u8>>,
    rows: Vec<i32>,
}

impl<'a> Session<'a> {
    pub fn open(ground: &'a Ground, engine: Engine, table: &str) -> Result<Self> {
        Self::bound(ground, engine, table, engine.parameter_type(ground.types), parameter)
    }

    /// With the query's vector bound as another type.
    pub fn bound(
        ground: &'a Ground,
        engine: Engine,
        table: &str,
        parameter_type: u32,
        bind: fn(&[f32]) -> Vec<u8>,
    ) -> Result<Self> {
        let mut wire = Wire::connect(&ground.cluster.socket(), ground.cluster.port()?, DATABASE)?;
        ground.answer_beside_us(wire.pid);
        // One plan for all: planning each of some thousand equal queries again would add as much as it measures.
        wire.execute("SET plan_cache_mode = force_generic_plan")?;
        wire.prepare(&engine.query(table, ground.metric), &[parameter_type])?;
        let parameters = ground.queries.iter().map(bind).collect();
        Ok(Self { ground, wire, parameters, rows: Vec::new() })
    }

    pub fn set(&mut self, commands: &[String]) -> Result<()> {
        commands.iter().try_for_each(|command| self.wire.execute(command))
    }

    /// Recall over all queries, which also warms caches.
    fn recall(&mut self) -> Result<f64> {
        let mut found = 0;
        for (query, parameter) in self.parameters.iter().enumerate() {
            self.wire.query(parameter, &mut self.rows)?;
            ensure!(self.rows.len() <= K, "expected {K} rows at most, got {}", self.rows.len());
            found += self.ground.truth.found(query, self.ground.queries.row(query), &self.rows, self.ground.vectors);
        }
        Ok(found as f64 / (K * self.parameters.len()) as f64)
    }

    /// Asks all queries over and over for `seconds`.
    pub fn time(&mut self, seconds: f64) -> Result<Timing> {
        let _beside = self.ground.hold();
        let mut times = Vec::new();
        let cpu_before = cpu_seconds(self.wire.pid)?;
        let begun = Instant::now();
        let span = Duration::from_secs_f64(seconds);
        for parameter in self.parameters.iter().cycle() {
            let before = Instant::now();
            self.wire.query(parameter, &mut self.rows)?;
            times.push(before.elapsed());
            if begun.elapsed() > span {
                break;
            }
        }
        let elapsed = begun.elapsed().as_secs_f64();
        let cpu = cpu_seconds(self.wire.pid)? - cpu_before;
        let latencies = Latencies::of(&times);
        Ok(Timing {
            qps: times.len() as f64 / elapsed,
            p50_us: latencies.p50_ms * 1e3,
            p99_us: latencies.p99_ms * 1e3,
            cpu_us: cpu / times.len() as f64 * 1e6,
        })
    }
}

/// Every setting of one index, until recall passes `until` (more probes only get slower from there).
pub fn sweep(ground: &Ground, engine: Engine, name: &str, table: &str, until: f64) -> Result<Sweep> {
    let mut session = Session::open(ground, engine, table)?;
    let mut points = Vec::new();
    for (setting, commands) in engine.settings() {
        session.set(&commands)?;
        let (recall, timing) =
            step(&format!("{name}: {setting}"), || Ok((session.recall()?, session.time(ground.seconds)?)))?;
        let rising = setting.starts_with("probes") || setting.starts_with("ef_search");
        points.push(Point { setting, recall, timing, commands });
        if rising && recall > until {
            break;
        }
    }
    let (peak_kb, private_kb) = memory(session.wire.pid)?;
    Ok(Sweep { name: name.to_owned(), engine, table: table.to_owned(), points, peak_kb, private_kb })
}

/// All methods at one recall level.
#[derive(Serialize)]
pub struct Heat {
    pub level: f64,
    /// In the order of the sweeps; none where no setting reaches the level.
    pub entries: Vec<Option<Entry>>,
}

#[derive(Serialize)]
pub struct Entry {
    pub setting: String,
    pub recall: f64,
    /// The best that any turn gave of each figure.
    #[serde(flatten)]
    pub timing: Timing,
}

/// The cheapest settings of each method at each level, timed in turns of well under a second, so that whatever else the
/// machine does meanwhile hits all of them. Each keeps the best figures of its turns, and the fastest stands for its
/// method.
pub fn heats(ground: &Ground, sweeps: &[&Sweep]) -> Result<Vec<Heat>> {
    let mut sessions: Vec<Session> =
        sweeps.iter().map(|sweep| Session::open(ground, sweep.engine, &sweep.table)).collect::<Result<_>>()?;
    let levels = ground.goals.levels.iter().map(|level| level.recall);
    levels
        .map(|level| step(&format!("taking turns at recall {level}"), || heat(sweeps, &mut sessions, level)))
        .collect()
}

fn heat(sweeps: &[&Sweep], sessions: &mut [Session], level: f64) -> Result<Heat> {
    let mut entries: Vec<Option<Entry>> = Vec::new();
    entries.resize_with(sweeps.len(), || None);
    for place in 0..CANDIDATES {
        let points: Vec<Option<&Point>> =
            sweeps.iter().map(|sweep| sweep.cheapest(level).get(place).copied()).collect();
        let mut best: Vec<Option<Timing>> = vec![None; sweeps.len()];
        for _ in 0..TURNS {
            for ((session, point), best) in sessions.iter_mut().zip(&points).zip(&mut best) {
                let Some(point) = point else { continue };
                session.set(&point.commands)?;
                session.time(TURN_SECONDS / 8.0)?; // caches hold the other methods' pages
                let timing = session.time(TURN_SECONDS)?;
                *best = Some(match best.take() {
                    None => timing,
                    Some(best) => best.bettered_by(&timing),
                });
            }
        }
        for ((entry, point), timing) in entries.iter_mut().zip(points).zip(best) {
            let (Some(point), Some(timing)) = (point, timing) else { continue };
            if entry.as_ref().is_none_or(|entry| timing.qps > entry.timing.qps) {
                *entry = Some(Entry { setting: point.setting.clone(), recall: point.recall, timing });
            }
        }
    }
    Ok(Heat { level, entries })
}

/// Time that a process has spent on a CPU.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/schedstat");
    let text = fs::read_to_string(&path).with_context(|| format!("could not read {path}"))?;
    let nanoseconds: u64 = text.split(' ').next().context("an empty schedstat")?.parse()?;
    Ok(nanoseconds as f64 / 1e9)
}
