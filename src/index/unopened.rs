//! Rows whose values do not open: left out as NULLs are, and the user is told once.

use pgrx::PgSqlErrorCode::*;
use pgrx::pg_sys;
use pgrx::prelude::*;
use sealvec_core::format::Tid;
use sealvec_core::ivf::Unopened;

use super::shape;
use crate::error::SqlError;
use crate::tell::tell;

/// Tells the user of `unopened`, if there are any, in one WARNING: how many, the first, and what to do.
///
/// # Safety
/// `index` is open.
pub unsafe fn warn(index: pg_sys::Relation, unopened: &Unopened) {
    let Some(first) = unopened.first() else { return };
    // SAFETY: the caller's duty.
    let name = unsafe { shape::name(index) };
    let rows = match unopened.len() {
        1 => format!("one row, ({},{}),", first.block, first.offset),
        rows => {
            let more = if unopened.has_more() { "more than " } else { "" };
            format!("{more}{rows} rows, the first ({},{}),", first.block, first.offset)
        }
    };
    report(
        format!("index \"{name}\" leaves out {rows} whose values do not open under the column's key ring"),
        "A role that may INSERT can store what was never sealed. sealvec.verify_index() lists the rows: correct or delete \
         them by ctid. Values sealed by a newer data key open after sealvec.import_ring(); then run sealvec.train().",
    );
}

/// One such row, for `sealvec.verify_index()`.
pub fn warn_of(table: &str, tid: Tid) {
    report(
        format!("row ({},{}) of table \"{table}\" does not open", tid.block, tid.offset),
        "Correct or delete it by ctid, or import the newer key ring that sealed it with sealvec.import_ring().",
    );
}

fn report(message: String, hint: &'static str) {
    tell(PgLogLevel::WARNING, &SqlError::new(ERRCODE_DATA_CORRUPTED, message).hint(hint));
}
