//! The column's type modifier: dimensions and key ring in one non-negative `i32`.
//!
//! | bits | meaning |
//! |---|---|
//! | 0..14 | dimensions, 1 to 16,000 |
//! | 14..31 | key ring number, 1 to 131,071 |
//! | 31 | 0: Postgres takes every negative typmod for "none" |

use crate::{Error, Result};

const DIMS_BITS: u32 = 14;
const RING_BITS: u32 = 17;

pub use super::value::MAX_DIMS as DIMS_MAX;
/// The greatest key ring number: 17 bits, of which 0 is reserved.
pub const RING_MAX: u32 = (1 << RING_BITS) - 1;

const _: () = assert!(DIMS_MAX < 1 << DIMS_BITS && DIMS_BITS + RING_BITS == 31);

/// What a column says about its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Typmod {
    /// Number of dimensions, 1 to [`DIMS_MAX`].
    pub dims: u16,
    /// Number of the key ring, 1 to [`RING_MAX`].
    pub ring: u32,
}

impl Typmod {
    /// A typmod of these dimensions and this ring.
    ///
    /// # Errors
    /// [`Error::DimensionsOutOfRange`], or [`Error::Malformed`] for a ring number outside 1 to [`RING_MAX`].
    pub fn new(dims: usize, ring: u32) -> Result<Self> {
        if dims == 0 || dims > DIMS_MAX {
            return Err(Error::DimensionsOutOfRange(dims));
        }
        if ring == 0 || ring > RING_MAX {
            return Err(Error::Malformed { what: "key ring number" });
        }
        Ok(Self { dims: dims as u16, ring })
    }

    /// The number Postgres stores in `pg_attribute.atttypmod`; always positive.
    pub fn encode(self) -> i32 {
        ((self.ring << DIMS_BITS) | u32::from(self.dims)) as i32
    }

    /// The typmod behind a stored number; `None` for -1 (no typmod) and for numbers that [`Typmod::encode`] never makes.
    pub fn decode(typmod: i32) -> Option<Self> {
        let bits = u32::try_from(typmod).ok()?;
        Self::new((bits & ((1 << DIMS_BITS) - 1)) as usize, bits >> DIMS_BITS).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typmod_survives_encoding() {
        for dims in [1, 2, 383, 384, 15_999, 16_000] {
            for ring in [1, 2, 0xffff, 0x1_0000, RING_MAX] {
                let typmod = Typmod::new(dims, ring).unwrap();
                let stored = typmod.encode();
                assert!(stored > 0, "Postgres reads a negative typmod as none");
                assert_eq!(Typmod::decode(stored), Some(typmod));
                assert_eq!(stored, (ring as i32) << 14 | dims as i32, "the layout is on disk in pg_attribute");
            }
        }
    }

    #[test]
    fn numbers_no_column_has_are_refused() {
        for stored in [-1, i32::MIN, 0, 384, 1 << 14, (1 << 14) | 16_001, i32::MAX] {
            assert_eq!(Typmod::decode(stored), None, "{stored}");
        }
        assert!(matches!(Typmod::new(0, 1), Err(Error::DimensionsOutOfRange(0))));
        assert!(matches!(Typmod::new(16_001, 1), Err(Error::DimensionsOutOfRange(16_001))));
        assert!(matches!(Typmod::new(1 << 40, 1), Err(Error::DimensionsOutOfRange(_))));
        assert!(matches!(Typmod::new(384, 0), Err(Error::Malformed { .. })));
        assert!(matches!(Typmod::new(384, RING_MAX + 1), Err(Error::Malformed { .. })));
    }
}
