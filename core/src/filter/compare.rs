//! Operands: scalars, and sets of them.

use std::collections::HashSet;

use serde_json::Value;

use crate::json::{Json, Kind, Number};

/// What equality is about. Types are strict: no scalar equals one of another type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scalar {
    Boolean(bool),
    Number(Number),
    String(String),
}

impl Scalar {
    /// `None` for what equals nothing: null, arrays, objects.
    pub(super) fn of_value(value: &Value) -> Option<Self> {
        match value {
            Value::Bool(boolean) => Some(Self::Boolean(*boolean)),
            Value::Number(number) => Some(Self::Number(Number::of_value(number))),
            Value::String(string) => Some(Self::String(string.clone())),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }

    pub(super) fn equals(&self, json: Json<'_>) -> bool {
        match self {
            Self::Boolean(expected) => json.boolean() == Some(*expected),
            Self::Number(expected) => json.number().is_some_and(|number| number == *expected),
            Self::String(expected) => json.string().is_some_and(|string| string == expected.as_str()),
        }
    }
}

/// The list of `$in`, which may be long: each value is looked up, not compared with all.
#[derive(Clone, Default)]
pub(super) struct Set {
    strings: HashSet<String>,
    numbers: Vec<Number>, // ascending
    booleans: [bool; 2],  // whether false and true are in it
}

impl Set {
    pub(super) fn of_values(values: &[Value]) -> Self {
        let mut set = Self::default();
        for scalar in values.iter().filter_map(Scalar::of_value) {
            match scalar {
                Scalar::Boolean(boolean) => set.booleans[usize::from(boolean)] = true,
                Scalar::Number(number) => set.numbers.push(number),
                Scalar::String(string) => drop(set.strings.insert(string)),
            }
        }
        set.numbers.sort_unstable();
        set
    }

    pub(super) fn contains(&self, json: Json<'_>) -> bool {
        match json.kind() {
            Kind::Boolean => json.boolean().is_some_and(|boolean| self.booleans[usize::from(boolean)]),
            Kind::Number => json.number().is_some_and(|number| self.numbers.binary_search(&number).is_ok()),
            Kind::String => json.string().is_some_and(|string| self.strings.contains(&*string)),
            Kind::Null | Kind::Array | Kind::Object => false,
        }
    }
}
