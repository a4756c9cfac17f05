//! A relation as a [`PageStore`].

use std::cell::Cell;

use pgrx::pg_sys;
use sealvec_core::format::meta::META_BLOCK;
use sealvec_core::store::{Block, PAGE, PageStore};
use sealvec_core::{Error, Result};

use super::buffer::{self, SharedPage};
use super::recent;
use super::space;
use super::xlog::{RelationAction, Writes};

/// `InvalidSubTransactionId`, a macro with a cast.
const INVALID_SUBTRANSACTION: pg_sys::SubTransactionId = 0;

/// What happens between two pages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Interrupts {
    /// The user may cancel.
    Cancel,
    /// The same, and VACUUM sleeps when it has spent its cost budget, but never with the maintenance lock.
    CancelAndDelay,
}

/// One fork of one index.
pub struct RelationStore {
    relation: pg_sys::Relation,
    fork: pg_sys::ForkNumber::Type,
    strategy: pg_sys::BufferAccessStrategy,
    writes: Writes,
    interrupts: Interrupts,
    /// Whether this store holds the maintenance lock.
    maintains: Cell<bool>,
    /// Blocks known to exist; a relation never shrinks while it is open here.
    known: Cell<Block>,
}

impl RelationStore {
    /// The main fork of `relation`; changes are logged as the relation's persistence wants.
    ///
    /// # Safety
    /// `relation` stays open, locked as the calls made through the store need, for the store's life.
    pub unsafe fn new(relation: pg_sys::Relation) -> Self {
        Self {
            relation,
            fork: pg_sys::ForkNumber::MAIN_FORKNUM,
            strategy: std::ptr::null_mut(),
            writes: Writes::Logged,
            interrupts: Interrupts::Cancel,
            maintains: Cell::new(false),
            known: Cell::new(0),
        }
    }

    /// A fork that only this backend can see until the command commits: nothing is logged page by page,
    /// [`RelationStore::log_whole`] does it at the end.
    ///
    /// # Safety
    /// As [`RelationStore::new`], and the fork is new.
    pub unsafe fn bulk(relation: pg_sys::Relation, fork: pg_sys::ForkNumber::Type) -> Self {
        // SAFETY: the caller's duty.
        Self { fork, writes: Writes::Bulk, ..unsafe { Self::new(relation) } }
    }

    /// The same store, reading through the ring buffer of `strategy` and sleeping as VACUUM does.
    ///
    /// # Safety
    /// `strategy` is null or lives as long as the store.
    pub unsafe fn for_vacuum(mut self, strategy: pg_sys::BufferAccessStrategy) -> Self {
        self.strategy = strategy;
        self.interrupts = Interrupts::CancelAndDelay;
        self
    }

    /// Logs every page of the fork, holes left out: the end of a bulk build.
    ///
    /// The init fork of an unlogged index must be logged although the index is not.
    pub fn log_whole(&self) -> Result<()> {
        let blocks = self.blocks()?;
        if self.needs_wal() || self.fork == pg_sys::ForkNumber::INIT_FORKNUM {
            // SAFETY: the relation is open, and every page of it has a standard header with its hole marked.
            unsafe { pg_sys::log_newpage_range(self.relation, self.fork, 0, blocks, true) }
        }
        Ok(())
    }

    /// Brings the free-space map up to date: the end of a vacuum.
    pub fn tidy_space(&self) {
        // SAFETY: the relation is open.
        unsafe { space::tidy(self.relation) }
    }

    /// `RelationNeedsWAL`, which is a macro: permanent, and not created by this very transaction under
    /// `wal_level = minimal`.
    fn needs_wal(&self) -> bool {
        // SAFETY: the relation is open, so its descriptor and pg_class row are there.
        unsafe {
            let relation = &*self.relation;
            #[cfg(feature = "pg15")]
            let (created, replaced) = (relation.rd_createSubid, relation.rd_firstRelfilenodeSubid);
            #[cfg(not(feature = "pg15"))]
            let (created, replaced) = (relation.rd_createSubid, relation.rd_firstRelfilelocatorSubid);
            let minimal = pg_sys::wal_level < pg_sys::WalLevel::WAL_LEVEL_REPLICA as std::ffi::c_int;
            (*relation.rd_rel).relpersistence == pg_sys::RELPERSISTENCE_PERMANENT as i8
                && !(minimal && (created != INVALID_SUBTRANSACTION || replaced != INVALID_SUBTRANSACTION))
        }
    }

    pub(super) fn relation(&self) -> pg_sys::Relation {
        self.relation
    }

    pub(super) fn fork(&self) -> pg_sys::ForkNumber::Type {
        self.fork
    }

    pub(super) fn strategy(&self) -> pg_sys::BufferAccessStrategy {
        self.strategy
    }

    /// Whether `block` exists: reading past the end would be an ERROR that does not speak of the index.
    pub(super) fn has(&self, block: Block) -> Result<bool> {
        Ok(block < self.known.get() || block < self.blocks()?)
    }

    pub(super) fn must_have(&self, block: Block) -> Result<()> {
        if self.has(block)? { Ok(()) } else { Err(Error::Corrupt { block, what: "beyond the end" }) }
    }
}

impl PageStore for RelationStore {
    type Page<'a> = SharedPage;
    type Action<'a> = RelationAction<'a>;

    fn read(&self, block: Block) -> Result<SharedPage> {
        self.must_have(block)?;
        // SAFETY: the relation is open and has the block.
        Ok(unsafe { buffer::share(self.relation, self.fork, block, self.strategy) })
    }

    fn prefetch(&self, block: Block, offset: usize) {
        // SAFETY: the relation is open.
        unsafe { recent::prefetch(self.relation, block, offset) }
    }

    /// The position of the record that changed it last.
    fn version(&self, page: &[u8; PAGE]) -> Option<u64> {
        // SAFETY: the relation is open.
        if !unsafe { stamps_pages(self.relation) } {
            return None;
        }
        let [high, low] = [0, 4].map(|at| u32::from_ne_bytes(page[at..at + 4].try_into().expect("four bytes")));
        let position = u64::from(high) << 32 | u64::from(low);
        (position != 0).then_some(position)
    }

    fn blocks(&self) -> Result<Block> {
        // SAFETY: the relation is open.
        let blocks = unsafe { pg_sys::RelationGetNumberOfBlocksInFork(self.relation, self.fork) };
        self.known.set(blocks);
        Ok(blocks)
    }

    fn begin(&self) -> Result<RelationAction<'_>> {
        Ok(RelationAction::new(self, self.writes))
    }

    fn find_space(&self, bytes: usize) -> Result<Option<Block>> {
        if self.writes == Writes::Bulk {
            return Ok(None); // a build frees next to nothing, and an init fork has no map of its own
        }
        // SAFETY: the relation is open.
        let Some(block) = (unsafe { space::find(self.relation, bytes) }) else { return Ok(None) };
        if self.has(block)? {
            return Ok(Some(block));
        }
        // The map outlived pages that a crash cut off.
        // SAFETY: the relation is open.
        unsafe { space::forget(self.relation, block) };
        Ok(None)
    }

    fn record_space(&self, block: Block, bytes: usize) -> Result<()> {
        if self.fork != pg_sys::ForkNumber::MAIN_FORKNUM {
            return Ok(());
        }
        // SAFETY: the relation is open.
        unsafe { space::record(self.relation, block, bytes) };
        Ok(())
    }

    fn lock_maintenance(&self, wait: bool) -> Result<bool> {
        let mode = pg_sys::ExclusiveLock as i32;
        // SAFETY: the relation is open; the lock lies in the lock table, as GIN's for its pending list.
        let locked = unsafe {
            if wait {
                pg_sys::LockPage(self.relation, META_BLOCK, mode);
                true
            } else {
                pg_sys::ConditionalLockPage(self.relation, META_BLOCK, mode)
            }
        };
        self.maintains.set(locked);
        Ok(locked)
    }

    fn unlock_maintenance(&self) {
        self.maintains.set(false);
        // SAFETY: the relation is open and this backend holds the lock.
        unsafe { pg_sys::UnlockPage(self.relation, META_BLOCK, pg_sys::ExclusiveLock as i32) }
    }

    fn check_interrupts(&self) -> Result<()> {
        match self.interrupts {
            Interrupts::CancelAndDelay if !self.maintains.get() => vacuum_delay_point(),
            _ => {
                pgrx::check_for_interrupts!();
            }
        }
        Ok(())
    }

    fn transaction(&self) -> Result<u32> {
        // SAFETY: an insert runs inside a transaction that may write.
        Ok(unsafe { pg_sys::GetCurrentTransactionId() }.into_inner())
    }

    fn transaction_ended(&self, xid: u32) -> Result<bool> {
        // SAFETY: a look into the process array. A number from before a wrap-around counts as ended or,
        // rarely, as some running one: then its pages wait for the next vacuum.
        Ok(!unsafe { pg_sys::TransactionIdIsInProgress(pg_sys::TransactionId::from_inner(xid)) })
    }
}

/// Serves interrupts and sleeps if VACUUM has spent its cost budget.
fn vacuum_delay_point() {
    // SAFETY: no page is held here.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        pg_sys::vacuum_delay_point();
        #[cfg(feature = "pg18")]
        pg_sys::vacuum_delay_point(false);
    }
}

/// Whether each change of a page leaves another position in it: where every change of a permanent relation is logged. With
/// `wal_level = minimal` a transaction may leave out what it does to a file that it made, or copied to another tablespace.
unsafe fn stamps_pages(relation: pg_sys::Relation) -> bool {
    // SAFETY: the caller's relation is open; the setting changes with a restart only.
    unsafe {
        pg_sys::wal_level >= pg_sys::WalLevel::WAL_LEVEL_REPLICA as std::ffi::c_int
            && (*(*relation).rd_rel).relpersistence == pg_sys::RELPERSISTENCE_PERMANENT as std::ffi::c_char
    }
}
