//! Rows of the catalogs of schema `sealvec`, read and written without SQL.
//!
//! Direct scans need no search path, no rights of the caller and no planner: a DEK may be asked for deep
//! inside an index callback. Columns are addressed by number, so the files of `sql/` that make them may only append.

use std::ffi::{CStr, CString};
use std::ptr;

use pgrx::PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT;
use pgrx::{FromDatum, IntoDatum, pg_sys};

use crate::error::SqlError;

/// One column's value in a row to be written; NULL as `None`.
pub type Value = Option<pg_sys::Datum>;

/// A table of schema `sealvec`, open and locked; closed on drop, its lock kept to the end of the transaction.
pub struct Table(pg_sys::Relation);

impl Table {
    /// Opens `sealvec.<name>` under `lock`; for writing, if that is more than a reader takes.
    pub fn open(name: &CStr, lock: u32) -> Result<Self, SqlError> {
        let oid = oid_of(name)?;
        if lock > pg_sys::AccessShareLock {
            prevent_read_only();
        }
        // SAFETY: `oid` names a table; table_open locks it or reports an error.
        Ok(Self(unsafe { pg_sys::table_open(oid, lock as pg_sys::LOCKMODE) }))
    }

    /// The table with this OID, for a reader that neither waits for its lock nor minds that it is gone. Not by name:
    /// the catalogs that know names may have to be waited for.
    pub fn open_at_once(oid: pg_sys::Oid) -> Option<Self> {
        let mode = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
        // SAFETY: any OID may be locked, and try_table_open answers null for one that names nothing any more.
        unsafe {
            if !pg_sys::ConditionalLockRelationOid(oid, mode) {
                return None;
            }
            let table = pg_sys::try_table_open(oid, pg_sys::NoLock as pg_sys::LOCKMODE);
            if table.is_null() {
                pg_sys::UnlockRelationOid(oid, mode);
                return None;
            }
            Some(Self(table))
        }
    }

    /// Its OID.
    pub fn oid(&self) -> pg_sys::Oid {
        // SAFETY: an open relation has a valid relcache entry.
        unsafe { (*self.0).rd_id }
    }

    /// Calls `visit` for each row whose columns equal `keys`, as now committed or written by this transaction.
    /// `index`, one on exactly those columns, is used where given; `visit` returns false to stop.
    pub fn scan(
        &self,
        index: Option<&CStr>,
        keys: &[Key],
        mut visit: impl FnMut(&Row) -> bool,
    ) -> Result<(), SqlError> {
        let index = index.map(oid_of).transpose()?;
        // SAFETY: all-zero is a valid ScanKeyData before ScanKeyInit fills it.
        let mut scan_keys: Vec<pg_sys::ScanKeyData> = keys.iter().map(|_| unsafe { std::mem::zeroed() }).collect();
        for (scan_key, key) in scan_keys.iter_mut().zip(keys) {
            // SAFETY: `procedure` is the equality function of the column's type and `value` a Datum of that type.
            unsafe {
                pg_sys::ScanKeyInit(
                    scan_key,
                    key.column as pg_sys::AttrNumber,
                    pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber,
                    key.procedure.into(),
                    key.value,
                );
            }
        }
        // SAFETY: the relation is open; a null snapshot means a fresh catalog snapshot; the keys outlive the scan;
        // each tuple is used only until the next systable_getnext. An ERROR on the way ends the scan at abort.
        unsafe {
            let scan = pg_sys::systable_beginscan(
                self.0,
                index.unwrap_or(pg_sys::InvalidOid),
                index.is_some(),
                ptr::null_mut(),
                scan_keys.len() as i32,
                scan_keys.as_mut_ptr(),
            );
            loop {
                let tuple = pg_sys::systable_getnext(scan);
                if tuple.is_null() || !visit(&Row::deform(tuple, (*self.0).rd_att)) {
                    break;
                }
            }
            pg_sys::systable_endscan(scan);
        }
        Ok(())
    }

    /// Adds a row. Unique indexes are enforced, check constraints are the caller's.
    pub fn insert(&self, row: &[Value]) {
        let (mut values, mut nulls) = split(row);
        // SAFETY: one Datum of the column's type for each column of the open relation.
        unsafe {
            assert_eq!(row.len(), (*(*self.0).rd_att).natts as usize, "one value for each column");
            let tuple = pg_sys::heap_form_tuple((*self.0).rd_att, values.as_mut_ptr(), nulls.as_mut_ptr());
            pg_sys::CatalogTupleInsert(self.0, tuple);
        }
        self.changed();
    }

    /// Replaces the columns of `row` that `changes` names by number.
    pub fn update(&self, row: &Row, changes: &[(usize, Value)]) {
        let mut values = row.values.clone();
        let mut nulls = row.nulls.clone();
        for (column, value) in changes {
            values[column - 1] = value.unwrap_or(pg_sys::Datum::null());
            nulls[column - 1] = value.is_none();
        }
        // SAFETY: the values are the row's own or of the column's type; `row.tuple` is a tuple of this relation and
        // still pinned, because update is called from within its scan.
        unsafe {
            let tuple = pg_sys::heap_form_tuple((*self.0).rd_att, values.as_mut_ptr(), nulls.as_mut_ptr());
            (*tuple).t_self = (*row.tuple).t_self;
            pg_sys::CatalogTupleUpdate(self.0, &mut (*tuple).t_self, tuple);
        }
        self.changed();
    }

    /// Deletes `row`.
    pub fn delete(&self, row: &Row) {
        // SAFETY: `row.tuple` is a tuple of this relation, still pinned by its scan.
        unsafe { pg_sys::CatalogTupleDelete(self.0, &mut (*row.tuple).t_self) };
        self.changed();
    }

    /// Makes the change visible to this transaction's next command, and at commit known to every backend.
    fn changed(&self) {
        // SAFETY: plain calls inside a transaction that just wrote to the relation.
        unsafe {
            pg_sys::CacheInvalidateRelcacheByRelid(self.oid());
            pg_sys::CommandCounterIncrement();
        }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: opened in `open`, closed once; when an ERROR is under way, abort closes it instead.
            unsafe { pg_sys::table_close(self.0, pg_sys::NoLock as pg_sys::LOCKMODE) };
        }
    }
}

/// A column that must equal a value.
pub struct Key {
    column: usize,
    procedure: u32,
    value: pg_sys::Datum,
}

impl Key {
    /// An int4 column.
    pub fn int4(column: usize, value: u32) -> Self {
        Self { column, procedure: pg_sys::F_INT4EQ, value: (value as i32).into() }
    }

    /// A text column of collation "C".
    pub fn text(column: usize, value: &str) -> Self {
        Self { column, procedure: pg_sys::F_TEXTEQ, value: value.into_datum().expect("a text is a Datum") }
    }

    /// A bytea column.
    pub fn bytes(column: usize, value: &[u8]) -> Self {
        Self { column, procedure: pg_sys::F_BYTEAEQ, value: value.into_datum().expect("bytes are a Datum") }
    }

    /// A name column.
    pub fn name(column: usize, value: &Name) -> Self {
        Self { column, procedure: pg_sys::F_NAMEEQ, value: value.datum() }
    }
}

/// A row found by [`Table::scan`], valid inside the visit.
pub struct Row {
    tuple: pg_sys::HeapTuple,
    values: Vec<pg_sys::Datum>,
    nulls: Vec<bool>,
}

impl Row {
    /// # Safety
    /// `tuple` is a valid tuple of a relation with descriptor `descriptor`.
    unsafe fn deform(tuple: pg_sys::HeapTuple, descriptor: pg_sys::TupleDesc) -> Self {
        // SAFETY: the caller's promise; both arrays have one place for each column.
        unsafe {
            let columns = (*descriptor).natts as usize;
            let mut values = vec![pg_sys::Datum::null(); columns];
            let mut nulls = vec![true; columns];
            pg_sys::heap_deform_tuple(tuple, descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
            Self { tuple, values, nulls }
        }
    }

    /// Column `column` (from 1) as `T`; `None` for NULL.
    pub fn get<T: FromDatum>(&self, column: usize) -> Option<T> {
        // SAFETY: the caller asks for the type that sql/10_key_ring.sql or sql/70_collections.sql gives the column.
        unsafe { T::from_datum(self.values[column - 1], self.nulls[column - 1]) }
    }

    /// Whether this transaction wrote it, and so may yet take it back.
    pub fn is_ours(&self) -> bool {
        // SAFETY: a valid tuple of a table; its header is read as HeapTupleHeaderGetXmin does.
        unsafe {
            let header = &*(*self.tuple).t_data;
            let frozen = (pg_sys::HEAP_XMIN_COMMITTED | pg_sys::HEAP_XMIN_INVALID) as u16;
            header.t_infomask & frozen != frozen
                && pg_sys::TransactionIdIsCurrentTransactionId(header.t_choice.t_heap.t_xmin)
        }
    }

    /// A column of type name.
    pub fn name(&self, column: usize) -> String {
        // SAFETY: a NOT NULL column of type name holds 64 bytes with a terminating zero.
        let name = unsafe { CStr::from_ptr(self.values[column - 1].cast_mut_ptr()) };
        name.to_string_lossy().into_owned()
    }
}

/// A `name` Datum: 64 bytes, zero-padded.
pub struct Name(Box<[u8; pg_sys::NAMEDATALEN as usize]>);

impl Name {
    /// The name, or `None` when it is empty, too long, or holds a zero byte.
    pub fn new(name: &str) -> Option<Self> {
        let mut bytes = Box::new([0; pg_sys::NAMEDATALEN as usize]);
        if name.is_empty() || name.len() >= bytes.len() || name.contains('\0') {
            return None;
        }
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        Some(Self(bytes))
    }

    /// The Datum; good while `self` lives.
    pub fn datum(&self) -> pg_sys::Datum {
        self.0.as_ptr().into()
    }
}

/// The Datum of anything pgrx can convert, for [`Table::insert`].
pub fn value<T: IntoDatum>(value: T) -> Value {
    value.into_datum()
}

/// Reports an error in a read-only transaction and on a standby. Writes below SQL have to ask what the executor asks
/// for SQL.
pub fn prevent_read_only() {
    // SAFETY: a C string for the message.
    unsafe { pg_sys::PreventCommandIfReadOnly(c"a change of sealvec's catalogs".as_ptr()) };
}

/// OID of a table or index of schema `sealvec`.
pub fn oid_of(name: &CStr) -> Result<pg_sys::Oid, SqlError> {
    // SAFETY: both look-ups take C strings and return InvalidOid for what does not exist.
    let oid = unsafe {
        let schema = pg_sys::get_namespace_oid(c"sealvec".as_ptr(), true);
        pg_sys::get_relname_relid(name.as_ptr(), schema)
    };
    if oid == pg_sys::InvalidOid {
        return Err(SqlError::new(ERRCODE_UNDEFINED_OBJECT, "extension \"sealvec\" is not installed in this database")
            .detail(format!("There is no sealvec.{}.", name.to_string_lossy()))
            .hint("CREATE EXTENSION sealvec."));
    }
    Ok(oid)
}

fn split(row: &[Value]) -> (Vec<pg_sys::Datum>, Vec<bool>) {
    row.iter().map(|value| (value.unwrap_or(pg_sys::Datum::null()), value.is_none())).unzip()
}

/// A role by name and OID. Catalogs hold both: a name comes back with another role, and an OID means nothing where
/// a dump is restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// Its OID, if a role had the name when it was written.
    pub oid: Option<pg_sys::Oid>,
}

impl Role {
    /// The role of that name, if there is one.
    pub fn named(name: &str) -> Option<Self> {
        let text = CString::new(name).ok()?;
        // SAFETY: a C string; a missing role gives InvalidOid.
        let oid = unsafe { pg_sys::get_role_oid(text.as_ptr(), true) };
        (oid != pg_sys::InvalidOid).then(|| Self { name: name.to_owned(), oid: Some(oid) })
    }

    /// The role whose rights count now; one that was dropped meanwhile has no name.
    pub fn current() -> Option<Self> {
        // SAFETY: with `noerr` a missing role gives null, else a palloc'd C string.
        unsafe {
            let oid = pg_sys::GetUserId();
            let name = pg_sys::GetUserNameFromId(oid, true);
            (!name.is_null())
                .then(|| Self { name: CStr::from_ptr(name).to_string_lossy().into_owned(), oid: Some(oid) })
        }
    }

    /// Its OID, if the role of this name is still that one.
    pub fn valid(&self) -> Option<pg_sys::Oid> {
        self.oid.filter(|_| Self::named(&self.name).as_ref() == Some(self))
    }
}
