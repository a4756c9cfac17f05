//! `ambuild` and `ambuildempty`: CREATE INDEX, REINDEX, and the init fork of an unlogged index.

use std::ffi::c_void;

use pgrx::PgSqlErrorCode::*;
use pgrx::pg_sys;
use pgrx::prelude::*;
use sealvec_core::format::Tid;
use sealvec_core::format::meta::Identity;
use sealvec_core::ivf::build::finish;
use sealvec_core::ivf::insert::{Row, insert};
use sealvec_core::ivf::{self, Cache, ColumnKeys, Keys, Unopened};
use sealvec_core::keys::IndexKeys;
use zeroize::Zeroizing;

use super::row::{self, SealedValue};
use super::session::{column_keys, open_keys};
use super::{index_error, shape, unopened, work};
use crate::error::{OrRaise, SqlError};
use crate::keys::{Lease, Right};
use crate::storage::RelationStore;
use crate::tell::tell;

/// Builds the index of a table.
#[pg_guard]
pub unsafe extern "C-unwind" fn ambuild(
    heap: pg_sys::Relation,
    index: pg_sys::Relation,
    info: *mut pg_sys::IndexInfo,
) -> *mut pg_sys::IndexBuildResult {
    // SAFETY: called by Postgres with an open table and its new, empty index.
    unsafe {
        let identity = shape::new_identity(index).or_raise();
        let mut keys = open_or_notice(index, &identity);
        let store = RelationStore::bulk(index, pg_sys::ForkNumber::MAIN_FORKNUM);
        let (heap_tuples, index_tuples) = build(&store, heap, index, info, identity, keys.as_mut()).or_raise();
        store.log_whole().map_err(index_error).or_raise();

        let result: *mut pg_sys::IndexBuildResult = pg_sys::palloc0(size_of::<pg_sys::IndexBuildResult>()).cast();
        (*result).heap_tuples = heap_tuples;
        (*result).index_tuples = index_tuples;
        result
    }
}

/// Writes an empty index into the init fork, which replaces an unlogged index after a crash. Needs no key.
#[pg_guard]
pub unsafe extern "C-unwind" fn ambuildempty(index: pg_sys::Relation) {
    // SAFETY: called by Postgres with a new unlogged index whose init fork is there and empty.
    unsafe {
        let identity = shape::new_identity(index).or_raise();
        let store = RelationStore::bulk(index, pg_sys::ForkNumber::INIT_FORKNUM);
        ivf::create(&store, identity).map_err(index_error).or_raise();
        store.log_whole().map_err(index_error).or_raise();
    }
}

/// The keys of the new index; without them it is built of column values as they are, and the user is told.
unsafe fn open_or_notice(index: pg_sys::Relation, identity: &Identity) -> Option<(IndexKeys, ColumnKeys)> {
    match open_keys(identity, 0, Right::Write).and_then(|keys| Ok((keys, column_keys(identity.ring, Right::Write)?))) {
        Ok(keys) => Some(keys),
        Err(error) => {
            // SAFETY: the caller's index.
            let name = unsafe { shape::name(index) };
            let message = format!("index \"{name}\" is built without its key: {}", error.message);
            let told = SqlError::new(ERRCODE_SUCCESSFUL_COMPLETION, message).detail(
                "Searches read every row until the key ring is open and somebody inserts rows, or runs sealvec.merge().",
            );
            tell(PgLogLevel::NOTICE, &told);
            None
        }
    }
}

/// What the heap scan hands from row to row.
struct Loading<'a> {
    store: &'a RelationStore,
    identity: Identity,
    cache: Cache,
    keys: Option<(&'a mut IndexKeys, &'a ColumnKeys)>,
    /// The row at hand, opened.
    values: Zeroizing<Vec<f32>>,
    rows: u64,
    unopened: Unopened,
    /// Of the keys, if there are any.
    lease: Option<Lease>,
}

/// Loads every row of the heap, then clusters and writes lists. Returns (heap rows, indexed rows).
unsafe fn build(
    store: &RelationStore,
    heap: pg_sys::Relation,
    index: pg_sys::Relation,
    info: *mut pg_sys::IndexInfo,
    identity: Identity,
    keys: Option<&mut (IndexKeys, ColumnKeys)>,
) -> Result<(f64, f64), SqlError> {
    ivf::create(store, identity).map_err(index_error)?;
    let lease = keys.as_ref().map(|_| Lease::new(identity.ring, Right::Write));
    let mut loading = Loading {
        store,
        identity,
        lease,
        cache: Cache::new(identity.index),
        keys: keys.map(|(index, values)| (index, &*values)),
        values: Zeroizing::new(vec![0.0; identity.dims.into()]),
        rows: 0,
        unopened: Unopened::default(),
    };
    work::tell_loading();
    // SAFETY: the callback gets `loading`, which outlives the scan.
    let heap_tuples = unsafe {
        let state = (&raw mut loading).cast();
        let (sync, progress) = (true, true);
        pg_sys::table_index_build_scan(heap, index, info, sync, progress, Some(load), state, std::ptr::null_mut())
    };
    let Loading { mut cache, keys, rows, unopened, lease, .. } = loading;
    // SAFETY: the caller's index.
    unsafe { unopened::warn(index, &unopened) };
    if let (Some((index, values)), Some(mut lease)) = (keys, lease) {
        let mut keys = Keys { index, values };
        work::with_threads(&mut lease, |work| finish(store, &mut cache, &mut keys, work)).map_err(index_error)?;
    }
    Ok((heap_tuples, rows as f64))
}

/// One row of the heap.
#[pg_guard]
unsafe extern "C-unwind" fn load(
    _index: pg_sys::Relation,
    tid: pg_sys::ItemPointer,
    values: *mut pg_sys::Datum,
    isnull: *mut bool,
    _alive: bool,
    state: *mut c_void,
) {
    // SAFETY: called by the heap scan of `build` with one value, its null flag and `build`'s state.
    unsafe {
        if *isnull {
            return;
        }
        let loading = &mut *state.cast::<Loading<'_>>();
        loading.add(row::tid(tid), &SealedValue::new(*values)).or_raise();
    }
}

impl Loading<'_> {
    fn add(&mut self, tid: Tid, value: &SealedValue) -> Result<(), SqlError> {
        let Self { store, cache, keys, values, lease, .. } = self;
        lease.as_mut().map_or(Ok(()), Lease::renew)?;
        // One row that somebody forged, or that is damaged, must not deny the index to all.
        if value.check(&self.identity).is_err() {
            self.unopened.add(tid);
            return Ok(());
        }
        let inserted = match keys {
            Some((_, column)) if !column.open(value.bytes(), values) => {
                self.unopened.add(tid);
                return Ok(());
            }
            Some((keys, _)) => insert(*store, cache, Row::Plain { tid, values, keys }),
            None => insert(*store, cache, Row::Sealed { tid, value: value.bytes() }),
        };
        self.rows += u64::from(inserted.map_err(index_error)?.slot.is_some());
        Ok(())
    }
}
