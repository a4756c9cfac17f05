//! An index that a function was told by name, opened for those who may.

use pgrx::PgSqlErrorCode::*;
use pgrx::pg_sys;
use sealvec_core::format::meta::Meta;

use super::shape;
use crate::error::SqlError;
use crate::storage::RelationStore;

/// An index of ours and its table, open and locked. The locks stay to the end of the transaction.
pub struct OpenIndex {
    /// The table.
    pub heap: pg_sys::Relation,
    /// The index.
    pub index: pg_sys::Relation,
}

impl OpenIndex {
    /// Opens index `oid` and its table under `lock`, for the table's owner.
    pub fn new(oid: pg_sys::Oid, lock: u32) -> Result<Self, SqlError> {
        let lock = lock as pg_sys::LOCKMODE;
        // SAFETY: catalog look-ups by OID; each tells "none", or raises. The table is locked before the
        // index, as everybody does.
        unsafe {
            let kind = pg_sys::get_rel_relkind(oid) as u8;
            if kind == 0 {
                return Err(SqlError::new(
                    ERRCODE_UNDEFINED_TABLE,
                    format!("there is no relation with OID {}", oid.to_u32()),
                ));
            }
            if kind == pg_sys::RELKIND_PARTITIONED_INDEX {
                return Err(SqlError::new(ERRCODE_WRONG_OBJECT_TYPE, "a partitioned index has no pages of its own")
                    .hint("Name the index of one partition; pg_partition_tree() lists them."));
            }
            if kind != pg_sys::RELKIND_INDEX {
                return Err(not_ours());
            }
            // Before any lock: whoever may not have it must not make others wait for it.
            if access_method(oid) != pg_sys::get_index_am_oid(c"sealed_ivf".as_ptr(), false) {
                return Err(not_ours());
            }
            let table = pg_sys::IndexGetRelation(oid, false);
            check_owner(table)?;
            let heap = pg_sys::table_open(table, lock);
            let open = Self { heap, index: pg_sys::index_open(oid, lock) };
            check_owner(table)?; // it may have been given away before the lock was had
            if (*(*open.index).rd_rel).relpersistence == pg_sys::RELPERSISTENCE_TEMP as i8
                && !(*open.index).rd_islocaltemp
            {
                return Err(SqlError::new(
                    ERRCODE_FEATURE_NOT_SUPPORTED,
                    "cannot read a temporary index of another session",
                ));
            }
            Ok(open)
        }
    }

    /// Its pages.
    pub fn store(&self) -> RelationStore {
        // SAFETY: open as long as `self`, which the caller keeps.
        unsafe { RelationStore::new(self.index) }
    }

    /// Its meta page, which agrees with the catalog.
    pub fn meta(&self) -> Result<Meta, SqlError> {
        // SAFETY: the index is open.
        unsafe { shape::meta(self.index, &self.store()) }
    }

    /// Its name.
    pub fn name(&self) -> String {
        // SAFETY: the index is open.
        unsafe { shape::name(self.index) }
    }
}

impl Drop for OpenIndex {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: opened by `new`; an ERROR that unwinds leaves it to the resource owner.
            unsafe {
                pg_sys::index_close(self.index, pg_sys::NoLock as i32);
                pg_sys::table_close(self.heap, pg_sys::NoLock as i32);
            }
        }
    }
}

/// An index that a statement of this transaction wrote to, open for more.
pub struct Writable(pg_sys::Relation);

impl Writable {
    /// Opens index `oid`, whose table this transaction has locked.
    pub fn new(oid: pg_sys::Oid) -> Self {
        // SAFETY: an ERROR if there is no such index.
        Self(unsafe { pg_sys::index_open(oid, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE) })
    }

    /// The index, open as long as `self`.
    pub fn relation(&self) -> pg_sys::Relation {
        self.0
    }
}

impl Drop for Writable {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: opened by `new`; an ERROR that unwinds leaves it to the resource owner.
            unsafe { pg_sys::index_close(self.0, pg_sys::NoLock as i32) };
        }
    }
}

/// The access method of an index; invalid if it has just been dropped.
unsafe fn access_method(index: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: a look-up by OID; the form lies in the tuple until it is released.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::RELOID as i32, index.into());
        if tuple.is_null() {
            return pg_sys::InvalidOid;
        }
        let form = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_class>();
        let method = (*form).relam;
        pg_sys::ReleaseSysCache(tuple);
        method
    }
}

/// 42501 unless the current user owns the table.
unsafe fn check_owner(table: pg_sys::Oid) -> Result<(), SqlError> {
    // SAFETY: look-ups by OID; the name is a fresh copy, or null if the table is gone.
    unsafe {
        if owns(table) {
            return Ok(());
        }
        let name = pg_sys::get_rel_name(table);
        let name = if name.is_null() { "?".into() } else { std::ffi::CStr::from_ptr(name).to_string_lossy() };
        Err(SqlError::new(ERRCODE_INSUFFICIENT_PRIVILEGE, format!("must be owner of table {name}")))
    }
}

fn not_ours() -> SqlError {
    SqlError::new(ERRCODE_WRONG_OBJECT_TYPE, "expected an index of access method sealed_ivf")
        .detail("What was named is another index, a table, or a partitioned index, whose partitions have indexes of their own.")
        .hint("\\d shows a table's indexes and their access methods.")
}

/// Whether the current user owns a table; superusers own everything.
unsafe fn owns(table: pg_sys::Oid) -> bool {
    // SAFETY: look-ups by OID.
    unsafe {
        let user = pg_sys::GetUserId();
        #[cfg(feature = "pg15")]
        return pg_sys::pg_class_ownercheck(table, user);
        #[cfg(not(feature = "pg15"))]
        return pg_sys::object_ownercheck(pg_sys::RelationRelationId, table, user);
    }
}
