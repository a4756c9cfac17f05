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
        if envelope.is_valid() {
            Ok(envelope)
        } else {
            Err(Error::Provider("a key provider gave a name, key reference or wrapped key that no envelope can hold".into()))
        }
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
        let mut out = Vec::with_capacity(33 + self.provider.len() + self.key_reference.len() + self.wrapped.len() + COMMITMENT_LEN);
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

    pub(super) fn text(&mut self, len: usize) -> Result<String> {
        let field = self.take(len)?;
        Ok(std::str::from_utf8(field).map_err(|_| Error::Malformed { what: self.what })?.to_owned())
    }
}
