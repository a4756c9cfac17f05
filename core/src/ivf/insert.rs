//! Insert: one record {slot leaf, vector page}, no centroid search, with or without the key.

use super::{Cache, bind_keys, pages, read_meta, records, slots, vector};
use crate::{
    Error, Result,
    format::{
        Tid,
        meta::{Identity, Meta},
        slot::{LEAF_SLOTS, LeafHeader, SlotEntry, SlotState, entry_offset},
    },
    keys::IndexKeys,
    store::{Action, Clear, PageKind, PageStore, SealedBytes, body},
};

/// What is inserted.
pub enum Row<'a> {
    /// An opened vector: it is sealed under the index's keys.
    Plain {
        /// Its heap row.
        tid: Tid,
        /// Its elements, as the column has them.
        values: &'a [f32],
        /// The index's keys.
        keys: &'a mut IndexKeys,
    },
    /// The column's sealed value, kept as it is until a merge has the key.
    Sealed {
        /// Its heap row.
        tid: Tid,
        /// The column value's bytes.
        value: &'a [u8],
    },
}

/// What an insert did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inserted {
    /// The row's slot; `None` if the metric can't index it (a zero vector under cosine).
    pub slot: Option<u64>,
    /// Slots that no merge has coded yet, this one included.
    pub tail: u64,
}

/// Appends one row. The caller holds no page; visibility is the heap's business.
pub fn insert<S: PageStore>(store: &S, cache: &mut Cache, row: Row<'_>) -> Result<Inserted> {
    match row {
        Row::Plain { tid, values, keys } => {
            let meta = bind_keys(store, keys)?;
            check_dims(&meta.identity, values.len())?;
            let mut plain = std::mem::take(&mut cache.records.plain);
            let indexable = vector::encode(&meta.identity, values, &mut plain);
            let inserted = if indexable {
                append(store, cache, &meta, Some(keys), tid, records::Payload::Indexed(&plain))
            } else {
                Ok(Inserted { slot: None, tail: 0 })
            };
            cache.records.plain = plain;
            inserted
        }
        Row::Sealed { tid, value } => {
            let meta = read_meta(store)?;
            let value = SealedBytes::column_value(value).ok_or(Error::Malformed { what: "sealed value" })?;
            append(store, cache, &meta, None, tid, records::Payload::Verbatim(value))
        }
    }
}

fn check_dims(identity: &Identity, found: usize) -> Result<()> {
    let expected = identity.dims as usize;
    if found == expected { Ok(()) } else { Err(Error::Dimensions { expected, found }) }
}

fn append<S: PageStore>(
    store: &S,
    cache: &mut Cache,
    meta: &Meta,
    mut keys: Option<&mut IndexKeys>,
    tid: Tid,
    payload: records::Payload<'_>,
) -> Result<Inserted> {
    let identity = &meta.identity;
    let record = records::Prepared::new(store, keys.as_deref(), identity, tid.to_bytes(), payload)?;
    loop {
        let leaf_block = slots::open_leaf(store, &mut cache.leaves)?;
        let mut action = store.begin()?;
        let leaf = action.update(leaf_block)?;
        let header = open_header(action.page(leaf), leaf_block)?;
        let Some(mut header) = header else {
            drop(action);
            slots::forget_open(&mut cache.leaves);
            continue;
        };
        // The leaf decides the number, under its lock (rule 5).
        let slot = header.first_slot + u64::from(header.count);
        let placeable = record.seal(keys.as_deref_mut(), identity, slot, tid.to_bytes())?;
        let (block, offset) = records::put(store, &mut action, &placeable, header.vector_page)?;
        let mut page = action.page_mut(leaf);
        let entry = SlotEntry { tid, state: SlotState::Live, block, offset };
        page.write_grow(entry_offset(header.count as usize), &entry);
        header.count += 1;
        header.vector_page = block;
        page.write(0, &header);
        action.commit()?;
        return Ok(Inserted { slot: Some(slot), tail: (slot + 1).saturating_sub(meta.merged_upto) });
    }
}

/// The head of `page` if it is the open leaf.
fn open_header(page: &[u8; crate::store::PAGE], block: u32) -> Result<Option<LeafHeader>> {
    if pages::known(page, block)? != PageKind::SlotLeaf {
        return Ok(None);
    }
    let header = LeafHeader::at(body(page), 0).ok_or(Error::Corrupt { block, what: "malformed slot leaf" })?;
    Ok(((header.count as usize) < LEAF_SLOTS).then_some(header))
}
