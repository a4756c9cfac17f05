//! Reads a vector from a Postgres array, straight into the room that is wiped.

use std::ffi::{CStr, c_int};
use std::ptr;

use pgrx::PgSqlErrorCode::*;
use pgrx::pg_sys;
use sealvec_core::format::text;
use sealvec_core::format::typmod::{DIMS_MAX, Typmod};
use zeroize::Zeroizing;

use super::varlena::ArrayArg;
use super::{errors, seal};
use crate::error::SqlError;

/// Seals the elements of `array` for the column if there is one, else for the session.
pub fn seal_array(typmod: Option<Typmod>, array: &ArrayArg<'_>) -> Result<Vec<u8>, SqlError> {
    if let Some(floats) = floats(array, 1) {
        return seal_floats(typmod, floats);
    }
    let elements = Elements::new(array)?;
    seal_elements(typmod, elements.count(), elements.iter())
}

/// The elements of one vector, or of several of equal length as rows of a two-dimensional array; and how many each has.
/// Wiped on drop.
pub fn rows(array: &ArrayArg<'_>) -> Result<(usize, Zeroizing<Vec<f32>>), SqlError> {
    if let Some(floats) = floats(array, 2) {
        check_finite(floats)?;
        // SAFETY: as in `floats`, which has found that there is one dimension at least.
        let dims = unsafe { *array.as_ptr().add(1).cast::<c_int>().add((*array.as_ptr()).ndim as usize - 1) };
        return Ok((dims as usize, Zeroizing::new(floats.to_vec())));
    }
    let elements = Elements::of_rows(array)?;
    let mut plain = Zeroizing::new(Vec::with_capacity(elements.count())); // never regrown: no copy is left behind
    for (ordinal, element) in (1..).zip(elements.iter()) {
        let element = element?;
        if !element.is_finite() {
            return Err(errors::not_finite(ordinal, if element.is_nan() { "NaN" } else { "infinity" }));
        }
        plain.push(element);
    }
    Ok((elements.dims, plain))
}

/// The elements of an array of `real` without NULLs and of at most so many dimensions, where they lie; `None` for any other,
/// which is read element by element.
fn floats<'a>(array: &'a ArrayArg<'_>, ndim_max: i32) -> Option<&'a [f32]> {
    let header = array.as_ptr();
    // SAFETY: the argument is a detoasted array: the header is there, behind it the length of each dimension and its lower
    // bound, and behind those, at the next multiple of eight, the elements, for no NULL says that there is no bitmap between.
    unsafe {
        let ndim = (*header).ndim;
        if (*header).elemtype != pg_sys::FLOAT4OID || (*header).dataoffset != 0 || !(1..=ndim_max).contains(&ndim) {
            return None;
        }
        let lengths = std::slice::from_raw_parts(header.add(1).cast::<c_int>(), ndim as usize);
        let count = lengths.iter().map(|length| *length as usize).product();
        let start = (size_of::<pg_sys::ArrayType>() + 2 * size_of::<c_int>() * ndim as usize).next_multiple_of(8);
        Some(std::slice::from_raw_parts(header.byte_add(start).cast::<f32>(), count))
    }
}

fn seal_floats(typmod: Option<Typmod>, floats: &[f32]) -> Result<Vec<u8>, SqlError> {
    if floats.is_empty() {
        return Err(errors::empty());
    }
    if floats.len() > DIMS_MAX {
        return Err(errors::too_many());
    }
    check_finite(floats)?;
    seal::with_room(floats.len(), |room| {
        room.copy_from_slice(floats);
        seal::seal(typmod, room)
    })
}

fn check_finite(floats: &[f32]) -> Result<(), SqlError> {
    // Without a branch in it, so that many are looked at in one go.
    if floats.iter().fold(true, |all, element| all & element.is_finite()) {
        return Ok(());
    }
    let place = floats.iter().position(|element| !element.is_finite()).expect("one is not");
    Err(errors::not_finite(place + 1, if floats[place].is_nan() { "NaN" } else { "infinity" }))
}

/// Seals `dims` elements, each of which may be refused with its place named.
pub fn seal_elements(
    typmod: Option<Typmod>,
    dims: usize,
    elements: impl Iterator<Item = Result<f32, SqlError>>,
) -> Result<Vec<u8>, SqlError> {
    if dims == 0 {
        return Err(errors::empty());
    }
    if dims > DIMS_MAX {
        return Err(errors::too_many());
    }
    seal::with_room(dims, |room| {
        let mut count = 0;
        for (ordinal, (place, element)) in (1..).zip(room.iter_mut().zip(elements)) {
            let element = element?;
            if !element.is_finite() {
                return Err(errors::not_finite(ordinal, if element.is_nan() { "NaN" } else { "infinity" }));
            }
            *place = element;
            count = ordinal;
        }
        assert_eq!(count, dims, "an array's header says how many elements follow");
        seal::seal(typmod, room)
    })
}

/// The elements of an array without NULLs, as Postgres holds them.
struct Elements {
    data: *const pg_sys::Datum,
    count: usize,
    /// Elements of a row; all of them in an array of one dimension.
    dims: usize,
    kind: pg_sys::Oid,
}

impl Elements {
    fn new(array: &ArrayArg<'_>) -> Result<Self, SqlError> {
        Self::read(array, 1)
    }

    fn of_rows(array: &ArrayArg<'_>) -> Result<Self, SqlError> {
        Self::read(array, 2)
    }

    fn read(array: &ArrayArg<'_>, ndim_max: i32) -> Result<Self, SqlError> {
        let array = array.array.as_ptr();
        // SAFETY: the argument is a detoasted array, so the header is there, and behind it the length of each dimension.
        let (ndim, kind, dims) = unsafe {
            let (ndim, lengths) = ((*array).ndim, array.add(1).cast::<c_int>());
            let dims = if ndim > 0 { *lengths.add(ndim as usize - 1) } else { 0 };
            (ndim, (*array).elemtype, dims as usize)
        };
        if ndim > ndim_max {
            return Err(errors::not_flat(ndim));
        }
        let (length, by_value, align) = match kind {
            pg_sys::INT2OID => (2, true, b's'),
            pg_sys::FLOAT4OID | pg_sys::INT4OID => (4, true, b'i'),
            pg_sys::FLOAT8OID | pg_sys::INT8OID => (8, true, b'd'),
            pg_sys::NUMERICOID => (-1, false, b'i'),
            _ => {
                return Err(SqlError::new(
                    ERRCODE_DATATYPE_MISMATCH,
                    "cannot make a sealvec from an array of this type",
                ));
            }
        };
        let (mut data, mut nulls, mut count) = (ptr::null_mut(), ptr::null_mut(), 0 as c_int);
        // SAFETY: length, passing and alignment are those of the array's element type.
        unsafe {
            pg_sys::deconstruct_array(array, kind, length, by_value, align as _, &mut data, &mut nulls, &mut count)
        };
        let elements = Self { data, count: count as usize, dims, kind };
        // SAFETY: deconstruct_array made `count` flags, for an empty array none.
        if (0..elements.count).any(|i| unsafe { *nulls.add(i) }) {
            return Err(errors::null_element());
        }
        Ok(elements)
    }

    fn count(&self) -> usize {
        self.count
    }

    fn iter(&self) -> impl Iterator<Item = Result<f32, SqlError>> {
        (0..self.count).map(|i| {
            // SAFETY: deconstruct_array made `count` Datums.
            let datum = unsafe { *self.data.add(i) };
            element(self.kind, datum, i + 1)
        })
    }
}

impl Drop for Elements {
    /// The Datums of all but `numeric` are the elements themselves: wiped, not left to the memory context.
    fn drop(&mut self) {
        // SAFETY: as in `iter`; nobody else holds the pointer.
        unsafe { ptr::write_bytes(self.data.cast_mut(), 0, self.count) };
        std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
    }
}

fn element(kind: pg_sys::Oid, datum: pg_sys::Datum, ordinal: usize) -> Result<f32, SqlError> {
    match kind {
        pg_sys::FLOAT4OID => Ok(f32::from_bits(datum.value() as u32)),
        pg_sys::INT2OID => Ok(datum.value() as i16 as f32),
        pg_sys::INT4OID => Ok(datum.value() as i32 as f32),
        pg_sys::INT8OID => Ok(datum.value() as i64 as f32),
        pg_sys::FLOAT8OID => {
            let wide = f64::from_bits(datum.value() as u64);
            let narrow = wide as f32;
            if wide.is_finite() && !narrow.is_finite() { Err(errors::out_of_range(ordinal)) } else { Ok(narrow) }
        }
        // By way of text: Postgres' own cast to real quotes the number when it is out of range.
        _ => unsafe {
            // SAFETY: the Datum is a numeric, and numeric_out returns a C string.
            let shown = pg_sys::OidOutputFunctionCall(pg_sys::Oid::from(pg_sys::F_NUMERIC_OUT), datum);
            let number = text::number(CStr::from_ptr(shown).to_bytes(), ordinal).map_err(errors::text);
            ptr::write_bytes(shown, 0, libc::strlen(shown));
            pg_sys::pfree(shown.cast());
            number
        },
    }
}
