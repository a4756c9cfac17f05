//! Random numbers from a seed (splitmix64), so that a failure can be run again.

/// A generator; its seed is printed when a test that holds it panics.
pub struct Random {
    seed: u64,
    state: u64,
}

impl Random {
    /// Starts from `SEALVEC_E2E_SEED`, if set, else from `seed`.
    pub fn new(seed: u64) -> Self {
        let seed = std::env::var("SEALVEC_E2E_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(seed);
        Self { seed, state: seed }
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, nearly even.
    pub fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    /// The numbers 0 to `end - 1` in random order.
    pub fn order(&mut self, end: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..end).collect();
        for i in (1..end).rev() {
            order.swap(i, self.below(i + 1));
        }
        order
    }
}

impl Drop for Random {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("SEALVEC_E2E_SEED={}", self.seed);
        }
    }
}
