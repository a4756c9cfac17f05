//! XAES-256-GCM (C2SP, https://c2sp.org/XAES-256-GCM): AES-256-GCM with a 192-bit random nonce.
//!
//! `Kx = CMAC(K, 00 01 58 00 ‖ N[..12]) ‖ CMAC(K, 00 02 58 00 ‖ N[..12])`, an SP 800-108 KDF, then
//! AES-256-GCM under `Kx` with `N[12..]`. Safe for 2^80 random nonces a key, where GCM alone stops at
//! 2^32: column values of one ring share a key for life. It costs two AES blocks and one key schedule a
//! message. Like GCM it does not commit to its key; keys are checked before (see [`commit`](super::commit)).
//!
//! A CMAC of one whole block is `AES(K, block ⊕ K1)` with `K1 = 2 · AES(K, 0)` in GF(2^128) (RFC 4493, 2.3 and 2.4), so
//! both halves of `Kx` are two blocks that go through the cipher side by side.
//!
//! `sealed = nonce (24) ‖ ciphertext ‖ tag (16)`

use std::cell::RefCell;

use aws_lc_rs::cipher::{AES_256, StreamingEncryptingKey, UnboundCipherKey};
use zeroize::Zeroizing;

use super::aad::{Aad, Algorithm};
use super::aead::AeadKey;
use super::{KEY_LEN, TAG_LEN, nonce};
use crate::{Error, Result};

/// Bytes that sealing adds: nonce and tag.
pub const OVERHEAD24: usize = NONCE24_LEN + TAG_LEN;
const NONCE24_LEN: usize = 24;

/// Ciphertext that an [`XaesKey`] has sealed.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed24(Vec<u8>);

impl Sealed24 {
    /// Nonce, ciphertext and tag.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Bytes in all, [`OVERHEAD24`] included.
    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl std::fmt::Debug for Sealed24 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sealed24({} bytes)", self.0.len())
    }
}

/// A key of XAES-256-GCM: an AES-256 key on aws-lc's heap, which cleanses what it frees.
///
/// A streaming key and not aws-lc's bare AES: that key is a value, and each move of it leaves a schedule on the stack.
/// And not its CMAC, which copies the key, on the heap, for each of the two halves: three times what the blocks take.
pub struct XaesKey {
    /// Encrypts whole blocks each by itself, so that nothing of one is left for the next. Borrowed for one call.
    blocks: RefCell<StreamingEncryptingKey>,
    /// What CMAC adds to a last block that is whole.
    k1: Zeroizing<[u8; BLOCK_LEN]>,
}

const BLOCK_LEN: usize = 16;

impl XaesKey {
    /// Expands `key`; the caller keeps, and wipes, its own copy.
    pub fn new(key: &[u8; KEY_LEN]) -> Self {
        let key = UnboundCipherKey::new(&AES_256, key).expect("the length is in the type");
        // It would pad when it is finished, which it never is.
        let blocks = StreamingEncryptingKey::ecb_pkcs7(key).expect("AES encrypts blocks");
        let mut this = Self { blocks: RefCell::new(blocks), k1: Zeroizing::new([0; BLOCK_LEN]) };
        let mut zero = Zeroizing::new([0; BLOCK_LEN]);
        this.encrypt_blocks(&[0; BLOCK_LEN], &mut zero[..]);
        let l = Zeroizing::new(u128::from_be_bytes(*zero));
        let reduced = 0x87 & 0_u128.wrapping_sub(*l >> 127);
        this.k1.copy_from_slice(&((*l << 1) ^ reduced).to_be_bytes());
        this
    }

    /// A key that was never written anywhere: it lives and dies with its owner.
    pub fn generate() -> Result<Self> {
        let mut key = Zeroizing::new([0; KEY_LEN]);
        nonce::fill(&mut key[..])?;
        Ok(Self::new(&key))
    }

    /// Seals `plain` under a fresh random nonce, bound to `aad`.
    pub fn seal<A: Aad>(&self, aad: &A, plain: &[u8]) -> Result<Sealed24> {
        let mut out = vec![0; plain.len() + OVERHEAD24];
        self.seal_into(aad, plain, &mut out)?;
        Ok(Sealed24(out))
    }

    /// As [`seal`](Self::seal), into `out`, whose length must be `plain.len() + OVERHEAD24`.
    pub(crate) fn seal_into<A: Aad>(&self, aad: &A, plain: &[u8], out: &mut [u8]) -> Result<()> {
        const { assert!(A::ALGORITHM as u8 == Algorithm::Xaes256Gcm as u8, "this kind is sealed with AES-GCM") };
        self.seal_at(nonce::nonce24()?, aad.encode().as_ref(), plain, out)
    }

    /// Opens `sealed` into memory of its own, wiped on drop.
    pub fn open<A: Aad>(&self, aad: &A, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let len = sealed.len().checked_sub(OVERHEAD24).ok_or(Error::Open)?;
        let mut out = Zeroizing::new(vec![0; len]);
        self.open_into(aad, sealed, &mut out)?;
        Ok(out)
    }

    /// Opens `sealed` into `out`, whose length must be `sealed.len() - OVERHEAD24`.
    ///
    /// Any mismatch is [`Error::Open`] and leaves `out` all zero.
    pub fn open_into<A: Aad>(&self, aad: &A, sealed: &[u8], out: &mut [u8]) -> Result<()> {
        const { assert!(A::ALGORITHM as u8 == Algorithm::Xaes256Gcm as u8, "this kind is sealed with AES-GCM") };
        self.open_at(aad.encode().as_ref(), sealed, out)
    }

    /// The nonce must come from [`nonce`]; known-answer tests bring their own.
    pub(super) fn seal_at(&self, nonce: [u8; NONCE24_LEN], aad: &[u8], plain: &[u8], out: &mut [u8]) -> Result<()> {
        let (head, rest) = out.split_at_mut(NONCE24_LEN);
        let nonce = self.derive(&nonce).seal_at(nonce, aad, plain, rest)?;
        head.copy_from_slice(&nonce);
        Ok(())
    }

    pub(super) fn open_at(&self, aad: &[u8], sealed: &[u8], out: &mut [u8]) -> Result<()> {
        let opened = match sealed.split_first_chunk::<NONCE24_LEN>() {
            Some((nonce, rest)) => {
                let tail = nonce.last_chunk().expect("24 bytes end in 12");
                self.derive(nonce).open_at(*tail, aad, rest, out)
            }
            None => Err(Error::Open),
        };
        opened.inspect_err(|_| out.fill(0))
    }

    fn derive(&self, nonce: &[u8; NONCE24_LEN]) -> AeadKey {
        AeadKey::new(&self.derive_bytes(nonce))
    }

    /// The key derivation of the specification, in its terms of SP 800-108r1: two CMACs of one block each.
    pub(super) fn derive_bytes(&self, nonce: &[u8; NONCE24_LEN]) -> Zeroizing<[u8; KEY_LEN]> {
        let mut messages = Zeroizing::new([0; KEY_LEN]);
        for (counter, message) in (1u8..).zip(messages.chunks_exact_mut(BLOCK_LEN)) {
            message[..4].copy_from_slice(&[0, counter, b'X', 0]);
            message[4..].copy_from_slice(&nonce[..12]);
            message.iter_mut().zip(self.k1.iter()).for_each(|(byte, k1)| *byte ^= k1);
        }
        let mut key = Zeroizing::new([0; KEY_LEN]);
        self.encrypt_blocks(&messages[..], &mut key[..]);
        key
    }

    fn encrypt_blocks(&self, blocks: &[u8], out: &mut [u8]) {
        let done = self.blocks.borrow_mut().less_safe_update(blocks, out).map(|update| update.written().len());
        assert_eq!(done, Ok(blocks.len()), "whole blocks go through at once");
    }
}

impl std::fmt::Debug for XaesKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("XaesKey([redacted])")
    }
}
