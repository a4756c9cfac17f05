//! What the catalog says of an index: dimensions and ring of its column, distance, precision, lists.

use std::ffi::CStr;

use pgrx::PgSqlErrorCode::*;
use pgrx::pg_sys;
use sealvec_core::format::meta::Identity;
use sealvec_core::format::typmod::Typmod;
use sealvec_core::keys::Uuid;

use super::opclass;
use super::options::Options;
use crate::error::SqlError;

/// The name of a relation, for messages.
///
/// # Safety
/// `relation` is open.
pub unsafe fn name(relation: pg_sys::Relation) -> String {
    // SAFETY: relname is a NUL-terminated NameData.
    unsafe { CStr::from_ptr((*(*relation).rd_rel).relname.data.as_ptr()) }.to_string_lossy().into_owned()
}

/// A fresh identity for a build of `index`, drawn anew each time.
///
/// # Safety
/// `index` is an open `sealed_ivf` index.
pub unsafe fn new_identity(index: pg_sys::Relation) -> Result<Identity, SqlError> {
    // SAFETY: the caller's duty; an index has at least one attribute, for a column or an expression.
    let (typmod, metric, options) = unsafe {
        let (mut oid, mut typmod, mut collation) = (pg_sys::InvalidOid, -1, pg_sys::InvalidOid);
        pg_sys::get_atttypetypmodcoll((*index).rd_id, 1, &mut oid, &mut typmod, &mut collation);
        (typmod, opclass::metric(index)?, Options::of(index))
    };
    let Typmod { dims, ring } = Typmod::decode(typmod).ok_or_else(|| {
        SqlError::new(
            ERRCODE_INVALID_OBJECT_DEFINITION,
            "the indexed column or expression does not have dimensions and a key ring",
        )
        .detail("An index seals with the key ring of what it indexes, which the type modifier names.")
        .hint("Declare the column as sealvec(dims, ring), or cast the expression: ((expression)::sealvec(384, notes)).")
    })?;
    let index = Uuid::random()?;
    Ok(Identity { index, ring, dims, metric, precision: options.precision, lists: options.lists })
}
