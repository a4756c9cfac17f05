//! The transport type `sealvec.kek`, whose output is a mask, so that no parameter in a log, no EXPLAIN and no dump shows a
//! KEK; and the one place where a key that a client shows is read, sealed or plain. The type's input is bytea's own, as
//! `sql/05_kek.sql` declares it.

use std::ffi::CString;

use pgrx::prelude::*;
use sealvec_core::keys::{Kek, UserToken};
use sealvec_core::transport::Argument;
use sealvec_kms::ClientProvider;

use crate::error::SqlError;
use crate::transport;

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

/// The KEK that a client shows as `argument` of a call about the ring or index `name`: sealed to this server, or the 32
/// bytes themselves.
///
/// # Errors
/// SV001 and 28P01 for a sealed one ([`transport::open`]), 55000 for a plain one that is not to come so
/// ([`transport::check_plain`]), 22023 for what is no key.
pub fn shown(bytes: &[u8], argument: Argument, name: &str) -> Result<Kek, SqlError> {
    read(bytes, argument, name, |key| Ok(ClientProvider::kek(key)?))
}

/// The token that a user shows as `argument` of a call about the ring or index `name`. `None` for text that is no token.
///
/// # Errors
/// As [`shown`].
pub fn shown_token(bytes: &[u8], argument: Argument, name: &str) -> Result<Option<UserToken>, SqlError> {
    read(bytes, argument, name, |token| Ok(std::str::from_utf8(token).ok().and_then(|text| UserToken::read(text).ok())))
}

fn read<R>(
    bytes: &[u8],
    argument: Argument,
    name: &str,
    parse: impl FnOnce(&[u8]) -> Result<R, SqlError>,
) -> Result<R, SqlError> {
    match transport::open(bytes, argument, name)? {
        Some(opened) => parse(&opened),
        None => {
            transport::check_plain()?;
            parse(bytes)
        }
    }
}
