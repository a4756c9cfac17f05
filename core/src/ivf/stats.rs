//! What an index looks like, read without a key.

use std::collections::BTreeMap;

use super::{lists, read_meta, slots};
use crate::{
    Result,
    format::{
        meta::Meta,
        value::ValueHeader,
        vector::{FREE_SLOT, OverflowLink, RecordKind, records},
    },
    store::{Block, Clear, NO_BLOCK, PageKind, PageStore, body},
};

/// One reading of an index.
#[derive(Clone, Copy, Debug)]
pub struct IndexStats {
    /// Its meta page.
    pub meta: Meta,
    /// Slots ever given out.
    pub slots: u64,
    /// Slots that no merge has coded yet.
    pub tail_rows: u64,
    /// Pages of the relation.
    pub pages: Block,
    /// Rows of the smallest and of the largest list.
    pub list_rows: (u32, u32),
}

/// Reads the numbers that `sealvec.index_stats` shows.
pub fn index_stats<S: PageStore>(store: &S) -> Result<IndexStats> {
    let meta = read_meta(store)?;
    let slots = slots::end(store)?;
    let rows: Vec<u32> = list_stats(store)?.iter().filter(|list| !list.l0).map(|list| list.rows).collect();
    Ok(IndexStats {
        meta,
        slots,
        tail_rows: slots.saturating_sub(meta.merged_upto),
        pages: store.blocks()?,
        list_rows: (rows.iter().min().copied().unwrap_or(0), rows.iter().max().copied().unwrap_or(0)),
    })
}

/// Slots that no merge has coded yet: every scan opens them one by one.
pub fn tail_rows<S: PageStore>(store: &S, meta: &Meta) -> Result<u64> {
    Ok(slots::end(store)?.saturating_sub(meta.merged_upto))
}

/// One list, as the clear map knows it.
#[derive(Clone, Copy, Debug)]
pub struct ListSize {
    /// Its uid, which says nothing of what is in it.
    pub uid: u64,
    /// Rows ever appended, dead ones too.
    pub rows: u32,
    /// Sealed chunks.
    pub chunks: u32,
    /// Pages of its chain.
    pub pages: u32,
    /// Whether this is L0, which every scan probes.
    pub l0: bool,
}

/// Every list that is live now.
pub fn list_stats<S: PageStore>(store: &S) -> Result<Vec<ListSize>> {
    let meta = read_meta(store)?;
    let mut sizes = Vec::new();
    for (_, entry) in lists::entries(store, &meta)?.into_iter().filter(|(_, entry)| entry.live_at(meta.data_epoch)) {
        store.check_interrupts()?;
        let (mut block, mut pages) = (entry.head, 0);
        while block != NO_BLOCK {
            let page = super::pages::read_if(store, block, PageKind::List)?;
            let head = page.and_then(|page| Clear::at(body(&page), 0));
            let head = head.filter(|head: &crate::format::list::ListPage| head.uid == entry.uid);
            let Some(head) = head else { break }; // the list died while it was read
            (block, pages) = (head.next, pages + 1);
        }
        let (uid, rows, chunks) = (entry.uid, entry.rows, entry.chunks);
        sizes.push(ListSize { uid, rows, chunks, pages, l0: uid == meta.l0_uid });
    }
    Ok(sizes)
}

/// How many column values lie verbatim in the index, by the version of the DEK that sealed each. They came while the ring
/// was locked, and the next keyed merge takes their place. Needs no key.
pub fn verbatim_versions<S: PageStore>(store: &S) -> Result<BTreeMap<u32, u64>> {
    let mut found = BTreeMap::new();
    for block in 0..store.blocks()? {
        store.check_interrupts()?;
        let Some(page) = super::pages::read_if(store, block, PageKind::Vector)? else { continue };
        for record in records(body(&page)).flatten().filter(|record| record.header.slot != FREE_SLOT) {
            let front = match record.header.kind {
                RecordKind::Verbatim => Some(record.payload),
                RecordKind::VerbatimHead => record.payload.get(OverflowLink::LEN..),
                RecordKind::Indexed | RecordKind::IndexedHead => None,
            };
            if let Some(Ok(header)) = front.map(ValueHeader::decode_front) {
                *found.entry(header.dek_version()).or_default() += 1;
            }
        }
    }
    Ok(found)
}
