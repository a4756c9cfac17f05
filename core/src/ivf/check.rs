//! Check: opens everything and asserts every invariant of an index.

use std::collections::HashMap;

use super::{
    Cache, Keys, check_keys, check_pages::check_pages, directory, lists, merge::chunk_slots, read_meta, records,
    records::Opened, recover::recover, rows::Rows, slots, vector,
};
use zeroize::Zeroizing;

use crate::{
    Error, Result,
    format::{
        Tid,
        list::{ListPage, MapEntry, NEVER},
        meta::{Identity, META_BLOCK, Meta},
        slot::SlotState,
    },
    store::{Block, Clear, Maintenance, NO_BLOCK, PageKind, PageStore, body},
};

/// What a check saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Rows that a scan can return.
    pub rows: u64,
    /// Of those, rows in the tail.
    pub tail: u64,
    /// Rows coded in lists and L0, dead ones too.
    pub coded: u64,
    /// Lists, L0 not counted.
    pub lists: u64,
}

/// Opens every record, chunk and directory page and asserts that each live row is found exactly
/// once. `row` gets each live row with its vector in index space, to compare with the heap.
/// Waits for the maintenance lock; inserts and VACUUM go on beside it.
pub fn check<S: PageStore>(
    store: &S,
    cache: &mut Cache,
    keys: &mut Keys<'_>,
    row: &mut dyn FnMut(Tid, &[f32]) -> Result<()>,
) -> Result<Report> {
    let _lock = Maintenance::take(store, true)?;
    check_keys(store, keys.index)?;
    recover(store)?;
    check_pages(store)?;
    cache.directory = None; // so that its pages are read again
    let end = slots::end(store)?;
    let (meta, directory) = directory::current(store, cache, keys.index)?;
    let corrupt = |what| Error::Corrupt { block: META_BLOCK, what };
    let mut report = Report::default();
    let mut coded: HashMap<u64, u64> = HashMap::new();
    let mut known: HashMap<u64, u32> = HashMap::new();
    let mut l0_rows = 0;
    if let Some(directory) = &directory {
        known.extend(directory.entries().iter().map(|entry| (entry.uid, entry.position)));
        if known.len() != directory.entries().len() || meta.lists as usize != known.len() {
            return Err(corrupt("the directory names a list twice, or not as many as the meta page"));
        }
        known.insert(meta.l0_uid, meta.l0_position);
        report.lists = directory.entries().len() as u64;
    }
    for (position, entry) in lists::entries(store, &meta)? {
        store.check_interrupts()?;
        if known.remove(&entry.uid) != Some(position) || !entry.live_at(meta.data_epoch) {
            return Err(corrupt("the list map has a list that the directory does not know"));
        }
        // Nothing is being written under the maintenance lock: a list that ends in a later epoch would go with it.
        if entry.died != NEVER {
            return Err(corrupt("the list map has a live list end"));
        }
        let layout = directory.as_ref().map(|directory| directory.layout);
        let layout = layout.ok_or(corrupt("there are lists and no directory"))?;
        let members = read_list(store, keys, &layout, &meta, &entry)?;
        report.coded += members.len() as u64;
        if entry.uid >= meta.next_uid {
            return Err(corrupt("a list has a uid that the meta page has not given yet"));
        }
        l0_rows += if entry.uid == meta.l0_uid { members.len() as u64 } else { 0 };
        for slot in members {
            if slot >= meta.merged_upto {
                return Err(Error::Corrupt { block: entry.head, what: "a list has a row of the tail" });
            }
            if coded.insert(slot, entry.uid).is_some() {
                return Err(Error::Corrupt { block: entry.head, what: "a row is coded twice" });
            }
        }
    }
    if !known.is_empty() {
        return Err(corrupt("the directory names a list that the list map does not have"));
    }
    if l0_rows != meta.l0_rows || report.coded - l0_rows != meta.list_rows {
        return Err(corrupt("the lists hold another number of rows than the meta page says"));
    }
    check_rows(store, cache, keys, &meta, end, &coded, &mut report, row)?;
    Ok(report)
}

/// Slots of a list, with its chain, counts and ordinals checked.
fn read_list<S: PageStore>(
    store: &S,
    keys: &mut Keys<'_>,
    layout: &crate::format::list::ChunkLayout,
    meta: &Meta,
    entry: &MapEntry,
) -> Result<Vec<u64>> {
    let (mut members, mut chunks) = (Vec::new(), 0);
    let mut visit = |plain: &[u8], rows: usize| {
        members.extend(chunk_slots(layout, plain, rows));
        chunks += 1;
        Ok(())
    };
    lists::read_still(store, keys.index, layout, (entry.uid, entry.head), meta.data_epoch, &mut visit)?;
    if members.len() != entry.rows as usize || chunks != entry.chunks {
        return Err(Error::Corrupt { block: entry.head, what: "a list has other counts than the list map says" });
    }
    let (mut block, mut last) = (entry.head, NO_BLOCK);
    while block != NO_BLOCK {
        let page = super::pages::read(store, block, PageKind::List)?;
        last = block;
        block = ListPage::at(body(&page), 0).map_or(NO_BLOCK, |page| page.next);
    }
    if last != entry.tail {
        return Err(Error::Corrupt { block: entry.tail, what: "a list ends elsewhere than the list map says" });
    }
    Ok(members)
}

#[allow(clippy::too_many_arguments)]
fn check_rows<S: PageStore>(
    store: &S,
    cache: &mut Cache,
    keys: &mut Keys<'_>,
    meta: &Meta,
    end: u64,
    coded: &HashMap<u64, u64>,
    report: &mut Report,
    row: &mut dyn FnMut(Tid, &[f32]) -> Result<()>,
) -> Result<()> {
    let identity = meta.identity;
    let mut tids: HashMap<Tid, Block> = HashMap::new();
    let mut values = Rows::zeroed(identity.dims as usize);
    let mut walk = slots::Walk::from(0);
    while let Some(leaf) = walk.next(store, &mut cache.leaves)? {
        store.check_interrupts()?;
        for (slot, entry) in (leaf.first_slot..end).zip(&leaf.entries) {
            if entry.state == SlotState::Dead {
                continue;
            }
            let opened = match records::open(store, keys, &identity, slot, entry, &mut cache.records)? {
                Opened::Moved => match slots::live_entry(store, &mut cache.leaves, slot)? {
                    None => continue, // VACUUM was faster
                    Some(again) if again == *entry => return records::missing(entry),
                    Some(again) => records::open(store, keys, &identity, slot, &again, &mut cache.records)?,
                },
                opened => opened,
            };
            if matches!(opened, Opened::Moved | Opened::Unindexable) {
                continue;
            }
            if slot < meta.merged_upto && !coded.contains_key(&slot) {
                return Err(Error::Corrupt { block: leaf.block, what: "a live row is in no list" });
            }
            if tids.insert(entry.tid, leaf.block).is_some() {
                return Err(Error::Corrupt { block: leaf.block, what: "a heap row has two live slots" });
            }
            cache.records.decode(opened, &identity, &mut values);
            row(entry.tid, &values)?;
            report.rows += 1;
            report.tail += u64::from(slot >= meta.merged_upto);
        }
    }
    debug_assert_eq!(read_meta(store)?.identity, identity);
    Ok(())
}

/// What [`check`]'s `row` may show of a column value: the form that a keyed insert gives it, rounded, and the one that
/// an insert without the key leaves as it came. `None` if the metric can't index it.
pub fn index_forms(identity: &Identity, values: &[f32]) -> Option<[Zeroizing<Vec<f32>>; 2]> {
    let mut plain = Zeroizing::new(Vec::new());
    if !vector::encode(identity, values, &mut plain) {
        return None;
    }
    let mut forms = [values.to_vec(), values.to_vec()].map(Zeroizing::new);
    vector::decode(identity, &plain, &mut forms[0]);
    vector::to_index_space(identity.metric, &mut forms[1]);
    Some(forms)
}
