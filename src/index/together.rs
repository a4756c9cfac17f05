//! Rows that one statement of ours inserts into one index: taken together, they cost a few records of WAL, and one merge.
//!
//! Only for a statement whose rows nobody asks the index for before it is over: no trigger runs in it.

use std::cell::RefCell;
use std::collections::HashSet;

use pgrx::pg_sys;
use sealvec_core::format::Tid;
use sealvec_core::ivf::insert::insert_many;
use sealvec_core::ivf::merge::{Effort, merge, will_cluster};
use zeroize::Zeroizing;

use super::open::Writable;
use super::session::session;
use super::{index_error, shape, unopened, work};
use crate::error::SqlError;
use crate::storage::RelationStore;

/// What `aminsert` was given for the index.
struct Taken {
    index: pg_sys::Oid,
    rows: Vec<(Tid, Zeroizing<Vec<f32>>)>,
}

thread_local! {
    static TAKEN: RefCell<Option<Taken>> = const { RefCell::new(None) };
}

/// Ends the taking, whatever happens.
struct End;

impl Drop for End {
    fn drop(&mut self) {
        TAKEN.set(None);
    }
}

/// Keeps a row for later, if it is one of those; false if it is to be inserted now.
pub fn take(index: pg_sys::Oid, tid: Tid, values: &[f32]) -> bool {
    TAKEN.with_borrow_mut(|taken| {
        let Some(taken) = taken.as_mut().filter(|taken| taken.index == index) else { return false };
        taken.rows.push((tid, Zeroizing::new(values.to_vec())));
        true
    })
}

/// Runs a statement, and then inserts the rows that it brought to `index`: those of the TIDs that it returns. Others gave
/// way to a concurrent insert, and their TIDs may be somebody else's by now.
pub fn together(
    index: pg_sys::Oid,
    statement: impl FnOnce() -> Result<HashSet<Tid>, SqlError>,
) -> Result<(), SqlError> {
    let end = End;
    TAKEN.set(Some(Taken { index, rows: Vec::new() }));
    let stored = statement()?;
    let taken = TAKEN.take().expect("nobody else ends it");
    drop(end);
    let rows = taken.rows.iter().filter(|(tid, _)| stored.contains(tid));
    let rows: Vec<(Tid, &[f32])> = rows.map(|(tid, row)| (*tid, row.as_slice())).collect();
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
    session.open(&store, &meta)?;
    let (cache, mut keys) = session.keyed();
    let tail = insert_many(&store, cache, keys.index, rows).map_err(index_error)?;
    if tail >= sealvec_core::ivf::TAIL_ROWS {
        let heavy = will_cluster(&store).map_err(index_error)?;
        work::on_the_way(heavy, |work| merge(&store, cache, &mut keys, Effort::Step, work)).map_err(index_error)?;
    }
    let unopened = cache.take_unopened();
    // SAFETY: as above.
    unsafe { unopened::warn(index.relation(), &unopened) };
    Ok(())
}
