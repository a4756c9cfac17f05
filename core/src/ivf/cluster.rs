//! Clustering: making lists out of rows, and publishing a new set of lists.
//!
//! The holder of the maintenance lock runs this. Records are opened on the calling thread;
//! arithmetic runs on `Work::pool`.

use std::ops::Range;

use zeroize::Zeroizing;

use super::{
    Cache, Keys, L0_ROWS, LIST_ROWS, Phase, RECLUSTER_BELOW, Work,
    batch::Batch,
    directory::{self, Directory},
    encode::{Chunk, encode_rows, in_parallel},
    open::open_vector,
    rows::Rows,
    source::{Assigned, Source},
    update_meta,
};
use crate::{
    Result,
    format::{
        directory::{DirectoryEntry, DirectoryStream},
        list::MAP_ENTRIES,
        meta::{Identity, Meta},
        slot::NODE_CHILDREN,
    },
    math::{Assigner, Calibration, Centroids, KmeansOptions, ListStats, cluster, kmeans::memory_bytes},
    metric::Metric,
    store::PageStore,
};

/// What lists are made for, and so how much they may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// To stay: somebody asked for them.
    Good,
    /// Until rows have grown by two thirds.
    AWhile,
}

impl For {
    /// For lists that `rows` rows have grown to need. A small index is measured coarsely enough as it is, and costs little.
    pub fn growth(rows: u64) -> Self {
        if rows < 5 * L0_ROWS { For::Good } else { For::AWhile }
    }

    /// Sample rows for each list: more buys no recall (`spec/prototype.md`), fewer make its calibration coarse.
    fn sample_rows(self) -> usize {
        match self {
            For::Good => 64,
            For::AWhile => 48,
        }
    }

    /// Rounds of k-means.
    fn iterations(self) -> usize {
        match self {
            For::Good => 10,
            For::AWhile => 6,
        }
    }

    /// Rows that ask, when the probe rule is calibrated: each meets every row.
    fn queries(self, rows: u64) -> usize {
        if self == For::Good && rows < RECLUSTER_BELOW { 1024 } else { 512 }
    }
}

/// Most lists that are made at once: old and new ones are in the map together, and splits add some.
pub(super) const LISTS_MAX: u64 = (MAP_ENTRIES * NODE_CHILDREN / 2 - 4096) as u64;
/// Sample rows for each list below which centroids are moved to the means of all rows.
const THIN: usize = 32;
/// How often.
const REFINEMENTS: usize = 2;
/// Bytes that the sums of a refinement may always take.
const SUMS_BYTES: usize = 256 << 20;
/// Rows that are coded at a time at least, so that every core has some.
const GROUP_ROWS: usize = 2048;
/// And at most, so that a cancel does not wait.
const GROUP_ROWS_MAX: usize = 65_536;

/// Lists for `rows` rows, from the reloption or the size: longer ones where the map would not hold as many.
pub fn list_count(identity: &Identity, rows: u64) -> usize {
    let wanted = if identity.lists > 0 { u64::from(identity.lists) } else { rows.div_ceil(LIST_ROWS) };
    wanted.clamp(1, rows.clamp(1, LISTS_MAX)) as usize
}

/// Whether `rows` rows are worth lists at all: fewer are searched through L0, exactly enough.
pub fn wants_lists(identity: &Identity, rows: u64) -> bool {
    identity.lists > 0 && rows > 0 || rows >= L0_ROWS
}

/// Clusters every live row below `upto` from scratch and publishes the new lists.
/// The caller holds the maintenance lock and has recovered.
pub fn cluster_all<S: PageStore>(
    store: &S,
    cache: &mut Cache,
    keys: &mut Keys<'_>,
    upto: u64,
    lists_for: For,
    work: &mut Work<'_>,
) -> Result<Meta> {
    let (meta, old) = directory::current(store, cache, keys.index)?;
    let identity = meta.identity;
    let dims = identity.dims as usize;
    let mut source = Source::new(store, cache, &identity, upto)?;
    let count = list_count(&identity, source.len() as u64);

    let memory = work.memory_bytes.saturating_sub(source.len() * size_of::<u64>());
    let wanted = sample_size(dims, count, count * lists_for.sample_rows(), memory).min(source.len());
    let room = memory.saturating_sub(sample_bytes(dims, count, wanted)).min(memory / 2);
    source.keep(store, cache, keys, room, work)?;
    let asking = asking_places(source.len(), lists_for.queries(source.len() as u64));
    let mut sample = source.sample(store, cache, keys, wanted, &asking, work)?;
    if sample.is_empty() {
        // No row is left that can be indexed, and none may be tried again with each insert.
        return update_meta(store, |meta| meta.merged_upto = upto);
    }
    let count = count.min(sample.len() / dims);
    let options = KmeansOptions {
        iterations: lists_for.iterations(),
        spherical: identity.metric == Metric::Cosine,
        pool: work.pool,
        ..KmeansOptions::default()
    };
    let mut clusters = {
        let (tick, total) = (&mut work.tick, sample.len() as u64);
        cluster(&mut sample, dims, count, &options, &mut || tick(Phase::Clustering, total, total))?
    };
    let mean = mean_of(&sample, dims);
    let thin = sample.len() / dims < count * THIN;
    drop(sample);
    // What is left beside centroids and assignments: three quarters for rows that stay, the rest for those of a batch.
    let memory = memory.saturating_sub(assigning_bytes(dims, count, source.len())).max(memory / 4);
    source.keep(store, cache, keys, memory / 4 * 3, work)?;
    let seed = match &old {
        Some(old) => old.stream.seed,
        None => crate::crypto::nonce::random()?,
    };

    // Unless their sums alone take more than was allowed, and more than anybody would miss.
    let fit = count * dims * size_of::<f64>() <= work.memory_bytes.max(SUMS_BYTES);
    for _ in 0..if thin && fit { REFINEMENTS } else { 0 } {
        source.refine(store, cache, keys, &mut clusters, &options, work)?;
    }
    // What readers decode is what rows are coded against.
    let rounded = Centroids::new(dims, &clusters.centroids);
    clusters.centroids = rounded.to_floats();
    let mut asking = source.asking(store, cache, keys, &asking)?;
    let assigned = {
        let mut list_of = vec![Assigned::NO_LIST; source.len()];
        let assigner = Assigner::grouped(dims, &clusters.centroids, clusters.groups.as_ref());
        source.assign(store, cache, keys, &assigner, work, &mut |places, values, nearest| {
            places.iter().zip(nearest).for_each(|(place, (list, _))| list_of[*place] = *list);
            asking.see(places, values, options.pool);
        })?;
        Assigned::new(list_of, count)
    };
    let entry = DirectoryEntry { uid: 0, position: 0, head: 0, rows: 0, stats: ListStats::default() };
    let calibration = Calibration::everything(); // until the lists are known
    let entries = vec![entry; count];
    let stream = DirectoryStream { seed, calibration, mean, entries, centroids: rounded, digest: None };
    let mut batch = Batch::begin(store)?;
    let mut directory = Directory::new(batch.meta.directory_epoch + 1, identity.metric, stream);
    let room = memory / 4 / (dims * 4);
    write_lists(store, cache, keys, &mut batch, &mut directory, &source, &assigned, room, work)?;
    directory.stream.calibration = {
        let (tick, rows) = (&mut work.tick, source.len() as u64);
        let tick = &mut || tick(Phase::Writing, rows, rows);
        asking.calibrate(|place| assigned.list_of(place), &clusters.centroids, &directory.stats, work.pool, tick)?
    };
    let rows = directory.entries().iter().map(|entry| u64::from(entry.rows)).sum();
    batch.replace_all_lists(store)?;
    batch.publish_directory(store, cache, keys, directory, |meta| {
        meta.merged_upto = upto;
        (meta.list_rows, meta.clustered_rows, meta.dead_rows) = (rows, rows, 0);
    })
}

/// Bytes that assigning `rows` rows takes beside the rows themselves: lists and places, and centroids as floats, as halves,
/// packed for comparison and as the sums that the next ones are made from.
fn assigning_bytes(dims: usize, count: usize, rows: usize) -> usize {
    rows * Assigned::ROW_BYTES + count * dims * (4 + 2 + 4 + 8)
}

/// A sample's size: `wanted` rows, or as many as `memory` holds beside the work on them. Shrunk, never refused: a thin
/// sample costs recall, not rows.
fn sample_size(dims: usize, count: usize, wanted: usize, memory: usize) -> usize {
    let fixed = sample_bytes(dims, count, 0);
    let each = (sample_bytes(dims, count, 1024) - fixed).div_ceil(1024);
    wanted.min((memory.saturating_sub(fixed) / each.max(1)).max(count))
}

/// Bytes that clustering a sample of `rows` rows takes, the sample included.
fn sample_bytes(dims: usize, count: usize, rows: usize) -> usize {
    rows * dims * 4 + memory_bytes(rows, count, dims)
}

/// Places of rows that ask, evenly over the insertion order: as many as were `wanted`, or one in four.
fn asking_places(rows: usize, wanted: usize) -> Vec<usize> {
    let count = wanted.min(rows / 4);
    (0..count).map(|index| ((2 * index as u128 + 1) * rows as u128 / (2 * count as u128)) as usize).collect()
}

/// The mean of rows of `dims` elements.
pub fn mean_of(sample: &[f32], dims: usize) -> Zeroizing<Vec<f32>> {
    let mut mean = Zeroizing::new(vec![0f64; dims]);
    for row in sample.chunks_exact(dims) {
        mean.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    let rows = (sample.len() / dims).max(1) as f64;
    Zeroizing::new(mean.iter().map(|sum| (sum / rows) as f32).collect())
}

/// Writes the lists of `directory` with the rows that each was assigned, as many at a time as have `room` rows to be
/// opened anew.
#[allow(clippy::too_many_arguments)]
fn write_lists<S: PageStore>(
    store: &S,
    cache: &mut Cache,
    keys: &mut Keys<'_>,
    batch: &mut Batch,
    directory: &mut Directory,
    source: &Source,
    assigned: &Assigned,
    room: usize,
    work: &mut Work<'_>,
) -> Result<()> {
    let total = assigned.rows() as u64;
    let (mut first, mut done) = (0, 0);
    while first < assigned.lists() {
        let mut rows = 0;
        let last = (first + 1..assigned.lists())
            .find(|last| {
                rows += assigned.of(last - 1).len();
                rows + assigned.of(*last).len() > room.clamp(GROUP_ROWS, GROUP_ROWS_MAX)
            })
            .unwrap_or(assigned.lists());
        (work.tick)(Phase::Writing, done, total)?;
        let encoded = encode_group(store, cache, keys, directory, first..last, source, assigned, work)?;
        for (index, (stats, chunks)) in (first..last).zip(encoded) {
            store.check_interrupts()?;
            let (position, entry) = batch.new_list(store)?;
            let entry = batch.append(store, keys, &directory.layout, position, entry, &chunks)?;
            let known = &mut directory.stream.entries[index];
            (known.uid, known.position, known.head, known.rows) = (entry.uid, position, entry.head, entry.rows);
            (known.stats, directory.stats[index]) = (stats, stats);
            done += u64::from(entry.rows);
        }
        first = last;
    }
    Ok(())
}

/// Opens, rotates and codes the rows of some lists; what is known of each, and its chunks.
#[allow(clippy::too_many_arguments)]
fn encode_group<S: PageStore>(
    store: &S,
    cache: &mut Cache,
    keys: &mut Keys<'_>,
    directory: &Directory,
    lists: Range<usize>,
    source: &Source,
    assigned: &Assigned,
    work: &mut Work<'_>,
) -> Result<Vec<(ListStats, Vec<Chunk>)>> {
    let (identity, kept, slots) = (source.identity(), source.kept(), source.slots());
    let dims = identity.dims as usize;
    // Places that open still, and the rows of those that are not kept.
    let mut opened: Vec<(Vec<usize>, Rows)> = Vec::with_capacity(lists.len());
    let mut row = Rows::zeroed(dims);
    for list in lists.clone() {
        store.check_interrupts()?;
        (work.tick)(Phase::Writing, (list - lists.start) as u64, lists.len() as u64)?;
        let places = assigned.of(list);
        let beyond = places.partition_point(|place| *place < kept.len());
        let mut there = places[..beyond].to_vec();
        let mut values = Rows::with_capacity((places.len() - beyond) * dims);
        for place in &places[beyond..] {
            if open_vector(store, cache, keys, identity, slots[*place], &mut row)? {
                there.push(*place);
                values.push(&row);
            }
        }
        opened.push((there, values));
    }
    Ok(in_parallel(work.pool, &opened, |index, (places, beyond): &(Vec<usize>, Rows)| {
        let mut values = Rows::zeroed(places.len() * dims);
        let known = places.len() - beyond.len() / dims;
        for (place, row) in places[..known].iter().zip(values.chunks_exact_mut(dims)) {
            kept.decode(identity, *place, row);
        }
        values[known * dims..].copy_from_slice(beyond);
        let slots: Vec<u64> = places.iter().map(|place| slots[*place]).collect();
        let list = lists.start + index;
        let stats = ListStats::new(values.chunks_exact(dims), &directory.centroid(list));
        (stats, encode_rows(directory, identity.metric, Some(list), &slots, &values))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{format::Precision, keys::Uuid};

    #[test]
    fn lists_stay_as_many_as_the_map_holds_twice() {
        let mut identity = Identity {
            index: Uuid::from_bytes([1; 16]),
            ring: 1,
            dims: 384,
            metric: Metric::L2,
            precision: Precision::Float16,
            lists: 0,
        };
        assert_eq!(list_count(&identity, 0), 1);
        assert_eq!(list_count(&identity, LIST_ROWS * 1000 + 1), 1001);
        let most = MAP_ENTRIES * NODE_CHILDREN;
        for rows in [40_000_000, u64::MAX] {
            assert!(2 * list_count(&identity, rows) < most);
        }
        identity.lists = u32::MAX;
        assert!(2 * list_count(&identity, u64::MAX) < most);
    }
}
