//! JSON as it came: a text that was checked, and read one level at a time.
//!
//! Metadata is given back to the last byte (12345678901234567890, 1.0, the order of keys), so it stays a text,
//! and a filter reads the few members it asks for. `serde_json` does the reading, through its
//! [`RawValue`](serde_json::value::RawValue): a `serde_json::Value` would round numbers, or, with the features that keep them, change how every
//! crate of the workspace reads numbers; and it stops at 128 levels.
//!
//! Reading never recurses: `serde_json` skips what is nested with a stack on the heap, and each level is read when asked for.

mod number;
mod read;

use std::borrow::Cow;

pub use number::Number;
pub use read::{Elements, Key, Members};

use crate::{Error, Result};

/// Most levels of arrays and objects in one text. The original took 150; what writes more is no metadata.
pub const DEPTH_MAX: usize = 1_000;

const MALFORMED: Error = Error::Malformed { what: "JSON" };

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
    /// [`Error::Malformed`] if it is none, or nested deeper than [`DEPTH_MAX`].
    pub fn parse(text: &'a str) -> Result<Self> {
        let json = serde_json::from_str::<Self>(text).map_err(|_| MALFORMED)?;
        check_inside(json.0)?;
        Ok(json)
    }

    /// As [`parse`](Self::parse), of the [`text`](Self::text) of a value that was parsed before it was sealed. Other
    /// text has no members, elements or characters, or wrong ones, but does nothing worse.
    pub(crate) fn checked_before(text: &'a str) -> Self {
        Self(text)
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
        (self.kind() == Kind::String).then(|| read::string(self.0)).flatten()
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
        read::elements(self.0)
    }

    /// An object's members in order, a repeated key as often as it stands there; none if it is no object.
    pub fn members(self) -> Members<'a> {
        read::members(self.0)
    }

    /// The value of `key` in an object; the last one if it is repeated, as every common reader has it.
    pub fn member(self, key: &str) -> Option<Json<'a>> {
        self.members().rfind(|(found, _)| found.is(key)).map(|(_, value)| value)
    }

    /// Whether it is an array or object without anything inside.
    pub fn is_hollow(self) -> bool {
        let inside = self.0.strip_prefix(['[', '{']).map(str::trim_start);
        inside.is_some_and(|inside| inside.starts_with([']', '}']))
    }
}

/// What skipping over a value lets pass: nesting without end, which readers of what we give back choke on, and
/// strings with half a surrogate pair, which would be known as malformed only by the filter that reads them.
/// `text` is JSON, so a bracket outside of strings is a level.
fn check_inside(text: &str) -> Result<()> {
    let (mut rest, mut depth) = (text, 0usize);
    while let Some(at) = rest.find(['"', '[', '{', ']', '}']) {
        let len = match rest.as_bytes()[at] {
            b'"' => {
                let mut string = serde_json::Deserializer::from_str(&rest[at..]).into_iter::<Key<'_>>();
                string.next().ok_or(MALFORMED)?.map_err(|_| MALFORMED)?;
                string.byte_offset()
            }
            b'[' | b'{' => {
                depth += 1;
                1
            }
            _ => {
                depth -= 1;
                1
            }
        };
        if depth > DEPTH_MAX {
            return Err(Error::Malformed { what: "JSON: nested too deep" });
        }
        rest = &rest[at + len..];
    }
    Ok(())
}

/// Says what it is and no more: metadata does not belong in logs.
impl std::fmt::Debug for Json<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Json({:?}, {} bytes)", self.kind(), self.0.len())
    }
}

#[cfg(test)]
mod tests;
