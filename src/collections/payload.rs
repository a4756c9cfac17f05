//! The transport type `sealvec.payload` inside: text and arrays of it. Its input is text's own, its output masks.

use std::ffi::c_int;
use std::ptr;

use pgrx::PgSqlErrorCode::*;
use pgrx::pg_sys;
use serde_json::Value as JsonValue;

use crate::datatype::varlena::ArrayArg;
use crate::error::SqlError;

/// Bytes of an argument as text.
///
/// # Errors
/// 22021 in a database whose encoding is not UTF-8, where it may not be.
pub fn text_of(bytes: &[u8]) -> Result<&str, SqlError> {
    std::str::from_utf8(bytes).map_err(|_| {
        SqlError::new(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE, "expected text in UTF-8")
            .hint("Collections need a database whose encoding is UTF8.")
    })
}

/// An argument as parsed JSON; `None` for none.
///
/// # Errors
/// 22P02, which quotes nothing.
pub fn json_of(bytes: Option<&[u8]>, what: &str) -> Result<Option<JsonValue>, SqlError> {
    let Some(bytes) = bytes else { return Ok(None) };
    let parsed = serde_json::from_str(text_of(bytes)?);
    parsed.map(Some).map_err(|_| SqlError::new(ERRCODE_INVALID_TEXT_REPRESENTATION, format!("{what} is no JSON")))
}

/// The elements of an argument of type `sealvec.payload[]` or `text[]`, NULL ones as `None`.
pub fn texts_of<'a>(array: &ArrayArg<'a>) -> Result<Vec<Option<&'a str>>, SqlError> {
    let array = array.as_ptr();
    let (mut data, mut nulls, mut count) = (ptr::null_mut(), ptr::null_mut(), 0 as c_int);
    // SAFETY: a detoasted array of a type of variable length, by reference, aligned as int4, as both types are; each
    // Datum points into it, or to what detoasting made of it, and lives as long as the call.
    unsafe {
        pg_sys::deconstruct_array(array, (*array).elemtype, -1, false, b'i' as _, &mut data, &mut nulls, &mut count);
        (0..count as usize)
            .map(|i| match *nulls.add(i) {
                true => Ok(None),
                false => {
                    let element = pg_sys::pg_detoast_datum_packed((*data.add(i)).cast_mut_ptr());
                    let (start, len) = (pgrx::vardata_any(element).cast::<u8>(), pgrx::varsize_any_exhdr(element));
                    text_of(std::slice::from_raw_parts(start, len)).map(Some)
                }
            })
            .collect()
    }
}

/// As [`texts_of`], of an argument whose elements may not be NULL.
pub fn ids_of<'a>(ids: &ArrayArg<'a>) -> Result<Vec<&'a str>, SqlError> {
    let ids = texts_of(ids)?.into_iter().collect::<Option<Vec<_>>>();
    ids.ok_or_else(|| SqlError::new(ERRCODE_NULL_VALUE_NOT_ALLOWED, "an id must not be null"))
}
