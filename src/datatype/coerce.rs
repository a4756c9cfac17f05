//! The length coercion, which seals a session value for its column, and the casts from arrays.

use pgrx::pg_sys;
use pgrx::prelude::*;
use sealvec_core::format::typmod::Typmod;
use sealvec_core::format::value::{ValueHeader, ValueKind};

use super::varlena::{ArrayArg, SealedDatum, Value};
use super::{array, errors, opened, repeated, seal, typmod};
use crate::error::{OrRaise, SqlError};
use crate::keys;

/// The cast `sealvec → sealvec(dims, ring)`.
///
/// A value of the column's own ring passes as it is, with no key: restore and logical apply need none.
#[pg_extern(sql = false)]
fn sealvec_coerce(value: Value<'_>, typmod: i32, _explicit: bool) -> SealedDatum {
    let column = typmod::decode(typmod).or_raise();
    let header = opened::header(value.bytes()).or_raise();
    match for_column(&header, value.bytes(), column).or_raise() {
        Some(resealed) => SealedDatum::new(&resealed),
        None => value.into(),
    }
}

/// The casts to `sealvec` from arrays of `real`, `double precision`, `numeric` and integers: an array says what it holds.
#[pg_extern(sql = false)]
fn sealvec_from_array(
    elements: ArrayArg<'_>,
    typmod: i32,
    _explicit: bool,
    call: pg_sys::FunctionCallInfo,
) -> SealedDatum {
    match typmod::decode(typmod).or_raise() {
        None => repeated::seal(&elements, call).or_raise(),
        column => SealedDatum::new(&array::seal_array(column, &elements).or_raise()),
    }
}

/// A sealed value that came in as text or binary, made fit for the column if there is one.
pub fn accept(header: &ValueHeader, sealed: Vec<u8>, column: Option<Typmod>) -> Result<Vec<u8>, SqlError> {
    Ok(for_column(header, &sealed, column)?.unwrap_or(sealed))
}

/// The value sealed anew for `column`, or `None` if it may pass as it is.
fn for_column(header: &ValueHeader, sealed: &[u8], column: Option<Typmod>) -> Result<Option<Vec<u8>>, SqlError> {
    let Some(column) = column else { return Ok(None) };
    if header.dims() != usize::from(column.dims) {
        return Err(errors::wrong_dims(column.dims.into(), header.dims()));
    }
    match header.kind() {
        ValueKind::Column if header.ring() == column.ring => check_not_retired(header).map(|()| None),
        ValueKind::Column => {
            Err(errors::other_ring(&typmod::ring_name(column.ring), &typmod::ring_name(header.ring())))
        }
        ValueKind::Session => {
            opened::with_bytes(sealed, |elements| seal::for_column(column, elements)).flatten().map(Some)
        }
    }
}

/// A value whose DEK is gone could never be opened, and one whose DEK is about to go must not slip in while nobody counts.
/// Needs no key. Where the catalog does not know the ring yet, as in a restore, nothing is known to be gone.
fn check_not_retired(header: &ValueHeader) -> Result<(), SqlError> {
    match keys::info(header.ring()) {
        Ok(ring) if ring.has_retired(header.dek_version()) => Err(keys::retired(&ring.name, header.dek_version())),
        _ => Ok(()),
    }
}
