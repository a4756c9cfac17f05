//! Reciprocal rank fusion: two rankings become one, by ranks alone.
//!
//! `score(row) = α / (k + rank among the vectors) + (1 − α) / (k + rank among the texts)`, ranks from 1, a row that a
//! ranking lacks getting nothing from it. Distances and BM25 scores have no common scale; ranks have.

use std::collections::HashMap;

use super::error::TextError;

/// What a request says of the fusion; `None` takes the default.
#[derive(Clone, Copy, Debug, Default)]
pub struct FusionArguments {
    /// α: 1 = vectors alone, 0 = texts alone; 0.5.
    pub alpha: Option<f64>,
    /// k: the higher, the less the first ranks stand out; 60.
    pub rrf_k: Option<f64>,
    /// How many times `top_k` rows each ranking contributes; 3.
    pub window_mult: Option<i64>,
}

/// How to fuse, checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fusion {
    alpha: f64,
    k: f64,
    window: u64,
}

impl FusionArguments {
    pub(super) fn is_empty(&self) -> bool {
        self.alpha.is_none() && self.rrf_k.is_none() && self.window_mult.is_none()
    }
}

impl Fusion {
    /// Checks the arguments.
    ///
    /// # Errors
    /// [`TextError`] for the first that is out of its range.
    pub fn parse(arguments: &FusionArguments) -> Result<Self, TextError> {
        Self::window(arguments).and_then(|fusion| fusion.blend())
    }

    /// What the original checks first; the rest waits until the index was seen to have words.
    pub(super) fn window(arguments: &FusionArguments) -> Result<Self, TextError> {
        let k = arguments.rrf_k.unwrap_or(60.0);
        if k.is_nan() || k <= 0.0 {
            return Err(TextError::RrfK);
        }
        let window = u64::try_from(arguments.window_mult.unwrap_or(3)).ok().filter(|window| *window >= 1);
        Ok(Self { alpha: arguments.alpha.unwrap_or(0.5), k, window: window.ok_or(TextError::WindowMult)? })
    }

    pub(super) fn blend(self) -> Result<Self, TextError> {
        match self {
            Self { alpha, .. } if !(0.0..=1.0).contains(&alpha) => Err(TextError::Alpha(alpha)),
            Self { k, .. } if k.is_infinite() => Err(TextError::RrfKInfinite),
            checked => Ok(checked),
        }
    }

    /// Rows that each ranking needs for `top_k` fused ones.
    pub fn depth(&self, top_k: usize) -> usize {
        usize::try_from(self.window).unwrap_or(usize::MAX).saturating_mul(top_k)
    }

    /// Whether the vectors' ranking counts.
    pub fn needs_vectors(&self) -> bool {
        self.alpha > 0.0
    }

    /// Whether the texts' ranking counts.
    pub fn needs_texts(&self) -> bool {
        self.alpha < 1.0
    }

    /// The best `top_k` rows with their scores, which are float32s as the original's. Each ranking is best first, holds
    /// a row once, and counts as far as [`depth`](Self::depth). Equal rows stay in the vectors' order, then in the texts'.
    pub fn fuse(&self, vectors: &[u64], texts: &[u64], top_k: usize) -> Vec<(u64, f64)> {
        let mut places = HashMap::new();
        let mut fused: Vec<(u64, f64)> = Vec::new();
        for (rows, weight) in [(vectors, self.alpha), (texts, 1.0 - self.alpha)] {
            if weight == 0.0 {
                continue; // its rows are not asked for
            }
            for (rank, row) in (1u32..).zip(rows.iter().take(self.depth(top_k))) {
                let place = *places.entry(*row).or_insert(fused.len());
                if place == fused.len() {
                    fused.push((*row, 0.0));
                }
                fused[place].1 += weight / (self.k + f64::from(rank));
            }
        }
        fused.iter_mut().for_each(|(_, score)| *score = as_float32(*score));
        fused.sort_by(|a, b| b.1.total_cmp(&a.1));
        fused.truncate(top_k);
        fused
    }
}

/// The nearest float32, the largest if it is beyond: JSON has no infinity.
pub(super) fn as_float32(score: f64) -> f64 {
    f64::from((score as f32).min(f32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fusion(alpha: f64, k: f64, window: i64) -> Fusion {
        Fusion::parse(&FusionArguments { alpha: Some(alpha), rrf_k: Some(k), window_mult: Some(window) }).unwrap()
    }

    fn rows(fused: &[(u64, f64)]) -> Vec<u64> {
        fused.iter().map(|(row, _)| *row).collect()
    }

    #[test]
    fn ranks_are_fused() {
        let default = Fusion::parse(&FusionArguments::default()).unwrap();
        assert_eq!(default, fusion(0.5, 60.0, 3));
        let fused = default.fuse(&[1, 2, 3, 4], &[1, 3], 3);
        assert_eq!(fused, [(1, 0.016393441706895828), (3, 0.01600102335214615), (2, 0.008064515888690948)]);
        assert_eq!(fusion(0.5, 1.0, 1).fuse(&[1, 2, 3], &[1, 3], 2), [(1, 0.5), (2, 0.1666666716337204)]);
    }

    #[test]
    fn a_ranking_without_weight_gives_no_rows() {
        assert_eq!(fusion(0.0, 60.0, 3).fuse(&[9, 8], &[1], 5), [(1, 0.016393441706895828)]);
        assert_eq!(fusion(1.0, 60.0, 3).fuse(&[9], &[1, 2], 5), [(9, 0.016393441706895828)]);
        assert!(!fusion(0.0, 60.0, 3).needs_vectors() && fusion(0.0, 60.0, 3).needs_texts());
        assert!(fusion(1.0, 60.0, 3).needs_vectors() && !fusion(1.0, 60.0, 3).needs_texts());
    }

    #[test]
    fn each_ranking_counts_as_far_as_the_window() {
        assert_eq!(fusion(0.5, 60.0, 2).depth(10), 20);
        assert_eq!(fusion(0.5, 60.0, i64::MAX).depth(usize::MAX), usize::MAX);
        // The third of either ranking would make 3 the best.
        assert_eq!(rows(&fusion(0.5, 60.0, 1).fuse(&[1, 2, 3], &[4, 5, 3], 2)), [1, 4]);
        assert_eq!(rows(&fusion(0.5, 60.0, 2).fuse(&[1, 2, 3], &[4, 5, 3], 2)), [3, 1]);
    }

    #[test]
    fn equal_rows_keep_the_vectors_order_first() {
        assert_eq!(rows(&fusion(0.5, 60.0, 3).fuse(&[7, 3], &[5, 1], 4)), [7, 5, 3, 1]);
        assert!(fusion(0.5, 60.0, 3).fuse(&[], &[], 4).is_empty());
        assert!(fusion(0.5, 60.0, 3).fuse(&[1], &[1], 0).is_empty());
    }

    #[test]
    fn arguments_out_of_range_are_refused() {
        let refused = |alpha: f64, rrf_k: f64, window: i64| {
            let arguments = FusionArguments { alpha: Some(alpha), rrf_k: Some(rrf_k), window_mult: Some(window) };
            Fusion::parse(&arguments).unwrap_err()
        };
        for alpha in [-0.5, 1.0000001, f64::NEG_INFINITY] {
            assert_eq!(refused(alpha, 60.0, 3), TextError::Alpha(alpha));
        }
        assert!(matches!(refused(f64::NAN, 60.0, 3), TextError::Alpha(_)));
        for k in [0.0, -1.0, f64::NAN] {
            assert_eq!(refused(2.0, k, 0), TextError::RrfK, "rrf_k comes first");
        }
        assert_eq!(refused(0.5, f64::INFINITY, 3), TextError::RrfKInfinite);
        for window in [0, -1, i64::MIN] {
            assert_eq!(refused(2.0, 60.0, window), TextError::WindowMult, "then window_mult");
        }
    }
}
