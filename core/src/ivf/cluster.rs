//! Clustering: making lists out of rows, and publishing a new set of lists.
//!
//! The holder of the maintenance lock runs this. Records are opened on the calling thread;
//! arithmetic runs on `Work::pool`.

use rayon::prelude::*;
use zeroize::Zeroizing;

use super::{
    Cache, Keys, L0_ROWS, LIST_ROWS, Phase, RECLUSTER_BELOW, Work,
    directory::{self, Directory},
    kept::Kept,
    lists::{self, Appender, Positions},
    records::{self, Opened},
    rows::Rows,
    slots, update_meta,
};
use crate::{
    Result,
    format::{
        directory::{DirectoryEntry, DirectoryStream},
        list::{BLOCK_ROWS, CHUNK_PREFIX, ChunkLayout, MapEntry, NEVER},
        meta::{Identity, Meta},
        slot::{SlotEntry, SlotState},
    },
    math::{
        Asking, Assigner, Calibration, Centroids, Clusters, KmeansOptions, ListStats, cluster, encode_block,
        kmeans::memory_bytes,
    },
    metric::Metric,
    store::{Block, PageStore},
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

/// Sample rows for each list below which centroids are moved to the means of all rows.
const THIN: usize = 32;
/// How often.
const REFINEMENTS: usize = 2;
/// Rows that are opened and assigned at a time.
const BATCH_ROWS: usize = 4096;

/// Opens the vector of `slot` in index space; `false` if the row is gone or can't be indexed.
pub fn open_vector<S: PageStore>(
    store: &S,
    cache: &mut Cache,
    keys: &mut Keys<'_>,
    identity: &Identity,
    slot: u64,
    out: &mut [f32],
) -> Result<bool> {
    let opened = open_record(store, cache, keys, identity, slot)?;
    if let Some(opened) = opened {
        cache.records.decode(opened, identity, out);
    }
    Ok(opened.is_some())
}

/// Opens the record of `slot` into the cache's scratch; none if the row is gone or can't be indexed.
fn open_record<S: PageStore>(
    store: &S,
    cache: &mut Cache,
    keys: &mut Keys<'_>,
    identity: &Identity,
    slot: u64,
) -> Result<Option<Opened>> {
    match slots::live_entry(store, &mut cache.leaves, slot)? {
        Some(entry) => open_entry(store, cache, keys, identity, slot, entry),
        None => Ok(None),
    }
}

/// As [`open_vector`], into the cache's scratch, of a slot whose entry was read before and may have changed.
pub(super) fn open_entry<S: PageStore>(
    store: &S,
    cache: &mut Cache,
    keys: &mut Keys<'_>,
    identity: &Identity,
    slot: u64,
    mut entry: SlotEntry,
) -> Result<Option<Opened>> {
    loop {
        match records::open(store, keys, identity, slot, &entry, &mut cache.records)? {
            Opened::Moved => match slots::live_entry(store, &mut cache.leaves, slot)? {
                None => return Ok(None),
                Some(again) if again == entry => return records::missing(&entry),
                Some(again) => entry = again,
            },
            Opened::Unindexable => return Ok(None),
            opened => return Ok(Some(opened)),
        }
    }
}

/// Slots below `upto` that are live now, ascending.
fn live_slots<S: PageStore>(store: &S, cache: &mut Cache, upto: u64) -> Result<Vec<u64>> {
    let mut live = Vec::new();
    let mut walk = slots::Walk::from(0);
    while let Some(leaf) = walk.next(store, &mut cache.leaves)? {
        if leaf.first_slot >= upto {
            break;
        }
        store.check_interrupts()?;
        let slots = leaf.entries.iter().zip(leaf.first_slot..upto);
        live.extend(slots.filter(|(entry, _)| entry.state == SlotState::Live).map(|(_, slot)| slot));
    }
    Ok(live)
}

/// Lists for `rows` rows, from the reloption or the size.
pub fn list_count(identity: &Identity, rows: u64) -> usize {
    let wanted = if identity.lists > 0 { u64::from(identity.lists) } else { rows.div_ceil(LIST_ROWS) };
    wanted.clamp(1, rows.max(1)) as usize
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
    let mut live = live_slots(store, cache, upto)?;
    let count = list_count(&identity, live.len() as u64);

    let mut kept = Kept::new(&identity);
    let wanted = sample_size(dims, count, count * lists_for.sample_rows(), work.memory_bytes).min(live.len());
    let room = work.memory_bytes.saturating_sub(sample_bytes(dims, count, wanted)).min(work.memory_bytes / 2);
    kept.fill(store, cache, keys, &identity, &mut live, room, work)?;
    let asking = asking_places(live.len(), lists_for.queries(live.len() as u64));
    let mut sample = sample(store, cache, keys, &identity, &live, &kept, wanted, &asking, work)?;
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
    kept.fill(store, cache, keys, &identity, &mut live, work.memory_bytes / 2, work)?;
    let seed = match &old {
        Some(old) => old.stream.seed,
        None => crate::crypto::nonce::random()?,
    };

    let source = Source { identity: &identity, live: &live, kept: &kept };
    for _ in 0..if thin { REFINEMENTS } else { 0 } {
        source.refine(store, cache, keys, &mut clusters, &options, work)?;
    }
    // What readers decode is what rows are coded against.
    let rounded = Centroids::new(dims, &clusters.centroids);
    clusters.centroids = rounded.to_floats();
    let mut asking = source.asking(store, cache, keys, &asking)?;
    let mut assigned = vec![Vec::new(); count];
    let assigner = Assigner::grouped(dims, &clusters.centroids, clusters.groups.as_ref());
    source.assign(store, cache, keys, &assigner, work, &mut |places, values, nearest| {
        places.iter().zip(nearest).for_each(|(place, (list, _))| assigned[*list as usize].push(*place));
        asking.see(places, values, options.pool);
    })?;
    let entry = DirectoryEntry { uid: 0, position: 0, head: 0, rows: 0, stats: ListStats::default() };
    let calibration = Calibration::everything(); // until the lists are known
    let entries = vec![entry; count];
    let stream = DirectoryStream { seed, calibration, mean, entries, centroids: rounded, digest: None };
    let mut batch = Batch::begin(store)?;
    let mut directory = Directory::new(batch.meta.directory_epoch + 1, identity.metric, stream);
    write_lists(store, cache, keys, &mut batch, &mut directory, &live, &assigned, &kept, work)?;
    directory.stream.calibration = calibrate(&asking, &assigned, live.len(), &clusters.centroids, &directory, work)?;
    let rows = directory.entries().iter().map(|entry| u64::from(entry.rows)).sum();
    batch.replace_all_lists(store)?;
    batch.publish_directory(store, cache, keys, directory, |meta| {
        meta.merged_upto = upto;
        (meta.list_rows, meta.clustered_rows, meta.dead_rows) = (rows, rows, 0);
    })
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

/// A sample of `wanted` vectors, evenly over the insertion order and none of the places in `but`, which ascend; fewer, or
/// none, where rows don't open.
#[allow(clippy::too_many_arguments)]
fn sample<S: PageStore>(
    store: &S,
    cache: &mut Cache,
    keys: &mut Keys<'_>,
    identity: &Identity,
    live: &[u64],
    kept: &Kept,
    wanted: usize,
    but: &[usize],
    work: &mut Work<'_>,
) -> Result<Rows> {
    let dims = identity.dims as usize;
    let wanted = wanted.min(live.len());
    let mut sample = Rows::with_capacity(wanted * dims);
    let mut values = Rows::zeroed(dims);
    for index in 0..wanted {
        if index % BATCH_ROWS == 0 {
            store.check_interrupts()?;
            (work.tick)(Phase::Clustering, index as u64, wanted as u64)?;
        }
        let start = |index: usize| (index as u128 * live.len() as u128 / wanted as u128) as usize;
        // The first of each stretch that opens: rows that nobody can open must not thin the sample out.
        let stretch = start(index)..start(index + 1);
        for (place, slot) in stretch.clone().zip(&live[stretch]) {
            if but.binary_search(&place).is_ok() {
                continue;
            }
            if kept.decode(identity, place, &mut values)
                || open_vector(store, cache, keys, identity, *slot, &mut values)?
            {
                sample.push(&values);
                break;
            }
        }
    }
    Ok(sample)
}

/// Places of rows that ask, evenly over the insertion order: as many as were `wanted`, or one in four.
fn asking_places(rows: usize, wanted: usize) -> Vec<usize> {
    let count = wanted.min(rows / 4);
    (0..count).map(|index| ((2 * index as u128 + 1) * rows as u128 / (2 * count as u128)) as usize).collect()
}

/// What the probe rule needs, from the lists that all rows got.
fn calibrate(
    asking: &Asking,
    assigned: &[Vec<usize>],
    rows: usize,
    centroids: &[f32],
    directory: &Directory,
    work: &mut Work<'_>,
) -> Result<Calibration> {
    let mut list_of = vec![u32::MAX; rows];
    for (list, places) in assigned.iter().enumerate() {
        places.iter().for_each(|place| list_of[*place] = list as u32);
    }
    let tick = &mut work.tick;
    let list_of = |place: usize| Some(list_of[place]).filter(|list| *list != u32::MAX);
    let mut tick = || tick(Phase::Writing, rows as u64, rows as u64);
    asking.calibrate(list_of, centroids, &directory.stats, work.pool, &mut tick)
}

/// The mean of rows of `dims` elements.
pub fn mean_of(sample: &[f32], dims: usize) -> Vec<f32> {
    let mut mean = Zeroizing::new(vec![0f64; dims]);
    for row in sample.chunks_exact(dims) {
        mean.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    let rows = (sample.len() / dims).max(1) as f64;
    mean.iter().map(|sum| (sum / rows) as f32).collect()
}

/// The rows to cluster, by their places in `live`.
struct Source<'a> {
    identity: &'a Identity,
    live: &'a [u64],
    kept: &'a Kept,
}

/// A batch of rows: their places, the rows end to end, and the nearest list of each.
type Visit<'v> = &'v mut dyn FnMut(&[usize], &[f32], &[(u32, f32)]);

impl Source<'_> {
    /// The rows at `places`, those that open, as queries.
    fn asking<S: PageStore>(
        &self,
        store: &S,
        cache: &mut Cache,
        keys: &mut Keys<'_>,
        places: &[usize],
    ) -> Result<Asking> {
        let dims = self.identity.dims as usize;
        let (mut row, mut rows) = (Rows::zeroed(dims), Rows::with_capacity(places.len() * dims));
        let mut opened = Vec::with_capacity(places.len());
        for place in places.iter().filter(|place| **place < self.live.len()) {
            if self.open(store, cache, keys, *place, &mut row)? {
                rows.push(&row);
                opened.push(*place);
            }
        }
        Ok(Asking::new(self.identity.metric, dims, &rows, &opened))
    }

    fn open<S: PageStore>(
        &self,
        store: &S,
        cache: &mut Cache,
        keys: &mut Keys<'_>,
        place: usize,
        row: &mut [f32],
    ) -> Result<bool> {
        Ok(self.kept.decode(self.identity, place, row)
            || open_vector(store, cache, keys, self.identity, self.live[place], row)?)
    }

    /// Finds the nearest list of every row, in their order.
    fn assign<S: PageStore>(
        &self,
        store: &S,
        cache: &mut Cache,
        keys: &mut Keys<'_>,
        assigner: &Assigner<'_>,
        work: &mut Work<'_>,
        visit: Visit<'_>,
    ) -> Result<()> {
        let (dims, rows) = (self.identity.dims as usize, self.live.len());
        let step = BATCH_ROWS.min(assigner.batch_points());
        let mut values = Rows::zeroed(step.min(rows.max(1)) * dims);
        for first in (0..rows).step_by(step) {
            store.check_interrupts()?;
            (work.tick)(Phase::Assigning, first as u64, rows as u64)?;
            let mut opened = Vec::with_capacity(step);
            for place in first..(first + step).min(rows) {
                if self.open(store, cache, keys, place, &mut values[opened.len() * dims..][..dims])? {
                    opened.push(place);
                }
            }
            let mut nearest = vec![(0, 0.0); opened.len()];
            let values = &values[..opened.len() * dims];
            assigner.assign(values, work.pool, &mut nearest);
            visit(&opened, values, &nearest);
        }
        Ok(())
    }

    /// Moves the centroids to the means of all rows: a dozen rows of a sample say only roughly where a list lies.
    fn refine<S: PageStore>(
        &self,
        store: &S,
        cache: &mut Cache,
        keys: &mut Keys<'_>,
        clusters: &mut Clusters,
        options: &KmeansOptions<'_>,
        work: &mut Work<'_>,
    ) -> Result<()> {
        let dims = self.identity.dims as usize;
        let mut sums = Zeroizing::new(vec![0f64; clusters.centroids.len()]);
        let mut counts = vec![0u32; clusters.centroids.len() / dims];
        let assigner = Assigner::grouped(dims, &clusters.centroids, clusters.groups.as_ref()).roughly();
        self.assign(store, cache, keys, &assigner, work, &mut |_, values, nearest| {
            for (row, (list, _)) in values.chunks_exact(dims).zip(nearest) {
                counts[*list as usize] += 1;
                let sums = &mut sums[*list as usize * dims..][..dims];
                sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
            }
        })?;
        clusters.move_to_means(dims, &sums, &counts, options);
        Ok(())
    }
}

/// Writes list `i` of `directory` with the rows of `assigned[i]`, as many lists at a time as fit in memory.
#[allow(clippy::too_many_arguments)]
fn write_lists<S: PageStore>(
    store: &S,
    cache: &mut Cache,
    keys: &mut Keys<'_>,
    batch: &mut Batch,
    directory: &mut Directory,
    live: &[u64],
    assigned: &[Vec<usize>],
    kept: &Kept,
    work: &mut Work<'_>,
) -> Result<()> {
    let total: u64 = assigned.iter().map(|places| places.len() as u64).sum();
    let room = (work.memory_bytes / 2 / (directory.rotation.padded() * 4)).max(1);
    let (mut first, mut done) = (0, 0);
    while first < assigned.len() {
        let mut rows = 0;
        let group = assigned[first..].iter().take_while(|places| {
            let fits = rows == 0 || rows + places.len() <= room;
            rows += places.len();
            fits
        });
        let last = first + group.count();
        (work.tick)(Phase::Writing, done, total)?;
        let identity = batch.meta.identity;
        let encoded =
            encode_group(store, cache, keys, &identity, directory, first, live, &assigned[first..last], kept, work)?;
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

/// A chunk's plaintext and its rows.
pub type Chunk = (Zeroizing<Vec<u8>>, usize);

/// Opens, rotates and codes the rows of lists `first..`; what is known of each, and its chunks.
#[allow(clippy::too_many_arguments)]
fn encode_group<S: PageStore>(
    store: &S,
    cache: &mut Cache,
    keys: &mut Keys<'_>,
    identity: &Identity,
    directory: &Directory,
    first: usize,
    live: &[u64],
    group: &[Vec<usize>],
    kept: &Kept,
    work: &mut Work<'_>,
) -> Result<Vec<(ListStats, Vec<Chunk>)>> {
    let dims = identity.dims as usize;
    // Places that open still, and the rows of those that are not kept.
    let mut opened: Vec<(Vec<usize>, Rows)> = Vec::with_capacity(group.len());
    let mut row = Rows::zeroed(dims);
    for (index, places) in group.iter().enumerate() {
        store.check_interrupts()?;
        (work.tick)(Phase::Writing, index as u64, group.len() as u64)?;
        let beyond = places.partition_point(|place| *place < kept.len());
        let mut there = places[..beyond].to_vec();
        let mut values = Rows::with_capacity((places.len() - beyond) * dims);
        for place in &places[beyond..] {
            if open_vector(store, cache, keys, identity, live[*place], &mut row)? {
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
        let slots: Vec<u64> = places.iter().map(|place| live[*place]).collect();
        let stats = ListStats::new(values.chunks_exact(dims), &directory.centroid(first + index));
        (stats, encode_rows(directory, identity.metric, Some(first + index), &slots, &values))
    }))
}

/// `f` of each item and its number, in order, on the threads of `pool` if there are any. Without, not through rayon,
/// which would make threads of its own, and Postgres's signals might find them.
pub(super) fn in_parallel<T: Sync, R: Send>(
    pool: Option<&rayon::ThreadPool>,
    items: &[T],
    f: impl Fn(usize, &T) -> R + Sync,
) -> Vec<R> {
    match pool {
        Some(pool) => pool.install(|| items.par_iter().enumerate().map(|(number, item)| f(number, item)).collect()),
        None => items.iter().enumerate().map(|(number, item)| f(number, item)).collect(),
    }
}

/// Codes rows against a list of `directory`, or against the mean (L0), into chunks.
pub fn encode_rows(
    directory: &Directory,
    metric: Metric,
    list: Option<usize>,
    slots: &[u64],
    values: &[f32],
) -> Vec<Chunk> {
    let layout: &ChunkLayout = &directory.layout;
    let padded = directory.rotation.padded();
    let dims = directory.stream.mean.len();
    let mut shifted = Zeroizing::new(Vec::with_capacity(dims));
    let mut centroid = Zeroizing::new(vec![0.0; padded]); // the mean itself, shifted by the mean
    if let Some(list) = list {
        directory.rotate(&directory.centroid(list), &mut shifted, &mut centroid);
    }
    let mut rotated = Rows::zeroed(BLOCK_ROWS * padded);
    let mut chunks = Vec::new();
    for (slots, values) in split_by_reach(slots, layout.rows_max())
        .map(|range| (&slots[range.clone()], &values[range.start * dims..range.end * dims]))
    {
        let mut plain = Zeroizing::new(vec![0; layout.plain_len(slots.len())]);
        plain[..CHUNK_PREFIX].copy_from_slice(&slots[0].to_le_bytes());
        for (index, (slots_of_block, rows)) in
            slots.chunks(BLOCK_ROWS).zip(values.chunks(BLOCK_ROWS * dims)).enumerate()
        {
            for (row, out) in rows.chunks_exact(dims).zip(rotated.chunks_exact_mut(padded)) {
                directory.rotate(row, &mut shifted, out);
            }
            let (range, deltas) = layout.block_at(slots.len(), index);
            let (codes, deltas) = plain[range].split_at_mut(deltas);
            encode_block(&layout.block, metric, &centroid, &rotated[..slots_of_block.len() * padded], codes);
            deltas.fill(0xff);
            for (slot, delta) in slots_of_block.iter().zip(deltas.chunks_exact_mut(4)) {
                delta.copy_from_slice(&((slot - slots[0]) as u32).to_le_bytes());
            }
        }
        chunks.push((plain, slots.len()));
    }
    chunks
}

/// Cuts ascending slots into ranges of at most `most` whose distance from the first fits 32 bits.
fn split_by_reach(slots: &[u64], most: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let base = *slots.get(start)?;
        let reach = slots[start..].iter().take(most).take_while(|slot| **slot - base < u64::from(u32::MAX)).count();
        let range = start..start + reach;
        start = range.end;
        Some(range)
    })
}

/// A batch of changes that one meta record will publish (rule 1).
pub struct Batch {
    /// The meta page as it was when the batch began, plus what growing the map changed.
    pub meta: Meta,
    /// The epoch that publishes the batch.
    pub epoch: u64,
    positions: Option<Positions>,
    dying: Vec<(u32, MapEntry)>,
}

impl Batch {
    /// Announces a batch, so that whoever comes after a crash undoes it first (rule 10).
    pub fn begin<S: PageStore>(store: &S) -> Result<Self> {
        let meta = update_meta(store, |meta| meta.work_epoch = meta.data_epoch + 1)?;
        Ok(Self { meta, epoch: meta.data_epoch + 1, positions: None, dying: Vec::new() })
    }

    /// An empty list that the batch publishes.
    pub fn new_list<S: PageStore>(&mut self, store: &S) -> Result<(u32, MapEntry)> {
        if self.positions.is_none() {
            self.positions = Some(Positions::new(store, &self.meta)?);
        }
        let positions = self.positions.as_mut().expect("read above");
        lists::create(store, &mut self.meta, positions, self.epoch)
    }

    /// Appends chunks to a list; its new entry.
    pub fn append<S: PageStore>(
        &mut self,
        store: &S,
        keys: &mut Keys<'_>,
        layout: &ChunkLayout,
        position: u32,
        entry: MapEntry,
        chunks: &[Chunk],
    ) -> Result<MapEntry> {
        let mut appender = Appender::new(store, keys.index, layout, position, entry);
        for (plain, rows) in chunks {
            appender.append(plain, *rows, self.epoch)?;
        }
        appender.finish(&self.meta)
    }

    /// Ends the list at `position` with this batch.
    pub fn end_list<S: PageStore>(&mut self, store: &S, position: u32, entry: MapEntry) -> Result<()> {
        let dying = MapEntry { died: self.epoch, ..entry };
        lists::set_entry(store, &self.meta, position, &dying)?;
        self.dying.push((position, dying));
        Ok(())
    }

    /// Ends every list that this batch did not make, L0 too, and makes a new L0.
    pub fn replace_all_lists<S: PageStore>(&mut self, store: &S) -> Result<()> {
        for (position, entry) in lists::entries(store, &self.meta)? {
            if entry.born < self.epoch && entry.died == NEVER {
                self.end_list(store, position, entry)?;
            }
        }
        self.replace_l0(store)
    }

    /// Makes a new empty L0, which [`Batch::publish`] puts in place of the old one.
    pub fn replace_l0<S: PageStore>(&mut self, store: &S) -> Result<()> {
        let (position, entry) = self.new_list(store)?;
        (self.meta.l0_uid, self.meta.l0_position, self.meta.l0_rows) = (entry.uid, position, 0);
        Ok(())
    }

    /// Publishes the batch and a new directory, then frees what died.
    pub fn publish_directory<S: PageStore>(
        self,
        store: &S,
        cache: &mut Cache,
        keys: &mut Keys<'_>,
        directory: Directory,
        change: impl FnOnce(&mut Meta),
    ) -> Result<Meta> {
        let dims = self.meta.identity.dims as usize;
        let root = directory::write(store, keys.index, directory.epoch, dims, &directory.stream)?;
        let (old_root, old_epoch) = (self.meta.directory_root, self.meta.directory_epoch);
        let lists = directory.entries().len() as u32;
        let epoch = directory.epoch;
        let meta = self.publish(store, |meta| {
            (meta.directory_root, meta.directory_epoch, meta.lists) = (root, epoch, lists);
            change(meta);
        })?;
        directory::free(store, old_root, old_epoch)?;
        cache.directory = Some(std::rc::Rc::new(directory));
        Ok(meta)
    }

    /// Publishes the batch in one meta record, then frees the lists that it ended.
    pub fn publish<S: PageStore>(self, store: &S, change: impl FnOnce(&mut Meta)) -> Result<Meta> {
        let ours = self.meta;
        let meta = update_meta(store, |meta| {
            (meta.l0_uid, meta.l0_position, meta.l0_rows) = (ours.l0_uid, ours.l0_position, ours.l0_rows);
            change(meta);
            meta.data_epoch = self.epoch;
            meta.work_epoch = 0;
        })?;
        for (position, entry) in &self.dying {
            store.check_interrupts()?;
            lists::free(store, &meta, *position, entry)?;
        }
        Ok(meta)
    }
}

/// First page of L0, whose entry only the map has.
pub fn l0_head<S: PageStore>(store: &S, meta: &Meta) -> Result<Option<(u64, Block)>> {
    if meta.l0_uid == 0 {
        return Ok(None);
    }
    let entry = lists::entry(store, meta, meta.l0_position)?;
    Ok((entry.uid == meta.l0_uid).then_some((entry.uid, entry.head)))
}
