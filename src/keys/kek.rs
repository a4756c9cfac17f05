//! Output of the transport type `sealvec.kek`: a mask, so that no log, plan or dump shows a KEK.
//! Input is bytea's own, as `sql/05_kek.sql` declares it.

use std::ffi::CString;

use pgrx::prelude::*;

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
