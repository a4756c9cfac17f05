//! From a filter's JSON to conditions that cannot fail any more.

use serde_json::{Map, Value};

use super::compare::{Scalar, Set};
use super::error::{FilterError, Limit};
use super::pattern::Pattern;
use super::{CONDITIONS_MAX, DEPTH_MAX, FIELD_LEN_MAX, PATTERNS_MAX};
use crate::json::Number;

/// A filter, or a part of one.
#[derive(Clone)]
pub(super) enum Node {
    All(Vec<Node>),
    Any(Vec<Node>),
    Not(Box<Node>),
    Field { path: String, tests: Vec<Test> },
}

/// One operator with its operand. An operand of `None` equals nothing.
#[derive(Clone)]
pub(super) enum Test {
    Equal(Option<Scalar>),
    NotEqual(Option<Scalar>),
    In(Set),
    NotIn(Set),
    Compare(Order, Number),
    Exists(bool),
    Pattern(Pattern),
    Contains(String),
    Type(Type),
}

/// Which outcomes of comparing the value with the operand satisfy a condition.
#[derive(Clone, Copy)]
pub(super) struct Order {
    pub(super) less: bool,
    pub(super) equal: bool,
    pub(super) greater: bool,
}

/// What `$type` can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Null,
    Boolean,
    Number,
    Integer,
    Double,
    String,
    Array,
    Object,
}

impl Type {
    /// MongoDB's aliases and JSON's own names.
    fn of_name(name: &str) -> Option<Self> {
        Some(match name {
            "null" => Type::Null,
            "bool" | "boolean" => Type::Boolean,
            "number" => Type::Number,
            "int" | "integer" | "long" => Type::Integer,
            "double" | "float" => Type::Double,
            "string" => Type::String,
            "array" => Type::Array,
            "object" => Type::Object,
            _ => return None,
        })
    }
}

pub(super) fn parse(filter: &Value) -> Result<Node, FilterError> {
    match filter {
        Value::Null => Ok(Node::All(Vec::new())),
        _ => Parser { conditions: 0, patterns: 0 }.object(as_object("filters", filter)?, 0),
    }
}

/// Counts what is limited.
struct Parser {
    conditions: usize,
    patterns: usize,
}

impl Parser {
    /// All of an object's members must match; a single one stands for itself.
    fn object(&mut self, object: &Map<String, Value>, depth: usize) -> Result<Node, FilterError> {
        let mut filters =
            object.iter().map(|(name, operand)| self.member(name, operand, depth)).collect::<Result<Vec<_>, _>>()?;
        // `{"n": {}}` asks nothing of n: without this, a filter that asks nothing would not be known as one.
        filters.retain(|filter| !matches!(filter, Node::Field { tests, .. } if tests.is_empty()));
        Ok(if filters.len() == 1 { filters.remove(0) } else { Node::All(filters) })
    }

    fn member(&mut self, name: &str, operand: &Value, depth: usize) -> Result<Node, FilterError> {
        Ok(match name {
            "$and" => Node::All(self.list("$and", operand, depth)?),
            "$or" => Node::Any(self.list("$or", operand, depth)?),
            "$nor" => Node::Not(Box::new(Node::Any(self.list("$nor", operand, depth)?))),
            "$not" => Node::Not(Box::new(self.inner("$not", operand, depth)?)),
            // Any other name is a field, $-names too, as in the original.
            _ => self.field(name, operand)?,
        })
    }

    fn list(&mut self, operator: &'static str, operand: &Value, depth: usize) -> Result<Vec<Node>, FilterError> {
        let filters = operand.as_array().ok_or_else(|| wrong(operator, "an array", operand))?;
        self.count()?;
        filters.iter().map(|filter| self.inner(operator, filter, depth)).collect()
    }

    /// A filter inside a logical operator.
    fn inner(&mut self, operator: &'static str, filter: &Value, depth: usize) -> Result<Node, FilterError> {
        self.count()?;
        if depth == DEPTH_MAX {
            return Err(FilterError::Limit(Limit::Depth));
        }
        self.object(as_object(operator, filter)?, depth + 1)
    }

    fn field(&mut self, name: &str, operand: &Value) -> Result<Node, FilterError> {
        if name.len() > FIELD_LEN_MAX {
            return Err(FilterError::Limit(Limit::FieldLength));
        }
        let tests = match operand {
            Value::Object(operators) => {
                operators.iter().map(|(operator, operand)| self.test(operator, operand)).collect::<Result<_, _>>()?
            }
            _ => vec![self.test("$eq", operand)?],
        };
        Ok(Node::Field { path: name.to_owned(), tests })
    }

    fn test(&mut self, operator: &str, operand: &Value) -> Result<Test, FilterError> {
        self.count()?;
        let order = |less, equal, greater| Order { less, equal, greater };
        Ok(match operator {
            "$eq" => Test::Equal(Scalar::of_value(operand)),
            "$ne" => Test::NotEqual(Scalar::of_value(operand)),
            "$in" => Test::In(set("$in", operand)?),
            "$nin" => Test::NotIn(set("$nin", operand)?),
            "$gt" => Test::Compare(order(false, false, true), number("$gt", operand)?),
            "$gte" => Test::Compare(order(false, true, true), number("$gte", operand)?),
            "$lt" => Test::Compare(order(true, false, false), number("$lt", operand)?),
            "$lte" => Test::Compare(order(true, true, false), number("$lte", operand)?),
            "$exists" => Test::Exists(operand.as_bool().ok_or_else(|| wrong("$exists", "a boolean value", operand))?),
            "$regex" => {
                let pattern = string("$regex", operand)?;
                self.patterns += 1;
                if self.patterns > PATTERNS_MAX {
                    return Err(FilterError::Limit(Limit::Patterns));
                }
                Test::Pattern(Pattern::compile(pattern)?)
            }
            "$contains" => Test::Contains(string("$contains", operand)?.to_owned()),
            "$type" => Test::Type(
                operand
                    .as_str()
                    .and_then(Type::of_name)
                    .ok_or_else(|| wrong("$type", "the name of a type", operand))?,
            ),
            _ => return Err(FilterError::UnknownOperator(operator.to_owned())),
        })
    }

    fn count(&mut self) -> Result<(), FilterError> {
        self.conditions += 1;
        if self.conditions > CONDITIONS_MAX { Err(FilterError::Limit(Limit::Conditions)) } else { Ok(()) }
    }
}

fn wrong(operator: &'static str, expected: &'static str, operand: &Value) -> FilterError {
    FilterError::Operand { operator, expected, got: operand.to_string() }
}

fn as_object<'a>(operator: &'static str, value: &'a Value) -> Result<&'a Map<String, Value>, FilterError> {
    value.as_object().ok_or_else(|| wrong(operator, "an object", value))
}

fn set(operator: &'static str, operand: &Value) -> Result<Set, FilterError> {
    operand.as_array().map(|values| Set::of_values(values)).ok_or_else(|| wrong(operator, "an array", operand))
}

fn number(operator: &'static str, operand: &Value) -> Result<Number, FilterError> {
    operand.as_number().map(Number::of_value).ok_or_else(|| wrong(operator, "a numeric value", operand))
}

fn string<'a>(operator: &'static str, operand: &'a Value) -> Result<&'a str, FilterError> {
    operand.as_str().ok_or_else(|| wrong(operator, "a string value", operand))
}
