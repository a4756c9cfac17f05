//! The one place where nonces, keys and UUIDs get their bytes.
//!
//! # Why no nonce repeats
//!
//! Every nonce is drawn from the kernel at the moment it is used, and nothing of it is kept.
//!
//! - **fork**: there is no state in user space that a child could inherit (`rand`'s thread RNG gave two
//!   forked children the same nonces).
//! - **crash, replay, PITR, clone, promote**: there is no counter that a restored copy would continue, and
//!   replay never seals: WAL holds what was sealed before the buffer was touched.
//! - **VM snapshot**: the kernel reseeds on resume (vmgenid); a user-space generator would not.
//! - **Number of seals**: AES-256-GCM with random 96-bit nonces is good for 2^32 messages a key at a
//!   collision risk of 2^-33 (SP 800-38D, 8.3). One key per list, per directory and per 65,536 slots keeps
//!   10^9 rows below 2^-47. Column values share one key per ring and DEK version and may pass 2^32, hence
//!   XAES-256-GCM: 192 random bits, 2^80 messages at 2^-32.
//!
//! A call costs about 0.3 µs, which sealing a page or a record does not feel.

use crate::{Error, Result};

/// 96 random bits for AES-256-GCM.
pub(crate) fn nonce12() -> Result<[u8; 12]> {
    random()
}

/// 192 random bits for XAES-256-GCM.
pub(crate) fn nonce24() -> Result<[u8; 24]> {
    random()
}

/// `N` bytes from the kernel. Fails only where the kernel has no generator to offer.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    fill(&mut bytes)?;
    Ok(bytes)
}

/// Fills `out`, such as a key that must not pass through the stack, from the kernel.
pub(crate) fn fill(out: &mut [u8]) -> Result<()> {
    getrandom::fill(out).map_err(|_| Error::Bug("the kernel's random generator failed"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn nonces_do_not_repeat() {
        let mut seen = HashSet::new();
        for _ in 0..20_000 {
            assert!(seen.insert(nonce12().unwrap()));
        }
    }

    #[test]
    fn threads_draw_different_nonces() {
        let draws: Vec<_> = (0..8)
            .map(|_| std::thread::spawn(|| (0..500).map(|_| nonce24().unwrap()).collect::<Vec<_>>()))
            .flat_map(|thread| thread.join().unwrap())
            .collect();
        assert_eq!(draws.iter().collect::<HashSet<_>>().len(), 4_000);
    }
}
