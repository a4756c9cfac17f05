//! AES-256-GCM with random nonces: seal and open data under one key.
//!
//! `sealed = nonce (12) ‖ ciphertext ‖ tag (16)`
//!
//! Opening runs millions of times a second: it allocates nothing, encodes its AAD on the stack and goes
//! straight from the shared buffer into private memory.

use aws_lc_rs::aead::{AES_256_GCM, Aad as CipherAad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use super::aad::{Aad, Algorithm};
use super::{KEY_LEN, TAG_LEN, nonce};
use crate::{Error, Result};

/// Bytes that sealing adds: nonce and tag.
pub const OVERHEAD: usize = NONCE_LEN + TAG_LEN;
const NONCE_LEN: usize = 12;

/// Ciphertext that an [`AeadKey`] has sealed: the only bytes a page accepts.
///
/// The field is private and only sealing fills it, so plaintext can't reach a page, hence can't reach its WAL:
///
/// ```compile_fail,E0423
/// let plain = sealvec_core::crypto::Sealed(vec![1, 2, 3]);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(Vec<u8>);

impl Sealed {
    /// Nonce, ciphertext and tag.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Bytes in all, [`OVERHEAD`] included.
    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

/// One AES-256-GCM key schedule, on aws-lc's heap, which cleanses what it frees.
pub struct AeadKey(LessSafeKey);

impl AeadKey {
    /// Expands `key`; the caller keeps, and wipes, its own copy.
    pub fn new(key: &[u8; KEY_LEN]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, key).expect("the length is in the type");
        Self(LessSafeKey::new(key))
    }

    /// Seals `plain` under a fresh random nonce, bound to `aad`.
    ///
    /// A kind that belongs to XAES, whose keys seal more than 2^32 messages, does not compile:
    ///
    /// ```compile_fail,E0080
    /// # use sealvec_core::{crypto::{AeadKey, ValueAad}, keys::Uuid};
    /// let aad = ValueAad { ring: Uuid::from_bytes([1; 16]), dek_version: 1, dims: 1 };
    /// AeadKey::new(&[0; 32]).seal(&aad, b"a column value");
    /// ```
    pub fn seal<A: Aad>(&self, aad: &A, plain: &[u8]) -> Result<Sealed> {
        const { assert!(A::ALGORITHM as u8 == Algorithm::Aes256Gcm as u8, "this kind is sealed with XAES") };
        let mut out = vec![0; plain.len() + OVERHEAD];
        self.seal_at(nonce::nonce12()?, aad.encode().as_ref(), plain, &mut out[NONCE_LEN..])
            .map(|nonce| out[..NONCE_LEN].copy_from_slice(&nonce))?;
        Ok(Sealed(out))
    }

    /// Opens `sealed` into `out`, whose length must be `sealed.len() - OVERHEAD`.
    ///
    /// Any mismatch, of key, AAD or bytes, is [`Error::Open`] and leaves `out` all zero.
    pub fn open_into<A: Aad>(&self, aad: &A, sealed: &[u8], out: &mut [u8]) -> Result<()> {
        const { assert!(A::ALGORITHM as u8 == Algorithm::Aes256Gcm as u8, "this kind is sealed with XAES") };
        let opened = match sealed.split_first_chunk::<NONCE_LEN>() {
            Some((nonce, rest)) => self.open_at(*nonce, aad.encode().as_ref(), rest, out),
            None => Err(Error::Open),
        };
        opened.inspect_err(|_| out.fill(0))
    }

    /// Opens `sealed` into memory of its own, wiped on drop.
    pub fn open<A: Aad>(&self, aad: &A, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let len = sealed.len().checked_sub(OVERHEAD).ok_or(Error::Open)?;
        let mut out = Zeroizing::new(vec![0; len]);
        self.open_into(aad, sealed, &mut out)?;
        Ok(out)
    }

    /// Seals `plain` to `out` as ciphertext ‖ tag and gives the nonce back. The nonce must come from [`nonce`].
    pub(super) fn seal_at<const N: usize>(
        &self,
        nonce: [u8; N],
        aad: &[u8],
        plain: &[u8],
        out: &mut [u8],
    ) -> Result<[u8; N]> {
        let tail = nonce.last_chunk::<NONCE_LEN>().expect("a nonce has at least 96 bits");
        let (ciphertext, tag) = out.split_at_mut(plain.len());
        ciphertext.copy_from_slice(plain);
        match self.0.seal_in_place_separate_tag(Nonce::assume_unique_for_key(*tail), CipherAad::from(aad), ciphertext) {
            Ok(computed) => tag.copy_from_slice(computed.as_ref()),
            Err(_) => {
                zeroize::Zeroize::zeroize(ciphertext); // it may still be plaintext
                return Err(Error::Bug("sealing failed: more than 64 GiB at once?"));
            }
        }
        Ok(nonce)
    }

    /// Opens ciphertext ‖ tag. On an error `out` holds nothing that may be used.
    pub(super) fn open_at(&self, nonce: [u8; NONCE_LEN], aad: &[u8], bytes: &[u8], out: &mut [u8]) -> Result<()> {
        let (ciphertext, tag) = bytes.split_last_chunk::<TAG_LEN>().ok_or(Error::Open)?;
        if ciphertext.len() != out.len() {
            return Err(Error::Open);
        }
        self.0
            .open_separate_gather(Nonce::assume_unique_for_key(nonce), CipherAad::from(aad), ciphertext, tag, out)
            .map_err(|_| Error::Open)
    }
}

impl std::fmt::Debug for AeadKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AeadKey([redacted])")
    }
}
