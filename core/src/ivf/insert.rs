//! Insert: one record {slot leaf, vector page}, no centroid search, with or without the key; or many rows to a record.

use zeroize::Zeroizing;

use super::{Cache, bind_keys, pages, read_meta, records, slots, vector};
use crate::{
    Error, Result,
    format::{
        Tid,
        meta::{Identity, Meta},
        slot::{LEAF_SLOTS, LeafHeader, SlotEntry, SlotState, entry_offset},
    },
    keys::IndexKeys,
    store::{Action, Clear, NO_BLOCK, PageKind, PageMut, PageStore, SealedBytes, body},
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
        let put = records::put(store, &mut action, &placeable, header.vector_page)?;
        enter(&mut action.page_mut(leaf), &mut header, tid, &put);
        action.page_mut(leaf).write(0, &header);
        action.commit()?;
        return Ok(Inserted { slot: Some(slot), tail: (slot + 1).saturating_sub(meta.merged_upto) });
    }
}

/// Rows that [`insert_many`] encodes before it takes a lock: what three pages of short records hold.
const GROUP: usize = 32;

/// Appends rows with the key in as few records of WAL as hold them: a leaf and up to three vector pages each. Rows that
/// the metric can't index are left out. Returns the slots that no merge has coded yet.
pub fn insert_many<S: PageStore>(
    store: &S,
    cache: &mut Cache,
    keys: &mut IndexKeys,
    mut rows: &[(Tid, &[f32])],
) -> Result<u64> {
    let meta = bind_keys(store, keys)?;
    let identity = &meta.identity;
    rows.iter().try_for_each(|(_, values)| check_dims(identity, values.len()))?;
    let mut end = 0;
    if records::spans_pages(identity) {
        for (tid, values) in rows {
            end = end.max(insert(store, cache, Row::Plain { tid: *tid, values, keys })?.tail);
        }
        return Ok(end);
    }
    let mut encoded: Vec<(Tid, Zeroizing<Vec<u8>>)> = Vec::with_capacity(GROUP);
    while !rows.is_empty() || !encoded.is_empty() {
        // What no record took is first again.
        while encoded.len() < GROUP
            && let Some(((tid, values), rest)) = rows.split_first()
        {
            let mut plain = Zeroizing::new(Vec::new());
            if vector::encode(identity, values, &mut plain) {
                encoded.push((*tid, plain));
            }
            rows = rest;
        }
        store.check_interrupts()?;
        let appended = append_many(store, cache, identity, keys, &encoded)?;
        end = end.max(appended.1);
        encoded.drain(..appended.0);
    }
    Ok(end.saturating_sub(meta.merged_upto))
}

/// One record with as many of `rows` as it takes: how many, and the number behind the last slot.
fn append_many<S: PageStore>(
    store: &S,
    cache: &mut Cache,
    identity: &Identity,
    keys: &mut IndexKeys,
    rows: &[(Tid, Zeroizing<Vec<u8>>)],
) -> Result<(usize, u64)> {
    if rows.is_empty() {
        return Ok((0, 0));
    }
    let leaf_block = slots::open_leaf(store, &mut cache.leaves)?;
    let mut action = store.begin()?;
    let leaf = action.update(leaf_block)?;
    let Some(mut header) = open_header(action.page(leaf), leaf_block)? else {
        drop(action);
        slots::forget_open(&mut cache.leaves);
        return Ok((0, 0));
    };
    let (mut done, mut last) = (0, None);
    for (tid, plain) in rows.iter().take(LEAF_SLOTS - header.count as usize) {
        let slot = header.first_slot + u64::from(header.count);
        let payload = records::Payload::Indexed(plain);
        let record = records::Prepared::new(store, Some(keys), identity, tid.to_bytes(), payload)?;
        let placeable = record.seal(Some(keys), identity, slot, tid.to_bytes())?;
        let put = match &last {
            None => Some(records::put(store, &mut action, &placeable, header.vector_page)?),
            Some(last) => records::put_next::<S>(&mut action, &placeable, last)?,
        };
        let Some(put) = put else {
            header.vector_page = NO_BLOCK; // full: whoever comes next need not look
            break;
        };
        enter(&mut action.page_mut(leaf), &mut header, *tid, &put);
        (done, last) = (done + 1, Some(put));
    }
    action.page_mut(leaf).write(0, &header);
    action.commit()?;
    Ok((done, header.first_slot + u64::from(header.count)))
}

/// Enters a record into its leaf, whose header is to be written yet.
fn enter(leaf: &mut PageMut<'_>, header: &mut LeafHeader, tid: Tid, put: &records::Put) {
    let entry = SlotEntry { tid, state: SlotState::Live, block: put.block, offset: put.offset };
    leaf.write_grow(entry_offset(header.count as usize), &entry);
    header.count += 1;
    header.vector_page = put.block;
}

/// The head of `page` if it is the open leaf.
fn open_header(page: &[u8; crate::store::PAGE], block: u32) -> Result<Option<LeafHeader>> {
    if pages::known(page, block)? != PageKind::SlotLeaf {
        return Ok(None);
    }
    let header = LeafHeader::at(body(page), 0).ok_or(Error::Corrupt { block, what: "malformed slot leaf" })?;
    Ok(((header.count as usize) < LEAF_SLOTS).then_some(header))
}
