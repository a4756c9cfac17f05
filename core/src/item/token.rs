//! The token that stands for an id: `HMAC-SHA-256(HKDF(id key, "id token", ring), id)`.
//!
//! The id key belongs to the ring and outlives its DEKs, so that a new DEK moves no row. Ids are often guessable;
//! whoever has the table but not the id key can't test a guess.

use crate::crypto::kdf::{Deriver, Label};
use crate::crypto::{KeyPlace, mac};
use crate::keys::{IdKey, Uuid};

/// Bytes of a token.
pub const TOKEN_LEN: usize = mac::MAC_LEN;

/// A row's primary key.
pub type IdToken = [u8; TOKEN_LEN];

/// The key of one ring's tokens, derived once for many ids. Wiped on drop.
pub struct TokenKey(KeyPlace);

impl TokenKey {
    /// From the id key of `ring`.
    pub fn new(id_key: &IdKey, ring: &Uuid) -> Self {
        Self(KeyPlace::copy_of(&Deriver::new(id_key.expose()).subkey(Label::IdToken, ring)))
    }

    /// The token of `id`, which may be any text, the empty one too.
    pub fn token(&self, id: &str) -> IdToken {
        mac::authenticate(&self.0, id.as_bytes())
    }
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey([redacted])")
    }
}

/// The token of one `id`; for many, [`TokenKey`] derives its key only once.
pub fn id_token(id_key: &IdKey, ring: &Uuid, id: &str) -> IdToken {
    TokenKey::new(id_key, ring).token(id)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const RING: Uuid = Uuid::from_bytes([0x5a; 16]);

    fn id_key(byte: u8) -> IdKey {
        IdKey::from_slice(&[byte; 32]).unwrap()
    }

    /// Computed with Python's hmac, HKDF by RFC 5869 included.
    #[test]
    fn known_answers() {
        for (id, token) in [
            ("", "8c64f24a1addffdc7c1240f087ed6e6514538341f84ed57294e9b330bfd6badb"),
            ("item_1", "259577cbd2a00b02f67f81321de2ef81b6fe278d8bacc9c25e578df83b37fc63"),
            ("naïve 🦀", "41a038ec179fb0256fd813cff8aa12028919b78192b1e0056032057396e73a61"),
        ] {
            assert_eq!(hex::encode(id_token(&id_key(7), &RING, id)), token, "{id}");
        }
    }

    #[test]
    fn each_id_key_and_ring_gives_another_token() {
        let mut seen = HashSet::new();
        for key in [1, 2] {
            for ring in [RING, Uuid::from_bytes([0x5b; 16])] {
                for id in ["", "a", "A", "a ", "a\0", "á", "a\u{301}", "aa"] {
                    assert!(seen.insert(id_token(&id_key(key), &ring, id)));
                }
            }
        }
        let key = TokenKey::new(&id_key(1), &RING);
        assert_eq!(key.token("a"), id_token(&id_key(1), &RING, "a"), "an id keeps its token");
        assert_eq!(format!("{key:?}"), "TokenKey([redacted])");
    }
}
