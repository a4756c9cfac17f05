//! The transport type `sealvec.kek`: its output is a mask, so that no parameter in a log, no EXPLAIN and no dump shows a
//! KEK. Input is bytea's own, as `sql/05_kek.sql` declares it.

use std::ffi::CString;

use pgrx::PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
use pgrx::prelude::*;
use sealvec_core::keys::Kek;
use sealvec_kms::ClientProvider;

use crate::error::SqlError;

const MASK: &str = "***";

/// Text output.
#[pg_extern(sql = false)]
fn sealvec_kek_out(_kek: &[u8]) -> CString {
    CString::new(MASK).expect("the mask holds no zero byte")
}

/// Binary output.
#[pg_extern(sql = false)]
fn sealvec_kek_send(_kek: &[u8]) -> &'static [u8] {
    MASK.as_bytes()
}

/// The KEK that a client shows: 32 bytes, and not while the server writes the trees that hold them into its log.
///
/// There a constant is printed byte by byte, whatever its type's output says. A custom plan makes a constant of a bound
/// parameter and was printed before this runs, so what is spared is the second time.
pub fn shown(kek: &[u8]) -> Result<Kek, SqlError> {
    // SAFETY: settings of this backend, which reads and writes them in one thread.
    let printed = unsafe { pg_sys::Debug_print_plan || pg_sys::Debug_print_parse || pg_sys::Debug_print_rewritten };
    if printed {
        return Err(SqlError::new(
            ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "no key is taken while the server logs the trees of statements",
        )
        .detail("debug_print_plan, debug_print_parse or debug_print_rewritten is on. They print keys as they are: this one may stand in the log already.")
        .hint("Switch them off, look for the key in the server's log, and change it if it is there: sealvec.rotate_kek()."));
    }
    Ok(ClientProvider::kek(kek)?)
}
