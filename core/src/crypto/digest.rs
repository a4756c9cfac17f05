//! SHA-256, for names of things that are themselves random, and for keys that others define by it.

use aws_lc_rs::digest::{Context, SHA256};

/// SHA-256 of `parts`, one behind the other.
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-4's "abc".
    #[test]
    fn known_answer() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex::encode(sha256(&[b"abc"])), expected);
        assert_eq!(hex::encode(sha256(&[b"a", b"", b"bc"])), expected);
    }
}
