//! The real index under random work, crashes after any record, and readers between any two of them.
//!
//! `protocol_model` explores the rules on a model; here the code itself is held to them. A seed
//! tells a whole run; on failure it is printed, and `SEALVEC_SEED` starts there.

mod crash;
mod standby;
#[allow(dead_code)] // the other tests of the index use more of it
#[path = "../ivf/support.rs"]
mod support;

use std::collections::BTreeMap;

use sealvec_core::{
    Error,
    format::Tid,
    ivf::{self, Query, merge::Effort},
    math::random::Random,
    metric::Metric,
};

use support::Index;

/// Rows by TID, as they were after some record.
pub type Rows = BTreeMap<Tid, Vec<f32>>;

/// First seed of a test.
pub fn first_seed(default: u64) -> u64 {
    std::env::var("SEALVEC_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(default)
}

/// What happened between two records: rows before, rows that may or may not be there any more.
pub struct Step {
    /// Records of the log when it began and when it ended.
    pub records: (usize, usize),
    pub name: &'static str,
    /// Rows that every scan in between must find.
    pub kept: Rows,
    /// Rows that came or went.
    pub changed: Rows,
}

/// One random operation on `index`, which keeps a log.
pub fn operate(index: &mut Index, random: &mut Random, pool: &[Vec<f32>]) -> Step {
    let (before, start) = (index.rows.clone(), index.store.log_len());
    let name = match random.below(21) {
        19.. => {
            let count = random.below(120);
            let rows: Vec<Vec<f32>> = (0..count).map(|_| pool[random.below(pool.len())].clone()).collect();
            index.insert_many(&rows);
            "inserts of many"
        }
        0..8 => {
            for _ in 0..1 + random.below(90) {
                let row = &pool[random.below(pool.len())];
                if random.below(4) == 0 {
                    index.insert_locked(row)
                } else {
                    index.insert(row)
                };
            }
            "inserts"
        }
        8..10 => {
            index.merge(Effort::All);
            "merge"
        }
        10 => {
            index.train();
            "train"
        }
        11..14 => {
            // A user cancels a merge; the next one finds what it left.
            for _ in 0..40 {
                let row = &pool[random.below(pool.len())];
                index.insert_locked(row);
            }
            index.store.fail_after(random.below(70));
            let outcome = match random.below(3) {
                0 => index.with(ivf::merge::train).err(),
                _ => index
                    .with(|store, cache, keys, work| ivf::merge::merge(store, cache, keys, Effort::All, work))
                    .err(),
            };
            index.store.fail_after(usize::MAX);
            assert!(matches!(outcome, None | Some(Error::Store)), "{outcome:?}");
            "cancelled merge"
        }
        14..17 => {
            let share = [2, 3, 10, 100][random.below(4)];
            let first = random.below(2) == 0;
            let dead: Vec<Tid> = match first {
                true => index.rows.keys().copied().take(index.rows.len() / share).collect(),
                false => index.rows.keys().copied().filter(|_| random.below(share) == 0).collect(),
            };
            index.delete(|tid| dead.binary_search(&tid).is_ok());
            "vacuum"
        }
        _ => {
            ivf::vacuum::cleanup(&index.store, &mut index.cache).unwrap();
            "cleanup"
        }
    };
    let mut kept = before.clone();
    kept.retain(|tid, _| index.rows.contains_key(tid));
    let mut changed = before;
    changed.extend(index.rows.iter().map(|(tid, row)| (*tid, row.clone())));
    changed.retain(|tid, _| !kept.contains_key(tid));
    Step { records: (start, index.store.log_len()), name, kept, changed }
}

/// Asserts that a scan's hits are `kept`, each once and with its own score, and of the others only `changed`.
pub fn assert_hits(hits: &[ivf::scan::Hit], metric: Metric, query: &[f32], kept: &Rows, changed: &Rows) {
    let scorer = Query::new(metric, query);
    let mut found = BTreeMap::new();
    for hit in hits {
        let row = kept.get(&hit.tid).or_else(|| changed.get(&hit.tid));
        let row = row.unwrap_or_else(|| panic!("{:?} of slot {} is nobody's", hit.tid, hit.slot));
        let mut values = row.clone();
        if metric == Metric::Cosine {
            let norm = values.iter().map(|value| value * value).sum::<f32>().sqrt();
            values.iter_mut().for_each(|value| *value /= norm);
        }
        let exact = scorer.score_values(&values).value;
        let room = 1e-4 + 1e-3 * exact.abs();
        assert!((hit.score - exact).abs() < room, "{:?} scores {} and is at {exact}", hit.tid, hit.score);
        assert!(found.insert(hit.tid, hit.slot).is_none(), "{:?} comes twice", hit.tid);
    }
    let lost: Vec<&Tid> = kept.keys().filter(|tid| !found.contains_key(tid)).collect();
    assert!(lost.is_empty(), "{} of {} rows are lost, {:?} first", lost.len(), kept.len(), lost[0]);
}
