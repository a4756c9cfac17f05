//! Undoing a batch that was never published (rule 10): keyless, idempotent, one record a step.
//!
//! The holder of the maintenance lock runs it before any batch. What it unlinks but a crash keeps
//! it from freeing is left to the sweep of [`super::vacuum::cleanup`].

use super::{lists, pages, read_meta, update_meta};
use crate::{
    Error, Result,
    format::{
        list::{ChunkHeader, ListPage, MapEntry, NEVER, pieces},
        meta::Meta,
    },
    store::{Action, Block, Clear, NO_BLOCK, PageKind, PageStore, body},
};

/// Undoes an unpublished batch and frees lists that a published one ended.
pub fn recover<S: PageStore>(store: &S) -> Result<Meta> {
    let meta = read_meta(store)?;
    let epoch = meta.data_epoch;
    for (position, entry) in lists::entries(store, &meta)? {
        store.check_interrupts()?;
        if entry.born > epoch || entry.died <= epoch {
            lists::free(store, &meta, position, &entry)?;
        } else if meta.work_epoch != 0 {
            let alive = trim(store, epoch, entry)?;
            if alive != entry {
                lists::set_entry(store, &meta, position, &alive)?;
            }
        }
    }
    if meta.work_epoch == 0 {
        return Ok(meta);
    }
    update_meta(store, |meta| meta.work_epoch = 0)
}

/// Cuts chunks born after `epoch` off the end of a list; its entry as it must be.
fn trim<S: PageStore>(store: &S, epoch: u64, entry: MapEntry) -> Result<MapEntry> {
    let mut alive = MapEntry { died: NEVER, tail: NO_BLOCK, rows: 0, chunks: 0, ..entry };
    let mut block = entry.head;
    let mut cut = false;
    while block != NO_BLOCK {
        store.check_interrupts()?;
        let page = pages::read(store, block, PageKind::List)?;
        let head = list_page(&page, block, entry.uid)?;
        let (mut end, mut unborn) = (ListPage::LEN, false);
        for piece in pieces(body(&page)) {
            let piece = piece.ok_or(Error::Corrupt { block, what: "malformed chunk" })?;
            if piece.header.born > epoch {
                unborn = true;
                break;
            }
            end = piece.offset + ChunkHeader::LEN + piece.sealed.len();
            if piece.header.piece == 0 {
                alive.rows += u32::from(piece.header.rows);
                alive.chunks += 1;
            }
        }
        drop(page);
        if unborn {
            cut_after(store, block, entry.uid, end)?;
            lists::free_chain(store, entry.uid, head.next)?;
            cut = true;
        }
        alive.tail = block;
        block = if cut { NO_BLOCK } else { head.next };
    }
    if alive.tail == NO_BLOCK {
        alive.tail = entry.head;
    }
    Ok(alive)
}

fn list_page(page: &[u8; crate::store::PAGE], block: Block, uid: u64) -> Result<ListPage> {
    let head = ListPage::at(body(page), 0).filter(|head| head.uid == uid);
    head.ok_or(Error::Corrupt { block, what: "a list's page belongs to another list" })
}

/// Makes `block` the last page of its list, with `used` bytes.
fn cut_after<S: PageStore>(store: &S, block: Block, uid: u64, used: usize) -> Result<()> {
    let mut action = store.begin()?;
    let slot = pages::update(&mut action, block, PageKind::List)?;
    let mut head = list_page(action.page(slot), block, uid)?;
    head.next = NO_BLOCK;
    let mut page = action.page_mut(slot);
    page.set_used(used);
    page.write(0, &head);
    action.commit()
}
