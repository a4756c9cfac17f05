//! The streaming ordered scan: best first over lists, coded rows and opened rows.
//!
//! Three sources compete: the next list by the score that it may hold, coded rows by their lower
//! bound, opened rows by their score. A row is given out when nothing else can beat it, so there is
//! no k to know: the longer the caller asks, the more lists are probed. Order is strict; a row that
//! turns up too late (the probe rule is a quantile, not a proof) waits until all else is given out.

mod candidates;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashSet},
};

use self::candidates::{Candidates, Ordered};
use super::{
    Cache, Keys, Query,
    directory::{self, View},
    lists::{self, ChunkBuffer, Read},
    records::{self, Opened},
    slots,
    vector::Score,
};
use crate::{
    Error, Result,
    format::{
        Tid,
        list::{BLOCK_ROWS, base_slot, slots_of},
        meta::Meta,
        slot::{SlotEntry, SlotState},
    },
    math::{
        ListTerm,
        code::ERROR_MULTIPLIER,
        probe::{Prober, Rule},
    },
    store::{NO_BLOCK, PAGE, PageKind, PageStore},
};

/// How a scan probes.
#[derive(Clone, Copy, Debug)]
pub struct ScanOptions {
    /// Lists that the first rows come from; 0 = as many as `target_recall` needs.
    pub probes: u32,
    /// Share of the true nearest rows that an automatic scan should find.
    pub target_recall: f32,
    /// Rows opened before the scan ends; 0 = no limit.
    pub max_tuples: u64,
}

impl Default for ScanOptions {
    fn default() -> Self {
        Self { probes: 0, target_recall: 0.95, max_tuples: 0 }
    }
}

/// A row, nearest first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// The heap row.
    pub tid: Tid,
    /// Its slot.
    pub slot: u64,
    /// Its score, or a lower bound of it.
    pub score: f32,
    /// Whether `score` is exact.
    pub exact: bool,
}

/// What a scan did, for tests and EXPLAIN-like output.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScanCounts {
    /// Lists opened.
    pub lists: u32,
    /// Rows scored by their codes.
    pub coded: u64,
    /// Rows opened and scored exactly.
    pub opened: u64,
    /// Times the lists had changed under the scan.
    pub restarts: u32,
}

/// Rows given out after which a scan with a fixed number of probes widens as an automatic one does:
/// who asks for so many filters most of them away.
const FIXED_ROWS: u64 = 64;
/// Error multiplier of a scan that was asked for everything: a bound fails once in 10^15 rows, so
/// that it answers as a sequential scan does. The usual one fails for some rows in a thousand.
const SURE_MULTIPLIER: f32 = 8.0;
/// Restarts after which a scan reads every slot instead.
const RESTARTS_MAX: u32 = 5;
/// Findings of the same broken page that are damage.
const STUCK_MAX: u32 = 3;
/// Rows opened between two looks at interrupts.
const INTERRUPT_ROWS: u64 = 64;
/// Rows opened in one go: while one is fetched from memory the others are, too.
const TOGETHER: usize = 8;

/// An opened row; ordered by score, then slot.
#[derive(Clone, Copy)]
struct Ready {
    slot: u64,
    tid: Tid,
    score: Score,
}

impl Ready {
    fn key(&self) -> (Ordered, u64) {
        (Ordered(self.score.value), self.slot)
    }
}

impl PartialEq for Ready {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Ready {}

impl PartialOrd for Ready {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ready {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// A scan under one MVCC snapshot. Holds no page and no lock between calls.
pub struct Scan {
    query: Query,
    options: ScanOptions,
    /// Slots from here on are the tail, scored exactly; kept to the end (rule 2).
    tail_from: u64,
    place: Option<Place>,
    candidates: Candidates,
    ready: BinaryHeap<Reverse<Ready>>,
    /// Slots queued before the lists changed under the scan.
    seen: Option<HashSet<u64>>,
    last: f32,
    /// The largest rounding error of the rows opened so far.
    worst: f32,
    late: Vec<Ready>,
    given: u64,
    buffer: ChunkBuffer,
    counts: ScanCounts,
    exhausted: bool,
    /// Where a list was last found broken though its map entry had not changed, and how often.
    stuck: (u32, u32),
}

/// Memory that one scan leaves to the next: what a scan needs is too much to ask the system for each time. Nothing that was
/// opened is in it, but slots and how far from the last query they may be.
#[derive(Default)]
pub struct Spare {
    candidates: candidates::Spare,
    buffer: ChunkBuffer,
}

/// One reading of meta and directory.
struct Place {
    meta: Meta,
    /// `None` while the index has no directory: every row is in the tail.
    lists: Option<Lists>,
    /// Whether L0 is still to be scored: after the nearest lists, whose rows show which of its rows matter.
    l0: bool,
}

/// The lists of that reading, as this query sees them.
struct Lists {
    view: View,
    prober: Prober,
    /// Which lists were probed: a fixed number of probes may give way to the automatic rule.
    probed: Vec<bool>,
    fixed: bool,
}

impl Scan {
    /// A scan for `query`, whose length is the index's dimension.
    pub fn new(meta: &Meta, query: &[f32], options: ScanOptions) -> Result<Self> {
        let expected = meta.identity.dims as usize;
        if query.len() != expected {
            return Err(Error::Dimensions { expected, found: query.len() });
        }
        Ok(Self {
            query: Query::new(meta.identity.metric, query),
            options,
            tail_from: 0,
            place: None,
            candidates: Candidates::default(),
            ready: BinaryHeap::new(),
            seen: None,
            last: f32::NEG_INFINITY,
            worst: 0.0,
            late: Vec::new(),
            given: 0,
            buffer: ChunkBuffer::default(),
            counts: ScanCounts::default(),
            exhausted: false,
            stuck: (NO_BLOCK, 0),
        })
    }

    /// What the scan did so far.
    pub fn counts(&self) -> ScanCounts {
        self.counts
    }

    /// The next row by distance; `None` after the last.
    pub fn next<S: PageStore>(&mut self, store: &S, cache: &mut Cache, keys: &mut Keys<'_>) -> Result<Option<Hit>> {
        if self.place.is_none() {
            self.start(store, cache, keys)?;
        }
        loop {
            let bound = self.next_bound();
            if bound > f32::NEG_INFINITY && self.place.as_ref().is_some_and(|place| place.l0) {
                self.probe_l0(store, cache, keys)?;
                continue;
            }
            let best = self.ready.peek().map_or(f32::INFINITY, |Reverse(row)| row.score.value);
            let lower = self.candidates.lowest();
            if !self.ready.is_empty() && best <= lower && best <= bound {
                if let Some(hit) = self.give() {
                    return Ok(Some(hit));
                }
                continue; // it came too late
            }
            if self.over_budget() {
                return Ok(self.give_rest());
            }
            if bound < best.min(lower) {
                self.probe_next(store, cache, keys)?;
            } else if let Some(slot) = self.candidates.take() {
                self.open_with_next(store, cache, keys, slot, best.min(bound))?;
            } else if self.ready.is_empty() && !self.probe_next(store, cache, keys)? {
                return Ok(self.give_rest());
            }
        }
    }

    /// Leaves its memory to the next scan, wiped of what it opened; it gives no more rows.
    pub fn finish(mut self, cache: &mut Cache) {
        self.buffer.wipe();
        cache.records.wipe();
        cache.spare = Spare { candidates: self.candidates.leave(), buffer: self.buffer };
    }

    fn over_budget(&self) -> bool {
        self.options.max_tuples > 0 && self.counts.opened >= self.options.max_tuples
    }

    /// Gives out the best ready row, unless a farther one went before it.
    fn give(&mut self) -> Option<Hit> {
        let Reverse(row) = self.ready.pop()?;
        if row.score.value < self.last && !self.exhausted {
            self.late.push(row);
            return None;
        }
        self.last = row.score.value;
        self.given += 1;
        if let Some(lists) = self.place.as_mut().and_then(|place| place.lists.as_mut()) {
            lists.prober.emitted(row.score.value);
        }
        if self.given == FIXED_ROWS {
            self.widen();
        }
        // Once rounded rows are about, an exact one may have a nearer neighbour among them.
        let exact = self.worst == 0.0;
        let score = if exact { row.score.value } else { self.query.floor(row.score, self.worst) };
        Some(Hit { tid: row.tid, slot: row.slot, score, exact })
    }

    /// Rows that wait for the end: what is ready, then what came too late.
    fn give_rest(&mut self) -> Option<Hit> {
        if !self.exhausted {
            self.exhausted = true;
            self.ready.extend(std::mem::take(&mut self.late).into_iter().map(Reverse));
        }
        self.give()
    }

    /// Rows up to this score may be given out before the next list is probed.
    fn next_bound(&mut self) -> f32 {
        match self.place.as_mut().and_then(|place| place.lists.as_mut()) {
            Some(lists) => lists.prober.bound(&lists.view),
            None => f32::INFINITY,
        }
    }

    /// A fixed number of probes serves the first rows; then the automatic rule takes over.
    fn widen(&mut self) {
        let recall = self.options.target_recall;
        let Some(lists) = self.place.as_mut().and_then(|place| place.lists.as_mut()).filter(|lists| lists.fixed) else {
            return;
        };
        lists.fixed = false;
        let calibration = &lists.view.directory.stream.calibration;
        lists.prober = Prober::new(&lists.view, Rule::Recall(calibration, recall));
    }

    /// Reads meta and directory and scores the tail.
    fn start<S: PageStore>(&mut self, store: &S, cache: &mut Cache, keys: &mut Keys<'_>) -> Result<()> {
        let Spare { candidates, buffer } = std::mem::take(&mut cache.spare);
        (self.candidates, self.buffer) = (Candidates::within(candidates), buffer);
        let place = self.read_place(store, cache, keys)?;
        self.tail_from = place.meta.merged_upto;
        self.place = Some(place);
        self.score_slots(store, cache, keys, self.tail_from, u64::MAX)
    }

    fn read_place<S: PageStore>(&mut self, store: &S, cache: &mut Cache, keys: &mut Keys<'_>) -> Result<Place> {
        let (meta, directory) = directory::current(store, cache, keys.index)?;
        let Some(directory) = directory else {
            return Ok(Place { meta, lists: None, l0: false });
        };
        let probes = self.options.probes as usize;
        let fixed = probes > 0 && self.given < FIXED_ROWS;
        let everything = probes >= directory.stats.len() && probes > 0;
        let sure = everything || self.options.target_recall >= 1.0;
        let view = View::new(directory, &self.query, if sure { SURE_MULTIPLIER } else { ERROR_MULTIPLIER });
        let rule = match fixed {
            true => Rule::Probes(probes),
            false => Rule::Recall(&view.directory.stream.calibration, self.options.target_recall),
        };
        let prober = Prober::new(&view, rule);
        let probed = vec![false; view.directory.entries().len()];
        let lists = Lists { view, prober, probed, fixed };
        Ok(Place { meta, lists: Some(lists), l0: true })
    }

    /// Lists changed under the scan: everything again, but for the rows already queued.
    fn restart<S: PageStore>(&mut self, store: &S, cache: &mut Cache, keys: &mut Keys<'_>) -> Result<()> {
        self.counts.restarts += 1;
        let seen = self.seen.get_or_insert_default();
        seen.extend(self.candidates.slots());
        store.check_interrupts()?;
        let mut place = self.read_place(store, cache, keys)?;
        if self.counts.restarts > RESTARTS_MAX {
            (place.lists, place.l0) = (None, false);
            self.place = Some(place);
            return self.score_slots(store, cache, keys, 0, self.tail_from);
        }
        self.place = Some(place);
        Ok(())
    }

    fn probe_l0<S: PageStore>(&mut self, store: &S, cache: &mut Cache, keys: &mut Keys<'_>) -> Result<()> {
        let place = self.place.as_mut().expect("the scan has started");
        place.l0 = false;
        let Some(lists) = &place.lists else {
            return Ok(());
        };
        let meta = place.meta;
        let entry = lists::entry(store, &meta, meta.l0_position)?;
        if entry.uid != meta.l0_uid {
            return self.restart(store, cache, keys);
        }
        let to_mean = lists.view.to_mean;
        match self.score_list(store, cache, keys, (entry.uid, entry.head), to_mean)? {
            Read::Whole => Ok(()),
            Read::Moved(block) => self.moved(store, cache, keys, (meta.l0_position, entry.uid, entry.head), block),
        }
    }

    /// Probes the next list; `false` if there is none.
    fn probe_next<S: PageStore>(&mut self, store: &S, cache: &mut Cache, keys: &mut Keys<'_>) -> Result<bool> {
        store.check_interrupts()?;
        let place = self.place.as_mut().expect("the scan has started");
        let Some(lists) = &mut place.lists else {
            return Ok(false);
        };
        let (list, to_centroid) = loop {
            let Some((list, score)) = lists.prober.take(&lists.view) else {
                return Ok(false);
            };
            let list = list as usize;
            if !std::mem::replace(&mut lists.probed[list], true) {
                break (list, score);
            }
        };
        if let Some(after) = lists.prober.peek() {
            store.prefetch(lists.view.directory.entries()[after as usize].head, 0);
        }
        let known = lists.view.directory.entries()[list];
        let mut head = known.head;
        if head == NO_BLOCK {
            // The list was empty when the directory was written; the map knows better.
            let entry = lists::entry(store, &place.meta, known.position)?;
            if entry.uid != known.uid {
                self.restart(store, cache, keys)?;
                return Ok(true);
            }
            head = entry.head;
        }
        self.counts.lists += 1;
        match self.score_list(store, cache, keys, (known.uid, head), to_centroid)? {
            Read::Whole => {}
            Read::Moved(block) => self.moved(store, cache, keys, (known.position, known.uid, head), block)?,
        }
        Ok(true)
    }

    /// A page was not its list's: the list is gone, or damaged (rule 3). A merge that was undone may
    /// leave the map entry as it was, so only the same finding several times over is damage.
    fn moved<S: PageStore>(
        &mut self,
        store: &S,
        cache: &mut Cache,
        keys: &mut Keys<'_>,
        (position, uid, head): (u32, u64, u32),
        block: u32,
    ) -> Result<()> {
        let meta = super::read_meta(store)?;
        let entry = lists::entry(store, &meta, position)?;
        if entry.uid == uid && entry.head == head && entry.died > meta.data_epoch {
            let (before, times) = self.stuck;
            self.stuck = (block, if before == block { times + 1 } else { 1 });
            if self.stuck.1 >= STUCK_MAX {
                return Err(Error::Corrupt { block, what: "a list's page belongs to another list" });
            }
        }
        self.restart(store, cache, keys)
    }

    /// Scores every chunk of a list by its codes.
    fn score_list<S: PageStore>(
        &mut self,
        store: &S,
        cache: &mut Cache,
        keys: &mut Keys<'_>,
        at: (u64, u32),
        to_centroid: f32,
    ) -> Result<Read> {
        let place = self.place.as_ref().expect("the scan has started");
        let known = place.lists.as_ref().expect("lists are scored after the directory was read");
        let (codes, layout) = (&known.view.codes, &known.view.directory.layout);
        let epoch = place.meta.data_epoch;
        let term = ListTerm { q_to_centroid: to_centroid };
        let (candidates, seen, counts) = (&mut self.candidates, &self.seen, &mut self.counts);
        let tail_from = self.tail_from;
        let (mut lowers, mut estimates) = ([0.0; BLOCK_ROWS], [0.0; BLOCK_ROWS]);
        let mut visit = |plain: &[u8], rows: usize| {
            let base = base_slot(plain);
            for first in (0..rows).step_by(BLOCK_ROWS) {
                let in_block = (rows - first).min(BLOCK_ROWS);
                let (block, deltas) = layout.split(plain, rows, first / BLOCK_ROWS);
                let lowest = codes.score_block(&layout.block, term, block, in_block, &mut lowers, &mut estimates);
                counts.coded += in_block as u64;
                let slots = slots_of(base, deltas, in_block);
                match seen {
                    None => candidates.add(lowest, &lowers, &estimates, slots),
                    Some(seen) => {
                        for (row, slot) in slots.enumerate() {
                            if slot < tail_from && !seen.contains(&slot) {
                                let (lower, estimate) = ([lowers[row]; BLOCK_ROWS], [estimates[row]; BLOCK_ROWS]);
                                candidates.add(lowers[row], &lower, &estimate, std::iter::once(slot));
                            }
                        }
                    }
                }
            }
            Ok(())
        };
        lists::read(store, keys.index, layout, at, epoch, &mut self.buffer, &mut cache.opened, &mut visit)
    }

    /// Scores the live slots of a range exactly: the tail, or everything when lists won't hold still.
    fn score_slots<S: PageStore>(
        &mut self,
        store: &S,
        cache: &mut Cache,
        keys: &mut Keys<'_>,
        from: u64,
        to: u64,
    ) -> Result<()> {
        let mut walk = slots::Walk::from(from);
        let identity = self.place.as_ref().expect("the scan has started").meta.identity;
        let (mut page, mut copied) = (None, NO_BLOCK);
        while let Some(leaf) = walk.next(store, &mut cache.leaves)? {
            if leaf.first_slot >= to {
                break;
            }
            for (slot, entry) in (leaf.first_slot..to).zip(&leaf.entries) {
                let seen = self.seen.as_ref().is_some_and(|seen| seen.contains(&slot));
                if entry.state != SlotState::Live || seen {
                    continue;
                }
                // Neighbours in the tail are neighbours on a page: one copy serves ten rows.
                if copied != entry.block {
                    copied = NO_BLOCK;
                    if let Some(image) = super::pages::read_if(store, entry.block, PageKind::Vector)? {
                        page.get_or_insert_with(|| Box::new([0; PAGE])).copy_from_slice(&image[..]);
                        copied = entry.block;
                    }
                }
                if copied == entry.block
                    && let Some(page) = &page
                    && records::open_copied(keys.index, &identity, slot, entry, page, &mut cache.records)?
                {
                    self.counts.opened += 1;
                    self.queue(slot, entry.tid, self.query.score_plain(&identity, &cache.records.plain));
                } else {
                    self.open(store, cache, keys, slot)?;
                }
            }
            store.check_interrupts()?;
        }
        Ok(())
    }

    fn queue(&mut self, slot: u64, tid: Tid, score: Score) {
        self.worst = self.worst.max(score.error);
        self.ready.push(Reverse(Ready { slot, tid, score }));
    }

    /// Opens a row, and those after it that have to be opened before a row of score `limit` may be given out.
    fn open_with_next<S: PageStore>(
        &mut self,
        store: &S,
        cache: &mut Cache,
        keys: &mut Keys<'_>,
        slot: u64,
        limit: f32,
    ) -> Result<()> {
        let budget = match self.options.max_tuples {
            0 => u64::MAX,
            most => most - self.counts.opened,
        };
        let mut slots = [slot; TOGETHER];
        let mut count = 1;
        while count < TOGETHER.min(budget as usize)
            && let Some(slot) = self.candidates.take_within(limit)
        {
            slots[count] = slot;
            count += 1;
        }
        let slots = &slots[..count];
        // Slot to TID and state under the leaf's lock, never from a cache (rule 8).
        let mut entries = [None; TOGETHER];
        slots.iter().for_each(|slot| slots::prefetch(store, &cache.leaves, *slot));
        for (entry, slot) in entries.iter_mut().zip(slots) {
            *entry = slots::live_entry(store, &mut cache.leaves, *slot)?;
            if let Some(entry) = entry {
                store.prefetch(entry.block, entry.offset.into());
            }
        }
        for (slot, entry) in slots.iter().zip(entries) {
            self.open_entry(store, cache, keys, *slot, entry)?;
        }
        Ok(())
    }

    /// Opens a row and scores it exactly. Dead rows are nobody's any more.
    fn open<S: PageStore>(&mut self, store: &S, cache: &mut Cache, keys: &mut Keys<'_>, slot: u64) -> Result<()> {
        let entry = slots::live_entry(store, &mut cache.leaves, slot)?;
        self.open_entry(store, cache, keys, slot, entry)
    }

    /// As [`open`](Self::open), where `entry` was just read: none of a dead row, which counts all the same.
    fn open_entry<S: PageStore>(
        &mut self,
        store: &S,
        cache: &mut Cache,
        keys: &mut Keys<'_>,
        slot: u64,
        entry: Option<SlotEntry>,
    ) -> Result<()> {
        self.counts.opened += 1;
        if self.counts.opened.is_multiple_of(INTERRUPT_ROWS) {
            store.check_interrupts()?;
        }
        let Some(mut entry) = entry else { return Ok(()) };
        let place = self.place.as_ref().expect("the scan has started");
        let identity = &place.meta.identity;
        let mut times = 0;
        let score = loop {
            match records::open(store, keys, identity, slot, &entry, &mut cache.records)? {
                Opened::Indexed => break self.query.score_plain(identity, &cache.records.plain),
                Opened::Verbatim => break self.query.score_values(&cache.records.values),
                Opened::Unindexable => return Ok(()),
                Opened::Moved => {
                    // It may have moved and come back in between: once is no damage.
                    let Some(now) = slots::live_entry(store, &mut cache.leaves, slot)? else { return Ok(()) };
                    times = if now == entry { times + 1 } else { 0 };
                    if times >= STUCK_MAX {
                        return records::missing(&entry);
                    }
                    entry = now;
                }
            }
        };
        self.queue(slot, entry.tid, score);
        Ok(())
    }
}
