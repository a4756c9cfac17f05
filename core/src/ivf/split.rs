//! Splitting overfull lists, with the near rows of their neighbours moved along.
//!
//! Growth by splits alone falls 1 to 3 points of recall behind; moving the rows of the neighbouring
//! lists that are nearer to a new centroid brings it within one (`spec/prototype.md`). Every list
//! that loses a row is written anew under a new uid (rule 4).

use std::collections::{BTreeMap, HashMap};

use super::{
    Cache, Keys, LIST_ROWS, Phase, Work,
    cluster::{Batch, encode_rows, open_vector},
    directory::{self, Directory},
    lists, merge,
};
use crate::{
    Result,
    format::{
        directory::{DirectoryEntry, DirectoryStream, round_centroids},
        meta::Meta,
    },
    math::{distance, probe::ListStats, two_means},
    metric::Metric,
    store::PageStore,
};

/// Rows from which a list is split.
const OVERFULL: u64 = LIST_ROWS * 5 / 2;
/// Neighbours that may give rows to the new lists.
const NEIGHBOURS: usize = 16;
/// A neighbour that would give fewer rows than this share keeps them: writing it anew costs more.
const LEAST_SHARE: f64 = 0.04;
/// Lists split in one batch at most.
const SPLITS_MAX: usize = 64;

/// Members of a list while it is being rearranged.
struct Members {
    slots: Vec<u64>,
    values: Vec<f32>,
}

/// Splits every overfull list and publishes the outcome; how many were split. The caller holds the
/// maintenance lock. A fixed number of lists (reloption `lists`) is never changed.
pub fn split_overfull<S: PageStore>(
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
    let by_position: HashMap<u32, u32> =
        lists::entries(store, &fresh)?.into_iter().map(|(position, entry)| (position, entry.rows)).collect();
    let rows = |entry: &DirectoryEntry| by_position.get(&entry.position).copied().unwrap_or(0);
    let mut overfull: Vec<usize> =
        (0..directory.entries().len()).filter(|list| u64::from(rows(&directory.entries()[*list])) > OVERFULL).collect();
    overfull.sort_by_key(|list| std::cmp::Reverse(rows(&directory.entries()[*list])));
    overfull.truncate(SPLITS_MAX);
    if overfull.is_empty() {
        return Ok(0);
    }
    let split = overfull.len() as u64;
    *meta = split_lists(store, cache, keys, &fresh, &directory, &overfull, work)?;
    Ok(split)
}

#[allow(clippy::too_many_arguments)]
fn split_lists<S: PageStore>(
    store: &S,
    cache: &mut Cache,
    keys: &mut Keys<'_>,
    meta: &Meta,
    directory: &Directory,
    overfull: &[usize],
    work: &mut Work<'_>,
) -> Result<Meta> {
    let dims = meta.identity.dims as usize;
    let metric = meta.identity.metric;
    // Old lists that change, and the new ones, each a centroid with members.
    let mut changed: BTreeMap<usize, Members> = BTreeMap::new();
    let mut born: Vec<(Vec<f32>, Members)> = Vec::new();
    for list in overfull {
        store.check_interrupts()?;
        (work.tick)(Phase::Assigning, born.len() as u64 / 2, overfull.len() as u64)?;
        let members = match changed.remove(list) {
            Some(members) => members,
            None => load(store, cache, keys, meta, directory, *list)?,
        };
        if members.slots.len() < 2 {
            changed.insert(*list, members);
            continue;
        }
        let halves = halve(metric, members, dims, *list as u64);
        changed.insert(*list, Members { slots: Vec::new(), values: Vec::new() });
        let start = born.len();
        born.extend(halves);
        for near in neighbours(directory, &born[start..], overfull, dims) {
            let before = changed.remove(&near);
            let (changed_before, members) = match before {
                Some(members) => (true, members),
                None => (false, load(store, cache, keys, meta, directory, near)?),
            };
            let total = members.slots.len();
            let moving = nearer(directory.centroid(near), &members, &born[start..], dims);
            let count = moving.iter().flatten().count();
            if (count as f64) < (total as f64 * LEAST_SHARE).max(1.0) {
                // Unchanged, so not written; but what an earlier split took rows from must lose them.
                if changed_before {
                    changed.insert(near, members);
                }
                continue;
            }
            let mut stay = Members { slots: Vec::new(), values: Vec::new() };
            for ((slot, row), to) in members.slots.iter().zip(members.values.chunks_exact(dims)).zip(moving) {
                let target = match to {
                    Some(half) => &mut born[start + half].1,
                    None => &mut stay,
                };
                target.slots.push(*slot);
                target.values.extend_from_slice(row);
            }
            changed.insert(near, stay);
        }
    }
    write(store, cache, keys, directory, changed, born)
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
        Members { slots: Vec::with_capacity(slots.len()), values: Vec::with_capacity(slots.len() * dims) };
    let mut row = vec![0.0; dims];
    for slot in slots {
        if open_vector(store, cache, keys, &meta.identity, slot, &mut row)? {
            members.slots.push(slot);
            members.values.extend_from_slice(&row);
        }
    }
    Ok(members)
}

/// Cuts members in two around their 2-means.
fn halve(metric: Metric, members: Members, dims: usize, seed: u64) -> [(Vec<f32>, Members); 2] {
    let split = two_means(&members.values, dims, seed);
    let mut halves = split.centroids.map(|mut centroid| {
        if metric == Metric::Cosine {
            distance::normalize(&mut centroid);
        }
        round_centroids(&mut centroid);
        (centroid, Members { slots: Vec::new(), values: Vec::new() })
    });
    for ((slot, row), second) in members.slots.iter().zip(members.values.chunks_exact(dims)).zip(split.second) {
        let half = &mut halves[usize::from(second)].1;
        half.slots.push(*slot);
        half.values.extend_from_slice(row);
    }
    halves
}

/// Lists near either new centroid that are not being split themselves.
fn neighbours(directory: &Directory, halves: &[(Vec<f32>, Members)], overfull: &[usize], dims: usize) -> Vec<usize> {
    let centroids = &directory.stream.centroids;
    let mut nearest: Vec<(f32, usize)> = centroids
        .chunks_exact(dims)
        .enumerate()
        .filter(|(list, _)| !overfull.contains(list))
        .map(|(list, centroid)| {
            let nearer =
                halves.iter().map(|(half, _)| distance::l2_squared(half, centroid)).fold(f32::INFINITY, f32::min);
            (nearer, list)
        })
        .collect();
    nearest.sort_by(|a, b| a.0.total_cmp(&b.0));
    nearest.into_iter().take(NEIGHBOURS).map(|(_, list)| list).collect()
}

/// For each member, the half that it is nearer to than to its own centroid.
fn nearer(own: &[f32], members: &Members, halves: &[(Vec<f32>, Members)], dims: usize) -> Vec<Option<usize>> {
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
    born: Vec<(Vec<f32>, Members)>,
) -> Result<Meta> {
    let dims = old.stream.mean.len();
    let mut batch = Batch::begin(store)?;
    let metric = batch.meta.identity.metric;
    let (mut entries, mut centroids) = (Vec::new(), Vec::new());
    for (list, entry) in old.entries().iter().enumerate() {
        if !changed.contains_key(&list) {
            let entry = DirectoryEntry { rows: lists::entry(store, &batch.meta, entry.position)?.rows, ..*entry };
            entries.push(entry);
            centroids.extend_from_slice(old.centroid(list));
        }
    }
    let kept = changed.iter().map(|(list, members)| (old.centroid(*list).to_vec(), members));
    let made = born.iter().map(|(centroid, members)| (centroid.clone(), members));
    let mut writing = Vec::new();
    for (centroid, members) in kept.chain(made).filter(|(_, members)| !members.slots.is_empty()) {
        let stats = ListStats::new(&members.values, &centroid);
        entries.push(DirectoryEntry { uid: 0, position: 0, head: 0, rows: 0, stats });
        centroids.extend_from_slice(&centroid);
        writing.push(members);
    }
    let first = entries.len() - writing.len();
    let mut stream = DirectoryStream {
        seed: old.stream.seed,
        calibration: old.stream.calibration,
        mean: old.stream.mean.clone(),
        entries,
        centroids,
    };
    // What readers decode is what rows are coded against.
    round_centroids(&mut stream.centroids);
    let mut directory = Directory::new(batch.meta.directory_epoch + 1, dims, stream);
    for (index, members) in writing.into_iter().enumerate() {
        store.check_interrupts()?;
        let mut order: Vec<usize> = (0..members.slots.len()).collect();
        order.sort_by_key(|row| members.slots[*row]);
        let slots: Vec<u64> = order.iter().map(|row| members.slots[*row]).collect();
        let rows: Vec<f32> = order.iter().flat_map(|row| &members.values[row * dims..][..dims]).copied().collect();
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
    batch.publish_directory(store, cache, keys, directory, |meta| meta.list_rows = rows)
}
