//! Keeping lists in shape: overfull ones split, with near rows of their neighbours moved along; starved
//! ones fold into others; worn ones lose their dead rows.
//!
//! Growth by splits alone falls 1 to 3 points of recall behind; moving the rows of the neighbouring
//! lists that are nearer to a new centroid brings it within one (`spec/prototype.md`). Every list
//! that loses a row is written anew under a new uid (rule 4).

use std::collections::{BTreeMap, HashMap, btree_map::Entry};

use zeroize::Zeroizing;

use super::{
    Cache, Keys, L0_ROWS, LIST_ROWS, Phase, RECLUSTER_BELOW, Work,
    batch::Batch,
    cluster::LISTS_MAX,
    directory::{self, Directory},
    encode::encode_rows,
    lists, merge,
    open::open_vector,
    rows::Rows,
    slots,
};
use crate::{
    Result,
    format::{
        directory::{DirectoryEntry, DirectoryStream},
        list::{ChunkLayout, MapEntry},
        meta::Meta,
    },
    math::{Centroids, distance, probe::ListStats, two_means},
    metric::Metric,
    store::PageStore,
};

/// Rows from which a list is split.
const OVERFULL: u64 = LIST_ROWS * 5 / 2;
/// The same while growth clusters from scratch anyway: to open a list and its neighbours pays only for what is far too long.
const OVERFULL_YOUNG: u64 = LIST_ROWS * 5;
/// Neighbours that may give rows to the new lists.
const NEIGHBOURS: usize = 16;
/// A neighbour that would give fewer rows than this share keeps them: writing it anew costs more.
const LEAST_SHARE: f64 = 0.04;
/// Lists split, folded or cleaned in one batch at most.
const CHANGES_MAX: usize = 64;
/// Live rows below which a list is folded away.
const STARVED: usize = (LIST_ROWS / 8) as usize;
/// Share of dead rows (one in so many) from which a list is written anew without them.
const WORN_SHARE: usize = 8;
/// Chunks beyond those it needs from which a list is written anew in whole blocks.
const SCATTERED: u32 = 5;
/// Rows written anew for each row of the batch that scattered them, at most.
const GATHERED_SHARE: u64 = 4;
/// Share of dead rows in all lists (one in so many) from which lists are searched for them.
const DEAD_SHARE: u64 = 10;

/// Members of a list while it is being rearranged.
#[derive(Default)]
struct Members {
    slots: Vec<u64>,
    values: Rows,
}

impl Members {
    fn push(&mut self, slot: u64, row: &[f32]) {
        self.slots.push(slot);
        self.values.push(row);
    }
}

/// Lists that want work, by their place in the directory; none is in two of them.
#[derive(Default)]
struct Unfit {
    overfull: Vec<usize>,
    starved: Vec<usize>,
    worn: Vec<usize>,
    /// Dead rows that go with the starved and the worn.
    dead: u64,
}

impl Unfit {
    fn is_empty(&self) -> bool {
        self.overfull.is_empty() && self.starved.is_empty() && self.worn.is_empty()
    }
}

/// Splits, folds and cleans what needs it and publishes the outcome; how many lists were split. The
/// caller holds the maintenance lock. A fixed number of lists (reloption `lists`) is never changed.
pub fn keep_in_shape<S: PageStore>(
    store: &S,
    cache: &mut Cache,
    keys: &mut Keys<'_>,
    meta: &mut Meta,
    work: &mut Work<'_>,
) -> Result<u64> {
    let (fresh, Some(directory)) = directory::current(store, cache, keys.index)? else {
        return Ok(0);
    };
    if fresh.identity.lists > 0 {
        return Ok(0);
    }
    let unfit = find_unfit(store, cache, keys, &fresh, &directory, work)?;
    if unfit.is_empty() {
        return Ok(0);
    }
    *meta = change_lists(store, cache, keys, &fresh, &directory, &unfit, work)?;
    Ok(unfit.overfull.len() as u64)
}

fn find_unfit<S: PageStore>(
    store: &S,
    cache: &mut Cache,
    keys: &mut Keys<'_>,
    meta: &Meta,
    directory: &Directory,
    work: &Work<'_>,
) -> Result<Unfit> {
    let by_position: HashMap<u32, MapEntry> = lists::entries(store, meta)?.into_iter().collect();
    let known = directory.entries().iter();
    let known: Vec<MapEntry> =
        known.map(|entry| by_position.get(&entry.position).copied().unwrap_or(MapEntry::FREE)).collect();
    let rows: Vec<usize> = known.iter().map(|entry| entry.rows as usize).collect();
    let limit = if meta.l0_rows + meta.list_rows < RECLUSTER_BELOW { OVERFULL_YOUNG } else { OVERFULL };
    // What one split opens: its own list and its neighbours.
    let each = (limit + NEIGHBOURS as u64 * LIST_ROWS) as usize * meta.identity.dims as usize * 4;
    let most = (work.memory_bytes / each).clamp(1, CHANGES_MAX);
    let overfull = (0..rows.len()).filter(|list| rows[*list] as u64 > limit).collect();
    let mut unfit = Unfit { overfull, ..Unfit::default() };
    if rows.len() as u64 > LISTS_MAX {
        unfit.overfull.clear(); // the map has room to write each list anew once
    }
    unfit.overfull.sort_by_key(|list| std::cmp::Reverse(rows[*list]));
    unfit.overfull.truncate(most);
    unfit.worn = scattered(&directory.layout, &known, &unfit.overfull, most);
    if meta.dead_rows * DEAD_SHARE <= meta.list_rows {
        return Ok(unfit);
    }
    for (list, coded) in rows.iter().enumerate() {
        if unfit.starved.len() + unfit.worn.len() >= most {
            break;
        }
        if unfit.overfull.contains(&list) || unfit.worn.contains(&list) {
            continue;
        }
        store.check_interrupts()?;
        let mut live = 0;
        for slot in merge::list_slots(store, keys, directory, meta, directory.entries()[list].position)? {
            live += usize::from(slots::live_entry(store, &mut cache.leaves, slot)?.is_some());
        }
        let dead = coded - live;
        if live < STARVED {
            unfit.starved.push(list);
            unfit.dead += dead as u64;
        } else if dead * WORN_SHARE >= *coded {
            unfit.worn.push(list);
            unfit.dead += dead as u64;
        }
    }
    if unfit.starved.len() + unfit.overfull.len() >= rows.len() {
        unfit.starved.clear(); // somebody must take the rows
    }
    Ok(unfit)
}

/// Lists whose rows lie in many more chunks than they need, worst first. A batch brings each list a
/// chunk of a row or more; to open it costs as much as ten rows in whole blocks.
fn scattered(layout: &ChunkLayout, known: &[MapEntry], but: &[usize], most: usize) -> Vec<usize> {
    let mut found: Vec<(u32, usize)> = Vec::new();
    for (list, entry) in known.iter().enumerate() {
        let needed = entry.rows.div_ceil(layout.rows_max() as u32);
        let more = entry.chunks.saturating_sub(needed);
        if more >= SCATTERED && !but.contains(&list) {
            found.push((more, list));
        }
    }
    found.sort_unstable_by(|a, b| b.cmp(a));
    found.truncate(most);
    // The log must not pay more for gathering rows than a few times what it paid for the batch.
    let mut rows = 0;
    let affordable = found.into_iter().take_while(|(_, list)| {
        rows += u64::from(known[*list].rows);
        rows <= L0_ROWS * GATHERED_SHARE
    });
    affordable.map(|(_, list)| list).collect()
}

fn change_lists<S: PageStore>(
    store: &S,
    cache: &mut Cache,
    keys: &mut Keys<'_>,
    meta: &Meta,
    directory: &Directory,
    unfit: &Unfit,
    work: &mut Work<'_>,
) -> Result<Meta> {
    let dims = meta.identity.dims as usize;
    let metric = meta.identity.metric;
    // Old lists that change, and the new ones, each a centroid with members.
    let mut changed: BTreeMap<usize, Members> = BTreeMap::new();
    let mut born: Vec<(Zeroizing<Vec<f32>>, Members)> = Vec::new();
    for list in &unfit.worn {
        let members = load(store, cache, keys, meta, directory, *list)?;
        changed.insert(*list, members);
    }
    for list in &unfit.starved {
        store.check_interrupts()?;
        let members = load(store, cache, keys, meta, directory, *list)?;
        for (slot, row) in members.slots.iter().zip(members.values.chunks_exact(dims)) {
            let Some(to) = nearest_fit(directory, unfit, row) else {
                return Err(crate::Error::Bug("no list is left to fold into"));
            };
            let target = match changed.entry(to) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => new.insert(load(store, cache, keys, meta, directory, to)?),
            };
            target.push(*slot, row);
        }
        changed.insert(*list, Members::default());
    }
    for list in &unfit.overfull {
        store.check_interrupts()?;
        (work.tick)(Phase::Assigning, born.len() as u64 / 2, unfit.overfull.len() as u64)?;
        let members = match changed.remove(list) {
            Some(members) => members,
            None => load(store, cache, keys, meta, directory, *list)?,
        };
        if members.slots.len() < 2 {
            changed.insert(*list, members);
            continue;
        }
        let halves = halve(metric, members, dims, *list as u64);
        changed.insert(*list, Members::default());
        let start = born.len();
        born.extend(halves);
        for near in neighbours(directory, &born[start..], unfit) {
            let before = changed.remove(&near);
            let (changed_before, members) = match before {
                Some(members) => (true, members),
                None => (false, load(store, cache, keys, meta, directory, near)?),
            };
            let total = members.slots.len();
            let moving = nearer(&directory.centroid(near), &members, &born[start..], dims);
            let count = moving.iter().flatten().count();
            if (count as f64) < (total as f64 * LEAST_SHARE).max(1.0) {
                // Unchanged, so not written; but what an earlier split took rows from must lose them.
                if changed_before {
                    changed.insert(near, members);
                }
                continue;
            }
            let mut stay = Members::default();
            for ((slot, row), to) in members.slots.iter().zip(members.values.chunks_exact(dims)).zip(moving) {
                let target = match to {
                    Some(half) => &mut born[start + half].1,
                    None => &mut stay,
                };
                target.push(*slot, row);
            }
            changed.insert(near, stay);
        }
    }
    write(store, cache, keys, directory, changed, born, unfit.dead)
}

/// Opens every live row of a list.
fn load<S: PageStore>(
    store: &S,
    cache: &mut Cache,
    keys: &mut Keys<'_>,
    meta: &Meta,
    directory: &Directory,
    list: usize,
) -> Result<Members> {
    let dims = meta.identity.dims as usize;
    let slots = merge::list_slots(store, keys, directory, meta, directory.entries()[list].position)?;
    let mut members =
        Members { slots: Vec::with_capacity(slots.len()), values: Rows::with_capacity(slots.len() * dims) };
    let mut row = Rows::zeroed(dims);
    for slot in slots {
        if open_vector(store, cache, keys, &meta.identity, slot, &mut row)? {
            members.push(slot, &row);
        }
    }
    Ok(members)
}

/// Cuts members in two around their 2-means.
fn halve(metric: Metric, members: Members, dims: usize, seed: u64) -> [(Zeroizing<Vec<f32>>, Members); 2] {
    let split = two_means(&members.values, dims, seed);
    let mut halves = split.centroids.map(|mut centroid| {
        if metric == Metric::Cosine {
            distance::normalize(&mut centroid);
        }
        (Centroids::new(dims, &centroid).to_floats(), Members::default())
    });
    for ((slot, row), second) in members.slots.iter().zip(members.values.chunks_exact(dims)).zip(split.second) {
        halves[usize::from(second)].1.push(*slot, row);
    }
    halves
}

/// The list nearest to `row` that is not being given up itself.
fn nearest_fit(directory: &Directory, unfit: &Unfit, row: &[f32]) -> Option<usize> {
    let centroids = &directory.stream.centroids;
    let scaled = centroids.scaled(row);
    let fit = (0..centroids.len()).filter(|list| !unfit.starved.contains(list) && !unfit.overfull.contains(list));
    fit.map(|list| (centroids.score(Metric::L2, &scaled, list), list))
        .min_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, list)| list)
}

/// Lists near either new centroid that are not being given up themselves.
fn neighbours(directory: &Directory, halves: &[(Zeroizing<Vec<f32>>, Members)], unfit: &Unfit) -> Vec<usize> {
    let centroids = &directory.stream.centroids;
    let scaled: Vec<_> = halves.iter().map(|(half, _)| centroids.scaled(half)).collect();
    let mut nearest: Vec<(f32, usize)> = (0..centroids.len())
        .filter(|list| !unfit.overfull.contains(list) && !unfit.starved.contains(list))
        .map(|list| {
            let nearer = scaled.iter().map(|half| centroids.score(Metric::L2, half, list));
            (nearer.fold(f32::INFINITY, f32::min), list)
        })
        .collect();
    nearest.sort_by(|a, b| a.0.total_cmp(&b.0));
    nearest.into_iter().take(NEIGHBOURS).map(|(_, list)| list).collect()
}

/// For each member, the half that it is nearer to than to its own centroid.
fn nearer(
    own: &[f32],
    members: &Members,
    halves: &[(Zeroizing<Vec<f32>>, Members)],
    dims: usize,
) -> Vec<Option<usize>> {
    let best = |row: &[f32]| {
        let here = distance::l2_squared(row, own);
        let there = halves.iter().map(|(half, _)| distance::l2_squared(row, half)).enumerate();
        there.filter(|(_, away)| *away < here).min_by(|a, b| a.1.total_cmp(&b.1)).map(|(half, _)| half)
    };
    members.values.chunks_exact(dims).map(best).collect()
}

/// Writes every changed list anew and publishes the new set.
fn write<S: PageStore>(
    store: &S,
    cache: &mut Cache,
    keys: &mut Keys<'_>,
    old: &Directory,
    changed: BTreeMap<usize, Members>,
    born: Vec<(Zeroizing<Vec<f32>>, Members)>,
    dead: u64,
) -> Result<Meta> {
    let dims = old.stream.mean.len();
    let mut batch = Batch::begin(store)?;
    let metric = batch.meta.identity.metric;
    let (mut entries, mut centroids) = (Vec::new(), Rows::default());
    for (list, entry) in old.entries().iter().enumerate() {
        if !changed.contains_key(&list) {
            let entry = DirectoryEntry { rows: lists::entry(store, &batch.meta, entry.position)?.rows, ..*entry };
            entries.push(entry);
            centroids.push(&old.centroid(list));
        }
    }
    let kept = changed.iter().map(|(list, members)| (old.centroid(*list), members));
    let made = born.iter().map(|(centroid, members)| (centroid.clone(), members));
    let mut writing = Vec::new();
    for (centroid, members) in kept.chain(made).filter(|(_, members)| !members.slots.is_empty()) {
        let stats = ListStats::new(members.values.chunks_exact(dims), &centroid);
        entries.push(DirectoryEntry { uid: 0, position: 0, head: 0, rows: 0, stats });
        centroids.push(&centroid);
        writing.push(members);
    }
    let first = entries.len() - writing.len();
    let stream = DirectoryStream {
        seed: old.stream.seed,
        calibration: old.stream.calibration,
        mean: old.stream.mean.clone(),
        entries,
        // What readers decode is what rows are coded against.
        centroids: Centroids::new(dims, &centroids),
        digest: None,
    };
    let mut directory = Directory::new(batch.meta.directory_epoch + 1, metric, stream);
    for (index, members) in writing.into_iter().enumerate() {
        store.check_interrupts()?;
        let mut order: Vec<usize> = (0..members.slots.len()).collect();
        order.sort_by_key(|row| members.slots[*row]);
        let slots: Vec<u64> = order.iter().map(|row| members.slots[*row]).collect();
        let rows = Rows::gather(&members.values, dims, order.iter().copied());
        let chunks = encode_rows(&directory, metric, Some(first + index), &slots, &rows);
        let (position, entry) = batch.new_list(store)?;
        let entry = batch.append(store, keys, &directory.layout, position, entry, &chunks)?;
        let known = &mut directory.stream.entries[first + index];
        (known.uid, known.position, known.head, known.rows) = (entry.uid, position, entry.head, entry.rows);
    }
    for list in changed.keys() {
        let position = old.entries()[*list].position;
        let entry = lists::entry(store, &batch.meta, position)?;
        batch.end_list(store, position, entry)?;
    }
    let rows = directory.entries().iter().map(|entry| u64::from(entry.rows)).sum();
    batch.publish_directory(store, cache, keys, directory, |meta| {
        meta.list_rows = rows;
        meta.dead_rows = meta.dead_rows.saturating_sub(dead);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scattered_lists_come_worst_first_and_within_bounds() {
        let layout = ChunkLayout::new(384);
        let list = |rows, chunks| MapEntry { rows, chunks, ..MapEntry::FREE };
        // Needed: 2 chunks each.
        let mut known = vec![list(200, 2), list(200, 6), list(200, 7), list(250, 12), list(200, 9), MapEntry::FREE];
        assert_eq!(scattered(&layout, &known, &[4], 10), [3, 2]);
        assert_eq!(scattered(&layout, &known, &[], 2), [3, 4]);
        known = vec![list(400, 30); 100];
        assert_eq!(scattered(&layout, &known, &[], 100).len() as u64, L0_ROWS * GATHERED_SHARE / 400);
    }
}
