//! Values sealed anew under their ring's newest DEK, wherever in a Datum they lie; and which DEK each is sealed under,
//! which needs no key.
//!
//! A column may hold values themselves, or arrays and rows of them. A value is as long as the one that takes its place, so
//! those inside of something are changed where they lie. They are found by their headers: 64 bits of the twelve bytes are
//! fixed by the ring's number, so that no ciphertext looks like one.

use pgrx::PgSqlErrorCode::*;
use pgrx::pg_sys;
use sealvec_core::format::typmod::Typmod;
use sealvec_core::format::value::{HEADER_LEN, ValueHeader, ValueKind};

use super::opened;
use super::seal;
use super::varlena::SealedDatum;
use crate::error::SqlError;
use crate::keys;

/// How values lie in a column.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lies {
    /// The column is of the type, or of a domain over it.
    Itself,
    /// The column is of an array, or of a row.
    Inside,
}

/// What became of a Datum.
pub enum Resealed {
    /// Nothing in it is older than its ring's newest DEK.
    Current,
    /// The one to store in its place, and how many values in it could not be opened and stay as they are.
    Anew(pg_sys::Datum, usize),
    /// So many values are older, and none of them opens.
    Unopened(usize),
}

/// Headers of column values in a Datum; of one that is a value itself only its front is read.
///
/// # Safety
/// `datum` is a non-null varlena of a type that holds values as `lies` says, and outlives the call.
pub unsafe fn headers(datum: pg_sys::Datum, lies: Lies, mut found: impl FnMut(ValueHeader)) {
    match lies {
        Lies::Itself => {
            // SAFETY: the caller's duty; a slice of a toasted value is what it takes to read its front.
            let front = unsafe { slice(datum, HEADER_LEN) };
            // What is no value opens nowhere, with or without this DEK.
            if let Ok(header) = ValueHeader::decode_front(front)
                && header.kind() == ValueKind::Column
            {
                found(header);
            }
        }
        // SAFETY: the caller's duty.
        Lies::Inside => unsafe { places(whole(datum)).for_each(|(_, header)| found(header)) },
    }
}

/// The first bytes of a varlena's payload, or all if it has fewer.
///
/// # Safety
/// `datum` is a non-null varlena; the result lives as long as it and the current memory context.
pub unsafe fn slice<'a>(datum: pg_sys::Datum, length: usize) -> &'a [u8] {
    // SAFETY: the caller's duty; a packed varlena has its payload at vardata_any, of varsize_any_exhdr bytes.
    unsafe {
        let mut varlena = datum.cast_mut_ptr::<pg_sys::varlena>();
        if pgrx::varlena::varatt_is_4b_c(varlena) || pgrx::varlena::varatt_is_1b_e(varlena) {
            varlena = pg_sys::pg_detoast_datum_slice(varlena, 0, length as i32);
        }
        let payload = std::slice::from_raw_parts(pgrx::vardata_any(varlena).cast(), pgrx::varsize_any_exhdr(varlena));
        &payload[..payload.len().min(length)]
    }
}

/// The whole payload of a varlena.
///
/// # Safety
/// As for [`slice`].
pub unsafe fn whole<'a>(datum: pg_sys::Datum) -> &'a [u8] {
    // SAFETY: the caller's duty, as in `slice`.
    unsafe {
        let varlena = pg_sys::pg_detoast_datum_packed(datum.cast_mut_ptr());
        std::slice::from_raw_parts(pgrx::vardata_any(varlena).cast(), pgrx::varsize_any_exhdr(varlena))
    }
}

/// Column values that lie somewhere in `bytes`, each with its header.
pub fn places(bytes: &[u8]) -> impl Iterator<Item = (usize, ValueHeader)> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        while let Some(front) = bytes.get(at..at + HEADER_LEN) {
            let here = at;
            at += 1;
            if let Ok(header) = ValueHeader::decode_front(front)
                && header.kind() == ValueKind::Column
                && bytes.len() >= here + header.value_len()
            {
                at = here + header.value_len();
                return Some((here, header));
            }
        }
        None
    })
}

/// Whether the value can be sealed under a newer DEK than its own. One of a ring that is gone, or of a DEK that is, can't.
pub fn is_old(header: &ValueHeader) -> bool {
    header.kind() == ValueKind::Column
        && keys::info(header.ring()).is_ok_and(|ring| {
            header.dek_version() < ring.dek_version && ring.versions.binary_search(&header.dek_version()).is_ok()
        })
}

/// The Datum with every old value in it sealed anew, in the current memory context. The rings must be open to this session.
///
/// # Errors
/// Those of [`keys::with_dek`]. That a value does not open although its key is here is no error: whoever may INSERT can
/// store what was never sealed.
///
/// # Safety
/// As for [`headers`].
pub unsafe fn reseal(datum: pg_sys::Datum, lies: Lies) -> Result<Resealed, SqlError> {
    match lies {
        Lies::Itself => {
            // SAFETY: the caller's duty.
            let value = unsafe { whole(datum) };
            Ok(match anew(value)? {
                Anew::Current => Resealed::Current,
                Anew::Unopened => Resealed::Unopened(1),
                Anew::Sealed(sealed) => Resealed::Anew(SealedDatum::new(&sealed).datum(), 0),
            })
        }
        Lies::Inside => {
            // SAFETY: the caller's duty; a copy that is ours, uncompressed and with a header of four bytes.
            let (copy, bytes) = unsafe {
                let copy = pg_sys::pg_detoast_datum_copy(datum.cast_mut_ptr());
                let payload = pgrx::vardata_any(copy).cast_mut().cast::<u8>();
                (copy, std::slice::from_raw_parts_mut(payload, pgrx::varsize_any_exhdr(copy)))
            };
            let (mut sealed, mut unopened) = (0, 0);
            let all: Vec<(usize, ValueHeader)> = places(bytes).filter(|(_, header)| is_old(header)).collect();
            for (at, header) in all {
                let place = &mut bytes[at..at + header.value_len()];
                match anew(place)? {
                    Anew::Current => {}
                    Anew::Unopened => unopened += 1,
                    Anew::Sealed(new) => {
                        place.copy_from_slice(&new);
                        sealed += 1;
                    }
                }
            }
            Ok(match (sealed, unopened) {
                (0, 0) => Resealed::Current,
                (0, unopened) => Resealed::Unopened(unopened),
                (_, unopened) => Resealed::Anew(pg_sys::Datum::from(copy), unopened),
            })
        }
    }
}

enum Anew {
    Current,
    Unopened,
    Sealed(Vec<u8>),
}

fn anew(value: &[u8]) -> Result<Anew, SqlError> {
    let Ok(header) = ValueHeader::decode(value) else { return Ok(Anew::Current) };
    if !is_old(&header) {
        return Ok(Anew::Current);
    }
    let column = Typmod { dims: header.dims() as u16, ring: header.ring() };
    match opened::with_bytes(value, |elements| seal::for_column(column, elements)).flatten() {
        Ok(sealed) => Ok(Anew::Sealed(sealed)),
        Err(error) if does_not_open(&error) => Ok(Anew::Unopened),
        Err(error) => Err(error),
    }
}

/// Whether the value is at fault, and not its key: a tag that fails, or an element that is no number.
pub fn does_not_open(error: &SqlError) -> bool {
    matches!(error.sqlstate, ERRCODE_DATA_CORRUPTED | ERRCODE_DATA_EXCEPTION | ERRCODE_INVALID_BINARY_REPRESENTATION)
}
