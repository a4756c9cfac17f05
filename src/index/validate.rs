//! `amvalidate`: is an operator class what the index takes it for?

use std::ffi::CStr;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::opclass::{self, METRIC_FUNCTION, ORDERING};

/// Checks one operator class; what is wrong with it goes to the client as INFO, as the core methods do.
///
/// Strategy numbers above 1 and support functions above 1 can't exist: CREATE OPERATOR CLASS refuses them.
#[pg_guard]
pub unsafe extern "C-unwind" fn amvalidate(opclass: pg_sys::Oid) -> bool {
    // SAFETY: an operator class of this access method, as the caller has checked; catalog look-ups only.
    let faults = unsafe { faults(opclass) };
    for fault in &faults {
        // SAFETY: as above; the description is palloc'ed and NUL-terminated.
        let class =
            unsafe { CStr::from_ptr(pg_sys::getObjectDescriptionOids(pg_sys::OperatorClassRelationId, opclass)) };
        pgrx::info!("{} {fault}", class.to_string_lossy());
    }
    faults.is_empty()
}

unsafe fn faults(opclass: pg_sys::Oid) -> Vec<&'static str> {
    let mut faults = Vec::new();
    // SAFETY: catalog look-ups with OIDs that the catalog gave; each tells "none" by InvalidOid.
    unsafe {
        let family = pg_sys::get_opclass_family(opclass);
        let input = pg_sys::get_opclass_input_type(opclass);
        let float_order = pg_sys::get_opclass_family(pg_sys::FLOAT8_BTREE_OPS_OID);

        let operator = pg_sys::get_opfamily_member(family, input, input, ORDERING);
        if operator == pg_sys::InvalidOid {
            faults.push("has no ordering operator (strategy 1)");
        } else if pg_sys::get_op_opfamily_sortfamily(operator, family) != float_order {
            faults.push("must have its operator FOR ORDER BY float_ops");
        } else if pg_sys::get_op_rettype(operator) != pg_sys::FLOAT8OID {
            faults.push("has an ordering operator that does not return double precision");
        }

        let function = pg_sys::get_opfamily_proc(family, input, input, METRIC_FUNCTION as i16);
        if function == pg_sys::InvalidOid {
            faults.push("has no support function 1, which names its distance");
        } else if pg_sys::get_func_nargs(function) != 0 || pg_sys::get_func_rettype(function) != pg_sys::INT4OID {
            faults.push("must have a support function 1 without arguments that returns integer");
        } else {
            let number = pg_sys::OidFunctionCall0Coll(function, pg_sys::InvalidOid).value() as i32;
            if opclass::metric_by_number(number).is_none() {
                faults.push("names a distance that sealed_ivf does not know");
            }
        }
    }
    faults
}
