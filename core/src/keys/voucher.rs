//! A ring's word that a user's wrap was made by who had the ring's own key.
//!
//! `code = HMAC-SHA-256(HKDF(ring's KEK, "user voucher", ring UUID), the wrap, as encoded)`
//!
//! New DEKs are wrapped to the public key that the catalog has beside a user, and HPKE's base mode says nothing of who put
//! it there. Whoever writes to the files, or edits a dump, would get every later DEK by a key pair of his own. The KEK is
//! what he lacks: no user has it. A wrap names its newest DEK version, so that one from before a rekey, put back, is told
//! by that.

use zeroize::Zeroizing;

use super::{Kek, UserWrap};
use crate::crypto::kdf::{Deriver, Label};
use crate::crypto::{KEY_LEN, mac};
use crate::{Error, Result};

/// The code, as stored beside the wrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Voucher([u8; mac::MAC_LEN]);

impl Voucher {
    /// For a wrap that was just made by whoever has `kek`, the KEK of the ring that the wrap names.
    pub fn of(wrap: &UserWrap, kek: &Kek) -> Self {
        Self(mac::authenticate(&code_key(wrap, kek), &wrap.encode()))
    }

    /// Whether `wrap` is one that this was made for, under that KEK.
    ///
    /// # Errors
    /// [`Error::Altered`] for another wrap, ring, KEK or code.
    pub fn check(&self, wrap: &UserWrap, kek: &Kek) -> Result<()> {
        match mac::is_authentic(&code_key(wrap, kek), &wrap.encode(), &self.0) {
            true => Ok(()),
            false => Err(Error::Altered { what: "user's wrap" }),
        }
    }

    /// As written to the catalogue.
    pub const fn as_bytes(&self) -> &[u8; mac::MAC_LEN] {
        &self.0
    }

    /// As read from it.
    ///
    /// # Errors
    /// [`Error::Malformed`] unless it has 32 bytes.
    pub fn from_slice(bytes: &[u8]) -> Result<Self> {
        bytes.try_into().map(Self).map_err(|_| Error::Malformed { what: "user's voucher" })
    }
}

fn code_key(wrap: &UserWrap, kek: &Kek) -> Zeroizing<[u8; KEY_LEN]> {
    Deriver::new(kek.expose()).subkey(Label::UserVoucher, &wrap.ring())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{KekSource, Permissions, RingRecord, UserId, UserPublicKey, UserRecord};

    fn kek(byte: u8) -> Kek {
        Kek::from_slice(&[byte; 32]).unwrap()
    }

    fn wrap(secret: u8) -> UserWrap {
        let ring = RingRecord::create(KekSource::Client(&kek(1)), |_| false).unwrap();
        let open = ring.open(&kek(1)).unwrap();
        let user = UserId::from_bytes([7; 16]);
        let record = UserRecord::create(&ring, &open, user, Permissions::READ_WRITE, &kek(9)).unwrap();
        UserWrap::create(&record, &kek(9), UserPublicKey::of_secret(&[secret; 32]), "reader").unwrap()
    }

    /// Made by hand from RFC 5869 and RFC 2104.
    #[test]
    fn the_code_is_what_the_formula_says() {
        use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
        let hmac = |key: &[u8], message: &[u8]| sign(&Key::new(HMAC_SHA256, key), message).as_ref().to_vec();
        let wrap = wrap(3);
        let extracted = hmac(b"sealvec v1", kek(1).expose());
        let info = [b"user voucher\0".as_slice(), wrap.ring().as_bytes(), &[1]].concat();
        let expected = hmac(&hmac(&extracted, &info), &wrap.encode());
        assert_eq!(Voucher::of(&wrap, &kek(1)).as_bytes()[..], expected[..]);
    }

    /// Another public key above all, but no byte of the wrap is open to anybody.
    #[test]
    fn every_changed_bit_is_refused() {
        let good = wrap(3);
        let voucher = Voucher::of(&good, &kek(1));
        assert!(voucher.check(&good, &kek(1)).is_ok());
        let bytes = good.encode();
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            if let Ok(other) = UserWrap::decode(&bad) {
                assert!(matches!(voucher.check(&other, &kek(1)), Err(Error::Altered { .. })), "bit {bit}");
            }
        }
        for bit in 0..256 {
            let mut bad = *voucher.as_bytes();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Voucher::from_slice(&bad).unwrap().check(&good, &kek(1)).is_err(), "bit {bit} of the code");
        }
    }

    #[test]
    fn another_kek_vouches_for_nothing() {
        let wrap = wrap(3);
        for other in [2, 9] {
            assert!(Voucher::of(&wrap, &kek(other)).check(&wrap, &kek(1)).is_err());
        }
    }

    #[test]
    fn it_has_32_bytes() {
        for len in [0, 31, 33] {
            assert!(matches!(Voucher::from_slice(&vec![0; len]), Err(Error::Malformed { .. })));
        }
    }
}
