//! The transport type `sealvec.vectors`: one vector or many on their way to a function.
//!
//! Sealed under the session's key as soon as it is read, and opened inside the function that takes it, so that no
//! Datum holds an element; its output masks. Inside: elements of a row as u32, 0 if only the collection knows, then
//! float32, both little-endian.

use pgrx::PgSqlErrorCode::*;
use pgrx::datum::Internal;
use pgrx::pg_sys;
use pgrx::prelude::*;
use sealvec_core::crypto::{OVERHEAD24, TransitAad};
use sealvec_core::format::typmod::DIMS_MAX;
use sealvec_core::json::{Json, Kind};
use sealvec_core::math::distance;
use sealvec_core::wipe::Plain;
use zeroize::Zeroizing;

use super::payload;
use crate::datatype::array;
use crate::datatype::errors;
use crate::datatype::varlena::{ArrayArg, InputText, SealedDatum, Value};
use crate::error::{OrRaise, SqlError};
use crate::keys;

/// Vectors of equal length, in the clear. Wiped on drop.
pub struct Vectors {
    /// Elements of a row; 0 if the sender did not say.
    dims: usize,
    elements: Zeroizing<Vec<f32>>,
}

impl Vectors {
    /// Opens an argument.
    pub fn open(value: Value<'_>) -> Result<Self, SqlError> {
        let sealed = value.bytes();
        let mut plain = Plain::zeroed(sealed.len().checked_sub(OVERHEAD24).ok_or_else(errors::dead_session)?);
        keys::with_session_key(|key, session| key.open_into(&TransitAad { session: *session }, sealed, &mut plain))
            .map_err(|_| errors::dead_session())?;
        let (dims, rest) = plain.split_first_chunk::<4>().ok_or_else(errors::dead_session)?;
        let mut elements = Zeroizing::new(vec![0.0; rest.len() / 4]);
        distance::f32le_to_f32(rest, &mut elements);
        Ok(Self { dims: u32::from_le_bytes(*dims) as usize, elements })
    }

    /// Elements of a row, if the sender said.
    pub fn dims(&self) -> Option<usize> {
        Some(self.dims).filter(|dims| *dims > 0)
    }

    /// Elements in all.
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// The rows, each of `dims` elements.
    ///
    /// # Errors
    /// 22000 if they are of another length.
    pub fn rows(&self, dims: usize) -> Result<impl ExactSizeIterator<Item = &[f32]>, SqlError> {
        if let Some(found) = self.dims().filter(|found| *found != dims) {
            return Err(wrong_dims(dims, found));
        }
        if !self.elements.len().is_multiple_of(dims) {
            return Err(SqlError::new(
                ERRCODE_DATA_EXCEPTION,
                format!("expected rows of {dims} dimensions, not {} elements in all", self.elements.len()),
            )
            .detail("In binary, vectors are float32, row behind row."));
        }
        Ok(self.elements.chunks_exact(dims))
    }

    /// Seals for the session.
    fn seal(dims: usize, elements: &[f32]) -> Result<SealedDatum, SqlError> {
        let mut bytes = Plain::with_capacity(size_of_val(elements));
        elements.iter().for_each(|element| bytes.push(&element.to_le_bytes()));
        Self::seal_bytes(dims, &bytes)
    }

    /// Seals elements that came as float32 little-endian.
    fn seal_bytes(dims: usize, elements: &[u8]) -> Result<SealedDatum, SqlError> {
        let mut plain = Plain::with_capacity(4 + elements.len());
        plain.push(&(dims as u32).to_le_bytes());
        plain.push(elements);
        let sealed = keys::with_session_key(|key, session| key.seal(&TransitAad { session: *session }, &plain))?;
        Ok(SealedDatum::new(sealed.as_bytes()))
    }
}

/// A vector of another length than the collection's.
pub fn wrong_dims(expected: usize, found: usize) -> SqlError {
    SqlError::new(ERRCODE_DATA_EXCEPTION, format!("expected {expected} dimensions, not {found}"))
        .hint("All vectors of an index have as many elements as the first, or as create_index() was told.")
}

/// Text input: JSON, an array of numbers or of such arrays.
#[pg_extern(sql = false)]
fn sealvec_vectors_in(mut input: InputText<'_>) -> SealedDatum {
    of_json(input.bytes()).unwrap_or_else(|error| {
        // Bind quotes what it passed in the context of an error, and the log keeps that.
        input.blank_digits();
        error.raise()
    })
}

/// Cast from text, as input.
#[pg_extern(sql = false)]
fn sealvec_vectors_of_text(text: &[u8]) -> SealedDatum {
    of_json(text).or_raise()
}

/// Binary input: float32 little-endian, row behind row.
#[pg_extern(sql = false)]
fn sealvec_vectors_recv(mut message: Internal) -> SealedDatum {
    // SAFETY: Postgres passes a StringInfo with the rest of the message to every receive function, and wants its
    // cursor at the end.
    let bytes = unsafe {
        let message = message.get_mut::<pg_sys::StringInfoData>().expect("receive functions are strict");
        let (start, len) = (message.cursor as usize, message.len as usize);
        message.cursor = message.len;
        std::slice::from_raw_parts(message.data.cast::<u8>(), len).get(start..).unwrap_or_default()
    };
    of_binary(bytes).or_raise()
}

/// Cast from real[] and double precision[]: one vector, or rows of a two-dimensional array.
#[pg_extern(sql = false)]
fn sealvec_vectors_of_array(array: ArrayArg<'_>) -> SealedDatum {
    (|| {
        let (dims, elements) = array::rows(&array)?;
        check_dims(dims)?;
        Vectors::seal(dims, &elements)
    })()
    .or_raise()
}

fn of_binary(bytes: &[u8]) -> Result<SealedDatum, SqlError> {
    let (elements, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(SqlError::new(
            ERRCODE_INVALID_BINARY_REPRESENTATION,
            "invalid binary value for type sealvec.vectors",
        )
        .detail(format!("It has {} bytes, which are no number of float32.", bytes.len())));
    }
    for (ordinal, element) in (1..).zip(elements) {
        checked(f32::from_le_bytes(*element), ordinal)?;
    }
    Vectors::seal_bytes(0, bytes)
}

fn of_json(text: &[u8]) -> Result<SealedDatum, SqlError> {
    let json = Json::parse(payload::text_of(text)?).map_err(|_| not_vectors())?;
    let first = match json.kind() {
        Kind::Array => json.elements().next(),
        _ => return Err(not_vectors()),
    };
    // Two bytes at least: a digit and what ends it.
    let mut elements = Zeroizing::new(Vec::with_capacity(text.len() / 2 + 1));
    let dims = match first.map(Json::kind) {
        Some(Kind::Array) => {
            let mut dims = None;
            for row in json.elements() {
                let before = elements.len();
                read_row(row, &mut elements)?;
                let found = elements.len() - before;
                match *dims.get_or_insert(found) {
                    expected if expected == found => {}
                    expected => return Err(wrong_dims(expected, found).hint("Send vectors of one length at a time.")),
                }
            }
            dims.unwrap_or(0)
        }
        _ => {
            read_row(json, &mut elements)?;
            elements.len()
        }
    };
    check_dims(dims)?;
    Vectors::seal(dims, &elements)
}

fn read_row(row: Json<'_>, elements: &mut Vec<f32>) -> Result<(), SqlError> {
    if row.kind() != Kind::Array {
        return Err(not_vectors());
    }
    for (ordinal, element) in (1..).zip(row.elements()) {
        if element.kind() != Kind::Number {
            return Err(not_vectors());
        }
        let number = element.text().parse().map_err(|_| not_vectors())?;
        elements.push(checked(number, ordinal)?);
    }
    Ok(())
}

fn checked(element: f32, ordinal: usize) -> Result<f32, SqlError> {
    match element.is_finite() {
        true => Ok(element),
        false => Err(errors::not_finite(ordinal, if element.is_nan() { "NaN" } else { "infinity" })),
    }
}

fn check_dims(dims: usize) -> Result<(), SqlError> {
    match dims {
        0 => Err(errors::empty()),
        1..=DIMS_MAX => Ok(()),
        _ => Err(errors::too_many()),
    }
}

fn not_vectors() -> SqlError {
    SqlError::new(ERRCODE_INVALID_TEXT_REPRESENTATION, "invalid input syntax for type sealvec.vectors")
        .detail("It is no JSON array of numbers, nor an array of such arrays.")
        .hint("Write [0.1,0.2] for one vector and [[0.1,0.2],[0.3,0.4]] for two.")
}
