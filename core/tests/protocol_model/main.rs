//! An explicit-state model of the page protocol of `sealed_ivf` (`src/index/README.md`).
//!
//! One step is one WAL record or one page read under its lock. Inserters, extenders, mergers,
//! VACUUM, cleanup, primary and standby scans and a crash meet in every order, on indexes of a few
//! rows whose freed blocks are taken again at once. Oracle: every scan returns each row of its
//! snapshot once, with the right TID and the right vector, and never calls sound pages corrupt;
//! between any two records the published index leads to every row once and to no page twice.
//!
//! Each rule of the protocol is a switch, and with any one switched off some scenario fails. So
//! the rules are not decoration, and the model is not blind.

mod check;
mod explore;
mod insert;
mod locks;
mod maintain;
mod rules;
mod scan;
mod scenario;
mod vacuum;
mod world;

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use explore::{Explored, explore, run};
use rules::{ALL, Rule, Rules};
use scenario::Scenario;

/// No scenario has more states with every rule on.
const STATES_MAX: usize = 300_000;

/// Runs `job` for each of `jobs` on two threads and gives the outcomes in their order.
fn on_two_threads<J: Sync, T: Send>(jobs: &[J], job: impl Fn(&J) -> T + Sync) -> Vec<T> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(index) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|index| *index < jobs.len()) {
                    let outcome = job(&jobs[index]);
                    done.lock().expect("no job panics while it holds this").push((index, outcome));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("no job panics while it holds this");
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, outcome)| outcome).collect()
}

fn scenario(name: &str) -> Scenario {
    let found = scenario::all().into_iter().find(|scenario| scenario.name == name);
    found.unwrap_or_else(|| panic!("no scenario is called {name:?}"))
}

#[test]
fn with_every_rule_every_scan_is_right() {
    let scenarios = scenario::all();
    let explored = on_two_threads(&scenarios, |scenario| explore(scenario, Rules::all(), true, STATES_MAX));
    let mut total = 0;
    for (scenario, explored) in scenarios.iter().zip(explored) {
        println!("{:>7} states: {}", explored.states, scenario.name);
        total += explored.states;
        if let Some(failure) = explored.failure {
            panic!("{}: {}\n{}", scenario.name, failure.what, failure.trace.join("\n"));
        }
        assert!(explored.complete, "{} has more than {STATES_MAX} states", scenario.name);
    }
    println!("{total:>7} states in all");
    assert!(total > 500_000, "the scenarios have become trivial");
}

/// What meets the lack of a rule.
#[derive(Clone, Copy, PartialEq)]
enum Met {
    /// A scan answers wrongly.
    ByScan,
    /// The index is damaged between two records, whoever scans it next.
    InIndex,
}
use Met::{ByScan, InIndex};

/// Where the lack of a rule shows: rules switched off, scenario, who meets it, words of the failure.
/// A rule with a companion is a second line of defence: either alone holds in that scenario.
#[rustfmt::skip]
const SHOWN: &[(&[Rule], &str, Met, &str)] = &[
    (&[Rule::SlotsNeverReused], "vacuum frees leaves, inserts take pages and TIDs, scan", ByScan, "lost rows"),
    (&[Rule::PublishOnce], "tail to L0, insert, scan", ByScan, "lost rows"),
    (&[Rule::UnbornIgnored], "tail to L0, insert, scan", ByScan, "twice"),
    (&[Rule::UnbornIgnored], "chunks in pieces, scan", ByScan, "piece missing"),
    (&[Rule::WorkEpochFirst], "tail to L0, insert, scan", InIndex, "2 lists"),
    (&[Rule::PublishInPlace], "the slot directory grows, merge, scan", ByScan, "lost rows"),
    (&[Rule::OneMetaRead], "tail to L0, insert, scan", ByScan, "lost rows"),
    (&[Rule::DirectoryByEpoch], "the first lists, scan with an empty directory", ByScan, "lost rows"),
    (&[Rule::DirectoryByUuid], "a new build, scan with the old directory", ByScan, "false corruption"),
    (&[Rule::SlotSet], "L0 to lists, then tail to L0, scan", ByScan, "twice"),
    (&[Rule::MergedOnly], "L0 to lists, then tail to L0, scan", ByScan, "twice"),
    (&[Rule::TailEndAfterSnapshot], "tail to L0, insert, scan", ByScan, "lost rows"),
    (&[Rule::EmptyHeadReadsMap], "a list born empty grows, scan", ByScan, "lost rows"),
    (&[Rule::ListHeader], "L0 to lists, then tail to L0, scan", ByScan, "chunk does not open"),
    (&[Rule::LeafHeader], "vacuum frees leaves, inserts take pages and TIDs, scan", ByScan, "false corruption"),
    (&[Rule::VectorSlot], "vacuum frees leaves, inserts take pages and TIDs, scan", ByScan, "record does not open"),
    (&[Rule::OverflowName], "long records, vacuum, pages taken again, scan", ByScan, "part does not open"),
    (&[Rule::DirectoryHeader], "lists replaced twice, scan", ByScan, "directory does not open"),
    (&[Rule::LookAgain], "L0 to lists, then tail to L0, scan", ByScan, "false corruption"),
    (&[Rule::ThriceIsDamage], "L0 to lists, standby scan over a crash", ByScan, "false corruption (list)"),
    (&[Rule::ThriceIsDamage], "a record moves there and back, scan", ByScan, "false corruption (record)"),
    (&[Rule::FromTheFirst], "lists replaced, standby scan over a crash", ByScan, "lost rows"),
    (&[Rule::NewUid], "a row changes its list, scan", ByScan, "lost rows"),
    (&[Rule::MapBeforePages, Rule::ThriceIsDamage], "L0 to lists, then tail to L0, scan", ByScan, "false corruption (list)"),
    (&[Rule::UnlinkBeforeFree], "L0 to lists, standby scan over a crash", ByScan, "false corruption (list)"),
    (&[Rule::LeafDecidesNumber], "a leaf dies under a waiting inserter", InIndex, "has no record"),
    (&[Rule::ExtendRechecks], "two extenders, merge, scan", ByScan, "lost rows"),
    (&[Rule::ExtendOnce], "tail to L0, standby scan over a crash", ByScan, "false corruption (leaf"),
    (&[Rule::InsertOnce], "tail to L0, insert, scan", ByScan, "false corruption (record)"),
    (&[Rule::PartsFirst], "long records, orphans, standby scan over a crash", ByScan, "false corruption"),
    (&[Rule::CollectThenWalk], "long records, orphans, standby scan over a crash", ByScan, "false corruption"),
    (&[Rule::OrphanXid], "long records, orphans, standby scan over a crash", ByScan, "false corruption"),
    (&[Rule::FreeRechecksName], "long records, vacuum beside cleanup", InIndex, "lost a part"),
    (&[Rule::NoKillPriorTuple], "a row dies for the primary, standby scan", ByScan, "standby scan: lost rows"),
    (&[Rule::NoPrivateVacuum], "a private vacuum, TID reused, scan", ByScan, "lost rows"),
    (&[Rule::FreeFullLeaf], "the open leaf dies, a late append, merge, scan", ByScan, "lost rows"),
    (&[Rule::FreeLeafOnce], "vacuum frees leaves, inserts take pages and TIDs, scan", ByScan, "false corruption (leaf)"),
    (&[Rule::RecordsThenStates], "long records, orphans, standby scan over a crash", ByScan, "false corruption (record)"),
    (&[Rule::MoveOnce], "records move, vacuum, scan", ByScan, "false corruption (record)"),
    (&[Rule::MoveRechecks], "a record moves while its leaf dies", ByScan, "a mover expected a leaf"),
    (&[Rule::TidAtOutput], "vacuum twice over a crash, standby scan that knows TIDs", ByScan, "comes with the distance of"),
    (&[Rule::OpenUnderLock], "L0 to lists, then tail to L0, scan", ByScan, "while it was opened"),
    (&[Rule::RecoverFirst], "tail to L0, insert, scan", InIndex, "2 lists"),
    (&[Rule::ResetDied], "cleanup beside a merge and an insert, scan", InIndex, "is not where the directory says"),
    (&[Rule::SweepLocked], "cleanup beside a merge and an insert, scan", InIndex, "0 lists"),
    (&[Rule::SweepByReach], "the first lists, scan with an empty directory", InIndex, "leaked pages"),
    (&[Rule::MaintenanceLock], "two maintainers, scan", InIndex, "is gone"),
    (&[Rule::MetaAfterLock], "two maintainers, scan", ByScan, "lost rows"),
    (&[Rule::FreeRechecked], "tail to L0, insert, scan", ByScan, "false corruption"),
    (&[Rule::CleanupKeepsTail], "records move, standby scan over a crash", ByScan, "lost rows"),
];

#[test]
fn each_rule_is_needed() {
    for rule in ALL {
        assert!(SHOWN.iter().any(|(shown, ..)| shown[0] == *rule), "nothing shows what {rule:?} is for");
    }
    let explored = on_two_threads(SHOWN, |(rules, name, met, _)| -> Explored {
        let scenario = scenario(name);
        for rule in rules.iter().filter(|_| rules.len() > 1) {
            let alone = explore(&scenario, Rules::without(&[*rule]), true, STATES_MAX);
            assert!(alone.failure.is_none(), "{rule:?} needs no companion in {name:?}");
        }
        explore(&scenario, Rules::without(rules), *met == InIndex, STATES_MAX)
    });
    for ((rules, name, _, words), explored) in SHOWN.iter().zip(explored) {
        let failure = explored.failure.unwrap_or_else(|| panic!("without {rules:?} {name:?} passes"));
        let (what, steps) = (failure.what, failure.trace.len());
        println!("without {rules:?}: {what} ({} states, {steps} steps, {name})", explored.states);
        assert!(what.contains(words), "without {rules:?}: expected {words:?}, not {what:?}");
    }
}

#[test]
fn random_runs_of_everything_at_once() {
    let seeds: Vec<u64> = (0..RUNS).collect();
    let start = std::env::var("SEALVEC_SEED").ok().and_then(|seed| seed.parse().ok());
    let first: u64 = start.unwrap_or(0x5EA1);
    let crowd = scenario::crowd();
    let steps = on_two_threads(&seeds, |seed| run(&crowd, Rules::all(), first + seed));
    let mut total = 0;
    for (seed, outcome) in seeds.iter().zip(steps) {
        match outcome {
            Ok(steps) => total += steps,
            Err(failure) => {
                panic!("SEALVEC_SEED={} fails: {}\n{}", first + seed, failure.what, failure.trace.join("\n"))
            }
        }
    }
    println!("{RUNS} runs, {total} steps, seeds from {first}");
}

/// Random runs of the crowded scenario.
const RUNS: u64 = 1_000;
