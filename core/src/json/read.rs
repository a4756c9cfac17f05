//! Walking through a checked text: members, elements, keys, escapes.

use std::borrow::Cow;

use super::Json;

/// The text without white space around it.
pub(super) fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t', '\n', '\r'])
}

/// What stands between a string's quotes, an array's or an object's brackets.
pub(super) fn inside(text: &str) -> &str {
    text.get(1..text.len().saturating_sub(1)).unwrap_or("")
}

/// Elements of an array.
#[derive(Clone)]
pub struct Elements<'a> {
    rest: &'a str,
}

impl<'a> Elements<'a> {
    pub(super) fn new(inside: &'a str) -> Self {
        Self { rest: inside }
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Json<'a>;

    fn next(&mut self) -> Option<Json<'a>> {
        take_value(&mut self.rest)
    }
}

/// Members of an object: key and value.
#[derive(Clone)]
pub struct Members<'a> {
    rest: &'a str,
}

impl<'a> Members<'a> {
    pub(super) fn new(inside: &'a str) -> Self {
        Self { rest: inside }
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = (Key<'a>, Json<'a>);

    fn next(&mut self) -> Option<(Key<'a>, Json<'a>)> {
        let text = trim(self.rest);
        let (key, rest) = text.split_at(value_len(text.as_bytes()));
        let mut rest = trim(rest).strip_prefix(':')?;
        let value = take_value(&mut rest)?;
        self.rest = rest;
        Some((Key(inside(key)), value))
    }
}

/// The key of a member, as it stands in the text.
#[derive(Clone, Copy)]
pub struct Key<'a>(&'a str);

impl<'a> Key<'a> {
    /// Its characters.
    pub fn string(self) -> Cow<'a, str> {
        unescape(self.0)
    }

    /// Whether it is `key`.
    pub fn is(self, key: &str) -> bool {
        if self.0.contains('\\') { self.string() == key } else { self.0 == key }
    }
}

/// Takes a value and the comma behind it off the front.
fn take_value<'a>(rest: &mut &'a str) -> Option<Json<'a>> {
    let text = trim(rest);
    if text.is_empty() {
        return None;
    }
    let (value, behind) = text.split_at(value_len(text.as_bytes()));
    let behind = trim(behind);
    *rest = behind.strip_prefix(',').unwrap_or(behind);
    Some(Json(value))
}

/// Bytes of the value at the front of `text`. Brackets are counted, not matched: the text was checked.
fn value_len(text: &[u8]) -> usize {
    match text.first() {
        Some(b'"') => string_len(text),
        Some(b'{' | b'[') => {
            let (mut at, mut depth) = (0, 0usize);
            while at < text.len() {
                match text[at] {
                    b'"' => {
                        at += string_len(&text[at..]);
                        continue;
                    }
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => depth -= 1,
                    _ => {}
                }
                at += 1;
                if depth == 0 {
                    break;
                }
            }
            at
        }
        _ => {
            let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b':' | b' ' | b'\t' | b'\n' | b'\r');
            text.iter().position(ends).unwrap_or(text.len())
        }
    }
}

/// Bytes of the string at the front of `text`, both quotes counted.
fn string_len(text: &[u8]) -> usize {
    let mut at = 1;
    while at < text.len() {
        match text[at] {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

/// The characters that the inside of a string stands for.
pub(super) fn unescape(raw: &str) -> Cow<'_, str> {
    let Some(first) = raw.find('\\') else { return Cow::Borrowed(raw) };
    let mut out = String::with_capacity(raw.len());
    out.push_str(&raw[..first]);
    let mut rest = raw[first..].chars();
    while let Some(char) = rest.next() {
        if char != '\\' {
            out.push(char);
            continue;
        }
        match rest.next() {
            Some('b') => out.push('\u{8}'),
            Some('f') => out.push('\u{c}'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('u') => {
                let mut code = unit(&mut rest);
                if (0xd800..=0xdbff).contains(&code) {
                    rest.nth(1); // the \u of the second half
                    code = 0x10000 + ((code & 0x3ff) << 10) + (unit(&mut rest) & 0x3ff);
                }
                out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            Some(itself) => out.push(itself),
            None => {}
        }
    }
    Cow::Owned(out)
}

fn unit(digits: &mut std::str::Chars<'_>) -> u32 {
    digits.by_ref().take(4).fold(0, |unit, digit| unit << 4 | digit.to_digit(16).unwrap_or(0))
}
