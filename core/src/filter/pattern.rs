//! `$regex`: a pattern in RE2's syntax, run by the crate `regex`, whose engine is RE2's in kind: linear time, no backtracking.
//!
//! [`re2`](super::re2) translates where the two read a pattern differently. Here it is compiled within its
//! limits, and what is wrong with it is said in RE2's words.

use regex::{Regex, RegexBuilder};
use regex_syntax::Parser;
use regex_syntax::ast::ErrorKind;

use super::error::{FilterError, Limit};
use super::{PATTERN_LEN_MAX, PATTERN_SIZE_MAX, re2};

/// Groups in groups: parsing recurses, in the C stack of a backend.
const NEST_MAX: u32 = 200;

/// A compiled pattern, matched anywhere in a text.
#[derive(Clone)]
pub(super) struct Pattern(Regex);

impl Pattern {
    pub(super) fn compile(pattern: &str) -> Result<Self, FilterError> {
        if pattern.len() > PATTERN_LEN_MAX {
            return Err(FilterError::Limit(Limit::PatternLength));
        }
        let invalid = |reason: String| FilterError::Pattern { pattern: pattern.to_owned(), reason };
        let translated = re2::translate(pattern).map_err(invalid)?;
        let parsed = regex_syntax::ParserBuilder::new().nest_limit(NEST_MAX).build();
        check(parsed, &translated, pattern).map_err(invalid)?;
        RegexBuilder::new(&translated)
            .nest_limit(NEST_MAX)
            .size_limit(PATTERN_SIZE_MAX)
            .dfa_size_limit(PATTERN_SIZE_MAX)
            .build()
            .map(Self)
            .map_err(|_| invalid("pattern too large - compile failed".into())) // its syntax was checked
    }

    pub(super) fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

/// What RE2 would say of the pattern: `code: place`.
fn check(mut parser: Parser, translated: &str, pattern: &str) -> Result<(), String> {
    let error = match parser.parse(translated) {
        Ok(_) => return Ok(()),
        Err(error) => error,
    };
    Err(match error {
        regex_syntax::Error::Parse(error) => {
            let span = error.span();
            let place = translated.get(span.start.offset..span.end.offset).unwrap_or(pattern);
            match error.kind() {
                ErrorKind::GroupUnclosed | ErrorKind::FlagUnexpectedEof => format!("missing ): {pattern}"),
                ErrorKind::GroupUnopened => format!("unexpected ): {pattern}"),
                ErrorKind::ClassUnclosed => format!("missing ]: {}", &translated[span.start.offset..]),
                ErrorKind::ClassRangeInvalid => format!("invalid character class range: {place}"),
                ErrorKind::RepetitionMissing => {
                    // The span is the empty place in front of the operator.
                    let operator = &translated[span.start.offset..];
                    let len = if operator.starts_with('{') { operator.find('}').map_or(1, |end| end + 1) } else { 1 };
                    format!("no argument for repetition operator: {}", operator.get(..len).unwrap_or(operator))
                }
                ErrorKind::RepetitionCountInvalid | ErrorKind::DecimalInvalid => {
                    format!("invalid repetition size: {place}")
                }
                ErrorKind::GroupNameDuplicate { .. }
                | ErrorKind::GroupNameEmpty
                | ErrorKind::GroupNameInvalid
                | ErrorKind::GroupNameUnexpectedEof => format!("invalid named capture group: {place}"),
                ErrorKind::NestLimitExceeded(_) | ErrorKind::CaptureLimitExceeded => "bad nesting: too deep".into(),
                _ => format!("invalid escape sequence: {place}"),
            }
        }
        regex_syntax::Error::Translate(error) => {
            let span = error.span();
            let place = translated.get(span.start.offset..span.end.offset).unwrap_or(pattern);
            format!("invalid character class range: {place}")
        }
        _ => "unexpected error".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_match(pattern: &str, text: &str) -> bool {
        Pattern::compile(pattern).unwrap_or_else(|error| panic!("{}", error.quoting_message())).is_match(text)
    }

    #[test]
    fn patterns_match_as_in_re2() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("^app", "apple", true),
            ("^app", "an apple", false),
            ("ppl", "apple", true),
            ("apple", "Apple", false),
            ("(?i)apple", "APPLE", true),
            ("(?i)É", "é", true),
            ("^.$", "é", true),
            ("^.$", "\n", false),
            ("(?s)^.$", "\n", true),
            ("a$", "a\n", false),
            ("(?m)^b$", "a\nb\nc", true),
            // ASCII where Rust would say Unicode
            (r"^\d$", "٣", false),
            (r"^\D$", "٣", true),
            (r"^\w$", "é", false),
            (r"^\W$", "é", true),
            (r"^[\w-]+$", "a-b_9", true),
            (r"^[^\d]$", "٣", true),
            (r"^\s$", "\u{a0}", false),
            (r"\bé", "aé", true), // to RE2, é is no word character
            (r"^[[:alpha:]]$", "q", true),
            (r"^[[:^alpha:]]$", "q", false),
            // characters that only Rust gives a meaning to
            ("^[a&&b]$", "&", true),
            ("^[[a]$", "[", true),
            ("^[a~~b]$", "~", true),
            ("^[]a]$", "]", true),
            ("^[^]a]$", "]", false),
            ("^[a-]$", "-", true),
            ("^[-a]$", "-", true),
            ("^a{$", "a{", true),
            ("^a{,3}$", "a{,3}", true),
            ("^a{x}$", "a{x}", true),
            ("^a}$", "a}", true),
            ("^]$", "]", true),
            ("^a{2}$", "aa", true),
            ("^a{2,}?$", "aaaa", true),
            (r"^\Qa.b*\E+$", "a.b***", true),
            (r"^\Qa.b", "a.bc", true),
            (r"^\x41\x{1F980}\101\-\_$", "A🦀A-_", true),
            (r"^\pL\p{Greek}\PN\p{^Greek}$", "aαbb", true),
            (r"(?P<name>a)(?:b)(c)", "abc", true),
            (r"\Aab\z", "ab", true),
            ("a # b", "a # b", true),
        ] {
            assert_eq!(is_match(pattern, text), expected, "{pattern:?} on {text:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_in_re2s_words() {
        for (pattern, reason) in [
            ("(", "missing ): ("), // recorded from the original
            ("a(b", "missing ): a(b"),
            ("a)", "unexpected ): a)"),
            ("[a", "missing ]: [a"),
            ("x[z-a]", "invalid character class range: z-a"),
            ("*", "no argument for repetition operator: *"),
            ("|{2,}", "no argument for repetition operator: {2,}"),
            ("(+)", "no argument for repetition operator: +"),
            ("a**", "bad repetition operator: **"),
            ("a{1001}", "invalid repetition size: {1001}"),
            ("a{2,1}", "invalid repetition size: {2,1}"),
            ("\\", "trailing \\"),
            (r"\y", r"invalid escape sequence: \y"),
            (r"(a)\1", r"invalid escape sequence: \1"),
            ("(?=a)", "invalid perl operator: (?="),
            ("(?<!a)", "invalid perl operator: (?<!"),
            ("(?x)a", "invalid perl operator: (?x"),
            (r"\p{Nope}", r"invalid character class range: \p{Nope}"),
        ] {
            let error = Pattern::compile(pattern).err().unwrap_or_else(|| panic!("{pattern} is good"));
            let expected = format!("$regex has an invalid pattern: {pattern} ({reason})");
            assert_eq!(error.quoting_message(), expected);
        }
    }

    #[test]
    fn size_and_time_are_bounded() {
        for pattern in [r"(\pL{500}){500}".to_owned(), "((a{100}){100}){100}".into(), "(".repeat(4_000)] {
            assert!(Pattern::compile(&pattern).is_err(), "{:.20}", pattern);
        }
        assert!(Pattern::compile(&"a".repeat(PATTERN_LEN_MAX)).is_ok());
        let long = Pattern::compile(&"a".repeat(PATTERN_LEN_MAX + 1));
        assert!(matches!(long.err(), Some(FilterError::Limit(Limit::PatternLength))));
        // (a|aa)+$ takes a backtracking engine 2^n steps here.
        let text = format!("{}!", "a".repeat(200_000));
        assert!(!is_match("^(a|aa)+$", &text) && !is_match("^(a*)*b$", &text));
    }
}
