//! An envelope: one wrapped key with all that is needed to unwrap it, and nothing secret.
//!
//! | offset | size | meaning |
//! |---|---|---|
//! | 0 | 4 | magic, `SVEN` |
//! | 4 | 1 | format version, 1 |
//! | 5 | 1 | algorithm: 1 AES-256-GCM under a wrap key derived from the KEK, 2 the provider's own |
//! | 6 | 1 | purpose: 1 KEK, 2 DEK, 3 id key |
//! | 7 | 1 | zero |
//! | 8 | 16 | ring UUID |
//! | 24 | 4 | DEK version, from 1; 0 for a KEK or id key |
//! | 28 | 1 | length p of the provider's name, 1 to 32 |
//! | 29 | p | provider's name: `a-z`, `0-9`, `-` |
//! | 29 + p | 2 | length r of the key reference, 0 to 2,048 |
//! | 31 + p | r | key reference, UTF-8 without control characters |
//! | 31 + p + r | 2 | length w of the wrapped key, 1 to 4,096; 60 for algorithm 1 |
//! | 33 + p + r | w | wrapped key |
//! | 33 + p + r + w | 32 | commitment of the key inside |
//!
//! Integers are little-endian; nothing may follow.

use zeroize::Zeroizing;

use super::provider::{KekProvider, KeyContext, Purpose};
use super::{DekBytes, IdKey, Kek, Uuid};
use crate::crypto::commit::{COMMITMENT_LEN, Commitment};
use crate::crypto::kdf::{Deriver, Label};
use crate::crypto::{AeadKey, KEY_LEN, OVERHEAD, WrapAad};
use crate::{Error, Result};

const MAGIC: &[u8; 4] = b"SVEN";
const VERSION: u8 = 1;
const WHAT: &str = "envelope";
const MALFORMED: Error = Error::Malformed { what: WHAT };

const PROVIDER_LEN_MAX: usize = 32;
const REFERENCE_LEN_MAX: usize = 2_048;
const WRAPPED_LEN_MAX: usize = 4_096;
/// Most bytes an envelope can have.
pub const ENVELOPE_LEN_MAX: usize = 33 + PROVIDER_LEN_MAX + REFERENCE_LEN_MAX + WRAPPED_LEN_MAX + COMMITMENT_LEN;

/// The provider's name in envelopes of DEKs and id keys: their ring's own KEK wraps those.
pub const RING_PROVIDER: &str = "ring";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum WrapAlgorithm {
    Aes256Gcm = 1,
    Provider = 2,
}

/// A wrapped key, at rest in the catalogue, in dumps and in exports.
#[derive(Clone, Debug)]
pub struct Envelope {
    algorithm: WrapAlgorithm,
    context: KeyContext,
    provider: String,
    key_reference: String,
    wrapped: Vec<u8>,
    commitment: Commitment,
}

impl Envelope {
    /// A fresh KEK of `ring` from `provider`, wrapped.
    pub(super) fn generate_kek(ring: Uuid, provider: &dyn KekProvider) -> Result<(Kek, Self)> {
        let context = KeyContext::kek(ring);
        let (kek, wrapped) = provider.generate(&context)?;
        let envelope = Self::of_provider(provider, context, &kek, wrapped)?;
        Ok((kek, envelope))
    }

    fn of_provider(provider: &dyn KekProvider, context: KeyContext, kek: &Kek, wrapped: Vec<u8>) -> Result<Self> {
        let envelope = Self {
            algorithm: WrapAlgorithm::Provider,
            context,
            provider: provider.name().to_owned(),
            key_reference: provider.key_reference().to_owned(),
            wrapped,
            commitment: committed(kek.expose(), &context),
        };
        if envelope.is_valid() { Ok(envelope) } else { Err(no_envelope()) }
    }

    /// This KEK's envelope with other bytes around the same key: `wrapped` under another key of `provider`, or of another
    /// provider.
    ///
    /// # Errors
    /// [`Error::Provider`] for what no envelope can hold.
    pub(super) fn moved(&self, provider: &dyn KekProvider, key_reference: &str, wrapped: Vec<u8>) -> Result<Self> {
        let (provider, key_reference) = (provider.name().to_owned(), key_reference.to_owned());
        let moved = Self { provider, key_reference, wrapped, ..self.clone() };
        if moved.is_valid() { Ok(moved) } else { Err(no_envelope()) }
    }

    /// `key` under the wrap key that `kek` gives: AES-256-GCM, bound to `context`.
    pub(super) fn wrap_under_kek(kek: &Kek, context: KeyContext, key: &[u8; KEY_LEN]) -> Result<Self> {
        let wrapped = wrap_key(kek, &context.ring).seal(&aad(&context), key)?.as_bytes().to_vec();
        Ok(Self {
            algorithm: WrapAlgorithm::Aes256Gcm,
            context,
            provider: RING_PROVIDER.to_owned(),
            key_reference: String::new(),
            wrapped,
            commitment: committed(key, &context),
        })
    }

    /// Asks `provider` for the KEK and checks it against the commitment before anyone uses it.
    ///
    /// # Errors
    /// [`Error::Provider`] as the provider reports, [`Error::WrongKey`] if what it gave is not the key.
    pub fn unwrap_kek(&self, provider: &dyn KekProvider) -> Result<Kek> {
        assert_eq!(self.context.purpose, Purpose::Kek, "only a KEK is a provider's");
        if provider.name() != self.provider {
            return Err(Error::Provider(format!(
                "this key ring belongs to key provider \"{}\", not \"{}\"",
                self.provider,
                provider.name()
            )));
        }
        let kek = provider.unwrap(&self.context, &self.key_reference, &self.wrapped)?;
        self.commitment.check(&committed(kek.expose(), &self.context))?;
        Ok(kek)
    }

    /// The DEK inside. `kek` must have passed its ring's commitment.
    pub(super) fn unwrap_dek(&self, kek: &Kek) -> Result<DekBytes> {
        DekBytes::from_slice(self.context.dek_version, &self.unwrap_under_kek(kek)?[..])
    }

    /// The id key inside. `kek` must have passed its ring's commitment.
    pub(super) fn unwrap_id_key(&self, kek: &Kek) -> Result<IdKey> {
        IdKey::from_slice(&self.unwrap_under_kek(kek)?[..])
    }

    /// The raw key inside, if it is the one committed to; any failure is [`Error::WrongKey`].
    fn unwrap_under_kek(&self, kek: &Kek) -> Result<Zeroizing<[u8; KEY_LEN]>> {
        let mut key = Zeroizing::new([0; KEY_LEN]);
        wrap_key(kek, &self.context.ring)
            .open_into(&aad(&self.context), &self.wrapped, &mut key[..])
            .map_err(|_| Error::WrongKey)?;
        self.commitment.check(&committed(&key, &self.context))?;
        Ok(key)
    }

    /// Whether `key` is the one inside, without unwrapping: [`Error::WrongKey`] if not, in constant time.
    pub(super) fn check_inside(&self, key: &[u8; KEY_LEN]) -> Result<()> {
        self.commitment.check(&committed(key, &self.context))
    }

    /// What the key is bound to.
    pub fn context(&self) -> &KeyContext {
        &self.context
    }

    /// Name of the provider that wraps the key; [`RING_PROVIDER`] if the ring's KEK does.
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// Which of the provider's keys does.
    pub fn key_reference(&self) -> &str {
        &self.key_reference
    }

    /// The wrapped key, for a provider that rewraps by itself.
    pub fn wrapped(&self) -> &[u8] {
        &self.wrapped
    }

    /// The envelope's bytes.
    pub fn encode(&self) -> Vec<u8> {
        assert!(self.is_valid(), "every constructor checks");
        let mut out = Vec::with_capacity(
            33 + self.provider.len() + self.key_reference.len() + self.wrapped.len() + COMMITMENT_LEN,
        );
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&[VERSION, self.algorithm as u8, self.context.purpose as u8, 0]);
        out.extend_from_slice(self.context.ring.as_bytes());
        out.extend_from_slice(&self.context.dek_version.to_le_bytes());
        out.push(self.provider.len() as u8);
        out.extend_from_slice(self.provider.as_bytes());
        for field in [self.key_reference.as_bytes(), &self.wrapped] {
            out.extend_from_slice(&(field.len() as u16).to_le_bytes());
            out.extend_from_slice(field);
        }
        out.extend_from_slice(self.commitment.as_bytes());
        out
    }

    /// Reads what [`encode`](Self::encode) wrote, to the last byte.
    ///
    /// # Errors
    /// [`Error::Version`] for another format version, [`Error::Malformed`] for anything else that no build writes.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader { rest: bytes, what: WHAT };
        if reader.array()? != *MAGIC {
            return Err(MALFORMED);
        }
        let [version, algorithm, purpose, zero] = reader.array()?;
        if version != VERSION {
            return Err(Error::Version { what: WHAT, found: version.into(), known: VERSION.into() });
        }
        let algorithm = match algorithm {
            1 => WrapAlgorithm::Aes256Gcm,
            2 => WrapAlgorithm::Provider,
            _ => return Err(MALFORMED),
        };
        let purpose = Purpose::from_byte(purpose).filter(|_| zero == 0).ok_or(MALFORMED)?;
        let ring = Uuid::from_bytes(reader.array()?);
        let dek_version = u32::from_le_bytes(reader.array()?);
        let [provider_len] = reader.array()?;
        let provider = reader.text(provider_len.into())?;
        let key_reference_len = u16::from_le_bytes(reader.array()?);
        let key_reference = reader.text(key_reference_len.into())?;
        let wrapped_len = u16::from_le_bytes(reader.array()?);
        let wrapped = reader.take(wrapped_len.into())?.to_vec();
        let commitment = Commitment::from_bytes(reader.array()?);
        let context = KeyContext { ring, dek_version, purpose };
        let envelope = Self { algorithm, context, provider, key_reference, wrapped, commitment };
        if reader.rest.is_empty() && envelope.is_valid() { Ok(envelope) } else { Err(MALFORMED) }
    }

    /// The rules between fields, for what is written and for what is read.
    fn is_valid(&self) -> bool {
        let by_ring = self.algorithm == WrapAlgorithm::Aes256Gcm;
        let version_fits = (self.context.purpose == Purpose::Dek) == (self.context.dek_version != 0);
        let wrapper_fits = by_ring == (self.context.purpose != Purpose::Kek)
            && by_ring == (self.provider == RING_PROVIDER)
            && (!by_ring || self.key_reference.is_empty() && self.wrapped.len() == KEY_LEN + OVERHEAD);
        version_fits
            && wrapper_fits
            && (1..=PROVIDER_LEN_MAX).contains(&self.provider.len())
            && self.provider.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
            && self.key_reference.len() <= REFERENCE_LEN_MAX
            && !self.key_reference.chars().any(char::is_control)
            && (1..=WRAPPED_LEN_MAX).contains(&self.wrapped.len())
    }
}

fn no_envelope() -> Error {
    Error::Provider("a key provider gave a name, key reference or wrapped key that no envelope can hold".into())
}

fn wrap_key(kek: &Kek, ring: &Uuid) -> AeadKey {
    AeadKey::new(&Deriver::new(kek.expose()).subkey(Label::Wrap, ring))
}

fn aad(context: &KeyContext) -> WrapAad {
    WrapAad { ring: context.ring, dek_version: context.dek_version, purpose: context.purpose as u8 }
}

fn committed(key: &[u8; KEY_LEN], context: &KeyContext) -> Commitment {
    Commitment::of_wrapped(key, &context.ring, context.purpose as u8, context.dek_version)
}

/// Takes fields off the front of untrusted bytes.
pub(super) struct Reader<'a> {
    pub(super) rest: &'a [u8],
    pub(super) what: &'static str,
}

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (field, rest) = self.rest.split_at_checked(len).ok_or(Error::Malformed { what: self.what })?;
        self.rest = rest;
        Ok(field)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let field = self.take(N)?;
        Ok(field.try_into().expect("take gave N bytes"))
    }

    /// Magic, format version and the byte behind it, which it returns.
    pub(super) fn front(&mut self, magic: &[u8; 4], known: u8) -> Result<u8> {
        if self.array()? != *magic {
            return Err(Error::Malformed { what: self.what });
        }
        let [version, next] = self.array()?;
        match version == known {
            true => Ok(next),
            false => Err(Error::Version { what: self.what, found: version.into(), known: known.into() }),
        }
    }

    pub(super) fn text(&mut self, len: usize) -> Result<String> {
        let field = self.take(len)?;
        Ok(std::str::from_utf8(field).map_err(|_| Error::Malformed { what: self.what })?.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RING: Uuid = Uuid::from_bytes([0x5a; 16]);

    fn kek() -> Kek {
        Kek::from_slice(&[1; 32]).unwrap()
    }

    fn dek_envelope() -> Envelope {
        Envelope::wrap_under_kek(&kek(), KeyContext::dek(RING, 7), &[2; 32]).unwrap()
    }

    /// Answers as it is told to.
    struct Service {
        name: &'static str,
        key_reference: String,
        wrapped: Vec<u8>,
    }

    impl Service {
        fn good() -> Self {
            Self { name: "aws-kms", key_reference: "arn:aws:kms:eu-west-1:1:key/ä".into(), wrapped: vec![9; 184] }
        }

        fn envelope(&self) -> Result<Envelope> {
            Envelope::generate_kek(RING, self).map(|(_, envelope)| envelope)
        }
    }

    impl KekProvider for Service {
        fn name(&self) -> &str {
            self.name
        }

        fn key_reference(&self) -> &str {
            &self.key_reference
        }

        fn wrap(&self, _: &KeyContext, _: &Kek) -> Result<Vec<u8>> {
            Ok(self.wrapped.clone())
        }

        fn unwrap(&self, _: &KeyContext, _: &str, _: &[u8]) -> Result<Kek> {
            Ok(kek())
        }
    }

    /// An envelope of format version 1: it must unwrap for ever.
    const GOLDEN: &str = concat!(
        "5356454e",                         // magic
        "01010200",                         // version 1, AES-256-GCM, DEK
        "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a", // ring
        "07000000",                         // DEK version
        "0472696e67",                       // "ring"
        "0000",                             // no key reference
        "3c00",                             // 60 bytes:
        "562ac9ad7d290f4756ecd32a7a84462249c0ff1d57c7baec3bfa3af81ad03749f78ce40f489078c5051f1d8f2c8d4c2a8a4f5e62cf0b6a3f8f6e455d",
        "89a4ece27a5356b919f8b9a06a564b9f01bdb809aed23fdcc79da79e82f8d72e",
    );

    #[test]
    fn golden_envelope_unwraps() {
        let bytes = hex::decode(GOLDEN).unwrap();
        let envelope = Envelope::decode(&bytes).unwrap();
        assert_eq!(envelope.unwrap_dek(&kek()).unwrap().as_dek().expose(), &[2; 32]);
        assert_eq!(*envelope.context(), KeyContext::dek(RING, 7));
        assert_eq!(envelope.encode(), bytes);
    }

    #[test]
    fn golden_provider_envelope_decodes() {
        let envelope = Service::good().envelope().unwrap();
        let bytes = envelope.encode();
        let front =
            concat!("5356454e", "01020100", "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a", "00000000", "076177732d6b6d73", "1e00");
        assert_eq!(hex::encode(&bytes[..front.len() / 2]), front);
        let back = Envelope::decode(&bytes).unwrap();
        assert_eq!(
            (back.provider(), back.key_reference(), back.wrapped()),
            ("aws-kms", "arn:aws:kms:eu-west-1:1:key/ä", &[9; 184][..])
        );
        assert_eq!(back.encode(), bytes);
    }

    #[test]
    fn the_longest_envelope_fits() {
        let longest = Service {
            name: "abcdefghijklmnopqrstuvwxyz-01234",
            key_reference: "k".repeat(2_048),
            wrapped: vec![1; 4_096],
        };
        let bytes = longest.envelope().unwrap().encode();
        assert_eq!(bytes.len(), ENVELOPE_LEN_MAX);
        assert!(Envelope::decode(&bytes).is_ok());
    }

    #[test]
    fn what_no_envelope_can_hold_is_refused_when_made() {
        for (why, bad) in [
            ("name too long", Service { name: "abcdefghijklmnopqrstuvwxyz-012345", ..Service::good() }),
            ("no name", Service { name: "", ..Service::good() }),
            ("the ring's own name", Service { name: "ring", ..Service::good() }),
            ("upper case", Service { name: "AWS", ..Service::good() }),
            ("space", Service { name: "aws kms", ..Service::good() }),
            ("reference too long", Service { key_reference: "k".repeat(2_049), ..Service::good() }),
            ("control character", Service { key_reference: "a\nb".into(), ..Service::good() }),
            ("nothing wrapped", Service { wrapped: vec![], ..Service::good() }),
            ("too much wrapped", Service { wrapped: vec![0; 4_097], ..Service::good() }),
        ] {
            assert!(matches!(bad.envelope(), Err(Error::Provider(_))), "{why}");
        }
    }

    #[test]
    fn bad_bytes_are_refused() {
        let good = dek_envelope().encode();
        let set = |at: usize, with: &[u8]| {
            let mut bad = good.clone();
            bad[at..at + with.len()].copy_from_slice(with);
            bad
        };
        assert!(Envelope::decode(&good).is_ok());
        for (why, bad) in [
            ("magic", set(0, b"SVEM")),
            ("algorithm 0", set(5, &[0])),
            ("algorithm 3", set(5, &[3])),
            ("a DEK wrapped by a provider", set(5, &[2])),
            ("purpose 0", set(6, &[0])),
            ("purpose 4", set(6, &[4])),
            ("a KEK wrapped by its ring", set(6, &[1])),
            ("an id key with a version", set(6, &[3])),
            ("reserved byte", set(7, &[1])),
            ("DEK version 0", set(24, &[0, 0, 0, 0])),
            ("no provider", set(28, &[0])),
            ("provider past the end", set(28, &[255])),
            ("another provider", set(29, b"rinh")),
            ("provider not ASCII", set(29, &[0xff])),
            ("provider upper case", set(29, b"R")),
            ("reference past the end", set(33, &[0xff, 0xff])),
            ("a key reference", set(33, &[1, 0])),
            ("wrapped key shorter", set(35, &[59, 0])),
            ("wrapped key longer", set(35, &[61, 0])),
            ("wrapped key past the end", set(35, &[0xff, 0xff])),
            ("a byte too many", [&good[..], &[0]].concat()),
        ] {
            assert!(matches!(Envelope::decode(&bad), Err(Error::Malformed { .. })), "{why}");
        }
        for version in [0, 2, 255] {
            assert!(matches!(Envelope::decode(&set(4, &[version])), Err(Error::Version { known: 1, .. })));
        }
        for len in 0..good.len() {
            assert!(Envelope::decode(&good[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn damage_inside_unwraps_nothing() {
        let good = dek_envelope().encode();
        for at in 37..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            let envelope = Envelope::decode(&bad).unwrap();
            assert!(matches!(envelope.unwrap_dek(&kek()), Err(Error::WrongKey)), "byte {at}");
        }
    }

    #[test]
    fn only_its_own_provider_is_asked() {
        let envelope = Service::good().envelope().unwrap();
        let Err(Error::Provider(text)) = envelope.unwrap_kek(&Service { name: "local", ..Service::good() }) else {
            panic!()
        };
        assert!(text.contains("aws-kms") && text.contains("local"), "{text}");
        // The right name with the wrong key: the KEK that comes back is not the one committed to.
        assert!(matches!(envelope.unwrap_kek(&Service::good()), Err(Error::WrongKey)));
    }

    #[test]
    fn wrapping_twice_gives_other_bytes() {
        assert_ne!(dek_envelope().wrapped(), dek_envelope().wrapped());
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_fail(tail in prop::collection::vec(any::<u8>(), 0..200), kind in 0u8..4, purpose in 0u8..5) {
            let bytes = [&b"SVEN\x01"[..], &[kind, purpose, 0], &tail].concat();
            if let Ok(envelope) = Envelope::decode(&bytes) {
                prop_assert_eq!(envelope.encode(), bytes);
            }
        }

        #[test]
        fn any_damage_decodes_or_fails(at in 0usize..129, byte in any::<u8>()) {
            let mut bytes = dek_envelope().encode();
            bytes[at] = byte;
            if let Ok(envelope) = Envelope::decode(&bytes) {
                prop_assert_eq!(envelope.encode(), bytes);
            }
        }
    }
}
