//! VACUUM without a key: marking dead slots, freeing their records, pages and leaves, sweeping what a crash left.
//!
//! Only this module marks a slot dead because its heap row is gone (rule 7).

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Cache, directory, lists, pages, records, recover::recover, slots, update_meta};
use crate::{
    Error, Result,
    format::{
        Tid,
        list::ListPage,
        meta::Meta,
        slot::{LEAF_SLOTS, LeafHeader, SlotEntry, SlotState, entry_offset},
        vector::{FREE_SLOT, OverflowHeader, OverflowLink, PAGE_HEADER, RecordHeader, RecordKind},
    },
    store::{Action, BODY, Block, Clear, Maintenance, NO_BLOCK, PageKind, PageStore, body},
};

/// What [`bulk_delete`] found and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Slots that are still live.
    pub live: u64,
    /// Slots that became dead.
    pub dead: u64,
    /// Pages that became free.
    pub pages_freed: u64,
}

/// Asks `is_dead` for the heap row of every slot that existed when it began, and removes the dead.
pub fn bulk_delete<S: PageStore>(
    store: &S,
    cache: &mut Cache,
    is_dead: &mut dyn FnMut(Tid) -> Result<bool>,
) -> Result<Deleted> {
    let mut deleted = Deleted::default();
    let end = slots::end(store)?;
    let mut walk = slots::Walk::from(0);
    while let Some(leaf) = walk.next(store, &mut cache.leaves)? {
        if leaf.first_slot >= end {
            break;
        }
        store.check_interrupts()?;
        let mut dying = Vec::new();
        for (index, entry) in leaf.entries.iter().enumerate().filter(|(_, entry)| entry.state == SlotState::Live) {
            if is_dead(entry.tid)? {
                dying.push((index, *entry));
            } else {
                deleted.live += 1;
            }
        }
        if !dying.is_empty() {
            mark(store, leaf.block, leaf.first_slot, &dying)?;
            deleted.dead += dying.len() as u64;
            deleted.pages_freed += free_records(store, leaf.first_slot, &dying)?;
        }
        let full = leaf.entries.len() == LEAF_SLOTS;
        let was_live = leaf.entries.iter().filter(|entry| entry.state == SlotState::Live).count();
        if full && was_live == dying.len() && slots::free_leaf(store, leaf.first_slot / LEAF_SLOTS as u64)? {
            deleted.pages_freed += 1;
        }
    }
    if deleted.dead > 0 {
        update_meta(store, |meta| meta.dead_rows += deleted.dead)?;
    }
    Ok(deleted)
}

/// Marks slots dead: one record {leaf}.
fn mark<S: PageStore>(store: &S, block: Block, first_slot: u64, dying: &[(usize, SlotEntry)]) -> Result<()> {
    let mut action = store.begin()?;
    let slot = pages::update(&mut action, block, PageKind::SlotLeaf)?;
    let header = LeafHeader::at(body(action.page(slot)), 0);
    if header.is_none_or(|header| header.first_slot != first_slot) {
        return Err(Error::Corrupt { block, what: "a slot leaf changed its range" });
    }
    for (index, seen) in dying {
        let entry = slots::entry(action.page(slot), block, *index)?;
        // A merge may have moved the record since; the heap row is the same for ever.
        if entry.tid == seen.tid {
            action.page_mut(slot).write(entry_offset(*index), &SlotEntry { state: SlotState::Dead, ..entry });
        }
    }
    action.commit()
}

/// Frees the records of slots that are dead now: one record a vector page. Returns pages freed.
fn free_records<S: PageStore>(store: &S, first_slot: u64, dying: &[(usize, SlotEntry)]) -> Result<u64> {
    let mut by_block: BTreeMap<Block, Vec<(u64, u16)>> = BTreeMap::new();
    for (index, entry) in dying {
        by_block.entry(entry.block).or_default().push((first_slot + *index as u64, entry.offset));
    }
    let mut freed = 0;
    for (block, gone) in by_block {
        store.check_interrupts()?;
        freed += u64::from(remove_records(store, block, &gone)?);
    }
    Ok(freed)
}

/// Removes records from one vector page; pages freed. A record that has moved is left to the sweep.
fn remove_records<S: PageStore>(store: &S, block: Block, gone: &[(u64, u16)]) -> Result<u32> {
    let mut action = store.begin()?;
    let slot = action.update(block)?;
    let (mut links, mut removed) = (Vec::<OverflowLink>::new(), false);
    for (number, offset) in gone {
        if pages::known(action.page(slot), block)? != PageKind::Vector {
            break; // the page went with its last record
        }
        let (found, link) = records::remove(&mut action.page_mut(slot), *number, *offset);
        removed |= found;
        links.extend(link);
    }
    if !removed {
        return Ok(0);
    }
    let whole = pages::known(action.page(slot), block)? == PageKind::Free;
    let room = if whole { BODY } else { records::free_room(body(action.page(slot))) };
    action.commit()?;
    store.record_space(block, room)?;
    let mut freed = u32::from(whole);
    for link in links {
        freed += records::free_overflow(store, link)?;
    }
    Ok(freed)
}

/// Pages that a sweep looks at before it lets others have the maintenance lock.
const SWEEP_PAGES: Block = 64;

/// What [`cleanup`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Whether it went to the end: the maintenance lock was to be had whenever it was needed.
    pub swept: bool,
    /// Pages free now.
    pub pages_free: u64,
    /// Records moved off sparse pages.
    pub records_moved: u64,
}

/// Recovers, returns leaked pages to the free space map, and empties sparse vector pages. Gives way to another
/// backend that wants the maintenance lock: the next VACUUM does the rest.
pub fn cleanup<S: PageStore>(store: &S, cache: &mut Cache) -> Result<Cleaned> {
    let mut cleaned = Cleaned::default();
    let Some(mut sweep) = Sweep::begin(store)? else {
        return Ok(cleaned);
    };
    let mut parts: HashMap<Block, OverflowHeader> = HashMap::new();
    let mut sparse = Vec::new();
    for block in 1..store.blocks()? {
        if block % SWEEP_PAGES == 0 && !sweep.pause()? {
            return Ok(cleaned);
        }
        let page = store.read(block)?;
        let kind = pages::known(&page, block)?;
        let bytes = body(&page);
        match kind {
            PageKind::Free => {
                drop(page);
                store.record_space(block, BODY)?;
                cleaned.pages_free += 1;
            }
            PageKind::List if !sweep.lists.contains(&block) => {
                let uid = ListPage::at(bytes, 0).map(|page| page.uid);
                drop(page);
                cleaned.pages_free +=
                    free_if(store, block, PageKind::List, |bytes| ListPage::at(bytes, 0).map(|page| page.uid) == uid)?;
            }
            // By reachability, not by epoch: an undone batch leaves pages of the very epoch that the
            // next one publishes. The maintenance lock keeps the root still.
            PageKind::Directory | PageKind::DirectoryIndex if !sweep.directory.contains(&block) => {
                drop(page);
                cleaned.pages_free += free_if(store, block, kind, |_| true)?;
            }
            PageKind::Overflow => {
                if let Some(header) = OverflowHeader::at(bytes, 0) {
                    parts.insert(block, header);
                }
            }
            PageKind::Vector => {
                let (live, _) = usage(bytes);
                let held = held(bytes);
                drop(page);
                let dead = dead_of(store, cache, &held)?;
                if !dead.is_empty() {
                    cleaned.pages_free += u64::from(remove_records(store, block, &dead)?);
                }
                if live * 4 <= BODY {
                    sparse.push(block);
                }
            }
            _ => {}
        }
    }
    for pages in sparse.chunks(SWEEP_PAGES as usize / 4) {
        if !sweep.pause()? {
            return Ok(cleaned);
        }
        for block in pages {
            cleaned.records_moved += empty_page(store, cache, *block)?;
        }
    }
    cleaned.pages_free += reap_parts(store, parts)?;
    cleaned.swept = true;
    Ok(cleaned)
}

/// The maintenance lock during a sweep, and what must not be freed. VACUUM may sleep for long between pages, and the
/// lock is not for sleepers: it is given back every [`SWEEP_PAGES`].
struct Sweep<'a, S: PageStore> {
    store: &'a S,
    lock: Option<Maintenance<'a, S>>,
    meta: Meta,
    /// Pages on the chain of a list.
    lists: HashSet<Block>,
    /// Pages of the directory.
    directory: HashSet<Block>,
}

impl<'a, S: PageStore> Sweep<'a, S> {
    /// Takes the lock and recovers; `None` if another backend holds it.
    fn begin(store: &'a S) -> Result<Option<Self>> {
        let Some(lock) = Maintenance::take(store, false)? else {
            return Ok(None);
        };
        let meta = recover(store)?;
        let lists = reachable_list_pages(store, &meta)?;
        let directory = directory::all_blocks(store, meta.directory_root, meta.directory_epoch)?;
        Ok(Some(Self { store, lock: Some(lock), meta, lists, directory }))
    }

    /// Gives the lock back, sleeps if VACUUM has to, and takes it again; `false` if another has it now.
    fn pause(&mut self) -> Result<bool> {
        self.lock = None;
        self.store.check_interrupts()?;
        self.lock = Maintenance::take(self.store, false)?;
        if self.lock.is_none() {
            return Ok(false);
        }
        let now = super::read_meta(self.store)?;
        let seen = |meta: &Meta| (meta.data_epoch, meta.directory_epoch, meta.work_epoch);
        if seen(&now) == seen(&self.meta) {
            return Ok(true);
        }
        // Somebody merged, or began to.
        self.meta = recover(self.store)?;
        self.lists = reachable_list_pages(self.store, &self.meta)?;
        self.directory = directory::all_blocks(self.store, self.meta.directory_root, self.meta.directory_epoch)?;
        Ok(true)
    }
}

fn free_if<S: PageStore>(store: &S, block: Block, kind: PageKind, still: impl Fn(&[u8]) -> bool) -> Result<u64> {
    let mut action = store.begin()?;
    let slot = action.update(block)?;
    if pages::known(action.page(slot), block)? != kind || !still(body(action.page(slot))) {
        return Ok(0);
    }
    action.page_mut(slot).free();
    action.commit()?;
    Ok(1)
}

/// Every page on the chain of a list that the map knows. The maintenance lock keeps them still.
fn reachable_list_pages<S: PageStore>(store: &S, meta: &Meta) -> Result<HashSet<Block>> {
    let mut reachable = HashSet::new();
    for (_, entry) in lists::entries(store, meta)? {
        let mut block = entry.head;
        while block != NO_BLOCK && reachable.insert(block) {
            store.check_interrupts()?;
            let page = pages::read(store, block, PageKind::List)?;
            block = ListPage::at(body(&page), 0).map_or(NO_BLOCK, |page| page.next);
        }
    }
    Ok(reachable)
}

/// Bytes of live records on a vector page, and how many there are.
fn usage(body: &[u8]) -> (usize, usize) {
    let live = crate::format::vector::records(body).flatten().filter(|record| record.header.slot != FREE_SLOT);
    live.fold((0, 0), |(bytes, count), record| (bytes + RecordHeader::LEN + record.payload.len(), count + 1))
}

/// Slot and offset of every record on a vector page.
fn held(body: &[u8]) -> Vec<(u64, u16)> {
    let records = crate::format::vector::records(body).flatten();
    let held = records.filter(|record| record.header.slot != FREE_SLOT);
    held.map(|record| (record.header.slot, record.offset as u16)).collect()
}

/// Those of `held` whose slots are dead: a VACUUM that was cut short had marked them. The records were
/// read before their slots are, so a slot that is not there yet is one that was freed.
fn dead_of<S: PageStore>(store: &S, cache: &mut Cache, held: &[(u64, u16)]) -> Result<Vec<(u64, u16)>> {
    let mut dead = Vec::new();
    for of_leaf in held.chunk_by(|a, b| a.0 / LEAF_SLOTS as u64 == b.0 / LEAF_SLOTS as u64) {
        let leaf = slots::read_leaf(store, &mut cache.leaves, of_leaf[0].0 / LEAF_SLOTS as u64)?;
        for record in of_leaf {
            let live = match &leaf {
                Some((page, _)) => {
                    let entry = SlotEntry::at(body(page), entry_offset((record.0 % LEAF_SLOTS as u64) as usize));
                    entry.is_some_and(|entry| entry.state == SlotState::Live)
                }
                None => false,
            };
            if !live {
                dead.push(*record);
            }
        }
    }
    Ok(dead)
}

/// Moves the records of a sparse page elsewhere, one WAL record {leaf, from, to} each, and removes
/// records whose slot is dead, which a crash left behind.
fn empty_page<S: PageStore>(store: &S, cache: &mut Cache, block: Block) -> Result<u64> {
    let slots_here: Vec<(u64, usize, usize)> = {
        let Some(page) = pages::read_if(store, block, PageKind::Vector)? else {
            return Ok(0);
        };
        let live = crate::format::vector::records(body(&page)).flatten();
        let live = live.filter(|record| record.header.slot != FREE_SLOT);
        live.map(|record| (record.header.slot, record.offset, RecordHeader::LEN + record.payload.len())).collect()
    };
    let mut moved = 0;
    for (slot, offset, len) in slots_here {
        store.check_interrupts()?;
        match slots::live_entry(store, &mut cache.leaves, slot)? {
            None => {
                remove_records(store, block, &[(slot, offset as u16)])?;
            }
            Some(entry) if entry.block != block => {
                // A copy that a crash left: the slot names another page.
                remove_records(store, block, &[(slot, offset as u16)])?;
            }
            Some(entry) => {
                let Some(to) = store.find_space(len)?.filter(|to| *to != block) else {
                    return Ok(moved);
                };
                moved += u64::from(move_record(store, cache, slot, &entry, to)?);
            }
        }
    }
    Ok(moved)
}

fn move_record<S: PageStore>(store: &S, cache: &Cache, slot: u64, seen: &SlotEntry, to: Block) -> Result<bool> {
    let Some(leaf_block) = slots::leaf_block(&cache.leaves, slot) else {
        return Ok(false);
    };
    let index = (slot % LEAF_SLOTS as u64) as usize;
    let mut action = store.begin()?;
    let leaf = action.update(leaf_block)?;
    let is_leaf = pages::known(action.page(leaf), leaf_block)? == PageKind::SlotLeaf;
    let first = LeafHeader::at(body(action.page(leaf)), 0).map(|header| header.first_slot);
    if !is_leaf || first != Some(slot - index as u64) || slots::entry(action.page(leaf), leaf_block, index)? != *seen {
        return Ok(false);
    }
    let from = pages::update(&mut action, seen.block, PageKind::Vector)?;
    let Some(target) = action.try_update(to)? else {
        return Ok(false);
    };
    if pages::known(action.page(target), to)? != PageKind::Vector {
        return Ok(false);
    }
    let Some(record) = crate::format::vector::find(body(action.page(from)), slot, seen.offset) else {
        return Ok(false);
    };
    let (offset, source) = (record.offset, body(action.page(from)).to_vec());
    let Some(at) = records::copy(&source, offset, &mut action.page_mut(target)) else {
        let room = records::free_room(body(action.page(target)));
        drop(action);
        store.record_space(to, room)?;
        return Ok(false);
    };
    records::remove(&mut action.page_mut(from), slot, offset as u16);
    action.page_mut(leaf).write(entry_offset(index), &SlotEntry { block: to, offset: at, ..*seen });
    let rooms = [(seen.block, from), (to, target)].map(|(block, page)| (block, room_of(action.page(page))));
    action.commit()?;
    for (block, room) in rooms {
        store.record_space(block, room)?;
    }
    Ok(true)
}

fn room_of(page: &[u8; crate::store::PAGE]) -> usize {
    match crate::store::kind(page) {
        Some(PageKind::Free) => BODY,
        _ => records::free_room(body(page)).min(BODY - PAGE_HEADER),
    }
}

/// Frees overflow pages that no record links to. Their inserters had ended before the walk for
/// links began, so a link that was going to come has come.
fn reap_parts<S: PageStore>(store: &S, parts: HashMap<Block, OverflowHeader>) -> Result<u64> {
    let mut orphans = HashMap::new();
    for (block, header) in parts {
        if store.transaction_ended(header.xid)? {
            orphans.insert(block, header);
        }
    }
    if orphans.is_empty() {
        return Ok(0);
    }
    let mut linked: HashSet<u64> = HashSet::new();
    for block in 1..store.blocks()? {
        store.check_interrupts()?;
        let Some(page) = pages::read_if(store, block, PageKind::Vector)? else {
            continue;
        };
        let long = crate::format::vector::records(body(&page)).flatten().filter(|record| {
            record.header.slot != FREE_SLOT
                && matches!(record.header.kind, RecordKind::IndexedHead | RecordKind::VerbatimHead)
        });
        linked.extend(long.filter_map(|record| OverflowLink::at(record.payload, 0)).map(|link| link.record));
    }
    let mut freed = 0;
    for (block, header) in orphans {
        if !linked.contains(&header.record) {
            freed += free_if(store, block, PageKind::Overflow, |bytes| OverflowHeader::at(bytes, 0) == Some(header))?;
        }
    }
    Ok(freed)
}

/// Slots that are live, for statistics: as many rows as the index would return.
pub fn live_slots<S: PageStore>(store: &S, cache: &mut Cache) -> Result<u64> {
    let mut live = 0;
    let mut walk = slots::Walk::from(0);
    while let Some(leaf) = walk.next(store, &mut cache.leaves)? {
        store.check_interrupts()?;
        live += leaf.entries.iter().filter(|entry| entry.state == SlotState::Live).count() as u64;
    }
    Ok(live)
}
