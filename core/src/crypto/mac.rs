//! HMAC-SHA-256, for records that are clear and must not be changed.

use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign, verify};

use super::KEY_LEN;

/// Bytes of a code.
pub const MAC_LEN: usize = 32;

/// The code of `message` under `key`, a subkey that is for nothing else.
pub fn authenticate(key: &[u8; KEY_LEN], message: &[u8]) -> [u8; MAC_LEN] {
    sign(&Key::new(HMAC_SHA256, key), message).as_ref().try_into().expect("a code has 32 bytes")
}

/// Whether `code` is that of `message`, in time that does not depend on where they differ.
pub fn is_authentic(key: &[u8; KEY_LEN], message: &[u8], code: &[u8; MAC_LEN]) -> bool {
    verify(&Key::new(HMAC_SHA256, key), message, code).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231 has no key of 32 bytes; this code is Python's `hmac.new(bytes(range(32)), b"sealvec", "sha256")`.
    #[test]
    fn known_answer() {
        let key = std::array::from_fn(|i| i as u8);
        let code = authenticate(&key, b"sealvec");
        assert_eq!(hex::encode(code), "2aad35e589634eb8d5214284b2832eb5d33151b256f5d85dece429f5d8537f27");
        assert!(is_authentic(&key, b"sealvec", &code));
    }

    #[test]
    fn one_bit_is_enough_to_differ() {
        let code = authenticate(&[1; 32], b"message");
        assert!(!is_authentic(&[2; 32], b"message", &code) && !is_authentic(&[1; 32], b"messagf", &code));
        for bit in 0..256 {
            let mut bad = code;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_authentic(&[1; 32], b"message", &bad), "bit {bit}");
        }
    }
}
