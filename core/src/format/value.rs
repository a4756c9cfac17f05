//! A value of the type: what a column stores, and what a literal is until it meets its column.
//!
//! | offset | size | meaning |
//! |---|---|---|
//! | 0 | 1 | format version, 1 |
//! | 1 | 1 | kind: 1 column, 2 session |
//! | 2 | 2 | dimensions |
//! | 4 | 4 | number of the ring; 0 in a session |
//! | 8 | 4 | DEK version, from 1; 0 in a session |
//! | 12 | 24 | nonce |
//! | 36 | 4 × dimensions | ciphertext of the elements, f32 |
//! | 36 + 4 × dimensions | 16 | tag |
//!
//! Little-endian throughout, the elements too. The clear header lets a column refuse a foreign value
//! without a key. It is authenticated: dimensions and DEK version by [`ValueAad`], the ring number by the
//! ring's UUID whose top bits it is, the kind by the key (a session key opens no column value).

use crate::crypto::{OVERHEAD24, ValueAad, XaesKey};
use crate::keys::Uuid;
use crate::keys::uuid::RING_NUMBER_BITS;
use crate::{Error, Result};

/// Bytes in front of the nonce.
pub const HEADER_LEN: usize = 12;
/// Most dimensions a vector may have.
pub const MAX_DIMS: usize = 16_000;

const VERSION: u8 = 1;
/// Versions that a newer build may write; any other first byte is that of something else, such as raw floats.
const LATER_VERSIONS: std::ops::RangeInclusive<u8> = VERSION + 1..=15;
const WHAT: &str = "sealed value";
const MALFORMED: Error = Error::Malformed { what: WHAT };

/// Which key sealed a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ValueKind {
    /// The value key of a ring's DEK.
    Column = 1,
    /// The key of the session that read the literal or parameter; the value dies with it.
    Session = 2,
}

/// The clear front of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueHeader {
    kind: ValueKind,
    dims: u16,
    ring: u32,
    dek_version: u32,
}

impl ValueHeader {
    /// For a value of `ring` under its DEK of `dek_version`.
    ///
    /// # Errors
    /// [`Error::DimensionsOutOfRange`] outside 1 to 16,000.
    pub fn column(ring: &Uuid, dek_version: u32, dims: usize) -> Result<Self> {
        assert!(dek_version >= 1 && ring.number() != 0, "a ring has a number and its DEKs count from 1");
        Ok(Self { kind: ValueKind::Column, dims: checked_dims(dims)?, ring: ring.number(), dek_version })
    }

    /// For a value of this session.
    ///
    /// # Errors
    /// [`Error::DimensionsOutOfRange`] outside 1 to 16,000.
    pub fn session(dims: usize) -> Result<Self> {
        Ok(Self { kind: ValueKind::Session, dims: checked_dims(dims)?, ring: 0, dek_version: 0 })
    }

    /// Which key sealed the value.
    pub fn kind(&self) -> ValueKind {
        self.kind
    }

    /// Its dimensions, 1 to 16,000.
    pub fn dims(&self) -> usize {
        usize::from(self.dims)
    }

    /// Number of its ring; 0 in a session.
    pub fn ring(&self) -> u32 {
        self.ring
    }

    /// Version of the DEK; 0 in a session.
    pub fn dek_version(&self) -> u32 {
        self.dek_version
    }

    /// Bytes of the whole value.
    pub fn value_len(&self) -> usize {
        value_len(self.dims())
    }

    /// Reads the header of a whole value and checks that the length fits it.
    ///
    /// # Errors
    /// [`Error::Version`] for a later format version, [`Error::Malformed`] for anything else that no build writes.
    pub fn decode(value: &[u8]) -> Result<Self> {
        let header = Self::decode_front(value)?;
        if value.len() != header.value_len() {
            return Err(MALFORMED);
        }
        Ok(header)
    }

    /// Reads the header from the first bytes of a value, such as a slice of a TOASTed one.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn decode_front(front: &[u8]) -> Result<Self> {
        let (front, _) = front.split_first_chunk::<HEADER_LEN>().ok_or(MALFORMED)?;
        let [version, kind, d0, d1, r0, r1, r2, r3, v0, v1, v2, v3] = *front;
        if LATER_VERSIONS.contains(&version) && (kind == 1 || kind == 2) {
            return Err(Error::Version { what: WHAT, found: version.into(), known: VERSION.into() });
        }
        if version != VERSION {
            return Err(MALFORMED);
        }
        let ring = u32::from_le_bytes([r0, r1, r2, r3]);
        let dek_version = u32::from_le_bytes([v0, v1, v2, v3]);
        let kind = match kind {
            1 if ring != 0 && ring >> RING_NUMBER_BITS == 0 && dek_version != 0 => ValueKind::Column,
            2 if ring == 0 && dek_version == 0 => ValueKind::Session,
            _ => return Err(MALFORMED),
        };
        let dims = u16::from_le_bytes([d0, d1]);
        checked_dims(dims.into()).map_err(|_| MALFORMED)?;
        Ok(Self { kind, dims, ring, dek_version })
    }

    /// The bytes in front of the nonce.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0] = VERSION;
        bytes[1] = self.kind as u8;
        bytes[2..4].copy_from_slice(&self.dims.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.ring.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.dek_version.to_le_bytes());
        bytes
    }

    /// What the ciphertext is bound to; `id` is the ring's UUID, or the session's.
    fn aad(&self, id: &Uuid) -> ValueAad {
        ValueAad { ring: *id, dek_version: self.dek_version, dims: self.dims }
    }
}

/// Bytes of a value of `dims` dimensions.
pub const fn value_len(dims: usize) -> usize {
    HEADER_LEN + OVERHEAD24 + 4 * dims
}

/// Seals `vector` as `header` says; `id` is the UUID of the ring, or of the session.
///
/// # Errors
/// [`Error::Dimensions`] if the vector is not of the header's length, [`Error::NotFinite`] if an element is
/// NaN or infinite: no such value is ever sealed.
pub fn seal_value(key: &XaesKey, header: &ValueHeader, id: &Uuid, vector: &[f32]) -> Result<Vec<u8>> {
    let mut value = vec![0; header.value_len()];
    seal_value_into(key, header, id, vector, &mut value)?;
    Ok(value)
}

/// As [`seal_value`], into `out` of [`ValueHeader::value_len`] bytes (in Postgres: a palloc'd varlena).
///
/// The elements pass through `out` as ciphertext only, or are wiped from it if sealing fails.
///
/// # Errors
/// As [`seal_value`].
pub fn seal_value_into(key: &XaesKey, header: &ValueHeader, id: &Uuid, vector: &[f32], out: &mut [u8]) -> Result<()> {
    assert_eq!(out.len(), header.value_len(), "room for exactly one value");
    assert!(header.kind == ValueKind::Session || header.ring == id.number(), "header of another ring");
    if vector.len() != header.dims() {
        return Err(Error::Dimensions { expected: header.dims(), found: vector.len() });
    }
    if let Some(odd) = vector.iter().find(|element| !element.is_finite()) {
        return Err(Error::NotFinite(if odd.is_nan() { "NaN" } else { "infinity" }));
    }
    let (front, sealed) = out.split_at_mut(HEADER_LEN);
    front.copy_from_slice(&header.encode());
    #[cfg(target_endian = "little")]
    let plain: &[u8] = bytemuck::cast_slice(vector);
    #[cfg(target_endian = "big")]
    let plain = &zeroize::Zeroizing::new(vector.iter().flat_map(|element| element.to_le_bytes()).collect::<Vec<u8>>());
    key.seal_into(&header.aad(id), plain, sealed)
}

/// Opens `value` into `out`, whose length must be the value's dimensions; `id` is the UUID of the ring, or of the session.
///
/// # Errors
/// [`Error::Malformed`] or [`Error::Version`] for bytes that are no value, [`Error::Dimensions`] if `out` has
/// another length, [`Error::Open`] for another key, ring or session, or if a bit was changed. On an error
/// `out` is all zero.
pub fn open_value(key: &XaesKey, id: &Uuid, value: &[u8], out: &mut [f32]) -> Result<()> {
    let opened = ValueHeader::decode(value).and_then(|header| open_value_of(key, &header, id, value, out));
    opened.inspect_err(|_| out.fill(0.0))
}

/// As [`open_value`], of a value whose header was decoded before.
///
/// # Errors
/// As [`open_value`].
pub fn open_value_of(key: &XaesKey, header: &ValueHeader, id: &Uuid, value: &[u8], out: &mut [f32]) -> Result<()> {
    let opened = check(header, id, value, out)
        .and_then(|()| key.open_into(&header.aad(id), &value[HEADER_LEN..], bytemuck::cast_slice_mut(out)));
    opened.inspect_err(|_| out.fill(0.0))?;
    if cfg!(target_endian = "big") {
        out.iter_mut().for_each(|element| *element = f32::from_bits(element.to_bits().swap_bytes()));
    }
    Ok(())
}

fn check(header: &ValueHeader, id: &Uuid, value: &[u8], out: &[f32]) -> Result<()> {
    if value.len() != header.value_len() {
        return Err(MALFORMED);
    }
    if out.len() != header.dims() {
        return Err(Error::Dimensions { expected: header.dims(), found: out.len() });
    }
    if header.kind == ValueKind::Column && header.ring != id.number() {
        return Err(Error::Open);
    }
    Ok(())
}

fn checked_dims(dims: usize) -> Result<u16> {
    if (1..=MAX_DIMS).contains(&dims) { Ok(dims as u16) } else { Err(Error::DimensionsOutOfRange(dims)) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RING: Uuid = Uuid::from_bytes([0x5a; 16]);
    const KEY: [u8; 32] = [7; 32];

    fn key() -> XaesKey {
        XaesKey::new(&KEY)
    }

    fn sealed(vector: &[f32]) -> Vec<u8> {
        let header = ValueHeader::column(&RING, 1, vector.len()).unwrap();
        seal_value(&key(), &header, &RING, vector).unwrap()
    }

    fn opened(key: &XaesKey, id: &Uuid, value: &[u8], dims: usize) -> Result<Vec<f32>> {
        let mut out = vec![7.0; dims];
        let result = open_value(key, id, value, &mut out);
        assert!(result.is_ok() || out.iter().all(|element| *element == 0.0), "an error leaves zeros");
        result.map(|()| out)
    }

    #[test]
    fn values_round_trip() {
        for dims in [1, 2, 384, MAX_DIMS] {
            let vector: Vec<f32> = (0..dims).map(|i| i as f32 * 0.25 - 3.0).collect();
            let value = sealed(&vector);
            assert_eq!(value.len(), value_len(dims));
            assert_eq!(opened(&key(), &RING, &value, dims).unwrap(), vector);
        }
    }

    #[test]
    fn signs_of_zero_and_subnormals_survive() {
        let vector = [-0.0, f32::from_bits(1), f32::MAX, f32::MIN];
        let back = opened(&key(), &RING, &sealed(&vector), 4).unwrap();
        assert_eq!(back.map_bits(), vector.map_bits());
    }

    trait Bits {
        fn map_bits(&self) -> Vec<u32>;
    }
    impl Bits for [f32] {
        fn map_bits(&self) -> Vec<u32> {
            self.iter().map(|element| element.to_bits()).collect()
        }
    }

    /// A value sealed by the first release: it must open for ever.
    #[test]
    fn golden_value_opens() {
        let value = hex::decode(GOLDEN).unwrap();
        assert_eq!(opened(&key(), &RING, &value, 3).unwrap(), [1.0, -2.5, 0.1]);
        let header = ValueHeader::decode(&value).unwrap();
        assert_eq!((header.ring(), header.dek_version(), header.kind()), (0xb4b4, 1, ValueKind::Column));
    }
    const GOLDEN: &str = concat!(
        "01010300b4b4000001000000",                         // header
        "a990584af112b99d24dccacc93a2fb218c87bf5f2ad40543", // nonce
        "f3e6714986cbed1c389edeb7",                         // ciphertext
        "a7b17ad6ede76ac0f03d1a395b90403b",                 // tag
    );

    #[test]
    fn every_flipped_bit_is_noticed() {
        let value = sealed(&[1.0, 2.0]);
        for bit in 0..value.len() * 8 {
            let mut bad = value.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(opened(&key(), &RING, &bad, 2).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn nothing_else_opens_it() {
        let value = sealed(&[1.0, 2.0]);
        let other_ring = Uuid::from_bytes([0x5b; 16]);
        let same_number = Uuid::from_bytes({
            let mut bytes = *RING.as_bytes();
            bytes[15] ^= 1;
            bytes
        });
        assert!(matches!(opened(&XaesKey::new(&[8; 32]), &RING, &value, 2), Err(Error::Open)));
        assert!(matches!(opened(&key(), &other_ring, &value, 2), Err(Error::Open)));
        assert!(matches!(opened(&key(), &same_number, &value, 2), Err(Error::Open)));
        assert!(matches!(opened(&key(), &RING, &value, 3), Err(Error::Dimensions { expected: 2, found: 3 })));
        for cut in 0..value.len() {
            assert!(opened(&key(), &RING, &value[..cut], 2).is_err());
        }
        assert!(opened(&key(), &RING, &[&value[..], &[0]].concat(), 2).is_err());
    }

    #[test]
    fn a_session_value_is_no_column_value() {
        let session = Uuid::random().unwrap();
        let header = ValueHeader::session(2).unwrap();
        let key = XaesKey::generate().unwrap();
        let value = seal_value(&key, &header, &session, &[1.0, 2.0]).unwrap();
        assert_eq!(opened(&key, &session, &value, 2).unwrap(), [1.0, 2.0]);
        assert!(opened(&key, &Uuid::random().unwrap(), &value, 2).is_err());
        assert!(opened(&XaesKey::generate().unwrap(), &session, &value, 2).is_err());
    }

    #[test]
    fn bad_headers_are_refused() {
        let good = sealed(&[1.0]);
        let with = |at: usize, bytes: &[u8]| {
            let mut bad = good.clone();
            bad[at..at + bytes.len()].copy_from_slice(bytes);
            ValueHeader::decode(&bad)
        };
        assert!(with(0, &[1]).is_ok());
        assert!(matches!(with(0, &[2]), Err(Error::Version { found: 2, known: 1, .. })));
        assert!(matches!(with(0, &[15]), Err(Error::Version { found: 15, known: 1, .. })));
        for (at, bytes) in [
            (0, &[0u8][..]),    // no version
            (0, &[16]),         // more versions than there will be
            (0, &[2, 3]),       // a later version of no kind
            (1, &[0]),          // no kind
            (1, &[3]),          // unknown kind
            (1, &[2]),          // a session with a ring
            (2, &[0, 0]),       // no dimensions
            (2, &[0xff, 0xff]), // too many
            (2, &[2, 0]),       // another length
            (4, &[0, 0, 0, 0]), // ring 0
            (4, &[0, 0, 2, 0]), // more than 17 bits
            (8, &[0, 0, 0, 0]), // DEK 0
        ] {
            assert!(matches!(with(at, bytes), Err(Error::Malformed { .. })), "{at} {bytes:?}");
        }
    }

    #[test]
    fn what_is_not_finite_is_never_sealed() {
        let header = ValueHeader::column(&RING, 1, 2).unwrap();
        let seal = |vector: &[f32]| seal_value(&key(), &header, &RING, vector);
        assert!(matches!(seal(&[1.0, f32::NAN]), Err(Error::NotFinite("NaN"))));
        assert!(matches!(seal(&[f32::NEG_INFINITY, 1.0]), Err(Error::NotFinite("infinity"))));
        assert!(matches!(seal(&[1.0]), Err(Error::Dimensions { expected: 2, found: 1 })));
        assert!(matches!(ValueHeader::column(&RING, 1, 0), Err(Error::DimensionsOutOfRange(0))));
        assert!(matches!(ValueHeader::column(&RING, 1, 16_001), Err(Error::DimensionsOutOfRange(16_001))));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_fail(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            if let Ok(header) = ValueHeader::decode(&bytes) {
                prop_assert_eq!(&header.encode()[..], &bytes[..HEADER_LEN]);
            }
            prop_assert!(opened(&key(), &RING, &bytes, 4).is_err());
        }

        #[test]
        fn any_header_with_a_good_front_decodes_or_fails(tail in prop::collection::vec(any::<u8>(), 0..120), kind in 0u8..4) {
            let bytes = [&[1, kind][..], &tail].concat();
            if let Ok(header) = ValueHeader::decode(&bytes) {
                prop_assert_eq!(&header.encode()[..], &bytes[..HEADER_LEN]);
            }
        }

        #[test]
        fn any_vector_round_trips(vector in prop::collection::vec(prop::num::f32::NORMAL | prop::num::f32::ZERO, 1..70)) {
            prop_assert_eq!(opened(&key(), &RING, &sealed(&vector), vector.len()).unwrap().map_bits(), vector.map_bits());
        }
    }
}
