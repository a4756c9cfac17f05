//! Rows that one statement of ours inserts into one index: taken together, they cost a few records of WAL, and one merge.
//!
//! Only for a statement in which nothing of a user's runs, which might ask the index for these rows, or bring it others.

use std::cell::RefCell;
use std::collections::HashSet;

use pgrx::pg_sys;
use sealvec_core::format::Tid;
use sealvec_core::ivf::insert::insert_many;

use super::insert::merge_tail;
use super::open::Writable;
use super::session::session;
use super::{index_error, shape, unopened};
use crate::error::SqlError;
use crate::keys::Right;
use crate::storage::RelationStore;

unsafe extern "C-unwind" {
    /// storage/predicate.h, which pgrx does not bind: an ERROR if a serializable transaction has read what changes now.
    fn CheckForSerializableConflictIn(relation: pg_sys::Relation, tid: pg_sys::ItemPointer, block: pg_sys::BlockNumber);
}

/// What `aminsert` was given for the index.
struct Taken {
    index: pg_sys::Oid,
    rows: HashSet<Tid>,
}

thread_local! {
    static TAKEN: RefCell<Option<Taken>> = const { RefCell::new(None) };
}

/// Ends the taking, whatever happens; a statement around this one takes again.
struct Taking(Option<Taken>);

impl Taking {
    fn begin(index: pg_sys::Oid) -> Self {
        Self(TAKEN.replace(Some(Taken { index, rows: HashSet::new() })))
    }

    fn end(self) -> Taken {
        TAKEN.take().expect("whoever begins inside ends inside")
    }
}

impl Drop for Taking {
    fn drop(&mut self) {
        TAKEN.set(self.0.take());
    }
}

/// Keeps a row for later, if it is one of those; false if it is to be inserted now.
pub fn take(index: pg_sys::Oid, tid: Tid) -> bool {
    TAKEN.with_borrow_mut(|taken| {
        let Some(taken) = taken.as_mut().filter(|taken| taken.index == index) else { return false };
        taken.rows.insert(tid);
        true
    })
}

/// Runs a statement, and then inserts the rows that it brought to `index`: those of the TIDs that it returns, with the
/// vectors that it sealed for them. Others gave way to a concurrent insert, and their TIDs may be somebody else's by now.
pub fn together<'v>(
    index: pg_sys::Oid,
    statement: impl FnOnce() -> Result<Vec<(Tid, &'v [f32])>, SqlError>,
) -> Result<(), SqlError> {
    let taking = Taking::begin(index);
    let mut rows = statement()?;
    let taken = taking.end();
    rows.retain(|(tid, _)| taken.rows.contains(tid));
    if rows.is_empty() { Ok(()) } else { insert(index, &rows) }
}

fn insert(index: pg_sys::Oid, rows: &[(Tid, &[f32])]) -> Result<(), SqlError> {
    let index = Writable::new(index);
    // SAFETY: the index is open for writing until `index` is dropped.
    let (store, meta) = unsafe {
        let store = RelationStore::new(index.relation());
        let meta = shape::meta(index.relation(), &store)?;
        (store, meta)
    };
    let session = session(meta.identity.index);
    let mut session = session.using();
    session.open(&store, &meta, Right::Write)?;
    let (cache, mut keys) = session.keyed();
    let tail = insert_many(&store, cache, keys.index, rows).map_err(index_error)?;
    // Postgres has asked before it called `aminsert`, and a serializable reader may have come since then: one who came
    // before this moment is found here, one who comes later finds the rows.
    // SAFETY: the index is open; an ERROR becomes a panic before it meets a frame of ours.
    unsafe {
        pg_sys::ffi::pg_guard_ffi_boundary(|| {
            CheckForSerializableConflictIn(index.relation(), std::ptr::null_mut(), pg_sys::InvalidBlockNumber);
        });
    }
    let unopened = merge_tail(&store, cache, &mut keys, tail)?;
    // SAFETY: as above.
    unsafe { unopened::warn(index.relation(), &unopened) };
    Ok(())
}
