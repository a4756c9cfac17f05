//! The client-held provider: the KEK comes with the call that unlocks the ring, and is never stored.

use sealvec_core::keys::ring::CLIENT_PROVIDER;
use sealvec_core::keys::{Kek, KekProvider, KeyContext};
use sealvec_core::{Error, Result};

/// Takes the client's KEK as it is and wraps nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClientProvider;

impl ClientProvider {
    /// The KEK in the client's bytes. Whether it fits a ring, the ring's commitment says.
    ///
    /// # Errors
    /// [`Error::KeyLength`] unless it has 32 bytes: a passphrase is not a key.
    pub fn kek(bytes: &[u8]) -> Result<Kek> {
        Kek::from_slice(bytes)
    }

    fn refuse<T>() -> Result<T> {
        Err(Error::Provider("only the client holds this key ring's KEK; give it to sealvec.unlock()".into()))
    }
}

/// Every call fails: there is no service to ask. Rings of this provider have no KEK envelope.
impl KekProvider for ClientProvider {
    fn name(&self) -> &str {
        CLIENT_PROVIDER
    }

    fn key_reference(&self) -> &str {
        ""
    }

    fn wrap(&self, _context: &KeyContext, _kek: &Kek) -> Result<Vec<u8>> {
        Self::refuse()
    }

    fn unwrap(&self, _context: &KeyContext, _key_reference: &str, _wrapped: &[u8]) -> Result<Kek> {
        Self::refuse()
    }
}

#[cfg(test)]
mod tests {
    use sealvec_core::keys::{KekSource, RingRecord, Uuid};

    use super::*;

    #[test]
    fn a_kek_has_32_bytes() {
        for len in [0, 31, 33, 64] {
            assert!(matches!(ClientProvider::kek(&vec![b'x'; len]), Err(Error::KeyLength(found)) if found == len));
        }
        assert_eq!(ClientProvider::kek(&[7; 32]).unwrap().expose(), &[7; 32]);
    }

    #[test]
    fn nothing_is_wrapped_or_unwrapped() {
        let context = KeyContext::kek(Uuid::random().unwrap());
        assert!(matches!(ClientProvider.wrap(&context, &Kek::generate().unwrap()), Err(Error::Provider(_))));
        assert!(matches!(ClientProvider.unwrap(&context, "", &[0; 60]), Err(Error::Provider(_))));
        assert!(matches!(ClientProvider.generate(&context), Err(Error::Provider(_))));
    }

    #[test]
    fn its_rings_store_no_kek() {
        let kek = Kek::generate().unwrap();
        let ring = RingRecord::create(KekSource::Client(&kek), |_| false).unwrap();
        assert!(ring.is_client_held() && ring.kek_envelope().is_none());
        let bytes = ring.encode();
        assert!(!bytes.windows(8).any(|window| kek.expose().windows(8).any(|part| part == window)));
    }
}
