//! JSON as it came: a checked text and a reader over it, without a copy.
//!
//! Metadata is given back to the last byte (12345678901234567890, 1.0, the order of keys), so it stays a text,
//! and a filter reads the few members it asks for in place. `serde_json::Value` would round numbers, or,
//! with the features that keep them, change how every crate of the workspace reads numbers; and it stops at 128 levels.
//!
//! Reading never recurses: nesting costs a counter.

mod check;
mod number;
mod read;

use std::borrow::Cow;

pub use number::Number;
pub use read::{Elements, Key, Members};

use crate::Result;

/// Most levels of arrays and objects in one text. The original took 150; what writes more is no metadata.
pub const DEPTH_MAX: usize = 1_000;

/// One JSON value: a slice of a text that was checked (RFC 8259; no half surrogate pairs).
#[derive(Clone, Copy)]
pub struct Json<'a>(&'a str);

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true`, `false`
    Boolean,
    /// A number of any length.
    Number,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

impl<'a> Json<'a> {
    /// The value that `text` is, white space around it aside.
    ///
    /// # Errors
    /// [`Error::Malformed`](crate::Error::Malformed) if it is none, or nested deeper than [`DEPTH_MAX`].
    pub fn parse(text: &'a str) -> Result<Self> {
        check::check(text)?;
        Ok(Self(read::trim(text)))
    }

    /// As [`parse`](Self::parse), of a text that was parsed before it was sealed. Other text gives wrong
    /// answers, or a panic, but nothing worse.
    pub(crate) fn checked_before(text: &'a str) -> Self {
        Self(read::trim(text))
    }

    /// As it came.
    pub fn text(self) -> &'a str {
        self.0
    }

    /// What it is.
    pub fn kind(self) -> Kind {
        match self.0.as_bytes().first() {
            Some(b'n') => Kind::Null,
            Some(b't' | b'f') => Kind::Boolean,
            Some(b'"') => Kind::String,
            Some(b'[') => Kind::Array,
            Some(b'{') => Kind::Object,
            _ => Kind::Number,
        }
    }

    /// A string's characters; borrowed unless they hold an escape.
    pub fn string(self) -> Option<Cow<'a, str>> {
        (self.kind() == Kind::String).then(|| read::unescape(read::inside(self.0)))
    }

    /// A number's value.
    pub fn number(self) -> Option<Number> {
        (self.kind() == Kind::Number).then(|| Number::of_text(self.0))
    }

    /// A boolean's value.
    pub fn boolean(self) -> Option<bool> {
        (self.kind() == Kind::Boolean).then_some(self.0 == "true")
    }

    /// An array's elements in order; none if it is no array.
    pub fn elements(self) -> Elements<'a> {
        Elements::new(if self.kind() == Kind::Array { read::inside(self.0) } else { "" })
    }

    /// An object's members in order, a repeated key as often as it stands there; none if it is no object.
    pub fn members(self) -> Members<'a> {
        Members::new(if self.kind() == Kind::Object { read::inside(self.0) } else { "" })
    }

    /// The value of `key` in an object; the last one if it is repeated, as every common reader has it.
    pub fn member(self, key: &str) -> Option<Json<'a>> {
        self.members().filter(|(found, _)| found.is(key)).last().map(|(_, value)| value)
    }

    /// Whether it is an array or object without anything inside.
    pub fn is_hollow(self) -> bool {
        matches!(self.kind(), Kind::Array | Kind::Object) && read::trim(read::inside(self.0)).is_empty()
    }
}

/// Says what it is and no more: metadata does not belong in logs.
impl std::fmt::Debug for Json<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Json({:?}, {} bytes)", self.kind(), self.0.len())
    }
}

#[cfg(test)]
mod tests;
