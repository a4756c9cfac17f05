//! What can be wrong with a filter, for two readers: the client that wrote it, and a log.
//!
//! [`FilterError::quoting_message`] is the original's message and quotes the filter, so it belongs in the answer to
//! the client alone. `Display` and `Debug` quote nothing.

use std::fmt;

use super::schema::Search;
use super::{CONDITIONS_MAX, DEPTH_MAX, FIELD_LEN_MAX, PATTERN_LEN_MAX, PATTERNS_MAX};

/// Why a filter, or an order, was refused. The caller's fault, always.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq)]
pub enum FilterError {
    /// An operator on a field that is none.
    UnknownOperator(String),
    /// An operand of another kind than the operator takes.
    Operand {
        /// The operator, or `filters` for the whole.
        operator: &'static str,
        /// What it takes.
        expected: &'static str,
        /// The JSON that came.
        got: String,
    },
    /// A pattern that is none.
    Pattern {
        /// As it came.
        pattern: String,
        /// In RE2's words.
        reason: String,
    },
    /// More than one of the limits of [`filter`](super) allows; says which.
    Limit(Limit),
    /// A field that the index does not promise to find by itself.
    NotIndexed(Search),
    /// A pattern on a field that is not declared for patterns.
    NoPattern {
        /// `$regex` or `$contains`.
        operator: &'static str,
        /// The field's path.
        field: String,
    },
    /// Policies of a schema that contradict each other.
    Schema(&'static str),
    /// A field that `text_fields` and the schema declare as different things.
    SchemaField {
        /// Its name.
        field: String,
        /// Which.
        contradiction: &'static str,
    },
    /// `order_by` is an object of this many fields.
    OrderFields(usize),
}

/// A limit that a filter exceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// [`DEPTH_MAX`]
    Depth,
    /// [`CONDITIONS_MAX`]
    Conditions,
    /// [`PATTERNS_MAX`]
    Patterns,
    /// [`PATTERN_LEN_MAX`]
    PatternLength,
    /// [`FIELD_LEN_MAX`]
    FieldLength,
}

impl Limit {
    fn message(self) -> String {
        match self {
            Limit::Depth => format!("a filter may nest {DEPTH_MAX} logical operators in each other, not more"),
            Limit::Conditions => format!("a filter may have {CONDITIONS_MAX} conditions, not more"),
            Limit::Patterns => format!("a filter may have {PATTERNS_MAX} $regex conditions, not more"),
            Limit::PatternLength => format!("a $regex pattern may have {PATTERN_LEN_MAX} bytes, not more"),
            Limit::FieldLength => format!("the name of a metadata field may have {FIELD_LEN_MAX} bytes, not more"),
        }
    }
}

impl FilterError {
    /// The original's words, which **quote the filter**: for the client that sent it, never for a log.
    pub fn quoting_message(&self) -> String {
        match self {
            Self::UnknownOperator(operator) => format!("Unsupported metadata operator: {operator}"),
            Self::Operand { operator, expected, got } => format!("{operator} requires {expected}, got: {got}"),
            Self::Pattern { pattern, reason } => format!("$regex has an invalid pattern: {pattern} ({reason})"),
            Self::Limit(limit) => limit.message(),
            Self::NotIndexed(search) => search.refusal().to_owned(),
            Self::NoPattern { operator, field } => {
                format!("{operator} on '{field}' requires a regex-indexed (pattern) field")
            }
            Self::Schema(contradiction) => (*contradiction).to_owned(),
            Self::SchemaField { field, contradiction } => format!("metadata_schema['{field}']: {contradiction}"),
            Self::OrderFields(found) => format!("order_by dict must specify exactly one field, got {found}"),
        }
    }
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownOperator(_) => f.write_str("unsupported metadata operator"),
            Self::Operand { operator, expected, .. } => write!(f, "{operator} requires {expected}"),
            Self::Pattern { .. } => f.write_str("$regex has an invalid pattern"),
            Self::NoPattern { operator, .. } => write!(f, "{operator} requires a field declared with pattern"),
            Self::SchemaField { contradiction, .. } => write!(f, "metadata_schema: {contradiction}"),
            Self::Limit(_) | Self::NotIndexed(_) | Self::Schema(_) | Self::OrderFields(_) => {
                f.write_str(&self.quoting_message())
            }
        }
    }
}

/// As `Display`.
impl fmt::Debug for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FilterError({self})")
    }
}

impl std::error::Error for FilterError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_quoting_message_quotes() {
        let errors = [
            FilterError::UnknownOperator("$secret".into()),
            FilterError::Operand { operator: "$gt", expected: "a numeric value", got: "\"secret\"".into() },
            FilterError::NoPattern { operator: "$regex", field: "secret".into() },
            FilterError::Pattern { pattern: "secret(".into(), reason: "missing ): secret(".into() },
        ];
        for error in errors {
            assert!(error.quoting_message().contains("secret"));
            assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
        }
    }
}
