//! `order_by` of query_metadata: numbers by value, then strings, then booleans; what has no scalar comes last.
//!
//! Descending turns the scalars round, but leaves last what is missing. Compare keys with a stable sort:
//! items that compare equal keep the order in which they came.

use std::cmp::Ordering;

use serde_json::Value;

use super::FIELD_LEN_MAX;
use super::error::{FilterError, Limit};
use super::field;
use crate::json::{Json, Kind, Number};

/// A field, and which way.
#[derive(Clone)]
pub struct OrderBy {
    path: String,
    descending: bool,
}

/// What one item is sorted by. Taken once, so that sorting opens nothing.
#[derive(Clone)]
pub struct OrderKey(Option<Scalar>);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Scalar {
    Number(Number),
    String(String), // by code point
    Boolean(bool),
}

impl OrderBy {
    /// From the request: a field's name, or an object of one field with 1 (ascending) or -1, which `ascending`
    /// does not change. `null` and the empty name ask for no order.
    ///
    /// # Errors
    /// For anything else.
    pub fn parse(order_by: &Value, ascending: bool) -> Result<Option<Self>, FilterError> {
        let wrong =
            |expected, got: &Value| Err(FilterError::Operand { operator: "order_by", expected, got: got.to_string() });
        let (path, descending) = match order_by {
            Value::Null => return Ok(None),
            Value::String(name) if name.is_empty() => return Ok(None),
            Value::String(name) => (name, !ascending),
            Value::Object(fields) => match (fields.len(), fields.iter().next()) {
                (1, Some((name, direction))) => match direction.as_i64() {
                    Some(1) => (name, false),
                    Some(-1) => (name, true),
                    _ => return wrong("the direction 1 or -1", direction),
                },
                (found, _) => return Err(FilterError::OrderFields(found)),
            },
            _ => return wrong("the name of a field, or an object", order_by),
        };
        if path.len() > FIELD_LEN_MAX {
            return Err(FilterError::Limit(Limit::FieldLength));
        }
        Ok(Some(Self { path: path.clone(), descending }))
    }

    /// What an item with this metadata is sorted by: the first scalar that the path leads to.
    pub fn key(&self, metadata: Option<Json<'_>>) -> OrderKey {
        OrderKey(field::find(metadata, &self.path).into_iter().find_map(|value| match value.kind() {
            Kind::Number => value.number().map(Scalar::Number),
            Kind::String => value.string().map(|string| Scalar::String(string.into_owned())),
            Kind::Boolean => value.boolean().map(Scalar::Boolean),
            Kind::Null | Kind::Array | Kind::Object => None,
        }))
    }

    /// Which of two items comes first.
    pub fn compare(&self, a: &OrderKey, b: &OrderKey) -> Ordering {
        match (&a.0, &b.0) {
            (Some(a), Some(b)) => match self.descending {
                false => a.cmp(b),
                true => b.cmp(a),
            },
            (a, b) => a.is_none().cmp(&b.is_none()),
        }
    }
}

/// Neither shows a field or a value.
impl std::fmt::Debug for OrderBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OrderBy(descending: {})", self.descending)
    }
}

/// As [`OrderBy`]'s.
impl std::fmt::Debug for OrderKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OrderKey([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Ids (their places) of `items` in the order asked for.
    fn sorted(order_by: Value, ascending: bool, items: &[&str]) -> Vec<usize> {
        let order = OrderBy::parse(&order_by, ascending).unwrap().unwrap();
        let mut keys: Vec<_> =
            items.iter().map(|text| order.key(Some(Json::parse(text).unwrap()))).enumerate().collect();
        keys.sort_by(|a, b| order.compare(&a.1, &b.1));
        keys.into_iter().map(|(place, _)| place).collect()
    }

    const ITEMS: [&str; 10] = [
        r#"{"v":"b"}"#,
        r#"{"v":10}"#,
        r#"{}"#,
        r#"{"v":9.5}"#,
        r#"{"v":"B"}"#,
        r#"{"v":null}"#,
        r#"{"v":-1}"#,
        r#"{"v":[1]}"#,
        r#"{"v":true}"#,
        r#"{"v":10.0}"#,
    ];

    #[test]
    fn numbers_then_strings_then_what_is_missing() {
        assert_eq!(sorted(json!("v"), true, &ITEMS), [6, 3, 1, 9, 4, 0, 8, 2, 5, 7]);
        assert_eq!(sorted(json!("v"), false, &ITEMS), [8, 0, 4, 1, 9, 3, 6, 2, 5, 7]);
    }

    #[test]
    fn an_objects_direction_wins() {
        for ascending in [true, false] {
            assert_eq!(sorted(json!({"v": 1}), ascending, &ITEMS), sorted(json!("v"), true, &ITEMS));
            assert_eq!(sorted(json!({"v": -1}), ascending, &ITEMS), sorted(json!("v"), false, &ITEMS));
        }
    }

    #[test]
    fn paths_lead_into_objects() {
        let items = [r#"{"a":{"b":2}}"#, r#"{"a.b":1}"#, r#"{"a":[{"b":0}]}"#];
        assert_eq!(sorted(json!("a.b"), true, &items), [1, 0, 2]);
    }

    #[test]
    fn no_order_is_no_error() {
        assert!(OrderBy::parse(&Value::Null, true).unwrap().is_none());
        assert!(OrderBy::parse(&json!(""), false).unwrap().is_none());
    }

    #[test]
    fn bad_orders_are_refused() {
        let message = |order_by: Value| OrderBy::parse(&order_by, true).unwrap_err().quoting_message();
        assert_eq!(message(json!({"a": 1, "b": 1})), "order_by dict must specify exactly one field, got 2");
        assert_eq!(message(json!({})), "order_by dict must specify exactly one field, got 0");
        assert_eq!(message(json!({"a": 2})), "order_by requires the direction 1 or -1, got: 2");
        assert_eq!(message(json!(1)), "order_by requires the name of a field, or an object, got: 1");
        for order_by in [json!([]), json!(true), json!({"a": "1"}), json!({"a": 1.5}), json!({"a": null})] {
            assert!(OrderBy::parse(&order_by, true).is_err(), "{order_by}");
        }
        assert!(OrderBy::parse(&json!("x".repeat(FIELD_LEN_MAX + 1)), true).is_err());
    }

    #[test]
    fn debug_shows_no_content() {
        let order = OrderBy::parse(&json!("secret"), false).unwrap().unwrap();
        let key = order.key(Some(Json::parse(r#"{"secret":"text"}"#).unwrap()));
        assert_eq!(format!("{order:?} {key:?}"), "OrderBy(descending: true) OrderKey([redacted])");
    }
}
