//! `sealed_ivf` over a page store: the whole index, without Postgres.
//!
//! Three flows: [`insert`] appends a sealed record and a slot; [`merge`] codes the tail into L0 and
//! L0 into lists, and [`cluster`] makes the lists; [`scan`] streams rows by distance.
//! [`vacuum`] needs no key. [`check`] opens everything and asserts every invariant.
//! The rules that keep them apart are in `src/index/README.md`.

mod batch;
pub mod build;
pub mod check;
mod check_pages;
pub mod cluster;
pub mod directory;
mod encode;
pub mod insert;
mod kept;
mod lists;
pub mod merge;
mod open;
mod opened;
mod pages;
mod records;
mod recover;
mod rows;
pub mod scan;
mod slots;
mod source;
mod split;
pub mod stats;
pub mod vacuum;
mod values;
mod vector;

use crate::{
    Error, Result,
    crypto::MetaAad,
    format::{
        meta::{Identity, META_BLOCK, Meta},
        slot::SlotState,
        vector::RecordKind,
    },
    keys::{IndexKeys, Uuid},
    store::{Action, Clear, PageKind, PageStore, SealedBytes},
};

pub use directory::Directory;
pub use values::{ColumnKeys, Unopened};
pub use vector::Query;

/// Rows of the tail that a keyed inserter leaves before it codes them into L0.
pub const TAIL_ROWS: u64 = 64;
/// Rows of L0 from which they go to lists.
pub const L0_ROWS: u64 = 4096;
/// Rows that a list should have.
pub const LIST_ROWS: u64 = 88;
/// Rows below which growth by half clusters from scratch.
pub const RECLUSTER_BELOW: u64 = 100_000;

/// The keys of one index, all of them: nothing below looks a key up, so nothing waits for one under a lock.
pub struct Keys<'a> {
    /// Subkeys of everything that the index sealed.
    pub index: &'a mut IndexKeys,
    /// The column's values.
    pub values: &'a ColumnKeys,
}

/// What long work is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Rows of the heap are being sealed into records.
    Loading,
    /// k-means over a sample.
    Clustering,
    /// Rows are being given to lists.
    Assigning,
    /// Lists are being written.
    Writing,
}

/// Where long work may run, how much memory it may take, and whom to tell.
pub struct Work<'a> {
    /// Threads for arithmetic; `None` = the calling thread.
    pub pool: Option<&'a rayon::ThreadPool>,
    /// Bytes that clustering may use beside the pages (`maintenance_work_mem`).
    pub memory_bytes: usize,
    /// Called on the calling thread every 100 ms or so with (phase, done, total); an error cancels.
    pub tick: &'a mut dyn FnMut(Phase, u64, u64) -> Result<()>,
}

/// What one backend remembers of one index between calls. Drop it when the key is dropped.
pub struct Cache {
    index: Uuid,
    directory: Option<std::rc::Rc<Directory>>,
    leaves: slots::LeafHints,
    records: records::Scratch,
    /// Memory of the last scan.
    spare: scan::Spare,
    /// Pages of lists as they were opened.
    opened: opened::OpenedPages,
}

impl Cache {
    /// An empty cache for the index of this uuid.
    pub fn new(index: Uuid) -> Self {
        Self {
            index,
            directory: None,
            leaves: slots::LeafHints::default(),
            records: records::Scratch::default(),
            spare: scan::Spare::default(),
            opened: opened::OpenedPages::default(),
        }
    }

    /// The index that it belongs to.
    pub fn index(&self) -> Uuid {
        self.index
    }

    /// Keeps pages of lists as it opens them, up to so many bytes; none unless this is called.
    pub fn keep_opened(&mut self, bytes: usize) {
        self.opened.set_room(bytes);
    }

    /// Rows whose column values did not open since this was last asked: the caller tells its user.
    pub fn take_unopened(&mut self) -> Unopened {
        std::mem::take(&mut self.records.unopened)
    }
}

/// Writes the meta page of an empty index into a relation without pages. Needs no key.
pub fn create<S: PageStore>(store: &S, identity: Identity) -> Result<()> {
    let mut action = store.begin()?;
    let (slot, block) = action.create(PageKind::Meta)?;
    if block != META_BLOCK {
        return Err(Error::Bug("a new index starts at block 0"));
    }
    action.page_mut(slot).write_grow(0, &Meta::new(identity));
    action.commit()
}

/// Reads the meta page.
pub fn read_meta<S: PageStore>(store: &S) -> Result<Meta> {
    let page = pages::read(store, META_BLOCK, PageKind::Meta)?;
    Meta::read(crate::store::body(&page))
}

/// Reads the meta page and checks that `keys` are this index's and that its identity is as it was sealed.
///
/// # Errors
/// [`Error::WrongKey`], or [`Error::Corrupt`] for an identity that was changed or a page that denies its key.
pub fn check_keys<S: PageStore>(store: &S, keys: &IndexKeys) -> Result<Meta> {
    let meta = {
        let page = pages::read(store, META_BLOCK, PageKind::Meta)?;
        checked_meta(crate::store::body(&page), keys)?
    };
    if meta.dek_version == 0 {
        check_never_sealed(store)?;
    }
    Ok(meta)
}

/// The meta page in `body`, checked against `keys` once it was bound to any.
fn checked_meta(body: &[u8], keys: &IndexKeys) -> Result<Meta> {
    let meta = Meta::read(body)?;
    let corrupt = |what| Err(Error::Corrupt { block: META_BLOCK, what });
    let tag = &body[Meta::LEN..];
    if meta.dek_version == 0 {
        // Whoever can write the file must not be rid of the commitment by saying that there is none.
        let Meta { slot_root, slot_height, dead_rows, .. } = meta;
        let unsealed = Meta { slot_root, slot_height, dead_rows, ..Meta::new(meta.identity) };
        if meta != unsealed || !tag.is_empty() {
            return corrupt("the meta page names no key and has what only a key makes");
        }
        return Ok(meta);
    }
    keys.check_commitment(&meta.commitment)?;
    match keys.meta().open(&meta_aad(&meta), tag) {
        Ok(plain) if plain.is_empty() => Ok(meta),
        _ => corrupt("the identity of the index is not what was sealed"),
    }
}

/// Checks that an index that was never bound to a key holds column values only: one record tells, because in an index
/// that was bound they are rare.
fn check_never_sealed<S: PageStore>(store: &S) -> Result<()> {
    let mut hints = slots::LeafHints::default();
    let mut walk = slots::Walk::from(0);
    while let Some(leaf) = walk.next(store, &mut hints)? {
        for (slot, entry) in (leaf.first_slot..).zip(&leaf.entries) {
            if entry.state != SlotState::Live {
                continue;
            }
            match records::kind(store, slot, entry)? {
                None => {}
                Some(RecordKind::Verbatim | RecordKind::VerbatimHead) => return Ok(()),
                // It may have been bound since.
                Some(_) if read_meta(store)?.dek_version == 0 => {
                    let what = "the meta page names no key and the index has sealed records";
                    return Err(Error::Corrupt { block: META_BLOCK, what });
                }
                Some(_) => return Ok(()),
            }
        }
    }
    Ok(())
}

/// Binds the index to `keys` when its first sealed thing is about to be written; checks them when it is bound.
fn bind_keys<S: PageStore>(store: &S, keys: &IndexKeys) -> Result<Meta> {
    let meta = check_keys(store, keys)?;
    if meta.dek_version != 0 {
        return Ok(meta);
    }
    let bind = |meta: Meta| Meta { dek_version: keys.dek_version(), commitment: keys.commitment(), ..meta };
    let seal = keys.meta().seal(&meta_aad(&bind(meta)), &[])?;
    let mut action = store.begin()?;
    let slot = action.update(META_BLOCK)?;
    let current = checked_meta(crate::store::body(action.page(slot)), keys)?;
    if current.dek_version != 0 {
        return Ok(current); // another backend was first
    }
    let bound = bind(current);
    let mut page = action.page_mut(slot);
    page.write(0, &bound);
    page.copy_sealed(Meta::LEN, SealedBytes::of(&seal));
    action.commit()?;
    Ok(bound)
}

fn meta_aad(meta: &Meta) -> MetaAad {
    MetaAad {
        index: meta.identity.index,
        dek_version: meta.dek_version,
        ring: meta.identity.ring,
        dims: meta.identity.dims,
        metric: meta.identity.metric as u8,
        precision: meta.identity.precision as u8,
    }
}

/// Changes the meta page in one record and returns it.
fn update_meta<S: PageStore>(store: &S, change: impl FnOnce(&mut Meta)) -> Result<Meta> {
    let mut action = store.begin()?;
    let slot = action.update(META_BLOCK)?;
    let mut meta = Meta::read(crate::store::body(action.page(slot)))?;
    change(&mut meta);
    action.page_mut(slot).write(0, &meta);
    action.commit()?;
    Ok(meta)
}
