//! `aminsert`: one sealed record and one slot; every 128 rows, a step of the merge.

use pgrx::pg_sys;
use pgrx::prelude::*;
use sealvec_core::ivf::insert::{Row, insert};
use sealvec_core::ivf::merge::{Effort, is_heavy, merge};
use sealvec_core::ivf::{self, Cache, Keys, TAIL_ROWS, Unopened};
use zeroize::Zeroizing;

use super::row::{self, SealedValue};
use super::session::{Session, session};
use super::together::take;
use super::{index_error, shape, unopened, work};
use crate::error::{OrRaise, SqlError};
use crate::keys::Right;
use crate::storage::RelationStore;

/// What one statement resolves at its first insert: `IndexInfo.ii_AmCache`.
struct Inserter {
    identity: sealvec_core::format::meta::Identity,
    session: Session,
    /// Whether the ring opened. Asked once a statement: a key agent that does not answer must not be
    /// asked once a row.
    keyed: bool,
}

/// Inserts one row, keyed if the ring opens, else its column value as it is.
#[pg_guard]
#[allow(clippy::too_many_arguments)] // Postgres's signature
pub unsafe extern "C-unwind" fn aminsert(
    index: pg_sys::Relation,
    values: *mut pg_sys::Datum,
    isnull: *mut bool,
    heap_tid: pg_sys::ItemPointer,
    _heap: pg_sys::Relation,
    _check_unique: pg_sys::IndexUniqueCheck::Type,
    index_unchanged: bool,
    info: *mut pg_sys::IndexInfo,
) -> bool {
    // SAFETY: called by Postgres with one value, its null flag and an index open for writing.
    unsafe {
        if *isnull {
            return false; // a row without a vector is near nothing
        }
        let store = RelationStore::new(index);
        let value = SealedValue::new(*values);
        let inserter = inserter(index, &store, info).or_raise();
        let tid = row::tid(heap_tid);
        // A value that a statement brings may be refused. One that is in the table already must stop neither a concurrent
        // build, which `ii_Concurrent` tells and which has told the user, nor an UPDATE of other columns.
        if ((*info).ii_Concurrent || index_unchanged) && !inserter.opens(&store, &value).or_raise() {
            return false;
        }
        let unopened = insert_row((*index).rd_id, &store, inserter, &value, tid).or_raise();
        unopened::warn(index, &unopened);
    }
    false // not unique, nothing to re-check
}

/// The statement's inserter, made at its first row.
unsafe fn inserter<'a>(
    index: pg_sys::Relation,
    store: &RelationStore,
    info: *mut pg_sys::IndexInfo,
) -> Result<&'a mut Inserter, SqlError> {
    // SAFETY: ii_AmCache is null or what this function put there, and lives as long as ii_Context.
    unsafe {
        if (*info).ii_AmCache.is_null() {
            let meta = shape::meta(index, store)?;
            let session = session(meta.identity.index);
            let keyed = session.using().try_open(store, &meta, Right::Write)?;
            let inserter = Inserter { identity: meta.identity, session, keyed };
            let context = &mut pgrx::PgMemoryContexts::For((*info).ii_Context);
            (*info).ii_AmCache = context.leak_and_drop_on_delete(inserter).cast();
        }
        Ok(&mut *(*info).ii_AmCache.cast())
    }
}

impl Inserter {
    /// Whether the value opens, as far as anybody can tell here.
    fn opens(&self, store: &RelationStore, value: &SealedValue) -> Result<bool, SqlError> {
        if value.check(&self.identity).is_err() {
            return Ok(false);
        }
        let mut session = self.session.using();
        if self.keyed && !session.is_open() {
            let meta = ivf::read_meta(store).map_err(index_error)?;
            if !session.try_open(store, &meta, Right::Write)? {
                return Ok(true); // dropped since the last row
            }
        }
        if !self.keyed {
            return Ok(true);
        }
        let mut values = Zeroizing::new(vec![0.0; self.identity.dims.into()]);
        Ok(session.keyed().1.values.open(value.bytes(), &mut values))
    }
}

/// Inserts one row; rows that a merge on the way could not open.
fn insert_row(
    index: pg_sys::Oid,
    store: &RelationStore,
    inserter: &mut Inserter,
    value: &SealedValue,
    tid: sealvec_core::format::Tid,
) -> Result<Unopened, SqlError> {
    value.check(&inserter.identity)?;
    let mut session = inserter.session.using();
    if inserter.keyed && !session.is_open() {
        // Dropped since the last row; a ring that opens by itself opens again, another goes on without.
        let meta = ivf::read_meta(store).map_err(index_error)?;
        inserter.keyed = session.try_open(store, &meta, Right::Write)?;
    }
    if !inserter.keyed {
        insert(store, session.cache(), Row::Sealed { tid, value: value.bytes() }).map_err(index_error)?;
        return Ok(Unopened::default());
    }

    if take(index, tid) {
        return Ok(Unopened::default());
    }
    let (cache, mut keys) = session.keyed();
    let inserted = value
        .with_vector_to_store(|vector| insert(store, cache, Row::Plain { tid, values: vector, keys: keys.index }))?;
    let inserted = inserted.map_err(index_error)?;
    merge_tail(store, cache, &mut keys, inserted.tail)
}

/// An inserter's share of the merge, if a tail of so many slots is due for one; rows that it could not open.
pub fn merge_tail(
    store: &RelationStore,
    cache: &mut Cache,
    keys: &mut Keys<'_>,
    tail: u64,
) -> Result<Unopened, SqlError> {
    if tail >= TAIL_ROWS {
        let heavy = is_heavy(store).map_err(index_error)?;
        work::on_the_way(heavy, |work| merge(store, cache, keys, Effort::Step, work)).map_err(index_error)?;
    }
    Ok(cache.take_unopened())
}
