//! A crash after any record: before recovery and after it, the answers are right.

use sealvec_core::{
    format::{
        Precision, Tid,
        meta::Identity,
        vector::{self, OverflowLink, RecordKind},
    },
    ivf::{
        self,
        insert::{Row, insert},
        merge::Effort,
        scan::ScanOptions,
    },
    math::random::Random,
    metric::Metric,
    store::{Clear, PageKind, body, kind, memory::MemoryStore},
};

use crate::{
    Step, assert_hits, first_seed, operate,
    support::{Index, clustered, identity},
};

const EVERYTHING: ScanOptions = ScanOptions { probes: u32::MAX, target_recall: 1.0, max_tuples: 0 };

/// The server that comes up after the first `records` records of `index`'s log.
fn crash(index: &Index, records: usize) -> Index {
    Index::reopen(index.store.replay(records), index.identity)
}

/// What must hold after a crash within `step`.
fn assert_survives(index: &Index, records: usize, step: &Step, query: &[f32]) {
    let mut index = crash(index, records);
    let metric = index.identity.metric;
    // As a standby, or the first scan of the new primary, sees it: nothing is recovered yet.
    let hits = index.search(query, usize::MAX, EVERYTHING);
    assert_hits(&hits, metric, query, &step.kept, &step.changed);
    if records.is_multiple_of(2) {
        index.check(); // recovers first, else the merge must
    }
    let mut kept = step.kept.clone();
    for number in 0..3 {
        let tid = Tid { block: 1_000_000 + number, offset: 1 };
        let row = Row::Plain { tid, values: query, keys: &mut index.keys };
        insert(&index.store, &mut index.cache, row).unwrap();
        kept.insert(tid, query.to_vec());
    }
    index.merge(Effort::All);
    let hits = index.search(query, usize::MAX, EVERYTHING);
    assert_hits(&hits, metric, query, &kept, &step.changed);
    let report = index.check();
    assert_eq!((report.rows, report.tail), (hits.len() as u64, 0), "{report:?}");
    ivf::vacuum::cleanup(&index.store, &mut index.cache).unwrap();
    assert_nothing_leaks(&index, hits.len());
}

/// After a cleanup, nothing is left of rows that died or were never finished, nor of batches undone.
fn assert_nothing_leaks(index: &Index, rows: usize) {
    let (mut records, mut parts, mut linked) = (0, 0, 0);
    for page in index.store.images() {
        match kind(&page) {
            Some(PageKind::Vector) => {
                for record in vector::records(body(&page)).flatten().filter(|r| r.header.slot != vector::FREE_SLOT) {
                    records += 1;
                    if matches!(record.header.kind, RecordKind::IndexedHead | RecordKind::VerbatimHead) {
                        linked += OverflowLink::at(record.payload, 0).unwrap().parts as usize - 1;
                    }
                }
            }
            Some(PageKind::Overflow) => parts += 1,
            _ => {}
        }
    }
    assert_eq!((records, parts), (rows, linked), "vector records and overflow pages");
    let pages: u32 = ivf::stats::list_stats(&index.store).unwrap().iter().map(|list| list.pages).sum();
    let on_disk = index.store.images().iter().filter(|page| kind(page) == Some(PageKind::List)).count();
    assert_eq!(on_disk, pages as usize, "list pages");
}

fn run(seed: u64, dims: u16, metric: Metric, lists: u32, rows: usize, steps: usize, crashes_max: usize) {
    let mut random = Random::from_number(seed);
    let pool = clustered(rows, dims as usize, seed);
    let identity = Identity { lists, ..identity(dims, metric, Precision::Float32) };
    let mut index = Index::on(MemoryStore::logged(), identity);
    for row in &pool {
        index.insert(row);
    }
    if lists > 0 {
        index.train();
    }
    for number in 0..steps {
        let step = operate(&mut index, &mut random, &pool);
        let query = &pool[random.below(pool.len())];
        let hits = index.search(query, usize::MAX, EVERYTHING);
        assert_hits(&hits, metric, query, &index.rows, &Default::default());
        index.check();
        let (first, last) = step.records;
        let crashes: Vec<usize> = match last - first {
            few if few <= crashes_max => (first..=last).collect(),
            many => (0..crashes_max).map(|_| first + random.below(many + 1)).collect(),
        };
        for records in crashes {
            println!("seed {seed}, step {number} ({}), record {records} of {first}..={last}", step.name);
            assert_survives(&index, records, &step, query);
        }
    }
}

#[test]
fn a_crash_after_any_record_loses_nothing() {
    let first = first_seed(1);
    for (seed, metric) in (first..).zip([Metric::L2, Metric::Cosine, Metric::InnerProduct, Metric::L2]) {
        run(seed, 6, metric, if seed % 2 == 0 { 0 } else { 9 }, 700, 14, 12);
    }
}

#[test]
fn a_crash_within_a_long_record_loses_nothing() {
    let first = first_seed(11);
    for (seed, metric) in (first..).zip([Metric::L2, Metric::Cosine]) {
        run(seed, 2500, metric, 3, 24, 5, 8);
    }
}
