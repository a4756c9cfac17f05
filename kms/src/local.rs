//! The `local` provider: a root key in a file of the server wraps KEKs.
//!
//! `wrapped = AES-256-GCM(HKDF(root key, "local wrap", ring UUID), nonce, KEK, AAD = WrapAad)`, 60 bytes.

use sealvec_core::crypto::kdf::{Deriver, Label};
use sealvec_core::crypto::{AeadKey, WrapAad};
use sealvec_core::keys::{Kek, KekProvider, KeyContext, Uuid};
use sealvec_core::{Error, Result};

use crate::RootKey;

/// Name of this provider in envelopes.
pub const LOCAL_PROVIDER: &str = "local";

/// Wraps KEKs under one root key, which envelopes name by its public id.
pub struct LocalProvider<'a> {
    root: &'a [u8; 32],
    key_reference: String,
}

impl<'a> LocalProvider<'a> {
    /// Under `root`, which stays in the caller's (locked, wiped) memory.
    pub fn new(root: &'a [u8; 32]) -> Self {
        Self { root, key_reference: format!("root:{}", RootKey::id_of(root)) }
    }

    fn wrap_key(&self, ring: &Uuid) -> AeadKey {
        AeadKey::new(&Deriver::new(self.root).subkey(Label::LocalWrap, ring))
    }
}

impl KekProvider for LocalProvider<'_> {
    fn name(&self) -> &str {
        LOCAL_PROVIDER
    }

    fn key_reference(&self) -> &str {
        &self.key_reference
    }

    fn wrap(&self, context: &KeyContext, kek: &Kek) -> Result<Vec<u8>> {
        Ok(self.wrap_key(&context.ring).seal(&aad(context), kek.expose())?.as_bytes().to_vec())
    }

    fn unwrap(&self, context: &KeyContext, key_reference: &str, wrapped: &[u8]) -> Result<Kek> {
        if key_reference != self.key_reference {
            // The reference comes from a catalogue that may have been edited: it is not repeated here.
            return Err(Error::Provider(format!(
                "this key ring was made under another local root key; the root-key file holds \"{}\"",
                self.key_reference
            )));
        }
        let kek = self.wrap_key(&context.ring).open(&aad(context), wrapped).map_err(|_| Error::WrongKey)?;
        Kek::from_slice(&kek).map_err(|_| Error::WrongKey)
    }
}

impl std::fmt::Debug for LocalProvider<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LocalProvider({}, [redacted])", self.key_reference)
    }
}

fn aad(context: &KeyContext) -> WrapAad {
    WrapAad { ring: context.ring, dek_version: context.dek_version, purpose: context.purpose as u8 }
}

#[cfg(test)]
mod tests {
    use sealvec_core::keys::{KekSource, RingRecord};

    use super::*;

    const ROOT: [u8; 32] = [3; 32];

    fn context() -> KeyContext {
        KeyContext::kek(Uuid::from_bytes([1; 16]))
    }

    #[test]
    fn keks_round_trip() {
        let provider = LocalProvider::new(&ROOT);
        let (kek, wrapped) = provider.generate(&context()).unwrap();
        assert_eq!(wrapped.len(), 60);
        assert_eq!(provider.unwrap(&context(), provider.key_reference(), &wrapped).unwrap().expose(), kek.expose());
    }

    #[test]
    fn another_context_opens_nothing() {
        let provider = LocalProvider::new(&ROOT);
        let (_, wrapped) = provider.generate(&context()).unwrap();
        for other in [
            KeyContext::kek(Uuid::from_bytes([2; 16])),
            KeyContext::dek(Uuid::from_bytes([1; 16]), 1),
            KeyContext::id_key(Uuid::from_bytes([1; 16])),
        ] {
            assert!(matches!(provider.unwrap(&other, provider.key_reference(), &wrapped), Err(Error::WrongKey)));
        }
    }

    #[test]
    fn damaged_bytes_open_nothing() {
        let provider = LocalProvider::new(&ROOT);
        let (_, wrapped) = provider.generate(&context()).unwrap();
        for at in 0..wrapped.len() {
            let mut bad = wrapped.clone();
            bad[at] ^= 1;
            assert!(matches!(provider.unwrap(&context(), provider.key_reference(), &bad), Err(Error::WrongKey)));
            assert!(matches!(
                provider.unwrap(&context(), provider.key_reference(), &wrapped[..at]),
                Err(Error::WrongKey)
            ));
        }
    }

    #[test]
    fn another_root_key_is_named_not_tried() {
        let (ours, theirs) = (LocalProvider::new(&ROOT), LocalProvider::new(&[4; 32]));
        let (_, wrapped) = theirs.generate(&context()).unwrap();
        let Err(Error::Provider(text)) = ours.unwrap(&context(), theirs.key_reference(), &wrapped) else { panic!() };
        assert!(text.contains(ours.key_reference()) && !text.contains(theirs.key_reference()), "{text}");
        // And lying about the reference does not help.
        assert!(matches!(ours.unwrap(&context(), ours.key_reference(), &wrapped), Err(Error::WrongKey)));
    }

    #[test]
    fn a_ring_of_this_provider_opens_again() {
        let provider = LocalProvider::new(&ROOT);
        let ring = RingRecord::create(KekSource::Provider(&provider), |_| false).unwrap();
        assert_eq!(ring.provider(), "local");
        let ring = RingRecord::decode(&ring.encode()).unwrap();
        let kek = ring.unwrap_kek(&LocalProvider::new(&ROOT)).unwrap();
        assert_eq!(ring.open(&kek).unwrap().deks.len(), 1);
        assert!(ring.unwrap_kek(&LocalProvider::new(&[4; 32])).is_err());
    }

    #[test]
    fn debug_shows_no_key() {
        let text = format!("{:?}", LocalProvider::new(&[0x41; 32]));
        assert!(text.contains("[redacted]") && !text.contains("4141") && !text.contains("65, 65"), "{text}");
    }

    /// A KEK wrapped by format version 1: it must unwrap for ever.
    #[test]
    fn golden_kek_unwraps() {
        let golden = concat!(
            "1d0507db024330db74636c7c",                                         // nonce
            "96f0ef9e82916b852075285c94d2382d8738cf459037a0d335f00c2dd619aefe", // ciphertext
            "52be6f4b8e17f7f2183857918bf24df2",                                 // tag
        );
        let wrapped: Vec<u8> =
            (0..golden.len()).step_by(2).map(|at| u8::from_str_radix(&golden[at..at + 2], 16).unwrap()).collect();
        let kek =
            LocalProvider::new(&ROOT).unwrap(&context(), "root:82d12997045f0924f7a13f400c20505a", &wrapped).unwrap();
        assert_eq!(kek.expose(), &[9; 32]);
    }
}
