//! Key bytes: DEKs, KEKs and the id key, owned and wiped, or lent from the caller's arena.

use std::fmt;

use super::Uuid;
use crate::crypto::kdf::{Deriver, Label};
use crate::crypto::{KEY_LEN, KeyPlace, XaesKey, nonce};
use crate::{Error, Result};

/// 32 key bytes that stay where they are, so that moving the owner leaves no copy behind. Wiped on drop.
struct KeyBytes(KeyPlace);

impl KeyBytes {
    fn zeroed() -> Self {
        Self(KeyPlace::zeroed())
    }

    fn generate() -> Result<Self> {
        let mut key = Self::zeroed();
        nonce::fill(&mut key.0[..])?;
        Ok(key)
    }

    fn from_slice(bytes: &[u8]) -> Result<Self> {
        if bytes.len() != KEY_LEN {
            return Err(Error::KeyLength(bytes.len()));
        }
        let mut key = Self::zeroed();
        key.0.copy_from_slice(bytes);
        Ok(key)
    }
}

/// A DEK that lives in the caller's memory (in Postgres: the locked arena). Views are free to copy; they own nothing.
#[derive(Clone, Copy)]
pub struct Dek<'a> {
    version: u32,
    key: &'a [u8; KEY_LEN],
}

impl<'a> Dek<'a> {
    /// The DEK of `version`, lent from `key`.
    pub fn new(version: u32, key: &'a [u8; KEY_LEN]) -> Self {
        Self { version, key }
    }

    /// 1 for a ring's first DEK.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The raw key, for the arena that keeps it. Everything else derives.
    pub fn expose(&self) -> &'a [u8; KEY_LEN] {
        self.key
    }

    /// The key of the items of the collection whose ring is `ring`.
    pub fn item_key(&self, ring: &Uuid) -> XaesKey {
        XaesKey::new(&Deriver::new(self.key).subkey(Label::Item, ring))
    }

    /// The key of column values of `ring`.
    pub fn value_key(&self, ring: &Uuid) -> XaesKey {
        XaesKey::new(&Deriver::new(self.key).subkey(Label::ColumnValue, ring))
    }
}

impl fmt::Debug for Dek<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dek(version {}, [redacted])", self.version)
    }
}

/// A DEK that owns its bytes. Not Clone; wiped on drop.
pub struct DekBytes {
    version: u32,
    key: KeyBytes,
}

impl DekBytes {
    /// A fresh random DEK.
    pub fn generate(version: u32) -> Result<Self> {
        Ok(Self { version, key: KeyBytes::generate()? })
    }

    /// Copies `key` in; [`Error::KeyLength`] unless it has 32 bytes.
    pub fn from_slice(version: u32, key: &[u8]) -> Result<Self> {
        Ok(Self { version, key: KeyBytes::from_slice(key)? })
    }

    /// Lends it.
    pub fn as_dek(&self) -> Dek<'_> {
        Dek::new(self.version, &self.key.0)
    }
}

impl fmt::Debug for DekBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_dek().fmt(f)
    }
}

/// A KEK. Not Clone; wiped on drop. It must be random: its commitment is public.
pub struct Kek(KeyBytes);

impl Kek {
    /// A fresh random KEK.
    pub fn generate() -> Result<Self> {
        Ok(Self(KeyBytes::generate()?))
    }

    /// Copies `key` in; [`Error::KeyLength`] unless it has 32 bytes.
    pub fn from_slice(key: &[u8]) -> Result<Self> {
        Ok(Self(KeyBytes::from_slice(key)?))
    }

    /// The raw key, for the provider that wraps it. Everything else derives.
    pub fn expose(&self) -> &[u8; KEY_LEN] {
        &self.0.0
    }
}

impl fmt::Debug for Kek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kek([redacted])")
    }
}

/// A ring's id key, under which collections turn ids into tokens. Never changes with the DEK. Wiped on drop.
pub struct IdKey(KeyBytes);

impl IdKey {
    pub(super) fn generate() -> Result<Self> {
        Ok(Self(KeyBytes::generate()?))
    }

    /// Copies `key` in; [`Error::KeyLength`] unless it has 32 bytes.
    pub fn from_slice(key: &[u8]) -> Result<Self> {
        Ok(Self(KeyBytes::from_slice(key)?))
    }

    /// The raw key, for HMAC and for the arena.
    pub fn expose(&self) -> &[u8; KEY_LEN] {
        &self.0.0
    }
}

impl fmt::Debug for IdKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdKey([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_key() {
        let shown = [
            format!("{:?}", DekBytes::from_slice(3, &[0x41; 32]).unwrap()),
            format!("{:?}", Dek::new(3, &[0x41; 32])),
            format!("{:?}", Kek::from_slice(&[0x41; 32]).unwrap()),
            format!("{:?}", IdKey::from_slice(&[0x41; 32]).unwrap()),
        ];
        for text in shown {
            assert!(
                text.contains("[redacted]") && !text.contains("65") && !text.contains("41") && !text.contains("AA"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_key_has_32_bytes() {
        for len in [0, 16, 31, 33, 64] {
            assert!(matches!(Kek::from_slice(&vec![1; len]), Err(Error::KeyLength(found)) if found == len));
            assert!(matches!(DekBytes::from_slice(1, &vec![1; len]), Err(Error::KeyLength(found)) if found == len));
        }
    }
}
