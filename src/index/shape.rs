//! What the catalog says of an index: dimensions and ring of its column, distance, precision, lists.

use std::ffi::CStr;

use pgrx::PgSqlErrorCode::*;
use pgrx::pg_sys;
use sealvec_core::Error;
use sealvec_core::format::meta::{Identity, META_BLOCK, Meta};
use sealvec_core::format::typmod::Typmod;
use sealvec_core::ivf;
use sealvec_core::keys::Uuid;

use super::options::Options;
use super::{index_error, opclass};
use crate::error::SqlError;
use crate::storage::RelationStore;

/// The name of a relation, for messages.
///
/// # Safety
/// `relation` is open.
pub unsafe fn name(relation: pg_sys::Relation) -> String {
    // SAFETY: relname is a NUL-terminated NameData.
    unsafe { CStr::from_ptr((*(*relation).rd_rel).relname.data.as_ptr()) }.to_string_lossy().into_owned()
}

/// The meta page of an index, if it agrees with what the catalog says of the index.
///
/// What the page says in clear is checked against its sealed part when there is a key; whoever has none would go by it.
///
/// # Errors
/// `XX002` where dimensions, ring or distance are others.
///
/// # Safety
/// `index` is an open `sealed_ivf` index, and `store` its pages.
pub unsafe fn meta(index: pg_sys::Relation, store: &RelationStore) -> Result<Meta, SqlError> {
    let meta = ivf::read_meta(store).map_err(index_error)?;
    let Identity { dims, ring, metric, .. } = meta.identity;
    // SAFETY: the caller's duty.
    let (declared, declared_metric) = unsafe { (Typmod::decode(typmod(index)), opclass::metric(index)?) };
    // An index whose column lost its modifier has nothing to agree with. Reloptions may have changed since it was built.
    if declared.is_some_and(|declared| declared != Typmod { dims, ring }) || metric != declared_metric {
        let what = "the meta page does not agree with the definition of the index";
        return Err(Error::Corrupt { block: META_BLOCK, what }.into());
    }
    Ok(meta)
}

unsafe fn typmod(index: pg_sys::Relation) -> i32 {
    let (mut oid, mut typmod, mut collation) = (pg_sys::InvalidOid, -1, pg_sys::InvalidOid);
    // SAFETY: the caller's open index has at least one attribute, for a column or an expression.
    unsafe { pg_sys::get_atttypetypmodcoll((*index).rd_id, 1, &mut oid, &mut typmod, &mut collation) };
    if typmod < 0 {
        // A domain has it, and the attribute none; any other type leaves -1.
        // SAFETY: a look-up of the type of an existing attribute.
        unsafe { pg_sys::getBaseTypeAndTypmod(oid, &mut typmod) };
    }
    typmod
}

/// A fresh identity for a build of `index`, drawn anew each time.
///
/// # Safety
/// `index` is an open `sealed_ivf` index.
pub unsafe fn new_identity(index: pg_sys::Relation) -> Result<Identity, SqlError> {
    // SAFETY: the caller's duty.
    let (typmod, metric, options) = unsafe { (typmod(index), opclass::metric(index)?, Options::of(index)) };
    let Typmod { dims, ring } = Typmod::decode(typmod).ok_or_else(|| {
        SqlError::new(
            ERRCODE_INVALID_OBJECT_DEFINITION,
            "the indexed column or expression does not have dimensions and a key ring",
        )
        .detail("An index seals with the key ring of what it indexes, which the type modifier names.")
        .hint("Declare the column as sealvec(dims, ring). coalesce(), CASE, an attribute or an element of such columns keep that; a function does if it returns a domain over it.")
    })?;
    let index = Uuid::random()?;
    Ok(Identity { index, ring, dims, metric, precision: options.precision, lists: options.lists })
}
