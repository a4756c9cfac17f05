//! Semantics that no recording shows, limits, and messages of the same make as the recorded ones.

use serde_json::json;

use super::error::Limit;
use super::*;

#[track_caller]
fn check(filter: Value, metadata: &str, expected: bool) {
    let parsed = Filter::parse(&filter).unwrap_or_else(|error| panic!("{filter}: {}", error.quoting_message()));
    assert_eq!(parsed.matches_json(Some(Json::parse(metadata).unwrap())), expected, "{filter} on {metadata}");
}

#[track_caller]
fn refused(filter: Value, message: &str) {
    assert_eq!(Filter::parse(&filter).unwrap_err().quoting_message(), message, "{filter}");
}

#[test]
fn numbers_compare_exactly() {
    for (operand, stored, expected) in [
        ("1", "1.0", true),
        ("1.0", "1", true),
        ("1e0", "1", true),
        ("12345678901234567890", "12345678901234567890", true),
        ("12345678901234567890", "12345678901234567891", false),
        ("9007199254740993", "9007199254740992", false),
        ("9007199254740992.0", "9007199254740993", false),
        ("-0.0", "0", true),
        ("0.30000000000000004", "0.30000000000000004", true),
        ("0.30000000000000004", "0.3", false),
        ("2.0649703567367473e-308", "2.0649703567367473e-308", true),
        ("123456789012345678901234567890", "123456789012345678901234567890", true),
    ] {
        let filter: Value = serde_json::from_str(&format!(r#"{{"n":{operand}}}"#)).unwrap();
        check(filter.clone(), &format!(r#"{{"n":{stored}}}"#), expected);
        check(json!({"n": {"$in": ["x", filter["n"], true]}}), &format!(r#"{{"n":{stored}}}"#), expected);
        check(json!({"n": {"$gte": filter["n"], "$lte": filter["n"]}}), &format!(r#"{{"n":{stored}}}"#), expected);
    }
    check(json!({"n": {"$gt": u64::MAX}}), r#"{"n":18446744073709551616}"#, true);
    check(json!({"n": {"$gt": 1e308}}), r#"{"n":1e400}"#, true);
}

#[test]
fn types_are_strict() {
    let stored = [("1", 0), ("\"1\"", 1), ("true", 2), ("null", 3), ("\"true\"", 4), ("{}", 5)];
    let operands = [json!(1), json!("1"), json!(true), json!(null), json!("true"), json!({"$eq": {}})];
    for (text, a) in stored {
        for (b, operand) in operands.iter().enumerate() {
            let scalar = a != 3 && a != 5; // null and {} equal nothing
            check(json!({"f": operand}), &format!(r#"{{"f":{text}}}"#), a == b && scalar);
        }
    }
}

#[test]
fn arrays_match_by_any_element() {
    let metadata = r#"{"a":[1,"x",true,null,[7],{"b":8}],"e":[],"n":null}"#;
    for (filter, expected) in [
        (json!({"a": 1}), true),
        (json!({"a": "x"}), true),
        (json!({"a": false}), false),
        (json!({"a": 7}), false),
        (json!({"a": 8}), false),
        (json!({"a": [1]}), false),
        (json!({"a": {"$ne": 1}}), false),
        (json!({"a": {"$ne": 2}}), true),
        (json!({"a": {"$ne": null}}), true),
        (json!({"a": {"$in": [2, "x"]}}), true),
        (json!({"a": {"$nin": [2, "x"]}}), false),
        (json!({"a": {"$nin": [null, [7]]}}), true),
        (json!({"a": {"$regex": "^x$"}}), true),
        (json!({"a": {"$contains": "x"}}), true),
        (json!({"a": {"$contains": "X"}}), false),
        (json!({"a": {"$gt": 0, "$lt": 2}}), true),
        (json!({"e": {"$exists": true}}), false),
        (json!({"n": {"$exists": true}}), false),
        (json!({"e": {"$ne": 1}}), false),
        (json!({"n": {"$ne": 1}}), false),
        (json!({"e": {"$nin": [1]}}), true),
        (json!({"zz": {"$nin": [1]}}), true),
        (json!({"zz": {"$exists": false}}), true),
        (json!({"$not": {"zz": 1}}), true),
    ] {
        check(filter, metadata, expected);
    }
}

#[test]
fn strings_are_read_through_their_escapes() {
    let metadata = r#"{"\u0073":"\u00e9\n\ud83e\udd80","q\"":"\\"}"#;
    check(json!({"s": "é\n🦀"}), metadata, true);
    check(json!({"s": {"$contains": "🦀"}}), metadata, true);
    check(json!({"s": {"$in": ["é\n🦀"]}}), metadata, true);
    check(json!({"s": {"$regex": r"é\n.$"}}), metadata, true);
    check(json!({"q\"": "\\"}), metadata, true);
}

#[test]
fn type_names_are_jsons_and_mongodbs() {
    let metadata = r#"{"s":"x","i":1,"f":1.0,"b":false,"n":null,"a":[1],"o":{}}"#;
    for (field, types) in [
        ("s", &["string"][..]),
        ("i", &["number", "int", "integer", "long"]),
        ("f", &["number", "double", "float"]),
        ("b", &["bool", "boolean"]),
        ("n", &["null"]),
        ("a", &["array"]),
        ("o", &["object"]),
        ("zz", &[]),
    ] {
        let names = ["string", "number", "int", "integer", "long", "double", "float", "bool", "boolean", "null"];
        for name in names.into_iter().chain(["array", "object"]) {
            check(json!({field: {"$type": name}}), metadata, types.contains(&name));
        }
    }
    refused(json!({"a": {"$type": "text"}}), "$type requires the name of a type, got: \"text\"");
    refused(json!({"a": {"$type": 2}}), "$type requires the name of a type, got: 2");
}

#[test]
fn logic_nests() {
    let metadata = r#"{"a":1,"b":2}"#;
    check(json!({"$and": [{"a": 1}, {"$or": [{"b": 3}, {"$nor": [{"a": 2}, {"b": 3}]}]}]}), metadata, true);
    check(json!({"$or": [{"$and": [{"a": 1}, {"b": 3}]}, {"$not": {"a": 1}}]}), metadata, false);
    check(json!({"$or": []}), metadata, false);
    check(json!({"$nor": []}), metadata, true);
    check(json!({"$not": {}}), metadata, false);
    check(json!({"a": 1, "$or": [{"b": 2}], "b": {"$gt": 1}}), metadata, true);
    check(json!({"a": 1, "b": 3}), metadata, false);
    check(json!({"a": {}, "b": {}}), metadata, true);
}

#[test]
fn an_item_without_metadata_has_no_field() {
    for (filter, expected) in [
        (json!({}), true),
        (json!({"a": 1}), false),
        (json!({"a": {"$ne": 1}}), false),
        (json!({"a": {"$nin": [1]}}), true),
        (json!({"$not": {"a": 1}}), true),
        (json!({"a": {"$exists": false}}), true),
    ] {
        assert_eq!(Filter::parse(&filter).unwrap().matches_json(None), expected, "{filter}");
        check(filter, "{}", expected);
    }
}

#[test]
fn an_empty_filter_is_known_as_one() {
    for empty in [json!(null), json!({}), json!({"a": {}}), json!({"$and": []}), json!({"a": {}, "b": {}})] {
        assert!(Filter::parse(&empty).unwrap().is_empty(), "{empty}");
    }
    for asking in [json!({"a": 1}), json!({"$or": []}), json!({"$not": {}}), json!({"$foo": 1})] {
        assert!(!Filter::parse(&asking).unwrap().is_empty(), "{asking}");
    }
}

#[test]
fn bad_filters_are_refused_in_the_originals_manner() {
    refused(json!({"n": {"$gt": null}}), "$gt requires a numeric value, got: null");
    refused(json!({"n": {"$lte": [1, "a"]}}), "$lte requires a numeric value, got: [1,\"a\"]");
    refused(json!({"n": {"$nin": {"a": 1}}}), "$nin requires an array, got: {\"a\":1}");
    refused(json!({"$or": "x"}), "$or requires an array, got: \"x\"");
    refused(json!({"$or": [1]}), "$or requires an object, got: 1");
    refused(json!({"$not": [{"a": 1}]}), "$not requires an object, got: [{\"a\":1}]");
    refused(json!({"s": {"$regex": 1}}), "$regex requires a string value, got: 1");
    refused(json!({"s": {"$contains": true}}), "$contains requires a string value, got: true");
    refused(json!({"s": {"$exists": "true"}}), "$exists requires a boolean value, got: \"true\"");
    refused(json!({"n": {"$not": {"$gt": 1}}}), "Unsupported metadata operator: $not");
    refused(json!({"n": {"$gt": 1, "": 2}}), "Unsupported metadata operator: ");
    refused(json!([]), "filters requires an object, got: []");
    refused(json!("x"), "filters requires an object, got: \"x\"");
}

#[test]
fn limits_hold_at_their_edge() {
    let nested = |levels: usize| (0..levels).fold(json!({"a": 1}), |inner, _| json!({"$not": inner}));
    check(nested(DEPTH_MAX), r#"{"a":1}"#, true);
    assert_eq!(Filter::parse(&nested(DEPTH_MAX + 1)).unwrap_err(), FilterError::Limit(Limit::Depth));

    // $or itself, then two conditions for each of its filters
    let wide = |filters: usize| json!({"$or": vec![json!({"a": 1}); filters]});
    assert!(Filter::parse(&wide((CONDITIONS_MAX - 1) / 2)).is_ok());
    assert_eq!(Filter::parse(&wide(CONDITIONS_MAX / 2)).unwrap_err(), FilterError::Limit(Limit::Conditions));

    let patterns = |count: usize| json!({"$or": vec![json!({"a": {"$regex": "x"}}); count]});
    assert!(Filter::parse(&patterns(PATTERNS_MAX)).is_ok());
    assert_eq!(Filter::parse(&patterns(PATTERNS_MAX + 1)).unwrap_err(), FilterError::Limit(Limit::Patterns));

    let field = |len: usize| json!({"a".repeat(len): 1});
    assert!(Filter::parse(&field(FIELD_LEN_MAX)).is_ok());
    assert_eq!(Filter::parse(&field(FIELD_LEN_MAX + 1)).unwrap_err(), FilterError::Limit(Limit::FieldLength));

    let long: Vec<_> = (0..100_000).collect(); // a list of values is no list of conditions
    check(json!({"a": {"$in": long}}), r#"{"a":99999}"#, true);
}

#[test]
fn deep_metadata_is_matched() {
    let metadata = format!("{}1{}", r#"{"a":"#.repeat(400), "}".repeat(400));
    check(json!({vec!["a"; 400].join("."): 1}), &metadata, true);
    check(json!({vec!["a"; 399].join("."): {"$exists": true}}), &metadata, true);
}

#[test]
fn debug_shows_no_content() {
    assert_eq!(format!("{:?}", Filter::parse(&json!({"secret": 1})).unwrap()), "Filter([redacted])");
}

/// With its feature `raw_value`, `serde_json` counts levels anew inside of each such string. A filter's limits hold all the
/// same, and what a megabyte can nest fits the 2 MB of a thread.
#[test]
fn json_in_the_strings_of_a_filter_costs_little_stack() {
    let mut text = "1".to_owned();
    for _ in 0..18 {
        let quoted = Value::from(text);
        let disguised = format!(r#"{{"$serde_json::private::RawValue":{quoted}}}"#);
        text = format!(r#"{}{disguised}{}"#, "[".repeat(125), "]".repeat(125));
    }
    let read = move || {
        let filter: Value = serde_json::from_str(&format!(r#"{{"$and":{text}}}"#)).unwrap();
        Filter::parse(&filter).unwrap_err().quoting_message().len()
    };
    let message = std::thread::Builder::new().stack_size(2 << 20).spawn(read).unwrap().join().unwrap();
    assert!(message > 2 * 18 * 124, "the whole was read: {message}");
}
