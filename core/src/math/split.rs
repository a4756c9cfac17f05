//! Cutting one overfull list in two.

use zeroize::Zeroizing;

use super::distance::l2_squared;
use super::random::Random;

/// Neither half of a split holds less than this share of the rows, unless there are fewer than four.
const LEAST_SHARE: f64 = 0.25;
const ITERATIONS: usize = 8;

/// A split: two centroids, and for each row whether it goes with the second.
#[derive(Clone, Debug)]
pub struct TwoMeans {
    /// The means of the two halves.
    pub centroids: [Zeroizing<Vec<f32>>; 2],
    /// For each row, whether it belongs to the second half.
    pub second: Vec<bool>,
}

/// Splits `points` (n x dims, n at least 2) in two halves, neither empty: 2-means, then rows at the border move until
/// each half has a quarter of the rows.
pub fn two_means(points: &[f32], dims: usize, seed: u64) -> TwoMeans {
    assert!(dims > 0 && points.len().is_multiple_of(dims));
    let n = points.len() / dims;
    assert!(n >= 2);
    let row = |i: usize| &points[i * dims..][..dims];

    // Seeds: the row farthest from a random one, and the row farthest from that.
    let farthest = |from: &[f32]| {
        let distance = |i: &usize| l2_squared(row(*i), from);
        (0..n).max_by(|a, b| distance(a).total_cmp(&distance(b))).expect("at least two rows")
    };
    let first = farthest(row(Random::from_number(seed).below(n)));
    let mut centroids = [first, farthest(row(first))].map(|seed| Zeroizing::new(row(seed).to_vec()));
    let mut second = vec![false; n];
    // How much nearer each row is to the second centroid; a NaN (beyond float32) counts as a tie.
    let mut lean = vec![0f32; n];
    for _ in 0..ITERATIONS {
        for (i, lean) in lean.iter_mut().enumerate() {
            let difference = l2_squared(row(i), &centroids[0]) - l2_squared(row(i), &centroids[1]);
            *lean = if difference.is_nan() { 0.0 } else { difference };
        }
        let next = halves(&lean);
        let done = next == second;
        second = next;
        centroids = [mean(points, dims, &second, false), mean(points, dims, &second, true)];
        if done {
            break;
        }
    }
    TwoMeans { centroids, second }
}

/// Who goes with the second half: those that lean there, but at least [`LEAST_SHARE`] on either side.
fn halves(lean: &[f32]) -> Vec<bool> {
    let n = lean.len();
    let least = ((n as f64 * LEAST_SHARE) as usize).max(1);
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| lean[a].total_cmp(&lean[b])); // stable, so that equal rows split by number
    let first = lean.iter().filter(|&&l| l <= 0.0).count().clamp(least, n - least);
    let mut second = vec![false; n];
    for &i in &order[first..] {
        second[i] = true;
    }
    second
}

fn mean(points: &[f32], dims: usize, second: &[bool], which: bool) -> Zeroizing<Vec<f32>> {
    let mut sums = Zeroizing::new(vec![0f64; dims]);
    let mut count = 0usize;
    for (row, _) in points.chunks_exact(dims).zip(second).filter(|(_, half)| **half == which) {
        count += 1;
        for (sum, x) in sums.iter_mut().zip(row) {
            *sum += f64::from(*x);
        }
    }
    Zeroizing::new(sums.iter().map(|sum| (sum / count as f64) as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(points: &[f32], dims: usize) -> TwoMeans {
        let split = two_means(points, dims, 3);
        let n = points.len() / dims;
        let second = split.second.iter().filter(|s| **s).count();
        let least = ((n as f64 * LEAST_SHARE) as usize).max(1);
        assert_eq!(split.second.len(), n);
        assert!((least..=n - least).contains(&second), "{second} of {n}");
        assert!(split.centroids.iter().flat_map(|centroid| centroid.iter()).all(|x| x.is_finite()));
        split
    }

    #[test]
    fn two_clusters_part() {
        let mut random = Random::new(b"split");
        let points: Vec<f32> = (0..600).map(|i| if i % 6 < 3 { 5.0 } else { -5.0 } + random.normal()).collect();
        let split = check(&points, 3);
        assert!((0..200).all(|i| split.second[i] == split.second[i % 2]));
        assert_ne!(split.second[0], split.second[1]);
    }

    #[test]
    fn no_half_is_ever_empty() {
        check(&[1.0; 2], 1);
        check(&[7.0; 300], 3);
        check(&[0.0; 999], 3);
        let mut outlier = vec![0.0f32; 400];
        outlier[399] = 1e15;
        check(&outlier, 2);
        check(&[1e-20, 2e-20, 3e-20, 4e-20, 5e-20], 1);
        let big: Vec<f32> = (0..50).map(|i| i as f32 * 1e30).collect();
        check(&big, 5);
    }
}
