//! A scan in order of distance: `ORDER BY embedding <-> query`.
//!
//! A query that is NULL, and under cosine one that is zero, is at no distance from anything: every
//! indexed row comes, in no order, with a null or NaN distance, as a sequential scan would return them.
//!
//! The right to open is looked at for each row: a ring that is locked, or whose time is up, while a cursor is
//! open ends the scan with an error when the next row is asked for, unless the ring opens by itself again.

use pgrx::PgSqlErrorCode::*;
use pgrx::prelude::*;
use pgrx::{IntoDatum, PgMemoryContexts, pg_sys};
use sealvec_core::format::meta::{Identity, Meta};
use sealvec_core::ivf::scan::{Hit, Scan, ScanOptions};
use sealvec_core::ivf::{self, Unopened};
use sealvec_core::metric::Metric;

use super::row::{self, SealedValue};
use super::session::{Session, session};
use super::{index_error, shape, unopened};
use crate::error::{OrRaise, SqlError};
use crate::guc;
use crate::keys::{Lease, Right};
use crate::storage::RelationStore;

/// How far a lower bound is put under the one of core, for how core and operator round: the executor refuses a row
/// whose distance turns out less than its bound. Relative, because vectors come in every size …
const SLACK: f64 = 2e-6;
/// … but under cosine, where core takes a product of unit vectors from 1 and what it rounds is absolute.
const COSINE_SLACK: f64 = 1e-6;

/// `IndexScanDesc.opaque`: nothing until the first row is asked for. Freed with the scan's memory context,
/// on errors too.
#[derive(Default)]
struct State {
    running: Option<Running>,
    /// Whether the user was told of rows that do not open: once a scan, however often it starts again.
    warned: bool,
}

struct Running {
    identity: Identity,
    session: Session,
    scan: Scan,
    /// What a distance is when the query has none: NULL or NaN.
    distance: Distance,
    /// To read, for as long as rows are fetched.
    lease: Lease,
}

#[derive(Clone, Copy, PartialEq)]
enum Distance {
    Measured,
    NotANumber,
    Null,
}

/// Makes a scan that has not started.
#[pg_guard]
pub unsafe extern "C-unwind" fn ambeginscan(index: pg_sys::Relation, keys: i32, orders: i32) -> pg_sys::IndexScanDesc {
    // SAFETY: called by Postgres with an open index; arrays are palloc'ed for as long as the scan lives.
    unsafe {
        let scan = pg_sys::RelationGetIndexScan(index, keys, orders);
        let orders = orders as usize;
        (*scan).xs_orderbyvals = pg_sys::palloc0(size_of::<pg_sys::Datum>() * orders.max(1)).cast();
        (*scan).xs_orderbynulls = pg_sys::palloc0(size_of::<bool>() * orders.max(1)).cast();
        (*scan).opaque = PgMemoryContexts::CurrentMemoryContext.leak_and_drop_on_delete(State::default()).cast();
        scan
    }
}

/// Takes the query and forgets the rows of the one before.
#[pg_guard]
pub unsafe extern "C-unwind" fn amrescan(
    scan: pg_sys::IndexScanDesc,
    keys: pg_sys::ScanKey,
    nkeys: i32,
    orders: pg_sys::ScanKey,
    norders: i32,
) {
    // SAFETY: called by Postgres with as many keys as ambeginscan was told, or null for "as before".
    unsafe {
        finish(state(scan));
        if !keys.is_null() && nkeys > 0 {
            std::ptr::copy(keys, (*scan).keyData, nkeys as usize);
        }
        if !orders.is_null() && norders > 0 {
            std::ptr::copy(orders, (*scan).orderByData, norders as usize);
        }
    }
}

/// The next row, nearest first.
#[pg_guard]
pub unsafe extern "C-unwind" fn amgettuple(
    scan: pg_sys::IndexScanDesc,
    _direction: pg_sys::ScanDirection::Type,
) -> bool {
    // SAFETY: called by Postgres with a scan of ours; only forwards, since amcanbackward is false.
    unsafe {
        let store = RelationStore::new((*scan).indexRelation);
        let state = state(scan);
        let running = match &mut state.running {
            Some(running) => running,
            none => none.insert(start(scan, &store).or_raise()),
        };
        let (hit, unopened) = running.next(&store).or_raise();
        if !unopened.is_empty() && !std::mem::replace(&mut state.warned, true) {
            unopened::warn((*scan).indexRelation, &unopened);
        }
        match hit {
            Some(hit) => {
                running.emit(scan, hit);
                true
            }
            None => false,
        }
    }
}

/// Ends the scan; what it opened is dropped now, the rest with its memory context.
#[pg_guard]
pub unsafe extern "C-unwind" fn amendscan(scan: pg_sys::IndexScanDesc) {
    // SAFETY: called by Postgres with a scan of ours.
    unsafe { finish(state(scan)) }
}

/// Ends what runs, and leaves its memory to the next scan of the index; not what it opened of a ring that was closed since.
fn finish(state: &mut State) {
    if let Some(Running { session, scan, .. }) = state.running.take() {
        session.leave(|cache| scan.finish(cache));
    }
}

/// The state of a scan of ours.
unsafe fn state<'a>(scan: pg_sys::IndexScanDesc) -> &'a mut State {
    // SAFETY: made by ambeginscan, and used by one callback at a time.
    unsafe { &mut *(*scan).opaque.cast::<State>() }
}

/// Resolves the query and the keys, and reads where the index stands, after the snapshot was taken.
unsafe fn start(scan: pg_sys::IndexScanDesc, store: &RelationStore) -> Result<Running, SqlError> {
    // SAFETY: the caller's scan.
    unsafe {
        let name = || shape::name((*scan).indexRelation);
        if (*scan).numberOfOrderBys != 1 {
            return Err(SqlError::new(
                ERRCODE_FEATURE_NOT_SUPPORTED,
                format!("cannot scan index \"{}\" without order", name()),
            )
            .hint("sealed_ivf finds rows by ORDER BY column <-> query LIMIT n."));
        }
        // A row's place in the heap may be given to another row after VACUUM; only an MVCC snapshot tells them apart.
        let snapshot = (*scan).xs_snapshot;
        if !is_mvcc(snapshot) {
            return Err(SqlError::new(
                ERRCODE_FEATURE_NOT_SUPPORTED,
                "sealed_ivf can be scanned with an MVCC snapshot only",
            ));
        }
        count_scan(scan);

        let meta = shape::meta((*scan).indexRelation, store)?;
        let session = session(meta.identity.index);
        {
            let mut session = session.using();
            session.open(store, &meta, Right::Read)?;
            session.cache().keep_opened(guc::list_cache());
        }
        let (scan, distance) = query(&*(*scan).orderByData, &meta)?;
        let lease = Lease::new(meta.identity.ring, Right::Read);
        Ok(Running { identity: meta.identity, session, scan, distance, lease })
    }
}

/// Core's scan for the query in `order`.
unsafe fn query(order: &pg_sys::ScanKeyData, meta: &Meta) -> Result<(Scan, Distance), SqlError> {
    let dims = usize::from(meta.identity.dims);
    let nowhere = |distance| Ok((everything(meta)?, distance));
    if order.sk_flags & pg_sys::SK_ISNULL as i32 != 0 {
        return nowhere(Distance::Null);
    }
    let options = ScanOptions {
        probes: guc::probes(),
        target_recall: guc::target_recall() as f32,
        max_tuples: guc::max_scan_tuples().into(),
    };
    // SAFETY: the operator is strict and takes a sealvec, so a non-null argument is one.
    let value = unsafe { SealedValue::new(order.sk_argument) };
    value.with_vector(|vector| {
        if vector.len() != dims {
            return Err(crate::datatype::errors::different_dims(dims, vector.len()));
        }
        if meta.identity.metric == Metric::Cosine && vector.iter().all(|element| *element == 0.0) {
            return nowhere(Distance::NotANumber);
        }
        Ok((Scan::new(meta, vector, options).map_err(index_error)?, Distance::Measured))
    })?
}

/// A scan that gives every row: whatever the query is, all lists are as good.
fn everything(meta: &Meta) -> Result<Scan, SqlError> {
    let mut anywhere = vec![0.0; meta.identity.dims.into()];
    anywhere[0] = 1.0; // zero has no direction, which cosine needs
    let options = ScanOptions { probes: 0, target_recall: 1.0, max_tuples: 0 };
    Scan::new(meta, &anywhere, options).map_err(index_error)
}

impl Running {
    /// The next row, and those passed by because they do not open.
    fn next(&mut self, store: &RelationStore) -> Result<(Option<Hit>, Unopened), SqlError> {
        self.lease.renew()?; // what a writer's key fills the session with is not for this scan
        let mut session = self.session.using();
        if !session.is_open() {
            let meta = ivf::read_meta(store).map_err(index_error)?;
            session.open(store, &meta, Right::Read)?;
        }
        let (cache, mut keys) = session.keyed();
        let hit = self.scan.next(store, cache, &mut keys).map_err(index_error)?;
        Ok((hit, cache.take_unopened()))
    }

    /// Hands `hit` to the executor.
    unsafe fn emit(&self, scan: pg_sys::IndexScanDesc, hit: Hit) {
        let distance = match self.distance {
            Distance::Measured => self.sql_distance(hit),
            Distance::NotANumber | Distance::Null => f64::NAN,
        };
        // SAFETY: ambeginscan made room for one distance; float8 is passed by value on 64-bit machines.
        unsafe {
            (*scan).xs_heaptid = row::item_pointer(hit.tid);
            (*scan).xs_recheck = false;
            (*scan).xs_recheckorderby = self.distance == Distance::Measured && !hit.exact;
            *(*scan).xs_orderbyvals = distance.into_datum().expect("a float8 is never null");
            *(*scan).xs_orderbynulls = self.distance == Distance::Null;
        }
    }

    /// The distance that the operator would return, or a lower bound of it if the index keeps a rounded vector.
    fn sql_distance(&self, hit: Hit) -> f64 {
        let score = f64::from(hit.score);
        let distance = match self.identity.metric {
            Metric::L2 => score.max(0.0).sqrt(),
            Metric::Cosine => score / 2.0,
            Metric::InnerProduct => score,
        };
        match self.identity.metric {
            _ if hit.exact => distance,
            // Not cut at zero: where the true distance is zero the operator may return a hair less.
            Metric::Cosine => distance - COSINE_SLACK,
            Metric::L2 | Metric::InnerProduct => distance - SLACK * distance.abs(),
        }
    }
}

/// `IsMVCCSnapshot`, which is a macro.
unsafe fn is_mvcc(snapshot: pg_sys::Snapshot) -> bool {
    use pg_sys::SnapshotType::{SNAPSHOT_HISTORIC_MVCC, SNAPSHOT_MVCC};
    // SAFETY: null or a snapshot of the executor.
    unsafe { snapshot.as_ref() }.is_some_and(|s| matches!(s.snapshot_type, SNAPSHOT_MVCC | SNAPSHOT_HISTORIC_MVCC))
}

/// `pgstat_count_index_scan`, which is a macro: `pg_stat_user_indexes.idx_scan`.
unsafe fn count_scan(scan: pg_sys::IndexScanDesc) {
    // SAFETY: the index is open; its statistics entry is null, or ours until the transaction ends.
    unsafe {
        let relation = &mut *(*scan).indexRelation;
        if relation.pgstat_info.is_null() && relation.pgstat_enabled {
            pg_sys::pgstat_assoc_relation(relation);
        }
        if let Some(entry) = relation.pgstat_info.as_mut() {
            #[cfg(feature = "pg15")]
            {
                entry.t_counts.t_numscans += 1;
            }
            #[cfg(not(feature = "pg15"))]
            {
                entry.counts.numscans += 1;
            }
        }
        #[cfg(feature = "pg18")]
        if let Some(instrument) = (*scan).instrument.as_mut() {
            instrument.nsearches += 1;
        }
    }
}
