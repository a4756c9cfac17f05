//! A random rotation in O(d log d): sign flips, Walsh-Hadamard windows and butterflies.
//!
//! Definition (stored codes depend on it). P = dims rounded up to a multiple of 64, T = the largest power of two
//! not above P. x is padded with zeros to P. Four rounds r = 0..4 (three when T = P), each:
//! 1. x\[i\] changes sign if bit i % 64 (lowest first) of word r * P/64 + i/64 of the [`Random`] stream is set;
//! 2. x\[w..w+T\] becomes its orthonormal Walsh-Hadamard transform, w = 0 for even r and P - T for odd r;
//! 3. if T < P, for each i < P/2: (x\[i\], x\[i+P/2\]) becomes their sum and difference over the root of two.
//!
//! The rotation is no secret and no encryption: it spreads each vector evenly over its codes.

use zeroize::Zeroizing;

use super::kernels::table;
use super::random::Random;

/// The rotation of one index.
#[derive(Clone, Debug)]
pub struct Rotation {
    dims: usize,
    padded: usize,
    window: usize,
    /// The sign bit of each element, by round.
    flips: Zeroizing<Vec<u32>>,
}

impl Rotation {
    /// The rotation of `dims` (at least 1) dimensions that this seed gives.
    pub fn new(dims: usize, seed: [u8; 32]) -> Self {
        assert!(dims > 0);
        let padded = padded(dims);
        let window = 1 << padded.ilog2();
        let rounds = if window == padded { 3 } else { 4 };
        let mut random = Random::from_seed(seed);
        let mut flips = Zeroizing::new(Vec::with_capacity(rounds * padded));
        for _ in 0..rounds * padded / 64 {
            let word = random.next();
            flips.extend((0..64).map(|bit| ((word >> bit & 1) as u32) << 31));
        }
        Self { dims, padded, window, flips }
    }

    /// Dimensions in.
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// Dimensions out: a multiple of 64.
    pub fn padded(&self) -> usize {
        self.padded
    }

    /// Rotates `x` (`dims` long) into `out` (`padded` long). Norms and inner products stay, up to rounding.
    pub fn apply(&self, x: &[f32], out: &mut [f32]) {
        assert_eq!(x.len(), self.dims);
        assert_eq!(out.len(), self.padded);
        out[..self.dims].copy_from_slice(x);
        out[self.dims..].fill(0.0);
        let kernels = table();
        // Scaled in every round, so that sums grow by at most sqrt(T) before they shrink again.
        let scale = (self.window as f32).sqrt().recip();
        for (round, flips) in self.flips.chunks_exact(self.padded).enumerate() {
            kernels.flip(out, flips);
            let start = if round % 2 == 0 { 0 } else { self.padded - self.window };
            kernels.hadamard(&mut out[start..start + self.window], scale);
            if self.window < self.padded {
                kernels.halves(out);
            }
        }
    }
}

/// `dims` rounded up to a multiple of 64.
pub(super) fn padded(dims: usize) -> usize {
    dims.next_multiple_of(64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::distance::{dot, norm};
    use crate::math::kernels::all;

    const DIMS: [usize; 14] = [1, 2, 3, 7, 63, 64, 65, 127, 384, 960, 1536, 1984, 3072, 16000];

    #[test]
    fn lengths_and_angles_stay() {
        let mut random = Random::new(b"angles");
        for dims in DIMS {
            let rotation = Rotation::new(dims, [7; 32]);
            let a: Vec<f32> = (0..dims).map(|_| random.normal()).collect();
            let b: Vec<f32> = (0..dims).map(|_| random.normal()).collect();
            let (mut ra, mut rb) = (vec![0f32; rotation.padded()], vec![0f32; rotation.padded()]);
            rotation.apply(&a, &mut ra);
            rotation.apply(&b, &mut rb);
            let size = norm(&a) * norm(&b);
            assert!((norm(&ra) - norm(&a)).abs() < 1e-5 * norm(&a), "{dims}");
            assert!((dot(&ra, &rb) - dot(&a, &b)).abs() < 1e-5 * size, "{dims}");
        }
    }

    #[test]
    fn one_element_reaches_all() {
        for dims in DIMS {
            let rotation = Rotation::new(dims, [9; 32]);
            for at in [0, dims / 2, dims - 1] {
                let mut x = vec![0f32; dims];
                x[at] = 1.0;
                let mut out = vec![0f32; rotation.padded()];
                rotation.apply(&x, &mut out);
                let largest = out.iter().fold(0f32, |m, x| m.max(x.abs()));
                let l1: f32 = out.iter().map(|x| x.abs()).sum();
                let p = rotation.padded() as f32;
                // A Gaussian direction has sum |x| = sqrt(2 P / pi); a spike has 1.
                assert!(l1 > 0.7 * (2.0 * p / std::f32::consts::PI).sqrt(), "{dims} {at}: {l1}");
                assert!(largest < 6.5 / p.sqrt(), "{dims} {at}: {largest}");
            }
        }
    }

    /// From an independent implementation of the definition above, in f64 with a dense Walsh-Hadamard matrix.
    #[test]
    fn the_rotation_is_golden() {
        let seed: [u8; 32] = std::array::from_fn(|i| i as u8);
        for (dims, first, last) in [
            (3, [0.023438, 0.695312, 0.117188, -0.335938], [0.164062, -0.039062]),
            (100, [0.15468, -0.972272, -0.022097, 0.662913], [-1.789864, -std::f32::consts::SQRT_2]),
            (150, [1.248975, 3.473122, -0.548698, 0.681361], [-0.507782, -0.679614]),
        ] {
            let rotation = Rotation::new(dims, seed);
            let x: Vec<f32> = (0..dims).map(|i| (i % 7) as f32 - 2.5).collect();
            let mut out = vec![0f32; rotation.padded()];
            rotation.apply(&x, &mut out);
            let got = out[..4].iter().chain(&out[out.len() - 2..]);
            for (got, want) in got.zip(first.iter().chain(&last)) {
                assert!((got - want).abs() < 2e-6, "{dims}: {got} is not {want}");
            }
        }
    }

    #[test]
    fn every_kernel_set_transforms_alike() {
        let mut random = Random::new(b"hadamard");
        for len in [64, 128, 256, 512, 1024, 8192] {
            let x: Vec<f32> = (0..len).map(|_| random.normal()).collect();
            let mut want = x.clone();
            all()[0].hadamard(&mut want, 0.5);
            for set in all() {
                let mut got = x.clone();
                set.hadamard(&mut got, 0.5);
                for (got, want) in got.iter().zip(&want) {
                    assert!((got - want).abs() < 1e-3, "{} {len}: {got} is not {want}", set.name);
                }
            }
        }
    }
}
