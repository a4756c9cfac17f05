//! What a table's owner may ask of an index: `sealvec.merge`, `train`, `index_stats`, `list_stats`, `verify_index`.

use std::collections::BTreeMap;

use pgrx::pg_sys;
use pgrx::prelude::*;
use sealvec_core::format::Precision;
use sealvec_core::ivf::merge::{Effort, merge, train};
use sealvec_core::ivf::{self, Cache, Keys, Work, stats};
use sealvec_core::metric::Metric;
use sealvec_core::store::PageStore;

use super::open::OpenIndex;
use super::session::session;
use super::{index_error, unopened, work};
use crate::error::{OrRaise, SqlError};
use crate::keys::{Lease, Right};
use crate::storage::RelationStore;

/// Codes every row that was inserted since the last merge; returns how many slots that were.
#[pg_extern(sql = false)]
fn sealed_ivf_merge(index: pg_sys::Oid) -> i64 {
    maintain(index, c"sealvec.merge()", |store, cache, keys, work| {
        let before = ivf::read_meta(store)?.merged_upto;
        merge(store, cache, keys, Effort::All, work)?;
        Ok(ivf::read_meta(store)?.merged_upto.saturating_sub(before) as i64)
    })
    .or_raise()
}

/// Clusters every row from scratch; returns the number of lists.
#[pg_extern(sql = false)]
fn sealed_ivf_train(index: pg_sys::Oid) -> i32 {
    let meta = maintain(index, c"sealvec.train()", train).or_raise();
    meta.lists as i32
}

/// What an index holds; one row. Needs no key.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)] // the columns, one by one
fn sealed_ivf_index_stats(
    index: pg_sys::Oid,
) -> TableIterator<
    'static,
    (
        name!(distance, &'static str),
        name!(dims, i32),
        name!(storage_precision, &'static str),
        name!(key_ring, i32),
        name!(dek_version, i32),
        name!(index_uuid, pgrx::Uuid),
        name!(lists, i32),
        name!(list_rows_min, i32),
        name!(list_rows_max, i32),
        name!(rows_in_lists, i64),
        name!(rows_in_l0, i64),
        name!(rows_in_tail, i64),
        name!(rows_dead, i64),
        name!(pages, i64),
        name!(data_epoch, i64),
        name!(directory_epoch, i64),
    ),
> {
    let open = OpenIndex::new(index, pg_sys::AccessShareLock).or_raise();
    let stats = stats::index_stats(&open.store()).map_err(index_error).or_raise();
    let (meta, identity) = (stats.meta, stats.meta.identity);
    TableIterator::once((
        match identity.metric {
            Metric::L2 => "l2",
            Metric::Cosine => "cosine",
            Metric::InnerProduct => "inner product",
        },
        identity.dims.into(),
        match identity.precision {
            Precision::Float32 => "float32",
            Precision::Float16 => "float16",
        },
        identity.ring as i32,
        meta.dek_version as i32,
        pgrx::Uuid::from_bytes(*identity.index.as_bytes()),
        meta.lists as i32,
        stats.list_rows.0 as i32,
        stats.list_rows.1 as i32,
        meta.list_rows as i64,
        meta.l0_rows as i64,
        stats.tail_rows as i64,
        meta.dead_rows as i64,
        stats.pages.into(),
        meta.data_epoch as i64,
        meta.directory_epoch as i64,
    ))
}

/// Every list of an index. Needs no key.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)] // the columns, one by one
fn sealed_ivf_list_stats(
    index: pg_sys::Oid,
) -> TableIterator<
    'static,
    (name!(list, i64), name!(is_l0, bool), name!(rows, i32), name!(chunks, i32), name!(pages, i32)),
> {
    let open = OpenIndex::new(index, pg_sys::AccessShareLock).or_raise();
    let lists = stats::list_stats(&open.store()).map_err(index_error).or_raise();
    TableIterator::new(
        lists
            .into_iter()
            .map(|list| (list.uid as i64, list.l0, list.rows as i32, list.chunks as i32, list.pages as i32)),
    )
}

/// Lists of an index; 0 as long as it is searched without, and of one that is gone. Needs no key and no rights.
pub fn lists(index: pg_sys::Oid) -> Result<u32, SqlError> {
    // SAFETY: null for an index that does not exist; closed below, or by the resource owner on an ERROR.
    let index = unsafe { pg_sys::try_relation_open(index, pg_sys::AccessShareLock as pg_sys::LOCKMODE) };
    if index.is_null() {
        return Ok(0);
    }
    // SAFETY: open until the last line.
    let store = unsafe { RelationStore::new(index) };
    let meta = ivf::read_meta(&store).map_err(index_error);
    // SAFETY: opened above.
    unsafe { pg_sys::relation_close(index, pg_sys::AccessShareLock as pg_sys::LOCKMODE) };
    Ok(meta?.lists)
}

/// What an index holds that a DEK has sealed. Needs no key and no rights.
pub struct DekUses {
    /// Number of its ring.
    pub ring: u32,
    /// The version that sealed all that the index itself made; 0 if it has made nothing yet.
    pub dek_version: u32,
    /// Column values that wait in it for a merge, by version.
    pub waiting: BTreeMap<u32, u64>,
}

/// Which DEKs index `oid` needs; `None` if it is gone, or has no page yet because its build has only begun.
pub fn dek_uses(oid: pg_sys::Oid) -> Result<Option<DekUses>, SqlError> {
    // SAFETY: null for an index that does not exist; closed below, or by the resource owner on an ERROR.
    let index = unsafe { pg_sys::try_relation_open(oid, pg_sys::AccessShareLock as pg_sys::LOCKMODE) };
    if index.is_null() {
        return Ok(None);
    }
    // SAFETY: open until the last line.
    let store = unsafe { RelationStore::new(index) };
    let uses = store.blocks().and_then(|blocks| {
        if blocks == 0 {
            return Ok(None);
        }
        let (meta, waiting) = (ivf::read_meta(&store)?, stats::verbatim_versions(&store)?);
        Ok(Some(DekUses { ring: meta.identity.ring, dek_version: meta.dek_version, waiting }))
    });
    // SAFETY: opened above.
    unsafe { pg_sys::relation_close(index, pg_sys::AccessShareLock as pg_sys::LOCKMODE) };
    uses.map_err(index_error)
}

/// Runs keyed maintenance of an index beside readers and writers, with threads.
fn maintain<R>(
    index: pg_sys::Oid,
    command: &std::ffi::CStr,
    f: impl FnOnce(&RelationStore, &mut Cache, &mut Keys<'_>, &mut Work<'_>) -> sealvec_core::Result<R>,
) -> Result<R, SqlError> {
    // SAFETY: both raise or do nothing.
    unsafe {
        pg_sys::PreventCommandDuringRecovery(command.as_ptr());
        pg_sys::PreventCommandIfReadOnly(command.as_ptr());
    }
    let open = OpenIndex::new(index, pg_sys::RowExclusiveLock)?;
    let store = open.store();
    let meta = open.meta()?;
    let session = session(meta.identity.index);
    let mut session = session.using();
    session.open(&store, &meta, Right::Write)?;
    let (cache, mut keys) = session.keyed();
    let mut lease = Lease::new(meta.identity.ring, Right::Write);
    let result = work::with_threads(&mut lease, |work| f(&store, cache, &mut keys, work)).map_err(index_error)?;
    let unopened = cache.take_unopened();
    drop(session);
    // SAFETY: open until this returns.
    unsafe { unopened::warn(open.index, &unopened) };
    Ok(result)
}
