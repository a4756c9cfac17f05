//! The seam to key services: who keeps a ring's KEK.
//!
//! A provider wraps and unwraps KEKs; it never sees a DEK. Implementations live in `sealvec-kms`.

use super::{Kek, Uuid};
use crate::Result;

/// What a wrapped key is for. The numbers are on disk and in AAD.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Purpose {
    /// A ring's KEK, wrapped by a provider.
    Kek = 1,
    /// A DEK, wrapped by the ring's KEK.
    Dek = 2,
    /// The ring's id key, wrapped by the ring's KEK.
    IdKey = 3,
}

impl Purpose {
    /// The purpose whose on-disk number is `byte`.
    pub fn from_byte(byte: u8) -> Option<Self> {
        [Purpose::Kek, Purpose::Dek, Purpose::IdKey].into_iter().find(|purpose| *purpose as u8 == byte)
    }

    /// For a KMS's encryption context and its audit log.
    pub fn name(self) -> &'static str {
        match self {
            Purpose::Kek => "kek",
            Purpose::Dek => "dek",
            Purpose::IdKey => "id-key",
        }
    }
}

/// What a wrapped key is bound to; a KMS calls it the encryption context. UUIDs and numbers only, never an OID or a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyContext {
    /// UUID of the ring.
    pub ring: Uuid,
    /// Version of the DEK; 0 for a KEK or id key.
    pub dek_version: u32,
    /// What the key is for.
    pub purpose: Purpose,
}

impl KeyContext {
    /// For the KEK of `ring`.
    pub fn kek(ring: Uuid) -> Self {
        Self { ring, dek_version: 0, purpose: Purpose::Kek }
    }

    /// For the DEK of `ring` of `version`.
    pub fn dek(ring: Uuid, version: u32) -> Self {
        Self { ring, dek_version: version, purpose: Purpose::Dek }
    }

    /// For the id key of `ring`.
    pub fn id_key(ring: Uuid) -> Self {
        Self { ring, dek_version: 0, purpose: Purpose::IdKey }
    }

    /// As a KMS takes it: names and values in a fixed order.
    pub fn pairs(&self) -> [(&'static str, String); 3] {
        [
            ("sealvec:ring", self.ring.to_string()),
            ("sealvec:dek-version", self.dek_version.to_string()),
            ("sealvec:purpose", self.purpose.name().to_owned()),
        ]
    }
}

/// Keeps KEKs. Every call may wait on a network and must fail closed.
///
/// # Errors
/// [`Error::Provider`](crate::Error::Provider) if the service failed or refused; its text names the provider
/// and holds no secret. [`Error::WrongKey`](crate::Error::WrongKey) if `wrapped` is not for this key and context.
pub trait KekProvider {
    /// Name as it stands in envelopes: lower-case letters, digits and hyphens, at most 32 bytes.
    fn name(&self) -> &str;

    /// Which of its keys wraps new KEKs: an ARN, a path, an id. At most 2,048 bytes, no secret.
    fn key_reference(&self) -> &str;

    /// Wraps `kek`, bound to `context`; at most 4,096 bytes.
    fn wrap(&self, context: &KeyContext, kek: &Kek) -> Result<Vec<u8>>;

    /// Unwraps what [`wrap`](Self::wrap) gave for the same context under the key that `key_reference` names.
    fn unwrap(&self, context: &KeyContext, key_reference: &str, wrapped: &[u8]) -> Result<Kek>;

    /// A fresh KEK and its wrapped form. A KMS with a call of its own for this overrides it.
    fn generate(&self, context: &KeyContext) -> Result<(Kek, Vec<u8>)> {
        let kek = Kek::generate()?;
        let wrapped = self.wrap(context, &kek)?;
        Ok((kek, wrapped))
    }
}
