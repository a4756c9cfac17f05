//! A request's value as a 422 shows it again: everything but keys.
//!
//! The original repeats the whole body, index key and all, into answers that proxies and clients log.

use sealvec_core::json::{Json, Kind};

/// Stands where a secret stood.
const HIDDEN: &str = "\"***\"";

/// Stands for a value longer than [`ECHO_MAX`].
const LONG: &str = "\"(too long to repeat)\"";

/// Bytes of a value that an answer repeats.
const ECHO_MAX: usize = 16 << 10;

/// Members whose value is a secret, in lower case.
const SECRET_MEMBERS: [&str; 5] = ["index_key", "indexkey", "user_key", "api_key", "x-index-key"];

/// Hex digits in a row that may be a key: half a KEK is too much already.
const HEX_RUN: usize = 32;

/// Writes `value` as JSON, without what may be a key.
pub fn echo(value: Json<'_>, out: &mut String) {
    if value.text().len() > ECHO_MAX {
        out.push_str(LONG);
    } else {
        write(value, out);
    }
}

/// Whether a member of this name holds a secret.
pub fn is_secret_member(name: &str) -> bool {
    SECRET_MEMBERS.iter().any(|secret| name.eq_ignore_ascii_case(secret))
}

fn write(value: Json<'_>, out: &mut String) {
    match value.kind() {
        Kind::Object => {
            out.push('{');
            for (place, (name, value)) in value.members().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                let name = name.string();
                write_string(&name, out);
                out.push(':');
                if is_secret_member(&name) && value.kind() != Kind::Null {
                    out.push_str(HIDDEN);
                } else {
                    write(value, out);
                }
            }
            out.push('}');
        }
        Kind::Array => {
            out.push('[');
            for (place, value) in value.elements().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                write(value, out);
            }
            out.push(']');
        }
        Kind::String => write_string(&value.string().unwrap_or_default(), out),
        Kind::Null | Kind::Boolean | Kind::Number => out.push_str(value.text()),
    }
}

/// Writes a string of the caller's, or [`HIDDEN`] if a key may be in it.
pub fn write_string(text: &str, out: &mut String) {
    if may_hold_a_key(text) { out.push_str(HIDDEN) } else { write_json_string(text, out) }
}

/// Writes a string as JSON.
pub fn write_json_string(text: &str, out: &mut String) {
    out.push_str(&serde_json::to_string(text).expect("a string is always JSON"));
}

fn may_hold_a_key(text: &str) -> bool {
    let mut run = 0;
    let hex = text.bytes().any(|byte| {
        run = if byte.is_ascii_hexdigit() { run + 1 } else { 0 };
        run >= HEX_RUN
    });
    // A body written as a string holds whole members.
    hex || text.contains("cdbk_") || SECRET_MEMBERS[..4].iter().any(|secret| text.contains(&format!("{secret}\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echoed(text: &str) -> String {
        let mut out = String::new();
        echo(Json::parse(text).expect("the test writes JSON"), &mut out);
        out
    }

    #[test]
    fn no_key_comes_back() {
        let key = "ab".repeat(32);
        for text in [
            format!(r#"{{"index_name":"a","index_key":"{key}"}}"#),
            format!(r#"{{"index_name":"{key}"}}"#),
            format!(r#"["{key}"]"#),
            format!(r#"{{"{key}":1}}"#),
            format!(r#"{{"deep":[{{"Index_Key":["{key}"]}}]}}"#),
            format!(r#""{{\"index_key\":\"{key}\"}}""#),
            r#""{\"index_key\":\"q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=\"}""#.to_owned(),
            r#"{"index_key":"q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s="}"#.to_owned(),
            r#"["cdbk_1_q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s"]"#.to_owned(),
            r#"{"index_key":12345678901234567890}"#.to_owned(),
        ] {
            let out = echoed(&text);
            assert!(!out.contains(&key) && !out.contains("q6ur") && !out.contains("1234567890"), "{out}");
            serde_json::from_str::<serde_json::Value>(&out).expect("an echo is JSON");
        }
    }

    #[test]
    fn the_rest_comes_back_as_it_was() {
        for text in [r#"{"a":[1,2.50,true,null,"x\ny"],"b":{}}"#, "[]", "12345678901234567890", r#"{"index_key":null}"#]
        {
            assert_eq!(echoed(text), text);
        }
        assert_eq!(echoed(&format!("[{}1]", "1,".repeat(ECHO_MAX))), LONG);
    }
}
