//! Exact answers, and recall against them.

use std::path::Path;
use std::thread;

use anyhow::{Result, ensure};
use clap::ValueEnum;

use crate::data::Matrix;
use crate::data::npy::Npy;

/// Neighbours asked for in every query.
pub const K: usize = 10;
/// Rows this near to the exact k-th distance count as found: the data holds near-identical descriptions.
const TOLERANCE: f64 = 1e-6;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Metric {
    L2,
    Cosine,
}

impl Metric {
    pub fn name(self) -> &'static str {
        match self {
            Metric::L2 => "l2",
            Metric::Cosine => "cosine",
        }
    }

    pub fn operator(self) -> &'static str {
        match self {
            Metric::L2 => "<->",
            Metric::Cosine => "<=>",
        }
    }

    /// Squared L2, or one minus the cosine.
    fn distance(self, a: &[f32], b: &[f32]) -> f64 {
        let pairs = || a.iter().zip(b).map(|(&x, &y)| (f64::from(x), f64::from(y)));
        match self {
            Metric::L2 => pairs().map(|(x, y)| (x - y) * (x - y)).sum(),
            Metric::Cosine => {
                let (mut dot, mut xx, mut yy) = (0.0, 0.0, 0.0);
                pairs().for_each(|(x, y)| {
                    dot += x * y;
                    xx += x * x;
                    yy += y * y;
                });
                1.0 - dot / (xx * yy).sqrt()
            }
        }
    }
}

/// For each query, the exact distance of its k-th neighbour.
pub struct Truth {
    metric: Metric,
    limits: Vec<f64>,
}

impl Truth {
    /// From gt.npy ([metric][query][depth], nearest first).
    pub fn read(path: &Path, metric: Metric, vectors: &Matrix, queries: &Matrix) -> Result<Self> {
        let npy = Npy::read(path)?;
        let [metrics, count, depth] = npy.shape[..] else {
            anyhow::bail!("expected three dimensions in {}", path.display())
        };
        ensure!(
            metrics == 2 && count == queries.rows() && depth >= K,
            "expected [2][{}][{K} or more] in {}",
            queries.rows(),
            path.display()
        );
        let rows = npy.integers()?;
        let skip = if metric == Metric::L2 { 0 } else { count * depth };
        let limits = (0..count)
            .map(|query| {
                let row = usize::try_from(rows[skip + query * depth + K - 1])?;
                ensure!(row < vectors.rows(), "{} names row {row} of {}", path.display(), vectors.rows());
                Ok(metric.distance(queries.row(query), vectors.row(row)))
            })
            .collect::<Result<_>>()?;
        Ok(Self { metric, limits })
    }

    /// By comparing every query with every vector, for a part of a data set.
    pub fn compute(metric: Metric, vectors: &Matrix, queries: &Matrix) -> Self {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let share = queries.rows().div_ceil(threads).max(1);
        let limits = thread::scope(|scope| {
            let workers: Vec<_> = (0..queries.rows())
                .step_by(share)
                .map(|first| {
                    let last = (first + share).min(queries.rows());
                    scope.spawn(move || {
                        (first..last).map(|query| kth(metric, vectors, queries.row(query))).collect::<Vec<_>>()
                    })
                })
                .collect();
            workers.into_iter().flat_map(|worker| worker.join().expect("arithmetic does not panic")).collect()
        });
        Self { metric, limits }
    }

    /// How many of the K nearest are among `rows`.
    pub fn found(&self, query: usize, asked: &[f32], rows: &[i32], vectors: &Matrix) -> usize {
        let mut distinct: Vec<i32> = rows.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let near =
            |row: &&i32| self.metric.distance(asked, vectors.row(**row as usize)) <= self.limits[query] + TOLERANCE;
        distinct.iter().filter(near).count().min(K)
    }
}

fn kth(metric: Metric, vectors: &Matrix, query: &[f32]) -> f64 {
    // float32 picks candidates, float64 orders them: a float32 sum of 384 squares is right to 1e-6 or so.
    let mut rough: Vec<(f32, usize)> =
        vectors.iter().enumerate().map(|(row, vector)| (rough(metric, query, vector), row)).collect();
    let keep = (4 * K).min(rough.len());
    rough.select_nth_unstable_by(keep - 1, |a, b| a.0.total_cmp(&b.0));
    let mut exact: Vec<f64> = rough[..keep].iter().map(|&(_, row)| metric.distance(query, vectors.row(row))).collect();
    exact.sort_by(f64::total_cmp);
    exact[K.min(exact.len()) - 1]
}

fn rough(metric: Metric, a: &[f32], b: &[f32]) -> f32 {
    // Sixteen sums in place of one let the compiler use vector registers.
    let mut sums = [[0f32; 16]; 2];
    for (x, y) in a.chunks(16).zip(b.chunks(16)) {
        for (lane, (x, y)) in x.iter().zip(y).enumerate() {
            match metric {
                Metric::L2 => sums[0][lane] += (x - y) * (x - y),
                Metric::Cosine => {
                    sums[0][lane] += x * y;
                    sums[1][lane] += y * y;
                }
            }
        }
    }
    let [first, second] = sums.map(|lanes| lanes.iter().sum::<f32>());
    match metric {
        Metric::L2 => first,
        Metric::Cosine => -first / second.max(f32::MIN_POSITIVE).sqrt(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cloud(rows: usize, dims: usize, seed: u32) -> Matrix {
        let mut state = seed;
        let values = (0..rows * dims)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 24) as f32 - 0.5
            })
            .collect();
        Matrix { dims, values }
    }

    #[test]
    fn the_exact_answer_has_recall_one_and_a_far_row_lowers_it() {
        let (vectors, queries) = (cloud(500, 24, 1), cloud(5, 24, 2));
        for metric in [Metric::L2, Metric::Cosine] {
            let truth = Truth::compute(metric, &vectors, &queries);
            for query in 0..queries.rows() {
                let asked = queries.row(query);
                let mut rows: Vec<i32> = (0..500).collect();
                rows.sort_by(|&a, &b| {
                    metric
                        .distance(asked, vectors.row(a as usize))
                        .total_cmp(&metric.distance(asked, vectors.row(b as usize)))
                });
                assert_eq!(truth.found(query, asked, &rows[..K], &vectors), K);
                assert_eq!(truth.found(query, asked, &rows[1..=K], &vectors), K - 1);
                assert_eq!(truth.found(query, asked, &[rows[0]; K], &vectors), 1);
            }
        }
    }
}
