//! The free-space map of an index: hints only, not WAL-logged, so every use re-checks the page under its lock.

use pgrx::pg_sys;
use sealvec_core::store::{BODY, Block};

// A wholly free page is asked for with the largest request there is, so it must be one: MaxHeapTupleSize,
// a macro, is the page less its header and one line pointer, both aligned.
const _: () = assert!(BODY == pg_sys::BLCKSZ as usize - 32);

/// A page that may have `bytes` of room.
///
/// # Safety
/// `relation` is open.
pub unsafe fn find(relation: pg_sys::Relation, bytes: usize) -> Option<Block> {
    // SAFETY: the caller's duty; a larger request than BODY is an ERROR, hence `min`.
    let block = unsafe { pg_sys::GetPageWithFreeSpace(relation, bytes.min(BODY)) };
    (block != pg_sys::InvalidBlockNumber).then_some(block)
}

/// Remembers that `block` has `bytes` of room, so that [`find`] sees it at once.
///
/// The map is a tree, and recording changes its leaf only; without the second call a page would be found
/// after the next VACUUM.
///
/// # Safety
/// `relation` is open.
pub unsafe fn record(relation: pg_sys::Relation, block: Block, bytes: usize) {
    // SAFETY: the caller's duty.
    unsafe {
        pg_sys::RecordPageWithFreeSpace(relation, block, bytes);
        pg_sys::FreeSpaceMapVacuumRange(relation, block, block + 1);
    }
}

/// Forgets `block`, which was taken or was not what the map said.
///
/// # Safety
/// `relation` is open.
pub unsafe fn forget(relation: pg_sys::Relation, block: Block) {
    // SAFETY: the caller's duty. The inner nodes correct themselves when a search meets this leaf.
    unsafe { pg_sys::RecordPageWithFreeSpace(relation, block, 0) }
}

/// Brings the inner nodes of the whole map up to date.
///
/// # Safety
/// `relation` is open.
pub unsafe fn tidy(relation: pg_sys::Relation) {
    // SAFETY: the caller's duty.
    unsafe { pg_sys::IndexFreeSpaceMapVacuum(relation) }
}
