//! HPKE in base mode (RFC 9180, section 5.1.1), single-shot: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM.
//!
//! `enc, ciphertext ‖ tag = SealBase(public key, info, aad = "", secret)`. All of it is the crate `hpke`'s; what is in
//! `info` is the caller's, and is all that a sealed secret is bound to. Base mode tells nothing of who sealed.

use ::hpke::aead::AesGcm256;
use ::hpke::kdf::HkdfSha256;
use ::hpke::kem::X25519HkdfSha256;
use ::hpke::{Deserializable, HpkeError, Kem, OpModeR, OpModeS, Serializable, single_shot_open, single_shot_seal};
use zeroize::Zeroizing;

use super::KEY_LEN;

pub(crate) type Aead = AesGcm256;
pub(crate) type Kdf = HkdfSha256;
pub(crate) type Dhkem = X25519HkdfSha256;

/// Bytes of an encapsulated key, and of a public one.
pub const ENC_LEN: usize = 32;

/// The point gives no secret (section 7.1.4), or the bytes do not open under this key and `info`. Never says which.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused;

impl From<HpkeError> for Refused {
    fn from(_: HpkeError) -> Self {
        Self
    }
}

/// The public half of `secret`.
pub fn public_key(secret: &[u8; KEY_LEN]) -> [u8; ENC_LEN] {
    *Dhkem::sk_to_pk(&private(secret)).to_bytes().first_chunk().expect("a public key has 32 bytes")
}

/// Encapsulated key, and ciphertext with its tag.
pub fn seal(public: &[u8; ENC_LEN], info: &[u8], secret: &[u8]) -> Result<([u8; ENC_LEN], Vec<u8>), Refused> {
    let public = <Dhkem as Kem>::PublicKey::from_bytes(public)?;
    let (enc, ciphertext) = single_shot_seal::<Aead, Kdf, Dhkem>(&OpModeS::Base, &public, info, secret, b"")?;
    Ok((*enc.to_bytes().first_chunk().expect("an encapsulated key has 32 bytes"), ciphertext))
}

/// What was sealed to the public half of `secret`.
pub fn open(secret: &[u8; KEY_LEN], info: &[u8], enc: &[u8], ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, Refused> {
    let enc = <Dhkem as Kem>::EncappedKey::from_bytes(enc)?;
    let opened = single_shot_open::<Aead, Kdf, Dhkem>(&OpModeR::Base, &private(secret), &enc, info, ciphertext, b"")?;
    Ok(Zeroizing::new(opened))
}

fn private(secret: &[u8; KEY_LEN]) -> <Dhkem as Kem>::PrivateKey {
    <Dhkem as Kem>::PrivateKey::from_bytes(secret).expect("32 bytes are a private key")
}
