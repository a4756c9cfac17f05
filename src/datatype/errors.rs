//! What the user is told about a value that can't be used: SQLSTATE, message, detail and hint in pgvector's manner.
//!
//! Nothing here takes an element or a piece of the input: an element may be named by its place only.

use pgrx::PgSqlErrorCode::*;
use sealvec_core::Error;
use sealvec_core::format::text::TextError;

use crate::error::SqlError;

/// Text that is no vector.
pub fn text(error: TextError) -> SqlError {
    match error {
        TextError::Range { ordinal } => out_of_range(ordinal),
        TextError::NotFinite { ordinal, what } => not_finite(ordinal, what),
        TextError::Empty => empty(),
        TextError::TooMany => too_many(),
        TextError::Start
        | TextError::End { .. }
        | TextError::Number { .. }
        | TextError::Separator { .. }
        | TextError::Junk { .. } => {
            let mut detail = error.to_string();
            detail[..1].make_ascii_uppercase();
            SqlError::new(ERRCODE_INVALID_TEXT_REPRESENTATION, "invalid input syntax for type sealvec")
                .detail(detail + ".")
                .hint("Write the elements as decimal numbers: [0.1,0.2,0.3].")
        }
    }
}

/// A finite number that `real` can't hold; `ordinal` counts from 1.
pub fn out_of_range(ordinal: usize) -> SqlError {
    SqlError::new(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, format!("element {ordinal} is out of range for type sealvec"))
        .detail("Elements are stored as single-precision numbers, at most 3.4e38.")
        .hint("Scale the vector before it is sent: under <=> its length does not matter.")
}

/// `what` is "NaN" or "infinity"; `ordinal` counts from 1.
pub fn not_finite(ordinal: usize, what: &str) -> SqlError {
    SqlError::new(ERRCODE_DATA_EXCEPTION, format!("{what} not allowed in sealvec"))
        .detail(format!("Element {ordinal} is {what}."))
        .hint("Every element must be a finite number; use NULL in place of a vector that is missing.")
}

/// A vector without elements.
pub fn empty() -> SqlError {
    SqlError::new(ERRCODE_DATA_EXCEPTION, "sealvec must have at least 1 dimension")
        .detail("The vector has no elements.")
        .hint("Use NULL in place of a vector that is missing.")
}

/// A vector with more elements than any column takes.
pub fn too_many() -> SqlError {
    SqlError::new(ERRCODE_PROGRAM_LIMIT_EXCEEDED, "sealvec cannot have more than 16000 dimensions")
        .detail("Longer vectors fit neither the type modifier nor the index.")
        .hint("Shorten the vectors, as many models can, or seal them in parts.")
}

/// A vector whose length is not its column's.
pub fn wrong_dims(expected: usize, found: usize) -> SqlError {
    SqlError::new(ERRCODE_DATA_EXCEPTION, format!("expected {expected} dimensions, not {found}"))
        .detail("The column, variable or cast has the type sealvec(dimensions, ring).")
        .hint(format!("Send vectors of {expected} elements, or give the column the dimensions of your model."))
}

/// An array of several dimensions.
pub fn not_flat(dimensions: i32) -> SqlError {
    SqlError::new(ERRCODE_DATA_EXCEPTION, "array must be one-dimensional")
        .detail(format!("It has {dimensions} dimensions."))
        .hint("Send each vector as a value of its own.")
}

/// An array with a NULL in it.
pub fn null_element() -> SqlError {
    SqlError::new(ERRCODE_NULL_VALUE_NOT_ALLOWED, "array must not contain nulls")
        .detail("Every element of a vector is a number.")
        .hint("Use NULL in place of a vector that is missing.")
}

/// Two vectors of different lengths.
pub fn different_dims(left: usize, right: usize) -> SqlError {
    SqlError::new(ERRCODE_DATA_EXCEPTION, format!("different sealvec dimensions {left} and {right}"))
        .detail("There is a distance only between vectors of equally many elements.")
        .hint("Compare vectors that one model made.")
}

/// Bytes or text that claim to be a sealed value and are none.
pub fn malformed(binary: bool) -> SqlError {
    if binary {
        SqlError::new(ERRCODE_INVALID_BINARY_REPRESENTATION, "invalid binary value for type sealvec")
            .detail("It is no sealed value, no float4[] or float8[], and no vector in pgvector's form.")
            .hint("Bind the vector as text, as a list or array of numbers, or in one of these forms.")
    } else {
        SqlError::new(ERRCODE_INVALID_TEXT_REPRESENTATION, "invalid sealed value for type sealvec")
            .detail("The text after \"sealvec1.\" is not what sealvec printed.")
            .hint("Paste the whole text that a sealvec column shows.")
    }
}

/// The same, or that a newer sealvec wrote it.
pub fn header(error: Error, binary: bool) -> SqlError {
    match error {
        Error::Version { .. } => error.into(),
        _ => malformed(binary),
    }
}

/// A stored value whose header is not one that this version writes.
pub fn corrupt() -> SqlError {
    SqlError::new(ERRCODE_DATA_CORRUPTED, "malformed value of type sealvec")
        .detail("Its first bytes are none that sealvec writes.")
        .hint("The row is damaged: bring it back from a backup.")
}

/// A value of one ring on its way into a column of another.
pub fn other_ring(expected: &str, found: &str) -> SqlError {
    SqlError::new(ERRCODE_DATA_EXCEPTION, format!("expected a value sealed by {expected}, not by {found}"))
        .detail("A column holds the values of one key ring.")
        .hint("With both rings open, sealvec.open(value) gives the elements, which the column then seals.")
}

/// A session value that the key of this session does not open.
pub fn dead_session() -> SqlError {
    SqlError::new(ERRCODE_DATA_EXCEPTION, "could not open a vector that another session wrote")
        .detail("A literal or parameter is sealed under a key that ends with its session; only a column with dimensions and key ring makes it last.")
        .hint("Send the vector again, or copy a sealed text from a column of type sealvec(dims, ring).")
}
