//! Random filters on random metadata against a second evaluator, written from the table of operators alone: it walks
//! `serde_json` values and the filter's own JSON, and shares nothing with the first.

use proptest::prelude::*;
use sealvec_core::filter::Filter;
use sealvec_core::json::Json;
use serde_json::{Value, json};

/// What the filter's JSON says of the metadata; `None` if it is no filter.
fn oracle(filter: &Value, metadata: &Value) -> Option<bool> {
    let mut all = true;
    for (name, operand) in filter.as_object()? {
        let inner = |operand: &Value| {
            operand.as_array()?.iter().map(|filter| oracle(filter, metadata)).collect::<Option<Vec<_>>>()
        };
        all &= match name.as_str() {
            "$and" => inner(operand)?.into_iter().all(|matches| matches),
            "$or" => inner(operand)?.into_iter().any(|matches| matches),
            "$nor" => !inner(operand)?.into_iter().any(|matches| matches),
            "$not" => !oracle(operand, metadata)?,
            field => {
                let values = lookup(metadata, field);
                match operand.as_object() {
                    None => condition("$eq", operand, &values)?,
                    Some(operators) => {
                        let conditions = operators.iter().map(|(name, operand)| condition(name, operand, &values));
                        conditions.collect::<Option<Vec<_>>>()?.into_iter().all(|matches| matches)
                    }
                }
            }
        };
    }
    Some(all)
}

/// Every way to read `path`: cut it at each dot.
fn lookup(metadata: &Value, path: &str) -> Vec<Value> {
    let mut found: Vec<Value> = metadata.get(path).into_iter().cloned().collect();
    for (dot, _) in path.match_indices('.') {
        let inner = metadata.as_object().and_then(|object| object.get(&path[..dot]));
        if let Some(inner) = inner.filter(|inner| inner.is_object()) {
            found.extend(lookup(inner, &path[dot + 1..]));
        }
    }
    found
}

fn condition(operator: &str, operand: &Value, values: &[Value]) -> Option<bool> {
    let flat: Vec<&Value> =
        values.iter().flat_map(|value| value.as_array().map_or(vec![value], |array| array.iter().collect())).collect();
    let exists = values.iter().any(|value| !value.is_null() && *value != json!([]));
    let equal = |a: &Value, b: &Value| match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(), // small numbers only, below
        (Value::String(_), Value::String(_)) | (Value::Bool(_), Value::Bool(_)) => a == b,
        _ => false,
    };
    let among = |list: &[Value]| flat.iter().any(|value| list.iter().any(|operand| equal(value, operand)));
    let ordered = |is: fn(f64, f64) -> bool| {
        let operand = operand.as_f64()?;
        Some(flat.iter().any(|value| value.as_f64().is_some_and(|value| is(value, operand))))
    };
    let text = |is: fn(&str, &str) -> bool| {
        let operand = operand.as_str()?;
        Some(flat.iter().any(|value| value.as_str().is_some_and(|value| is(value, operand))))
    };
    Some(match operator {
        "$eq" => among(std::slice::from_ref(operand)),
        "$ne" => exists && !among(std::slice::from_ref(operand)),
        "$in" => among(operand.as_array()?),
        "$nin" => !among(operand.as_array()?),
        "$gt" => ordered(|a, b| a > b)?,
        "$gte" => ordered(|a, b| a >= b)?,
        "$lt" => ordered(|a, b| a < b)?,
        "$lte" => ordered(|a, b| a <= b)?,
        "$exists" => exists == operand.as_bool()?,
        "$contains" => text(|value, part| value.contains(part))?,
        "$regex" => text(regex_of_letters)?,
        _ => return None,
    })
}

/// The patterns below are `^letters`, `letters$` or `letters`.
fn regex_of_letters(text: &str, pattern: &str) -> bool {
    match (pattern.strip_prefix('^'), pattern.strip_suffix('$')) {
        (Some(front), _) => text.starts_with(front),
        (None, Some(back)) => text.ends_with(back),
        (None, None) => text.contains(pattern),
    }
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        2 => (-3i64..4).prop_map(Value::from),
        1 => (-3i32..4).prop_map(|number| Value::from(f64::from(number) / 2.0)),
        2 => "[ab\"\\\\é]{0,3}".prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
    ]
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof!["[ab]", "[ab]\\.[ab]", Just(String::new()), Just("a\"é".into())]
}

fn object(depth: u32) -> impl Strategy<Value = Value> {
    let value = scalar().prop_recursive(depth, 20, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(key(), inner, 0..4).prop_map(|map| map.into_iter().collect()),
        ]
    });
    proptest::collection::btree_map(key(), value, 0..5).prop_map(|map| map.into_iter().collect())
}

fn operators() -> impl Strategy<Value = Value> {
    let list = || proptest::collection::vec(scalar(), 0..4).prop_map(Value::from);
    let one = prop_oneof![
        ("\\$(eq|ne)", scalar()),
        ("\\$(in|nin)", prop_oneof![9 => list(), 1 => scalar()]),
        ("\\$(gt|gte|lt|lte)", prop_oneof![9 => (-3i64..4).prop_map(Value::from), 1 => scalar()]),
        ("\\$exists", prop_oneof![9 => any::<bool>().prop_map(Value::from), 1 => scalar()]),
        ("\\$contains", "[abé]{0,2}".prop_map(Value::from)),
        ("\\$regex", "(\\^[ab]{0,2}|[ab]{0,2}\\$|[ab]{0,2})".prop_map(Value::from)),
        ("\\$(size|all|not)|x", scalar()),
    ];
    proptest::collection::vec(one, 0..3).prop_map(|all| all.into_iter().collect())
}

fn path() -> impl Strategy<Value = String> {
    prop_oneof![4 => key(), 1 => "[ab]\\.[ab]\\.[ab]", 1 => Just("$x".into())]
}

fn filter() -> impl Strategy<Value = Value> {
    let field = (path(), prop_oneof![scalar(), operators()]).prop_map(|(path, operand)| json!({ path: operand }));
    field.prop_recursive(3, 12, 3, |inner| {
        let list = proptest::collection::vec(inner.clone(), 0..3);
        prop_oneof![
            ("\\$(and|or|nor)", list).prop_map(|(name, filters)| json!({ name: filters })),
            inner.clone().prop_map(|filter| json!({ "$not": filter })),
            (inner.clone(), inner).prop_map(|(mut a, b)| {
                a.as_object_mut().unwrap().extend(b.as_object().unwrap().clone());
                a
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn both_evaluators_agree(filter in filter(), metadata in object(3)) {
        let expected = oracle(&filter, &metadata);
        let parsed = Filter::parse(&filter);
        prop_assert_eq!(parsed.is_ok(), expected.is_some(), "{} is a filter for one only", filter);
        if let (Ok(parsed), Some(expected)) = (parsed, expected) {
            let pretty = serde_json::to_string_pretty(&metadata).unwrap();
            prop_assert_eq!(parsed.matches_json(Some(Json::parse(&pretty).unwrap())), expected, "{} on {}", filter, metadata);
            prop_assert_eq!(parsed.matches(&metadata), expected);
            prop_assert!(!parsed.is_empty() || expected, "an empty filter matches all");
        }
    }

    #[test]
    fn no_json_makes_parsing_panic(filter in object(4), metadata in object(2)) {
        if let Ok(filter) = Filter::parse(&filter) {
            let _ = filter.matches(&metadata);
        }
    }

    #[test]
    fn no_pattern_makes_parsing_panic(pattern in r"[a-c\\\[\](){}*+?^$|.,:\-&~dwsbQEpxPU<>=!019é]{0,20}", text in "[a-c09é-]{0,8}") {
        if let Ok(filter) = Filter::parse(&json!({ "f": { "$regex": pattern } })) {
            let _ = filter.matches(&json!({ "f": text }));
        }
    }
}
