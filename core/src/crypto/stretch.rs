//! PBKDF2-HMAC-SHA-256 (RFC 8018, 5.2): a key from a secret that a person may have chosen.
//!
//! What is made with such a key lets whoever has it try secrets out, with no server to ask. Each trial costs what it
//! costs us once, when a server starts: a tenth of a second.

use std::num::NonZeroU32;

use aws_lc_rs::pbkdf2::{PBKDF2_HMAC_SHA256, derive};
use zeroize::Zeroizing;

use super::KEY_LEN;

/// Rounds of HMAC, as OWASP asks for since 2023. Another number is another key.
pub const ROUNDS: NonZeroU32 = NonZeroU32::new(600_000).unwrap();

/// The key of `secret`, of any length; `label` says what it is for.
pub fn stretch(label: &[u8], secret: &[u8]) -> Zeroizing<[u8; KEY_LEN]> {
    let mut key = Zeroizing::new([0; KEY_LEN]);
    derive(PBKDF2_HMAC_SHA256, ROUNDS, label, secret, &mut key[..]);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Python's `hashlib.pbkdf2_hmac("sha256", secret, label, 600_000)`.
    #[test]
    fn known_answers() {
        for (label, secret, key) in [
            ("label", "secret", "8a4ebd24a729b3f631d6ea1c4896776af68d45f5432a95a0c92ece07074fac81"),
            ("label", "", "950eafdaba9d87b99c5d7d57f896c2c190468d6d5a285809c54dec27fdf83c11"),
            ("", "secret", "c4937a9129730463ade96e842bc9c5fe6e108ab6a14730a5158f476c78f89039"),
            (
                "label",
                "a secret longer than a block of SHA-256, which HMAC would hash first, so 64 bytes and more",
                "e2817550053cb62cf2f134b822625e1e96df51d5357c3d23bbcac6ef4cea517d",
            ),
        ] {
            assert_eq!(hex::encode(&stretch(label.as_bytes(), secret.as_bytes())[..]), key, "{label} {secret}");
        }
    }
}
