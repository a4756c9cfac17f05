//! Where a query's time goes: `perf` on the backend while it answers, its samples folded into stages by function name.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::figure::Figure;
use super::limit::Limit;
use super::measure::Ground;
use super::sweep::{Point, Session, Sweep};
use crate::pg::server::on_path;
use crate::run::{quiet, step};
use crate::tree;

/// Seconds of sampling, and samples a second.
const SECONDS: u64 = 5;
const HERTZ: u64 = 1_999;

/// What the issue aims at for a row of 384 dimensions.
const OPEN_NS: f64 = 4.0;
const SCORE_NS: f64 = 1.0;

/// A part of a query, in the order of the work.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Postgres outside the index: protocol, plan, heap rows, snapshots; and the kernel, for the socket.
    Executor,
    /// Meta page, cached directory, centroids, the query's codes and the choice of lists.
    Directory,
    /// Pins and locks.
    Buffers,
    /// Opening lists, and taking chunks apart.
    Open,
    /// Scoring codes, and putting rows that may be near in the queue.
    Score,
    /// Opening and measuring exact rows, and the queue of candidates.
    Rerank,
    /// From slot to record and heap row.
    SlotMap,
    /// Sealing the query's vector, and distances that the executor computes again from the column's values.
    Values,
    /// Getting and returning memory, page faults included.
    Memory,
    /// Of the index, and nothing of these.
    Other,
}

impl Stage {
    const ALL: [Stage; 10] = [
        Stage::Executor,
        Stage::Directory,
        Stage::Buffers,
        Stage::Open,
        Stage::Score,
        Stage::Rerank,
        Stage::SlotMap,
        Stage::Values,
        Stage::Memory,
        Stage::Other,
    ];

    fn name(self) -> &'static str {
        match self {
            Stage::Executor => "executor",
            Stage::Directory => "directory",
            Stage::Buffers => "buffers",
            Stage::Open => "open",
            Stage::Score => "score",
            Stage::Rerank => "rerank",
            Stage::SlotMap => "slot map",
            Stage::Values => "values",
            Stage::Memory => "memory",
            Stage::Other => "other",
        }
    }
}

/// Frames outside these belong to the executor.
const INDEX: [&str; 3] = ["sealvec", "amgettuple", "amrescan"];
/// What one function name tells. The frame nearest to the leaf that tells anything decides.
const NAMES: &[(&str, Stage)] = &[
    ("page_fault", Stage::Memory),
    ("malloc", Stage::Memory),
    ("realloc", Stage::Memory),
    ("calloc", Stage::Memory),
    ("_int_free", Stage::Memory),
    ("cfree", Stage::Memory),
    ("munmap", Stage::Memory),
    ("brk", Stage::Memory),
    ("datatype::", Stage::Values),
    ("format::value", Stage::Values),
    ("ivf::slots", Stage::SlotMap),
    ("format::slot", Stage::SlotMap),
    ("storage::", Stage::Buffers),
    ("ReadBuffer", Stage::Buffers),
    ("ReleaseBuffer", Stage::Buffers),
    ("LockBuffer", Stage::Buffers),
    ("PinBuffer", Stage::Buffers),
    ("UnpinBuffer", Stage::Buffers),
    ("LWLock", Stage::Buffers),
    ("BufTable", Stage::Buffers),
    ("ResourceOwner", Stage::Buffers),
    ("math::code", Stage::Score),
    ("score_short", Stage::Score),
    ("avx512::score", Stage::Score),
    ("avx2::score", Stage::Score),
    ("portable::score", Stage::Score),
    ("Kernels::score", Stage::Score),
    ("ivf::records", Stage::Rerank),
    ("format::vector", Stage::Rerank),
    ("math::distance", Stage::Rerank),
    ("candidates", Stage::Rerank),
    ("BinaryHeap", Stage::Rerank),
    ("ivf::lists", Stage::Open),
    ("format::list", Stage::Open),
    ("ivf::directory", Stage::Directory),
    ("math::probe", Stage::Directory),
    ("math::rotate", Stage::Directory),
    ("read_place", Stage::Directory),
    ("query_codes", Stage::Directory),
    ("format::meta", Stage::Directory),
];

/// A function's path without its type parameters: every function of the core has the page store's among them.
fn path(name: &str) -> String {
    let mut depth = 0usize;
    // `<impl Trait for Type>::method` keeps its first pair: there the brackets hold the path.
    let from = usize::from(name.starts_with('<'));
    let mut kept = String::new();
    for letter in name[from..].chars() {
        match letter {
            '<' => depth += 1,
            '>' => depth = depth.saturating_sub(1),
            letter if depth == 0 => kept.push(letter),
            _ => {}
        }
    }
    kept
}

/// The stage of a sample; `frames` are function names, the innermost first.
fn stage(frames: &[&str]) -> Stage {
    let inside = frames.iter().rposition(|frame| INDEX.iter().any(|name| frame.contains(name)));
    let Some(outermost) = inside else { return Stage::Executor };
    let frames: Vec<String> = frames[..=outermost].iter().map(|frame| path(frame)).collect();
    let told = |frame: &String| NAMES.iter().find(|(name, _)| frame.contains(name)).map(|(_, stage)| *stage);
    if let Some(stage) = frames.iter().find_map(told) {
        return stage;
    }
    // Names of the scan itself, by which its inlined parts go.
    let within = |name: &str| frames.iter().any(|frame| frame.contains(name));
    if within("score_slots") || within("Scan::open") {
        Stage::Rerank
    } else if within("score_list") {
        Stage::Score
    } else if within("aead") {
        Stage::Open
    } else if within("Scan::start") {
        Stage::Directory
    } else {
        Stage::Other
    }
}

#[derive(Serialize)]
pub struct Profile {
    pub level: f64,
    pub setting: String,
    pub samples: usize,
    /// Coded rows that a query opens, where they are known.
    pub rows: Option<f64>,
    /// Codes that it scores: of those rows, and of centroids.
    pub codes: Option<f64>,
    pub cpu_us: f64,
    pub stages: Vec<Share>,
    /// The functions with the most samples of their own.
    pub hottest: Vec<Hot>,
}

#[derive(Serialize)]
pub struct Share {
    pub stage: Stage,
    pub share: f64,
    pub us: f64,
}

#[derive(Serialize)]
pub struct Hot {
    pub function: String,
    pub stage: Stage,
    pub share: f64,
}

/// Profiles the fewest fixed probes that reach the middle level, whose rows are known (or the setting with the
/// highest recall, where none reaches it). Nothing, with a note, where perf is missing or may not run.
pub fn measure(ground: &Ground, sweep: &Sweep, limits: &[Limit]) -> Result<Option<Profile>> {
    if !on_path("perf") {
        eprintln!("note: perf is not installed (Debian: linux-perf): no profile");
        return Ok(None);
    }
    let level = ground.goals.levels[1].recall;
    let highest = || sweep.points.iter().max_by(|a, b| a.recall.total_cmp(&b.recall));
    let known = limits.iter().find(|limit| limit.level == level);
    let fixed = known.and_then(|limit| sweep.points.iter().find(|point| point.setting == limit.setting));
    let Some(point) = fixed.or_else(highest) else { return Ok(None) };
    let mut session = Session::open(ground, sweep.engine, &sweep.table)?;
    session.set(&point.commands)?;
    session.time(0.2)?; // warm
    let file = tree::target().join("bench-perf.data");
    let profile = step(&format!("profile at {}", point.setting), || {
        let pid = session.wire.pid.to_string();
        let mut perf = Command::new("perf")
            .args(["record", "--quiet", "--call-graph", "dwarf,16384", "--freq", &HERTZ.to_string(), "--pid", &pid])
            .arg("--output")
            .arg(&file)
            .args(["--", "sleep", &SECONDS.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("could not run perf")?;
        let begun = Instant::now();
        while perf.try_wait()?.is_none() {
            session.time(0.25)?;
            ensure!(begun.elapsed() < Duration::from_secs(SECONDS + 60), "perf did not end");
        }
        let output = perf.wait_with_output()?;
        if !output.status.success() {
            eprintln!("note: perf could not record, no profile: {}", String::from_utf8_lossy(&output.stderr).trim());
            return Ok(None);
        }
        let script = quiet(Command::new("perf").args(["script", "--fields", "ip,sym", "--input"]).arg(&file))?;
        fs::remove_file(&file)?;
        Ok(fold(&script, level, point, known))
    })?;
    Ok(profile)
}

fn fold(script: &str, level: f64, point: &Point, known: Option<&Limit>) -> Option<Profile> {
    let stacks = stacks(script);
    let samples = stacks.len();
    if samples == 0 {
        eprintln!("note: perf took no samples: no profile");
        return None;
    }
    let mut counts = [0usize; Stage::ALL.len()];
    let mut leaves: Vec<(&str, Stage, usize)> = Vec::new();
    for stack in &stacks {
        let stage = stage(stack);
        counts[stage as usize] += 1;
        let leaf = stack.first().copied().unwrap_or("?");
        match leaves.iter_mut().find(|(name, of, _)| *name == leaf && *of == stage) {
            Some((_, _, count)) => *count += 1,
            None => leaves.push((leaf, stage, 1)),
        }
    }
    leaves.sort_by_key(|(_, _, count)| std::cmp::Reverse(*count));
    let share = |count: usize| count as f64 / samples as f64;
    Some(Profile {
        level,
        setting: point.setting.clone(),
        samples,
        rows: known.map(|limit| limit.rows),
        codes: known.map(|limit| limit.codes),
        // As timed without perf, which slows the backend down.
        cpu_us: point.timing.cpu_us,
        stages: Stage::ALL
            .into_iter()
            .zip(counts)
            .map(|(stage, count)| Share { stage, share: share(count), us: share(count) * point.timing.cpu_us })
            .collect(),
        hottest: leaves
            .into_iter()
            .take(20)
            .map(|(function, stage, count)| Hot { function: function.to_owned(), stage, share: share(count) })
            .collect(),
    })
}

/// The function names of each sample in what `perf script` printed: a line each, an empty line after each sample.
fn stacks(script: &str) -> Vec<Vec<&str>> {
    script
        .split("\n\n")
        .map(|sample| {
            let frames = sample.lines().filter_map(|line| line.trim().split_once(' '));
            frames.map(|(_, name)| name.trim()).collect::<Vec<_>>()
        })
        .filter(|stack: &Vec<&str>| !stack.is_empty())
        .collect()
}

impl Profile {
    pub fn print(&self) {
        println!(
            "\nwhere a query's time goes at recall {} ({}, {:.0} µs of CPU, {} samples)",
            self.level, self.setting, self.cpu_us, self.samples
        );
        for share in &self.stages {
            println!("  {:10} {:5.1} % {:8.1} µs", share.stage.name(), 100.0 * share.share, share.us);
        }
        println!("  hottest functions:");
        for hot in &self.hottest {
            println!("    {:5.1} % {:10} {}", 100.0 * hot.share, hot.stage.name(), hot.function);
        }
    }

    pub fn figures(&self, ground: &Ground) -> Vec<Figure> {
        let of_query = format!("{}, {} samples", self.setting, self.samples);
        let name = |what: &str| format!("a query at recall {}: {what}", self.level);
        let mut figures: Vec<Figure> = self
            .stages
            .iter()
            .map(|share| Figure::lower(name(share.stage.name()), share.us, "µs").note(&of_query))
            .collect();
        let us = |wanted: Stage| self.stages.iter().find(|share| share.stage == wanted).map_or(0.0, |share| share.us);
        let inside = self.cpu_us - us(Stage::Executor) - us(Stage::Values);
        let index = Figure::lower(name("the index in all"), inside, "µs").note(&of_query);
        figures.push(ground.goals.index_us.into_iter().fold(index, Figure::wanted));
        let each = |stage: Stage, of: Option<f64>, what: &str, wanted: f64, unit: &str| {
            let of = of?;
            let figure = Figure::lower(name(what), 1e3 * us(stage) / of, "ns").wanted(wanted);
            Some(figure.note(format!("{of:.0} {unit}")))
        };
        figures.extend(each(Stage::Open, self.rows, "open, a row", OPEN_NS, "rows"));
        figures.extend(each(Stage::Score, self.codes, "score, a code", SCORE_NS, "codes, of rows and of centroids"));
        figures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_belongs_to_the_innermost_frame_that_tells() {
        const LIST: &str = "sealvec_core::ivf::lists::read";
        const NEXT: &str = "<sealvec_core::ivf::scan::Scan>::next::<sealvec::storage::relation::RelationStore>";
        const RECORD: &str = "sealvec_core::ivf::records::open";
        const AES: &str = "aws_lc_0_39_0_aes_gcm_dec_update_vaes_avx512";
        for (frames, wanted) in [
            (&["heap_hot_search_buffer", "index_fetch_heap", "IndexNext", "ExecScan"][..], Stage::Executor),
            (&["ReadBuffer_common", "heapam_index_fetch_tuple", "IndexNext"], Stage::Executor),
            (&[AES, LIST, NEXT, "sealvec::index::scan::amgettuple"], Stage::Open),
            (&[AES, RECORD, NEXT, "sealvec::index::scan::amgettuple"], Stage::Rerank),
            (&["ReadBufferExtended", LIST, NEXT, "IndexNext"], Stage::Buffers),
            (
                &["sealvec_core::math::kernels::avx512::score", "sealvec_core::ivf::scan::Scan::score_list", NEXT],
                Stage::Score,
            ),
            (&["free_list", "sealvec_core::ivf::scan::Scan::score_slots", NEXT], Stage::Rerank),
            (&["memcpy", "sealvec_core::ivf::scan::Scan::score_list", NEXT], Stage::Score),
            (&["sealvec_core::ivf::slots::live_entry", "sealvec_core::ivf::scan::Scan::open"], Stage::SlotMap),
            (&["sealvec_core::ivf::directory::current", NEXT], Stage::Directory),
            (&["palloc", "sealvec::index::scan::amgettuple", "IndexNext"], Stage::Other),
            (&[AES, "sealvec::datatype::distance::l2_wrapper", "ExecInterpExpr"], Stage::Values),
            (
                &["clear_page_erms", "asm_exc_page_fault", "sealvec_core::ivf::scan::Scan::score_list", NEXT],
                Stage::Memory,
            ),
            (&["asm_exc_page_fault", "heap_getnext", "SeqNext"], Stage::Executor),
            (&[], Stage::Executor),
        ] {
            assert_eq!(stage(frames), wanted, "{frames:?}");
        }
    }

    #[test]
    fn samples_are_read_from_what_perf_prints() {
        let script = "\n  5611 aes_gcm\n  5622 sealvec_core::ivf::lists::read::<A, B>\n\n  77 [unknown]\n\n";
        assert_eq!(stacks(script), [vec!["aes_gcm", "sealvec_core::ivf::lists::read::<A, B>"], vec!["[unknown]"]]);
    }
}
