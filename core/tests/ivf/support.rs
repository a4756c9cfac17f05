//! An index in memory with its keys, a model of its rows, and the exact answer.

use std::collections::BTreeMap;

use sealvec_core::{
    Error, Result,
    crypto::XaesKey,
    format::{
        Precision, Tid,
        meta::Identity,
        value::{ValueHeader, seal_value},
    },
    ivf::{
        self, Cache, ColumnKeys, Keys, Phase, Work,
        insert::{Row, insert, insert_many},
        merge::Effort,
        scan::{Hit, Scan, ScanOptions},
    },
    keys::{Dek, IndexKeys, Uuid},
    math::random::Random,
    metric::Metric,
    store::{PAGE, memory::MemoryStore},
};

pub const DEK: [u8; 32] = [7; 32];

/// Column values under a fixed key.
pub struct Column {
    pub keys: ColumnKeys,
    key: XaesKey,
    ring: Uuid,
}

impl Column {
    pub fn new() -> Self {
        let (ring, dek) = (Uuid::from_bytes([0x55; 16]), Dek::new(1, &[9; 32]));
        let mut keys = ColumnKeys::new(ring);
        keys.add(&dek);
        Self { keys, key: dek.value_key(&ring), ring }
    }

    pub fn seal(&self, values: &[f32]) -> Vec<u8> {
        let header = ValueHeader::column(&self.ring, 1, values.len()).unwrap();
        seal_value(&self.key, &header, &self.ring, values).unwrap()
    }

    pub fn seal_under(&self, dek: &Dek<'_>, values: &[f32]) -> Vec<u8> {
        let header = ValueHeader::column(&self.ring, dek.version(), values.len()).unwrap();
        seal_value(&dek.value_key(&self.ring), &header, &self.ring, values).unwrap()
    }
}

pub struct Index {
    pub store: MemoryStore,
    pub cache: Cache,
    pub keys: IndexKeys,
    pub column: Column,
    pub identity: Identity,
    /// Live rows by TID.
    pub rows: BTreeMap<Tid, Vec<f32>>,
    next: u32,
}

/// What a backend that just started knows: nothing, and it keeps a few pages of lists as it opens them.
pub fn cache(index: Uuid) -> Cache {
    let mut cache = Cache::new(index);
    cache.keep_opened(24 * PAGE);
    cache
}

pub fn identity(dims: u16, metric: Metric, precision: Precision) -> Identity {
    Identity { index: Uuid::from_bytes([3; 16]), ring: 5, dims, metric, precision, lists: 0 }
}

impl Index {
    pub fn new(identity: Identity) -> Self {
        Self::on(MemoryStore::new(), identity)
    }

    pub fn on(store: MemoryStore, identity: Identity) -> Self {
        ivf::create(&store, identity).unwrap();
        let mut index = Self::reopen(store, identity);
        index.rows = BTreeMap::new();
        index
    }

    /// A new backend on pages that exist.
    pub fn reopen(store: MemoryStore, identity: Identity) -> Self {
        let dek = Dek::new(1, &DEK);
        Self {
            store,
            cache: cache(identity.index),
            keys: IndexKeys::new(&dek, identity.index),
            column: Column::new(),
            identity,
            rows: BTreeMap::new(),
            next: 0,
        }
    }

    fn next_tid(&mut self) -> Tid {
        self.next += 1;
        Tid { block: self.next / 50, offset: (self.next % 50 + 1) as u16 }
    }

    pub fn insert(&mut self, values: &[f32]) -> Tid {
        let tid = self.next_tid();
        let row = Row::Plain { tid, values, keys: &mut self.keys };
        let inserted = insert(&self.store, &mut self.cache, row).unwrap();
        if inserted.slot.is_some() {
            self.rows.insert(tid, values.to_vec());
        }
        if inserted.tail >= ivf::TAIL_ROWS {
            self.merge(Effort::Step);
        }
        tid
    }

    /// Inserts rows as one statement does that brings many.
    pub fn insert_many(&mut self, rows: &[Vec<f32>]) {
        let rows: Vec<(Tid, &[f32])> = rows.iter().map(|row| (self.next_tid(), row.as_slice())).collect();
        let tail = insert_many(&self.store, &mut self.cache, &mut self.keys, &rows).unwrap();
        let is_indexable =
            |row: &[f32]| self.identity.metric != Metric::Cosine || row.iter().any(|element| *element != 0.0);
        let kept = rows.iter().filter(|(_, row)| is_indexable(row));
        self.rows.extend(kept.map(|(tid, row)| (*tid, row.to_vec())));
        if tail >= ivf::TAIL_ROWS {
            self.merge(Effort::Step);
        }
    }

    /// Inserts as a backend without the key does.
    pub fn insert_locked(&mut self, values: &[f32]) -> Tid {
        let tid = self.next_tid();
        let value = self.column.seal(values);
        insert(&self.store, &mut self.cache, Row::Sealed { tid, value: &value }).unwrap();
        self.rows.insert(tid, values.to_vec());
        tid
    }

    /// Inserts bytes that nobody sealed, as a role without the key can.
    pub fn insert_forged(&mut self, forged: &[u8]) -> Tid {
        let tid = self.next_tid();
        insert(&self.store, &mut self.cache, Row::Sealed { tid, value: forged }).unwrap();
        tid
    }

    pub fn with<R>(&mut self, job: impl FnOnce(&MemoryStore, &mut Cache, &mut Keys<'_>, &mut Work<'_>) -> R) -> R {
        let mut keys = Keys { index: &mut self.keys, values: &self.column.keys };
        let mut tick = |_: Phase, _: u64, _: u64| Ok(());
        let mut work = Work { pool: None, memory_bytes: 16 << 20, tick: &mut tick };
        job(&self.store, &mut self.cache, &mut keys, &mut work)
    }

    pub fn merge(&mut self, effort: Effort) -> ivf::merge::Merged {
        self.with(|store, cache, keys, work| ivf::merge::merge(store, cache, keys, effort, work)).unwrap()
    }

    pub fn train(&mut self) {
        self.with(ivf::merge::train).unwrap();
    }

    pub fn delete(&mut self, dead: impl Fn(Tid) -> bool) -> ivf::vacuum::Deleted {
        self.rows.retain(|tid, _| !dead(*tid));
        ivf::vacuum::bulk_delete(&self.store, &mut self.cache, &mut |tid| Ok(dead(tid))).unwrap()
    }

    pub fn search(&mut self, query: &[f32], k: usize, options: ScanOptions) -> Vec<Hit> {
        self.try_search(query, k, options).unwrap()
    }

    pub fn try_search(&mut self, query: &[f32], k: usize, options: ScanOptions) -> Result<Vec<Hit>, Error> {
        let meta = ivf::read_meta(&self.store)?;
        let mut scan = Scan::new(&meta, query, options)?;
        self.with(|store, cache, keys, _| {
            let mut hits = Vec::new();
            while hits.len() < k {
                match scan.next(store, cache, keys)? {
                    Some(hit) => hits.push(hit),
                    None => break,
                }
            }
            Ok(hits)
        })
    }

    /// Every row, in exact order of score.
    pub fn exact(&self, query: &[f32]) -> Vec<(f32, Tid)> {
        let query = ivf::Query::new(self.identity.metric, query);
        let mut all: Vec<(f32, Tid)> = self
            .rows
            .iter()
            .map(|(tid, values)| {
                let mut values = values.clone();
                let scale = values.iter().map(|v| v * v).sum::<f32>().sqrt();
                if self.identity.metric == Metric::Cosine {
                    values.iter_mut().for_each(|v| *v /= scale);
                }
                (query.score_values(&values).value, *tid)
            })
            .collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        all
    }

    /// Share of the true k nearest that a scan finds, by score with room for rounding.
    pub fn recall(&mut self, query: &[f32], k: usize, options: ScanOptions) -> f64 {
        let exact = self.exact(query);
        let k = k.min(exact.len());
        let limit = exact[k - 1].0;
        let limit = limit + limit.abs() * 2e-3 + 1e-6;
        let hits = self.search(query, k, options);
        hits.iter().filter(|hit| hit.score <= limit).count() as f64 / k as f64
    }

    /// A scan to the end gives every live row once.
    pub fn assert_complete(&mut self, query: &[f32]) {
        let hits = self.search(query, usize::MAX, ScanOptions { probes: u32::MAX, ..Default::default() });
        let mut found: Vec<Tid> = hits.iter().map(|hit| hit.tid).collect();
        for pair in hits.windows(2) {
            assert!(pair[0].score <= pair[1].score, "{:?}: {pair:?} out of order", self.identity);
        }
        found.sort();
        let expected: Vec<Tid> = self.rows.keys().copied().collect();
        assert_eq!(found.len(), expected.len(), "every live row once");
        assert_eq!(found, expected);
    }

    pub fn check(&mut self) -> ivf::check::Report {
        self.try_check().unwrap()
    }

    pub fn try_check(&mut self) -> Result<ivf::check::Report> {
        self.with(|store, cache, keys, _| ivf::check::check(store, cache, keys, &mut |_, _| Ok(())))
    }
}

/// Rows around a few centres, as embeddings lie.
pub fn clustered(rows: usize, dims: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut random = Random::from_number(seed);
    let centres: Vec<Vec<f32>> = (0..24).map(|_| (0..dims).map(|_| random.normal()).collect()).collect();
    (0..rows)
        .map(|_| {
            let centre = &centres[random.below(centres.len())];
            centre.iter().map(|value| value + 0.5 * random.normal()).collect()
        })
        .collect()
}
