//! Exact answers, and recall against them.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::data::Matrix;
use crate::data::nearest::nearest;
use crate::data::npy::Npy;

pub use crate::data::nearest::Metric;

/// Neighbours asked for in every query.
pub const K: usize = 10;
/// Rows this near to the exact k-th distance count as found: the data holds near-identical descriptions.
const TOLERANCE: f64 = 1e-6;

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
        let [answers] = nearest([metric], vectors, queries, K);
        let limits = answers
            .iter()
            .zip(queries.iter())
            .map(|(rows, query)| {
                let last = *rows.last().expect("a set has rows");
                metric.distance(query, vectors.row(last as usize))
            })
            .collect();
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
