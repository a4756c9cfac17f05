//! Reading by levels against `serde_json::Value`, which reads all at once.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// As `serde_json` would have read it.
fn value_of(json: Json<'_>) -> Value {
    match json.kind() {
        Kind::Null => Value::Null,
        Kind::Boolean => json.boolean().unwrap().into(),
        Kind::Number => serde_json::from_str(json.text()).unwrap(),
        Kind::String => json.string().unwrap().into(),
        Kind::Array => json.elements().map(value_of).collect(),
        Kind::Object => json.members().map(|(key, value)| (key.string().into_owned(), value_of(value))).collect(),
    }
}

/// Both agree on whether `text` is JSON, and on what it says.
fn check(text: &str) {
    let expected = serde_json::from_str::<Value>(text);
    match Json::parse(text) {
        Ok(json) => assert_eq!(value_of(json), expected.unwrap_or_else(|error| panic!("{text:?}: {error}"))),
        Err(error) => assert!(expected.is_err(), "{text:?} is JSON, not {error}"),
    }
}

#[test]
fn good_and_bad_texts() {
    for text in [
        "null",
        "true",
        "false",
        "0",
        "-0",
        "-1.5e+10",
        "1E5",
        "\"\"",
        "[]",
        "{}",
        " [ ] ",
        "{ \n}\t",
        r#"{"a":1,"b":[true,null,{"c":"d"}],"a":2}"#,
        r#"[[],[[]],{},{"":{}}]"#,
        r#""é\n\u00e9\ud83d\ude00\/\\""#,
        r#"{"a\"b":"}","[":"]{,:"}"#,
        "[1 ,2, 3 ]",
        r#"{"k" : "v" , "l":0}"#,
        "\"\\u0000\"",
        // bad ones
        "",
        " ",
        "nul",
        "nulll",
        "tru",
        "True",
        "01",
        "-",
        "+1",
        ".5",
        "1.",
        "1e",
        "1e+",
        "0x1",
        "NaN",
        "Infinity",
        "--1",
        "\"",
        "\"\\\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"\n\"",
        "\"\u{1}\"",
        "\"\u{1f}\"",
        "\"\u{20}\u{7f}\"",
        r#""\ud800""#,
        r#""\udc00""#,
        r#""\ud800\ud800""#,
        r#""\ud800x""#,
        r#"[{"a":["\ud800"]}]"#,
        r#"{"a":{"\udc00":1}}"#,
        r#"["]]]]","\"}}}}\\",{"[[[[":"{{{{"}]"#,
        "[",
        "]",
        "[1",
        "[1,",
        "[1,]",
        "[,1]",
        "[1 2]",
        "{",
        "}",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":1,",
        "{\"a\":1,}",
        "{,}",
        "{a:1}",
        "{\"a\" 1}",
        "{\"a\":1 \"b\":2}",
        "[}",
        "{]",
        "[1}",
        "{\"a\":1]",
        "1 2",
        "{} {}",
        "[]]",
        "'a'",
        "// c\n1",
        "\u{feff}1",
        "\u{a0}1",
        "1\u{b}",
        "{1:2}",
        "{null:1}",
    ] {
        check(text);
    }
}

#[test]
fn nesting_is_bounded_and_costs_no_stack() {
    let nested = |levels: usize| format!("{}1{}", r#"{"a":["#.repeat(levels / 2), "]}".repeat(levels / 2));
    let deep = nested(DEPTH_MAX);
    let mut json = Json::parse(&deep).unwrap();
    for _ in 0..DEPTH_MAX / 2 {
        json = json.member("a").unwrap().elements().next().unwrap();
    }
    assert_eq!(json.number(), Some(Number::Integer(1)));
    assert!(Json::parse(&nested(DEPTH_MAX + 2)).is_err());
    assert!(Json::parse(&"[".repeat(10_000_000)).is_err());
}

#[test]
fn numbers_come_back_as_they_were_written() {
    for text in ["12345678901234567890", "1.0", "1E5", "-0", "1e400", "0.1000000000000000055511151231257827"] {
        let array = format!("[ {text} ]");
        let element = Json::parse(&array).unwrap().elements().next().unwrap();
        assert_eq!((element.text(), element.kind()), (text, Kind::Number));
    }
}

#[test]
fn a_repeated_key_counts_last() {
    let json = Json::parse(r#"{"a":1,"\u0061":2,"b":3}"#).unwrap();
    assert_eq!(json.member("a").unwrap().text(), "2");
    assert!(json.member("c").is_none());
}

/// A name that `serde_json::Value` takes for a sign of its own.
#[test]
fn no_key_is_special() {
    let key = "$serde_json::private::RawValue";
    let text = format!(r#"{{"{key}":"{{}}"}}"#);
    let json = Json::parse(&text).unwrap();
    assert_eq!((json.text(), json.member(key).unwrap().text()), (text.as_str(), "\"{}\""));
}

#[test]
fn hollow_is_empty_inside() {
    for (text, hollow) in
        [("[]", true), ("{ }", true), ("[ \n]", true), ("[0]", false), ("{\"\":0}", false), ("0", false)]
    {
        assert_eq!(Json::parse(text).unwrap().is_hollow(), hollow, "{text}");
    }
}

#[test]
fn debug_shows_no_content() {
    assert_eq!(format!("{:?}", Json::parse(r#"{"secret":1}"#).unwrap()), "Json(Object, 12 bytes)");
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_filter_map("finite", |float| float.is_finite().then(|| Value::from(float))),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_serde_json_writes_is_read(value in values(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        prop_assert_eq!(value_of(Json::parse(&text).unwrap()), value);
    }

    /// Damage in one place: both readers must still agree.
    #[test]
    fn damaged_texts_are_judged_alike(value in values(), place in any::<prop::sample::Index>(), with in r#"[\[\]{}",:\\0-9a-f.eE+u -]{0,3}"#) {
        let mut text = serde_json::to_string(&value).unwrap();
        let mut at = place.index(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        let end = at + text[at..].chars().next().map_or(0, char::len_utf8);
        text.replace_range(at..end, &with);
        let too_large = serde_json::from_str::<Value>(&text).is_err_and(|error| error.to_string().contains("out of range"));
        if !too_large {
            check(&text);
        }
    }

    #[test]
    fn unchecked_text_does_no_harm(text in r#"[\[\]{}",:\\ua0 ]{0,40}"#) {
        let json = Json::checked_before(&text);
        let _ = (json.kind(), json.string(), json.number(), json.boolean(), json.is_hollow());
        let _ = (json.members().count(), json.elements().count(), json.member("a"));
    }
}
