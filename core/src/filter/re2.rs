//! RE2's syntax as the crate `regex` reads it.
//!
//! The two are siblings; what differs and is translated here: \d \w \s \b are ASCII in RE2; in a class, `[`, `&&`,
//! `--` and `~~` are plain characters; a `{` that counts nothing is one, too; \Q…\E quotes; octal escapes. What
//! RE2 does not have (lookaround, flags x, u and R, back references, `\C`) is refused in its words.

use std::iter::Peekable;
use std::str::Chars;

/// Most repetitions that a `{}` may ask for; RE2's own.
const REPEAT_MAX: u32 = 1_000;

/// The pattern for `regex`, or RE2's message.
pub(super) fn translate(pattern: &str) -> Result<String, String> {
    let mut translator = Translator { rest: pattern, out: String::with_capacity(pattern.len() + 16), repeat: "" };
    while !translator.rest.is_empty() {
        translator.step()?;
    }
    Ok(translator.out)
}

struct Translator<'a> {
    rest: &'a str,
    out: String,
    /// The repetition just read, empty behind anything else: RE2 refuses one behind another.
    repeat: &'a str,
}

impl<'a> Translator<'a> {
    fn step(&mut self) -> Result<(), String> {
        let char = self.rest.chars().next().expect("something is left");
        let before = std::mem::take(&mut self.repeat);
        match char {
            '\\' => return self.escape(),
            '[' => return self.class(),
            '(' => return self.group(),
            '*' | '+' | '?' => return self.repetition(before, 1),
            '{' => match repeat_len(self.rest) {
                Some(len) => return self.counted(before, len),
                None => self.out.push_str("\\{"),
            },
            '}' | ']' => self.out.extend(['\\', char]),
            _ => self.out.push(char),
        }
        self.rest = &self.rest[char.len_utf8()..];
        Ok(())
    }

    /// `{n}`, `{n,}` or `{n,m}`.
    fn counted(&mut self, before: &'a str, len: usize) -> Result<(), String> {
        let counts = self.rest[1..len - 1].split(',').filter(|count| !count.is_empty());
        let counts: Vec<_> = counts.map(|count| count.parse::<u32>().unwrap_or(u32::MAX)).collect();
        if counts.iter().any(|count| *count > REPEAT_MAX) || !counts.is_sorted() {
            return Err(format!("invalid repetition size: {}", &self.rest[..len]));
        }
        self.repetition(before, len)
    }

    /// A repetition of `len` bytes, with the `?` that makes it lazy.
    fn repetition(&mut self, before: &'a str, len: usize) -> Result<(), String> {
        if !before.is_empty() {
            return Err(format!("bad repetition operator: {before}{}", &self.rest[..len]));
        }
        let lazy = usize::from(self.rest[len..].starts_with('?'));
        let (repeat, rest) = self.rest.split_at(len + lazy);
        self.out.push_str(repeat);
        (self.repeat, self.rest) = (repeat, rest);
        Ok(())
    }

    fn group(&mut self) -> Result<(), String> {
        let len = match self.rest.strip_prefix("(?") {
            None => 1,
            Some(flags) => {
                let named = flags.starts_with("P<") || flags.starts_with('<') && !flags.starts_with(['=', '!']);
                let lookbehind = flags.starts_with("<=") || flags.starts_with("<!");
                if named && !lookbehind {
                    2
                } else {
                    let known = flags.find(|flag| !matches!(flag, 'i' | 'm' | 's' | 'U' | '-')).unwrap_or(flags.len());
                    match flags[known..].chars().next() {
                        Some(':' | ')') | None => 2 + known,
                        Some(_) => {
                            let end = known + if lookbehind { 2 } else { 1 };
                            let shown = flags.get(..end).unwrap_or(flags);
                            return Err(format!("invalid perl operator: (?{shown}"));
                        }
                    }
                }
            }
        };
        self.out.push_str(&self.rest[..len]);
        self.rest = &self.rest[len..];
        Ok(())
    }

    fn escape(&mut self) -> Result<(), String> {
        if let Some(quoted) = self.rest.strip_prefix("\\Q") {
            let (literal, rest) = quoted.split_once("\\E").unwrap_or((quoted, ""));
            self.out.push_str(&regex_syntax::escape(literal));
            self.rest = rest;
            return Ok(());
        }
        let outside = match self.rest.as_bytes().get(1) {
            Some(b'b') => Some("(?-u:\\b)"),
            Some(b'B') => Some("(?-u:\\B)"),
            Some(b'A') => Some("\\A"),
            Some(b'z') => Some("\\z"),
            _ => None,
        };
        if let Some(anchor) = outside {
            self.out.push_str(anchor);
            self.rest = &self.rest[2..];
            return Ok(());
        }
        let (text, _, rest) = escape(self.rest)?;
        self.out.push_str(&text);
        self.rest = rest;
        Ok(())
    }

    fn class(&mut self) -> Result<(), String> {
        let whole = self.rest;
        let unclosed = || format!("missing ]: {whole}");
        self.out.push('[');
        let mut rest = &whole[1..];
        if let Some(negated) = rest.strip_prefix('^') {
            self.out.push('^');
            rest = negated;
        }
        let mut first = true;
        loop {
            if let Some(behind) = rest.strip_prefix(']').filter(|_| !first) {
                self.out.push(']');
                self.rest = behind;
                return Ok(());
            }
            first = false;
            if let Some(len) = rest.strip_prefix("[:").and_then(|name| name.find(":]")) {
                let (name, behind) = rest.split_at(len + 4);
                let letters = name[2..len + 2].trim_start_matches('^');
                if !POSIX.contains(&letters) {
                    return Err(format!("invalid character class range: {name}"));
                }
                self.out.push_str(name);
                rest = behind;
                continue;
            }
            let start = rest;
            let (low, low_char, behind) = class_item(rest).unwrap_or_else(|| Err(unclosed()))?;
            self.out.push_str(&low);
            rest = behind;
            let Some(low_char) = low_char else { continue };
            let Some(range) = rest.strip_prefix('-').filter(|high| !high.starts_with(']')) else { continue };
            let (high, high_char, behind) = class_item(range).unwrap_or_else(|| Err(unclosed()))?;
            if high_char.is_none_or(|high_char| high_char < low_char) {
                let shown = &start[..start.len() - behind.len()];
                return Err(format!("invalid character class range: {shown}"));
            }
            self.out.push('-');
            self.out.push_str(&high);
            rest = behind;
        }
    }
}

const POSIX: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
];

/// What stands for itself in both, the character if it is one, and the rest.
type Piece<'a> = (String, Option<char>, &'a str);

/// One character or escape of a class; `None` at the end of the pattern.
fn class_item(rest: &str) -> Option<Result<Piece<'_>, String>> {
    let char = rest.chars().next()?;
    Some(match char {
        '\\' => escape(rest),
        _ => Ok((literal(char), Some(char), &rest[char.len_utf8()..])),
    })
}

/// An escape that means the same inside and outside of a class.
fn escape(rest: &str) -> Result<Piece<'_>, String> {
    let mut chars = rest[1..].chars();
    let Some(char) = chars.next() else { return Err("trailing \\".into()) };
    let behind = chars.as_str();
    let bad = |len: usize| Err(format!("invalid escape sequence: {}", rest.get(..len).unwrap_or(rest)));
    let set = match char {
        'd' => "[0-9]",
        'D' => "[^0-9]",
        's' => "[\\t\\n\\x0C\\r ]",
        'S' => "[^\\t\\n\\x0C\\r ]",
        'w' => "[0-9A-Za-z_]",
        'W' => "[^0-9A-Za-z_]",
        _ => "",
    };
    if !set.is_empty() {
        return Ok((set.into(), None, behind));
    }
    let control = match char {
        'a' => '\u{7}',
        'f' => '\u{c}',
        't' => '\t',
        'n' => '\n',
        'r' => '\r',
        'v' => '\u{b}',
        _ => '\0',
    };
    match char {
        _ if control != '\0' => Ok((literal(control), Some(control), behind)),
        'p' | 'P' => {
            let len = match behind.strip_prefix('{') {
                Some(name) => name.find('}').map(|len| len + 2),
                None => behind.chars().next().map(char::len_utf8),
            };
            match len {
                Some(len) => Ok((property(char, &behind[..len]), None, &behind[len..])),
                None => Err(format!("invalid character class range: {rest}")),
            }
        }
        'x' => {
            let (digits, len) = match behind.strip_prefix('{') {
                Some(digits) => digits.find('}').map_or(("", 0), |len| (&digits[..len], len + 2)),
                None => (behind.get(..2).unwrap_or(""), 2),
            };
            let code = if digits.bytes().all(|byte| byte.is_ascii_hexdigit()) { digits } else { "" };
            match u32::from_str_radix(code, 16).ok().and_then(char::from_u32) {
                Some(char) => Ok((literal(char), Some(char), &behind[len..])),
                None => bad(2 + len.max(1)),
            }
        }
        // \1 to \7 alone would be a back reference.
        '1'..='7' if !behind.starts_with(|next: char| next.is_digit(8)) => bad(2),
        '0'..='7' => {
            let digits = rest[1..].bytes().take(3).take_while(|byte| (b'0'..=b'7').contains(byte)).count();
            let code = u32::from_str_radix(&rest[1..1 + digits], 8).ok().and_then(char::from_u32);
            let char = code.expect("three octal digits are a character");
            Ok((literal(char), Some(char), &rest[1 + digits..]))
        }
        _ if char.is_ascii() && !char.is_ascii_alphanumeric() => Ok((literal(char), Some(char), behind)),
        _ => bad(1 + char.len_utf8()),
    }
}

/// `\p{^Greek}` is `\P{Greek}`, and the other way round.
fn property(char: char, name: &str) -> String {
    match name.strip_prefix("{^") {
        Some(name) => format!("\\{}{{{name}", if char == 'p' { 'P' } else { 'p' }),
        None => format!("\\{char}{name}"),
    }
}

/// `char` as itself, wherever it stands.
fn literal(char: char) -> String {
    match char {
        '\\' | '.' | '+' | '*' | '?' | '(' | ')' | '|' | '[' | ']' | '{' | '}' | '^' | '$' | '#' | '&' | '-' | '~' => {
            format!("\\{char}")
        }
        _ => char.into(),
    }
}

/// Bytes of a well-formed `{n}`, `{n,}` or `{n,m}` at the front.
fn repeat_len(text: &str) -> Option<usize> {
    fn digits(chars: &mut Peekable<Chars<'_>>) -> usize {
        std::iter::from_fn(|| chars.next_if(char::is_ascii_digit)).count()
    }
    let mut chars = text[1..].chars().peekable();
    let low = digits(&mut chars);
    let comma = usize::from(chars.next_if_eq(&',').is_some());
    let high = if comma == 1 { digits(&mut chars) } else { 0 };
    (low > 0 && chars.next() == Some('}')).then_some(low + comma + high + 2)
}
