//! Wiping memory a word at a time: byte by byte, as `zeroize` does it, takes as long as the decryption did.

use std::ops::{Deref, DerefMut};

use zeroize::Zeroize;

/// Overwrites `bytes` with zeros that the compiler may not leave out.
pub fn wipe(bytes: &mut [u8]) {
    let (head, words, tail) = bytemuck::pod_align_to_mut::<u8, u64>(bytes);
    head.zeroize();
    words.zeroize();
    tail.zeroize();
}

/// Bytes that were opened, or are to be sealed: never moved to more room, and wiped when dropped.
#[derive(Default)]
pub struct Plain(Vec<u8>);

impl Plain {
    /// No bytes yet, and room for `bytes`.
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// As [`with_capacity`](Self::with_capacity); nothing where there is no memory.
    pub fn try_with_capacity(bytes: usize) -> Option<Self> {
        let mut plain = Vec::new();
        plain.try_reserve_exact(bytes).ok()?;
        Some(Self(plain))
    }

    /// `bytes` zeros, to open into.
    pub fn zeroed(bytes: usize) -> Self {
        Self(vec![0; bytes])
    }

    /// Appends what there must be room for.
    pub fn push(&mut self, bytes: &[u8]) {
        assert!(self.0.capacity() - self.0.len() >= bytes.len(), "a copy would be left behind");
        self.0.extend_from_slice(bytes);
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.0.resize(self.0.capacity(), 0);
        wipe(&mut self.0);
    }
}

impl Deref for Plain {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Plain {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_wiped_wherever_it_begins() {
        for (start, end) in [(0, 0), (0, 1), (1, 8), (3, 64), (5, 61), (0, 1000)] {
            let mut bytes = vec![7u8; 1000];
            wipe(&mut bytes[start..end]);
            assert!(bytes[start..end].iter().all(|byte| *byte == 0), "{start}..{end}");
            assert!(bytes[..start].iter().chain(&bytes[end..]).all(|byte| *byte == 7), "{start}..{end}");
        }
    }
}
