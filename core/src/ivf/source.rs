//! The rows of a clustering: opened in batches, sampled, assigned.

use zeroize::Zeroizing;

use super::{Cache, Keys, Phase, Work, kept::Kept, open::open_vector, rows::Rows, slots};
use crate::{
    Result,
    format::{meta::Identity, slot::SlotState},
    math::{Asking, Assigner, Clusters, KmeansOptions},
    store::PageStore,
};

/// Rows that are opened and assigned at a time.
const BATCH_ROWS: usize = 4096;

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

/// The rows to cluster, by their places in slot order, and those that are kept as opened.
pub(super) struct Source {
    identity: Identity,
    live: Vec<u64>,
    kept: Kept,
}

/// A batch of rows: their places, the rows end to end, and the nearest list of each.
type Visit<'v> = &'v mut dyn FnMut(&[usize], &[f32], &[(u32, f32)]);

impl Source {
    /// The rows that are live now, below slot `upto`.
    pub fn new<S: PageStore>(store: &S, cache: &mut Cache, identity: &Identity, upto: u64) -> Result<Self> {
        Ok(Self { identity: *identity, live: live_slots(store, cache, upto)?, kept: Kept::new(identity) })
    }

    /// How many rows, as far as is known: some may not open.
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// What the rows are.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The slots of rows, by place.
    pub fn slots(&self) -> &[u64] {
        &self.live
    }

    /// Rows that are kept: the first ones.
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Keeps as many rows as `bytes` hold; drops those of them that don't open, which moves the places of the others.
    pub fn keep<S: PageStore>(
        &mut self,
        store: &S,
        cache: &mut Cache,
        keys: &mut Keys<'_>,
        bytes: usize,
        work: &mut Work<'_>,
    ) -> Result<()> {
        self.kept.fill(store, cache, keys, &self.identity, &mut self.live, bytes, work)
    }

    /// The rows at `places`, those that open, as queries.
    pub fn asking<S: PageStore>(
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
            store.check_interrupts()?;
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
        Ok(self.kept.decode(&self.identity, place, row)
            || open_vector(store, cache, keys, &self.identity, self.live[place], row)?)
    }

    /// Finds the nearest list of every row, in their order.
    pub fn assign<S: PageStore>(
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
    pub fn refine<S: PageStore>(
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
        let (tick, rows) = (&mut work.tick, self.live.len() as u64);
        clusters.move_to_means(dims, &sums, &counts, options, &mut || tick(Phase::Assigning, rows, rows))
    }

    /// A sample of `wanted` vectors, evenly over the insertion order and none of the places in `but`, which ascend; fewer, or
    /// none, where rows don't open.
    pub fn sample<S: PageStore>(
        &self,
        store: &S,
        cache: &mut Cache,
        keys: &mut Keys<'_>,
        wanted: usize,
        but: &[usize],
        work: &mut Work<'_>,
    ) -> Result<Rows> {
        let dims = self.identity.dims as usize;
        let wanted = wanted.min(self.live.len());
        let mut sample = Rows::with_capacity(wanted * dims);
        let mut values = Rows::zeroed(dims);
        for index in 0..wanted {
            if index % BATCH_ROWS == 0 {
                store.check_interrupts()?;
                (work.tick)(Phase::Clustering, index as u64, wanted as u64)?;
            }
            let start = |index: usize| (index as u128 * self.live.len() as u128 / wanted as u128) as usize;
            // The first of each stretch that opens: rows that nobody can open must not thin the sample out.
            let stretch = start(index)..start(index + 1);
            for (place, slot) in stretch.clone().zip(&self.live[stretch]) {
                if but.binary_search(&place).is_ok() {
                    continue;
                }
                if self.kept.decode(&self.identity, place, &mut values)
                    || open_vector(store, cache, keys, &self.identity, *slot, &mut values)?
                {
                    sample.push(&values);
                    break;
                }
            }
        }
        Ok(sample)
    }
}

/// The list of each row, and the rows of each list.
pub(super) struct Assigned {
    list_of: Vec<u32>,
    /// Places by list, ascending in each.
    places: Vec<usize>,
    /// Where in `places` each list ends.
    ends: Vec<usize>,
}

impl Assigned {
    /// `list_of` each place, [`Assigned::NO_LIST`] for rows that did not open; below `lists`.
    pub fn new(list_of: Vec<u32>, lists: usize) -> Self {
        let mut ends = vec![0usize; lists];
        let in_lists = || list_of.iter().enumerate().filter(|(_, list)| **list != Self::NO_LIST);
        in_lists().for_each(|(_, list)| ends[*list as usize] += 1);
        let mut total = 0;
        for end in &mut ends {
            total += *end;
            *end = total - *end;
        }
        let mut places = vec![0; total];
        for (place, list) in in_lists() {
            let end = &mut ends[*list as usize];
            places[*end] = place;
            *end += 1;
        }
        Self { list_of, places, ends }
    }

    /// What stands for no list.
    pub const NO_LIST: u32 = u32::MAX;

    /// Bytes for each row.
    pub const ROW_BYTES: usize = size_of::<u32>() + size_of::<usize>();

    /// How many lists.
    pub fn lists(&self) -> usize {
        self.ends.len()
    }

    /// How many rows have one.
    pub fn rows(&self) -> usize {
        self.places.len()
    }

    /// The rows of a list.
    pub fn of(&self, list: usize) -> &[usize] {
        let start = if list == 0 { 0 } else { self.ends[list - 1] };
        &self.places[start..self.ends[list]]
    }

    /// The list of a row.
    pub fn list_of(&self, place: usize) -> Option<u32> {
        Some(self.list_of[place]).filter(|list| *list != Self::NO_LIST)
    }
}
