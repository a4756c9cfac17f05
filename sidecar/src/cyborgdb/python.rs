//! Why Python's `json` refuses a text, in its words and at its place; or that it takes it, NaN and all.
//!
//! Runs only on a body that RFC 8259 refuses. The original is Python: its clients see these words in a 422, and it
//! takes `NaN` and `Infinity` where JSON has no such numbers. Never recurses: nesting costs a bit on a stack.

/// What Python's reader says to a text that is no JSON.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It refuses, at a character counted from 0.
    Refused {
        /// Where.
        place: usize,
        /// Its words.
        words: &'static str,
    },
    /// It takes it. This is the text with each number that is none written as one too large for any float.
    NotFinite(String),
    /// It reads it and we do not: nested too deep.
    Unreadable,
}

/// Stands for a number that no float holds.
const BEYOND: &str = "1e999";

struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// Where a `NaN` or `Infinity` stands, and its length.
    odd: Vec<(usize, usize)>,
}

type Refusal = (usize, &'static str);

/// Judges a text that [`Json::parse`](sealvec_core::json::Json::parse) refused.
pub fn judge(text: &str) -> Verdict {
    let mut reader = Reader { text, at: 0, odd: Vec::new() };
    match reader.whole() {
        Err((at, words)) => Verdict::Refused { place: text[..at.min(text.len())].chars().count(), words },
        Ok(()) if reader.odd.is_empty() => Verdict::Unreadable,
        Ok(()) => {
            let (mut written, mut from) = (String::with_capacity(text.len()), 0);
            for (at, length) in reader.odd {
                written.push_str(&text[from..at]);
                written.push_str(BEYOND);
                from = at + length;
            }
            written.push_str(&text[from..]);
            Verdict::NotFinite(written)
        }
    }
}

const NAME: &str = "Expecting property name enclosed in double quotes";
const VALUE: &str = "Expecting value";
const COMMA: &str = "Expecting ',' delimiter";

impl Reader<'_> {
    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.byte(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn whole(&mut self) -> Result<(), Refusal> {
        // One entry per open bracket: is it an object's?
        let mut open: Vec<bool> = Vec::new();
        self.skip_space();
        loop {
            // A value starts here.
            match self.byte() {
                Some(b'{') => {
                    self.at += 1;
                    self.skip_space();
                    if self.byte() == Some(b'}') {
                        self.at += 1;
                    } else {
                        self.name()?;
                        open.push(true);
                        continue;
                    }
                }
                Some(b'[') => {
                    self.at += 1;
                    self.skip_space();
                    if self.byte() == Some(b']') {
                        self.at += 1;
                    } else {
                        open.push(false);
                        continue;
                    }
                }
                Some(b'"') => self.string()?,
                _ => self.plain()?,
            }
            // A value ended here.
            loop {
                self.skip_space();
                let Some(&object) = open.last() else {
                    return if self.at == self.text.len() { Ok(()) } else { Err((self.at, "Extra data")) };
                };
                match self.byte() {
                    Some(b'}') if object => {}
                    Some(b']') if !object => {}
                    Some(b',') => {
                        self.at += 1;
                        self.skip_space();
                        if object {
                            self.name()?;
                        }
                        break;
                    }
                    _ => return Err((self.at, COMMA)),
                }
                self.at += 1;
                open.pop();
            }
        }
    }

    /// A member's name, its colon, and the space before its value.
    fn name(&mut self) -> Result<(), Refusal> {
        if self.byte() != Some(b'"') {
            return Err((self.at, NAME));
        }
        self.string()?;
        self.skip_space();
        if self.byte() != Some(b':') {
            return Err((self.at, "Expecting ':' delimiter"));
        }
        self.at += 1;
        self.skip_space();
        Ok(())
    }

    fn string(&mut self) -> Result<(), Refusal> {
        let unterminated = (self.at, "Unterminated string starting at");
        self.at += 1;
        loop {
            match self.byte().ok_or(unterminated)? {
                b'"' => {
                    self.at += 1;
                    return Ok(());
                }
                0..=0x1f => return Err((self.at, "Invalid control character at")),
                b'\\' => {
                    let backslash = self.at;
                    self.at += 1;
                    match self.byte().ok_or(unterminated)? {
                        b'u' => self.escape_u()?,
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 1,
                        _ => return Err((backslash, "Invalid \\escape")),
                    }
                }
                _ => self.at += 1,
            }
        }
    }

    /// Four hex digits after `\u`. Half a surrogate pair, which Python takes, is no text of any UTF-8.
    fn escape_u(&mut self) -> Result<(), Refusal> {
        let refusal = (self.at, "Invalid \\uXXXX escape");
        let unit = |at: usize| {
            let digits = self.text.as_bytes().get(at..at + 4).filter(|d| d.iter().all(u8::is_ascii_hexdigit))?;
            u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
        };
        let first = unit(self.at + 1).ok_or(refusal)?;
        let mut end = self.at + 5;
        match first {
            0xd800..=0xdbff => {
                let pair = self.text.as_bytes().get(end..end + 2) == Some(b"\\u");
                match pair.then(|| unit(end + 2)).flatten() {
                    Some(0xdc00..=0xdfff) => end += 6,
                    _ => return Err(refusal),
                }
            }
            0xdc00..=0xdfff => return Err(refusal),
            _ => {}
        }
        self.at = end;
        Ok(())
    }

    /// A number or one of the words.
    fn plain(&mut self) -> Result<(), Refusal> {
        let rest = &self.text[self.at..];
        for word in ["null", "true", "false"] {
            if rest.starts_with(word) {
                self.at += word.len();
                return Ok(());
            }
        }
        for word in ["NaN", "Infinity", "-Infinity"] {
            if rest.starts_with(word) {
                self.odd.push((self.at, word.len()));
                self.at += word.len();
                return Ok(());
            }
        }
        let length = number_length(rest.as_bytes()).ok_or((self.at, VALUE))?;
        self.at += length;
        Ok(())
    }
}

/// Length of the longest number that `text` starts with.
fn number_length(text: &[u8]) -> Option<usize> {
    let digits = |from: usize| text[from.min(text.len())..].iter().take_while(|b| b.is_ascii_digit()).count();
    let sign = usize::from(text.first() == Some(&b'-'));
    let whole = match text.get(sign)? {
        b'0' => 1,
        b'1'..=b'9' => digits(sign),
        _ => return None,
    };
    let mut end = sign + whole;
    if text.get(end) == Some(&b'.') && digits(end + 1) > 0 {
        end += 1 + digits(end + 1);
    }
    if matches!(text.get(end), Some(b'e' | b'E')) {
        let signed = usize::from(matches!(text.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits(end + 1 + signed);
        if exponent > 0 {
            end += 1 + signed + exponent;
        }
    }
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded from Python 3.11's `json` behind FastAPI.
    #[test]
    fn refusals_are_pythons() {
        const REFUSED: &[(&str, usize, &str)] = &[
            ("{", 1, NAME),
            ("{bad", 1, NAME),
            ("{\"a\"", 4, "Expecting ':' delimiter"),
            ("{\"a\":", 5, VALUE),
            ("{\"a\":1,", 7, NAME),
            ("{\"a\":1,}", 7, NAME),
            ("[1,]", 3, VALUE),
            ("[1", 2, COMMA),
            ("{\"a\" 1}", 5, "Expecting ':' delimiter"),
            ("{\"a\":1 \"b\"}", 7, COMMA),
            ("tru", 0, VALUE),
            ("\"abc", 0, "Unterminated string starting at"),
            ("\"a\tb\"", 2, "Invalid control character at"),
            ("\"a\\x\"", 2, "Invalid \\escape"),
            ("\"\\u12\"", 2, "Invalid \\uXXXX escape"),
            ("{} x", 3, "Extra data"),
            ("  ", 2, VALUE),
            ("01", 1, "Extra data"),
            ("-", 0, VALUE),
            ("1.", 1, "Extra data"),
            ("[1 2]", 3, COMMA),
            ("{\"a\":\"b\n\"}", 7, "Invalid control character at"),
            ("{1:2}", 1, NAME),
            ("\u{e9}", 0, VALUE),
            ("{\"\u{e9}\":", 5, VALUE),
            ("{\n \"a\":\n x", 9, VALUE),
            ("[}", 1, VALUE),
            ("[1}", 2, COMMA),
            ("{\"a\":\"\\ud800\"}", 7, "Invalid \\uXXXX escape"),
        ];
        for &(text, place, words) in REFUSED {
            assert_eq!(judge(text), Verdict::Refused { place, words }, "{text}");
        }
    }

    #[test]
    fn not_a_number_becomes_a_number_beyond_all() {
        let text = "{\"v\":[NaN, 1,-Infinity,Infinity],\"NaN\":\"NaN\\\"\"}";
        let Verdict::NotFinite(written) = judge(text) else { panic!("refused {text}") };
        assert_eq!(written, "{\"v\":[1e999, 1,1e999,1e999],\"NaN\":\"NaN\\\"\"}");
    }

    #[test]
    fn what_json_is_the_reader_takes() {
        for text in ["{}", "[]", " [ ] ", "{\"a\":[1,-0.5e+3,{\"b\":null}],\"c\":true}", "\"\\ud83d\\ude00\"", "0"] {
            assert_eq!(judge(text), Verdict::Unreadable, "{text}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(judge(&deep), Verdict::Refused { place: 100_000, words: VALUE });
    }
}
