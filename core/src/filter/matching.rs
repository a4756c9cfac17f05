//! Whether an item's metadata satisfies a parsed filter.

use std::cmp::Ordering;

use super::field::{any, find, is_there};
use super::parse::{Node, Test, Type};
use crate::json::{Json, Kind};

/// Recursion is as deep as the filter, which is bounded when it is parsed.
pub(super) fn matches(node: &Node, metadata: Option<Json<'_>>) -> bool {
    match node {
        Node::All(filters) => filters.iter().all(|filter| matches(filter, metadata)),
        Node::Any(filters) => filters.iter().any(|filter| matches(filter, metadata)),
        Node::Not(filter) => !matches(filter, metadata),
        Node::Field { path, tests } => {
            let found = find(metadata, path);
            tests.iter().all(|test| satisfies(test, &found))
        }
    }
}

fn satisfies(test: &Test, found: &[Json<'_>]) -> bool {
    let any_value = |is: &dyn Fn(Json<'_>) -> bool| found.iter().any(|value| any(*value, is));
    let exists = || found.iter().any(|value| is_there(*value));
    let equals = |operand: &Option<_>| match operand {
        Some(scalar) => any_value(&|value| super::compare::Scalar::equals(scalar, value)),
        None => false,
    };
    match test {
        Test::Equal(operand) => equals(operand),
        Test::NotEqual(operand) => exists() && !equals(operand),
        Test::In(set) => any_value(&|value| set.contains(value)),
        Test::NotIn(set) => !any_value(&|value| set.contains(value)),
        Test::Compare(order, operand) => any_value(&|value| {
            value.number().is_some_and(|number| match number.cmp(operand) {
                Ordering::Less => order.less,
                Ordering::Equal => order.equal,
                Ordering::Greater => order.greater,
            })
        }),
        Test::Exists(expected) => exists() == *expected,
        Test::Pattern(pattern) => any_value(&|value| value.string().is_some_and(|text| pattern.is_match(&text))),
        Test::Contains(part) => any_value(&|value| value.string().is_some_and(|text| text.contains(part.as_str()))),
        // The value itself: an array has the type "array", and so may an element have.
        Test::Type(expected) => found.iter().any(|value| is_of_type(*value, *expected)),
    }
}

fn is_of_type(value: Json<'_>, expected: Type) -> bool {
    let integral = || !value.text().contains(['.', 'e', 'E']);
    match (value.kind(), expected) {
        (Kind::Null, Type::Null)
        | (Kind::Boolean, Type::Boolean)
        | (Kind::Number, Type::Number)
        | (Kind::String, Type::String)
        | (Kind::Array, Type::Array)
        | (Kind::Object, Type::Object) => true,
        (Kind::Number, Type::Integer) => integral(),
        (Kind::Number, Type::Double) => !integral(),
        _ => false,
    }
}
