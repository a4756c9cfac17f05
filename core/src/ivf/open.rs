//! Opening a row by its slot, for maintenance: its place may change between two looks.

use super::{
    Cache, Keys,
    records::{self, Opened},
    slots,
};
use crate::{
    Result,
    format::{meta::Identity, slot::SlotEntry},
    store::PageStore,
};

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
