//! `index_info`, `describe_index`: the shape of a collection, without a key and with one.

use pgrx::PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE;
use pgrx::prelude::*;
use pgrx::{IntoDatum, pg_sys};

use super::call::{Call, Need, Shown, required};
use super::names;
use super::registry::{self, Collection};
use super::rows::{Rows, Value};
use crate::error::{OrRaise, SqlError};
use crate::index;

/// `index_info(name)`
#[pg_extern(sql = false)]
fn sealvec_index_info(name: Option<&str>, call: pg_sys::FunctionCallInfo) -> Option<i32> {
    (|| {
        let collection = registry::find(required(name, "name")?)?;
        if !may_see(&collection) {
            return Err(SqlError::new(
                ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("permission denied for index \"{}\"", collection.name),
            ));
        }
        // SAFETY: the call of this very function, which returns a set.
        let mut rows = unsafe { Rows::new(call)? };
        rows.push(|| shape(&collection))?;
        Ok(None)
    })()
    .or_raise()
}

/// `describe_index(name, …)`
#[pg_extern(sql = false)]
fn sealvec_describe_index(
    name: Option<&str>,
    index_key: Option<&[u8]>,
    user_id: Option<&[u8]>,
    user_token: Option<&[u8]>,
    call: pg_sys::FunctionCallInfo,
) -> Option<i32> {
    (|| {
        let shown = Shown { index_key, user_id, user_token };
        let opened = Call::open(name, &shown, Need::Either)?;
        let collection = &opened.collection;
        let lists = lists(collection)?;
        // SAFETY: the call of this very function, which returns a set.
        let mut rows = unsafe { Rows::new(call)? };
        rows.push(|| {
            let [a, b, c, d, e, f, g, h, i] = shape(collection);
            [a, b, c, d, e, f, g, h, i, (lists > 0).into_datum(), (lists.max(1) as i32).into_datum()]
        })?;
        Ok::<_, SqlError>(None)
    })()
    .or_raise()
}

fn shape(collection: &Collection) -> [Value; 9] {
    [
        collection.name.as_str().into_datum(),
        collection.dimension.map(|dimension| dimension as i32).into_datum(),
        collection.metric.name().into_datum(),
        collection.storage_precision.as_str().into_datum(),
        collection.embedding_model.as_deref().into_datum(),
        collection.kms_name.as_deref().into_datum(),
        collection.metadata_schema.as_deref().into_datum(),
        collection.bm25.0.into_datum(),
        collection.bm25.1.into_datum(),
    ]
}

/// Lists of a collection's index; 0 as long as it is searched without.
pub fn lists(collection: &Collection) -> Result<u32, SqlError> {
    names::index_oid(collection.uuid).map_or(Ok(0), index::lists)
}

/// Whether the current user has any right on a collection's table.
pub fn may_see(collection: &Collection) -> bool {
    let rights = pg_sys::ACL_SELECT | pg_sys::ACL_INSERT | pg_sys::ACL_UPDATE | pg_sys::ACL_DELETE;
    names::table_oid(collection.uuid).is_some_and(|table| {
        // SAFETY: a look-up by OIDs.
        let allowed = unsafe {
            pg_sys::pg_class_aclmask(table, pg_sys::GetUserId(), rights as _, pg_sys::AclMaskHow::ACLMASK_ANY)
        };
        allowed != 0
    })
}

/// Whether the current user has the rights of the owner of a collection's table; of one whose table is gone, of the
/// owner of its ring.
pub fn owns(collection: &Collection) -> bool {
    // SAFETY: look-ups by OIDs.
    unsafe {
        let user = pg_sys::GetUserId();
        match names::table_oid(collection.uuid) {
            #[cfg(feature = "pg15")]
            Some(table) => pg_sys::pg_class_ownercheck(table, user),
            #[cfg(not(feature = "pg15"))]
            Some(table) => pg_sys::object_ownercheck(pg_sys::RelationRelationId, table, user),
            None => pg_sys::superuser() || crate::keys::check_owner(collection.ring).is_ok(),
        }
    }
}
