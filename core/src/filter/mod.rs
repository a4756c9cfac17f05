//! Metadata filters: the operators of CyborgDB 0.18, on metadata that was opened a moment ago.
//!
//! | filter | matches |
//! |---|---|
//! | `{"f": v}`, `$eq` | equal scalars. Types are strict (1 is 1.0, but neither "1" nor true); an array matches by any element; a `null`, array or object operand matches nothing |
//! | `$ne` | the field exists and is not equal; of an array, no element |
//! | `$in`, `$nin` | equal to one of a list; `$nin` is its opposite and so matches where the field is missing |
//! | `$gt` `$gte` `$lt` `$lte` | numbers, by value; an array matches by any element |
//! | `$exists` | the field is there; `null` and `[]` count as not there |
//! | `$regex`, `$contains` | strings: RE2 syntax, unanchored; a substring. An array matches by any element |
//! | `$type` | of the named JSON type (0.17 had it, 0.18 has not) |
//! | `$and` `$or` `$nor` `$not` | filters, at the top of a filter only |
//!
//! Several fields, or several operators of a field, must all match. A path `a.b` means the member b of the
//! object a, and a key that is written `a.b`; what it finds both ways counts. Objects inside arrays are not
//! looked into, and neither are places (`a.0`).
//!
//! Parsing compiles everything once, within the limits below; matching cannot fail. It reads the text of the
//! metadata in place, so a scan parses nothing for the fields that no condition names.

mod compare;
mod error;
pub(crate) mod field;
mod matching;
mod order;
mod parse;
mod pattern;
mod re2;
mod schema;

use serde_json::Value;

pub use error::{FilterError, Limit};
pub use order::{OrderBy, OrderKey};
pub use schema::{Policy, Schema, Search};

use crate::json::Json;
use parse::Node;

/// Most levels of `$and`, `$or`, `$nor` and `$not` in each other.
pub const DEPTH_MAX: usize = 64;
/// Most conditions: operators on fields, and logical operators.
pub const CONDITIONS_MAX: usize = 1_024;
/// Most `$regex` in one filter: each may take [`PATTERN_SIZE_MAX`].
pub const PATTERNS_MAX: usize = 32;
/// Most bytes of a pattern.
pub const PATTERN_LEN_MAX: usize = 4_096;
/// Most memory of one compiled pattern, and of its cache.
pub const PATTERN_SIZE_MAX: usize = 1 << 20;
/// Most bytes of a field's path: each level of it may cost a pass over an object.
pub const FIELD_LEN_MAX: usize = 1_024;

/// A filter, parsed and compiled.
#[derive(Clone)]
pub struct Filter(Node);

impl Filter {
    /// Reads a filter; `null` is the empty one.
    ///
    /// # Errors
    /// What is wrong with it, in the original's words.
    pub fn parse(filter: &Value) -> Result<Self, FilterError> {
        parse::parse(filter).map(Self)
    }

    /// Whether it asks for nothing, so that metadata need not be read.
    pub fn is_empty(&self) -> bool {
        matches!(&self.0, Node::All(filters) if filters.is_empty())
    }

    /// Whether it matches an item with this metadata; one without any has none of the fields.
    pub fn matches_json(&self, metadata: Option<Json<'_>>) -> bool {
        matching::matches(&self.0, metadata)
    }

    /// As [`matches_json`](Self::matches_json), of metadata that is parsed already. It is written out first: in a
    /// scan, use the text.
    pub fn matches(&self, metadata: &Value) -> bool {
        let text = metadata.to_string();
        self.matches_json(Some(Json::checked_before(&text)))
    }
}

/// Says no more than that it is one: a filter holds values of users.
impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Filter([redacted])")
    }
}

#[cfg(test)]
mod tests;
