//! Names of what a collection is made of, as SQL writes them.

use std::cell::Cell;
use std::ffi::{CStr, CString};

use pgrx::PgSqlErrorCode::*;
use pgrx::pg_sys;
use sealvec_core::keys::Uuid;

use super::registry::{Collection, Metric};
use super::spi::Spi;
use crate::error::SqlError;
use crate::keys::table::Name;

/// Schema of the tables.
pub const DATA_SCHEMA: &CStr = c"sealvec_data";

/// The table, qualified and quoted: a UUID needs quotes and holds none.
pub fn table(uuid: Uuid) -> String {
    format!("sealvec_data.\"{uuid}\"")
}

/// The index on vectors, not qualified.
pub fn index(uuid: Uuid) -> String {
    format!("{uuid}_ivf")
}

/// OID of the table; `None` if it is gone, as between a restore of the catalogs and one of the data.
pub fn table_oid(uuid: Uuid) -> Option<pg_sys::Oid> {
    relation(&uuid.to_string())
}

/// Keeps the table until the transaction ends; false if it is not there.
pub fn hold_table(uuid: Uuid) -> bool {
    let Some(table) = table_oid(uuid) else { return false };
    // SAFETY: any OID may be locked; waits, or reports an error, and hears of invalidations once it has the lock.
    unsafe { pg_sys::LockRelationOid(table, pg_sys::AccessShareLock as pg_sys::LOCKMODE) };
    table_oid(uuid) == Some(table)
}

/// Whether the table has triggers, foreign keys' included, or had them since it was last vacuumed.
pub fn has_triggers(uuid: Uuid) -> bool {
    class(uuid).is_some_and(|class| class.relhastriggers)
}

/// Whether a statement on the table runs nothing of its owner's: no trigger, no CHECK, no policy, no rule.
pub fn is_plain(uuid: Uuid) -> bool {
    class(uuid).is_some_and(|class| {
        !class.relhastriggers && class.relchecks == 0 && !class.relrowsecurity && !class.relhasrules
    })
}

/// What pg_class says of the table.
fn class(uuid: Uuid) -> Option<pg_sys::FormData_pg_class> {
    let table = table_oid(uuid)?;
    // SAFETY: a look-up by OID; the form lies in the tuple until it is released, and is copied.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::RELOID as i32, table.into());
        if tuple.is_null() {
            return None;
        }
        let class = *pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_class>();
        pg_sys::ReleaseSysCache(tuple);
        Some(class)
    }
}

/// OID of the index on vectors; `None` before there is one. Another relation that took the name is none.
pub fn index_oid(uuid: Uuid) -> Option<pg_sys::Oid> {
    // SAFETY: a look-up by OID; InvalidOid for what is no index.
    relation(&index(uuid)).filter(|index| Some(unsafe { pg_sys::IndexGetRelation(*index, true) }) == table_oid(uuid))
}

fn relation(name: &str) -> Option<pg_sys::Oid> {
    let name = CString::new(name).expect("a UUID has no zero byte");
    // SAFETY: look-ups that return InvalidOid for what does not exist.
    let oid =
        unsafe { pg_sys::get_relname_relid(name.as_ptr(), pg_sys::get_namespace_oid(DATA_SCHEMA.as_ptr(), true)) };
    (oid != pg_sys::InvalidOid).then_some(oid)
}

/// What the extension put into the schema that CREATE EXTENSION named.
pub struct Extension {
    /// The schema, quoted.
    pub schema: String,
}

thread_local! {
    /// OID of the type as last found: the extension may be dropped and made again.
    static SEALVEC: Cell<Option<pg_sys::Oid>> = const { Cell::new(None) };
}

const FIND: &str = "SELECT t.oid FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_type t \
    ON t.typnamespace OPERATOR(pg_catalog.=) e.extnamespace AND t.typname OPERATOR(pg_catalog.=) 'sealvec' \
    WHERE e.extname OPERATOR(pg_catalog.=) $1";

/// OID of the type `sealvec`.
pub fn sealvec_oid(spi: &mut Spi) -> Result<pg_sys::Oid, SqlError> {
    let known = SEALVEC.get().filter(|oid| namespace_of(*oid).is_some());
    if let Some(oid) = known {
        return Ok(oid);
    }
    let name = Name::new("sealvec").expect("a name");
    let found = spi.one(FIND, (pg_sys::NAMEOID, name.datum()))?;
    SEALVEC.set(found);
    found.ok_or_else(|| {
        SqlError::new(ERRCODE_UNDEFINED_OBJECT, "extension \"sealvec\" is not installed in this database")
    })
}

/// Schema of a type; `None` if there is no such type.
fn namespace_of(oid: pg_sys::Oid) -> Option<pg_sys::Oid> {
    // SAFETY: a look-up by OID; the form lies in the tuple until it is released.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::TYPEOID as i32, oid.into());
        if tuple.is_null() {
            return None;
        }
        let namespace = (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_type>()).typnamespace;
        pg_sys::ReleaseSysCache(tuple);
        Some(namespace)
    }
}

impl Extension {
    /// As it is now.
    pub fn look(spi: &mut Spi) -> Result<Self, SqlError> {
        let sealvec = sealvec_oid(spi)?;
        let schema = namespace_of(sealvec).unwrap_or(pg_sys::InvalidOid);
        // SAFETY: a look-up by OID; a name that is found is a palloc'd C string.
        let schema = unsafe {
            let name = pg_sys::get_namespace_name(schema);
            if name.is_null() {
                return Err(SqlError::new(ERRCODE_INVALID_SCHEMA_NAME, "the schema of extension \"sealvec\" is gone"));
            }
            CStr::from_ptr(pg_sys::quote_identifier(name)).to_string_lossy().into_owned()
        };
        Ok(Self { schema })
    }

    /// The operator of a collection's distance, as SQL calls one of a schema.
    pub fn operator(&self, collection: &Collection) -> String {
        let operator = match collection.metric {
            Metric::Euclidean | Metric::SquaredEuclidean => "<->",
            Metric::Cosine => "<=>",
        };
        format!("OPERATOR({}.{operator})", self.schema)
    }

    /// The operator class.
    pub fn opclass(&self, metric: Metric) -> String {
        let class = match metric {
            Metric::Euclidean | Metric::SquaredEuclidean => "sealvec_l2_ops",
            Metric::Cosine => "sealvec_cosine_ops",
        };
        format!("{}.{class}", self.schema)
    }
}
