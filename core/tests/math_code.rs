//! The promise of one-bit codes: a true score is hardly ever below its lower bound, and the bound is tight.

use proptest::prelude::*;
use sealvec_core::math::distance::normalize;
use sealvec_core::math::random::Random;
use sealvec_core::math::{BLOCK_ROWS, BlockLayout, ListTerm, QueryCodes, Rotation, encode_block};
use sealvec_core::metric::Metric;

const METRICS: [Metric; 3] = [Metric::L2, Metric::Cosine, Metric::InnerProduct];
const DIMS: [usize; 12] = [1, 2, 3, 7, 63, 65, 127, 384, 960, 1536, 3072, 16000];

fn true_score(metric: Metric, q: &[f32], x: &[f32]) -> f64 {
    let pairs = q.iter().zip(x).map(|(q, x)| (f64::from(*q), f64::from(*x)));
    match metric {
        Metric::L2 | Metric::Cosine => pairs.map(|(q, x)| (q - x) * (q - x)).sum(),
        Metric::InnerProduct => -pairs.map(|(q, x)| q * x).sum::<f64>(),
    }
}

struct Scored {
    truth: f64,
    lower: f32,
    estimate: f32,
}

/// The rotation and layout of an index, and what is rotated by them.
struct Coder {
    rotation: Rotation,
    layout: BlockLayout,
}

impl Coder {
    fn new(dims: usize) -> Self {
        Self { rotation: Rotation::new(dims, [5; 32]), layout: BlockLayout::new(dims) }
    }

    fn rotate(&self, x: &[f32]) -> Vec<f32> {
        let mut out = vec![0f32; self.layout.padded()];
        self.rotation.apply(x, &mut out);
        out
    }

    fn encode(&self, metric: Metric, centroid: &[f32], rows: &[Vec<f32>]) -> Vec<u8> {
        let rotated: Vec<f32> = rows.iter().flat_map(|row| self.rotate(row)).collect();
        let mut block = vec![0xAA; self.layout.block_bytes(rows.len())];
        encode_block(&self.layout, metric, &self.rotate(centroid), &rotated, &mut block);
        block
    }

    fn score(&self, metric: Metric, block: &[u8], centroid: &[f32], rows: &[Vec<f32>], q: &[f32]) -> Vec<Scored> {
        let query = QueryCodes::new(&self.rotation, metric, q);
        let term = ListTerm { q_to_centroid: true_score(metric, q, centroid) as f32 };
        let (mut lower, mut estimate) = ([f32::NAN; BLOCK_ROWS], [f32::NAN; BLOCK_ROWS]);
        query.score_block(&self.layout, term, block, rows.len(), &mut lower, &mut estimate);
        assert!(lower[rows.len()..].iter().chain(&estimate[rows.len()..]).all(|x| *x == f32::INFINITY));
        let scored = |(i, row): (usize, &Vec<f32>)| Scored {
            truth: true_score(metric, q, row),
            lower: lower[i],
            estimate: estimate[i],
        };
        rows.iter().enumerate().map(scored).collect()
    }
}

fn normals(random: &mut Random, mean: &[f32], size: f32) -> Vec<f32> {
    mean.iter().map(|m| m + size * random.normal()).collect()
}

fn mean(rows: &[Vec<f32>]) -> Vec<f32> {
    (0..rows[0].len()).map(|d| rows.iter().map(|row| row[d] / rows.len() as f32).sum()).collect()
}

fn normalized(mut x: Vec<f32>) -> Vec<f32> {
    normalize(&mut x);
    x
}

/// Share of rows whose true score is below the bound, and mean width of the bound over the mean size of a score.
fn misses(metric: Metric, dims: usize, spread: f32, size: f32) -> (f64, f64) {
    let mut random = Random::new(format!("misses {dims} {spread}").as_bytes());
    let coder = Coder::new(dims);
    let (blocks, queries) = if dims > 2000 { (4, 10) } else { (20, 10) };
    let (mut below, mut total, mut width, mut sizes) = (0u32, 0u32, 0.0, 0.0);
    for _ in 0..blocks {
        let heart = normals(&mut random, &vec![0f32; dims], size);
        let mut rows: Vec<Vec<f32>> = (0..BLOCK_ROWS).map(|_| normals(&mut random, &heart, spread * size)).collect();
        if metric == Metric::Cosine {
            rows = rows.into_iter().map(normalized).collect();
        }
        let centroid = mean(&rows);
        let block = coder.encode(metric, &centroid, &rows);
        for _ in 0..queries {
            let mut q = normals(&mut random, &heart, 2.0 * spread * size);
            if metric == Metric::Cosine {
                q = normalized(q);
            }
            for scored in coder.score(metric, &block, &centroid, &rows, &q) {
                assert!(scored.lower.is_finite() && scored.estimate.is_finite());
                total += 1;
                // A hair below is float32, not the bound.
                below += u32::from(scored.truth < f64::from(scored.lower) - 1e-6 * scored.truth.abs());
                width += f64::from(scored.estimate - scored.lower);
                sizes += scored.truth.abs();
            }
        }
    }
    (f64::from(below) / f64::from(total), width / sizes)
}

#[test]
fn true_scores_keep_above_their_bounds() {
    for metric in METRICS {
        for dims in DIMS {
            for spread in [10.0, 1.0, 0.1] {
                let (below, _) = misses(metric, dims, spread, 1.0);
                // 2.5 sigma leave 0.6 %.
                assert!(below <= 0.01, "{metric:?} {dims} {spread}: {below}");
            }
        }
    }
}

#[test]
fn bounds_narrow_with_dimensions() {
    for (dims, widest) in [(64, 0.5), (384, 0.2), (1536, 0.1), (16000, 0.035)] {
        let (_, width) = misses(Metric::L2, dims, 1.0, 1.0);
        assert!(width < widest, "{dims}: {width}");
    }
}

#[test]
fn bounds_hold_at_every_magnitude() {
    for metric in [Metric::L2, Metric::InnerProduct] {
        for size in [1e15, 1e8, 1e-8, 1e-18, 1e-20] {
            let (below, width) = misses(metric, 384, 1.0, size);
            assert!(below <= 0.01, "{metric:?} {size}: {below}");
            assert!(width < 5.0, "{metric:?} {size}: {width}");
        }
    }
}

#[test]
fn degenerate_rows_stay_finite_and_bounded() {
    let mut random = Random::new(b"degenerate");
    for dims in DIMS {
        let coder = Coder::new(dims);
        let zero = vec![0f32; dims];
        let some = normals(&mut random, &zero, 1.0);
        let other = normals(&mut random, &zero, 1.0);
        let mut spike = zero.clone();
        spike[dims / 2] = 1.0;
        let equal = vec![3.0f32; dims];
        // A block of rows a million times apart shares one scale.
        let mixed = [1e6, 1.0, 1e-6, 0.0].map(|size| some.iter().map(|x| x * size).collect::<Vec<f32>>()).to_vec();
        for metric in METRICS {
            for centroid in [&zero, &some, &equal] {
                for rows in
                    [vec![some.clone()], vec![zero.clone(); 32], vec![spike.clone(), equal.clone()], mixed.clone()]
                {
                    let block = coder.encode(metric, centroid, &rows);
                    for q in [&zero, &some, &other, &equal, &spike] {
                        for Scored { truth, lower, estimate } in coder.score(metric, &block, centroid, &rows, q) {
                            assert!(lower.is_finite() && estimate.is_finite(), "{metric:?} {dims}");
                            // As wide again as the bound: five sigma.
                            let room = f64::from(estimate - lower) + 1e-5 * truth.abs() + 1e-6;
                            assert!(
                                truth >= f64::from(lower) - room,
                                "{metric:?} {dims}: {truth} below {lower} ({estimate})"
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn rows_at_the_centroid_are_exact() {
    let mut random = Random::new(b"exact");
    let coder = Coder::new(100);
    for metric in METRICS {
        let centroid = normals(&mut random, &[0.0; 100], 1.0);
        let q = normals(&mut random, &[0.0; 100], 1.0);
        let rows = vec![centroid.clone(); 5];
        let block = coder.encode(metric, &centroid, &rows);
        for scored in coder.score(metric, &block, &centroid, &rows, &q) {
            assert!((f64::from(scored.estimate) - scored.truth).abs() < 1e-4 * scored.truth.abs());
            assert!((f64::from(scored.lower) - scored.truth).abs() < 1e-3 * scored.truth.abs());
        }
    }
}

/// Rows score alike in a short block and in a whole one of the same scale: its other rows are copies.
#[test]
fn a_short_block_scores_as_a_whole_one() {
    let mut random = Random::new(b"short");
    for dims in DIMS {
        let coder = Coder::new(dims);
        let zero = vec![0f32; dims];
        let (centroid, q) = (normals(&mut random, &zero, 1.0), normals(&mut random, &zero, 1.0));
        for metric in METRICS {
            for count in [1, 2, 15, 16] {
                let short: Vec<Vec<f32>> = (0..count).map(|_| normals(&mut random, &centroid, 1.0)).collect();
                let whole: Vec<Vec<f32>> = (0..BLOCK_ROWS).map(|row| short[row % count].clone()).collect();
                let scored = |rows: &[Vec<f32>]| {
                    let block = coder.encode(metric, &centroid, rows);
                    assert_eq!(block.len() < coder.layout.block_bytes(BLOCK_ROWS), rows.len() <= 16);
                    coder.score(metric, &block, &centroid, rows, &q)
                };
                for (a, b) in scored(&short).into_iter().zip(scored(&whole)) {
                    // Both add up some |q| |x| in float32.
                    let near = |a: f32, b: f32| (a - b).abs() <= 1e-4 * (1.0 + b.abs()) + 1e-6 * dims as f32;
                    assert!(near(a.lower, b.lower) && near(a.estimate, b.estimate), "{metric:?} {dims} {count}");
                }
            }
        }
    }
}

#[test]
fn what_overflows_is_reranked_not_lost() {
    let coder = Coder::new(64);
    let (rows, centroid) = (vec![vec![1e30f32; 64], vec![-3e38; 64], vec![1.0; 64]], [0.0; 64]);
    let block = coder.encode(Metric::L2, &centroid, &rows);
    for scored in coder.score(Metric::L2, &block, &centroid, &rows, &[0.5; 64]) {
        assert!(scored.lower.is_finite() && f64::from(scored.lower) <= scored.truth * 1.0001);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any finite input scores to something finite, and the bound is not above the estimate.
    #[test]
    fn scores_are_finite(dims in 1usize..200, count in 1usize..=32, seed in any::<u64>(), size in -18f32..15.0, apart in 0f32..6.0) {
        let mut random = Random::from_number(seed);
        let coder = Coder::new(dims);
        let zero = vec![0f32; dims];
        let size = 10f32.powf(size);
        let centroid = normals(&mut random, &zero, size);
        let rows: Vec<Vec<f32>> = (0..count).map(|_| normals(&mut random, &centroid, size * 10f32.powf(-apart))).collect();
        let q = normals(&mut random, &zero, size);
        for metric in [Metric::L2, Metric::InnerProduct] {
            let block = coder.encode(metric, &centroid, &rows);
            for scored in coder.score(metric, &block, &centroid, &rows, &q) {
                prop_assert!(scored.lower.is_finite() && scored.estimate.is_finite());
                prop_assert!(scored.lower <= scored.estimate);
            }
        }
    }
}
