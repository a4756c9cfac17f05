//! Merge: the tail into L0, L0 into lists, in small batches by whoever holds the key.

use super::{
    Cache, Keys, L0_ROWS, Phase, RECLUSTER_BELOW, TAIL_ROWS, Work,
    batch::Batch,
    bind_keys,
    cluster::{self, For, cluster_all},
    directory::{self, Directory},
    encode::{encode_rows, in_parallel},
    lists,
    open::{open_entry, open_vector},
    read_meta,
    records::{self, Opened},
    recover::recover,
    rows::Rows,
    slots, split, update_meta, vector,
};
use crate::{
    Result,
    format::{
        Tid,
        list::{BLOCK_ROWS, base_slot, slots_of},
        meta::{Identity, Meta},
        slot::{LEAF_SLOTS, SlotEntry, SlotState, entry_offset},
        vector::RecordKind,
    },
    math::Assigner,
    store::{Action, Clear, NO_BLOCK, PageKind, PageStore, body},
};

/// How far a merge goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// What is due, if nobody else is at it: an inserter, a vacuum.
    Step,
    /// Everything that was in the tail when it began, waiting for its turn.
    All,
}

/// What a merge did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Rows coded into L0.
    pub to_l0: u64,
    /// Rows moved from L0 into lists.
    pub to_lists: u64,
    /// Lists made by clustering from scratch.
    pub clustered: u64,
    /// Lists split.
    pub split: u64,
}

/// Rows that one batch codes into L0 at most.
const TAIL_BATCH: usize = 1024;

/// Merges. Takes the maintenance lock itself; with [`Effort::Step`] does nothing if another holds it.
pub fn merge<S: PageStore>(
    store: &S,
    cache: &mut Cache,
    keys: &mut Keys<'_>,
    effort: Effort,
    work: &mut Work<'_>,
) -> Result<Merged> {
    let mut merged = Merged::default();
    take_number(store)?;
    let Some(_lock) = crate::store::Maintenance::take(store, effort == Effort::All)? else {
        return Ok(merged);
    };
    bind_keys(store, keys.index)?;
    let mut meta = read_meta(store)?;
    if meta.work_epoch != 0 {
        meta = recover(store)?;
    }
    let end = slots::end(store)?;
    let tail = end.saturating_sub(meta.merged_upto);
    // A long tail (a restore, a build without the key) goes to lists at once.
    let known = meta.l0_rows + meta.list_rows;
    if tail > 2 * L0_ROWS && tail > known && cluster::wants_lists(&meta.identity, tail) {
        recover(store)?;
        convert_tail(store, cache, keys, &meta, end, work)?;
        let meta = cluster_all(store, cache, keys, end, For::Good, work)?;
        merged.clustered = u64::from(meta.lists);
        return Ok(merged);
    }
    loop {
        let tail = end.saturating_sub(meta.merged_upto);
        if tail == 0 || effort == Effort::Step && tail < TAIL_ROWS {
            break;
        }
        let upto = end.min(meta.merged_upto + TAIL_BATCH as u64);
        let before = meta.l0_rows;
        meta = tail_to_l0(store, cache, keys, upto, work)?;
        merged.to_l0 += meta.l0_rows - before;
        if meta.l0_rows >= L0_ROWS {
            meta = l0_to_lists(store, cache, keys, &mut merged, work)?;
        }
    }
    if effort == Effort::All && meta.lists == 0 && cluster::wants_lists(&meta.identity, meta.l0_rows) {
        recover(store)?;
        let meta = cluster_all(store, cache, keys, meta.merged_upto, For::Good, work)?;
        merged.clustered = u64::from(meta.lists);
    } else if is_worn(&meta) {
        // The probe rule was measured on rows of which many are gone: what is left lies wider apart.
        recover(store)?;
        let lists_for = For::growth(meta.l0_rows + meta.list_rows);
        let meta = cluster_all(store, cache, keys, meta.merged_upto, lists_for, work)?;
        merged.clustered = u64::from(meta.lists);
    }
    Ok(merged)
}

/// Whether the next step moves L0 into lists, or clusters from scratch, as far as anybody can tell before it has the lock:
/// that pays for threads.
pub fn is_heavy<S: PageStore>(store: &S) -> Result<bool> {
    let meta = read_meta(store)?;
    let rows = meta.l0_rows + slots::end(store)?.saturating_sub(meta.merged_upto);
    // Others insert meanwhile: rather threads for nothing than a clustering without.
    let soon = rows + TAIL_BATCH as u64;
    let due = is_worn(&meta) || rows >= L0_ROWS || soon >= L0_ROWS && wants_clustering(&meta, soon);
    Ok(due && crate::store::Maintenance::take(store, false)?.is_some())
}

/// Whether rows have grown by two thirds since lists were made, with `l0_rows` in L0, or too many rows of lists are dead.
fn wants_clustering(meta: &Meta, l0_rows: u64) -> bool {
    let rows = l0_rows + meta.list_rows;
    let grown = rows >= meta.clustered_rows * 5 / 3 && rows < RECLUSTER_BELOW && meta.identity.lists == 0;
    meta.lists == 0 || grown || is_worn(meta)
}

/// Whether a fifth of the rows of lists are dead, and few enough rows there.
fn is_worn(meta: &Meta) -> bool {
    meta.lists > 0 && meta.dead_rows * 5 > meta.list_rows && meta.l0_rows + meta.list_rows < RECLUSTER_BELOW
}

/// Clusters every row from scratch, waiting for the maintenance lock.
pub fn train<S: PageStore>(store: &S, cache: &mut Cache, keys: &mut Keys<'_>, work: &mut Work<'_>) -> Result<Meta> {
    take_number(store)?;
    let _lock = crate::store::Maintenance::take(store, true)?;
    bind_keys(store, keys.index)?;
    let meta = recover(store)?;
    let end = slots::end(store)?;
    convert_tail(store, cache, keys, &meta, end, work)?;
    cluster_all(store, cache, keys, end, For::Good, work)
}

/// Has the transaction get its number now, if converting rows will ask for it: the holder of the maintenance lock waits
/// for nothing but pages, and getting one may wait.
fn take_number<S: PageStore>(store: &S) -> Result<()> {
    if records::spans_pages(&read_meta(store)?.identity) {
        store.transaction()?;
    }
    Ok(())
}

/// Brings tail records that were inserted without the key into index form.
fn convert_tail<S: PageStore>(
    store: &S,
    cache: &mut Cache,
    keys: &mut Keys<'_>,
    meta: &Meta,
    upto: u64,
    work: &mut Work<'_>,
) -> Result<()> {
    for slot in meta.merged_upto..upto {
        if slot.is_multiple_of(1024) {
            store.check_interrupts()?;
            (work.tick)(Phase::Loading, slot - meta.merged_upto, upto - meta.merged_upto)?;
        }
        convert(store, cache, keys, &meta.identity, slot)?;
    }
    Ok(())
}

/// One batch: codes slots from `merged_upto` to `upto` against the mean and publishes them in L0.
fn tail_to_l0<S: PageStore>(
    store: &S,
    cache: &mut Cache,
    keys: &mut Keys<'_>,
    upto: u64,
    work: &mut Work<'_>,
) -> Result<Meta> {
    let (meta, directory) = directory::current(store, cache, keys.index)?;
    let identity = meta.identity;
    let dims = identity.dims as usize;
    let rows = (upto - meta.merged_upto) as usize;
    let (mut slots_in, mut values) = (Vec::with_capacity(rows), Rows::with_capacity(rows * dims));
    let (mut row, mut entries) = (Rows::zeroed(dims), slots::Ascending::default());
    for slot in meta.merged_upto..upto {
        let Some(entry) = entries.live_entry(store, &mut cache.leaves, slot)? else { continue };
        let opened = open_entry(store, cache, keys, &identity, slot, entry)?;
        if opened == Some(Opened::Indexed) {
            cache.records.decode(Opened::Indexed, &identity, &mut row);
        } else {
            convert(store, cache, keys, &identity, slot)?;
            if !open_vector(store, cache, keys, &identity, slot, &mut row)? {
                continue;
            }
        }
        slots_in.push(slot);
        values.push(&row);
    }
    store.check_interrupts()?;
    (work.tick)(Phase::Writing, 0, slots_in.len() as u64)?;
    if slots_in.is_empty() {
        // Nothing to code, and no mean to make a directory around: the tail just begins later.
        return update_meta(store, |meta| meta.merged_upto = upto);
    }

    let mut batch = Batch::begin(store)?;
    let mut first = None;
    if directory.is_none() {
        batch.replace_l0(store)?;
        first = Some(Directory::first(meta.directory_epoch + 1, identity.metric, cluster::mean_of(&values, dims))?);
    }
    let known = directory.as_deref().or(first.as_ref()).expect("one of them is there");
    let rows = slots_in.len() as u64;
    let chunks = encode_rows(known, identity.metric, None, &slots_in, &values);
    let position = batch.meta.l0_position;
    let entry = lists::entry(store, &batch.meta, position)?;
    batch.append(store, keys, &known.layout, position, entry, &chunks)?;
    let change = |meta: &mut Meta| {
        meta.merged_upto = upto;
        meta.l0_rows += rows;
    };
    match first {
        Some(first) => batch.publish_directory(store, cache, keys, first, change),
        None => batch.publish(store, change),
    }
}

/// Moves the rows of L0 into lists, or clusters when there are none yet or rows have grown by two thirds.
fn l0_to_lists<S: PageStore>(
    store: &S,
    cache: &mut Cache,
    keys: &mut Keys<'_>,
    merged: &mut Merged,
    work: &mut Work<'_>,
) -> Result<Meta> {
    recover(store)?;
    let (meta, directory) = directory::current(store, cache, keys.index)?;
    let directory = match directory {
        Some(directory) if !wants_clustering(&meta, meta.l0_rows) => directory,
        _ => {
            let lists_for = For::growth(meta.l0_rows + meta.list_rows);
            let meta = cluster_all(store, cache, keys, meta.merged_upto, lists_for, work)?;
            merged.clustered = u64::from(meta.lists);
            return Ok(meta);
        }
    };
    let identity = meta.identity;
    let dims = identity.dims as usize;
    let slots = list_slots(store, keys, &directory, &meta, meta.l0_position)?;
    let (mut kept, mut values) = (Vec::with_capacity(slots.len()), Rows::with_capacity(slots.len() * dims));
    let mut row = Rows::zeroed(dims);
    for slot in slots {
        if open_vector(store, cache, keys, &identity, slot, &mut row)? {
            kept.push(slot);
            values.push(&row);
        }
    }
    let mut nearest = vec![(0, 0.0); kept.len()];
    let centroids = directory.stream.centroids.to_floats();
    let assigner = Assigner::new(dims, &centroids);
    let step = assigner.batch_points();
    for (points, out) in values.chunks(step * dims).zip(nearest.chunks_mut(step)) {
        store.check_interrupts()?;
        (work.tick)(Phase::Assigning, 0, kept.len() as u64)?;
        assigner.assign(points, work.pool, out);
    }
    let mut order: Vec<usize> = (0..kept.len()).collect();
    order.sort_by_key(|row| (nearest[*row].0, kept[*row]));

    let groups: Vec<&[usize]> = order.chunk_by(|a, b| nearest[*a].0 == nearest[*b].0).collect();
    let list_of = |group: &[usize]| nearest[group[0]].0 as usize;
    let known = &*directory;
    let encoded = in_parallel(work.pool, &groups, |_, group: &&[usize]| {
        let slots: Vec<u64> = group.iter().map(|row| kept[*row]).collect();
        let rows = Rows::gather(&values, dims, group.iter().copied());
        encode_rows(known, identity.metric, Some(list_of(group)), &slots, &rows)
    });

    let mut batch = Batch::begin(store)?;
    for (group, chunks) in groups.into_iter().zip(encoded) {
        store.check_interrupts()?;
        let position = directory.entries()[list_of(group)].position;
        let entry = lists::entry(store, &batch.meta, position)?;
        batch.append(store, keys, &directory.layout, position, entry, &chunks)?;
    }
    let l0 = lists::entry(store, &batch.meta, batch.meta.l0_position)?;
    let position = batch.meta.l0_position;
    batch.end_list(store, position, l0)?;
    batch.replace_l0(store)?;
    let moved = kept.len() as u64;
    let mut meta = batch.publish(store, |meta| meta.list_rows += moved)?;
    merged.to_lists += moved;
    merged.split += split::keep_in_shape(store, cache, keys, &mut meta, work)?;
    Ok(meta)
}

/// Slots of every chunk of the list at `position`. The caller holds the maintenance lock, so nothing moves.
pub fn list_slots<S: PageStore>(
    store: &S,
    keys: &mut Keys<'_>,
    directory: &Directory,
    meta: &Meta,
    position: u32,
) -> Result<Vec<u64>> {
    let entry = lists::entry(store, meta, position)?;
    let mut slots = Vec::with_capacity(entry.rows as usize);
    let layout = &directory.layout;
    let mut visit = |plain: &[u8], rows: usize| {
        slots.extend(chunk_slots(layout, plain, rows));
        Ok(())
    };
    lists::read_still(store, keys.index, layout, (entry.uid, entry.head), meta.data_epoch, &mut visit)?;
    Ok(slots)
}

/// Slots of the rows of an opened chunk.
pub fn chunk_slots<'a>(
    layout: &'a crate::format::list::ChunkLayout,
    plain: &'a [u8],
    rows: usize,
) -> impl Iterator<Item = u64> + 'a {
    let base = base_slot(plain);
    (0..rows).step_by(BLOCK_ROWS).flat_map(move |first| {
        slots_of(base, layout.split(plain, rows, first / BLOCK_ROWS).1, (rows - first).min(BLOCK_ROWS))
    })
}

/// Brings a record that was inserted without the key into index form: {leaf, old page, new page}.
/// A row that the metric can't index becomes dead, as it would never have been inserted. One whose value does not
/// open stays as it is, in no list: a newer DEK may open it, and then the next clustering brings it in.
fn convert<S: PageStore>(
    store: &S,
    cache: &mut Cache,
    keys: &mut Keys<'_>,
    identity: &Identity,
    slot: u64,
) -> Result<()> {
    let Some(entry) = slots::live_entry(store, &mut cache.leaves, slot)? else {
        return Ok(());
    };
    match records::kind(store, slot, &entry)? {
        Some(RecordKind::Verbatim | RecordKind::VerbatimHead) => {}
        _ => return Ok(()),
    }
    let mut values = Rows::zeroed(identity.dims as usize);
    let mut plain = zeroize::Zeroizing::new(Vec::new());
    match records::open_column_value(store, keys, slot, &entry, &mut cache.records, &mut values)? {
        Opened::Verbatim => {}
        // It moved: it can be opened as it is, and the next clustering converts it.
        _ => return Ok(()),
    }
    let indexable = vector::encode(identity, &values, &mut plain);
    let tid: Tid = entry.tid;
    let record = match indexable {
        true => Some(records::Prepared::new(
            store,
            Some(keys.index),
            identity,
            tid.to_bytes(),
            records::Payload::Indexed(&plain),
        )?),
        false => None,
    };
    let Some(leaf_block) = slots::leaf_block(&cache.leaves, slot) else {
        return Ok(());
    };
    let mut action = store.begin()?;
    let leaf = action.update(leaf_block)?;
    let index = (slot % LEAF_SLOTS as u64) as usize;
    let offset = entry_offset(index);
    // VACUUM may have marked the slot dead, even freed its leaf, whose block may be anything by now.
    let is_leaf = super::pages::known(action.page(leaf), leaf_block)? == PageKind::SlotLeaf;
    let first = slots::header(action.page(leaf)).map(|header| header.first_slot);
    if !is_leaf || first != Some(slot - index as u64) || SlotEntry::at(body(action.page(leaf)), offset) != Some(entry) {
        return Ok(());
    }
    let old = super::pages::update(&mut action, entry.block, PageKind::Vector)?;
    let (_, link) = records::remove(&mut action.page_mut(old), slot, entry.offset);
    let converted = match &record {
        None => SlotEntry { state: SlotState::Dead, ..entry },
        Some(record) => {
            let placeable = record.seal(Some(keys.index), identity, slot, tid.to_bytes())?;
            let put = records::put(store, &mut action, &placeable, NO_BLOCK)?;
            SlotEntry { block: put.block, offset: put.offset, ..entry }
        }
    };
    action.page_mut(leaf).write(offset, &converted);
    action.commit()?;
    if let Some(link) = link {
        records::free_overflow(store, link)?;
    }
    Ok(())
}
