//! Exact nearest rows: every query against every vector, on all cores.

use std::thread;

use clap::ValueEnum;

use super::Matrix;

/// Queries whose sums are kept in registers while one vector passes by.
const PANEL: usize = 8;
/// Vectors that stay in the cache while every panel passes by.
const BLOCK: usize = 64;

/// How far two vectors are from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Metric {
    L2,
    Cosine,
}

impl Metric {
    pub const ALL: [Metric; 2] = [Metric::L2, Metric::Cosine];

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
    pub fn distance(self, a: &[f32], b: &[f32]) -> f64 {
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

    /// Orders vectors as the distance from one query does, from their dot product and the vector's squared length.
    fn rough(self, dot: f32, square: f32) -> f32 {
        match self {
            Metric::L2 => square - 2.0 * dot,
            Metric::Cosine => -dot / square.max(f32::MIN_POSITIVE).sqrt(),
        }
    }
}

/// The `depth` rows of `vectors` nearest to each query (all of them if there are fewer), nearest first, for each metric.
///
/// float32 picks twice as many and some more, float64 orders them: a float32 sum of 384 products is right to 1e-6 or so.
pub fn nearest<const M: usize>(
    metrics: [Metric; M],
    vectors: &Matrix,
    queries: &Matrix,
    depth: usize,
) -> [Vec<Vec<u32>>; M] {
    let squares: Vec<f32> = vectors.iter().map(|vector| vector.iter().map(|x| x * x).sum()).collect();
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let share = queries.rows().div_ceil(threads).next_multiple_of(PANEL);
    let mut answers = metrics.map(|_| Vec::with_capacity(queries.rows()));
    thread::scope(|scope| {
        let workers: Vec<_> = (0..queries.rows())
            .step_by(share)
            .map(|first| {
                let (squares, last) = (&squares, (first + share).min(queries.rows()));
                scope.spawn(move || some(metrics, vectors, squares, queries, first..last, depth))
            })
            .collect();
        for worker in workers {
            for (all, part) in answers.iter_mut().zip(worker.join().expect("arithmetic does not panic")) {
                all.extend(part);
            }
        }
    });
    answers
}

/// The answers of a range of queries.
fn some<const M: usize>(
    metrics: [Metric; M],
    vectors: &Matrix,
    squares: &[f32],
    queries: &Matrix,
    range: std::ops::Range<usize>,
    depth: usize,
) -> [Vec<Vec<u32>>; M] {
    let panels: Vec<Vec<[f32; PANEL]>> = range.clone().step_by(PANEL).map(|first| panel(queries, first)).collect();
    let mut nets: Vec<[Net; M]> = range.clone().map(|_| metrics.map(|_| Net::new(2 * depth + 16))).collect();
    for first in (0..vectors.rows()).step_by(BLOCK) {
        let rows = first..(first + BLOCK).min(vectors.rows());
        for (panel, nets) in panels.iter().zip(nets.chunks_mut(PANEL)) {
            for row in rows.clone() {
                let sums = dots(vectors.row(row), panel);
                for (nets, dot) in nets.iter_mut().zip(sums) {
                    for (net, metric) in nets.iter_mut().zip(metrics) {
                        net.offer(metric.rough(dot, squares[row]), row as u32);
                    }
                }
            }
        }
    }
    let mut answers = metrics.map(|_| Vec::new());
    for (query, nets) in range.zip(nets) {
        for ((net, metric), answers) in nets.into_iter().zip(metrics).zip(&mut answers) {
            let mut exact: Vec<(f64, u32)> =
                net.rows().map(|row| (metric.distance(queries.row(query), vectors.row(row as usize)), row)).collect();
            exact.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            answers.push(exact.into_iter().take(depth).map(|(_, row)| row).collect());
        }
    }
    answers
}

/// Queries side by side: element i of each, then element i + 1. Missing ones are zero.
fn panel(queries: &Matrix, first: usize) -> Vec<[f32; PANEL]> {
    let element = |query: usize, i: usize| if query < queries.rows() { queries.row(query)[i] } else { 0.0 };
    (0..queries.dims).map(|i| std::array::from_fn(|place| element(first + place, i))).collect()
}

/// The dot products of one vector with a panel. Eight independent sums: as fast as any form that was tried, in vector
/// registers when optimised and without.
fn dots(vector: &[f32], panel: &[[f32; PANEL]]) -> [f32; PANEL] {
    let mut sums = [0.0; PANEL];
    for (x, elements) in vector.iter().zip(panel) {
        for (sum, y) in sums.iter_mut().zip(elements) {
            *sum += x * y;
        }
    }
    sums
}

/// The lowest of the scores that passed by.
struct Net {
    keep: usize,
    limit: f32,
    caught: Vec<(f32, u32)>,
}

impl Net {
    fn new(keep: usize) -> Self {
        Self { keep, limit: f32::INFINITY, caught: Vec::with_capacity(2 * keep) }
    }

    fn offer(&mut self, score: f32, row: u32) {
        if score >= self.limit {
            return;
        }
        self.caught.push((score, row));
        if self.caught.len() == 2 * self.keep {
            self.cut();
        }
    }

    fn cut(&mut self) {
        self.caught.select_nth_unstable_by(self.keep - 1, |a, b| a.0.total_cmp(&b.0));
        self.caught.truncate(self.keep);
        self.limit = self.caught[self.keep - 1].0;
    }

    fn rows(mut self) -> impl Iterator<Item = u32> {
        if self.caught.len() > self.keep {
            self.cut();
        }
        self.caught.into_iter().map(|(_, row)| row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::derive::Random;

    #[test]
    fn every_query_gets_the_rows_that_sorting_all_would_give() {
        let mut random = Random::new(7);
        let mut cloud =
            |rows: usize, dims: usize| Matrix { dims, values: (0..rows * dims).map(|_| random.gaussian()).collect() };
        for (rows, dims, count) in [(1_000, 24, 21), (5, 3, 2), (70, 17, 8)] {
            let (vectors, queries) = (cloud(rows, dims), cloud(count, dims));
            let answers = nearest(Metric::ALL, &vectors, &queries, 10);
            for (metric, answers) in Metric::ALL.into_iter().zip(answers) {
                assert_eq!(answers.len(), count);
                for (query, answer) in answers.into_iter().enumerate() {
                    let mut all: Vec<u32> = (0..rows as u32).collect();
                    let distance = |row: &u32| metric.distance(queries.row(query), vectors.row(*row as usize));
                    all.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
                    all.truncate(10);
                    assert_eq!(answer, all, "{metric:?}, query {query} of {count}, {rows} rows");
                }
            }
        }
    }
}
