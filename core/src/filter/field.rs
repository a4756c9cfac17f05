//! What a path finds in metadata: the values at `a.b`, through objects and through keys with dots.

use crate::json::{Json, Kind};

/// The values that `path` leads to: none, one, or several where a key with dots is also a path.
pub(crate) fn find<'a>(metadata: Option<Json<'a>>, path: &str) -> Vec<Json<'a>> {
    let mut found = Vec::new();
    if let Some(object) = metadata {
        descend(object, path, &mut found);
    }
    found
}

/// Recursion ends with the path: at most one level per dot, and paths are bounded.
fn descend<'a>(object: Json<'a>, path: &str, found: &mut Vec<Json<'a>>) {
    // By length of the key that matched a front of the path: a repeated key counts last, as for any reader of JSON.
    let mut fronts: Vec<(usize, Json<'a>)> = Vec::new();
    for (key, value) in object.members() {
        let key = key.string();
        let rest = path.strip_prefix(&*key);
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.')) {
            match fronts.iter_mut().find(|(len, _)| *len == key.len()) {
                Some(front) => front.1 = value,
                None => fronts.push((key.len(), value)),
            }
        }
    }
    for (len, value) in fronts {
        match path[len..].strip_prefix('.') {
            None => found.push(value),
            Some(rest) => {
                if value.kind() == Kind::Object {
                    descend(value, rest, found);
                }
            }
        }
    }
}

/// Whether a value counts as being there.
pub(super) fn is_there(value: Json<'_>) -> bool {
    match value.kind() {
        Kind::Null => false,
        Kind::Array => !value.is_hollow(),
        _ => true,
    }
}

/// Whether the value, or any element of it if it is an array, is as `test` says.
pub(super) fn any(value: Json<'_>, test: impl Fn(Json<'_>) -> bool) -> bool {
    match value.kind() {
        Kind::Array => value.elements().any(test),
        _ => test(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(metadata: &str, path: &str, expected: &[&str]) {
        let found = find(Some(Json::parse(metadata).unwrap()), path);
        assert_eq!(found.iter().map(|json| json.text()).collect::<Vec<_>>(), expected, "{path} in {metadata}");
    }

    #[test]
    fn paths_find_what_they_name() {
        check(r#"{"a":1}"#, "a", &["1"]);
        check(r#"{"a":1}"#, "b", &[]);
        check(r#"{"a":{"b":{"c":[1]}}}"#, "a.b.c", &["[1]"]);
        check(r#"{"a.b":1}"#, "a.b", &["1"]);
        check(r#"{"a.b":1,"a":{"b":2}}"#, "a.b", &["1", "2"]);
        check(r#"{"a":{"b.c":1},"a.b":{"c":2},"a.b.c":3}"#, "a.b.c", &["1", "2", "3"]);
        check(r#"{"a":1,"a":2}"#, "a", &["2"]);
        check(r#"{"a":{"b":1},"a":{}}"#, "a.b", &[]);
        check(r#"{"\u0061":1}"#, "a", &["1"]);
        check(r#"{"":1,".":2}"#, "", &["1"]);
        check(r#"{"":{"":1},".":2}"#, ".", &["1", "2"]);
        check(r#"{"$k":null}"#, "$k", &["null"]);
    }

    #[test]
    fn arrays_are_not_looked_into() {
        for path in ["a.x", "a.0", "a.0.x"] {
            check(r#"{"a":[{"x":1}]}"#, path, &[]);
        }
        check(r#"{"ab":1,"a":"b"}"#, "a.b", &[]);
    }

    #[test]
    fn no_metadata_has_no_field() {
        assert!(find(None, "a").is_empty());
    }
}
