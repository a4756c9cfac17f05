//! The bytes of a sealed key, and their text form.
//!
//! | offset | size | meaning |
//! |---|---|---|
//! | 0 | 8 | `9e` `sealed` `01`: no text in UTF-8 starts so; the last byte is the version |
//! | 8 | 16 | id of the server's key pair |
//! | 24 | 32 | HPKE's encapsulated key |
//! | 56 | 1 to 256 | ciphertext of the secret |
//! | | 16 | tag |
//!
//! Text: `sealed1.` and these bytes in base64url without padding. Either form is taken wherever a secret is.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::KeyId;
use crate::crypto::{KEY_LEN, TAG_LEN};
use crate::{Error, Result};

/// What the binary form starts with; the last byte is the version.
pub const MAGIC: [u8; 8] = *b"\x9esealed\x01";
/// What the text form starts with.
pub const TEXT_PREFIX: &str = "sealed1.";
/// Most bytes of a secret: a key has 32, a token 82.
pub const SECRET_LEN_MAX: usize = 256;

const ENC_AT: usize = MAGIC.len() + KeyId::LEN;
const TEXT_AT: usize = ENC_AT + ENC_LEN;
pub(super) const ENC_LEN: usize = 32;
const LEN_MIN: usize = TEXT_AT + 1 + TAG_LEN;
const LEN_MAX: usize = TEXT_AT + SECRET_LEN_MAX + TAG_LEN;
const MALFORMED: Error = Error::Malformed { what: "sealed key" };

/// A sealed key in its wire form, of the right shape. Not secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedKey(Vec<u8>);

impl SealedKey {
    pub(super) fn new(key: KeyId, enc: &[u8; ENC_LEN], ciphertext: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(TEXT_AT + ciphertext.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(key.as_bytes());
        bytes.extend_from_slice(enc);
        bytes.extend_from_slice(ciphertext);
        Self(bytes)
    }

    /// Reads either form; `None` for bytes that are no sealed key, as a plain key and a plain token are not. What has
    /// the length of a key is one, whatever it starts with.
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::Version`].
    pub fn read(bytes: &[u8]) -> Option<Result<Self>> {
        if bytes.len() == KEY_LEN {
            return None;
        }
        if let Some(digits) = bytes.strip_prefix(TEXT_PREFIX.as_bytes()) {
            if digits.len() > LEN_MAX * 4 / 3 + 1 {
                return Some(Err(MALFORMED));
            }
            let decoded = URL_SAFE_NO_PAD.decode(digits).map_err(|_| MALFORMED);
            return Some(decoded.and_then(|bytes| Self::decode(&bytes)));
        }
        bytes.starts_with(&MAGIC[..MAGIC.len() - 1]).then(|| Self::decode(bytes))
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        let (magic, known) = (MAGIC.len() - 1, MAGIC[MAGIC.len() - 1]);
        let (Some(front), Some(version)) = (bytes.get(..magic), bytes.get(magic)) else { return Err(MALFORMED) };
        if front != &MAGIC[..magic] {
            return Err(MALFORMED);
        }
        if *version != known {
            return Err(Error::Version { what: "sealed key", found: u16::from(*version), known: u16::from(known) });
        }
        if (LEN_MIN..=LEN_MAX).contains(&bytes.len()) { Ok(Self(bytes.to_vec())) } else { Err(MALFORMED) }
    }

    /// Which of the server's key pairs it is sealed to.
    pub fn key_id(&self) -> KeyId {
        KeyId::from_bytes(*self.0[MAGIC.len()..].first_chunk().expect("longer than its head"))
    }

    /// The binary form, for a bound `bytea`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text form, for everything else.
    pub fn to_text(&self) -> String {
        format!("{TEXT_PREFIX}{}", URL_SAFE_NO_PAD.encode(&self.0))
    }

    pub(super) fn parts(&self) -> (&[u8], &[u8]) {
        self.0[ENC_AT..].split_at(ENC_LEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed() -> SealedKey {
        SealedKey::new(KeyId::from_bytes([3; 16]), &[4; 32], &[5; 48])
    }

    #[test]
    fn both_forms_read_back() {
        let sealed = sealed();
        assert_eq!((sealed.as_bytes().len(), sealed.to_text().len()), (104, 147));
        assert_eq!(sealed.key_id(), KeyId::from_bytes([3; 16]));
        assert_eq!(SealedKey::read(sealed.as_bytes()).unwrap().unwrap(), sealed);
        assert_eq!(SealedKey::read(sealed.to_text().as_bytes()).unwrap().unwrap(), sealed);
    }

    #[test]
    fn plain_secrets_are_not_sealed_keys() {
        let mut odd = [0; KEY_LEN];
        odd[..8].copy_from_slice(&MAGIC);
        let token = "cdbk_1_AAECAwQFBgcICQoLDA0OD4CBgoOEhYaHiImKi4yNjo-QkZKTlJWWl5iZmpucnZ6f_jy5s8nENrE";
        for plain in [&b""[..], &[7; 32], &odd, token.as_bytes(), &MAGIC[..5], b"sealed"] {
            assert!(SealedKey::read(plain).is_none());
        }
        assert!(std::str::from_utf8(&MAGIC).is_err(), "no text starts like the binary form");
    }

    #[test]
    fn what_starts_like_one_must_be_one() {
        let sealed = sealed();
        let (bytes, text) = (sealed.as_bytes(), sealed.to_text());
        let mut long = bytes.to_vec();
        long.resize(LEN_MAX + 1, 0);
        for bad in [&MAGIC[..], &bytes[..LEN_MIN - 1], &long] {
            assert!(matches!(SealedKey::read(bad), Some(Err(Error::Malformed { .. }))), "{} bytes", bad.len());
        }
        let (padded, huge) = (format!("{text}="), format!("{TEXT_PREFIX}{}", "A".repeat(10_000)));
        for bad in [TEXT_PREFIX, &text[..20], &padded, &huge, "sealed1.!!!!", "sealed1.AAAAAAAAAAAAAAAAAAAAAAA"] {
            assert!(matches!(SealedKey::read(bad.as_bytes()), Some(Err(Error::Malformed { .. }))), "{bad}");
        }
        let mut newer = bytes.to_vec();
        newer[7] = 2;
        assert!(matches!(SealedKey::read(&newer), Some(Err(Error::Version { found: 2, known: 1, .. }))));
    }
}
