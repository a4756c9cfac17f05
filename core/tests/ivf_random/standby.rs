//! A standby: its scans read page by page while records are replayed between any two reads.

use std::cell::{Cell, RefCell};

use sealvec_core::{
    Error, Result,
    format::{Precision, meta::Identity},
    ivf::{
        self, Keys,
        merge::Effort,
        scan::{Scan, ScanOptions},
    },
    keys::{Dek, IndexKeys},
    math::random::Random,
    metric::Metric,
    store::{
        Action, Block, PageKind, PageMut, PageStore, Slot,
        memory::{MemoryPage, MemoryStore},
    },
};

use crate::{
    Rows, assert_hits, first_seed, operate,
    support::{Column, DEK, Index, cache, clustered, identity},
};

/// Pages as they were after each record of a window, and how far this standby has replayed.
struct Standby<'a> {
    after: &'a [MemoryStore],
    replayed: Cell<usize>,
    random: RefCell<Random>,
    /// One read in so many lets records come in, at most so many at once.
    pace: (usize, usize),
}

impl PageStore for Standby<'_> {
    type Page<'a>
        = MemoryPage
    where
        Self: 'a;
    type Action<'a>
        = Nothing
    where
        Self: 'a;

    fn read(&self, block: Block) -> Result<MemoryPage> {
        let mut random = self.random.borrow_mut();
        if random.below(self.pace.0) == 0 {
            let last = self.after.len() - 1;
            self.replayed.set((self.replayed.get() + 1 + random.below(self.pace.1)).min(last));
        }
        self.after[self.replayed.get()].read(block)
    }

    fn version(&self, page: &[u8; sealvec_core::store::PAGE]) -> Option<u64> {
        self.after[self.replayed.get()].version(page)
    }

    fn blocks(&self) -> Result<Block> {
        self.after[self.replayed.get()].blocks()
    }

    fn begin(&self) -> Result<Nothing> {
        Err(Error::Store) // recovery is in progress: a scan that writes is wrong
    }

    fn find_space(&self, _: usize) -> Result<Option<Block>> {
        Err(Error::Store)
    }

    fn record_space(&self, _: Block, _: usize) -> Result<()> {
        Err(Error::Store)
    }

    fn lock_maintenance(&self, _: bool) -> Result<bool> {
        Err(Error::Store)
    }

    fn unlock_maintenance(&self) {}

    fn check_interrupts(&self) -> Result<()> {
        Ok(())
    }

    fn transaction(&self) -> Result<u32> {
        Err(Error::Store)
    }

    fn transaction_ended(&self, _: u32) -> Result<bool> {
        Err(Error::Store)
    }
}

/// The action that a standby can't have.
enum Nothing {}

impl Action for Nothing {
    fn update(&mut self, _: Block) -> Result<Slot> {
        match *self {}
    }
    fn try_update(&mut self, _: Block) -> Result<Option<Slot>> {
        match *self {}
    }
    fn create(&mut self, _: PageKind) -> Result<(Slot, Block)> {
        match *self {}
    }
    fn page(&self, _: Slot) -> &[u8; sealvec_core::store::PAGE] {
        match *self {}
    }
    fn page_mut(&mut self, _: Slot) -> PageMut<'_> {
        match *self {}
    }
    fn commit(self) -> Result<()> {
        match self {}
    }
}

/// Rows after some record, for the snapshot that a scan takes there.
struct Moment {
    records: usize,
    rows: Rows,
}

/// Scans a window of records at every pace, with new and with old caches.
fn scan_window(index: &Index, first: usize, moments: &[Moment], query: &[f32], seed: u64, scans: usize) -> u32 {
    let after: Vec<MemoryStore> = (first..=index.store.log_len()).map(|records| index.store.replay(records)).collect();
    let dek = Dek::new(1, &DEK);
    let mut keys = IndexKeys::new(&dek, index.identity.index);
    let column = Column::new();
    let mut old = cache(index.identity.index);
    let mut random = Random::from_number(seed);
    let (mut restarts, mut known) = (0, 0);
    for number in 0..scans {
        let moment = &moments[random.below(moments.len())];
        let pace = [(1, 1), (2, 3), (4, 40), (60, 400), (300, 4000)][random.below(5)];
        println!("seed {seed}, scan {number} from record {} at pace {pace:?}", moment.records);
        let standby = Standby {
            after: &after,
            replayed: Cell::new(moment.records - first),
            random: RefCell::new(Random::from_number(seed ^ number as u64)),
            pace,
        };
        let mut new = cache(index.identity.index);
        if moment.records < known {
            old = cache(index.identity.index); // it knows what is yet to come
            known = 0;
        }
        let cache = if number % 2 == 0 { &mut new } else { &mut old };
        let mut keys = Keys { index: &mut keys, values: &column.keys };
        let options = ScanOptions { probes: u32::MAX, target_recall: 1.0, max_tuples: 0 };
        let meta = ivf::read_meta(&standby).unwrap();
        let mut scan = Scan::new(&meta, query, options).unwrap();
        let mut hits = Vec::new();
        while let Some(hit) = scan.next(&standby, cache, &mut keys).unwrap() {
            hits.push(hit);
        }
        restarts += scan.counts().restarts;
        if number % 2 == 1 {
            known = first + standby.replayed.get();
        }
        // A row that VACUUM takes in the window cancels scans that see it: they need not find it.
        // Rows that come in the window may be found; no snapshot sees them.
        let (mut kept, mut changed) = (moment.rows.clone(), Rows::new());
        kept.retain(|tid, _| index.rows.contains_key(tid));
        for later in moments {
            changed.extend(later.rows.iter().map(|(tid, row)| (*tid, row.clone())));
        }
        changed.retain(|tid, _| !kept.contains_key(tid));
        assert_hits(&hits, index.identity.metric, query, &kept, &changed);
    }
    restarts
}

fn moment(index: &Index) -> Moment {
    Moment { records: index.store.log_len(), rows: index.rows.clone() }
}

/// Random work on `rows` rows of `dims` elements, scanned while it is replayed; restarts of the scans.
fn run(seed: u64, dims: u16, metric: Metric, rows: usize, scans: usize) -> u32 {
    let mut random = Random::from_number(seed);
    let pool = clustered(rows, dims.into(), seed);
    let identity = Identity { lists: 7, ..identity(dims, metric, Precision::Float32) };
    let mut index = Index::on(MemoryStore::logged(), identity);
    pool.iter().for_each(|row| {
        index.insert(row);
    });
    index.train();
    let first = index.store.log_len();
    let mut moments = vec![moment(&index)];
    for number in 0..12 {
        operate(&mut index, &mut random, &pool);
        moments.push(moment(&index));
        if number % 2 == 0 {
            index.train(); // pages are recycled as fast as can be
            moments.push(moment(&index));
        }
    }
    scan_window(&index, first, &moments, &pool[3], seed, scans)
}

#[test]
fn scans_between_any_two_records_find_every_row() {
    let metrics = [Metric::L2, Metric::Cosine, Metric::InnerProduct];
    let restarts: u32 = (first_seed(21)..).zip(metrics).map(|(seed, metric)| run(seed, 5, metric, 500, 60)).sum();
    println!("{restarts} restarts");
    assert!(restarts > 20, "the scans met nothing: {restarts} restarts");
}

#[test]
fn scans_of_wide_chunks_and_long_records_find_every_row() {
    let restarts: u32 = (first_seed(41)..).take(4).map(|seed| run(seed, 2400, Metric::L2, 60, 120)).sum();
    println!("{restarts} restarts");
    assert!(restarts > 20, "the scans met nothing: {restarts} restarts");
}

#[test]
fn scans_across_a_merge_into_lists_and_splits_find_every_row() {
    let seed = first_seed(31);
    let pool = clustered(9_500, 4, seed);
    let mut index = Index::on(MemoryStore::logged(), identity(4, Metric::L2, Precision::Float32));
    for row in &pool[..5_000] {
        index.insert(row);
    }
    index.train();
    let skewed = &pool[5_000..];
    let (most, rest) = skewed.split_at(4_000);
    for row in most {
        index.insert(row);
    }
    let (first, mut moments) = (index.store.log_len(), vec![moment(&index)]);
    for rows in rest.chunks(40) {
        // L0 fills up: its rows go to lists, and lists are split.
        rows.iter().for_each(|row| {
            index.insert(row);
        });
        moments.push(moment(&index));
    }
    index.delete(|tid| tid.block % 7 == 0);
    index.merge(Effort::All);
    moments.push(moment(&index));
    index.check();
    let restarts = scan_window(&index, first, &moments, &pool[7], seed, 25);
    println!("{restarts} restarts");
}
