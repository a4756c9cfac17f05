//! Centroids as the directory keeps them: float16 relative to one power of two, compared as they are.
//!
//! Half the memory of float32, and half of what a query reads. The power of two keeps large and tiny data from
//! overflowing or vanishing; queries are divided by it, which is exact.

use zeroize::Zeroizing;

use super::distance::{dot_f16le, dot_many_f16le, f16le_to_f32, l2_squared_f16le, l2_squared_many_f16le};
use crate::metric::Metric;

/// Centroids of `dims` elements, rounded.
#[derive(Clone)]
pub struct Centroids {
    dims: usize,
    scale: f32,
    /// Elements over `scale`, float16 little-endian.
    halves: Zeroizing<Vec<u8>>,
}

impl Centroids {
    /// Rounds `values`, centroids of `dims` elements end to end. Rounding again changes nothing.
    pub fn new(dims: usize, values: &[f32]) -> Self {
        assert!(dims > 0 && values.len().is_multiple_of(dims));
        let largest = values.iter().fold(0f32, |largest, value| largest.max(value.abs()));
        // The largest element lands in [1024, 2048): ten bits below it still have full precision.
        let exponent = if largest > 0.0 { (largest.log2().floor() as i32 - 10).clamp(-120, 117) } else { 0 };
        let scale = (exponent as f32).exp2();
        let mut halves = Zeroizing::new(Vec::with_capacity(values.len() * 2));
        values.iter().for_each(|value| halves.extend_from_slice(&half::f16::from_f32(value / scale).to_le_bytes()));
        Self { dims, scale, halves }
    }

    /// Takes what [`Centroids::scale`] and [`Centroids::halves`] gave; whole centroids only.
    pub fn from_halves(dims: usize, scale: f32, halves: &[u8]) -> Self {
        assert!(dims > 0 && halves.len().is_multiple_of(dims * 2));
        Self { dims, scale, halves: Zeroizing::new(halves.to_vec()) }
    }

    /// The power of two that elements are kept relative to.
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// The elements over the scale, float16 little-endian.
    pub fn halves(&self) -> &[u8] {
        &self.halves
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.halves.len() / (self.dims * 2)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.halves.is_empty()
    }

    fn stored(&self, index: usize) -> &[u8] {
        &self.halves[index * self.dims * 2..][..self.dims * 2]
    }

    /// Decodes centroid `index`.
    pub fn decode(&self, index: usize, out: &mut [f32]) {
        f16le_to_f32(self.stored(index), out);
        out.iter_mut().for_each(|value| *value *= self.scale);
    }

    /// Centroid `index`.
    pub fn get(&self, index: usize) -> Zeroizing<Vec<f32>> {
        let mut out = Zeroizing::new(vec![0.0; self.dims]);
        self.decode(index, &mut out);
        out
    }

    /// All of them, end to end.
    pub fn to_floats(&self) -> Zeroizing<Vec<f32>> {
        let mut out = Zeroizing::new(vec![0.0; self.len() * self.dims]);
        f16le_to_f32(&self.halves, &mut out);
        out.iter_mut().for_each(|value| *value *= self.scale);
        out
    }

    /// `query` as [`Centroids::score`] wants it.
    pub fn scaled(&self, query: &[f32]) -> Zeroizing<Vec<f32>> {
        Zeroizing::new(query.iter().map(|value| value / self.scale).collect())
    }

    /// Score of a scaled query against centroid `index`: squared distance, or negative inner product.
    pub fn score(&self, metric: Metric, scaled: &[f32], index: usize) -> f32 {
        self.unscaled(match metric {
            Metric::L2 | Metric::Cosine => l2_squared_f16le(scaled, self.stored(index)),
            Metric::InnerProduct => -dot_f16le(scaled, self.stored(index)),
        })
    }

    /// Scores of a scaled query against all of them.
    pub fn score_all(&self, metric: Metric, scaled: &[f32], out: &mut Vec<f32>) {
        out.clear();
        out.resize(self.len(), 0.0);
        match metric {
            Metric::L2 | Metric::Cosine => {
                l2_squared_many_f16le(scaled, &self.halves, out);
                out.iter_mut().for_each(|score| *score = self.unscaled(*score));
            }
            Metric::InnerProduct => {
                dot_many_f16le(scaled, &self.halves, out);
                out.iter_mut().for_each(|score| *score = self.unscaled(-*score));
            }
        }
    }

    /// A product of two scaled things. One after the other: their square may be no float32.
    fn unscaled(&self, product: f32) -> f32 {
        product * self.scale * self.scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::{distance, random::Random};

    #[test]
    fn rounding_is_stable_and_scale_free() {
        for scale in [1e-30f32, 1e-3, 1.0, 1e30] {
            let exact: Vec<f32> = (0..64).map(|i| (i as f32 - 31.5) * 0.37 * scale).collect();
            let rounded = Centroids::new(8, &exact).to_floats();
            for (rounded, exact) in rounded.iter().zip(&exact) {
                assert!((rounded - exact).abs() <= 1e-3 * 12.0 * scale, "{rounded} for {exact}");
            }
            assert_eq!(Centroids::new(8, &rounded).to_floats(), rounded);
        }
    }

    #[test]
    fn scores_are_those_of_the_decoded_centroids() {
        let mut random = Random::new(b"centroids");
        for (dims, count, size) in [(1, 1, 1.0), (37, 9, 1e-12), (384, 50, 1.0), (384, 5, 1e15)] {
            let mut draw = |n: usize| (0..n).map(|_| random.normal() * size).collect::<Vec<f32>>();
            let centroids = Centroids::new(dims, &draw(dims * count));
            let query = draw(dims);
            let scaled = centroids.scaled(&query);
            for metric in [Metric::L2, Metric::Cosine, Metric::InnerProduct] {
                let mut all = Vec::new();
                centroids.score_all(metric, &scaled, &mut all);
                assert_eq!(all.len(), count);
                for (index, score) in all.into_iter().enumerate() {
                    let centroid = centroids.get(index);
                    let want = match metric {
                        Metric::InnerProduct => -distance::dot(&query, &centroid),
                        _ => distance::l2_squared(&query, &centroid),
                    };
                    let tolerance = 1e-5 * (1.0 + dims as f32) * size * size;
                    assert!((score - want).abs() <= tolerance, "{dims} {index}: {score} is not {want}");
                    assert!((centroids.score(metric, &scaled, index) - want).abs() <= tolerance);
                }
            }
        }
    }
}
