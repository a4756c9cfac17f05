//! xoshiro256++ (Blackman and Vigna, 2019): reproducible numbers for rotations, samples and seeds. Never for keys.
//!
//! The stored format depends on it (rotation signs), so its definition is fixed:
//! state word `i` = little-endian word `i` of the seed XOR `MIX[i]` (all zero becomes `MIX`), then 16 outputs are dropped.

const MIX: [u64; 4] = [0x9E37_79B9_7F4A_7C15, 0xBF58_476D_1CE4_E5B9, 0x94D0_49BB_1331_11EB, 0x2545_F491_4F6C_DD1D];

/// A reproducible stream of numbers.
#[derive(Clone, Debug)]
pub struct Random {
    state: [u64; 4],
}

impl Random {
    /// The stream of this 32-byte seed.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let mut state = MIX;
        for (word, bytes) in state.iter_mut().zip(seed.chunks_exact(8)) {
            *word ^= u64::from_le_bytes(bytes.try_into().expect("chunks of eight bytes"));
        }
        if state == [0; 4] {
            state = MIX;
        }
        let mut random = Self { state };
        for _ in 0..16 {
            random.next();
        }
        random
    }

    /// The stream of a short label: at most 32 bytes count.
    pub fn new(label: &[u8]) -> Self {
        let mut seed = [0u8; 32];
        let len = label.len().min(32);
        seed[..len].copy_from_slice(&label[..len]);
        Self::from_seed(seed)
    }

    /// The stream of a number.
    pub fn from_number(seed: u64) -> Self {
        Self::new(&seed.to_le_bytes())
    }

    /// The next 64 bits.
    #[allow(clippy::should_implement_trait)] // an endless stream is no iterator
    pub fn next(&mut self) -> u64 {
        let s = &mut self.state;
        let out = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        out
    }

    /// A number below `n`, which is not zero. The bias is below `n / 2^64`.
    pub fn below(&mut self, n: usize) -> usize {
        assert!(n > 0);
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Standard normal (Box-Muller).
    pub fn normal(&mut self) -> f32 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        (radius * (std::f64::consts::TAU * self.uniform()).cos()) as f32
    }

    /// `count` different numbers below `n`, in random order; all of them if `count >= n`.
    pub fn sample(&mut self, n: usize, count: usize) -> Vec<usize> {
        let count = count.min(n);
        // Fisher-Yates over a sparse permutation: memory follows the sample, not the population.
        let mut moved = std::collections::HashMap::new();
        let mut out = Vec::with_capacity(count);
        for i in 0..count {
            let j = i + self.below(n - i);
            let at_j = *moved.get(&j).unwrap_or(&j);
            let at_i = *moved.get(&i).unwrap_or(&i);
            moved.insert(j, at_i);
            out.push(at_j);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_the_published_one() {
        // First outputs of xoshiro256++ from state 1, 2, 3, 4 (reference implementation, also in rand_xoshiro).
        let mut random = Random { state: [1, 2, 3, 4] };
        let got: Vec<u64> = (0..4).map(|_| random.next()).collect();
        assert_eq!(got, [41_943_041, 58_720_359, 3_588_806_011_781_223, 3_591_011_842_654_386]);
    }

    #[test]
    fn samples_have_no_duplicates() {
        let mut random = Random::new(b"sample");
        for (n, count) in [(1, 1), (10, 10), (10, 20), (1000, 300)] {
            let mut sample = random.sample(n, count);
            sample.sort_unstable();
            sample.dedup();
            assert_eq!(sample.len(), count.min(n));
            assert!(sample.iter().all(|&i| i < n));
        }
    }

    #[test]
    fn normals_are_normal() {
        let mut random = Random::new(b"normal");
        let x: Vec<f64> = (0..20_000).map(|_| f64::from(random.normal())).collect();
        let mean = x.iter().sum::<f64>() / 2e4;
        let variance = x.iter().map(|x| x * x).sum::<f64>() / 2e4;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
    }

    #[test]
    fn an_all_zero_state_is_never_used() {
        let mut seed = [0u8; 32];
        for (bytes, word) in seed.chunks_exact_mut(8).zip(MIX) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        assert_ne!(Random::from_seed(seed).next(), 0);
    }
}
