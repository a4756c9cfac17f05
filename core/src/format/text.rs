//! The two text forms of a vector: floats as the user writes them, and sealed bytes as Postgres prints them.
//!
//! Floats only come in (`[0.1,0.2]` or `{0.1,0.2}`); nothing here can print one. Sealed bytes go both
//! ways: [`SEALED_PREFIX`] and then base64url without padding, which needs no quoting in an array
//! literal, in CSV or in COPY, so that a dump is always valid input again.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::typmod::DIMS_MAX;
use crate::Error;

/// What every sealed value starts with in text; the digit is the version of the value format.
pub const SEALED_PREFIX: &str = "sealvec1.";

/// Why a vector in text was refused. Carries places, never what stood there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// The first byte that is not white space is neither `[` nor `{`.
    #[error("a vector starts with \"[\" or \"{{\"")]
    Start,
    /// The text ends before the closing bracket.
    #[error("unexpected end of input after {elements} elements")]
    End {
        /// Elements read so far.
        elements: usize,
    },
    /// An element is not a decimal number.
    #[error("element {ordinal} is not a number")]
    Number {
        /// Which element, from 1.
        ordinal: usize,
    },
    /// Something other than a comma or the closing bracket follows an element.
    #[error("expected \",\" or \"{close}\" after element {ordinal}")]
    Separator {
        /// Which element, from 1.
        ordinal: usize,
        /// The bracket that would close this vector.
        close: char,
    },
    /// Something other than white space follows the closing bracket.
    #[error("junk after the closing \"{close}\"")]
    Junk {
        /// The bracket that closed the vector.
        close: char,
    },
    /// An element is a number that a `real` can't hold.
    #[error("element {ordinal} is out of range for type real")]
    Range {
        /// Which element, from 1.
        ordinal: usize,
    },
    /// An element is `NaN` or `Infinity`.
    #[error("element {ordinal} is {what}")]
    NotFinite {
        /// Which element, from 1.
        ordinal: usize,
        /// `NaN` or `infinity`.
        what: &'static str,
    },
    /// `[]`.
    #[error("a vector has at least 1 dimension")]
    Empty,
    /// More elements than a vector may have.
    #[error("a vector has at most {DIMS_MAX} dimensions")]
    TooMany,
}

impl From<TextError> for Error {
    fn from(e: TextError) -> Self {
        match e {
            TextError::NotFinite { what, .. } => Error::NotFinite(what),
            TextError::Empty => Error::DimensionsOutOfRange(0),
            TextError::TooMany => Error::DimensionsOutOfRange(DIMS_MAX + 1),
            _ => Error::Malformed { what: "vector" },
        }
    }
}

/// Reads `[1,2.5,-3e-2]` or `{…}` into the front of `out` and returns that front.
///
/// `out` is the caller's wiped scratch and is never grown, because growing a `Vec` leaves a copy of
/// the plaintext in freed memory. More elements than `out.len()` (or than 16,000) are refused.
///
/// The grammar is pgvector's: C white space around every token, decimal numbers with an exponent, no
/// empty element, no trailing comma. A number that rounds to infinity is refused, one that rounds to
/// zero is zero. Unlike pgvector, hexadecimal floats are refused, and in braces an element may stand in double quotes,
/// as in Postgres's own arrays.
///
/// # Errors
/// [`TextError`]; `out` may hold the elements read so far.
pub fn parse<'a>(text: &[u8], out: &'a mut [f32]) -> Result<&'a [f32], TextError> {
    let dims_max = out.len().min(DIMS_MAX);
    let mut at = skip_space(text, 0);
    let close = match text.get(at) {
        Some(b'[') => b']',
        Some(b'{') => b'}',
        _ => return Err(TextError::Start),
    };
    at = skip_space(text, at + 1);
    if text.get(at) == Some(&close) {
        end(text, at + 1, close)?;
        return Err(TextError::Empty);
    }

    let mut dims = 0;
    loop {
        let ordinal = dims + 1;
        if at == text.len() {
            return Err(TextError::End { elements: dims });
        }
        // Drivers that write every element of an array in quotes (node-pg) mean the number inside.
        let quoted = close == b'}' && text[at] == b'"';
        at += usize::from(quoted);
        let mut token_end = at + text[at..].iter().take_while(|b| is_token(**b)).count();
        let value = number(&text[at..token_end], ordinal)?;
        if quoted {
            if text.get(token_end) != Some(&b'"') {
                return Err(TextError::Number { ordinal });
            }
            token_end += 1;
        }
        if dims == dims_max {
            return Err(TextError::TooMany);
        }
        out[dims] = value;
        dims += 1;

        at = skip_space(text, token_end);
        match text.get(at) {
            Some(b',') => at = skip_space(text, at + 1),
            Some(b) if *b == close => break,
            Some(_) => return Err(TextError::Separator { ordinal, close: close as char }),
            None => return Err(TextError::End { elements: dims }),
        }
    }
    end(text, at + 1, close)?;
    Ok(&out[..dims])
}

/// Whether `text` claims to be the sealed form; [`decode_sealed`] says whether it is.
pub fn is_sealed(text: &[u8]) -> bool {
    text.trim_ascii_start().starts_with(SEALED_PREFIX.as_bytes())
}

/// The sealed form of `bytes` (a value of [`crate::format`]) in text.
pub fn encode_sealed(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(SEALED_PREFIX.len() + bytes.len().div_ceil(3) * 4);
    text.push_str(SEALED_PREFIX);
    URL_SAFE_NO_PAD.encode_string(bytes, &mut text);
    text
}

/// The bytes behind a sealed text. Only the encoding is checked: the header and tag are the reader's.
///
/// # Errors
/// [`Error::Malformed`] unless the text is what [`encode_sealed`] writes, bit for bit, with white
/// space around it at most.
pub fn decode_sealed(text: &[u8]) -> Result<Vec<u8>, Error> {
    text.trim_ascii()
        .strip_prefix(SEALED_PREFIX.as_bytes())
        .and_then(|body| URL_SAFE_NO_PAD.decode(body).ok())
        .ok_or(Error::Malformed { what: "sealed value" })
}

/// C's `isspace`, as pgvector and Postgres' array input skip it (`\v` included, unlike Rust's).
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

fn skip_space(text: &[u8], at: usize) -> usize {
    at + text[at..].iter().take_while(|b| is_space(**b)).count()
}

/// Bytes that may stand in a number or in a name of a value that is none (`NaN`, `-Infinity`).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')
}

fn end(text: &[u8], at: usize, close: u8) -> Result<(), TextError> {
    if skip_space(text, at) == text.len() { Ok(()) } else { Err(TextError::Junk { close: close as char }) }
}

/// One element, whose place is `ordinal`: a decimal number that a finite `f32` can hold, rounded to nearest.
///
/// # Errors
/// [`TextError`] `Number`, `Range` or `NotFinite`.
// Rust's parser rounds correctly, but also reads `inf` and `nan` and makes an infinity of what is too
// large, so those are told apart here.
pub fn number(token: &[u8], ordinal: usize) -> Result<f32, TextError> {
    let bad = TextError::Number { ordinal };
    let token = std::str::from_utf8(token).map_err(|_| bad)?;
    let digits = token.strip_prefix(['+', '-']).unwrap_or(token);
    if digits.eq_ignore_ascii_case("nan") {
        return Err(TextError::NotFinite { ordinal, what: "NaN" });
    }
    if digits.eq_ignore_ascii_case("inf") || digits.eq_ignore_ascii_case("infinity") {
        return Err(TextError::NotFinite { ordinal, what: "infinity" });
    }
    let value: f32 = token.parse().map_err(|_| bad)?;
    if value.is_finite() { Ok(value) } else { Err(TextError::Range { ordinal }) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Vec<f32>, TextError> {
        let mut out = [0.0; 8];
        parse(text.as_bytes(), &mut out).map(<[f32]>::to_vec)
    }

    #[test]
    fn good_vectors_parse() {
        let rows: &[(&str, &[f32])] = &[
            ("[1]", &[1.0]),
            ("[1,2,3]", &[1.0, 2.0, 3.0]),
            ("{1,2,3}", &[1.0, 2.0, 3.0]),
            ("{\"1\", \"-2.5\" ,3}", &[1.0, -2.5, 3.0]),
            (" \t\n\r\x0b\x0c[ 1 ,\t2\n,3 ] \n", &[1.0, 2.0, 3.0]),
            ("[-1.5,+2,.5,5.]", &[-1.5, 2.0, 0.5, 5.0]),
            ("[1e3,1E-3,-2.5e+2]", &[1000.0, 0.001, -250.0]),
            ("[-0,0]", &[-0.0, 0.0]),
            ("[3.4028235e38]", &[f32::MAX]),
            ("[1e-45]", &[f32::from_bits(1)]), // the smallest number above zero
            ("[1e-46,1e-9999]", &[0.0, 0.0]),  // rounds to zero, as in pgvector
            ("[0.1]", &[0.1]),
            ("[16777217]", &[16_777_216.0]), // rounds to even
            ("[1,2,3,4,5,6,7,8]", &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]),
        ];
        for (text, expected) in rows {
            let found = read(text).unwrap_or_else(|e| panic!("{text:?}: {e}"));
            let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&found), bits(expected), "{text:?}");
        }
    }

    #[test]
    fn bad_vectors_are_refused_with_their_place() {
        use TextError::*;
        let rows: &[(&str, TextError)] = &[
            ("", Start),
            ("  ", Start),
            ("1,2", Start),
            ("(1,2)", Start),
            ("\u{a0}[1]", Start), // no Unicode white space
            ("[", End { elements: 0 }),
            ("[ ", End { elements: 0 }),
            ("[1", End { elements: 1 }),
            ("[1,", End { elements: 1 }),
            ("[1,2", End { elements: 2 }),
            ("[]", Empty),
            ("{ }", Empty),
            ("[]x", Junk { close: ']' }),
            ("[,1]", Number { ordinal: 1 }),
            ("[1,]", Number { ordinal: 2 }),
            ("[1,,2]", Number { ordinal: 2 }),
            ("[a]", Number { ordinal: 1 }),
            ("[1,--2]", Number { ordinal: 2 }),
            ("[1e]", Number { ordinal: 1 }),
            ("[.]", Number { ordinal: 1 }),
            ("[-]", Number { ordinal: 1 }),
            ("[0x10]", Number { ordinal: 1 }),
            ("[1_000]", Separator { ordinal: 1, close: ']' }),
            ("[1f]", Number { ordinal: 1 }),
            ("[\"1\"]", Number { ordinal: 1 }),
            ("{1,NULL}", Number { ordinal: 2 }),
            ("{\"1}", Number { ordinal: 1 }),
            ("{1,\"\"}", Number { ordinal: 2 }),
            ("{\"1,2\"}", Number { ordinal: 1 }),
            ("{\" 1\"}", Number { ordinal: 1 }),
            ("{\"", Number { ordinal: 1 }),
            ("{\"1\"2}", Separator { ordinal: 1, close: '}' }),
            ("[[1]]", Number { ordinal: 1 }),
            ("[1 2]", Separator { ordinal: 1, close: ']' }),
            ("[1;2]", Separator { ordinal: 1, close: ']' }),
            ("[1}", Separator { ordinal: 1, close: ']' }),
            ("{1]", Separator { ordinal: 1, close: '}' }),
            ("[1] [2]", Junk { close: ']' }),
            ("[1]]", Junk { close: ']' }),
            ("{1},", Junk { close: '}' }),
            ("[1]\0", Junk { close: ']' }),
            ("[4e38]", Range { ordinal: 1 }),
            ("[1,-4e38]", Range { ordinal: 2 }),
            ("[1e9999]", Range { ordinal: 1 }),
            ("[NaN]", NotFinite { ordinal: 1, what: "NaN" }),
            ("[1,nan]", NotFinite { ordinal: 2, what: "NaN" }),
            ("[-NaN]", NotFinite { ordinal: 1, what: "NaN" }),
            ("[Infinity]", NotFinite { ordinal: 1, what: "infinity" }),
            ("[1,2,-inf]", NotFinite { ordinal: 3, what: "infinity" }),
            ("[+INF]", NotFinite { ordinal: 1, what: "infinity" }),
            ("[1,2,3,4,5,6,7,8,9]", TooMany),
        ];
        for (text, expected) in rows {
            assert_eq!(read(text), Err(*expected), "{text:?}");
        }
    }

    #[test]
    fn no_error_repeats_the_input() {
        let secret = "0.31415926x";
        let text = read(&format!("[1,{secret}]")).unwrap_err().to_string();
        assert!(!text.contains("31415926"), "{text}");
    }

    #[test]
    fn dimensions_end_at_16000() {
        let mut out = vec![0.0; 20_000];
        let text = |n: usize| format!("[{}]", vec!["1"; n].join(","));
        assert_eq!(parse(text(16_000).as_bytes(), &mut out).unwrap().len(), 16_000);
        assert_eq!(parse(text(16_001).as_bytes(), &mut out), Err(TextError::TooMany));
    }

    #[test]
    fn long_numbers_are_rounded() {
        assert_eq!(read(&format!("[{}]", "1".repeat(2_000))), Err(TextError::Range { ordinal: 1 }));
        assert_eq!(read(&format!("[0.{}1]", "0".repeat(900))).unwrap(), [0.0]);
        assert_eq!(read(&format!("[1{}.5e-20000]", "0".repeat(20_000))).unwrap(), [1.0]);
    }

    #[test]
    fn sealed_text_is_canonical() {
        let text = encode_sealed(&[1, 2, 3, 4]);
        assert_eq!(text, "sealvec1.AQIDBA");
        assert!(is_sealed(text.as_bytes()));
        assert_eq!(decode_sealed(b" sealvec1.AQIDBA\n").unwrap(), [1, 2, 3, 4]);
        for bad in [
            "sealvec1",
            "sealvec2.AQIDBA",
            "SEALVEC1.AQIDBA",
            "sealvec1.AQIDBA==",
            "sealvec1.AQIDBB", // stray bits
            "sealvec1.AQIDB",
            "sealvec1.A+IDBA",
            "sealvec1.AQID BA",
            "AQIDBA",
            "",
        ] {
            assert!(decode_sealed(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_rust_prints_is_read_back(v in prop::collection::vec(prop::num::f32::NORMAL | prop::num::f32::SUBNORMAL | prop::num::f32::ZERO, 1..50)) {
            let mut out = [0.0; 50];
            for text in [format!("{v:?}"), format!("{{{}}}", v.iter().map(|x| format!("{x:e}")).collect::<Vec<_>>().join(" , "))] {
                let found = parse(text.as_bytes(), &mut out).unwrap();
                prop_assert!(found.iter().map(|x| x.to_bits()).eq(v.iter().map(|x| x.to_bits())), "{}", text);
            }
        }

        #[test]
        fn any_bytes_end_in_a_result(text in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut out = [0.0; 16];
            if let Ok(v) = parse(&text, &mut out) {
                prop_assert!(!v.is_empty() && v.iter().all(|x| x.is_finite()));
            }
            let _ = decode_sealed(&text);
        }

        #[test]
        fn anything_like_a_vector_ends_in_a_result(text in "[\\[{][0-9eE.,+ \\-naNifI]{0,40}[\\]}]") {
            let mut out = [0.0; 40];
            if let Ok(v) = parse(text.as_bytes(), &mut out) {
                prop_assert!(v.iter().all(|x| x.is_finite()));
                prop_assert_eq!(v.len(), text.matches(',').count() + 1);
            }
        }

        #[test]
        fn sealed_bytes_survive_text(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let text = encode_sealed(&bytes);
            prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)));
            prop_assert_eq!(decode_sealed(text.as_bytes()).unwrap(), bytes);
        }
    }
}
