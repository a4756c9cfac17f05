//! The three binary forms that the type's receive function takes: sealed bytes, pgvector's layout, a Postgres array.
//!
//! COPY and some drivers send an array as it is into a column of the type, so that Postgres never gets to cast it.
//!
//! | form | bytes, big-endian |
//! |---|---|
//! | sealed | a [value](super::value), little-endian |
//! | pgvector's | count u16, zero u16, count × f32 |
//! | `float4[]`, `float8[]` | dimensions i32 = 1, flags i32 ≤ 1, type of the elements u32, count i32, lower bound i32, then for each element its size i32 and the element |
//!
//! The first four bytes tell them apart. A value starts with its version, never 0, and a kind, never 0. In
//! pgvector's layout the third and fourth are 0; an array starts `00 00 00` and how many dimensions it has.

use super::value::ValueHeader;
use crate::{Error, Result};

const FLOAT4: u32 = 700;
const FLOAT8: u32 = 701;
const ARRAY_HEADER_LEN: usize = 12;

/// What a message holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Binary<'a> {
    /// A sealed value and its header.
    Sealed(ValueHeader, &'a [u8]),
    /// Elements, not yet looked at.
    Elements(Elements<'a>),
    /// An array of so many dimensions; 0 if it is empty.
    Shape(i32),
    /// An array with a NULL in it.
    Null,
}

/// The elements of a message, whose lengths are those that it promised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Elements<'a> {
    bytes: &'a [u8],
    /// Bytes between two elements: 4 in an array, where each has its size in front.
    skip: usize,
    width: usize,
}

impl<'a> Elements<'a> {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.bytes.len() / (self.skip + self.width)
    }

    /// Each in turn; `None` for a finite number that `real` can't hold.
    pub fn iter(&self) -> impl Iterator<Item = Option<f32>> + use<'a> {
        let skip = self.skip;
        self.bytes.chunks_exact(skip + self.width).map(move |chunk| match chunk[skip..] {
            [a, b, c, d] => Some(f32::from_be_bytes([a, b, c, d])),
            [a, b, c, d, e, f, g, h] => {
                let wide = f64::from_be_bytes([a, b, c, d, e, f, g, h]);
                let narrow = wide as f32;
                (narrow.is_finite() || !wide.is_finite()).then_some(narrow)
            }
            _ => unreachable!("elements have 4 or 8 bytes"),
        })
    }
}

impl<'a> Binary<'a> {
    /// Tells which form `bytes` has and checks every length in it.
    ///
    /// # Errors
    /// [`Error::Version`] for a value of a newer version, [`Error::Malformed`] for what has none of the forms.
    pub fn read(bytes: &'a [u8]) -> Result<Self> {
        match bytes {
            [0, 0, 0, _, ..] if bytes.len() >= ARRAY_HEADER_LEN => array(bytes),
            [high, low, 0, 0, floats @ ..] => {
                let count = usize::from(u16::from_be_bytes([*high, *low]));
                if floats.len() != count * 4 {
                    return Err(MALFORMED);
                }
                Ok(Self::Elements(Elements { bytes: floats, skip: 0, width: 4 }))
            }
            sealed => Ok(Self::Sealed(ValueHeader::decode(sealed)?, sealed)),
        }
    }
}

const MALFORMED: Error = Error::Malformed { what: "binary vector" };

fn array(bytes: &[u8]) -> Result<Binary<'_>> {
    let (header, rest) = bytes.split_first_chunk::<ARRAY_HEADER_LEN>().ok_or(MALFORMED)?;
    let [n0, n1, n2, n3, f0, f1, f2, f3, t0, t1, t2, t3] = *header;
    let width: usize = match u32::from_be_bytes([t0, t1, t2, t3]) {
        FLOAT4 => 4,
        FLOAT8 => 8,
        _ => return Err(MALFORMED),
    };
    let flags = u32::from_be_bytes([f0, f1, f2, f3]);
    match i32::from_be_bytes([n0, n1, n2, n3]) {
        0 if flags == 0 && rest.is_empty() => return Ok(Binary::Shape(0)),
        1 => {}
        // As many as Postgres has (MAXDIM); each has its length and lower bound.
        dims @ 2..=6 if flags <= 1 && rest.len() >= dims as usize * 8 => return Ok(Binary::Shape(dims)),
        _ => return Err(MALFORMED),
    }
    // The lower bound says where counting starts: to a vector it says nothing.
    let ([c0, c1, c2, c3, ..], elements) = rest.split_first_chunk::<8>().ok_or(MALFORMED)?;
    let count = usize::try_from(i32::from_be_bytes([*c0, *c1, *c2, *c3])).map_err(|_| MALFORMED)?;
    // The flag only says that there may be NULLs.
    if flags > 1 {
        return Err(MALFORMED);
    }
    let size = (width as i32).to_be_bytes();
    let stride = 4 + width;
    if count.checked_mul(stride) != Some(elements.len()) {
        // A NULL is a size of -1 and no element.
        let null = elements.chunks(stride).find_map(|chunk| match chunk.first_chunk() {
            Some(s) if *s == size => None,
            other => Some(other == Some(&[0xff; 4])),
        });
        return if null == Some(true) { Ok(Binary::Null) } else { Err(MALFORMED) };
    }
    if elements.chunks_exact(stride).any(|chunk| chunk[..4] != size) {
        return Err(MALFORMED);
    }
    Ok(Binary::Elements(Elements { bytes: elements, skip: 4, width }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An array as `array_send` writes it.
    fn wire(kind: u32, elements: &[&[u8]]) -> Vec<u8> {
        let mut bytes = [&1i32.to_be_bytes()[..], &[0; 4], &kind.to_be_bytes()].concat();
        bytes.extend((elements.len() as i32).to_be_bytes());
        bytes.extend(1i32.to_be_bytes());
        for element in elements {
            bytes.extend((element.len() as i32).to_be_bytes());
            bytes.extend(*element);
        }
        bytes
    }

    fn real(elements: &[f32]) -> Vec<u8> {
        let elements: Vec<_> = elements.iter().map(|e| e.to_be_bytes()).collect();
        wire(FLOAT4, &elements.iter().map(|e| &e[..]).collect::<Vec<_>>())
    }

    fn double(elements: &[f64]) -> Vec<u8> {
        let elements: Vec<_> = elements.iter().map(|e| e.to_be_bytes()).collect();
        wire(FLOAT8, &elements.iter().map(|e| &e[..]).collect::<Vec<_>>())
    }

    fn elements(bytes: &[u8]) -> Vec<Option<f32>> {
        let Ok(Binary::Elements(elements)) = Binary::read(bytes) else { panic!("{bytes:02x?}") };
        let read: Vec<_> = elements.iter().collect();
        assert_eq!(read.len(), elements.count());
        read
    }

    fn refused(bytes: &[u8]) -> bool {
        matches!(Binary::read(bytes), Err(Error::Malformed { .. }))
    }

    #[test]
    fn vectors_are_read() {
        let expected = [Some(1.5), Some(-2.0), Some(0.1)];
        assert_eq!(elements(&real(&[1.5, -2.0, 0.1])), expected);
        assert_eq!(elements(&double(&[1.5, -2.0, 0.1])), expected);
        assert_eq!(elements(&[0, 1, 0, 0, 0x3f, 0xc0, 0, 0]), [Some(1.5)]);
        assert_eq!(elements(&[0; 4]), [], "the caller says that it is empty");
    }

    #[test]
    fn doubles_beyond_real_are_named_and_others_left_to_the_caller() {
        let read = elements(&double(&[4e38, f64::INFINITY, 1e-60]));
        assert_eq!(read, [None, Some(f32::INFINITY), Some(0.0)]);
        assert!(elements(&double(&[f64::NAN]))[0].is_some_and(f32::is_nan));
    }

    #[test]
    fn any_lower_bound_will_do() {
        let mut bytes = real(&[1.0]);
        bytes[16..20].copy_from_slice(&(-7i32).to_be_bytes());
        assert_eq!(elements(&bytes), [Some(1.0)]);
    }

    #[test]
    fn other_arrays_are_named() {
        let empty = [&[0; 8][..], &FLOAT4.to_be_bytes()].concat();
        assert_eq!(Binary::read(&empty).unwrap(), Binary::Shape(0));
        let mut nulls = real(&[1.0, 2.0]);
        nulls.truncate(28);
        nulls.extend([0xff; 4]);
        assert_eq!(Binary::read(&nulls).unwrap(), Binary::Null);
        nulls[7] = 1;
        assert_eq!(Binary::read(&nulls).unwrap(), Binary::Null);
        let mut flag_alone = real(&[1.0]);
        flag_alone[7] = 1;
        assert_eq!(elements(&flag_alone), [Some(1.0)]);
        let matrix = [&[0, 0, 0, 2, 0, 0, 0, 0], &FLOAT4.to_be_bytes()[..], &[0; 16]].concat();
        assert_eq!(Binary::read(&matrix).unwrap(), Binary::Shape(2));
    }

    #[test]
    fn every_length_and_type_is_checked() {
        for good in [real(&[1.0, 2.0]), double(&[1.0, 2.0])] {
            for cut in 0..good.len() {
                assert!(refused(&good[..cut]), "{cut}");
            }
            assert!(refused(&[&good[..], &[0]].concat()));
            for (at, byte) in
                [(3, 7), (4, 1), (7, 2), (11, 25), (12, 0x80), (12, 0x7f), (15, 1), (15, 3), (23, 3), (23, 0)]
            {
                let mut bad = good.clone();
                bad[at] = byte;
                assert!(refused(&bad), "{at} {byte}");
            }
        }
        assert!(refused(&wire(23, &[&[0, 0, 0, 1]])), "int4[]");
        assert!(refused(&wire(FLOAT4, &[&[0; 8]])), "an element of another width");
    }

    #[test]
    fn the_raw_floats_of_a_client_are_no_sealed_value() {
        let floats: Vec<u8> = [0.1f32, 0.2, 0.3].iter().flat_map(|e| e.to_le_bytes()).collect();
        assert!(refused(&floats));
        let doubles: Vec<u8> = [0.1f64, 0.2, 0.3].iter().flat_map(|e| e.to_le_bytes()).collect();
        assert!(refused(&doubles));
        assert!(refused(b"[0.1,0.2,0.3]"), "text sent as binary");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(front in 0u8..8, bytes in prop::collection::vec(any::<u8>(), 0..80), is_array: bool) {
            let bytes = if is_array {
                [&[0, 0, 0, front, 0, 0, 0, 0, 0, 0, 2, 0xbc][..], &bytes].concat()
            } else {
                bytes
            };
            if let Ok(Binary::Elements(elements)) = Binary::read(&bytes) {
                prop_assert_eq!(elements.iter().count(), elements.count());
            }
        }

        #[test]
        fn any_array_round_trips(vector in prop::collection::vec(prop::num::f32::NORMAL | prop::num::f32::ZERO, 1..70)) {
            let expected: Vec<_> = vector.iter().copied().map(Some).collect();
            prop_assert_eq!(elements(&real(&vector)), expected.clone());
            prop_assert_eq!(elements(&double(&vector.iter().map(|e| f64::from(*e)).collect::<Vec<_>>())), expected);
        }
    }
}
