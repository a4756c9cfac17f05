//! A line of the audit log: `sealvec audit: name="value" name="value" …`.
//!
//! Names of rings and roles are anybody's text. A value holds letters, digits and a few marks as they are, and any other
//! character as `\u{hex}`, quotes, backslashes, line ends and `=` among them: so `name=` begins a field wherever it is found,
//! and no name ends a line, hides one or adds a field.

use std::fmt::Write as _;

/// What every line begins with.
const PREFIX: &str = "sealvec audit:";

/// A line under way.
pub struct Line {
    text: String,
    is_unicode: bool,
}

impl Line {
    /// One without fields. Where `is_unicode` is false, whoever takes the line takes ASCII only.
    pub fn new(is_unicode: bool) -> Self {
        Self { text: PREFIX.to_owned(), is_unicode }
    }

    /// Adds a field. `name` is ours, `value` anybody's.
    pub fn field(&mut self, name: &'static str, value: &str) -> &mut Self {
        debug_assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
        self.text.push(' ');
        self.text.push_str(name);
        self.text.push_str("=\"");
        for c in value.chars() {
            match is_plain(c) && (self.is_unicode || c.is_ascii()) {
                true => self.text.push(c),
                false => write!(self.text, "\\u{{{:x}}}", u32::from(c)).expect("a String takes any text"),
            }
        }
        self.text.push('"');
        self
    }

    /// The whole line.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

fn is_plain(c: char) -> bool {
    c.is_alphanumeric() || " _-.,:;/@+*()[]".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str, told: &str) {
        assert_eq!(Line::new(true).field("ring", value).as_str(), format!("sealvec audit: ring=\"{told}\""));
    }

    #[test]
    fn no_name_forges_a_field_or_a_line() {
        check("sales 2026-11_eu", "sales 2026-11_eu");
        check("Straße 名前", "Straße 名前");
        check("", "");
        check("x\" result=\"ok", r"x\u{22} result\u{3d}\u{22}ok");
        check("x\nLOG:  sealvec audit: a=b", r"x\u{a}LOG:  sealvec audit: a\u{3d}b");
        check("x\\", r"x\u{5c}");
        check("\\u{22}", r"\u{5c}u\u{7b}22\u{7d}");
        check("x\r\0\u{1b}[2K", r"x\u{d}\u{0}\u{1b}[2K");
        check("a\u{202e}b\u{2028}c\u{85}\u{a0}", r"a\u{202e}b\u{2028}c\u{85}\u{a0}");
        check("%s%n $(id) `id` 'x'", r"\u{25}s\u{25}n \u{24}(id) \u{60}id\u{60} \u{27}x\u{27}");
    }

    #[test]
    fn every_character_gives_one_line_with_two_quotes() {
        for c in (0..=0x2_ffff).filter_map(char::from_u32) {
            let mut line = Line::new(true);
            let text = line.field("ring", &c.to_string()).as_str().to_owned();
            let of = |wanted| text.matches(wanted).count();
            assert_eq!((of('"'), of('='), text.lines().count()), (2, 1, 1), "{c:?}");
            assert!(!text.chars().any(char::is_control), "{c:?}");
        }
    }

    #[test]
    fn a_server_that_knows_no_unicode_gets_ascii() {
        assert!(Line::new(false).field("ring", "Straße\u{10ffff}").as_str().is_ascii());
        assert_eq!(Line::new(false).field("ring", "ß").as_str(), r#"sealvec audit: ring="\u{df}""#);
    }
}
