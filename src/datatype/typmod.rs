//! The type modifier of `sealvec(dims, ring)`: in with the ring's name or number, out with its number.
//!
//! A number need not belong to a ring of this database yet, so a dump restores in any order; a name must. Either way
//! the ring is not dropped before the transaction ends, in which a column of this type may come to be.

use std::ffi::{CStr, CString};

use pgrx::PgSqlErrorCode::*;
use pgrx::prelude::*;
use sealvec_core::format::typmod::{DIMS_MAX, RING_MAX, Typmod};

use super::errors;
use crate::error::{OrRaise, SqlError};
use crate::keys;

const HOW_TO_WRITE: &str = "Write the number of dimensions and the key ring: sealvec(384, notes).";

/// `typmod_in`: reads `(384, notes)` or `(384, 12345)`.
#[pg_extern(sql = false)]
fn sealvec_typmod_in(modifiers: Array<'_, &CStr>) -> i32 {
    let modifiers: Result<Vec<&str>, _> = modifiers.iter().flatten().map(CStr::to_str).collect();
    let modifiers = modifiers.map_err(|_| invalid("a key ring's name must be valid UTF-8")).or_raise();
    read(&modifiers).or_raise().encode()
}

/// `typmod_out`: prints `(384,12345)`.
#[pg_extern(sql = false)]
fn sealvec_typmod_out(typmod: i32) -> CString {
    let text = match Typmod::decode(typmod) {
        Some(typmod) => format!("({},{})", typmod.dims, typmod.ring),
        None => String::new(),
    };
    CString::new(text).expect("digits and brackets hold no zero byte")
}

/// The typmod that a column or cast carries; `None` if it carries none.
pub fn decode(typmod: i32) -> Result<Option<Typmod>, SqlError> {
    match Typmod::decode(typmod) {
        None if typmod >= 0 => Err(SqlError::new(ERRCODE_INVALID_PARAMETER_VALUE, "invalid type modifier for sealvec")),
        typmod => Ok(typmod),
    }
}

/// How a ring is called in messages: by name if this database knows it.
pub fn ring_name(number: u32) -> String {
    match keys::ring_by_number(number) {
        Ok(ring) => format!("key ring \"{}\"", ring.name),
        Err(_) => format!("key ring number {number}"),
    }
}

fn invalid(message: &'static str) -> SqlError {
    SqlError::new(ERRCODE_INVALID_PARAMETER_VALUE, message)
        .detail("The vectors of a column have one number of dimensions and are sealed by one key ring.")
        .hint(HOW_TO_WRITE)
}

fn read(modifiers: &[&str]) -> Result<Typmod, SqlError> {
    let [dims, ring] = modifiers else {
        return Err(invalid("type sealvec takes dimensions and a key ring"));
    };
    let dims: i64 = dims.parse().map_err(|_| invalid("dimensions of type sealvec must be an integer"))?;
    if dims < 1 {
        return Err(invalid("dimensions of type sealvec must be at least 1"));
    }
    if dims > DIMS_MAX as i64 {
        return Err(errors::too_many());
    }
    let ring = if ring.bytes().all(|b| b.is_ascii_digit()) {
        let number = ring
            .parse()
            .ok()
            .filter(|number| (1..=RING_MAX).contains(number))
            .ok_or_else(|| invalid("a key ring number lies between 1 and 131071"))?;
        keys::hold_by_number(number)?;
        number
    } else {
        keys::hold_by_name(ring)?.number
    };
    Ok(Typmod::new(dims as usize, ring)?)
}
