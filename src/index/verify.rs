//! `sealvec.verify_index`: opens everything in an index and compares it with the heap.
//!
//! A row of the heap that the snapshot sees, has a vector and satisfies the index's predicate must be in the
//! index, once, with that vector. What the index has beyond that belongs to rows that are dead, or
//! not yet visible. The snapshot is older than the look at the index, and VACUUM is kept away meanwhile, so a
//! heap row can't have come into the snapshot after its slot was looked for, nor given its place to another.
//!
//! A row of the heap whose value does not open says nothing of the index: each is reported by a WARNING of its own,
//! and the others are compared all the same.

use std::collections::HashMap;
use std::ffi::c_void;

use pgrx::PgSqlErrorCode::*;
use pgrx::pg_sys;
use pgrx::prelude::*;
use sealvec_core::format::Tid;
use sealvec_core::format::meta::Identity;
use sealvec_core::ivf::{ColumnKeys, Unopened, check};
use zeroize::Zeroizing;

use super::open::OpenIndex;
use super::row::{self, SealedValue};
use super::session::{column_keys, session};
use super::{index_error, shape, unopened};
use crate::error::{OrRaise, SqlError};
use crate::keys::{Lease, Right};
use crate::tell::warning;

/// Checks an index; returns how many rows of the heap were compared.
#[pg_extern(sql = false)]
fn sealed_ivf_verify(index: pg_sys::Oid) -> i64 {
    // SAFETY: raises or does nothing. Checking first undoes what a crash left, and that writes.
    unsafe { pg_sys::PreventCommandDuringRecovery(c"sealvec.verify_index()".as_ptr()) }
    let open = OpenIndex::new(index, pg_sys::ShareUpdateExclusiveLock).or_raise();
    let _owner = AsOwner::new(open.heap);
    let snapshot = Snapshot::new(&open).or_raise();
    let fingerprints = fingerprints(&open).or_raise();
    // SAFETY: both relations are open under a lock that keeps VACUUM away.
    unsafe { compare(&open, &snapshot, fingerprints) }.or_raise()
}

/// What the index holds of each heap row.
type Fingerprints = HashMap<Tid, u64>;

/// Checks the index itself, and takes a fingerprint of each live row on the way.
fn fingerprints(open: &OpenIndex) -> Result<Fingerprints, SqlError> {
    let store = open.store();
    let meta = open.meta()?;
    let session = session(meta.identity.index);
    let mut session = session.using();
    session.open(&store, &meta, Right::Read)?;
    let (cache, mut keys) = session.keyed();
    let mut fingerprints = Fingerprints::new();
    let mut lease = Lease::new(meta.identity.ring, Right::Read);
    check::check(&store, cache, &mut keys, &mut |tid, values| {
        lease.renew().or_raise();
        fingerprints.insert(tid, fingerprint(values));
        Ok(())
    })
    .map_err(index_error)?;
    cache.take_unopened(); // the heap has them, too, unless they are dead
    Ok(fingerprints)
}

/// 64 bits of a vector's elements: this finds damage, not malice, which the tags have excluded.
fn fingerprint(values: &[f32]) -> u64 {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    for value in values {
        hasher.write_u32((value + 0.0).to_bits()); // no negative zero, which a sum may lose
    }
    hasher.finish()
}

/// What the heap scan hands from row to row.
struct Comparing {
    identity: Identity,
    keys: ColumnKeys,
    lease: Lease,
    values: Zeroizing<Vec<f32>>,
    unopened: Unopened,
    fingerprints: Fingerprints,
    rows: i64,
    index: String,
}

/// Looks every row of the heap up.
unsafe fn compare(open: &OpenIndex, snapshot: &Snapshot, fingerprints: Fingerprints) -> Result<i64, SqlError> {
    let identity = open.meta()?.identity;
    let mut comparing = Comparing {
        identity,
        keys: column_keys(identity.ring, Right::Read)?,
        lease: Lease::new(identity.ring, Right::Read),
        values: Zeroizing::new(vec![0.0; identity.dims.into()]),
        unopened: Unopened::default(),
        fingerprints,
        rows: 0,
        index: open.name(),
    };
    // SAFETY: both relations are open. Concurrent = rows that the snapshot sees, as amcheck asks for them;
    // the scan is ended by the call.
    unsafe {
        let scan = pg_sys::table_beginscan_strat(open.heap, snapshot.0, 0, std::ptr::null_mut(), true, true);
        let info = pg_sys::BuildIndexInfo(open.index);
        (*info).ii_Concurrent = true;
        let state = (&raw mut comparing).cast();
        pg_sys::table_index_build_scan(open.heap, open.index, info, true, false, Some(compare_row), state, scan);
    }
    // SAFETY: the table is open.
    let table = unsafe { shape::name(open.heap) };
    comparing.unopened.tids().for_each(|tid| unopened::warn_of(&table, tid));
    if comparing.unopened.has_more() {
        warning!("more rows of table \"{table}\" do not open");
    }
    Ok(comparing.rows)
}

/// One row of the heap.
#[pg_guard]
unsafe extern "C-unwind" fn compare_row(
    _index: pg_sys::Relation,
    tid: pg_sys::ItemPointer,
    values: *mut pg_sys::Datum,
    isnull: *mut bool,
    _alive: bool,
    state: *mut c_void,
) {
    // SAFETY: called by the heap scan of `compare` with one value, its null flag and `compare`'s state.
    unsafe {
        if !*isnull {
            let comparing = &mut *state.cast::<Comparing>();
            comparing.look_up(row::tid(tid), &SealedValue::new(*values)).or_raise();
        }
    }
}

impl Comparing {
    fn look_up(&mut self, tid: Tid, value: &SealedValue) -> Result<(), SqlError> {
        self.lease.renew()?;
        if value.check(&self.identity).is_err() || !self.keys.open(value.bytes(), &mut self.values) {
            self.unopened.add(tid);
            return Ok(());
        }
        let Some(forms) = check::index_forms(&self.identity, &self.values) else { return Ok(()) }; // the metric can't index it
        match self.fingerprints.get(&tid) {
            None => Err(self.fault(tid, "has no entry in the index")),
            Some(found) if forms.iter().any(|form| fingerprint(form) == *found) => {
                self.rows += 1;
                Ok(())
            }
            Some(_) => Err(self.fault(tid, "has another vector in the index")),
        }
    }

    fn fault(&self, tid: Tid, what: &str) -> SqlError {
        SqlError::new(ERRCODE_INDEX_CORRUPTED, format!("index \"{}\" does not agree with its table", self.index))
            .detail(format!("The row at ({},{}) {what}.", tid.block, tid.offset))
            .hint("REINDEX builds the index anew from the table.")
    }
}

/// A registered MVCC snapshot.
struct Snapshot(pg_sys::Snapshot);

impl Snapshot {
    fn new(open: &OpenIndex) -> Result<Self, SqlError> {
        // SAFETY: inside a transaction; registered, so it stays while rows are compared.
        let snapshot = Self(unsafe { pg_sys::RegisterSnapshot(pg_sys::GetTransactionSnapshot()) });
        // SAFETY: the index is open, so its pg_index row is there.
        let too_old = unsafe {
            let index = &*open.index;
            pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32
                && (*index.rd_index).indcheckxmin
                && !pg_sys::TransactionIdPrecedes(
                    pg_sys::HeapTupleHeaderGetXmin((*index.rd_indextuple).t_data),
                    (*snapshot.0).xmin,
                )
        };
        if too_old {
            return Err(SqlError::new(
                ERRCODE_T_R_SERIALIZATION_FAILURE,
                format!("index \"{}\" is newer than this transaction's snapshot", open.name()),
            )
            .hint("Run sealvec.verify_index() in a transaction that began after the index was made."));
        }
        Ok(snapshot)
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: registered by `new`; an ERROR that unwinds leaves it to the resource owner.
            unsafe { pg_sys::UnregisterSnapshot(self.0) }
        }
    }
}

/// The table's owner, as whom index expressions run, whoever asked: they are the owner's code.
struct AsOwner {
    user: pg_sys::Oid,
    context: i32,
    nest_level: i32,
}

impl AsOwner {
    fn new(heap: pg_sys::Relation) -> Self {
        let (mut user, mut context) = (pg_sys::InvalidOid, 0);
        // SAFETY: the table is open; transaction abort undoes this after an ERROR.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
            let restricted = context | pg_sys::SECURITY_RESTRICTED_OPERATION as i32;
            pg_sys::SetUserIdAndSecContext((*(*heap).rd_rel).relowner, restricted);
            Self { user, context, nest_level: pg_sys::NewGUCNestLevel() }
        }
    }
}

impl Drop for AsOwner {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: what was in force before `new`.
            unsafe {
                pg_sys::AtEOXact_GUC(false, self.nest_level);
                pg_sys::SetUserIdAndSecContext(self.user, self.context);
            }
        }
    }
}
