//! Whether a text is JSON (RFC 8259), in one pass with a stack of bits.

use super::DEPTH_MAX;
use crate::{Error, Result};

const MALFORMED: Error = Error::Malformed { what: "JSON" };

/// [`Error::Malformed`] unless `text` is one value with white space around it.
pub(super) fn check(text: &str) -> Result<()> {
    let mut text = Cursor { bytes: text.as_bytes(), at: 0 };
    let mut open: Vec<u8> = Vec::new(); // the closing byte of each array and object around
    loop {
        // A value, or the first thing inside of what the last round opened.
        text.skip_space();
        match text.next()? {
            b'{' if text.closes(b'}') => {}
            b'[' if text.closes(b']') => {}
            byte @ (b'{' | b'[') => {
                if open.len() == DEPTH_MAX {
                    return Err(Error::Malformed { what: "JSON: nested too deep" });
                }
                open.push(byte + 2); // '{' and '}', '[' and ']' lie two apart
                if byte == b'{' {
                    text.key()?;
                }
                continue;
            }
            b'"' => text.string()?,
            b't' => text.word(b"rue")?,
            b'f' => text.word(b"alse")?,
            b'n' => text.word(b"ull")?,
            first => text.number(first)?,
        }
        // Behind a value: ends of what is around it, then a comma or the end.
        loop {
            text.skip_space();
            let Some(close) = open.last() else {
                return if text.at == text.bytes.len() { Ok(()) } else { Err(MALFORMED) };
            };
            match text.next()? {
                b',' if *close == b'}' => break text.key()?,
                b',' => break,
                byte if byte == *close => drop(open.pop()),
                _ => return Err(MALFORMED),
            }
        }
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Result<u8> {
        let byte = self.peek().ok_or(MALFORMED)?;
        self.at += 1;
        Ok(byte)
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Takes `close` if nothing else stands before it.
    fn closes(&mut self, close: u8) -> bool {
        let start = self.at;
        self.skip_space();
        let closes = self.peek() == Some(close);
        self.at = if closes { self.at + 1 } else { start };
        closes
    }

    fn word(&mut self, rest: &[u8]) -> Result<()> {
        rest.iter().try_for_each(|byte| if self.next()? == *byte { Ok(()) } else { Err(MALFORMED) })
    }

    /// A key and its colon.
    fn key(&mut self) -> Result<()> {
        self.skip_space();
        self.word(b"\"")?;
        self.string()?;
        self.skip_space();
        self.word(b":")
    }

    /// What follows a quote, up to the next. Bytes from 0x80 are UTF-8 already, since the text is a `str`.
    fn string(&mut self) -> Result<()> {
        loop {
            match self.next()? {
                b'"' => return Ok(()),
                b'\\' => match self.next()? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                    b'u' => match self.unit()? {
                        0xd800..=0xdbff => {
                            self.word(b"\\u")?;
                            if !(0xdc00..=0xdfff).contains(&self.unit()?) {
                                return Err(MALFORMED);
                            }
                        }
                        0xdc00..=0xdfff => return Err(MALFORMED),
                        _ => {}
                    },
                    _ => return Err(MALFORMED),
                },
                0..=0x1f => return Err(MALFORMED),
                _ => {}
            }
        }
    }

    /// Four hexadecimal digits.
    fn unit(&mut self) -> Result<u16> {
        (0..4).try_fold(0, |unit, _| {
            let digit = char::from(self.next()?).to_digit(16).ok_or(MALFORMED)?;
            Ok(unit << 4 | digit as u16)
        })
    }

    fn number(&mut self, first: u8) -> Result<()> {
        let first = if first == b'-' { self.next()? } else { first };
        match first {
            b'0' => {}
            b'1'..=b'9' => self.skip_digits(),
            _ => return Err(MALFORMED),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<()> {
        if !self.next()?.is_ascii_digit() {
            return Err(MALFORMED);
        }
        self.skip_digits();
        Ok(())
    }

    fn skip_digits(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
    }
}
