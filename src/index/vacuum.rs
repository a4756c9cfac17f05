//! VACUUM: dead rows are marked and their space given back without a key; a merge comes on top where a key is.

use std::ffi::c_void;

use pgrx::pg_sys;
use pgrx::prelude::*;
use sealvec_core::format::Tid;
use sealvec_core::ivf;
use sealvec_core::ivf::merge::{Effort, merge};
use sealvec_core::ivf::vacuum::{self, Cleaned, Deleted};
use sealvec_core::store::PageStore;

use super::session::session;
use super::{index_error, row, shape, unopened, work};
use crate::error::{OrRaise, SqlError};
use crate::keys::{self, Right};
use crate::storage::RelationStore;
use crate::tell::{debug1, warning};

/// Marks the rows dead that `callback` names. CREATE INDEX CONCURRENTLY calls it, too, to see every row.
#[pg_guard]
pub unsafe extern "C-unwind" fn ambulkdelete(
    info: *mut pg_sys::IndexVacuumInfo,
    stats: *mut pg_sys::IndexBulkDeleteResult,
    callback: pg_sys::IndexBulkDeleteCallback,
    callback_state: *mut c_void,
) -> *mut pg_sys::IndexBulkDeleteResult {
    // SAFETY: called by Postgres with an open index; `stats` is null or what an earlier call returned.
    unsafe {
        let info = &*info;
        let store = RelationStore::new(info.index).for_vacuum(info.strategy);
        let callback = callback.expect("bulk deletion has a callback");
        let mut is_dead = |tid: Tid| {
            let mut pointer = row::item_pointer(tid);
            // A function of the server that may raise: the guard turns that into a panic that drops what
            // lies between here and `ambulkdelete`.
            Ok(pg_sys::ffi::pg_guard_ffi_boundary(|| callback(&mut pointer, callback_state)))
        };
        let deleted = bulk_delete(&store, &mut is_dead).or_raise();

        let stats = or_new(stats);
        stats.num_index_tuples = deleted.live as f64;
        stats.estimated_count = false;
        stats.tuples_removed += deleted.dead as f64;
        stats.pages_newly_deleted += deleted.pages_freed as pg_sys::BlockNumber;
        stats.pages_deleted += deleted.pages_freed as pg_sys::BlockNumber;
        stats
    }
}

/// Gives back pages that nothing reaches; then, if the ring opens without waiting, merges what was inserted.
#[pg_guard]
pub unsafe extern "C-unwind" fn amvacuumcleanup(
    info: *mut pg_sys::IndexVacuumInfo,
    stats: *mut pg_sys::IndexBulkDeleteResult,
) -> *mut pg_sys::IndexBulkDeleteResult {
    // SAFETY: called by Postgres with an open index; `stats` is null if there was no bulk deletion.
    unsafe {
        let info = &*info;
        if info.analyze_only {
            return stats; // statistics of a sealed column say nothing, and ANALYZE must not wait for us
        }
        let store = RelationStore::new(info.index).for_vacuum(info.strategy);
        let cleaned = clean(&store).or_raise();
        merge_if_open(&store, info.index).or_raise();
        store.tidy_space();

        let counted = !stats.is_null();
        let stats = or_new(stats);
        if !counted {
            // Nothing was deleted, so nobody counted; an estimate does not go to pg_class.
            stats.num_index_tuples = info.num_heap_tuples;
            stats.estimated_count = true;
        }
        stats.num_pages = store.blocks().map_err(index_error).or_raise();
        if cleaned.swept {
            stats.pages_free = cleaned.pages_free as pg_sys::BlockNumber;
            stats.pages_deleted = stats.pages_free;
        }
        stats
    }
}

fn bulk_delete(
    store: &RelationStore,
    is_dead: &mut dyn FnMut(Tid) -> sealvec_core::Result<bool>,
) -> Result<Deleted, SqlError> {
    let meta = ivf::read_meta(store).map_err(index_error)?;
    let session = session(meta.identity.index);
    vacuum::bulk_delete(store, session.using().cache(), is_dead).map_err(index_error)
}

fn clean(store: &RelationStore) -> Result<Cleaned, SqlError> {
    let meta = ivf::read_meta(store).map_err(index_error)?;
    let session = session(meta.identity.index);
    vacuum::cleanup(store, session.using().cache()).map_err(index_error)
}

/// Merges under a ring that this backend can open by itself. A key service is asked here, before any page is read, and
/// waited for no longer than sealvec.kms_timeout; who is not there makes VACUUM leave the merge to a later one.
unsafe fn merge_if_open(store: &RelationStore, index: pg_sys::Relation) -> Result<(), SqlError> {
    // A merge of long rows needs a transaction number, which a leader of parallel workers may not take.
    // SAFETY: reads a flag of this backend.
    if unsafe { pg_sys::IsInParallelMode() } {
        return Ok(());
    }
    // SAFETY: the caller's index.
    let meta = match unsafe { shape::meta(index, store) } {
        Ok(meta) => meta,
        Err(error) => {
            warning!("VACUUM leaves a sealed_ivf index unmerged: {}", error.message);
            return Ok(());
        }
    };
    if !keys::is_open(meta.identity.ring) && !keys::opens_by_itself(meta.identity.ring) {
        return Ok(());
    }
    let session = session(meta.identity.index);
    let mut session = session.using();
    if let Err(error) = session.open(store, &meta, Right::Write) {
        debug1!("VACUUM leaves a sealed_ivf index unmerged: {}", error.message);
        return Ok(());
    }
    let (cache, mut keys) = session.keyed();
    // Without threads: autovacuum has a budget of its own, and `tick` is no place to sleep.
    if let Err(error) = work::on_the_way(false, |work| merge(store, cache, &mut keys, Effort::Step, work)) {
        // The table must be vacuumed whatever its index holds; scans and verify_index report the damage as an error.
        warning!("VACUUM leaves a sealed_ivf index unmerged: {}", index_error(error).message);
    }
    let unopened = cache.take_unopened();
    // SAFETY: the caller's index.
    unsafe { unopened::warn(index, &unopened) };
    Ok(())
}

/// `stats`, or a new one that says nothing.
unsafe fn or_new<'a>(stats: *mut pg_sys::IndexBulkDeleteResult) -> &'a mut pg_sys::IndexBulkDeleteResult {
    // SAFETY: null or the result of an earlier call of this vacuum; palloc0 returns or raises.
    unsafe {
        if stats.is_null() {
            &mut *pg_sys::palloc0(size_of::<pg_sys::IndexBulkDeleteResult>()).cast()
        } else {
            &mut *stats
        }
    }
}
