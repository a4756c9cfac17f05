//! UUIDs of key rings, index builds and sessions.

use std::fmt;
use std::str::FromStr;

use crate::crypto::nonce;
use crate::{Error, Result};

/// Bits of a ring number: what fits beside 14 bits of dimension in a typmod.
pub const RING_NUMBER_BITS: u32 = 17;

/// A UUID (RFC 9562, version 4 when drawn here). Public; it names things and opens nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uuid([u8; 16]);

impl Uuid {
    /// 122 random bits from the kernel.
    pub fn random() -> Result<Self> {
        let mut bytes: [u8; 16] = nonce::random()?;
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Ok(Self(bytes))
    }

    /// Any 16 bytes: a UUID that another system drew is as good as ours.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// In network order, as Postgres sends them.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The top 17 bits: a ring's number. 0 is reserved and belongs to no ring.
    pub const fn number(&self) -> u32 {
        let [a, b, c, ..] = self.0;
        u32::from_be_bytes([0, a, b, c]) >> (24 - RING_NUMBER_BITS)
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, byte) in self.0.iter().enumerate() {
            if matches!(place, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Uuid {
    type Err = Error;

    /// The hyphenated form, in either case, and nothing else.
    fn from_str(text: &str) -> Result<Self> {
        const MALFORMED: Error = Error::Malformed { what: "UUID" };
        let text = text.as_bytes();
        if text.len() != 36 {
            return Err(MALFORMED);
        }
        let mut digits = [0u8; 32];
        let mut filled = 0;
        for (place, &byte) in text.iter().enumerate() {
            if matches!(place, 8 | 13 | 18 | 23) {
                if byte != b'-' {
                    return Err(MALFORMED);
                }
                continue;
            }
            let digit = char::from(byte).to_digit(16).ok_or(MALFORMED)?;
            digits[filled] = digit as u8;
            filled += 1;
        }
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair[0] << 4 | pair[1];
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        let text = "8f14e45f-ceea-467f-9575-5b1a2c3d4e5f";
        let uuid: Uuid = text.parse().unwrap();
        assert_eq!(uuid.to_string(), text);
        assert_eq!(text.to_uppercase().parse::<Uuid>().unwrap(), uuid);
    }

    #[test]
    fn bad_text_is_refused() {
        for bad in [
            "",
            "8f14e45fceea467f95755b1a2c3d4e5f",
            "8f14e45f-ceea-467f-9575-5b1a2c3d4e5",
            "8f14e45f-ceea-467f-9575-5b1a2c3d4e5f ",
            "{8f14e45f-ceea-467f-9575-5b1a2c3d4e5f}",
            "8f14e45f-ceea-467f-9575-5b1a2c3d4e5g",
            "8f14e45f0ceea-467f-9575-5b1a2c3d4e5f",
            "8f14e45f-ceea-467f-9575+5b1a2c3d4e5f",
            "8f14e45f-ceea-467f-9575-5b1a2c3d4é5f",
        ] {
            assert!(bad.parse::<Uuid>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn number_is_the_top_17_bits() {
        let with = |a, b, c| {
            let mut bytes = [0xee; 16];
            bytes[..3].copy_from_slice(&[a, b, c]);
            Uuid::from_bytes(bytes).number()
        };
        assert_eq!(with(0, 0, 0x7f), 0);
        assert_eq!(with(0, 0, 0x80), 1);
        assert_eq!(with(0, 1, 0), 2);
        assert_eq!(with(0xff, 0xff, 0xff), (1 << 17) - 1);
    }

    #[test]
    fn random_is_version_4() {
        let uuid = Uuid::random().unwrap();
        assert_eq!(uuid.as_bytes()[6] >> 4, 4);
        assert_eq!(uuid.as_bytes()[8] >> 6, 2);
        assert_ne!(uuid, Uuid::random().unwrap());
    }
}
