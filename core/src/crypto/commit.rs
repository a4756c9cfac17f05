//! Key commitments: 32 bytes that only one key can have produced.
//!
//! AES-GCM does not commit to its key: one ciphertext can be built that opens under two keys to two
//! plaintexts, and hashing the key into the AAD does not prevent it (it is one linear equation in
//! GF(2^128); `keys::ring` has such a ciphertext among its tests). So every key is checked against
//! `HKDF(key, label, context)` before it opens anything. Finding two keys with one commitment is finding
//! a collision of SHA-256.

use subtle::ConstantTimeEq;

use super::KEY_LEN;
use super::kdf::{Deriver, Label};
use crate::keys::Uuid;
use crate::{Error, Result};

/// Bytes of a commitment.
pub const COMMITMENT_LEN: usize = 32;

/// A commitment, as stored. Public: it says nothing of a key that was drawn at random.
#[derive(Clone, Copy, Debug)]
pub struct Commitment([u8; COMMITMENT_LEN]);

impl Commitment {
    /// What a ring stores of its KEK.
    pub fn of_kek(kek: &[u8; KEY_LEN], ring: &Uuid) -> Self {
        Self(*Deriver::new(kek).subkey(Label::RingCommitment, ring))
    }

    /// What an envelope stores of the key it wraps.
    pub fn of_wrapped(key: &[u8; KEY_LEN], ring: &Uuid, purpose: u8, dek_version: u32) -> Self {
        let context: [&[u8]; 3] = [ring.as_bytes(), &[purpose], &dek_version.to_le_bytes()];
        Self(*Deriver::new(key).derive(Label::EnvelopeCommitment, &context))
    }

    /// What a user's record stores of the user's KEK.
    pub fn of_user(kek: &[u8; KEY_LEN], ring: &Uuid, user: &[u8; 16]) -> Self {
        Self(*Deriver::new(kek).derive(Label::UserCommitment, &[ring.as_bytes(), user]))
    }

    /// As read from disk.
    pub const fn from_bytes(bytes: [u8; COMMITMENT_LEN]) -> Self {
        Self(bytes)
    }

    /// As written to disk.
    pub const fn as_bytes(&self) -> &[u8; COMMITMENT_LEN] {
        &self.0
    }

    /// [`Error::WrongKey`] unless both are equal, in time that depends on neither.
    pub fn check(&self, computed: &Commitment) -> Result<()> {
        if bool::from(self.0.ct_eq(&computed.0)) { Ok(()) } else { Err(Error::WrongKey) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_input_is_committed_to() {
        let (ring, other) = (Uuid::from_bytes([1; 16]), Uuid::from_bytes([2; 16]));
        let base = Commitment::of_wrapped(&[3; 32], &ring, 2, 1);
        assert!(base.check(&Commitment::of_wrapped(&[3; 32], &ring, 2, 1)).is_ok());
        for changed in [
            Commitment::of_wrapped(&[4; 32], &ring, 2, 1),
            Commitment::of_wrapped(&[3; 32], &other, 2, 1),
            Commitment::of_wrapped(&[3; 32], &ring, 3, 1),
            Commitment::of_wrapped(&[3; 32], &ring, 2, 2),
            Commitment::of_kek(&[3; 32], &ring),
        ] {
            assert!(matches!(base.check(&changed), Err(Error::WrongKey)));
        }
    }

    #[test]
    fn one_bit_is_enough_to_differ() {
        let base = Commitment::from_bytes([0; 32]);
        for bit in 0..256 {
            let mut bytes = [0; 32];
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(base.check(&Commitment::from_bytes(bytes)).is_err());
        }
    }
}
