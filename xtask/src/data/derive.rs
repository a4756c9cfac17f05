//! Makes a large set out of a small one: rows between near rows, and noise.
//!
//! Row i of the result is a + t (b - a) + u (c - a) + e, brought to the length between those of a, b and c: a is a row
//! of the base, b and c are two of the rows near it, t and u are even in [0, 1/2), and e is Gaussian, six
//! tenths as long as b - a on average. What it draws depends on the seed and i alone. Queries are made alike, from numbers after the last
//! row's. Everything is rounded to float16, and exact answers are for the rounded values.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, ensure};
use half::f16;

use super::nearest::{Metric, nearest};
use super::npy::{write_f16, write_u32};
use super::{Matrix, npy::Npy};
use crate::run::step;
use crate::tree;

/// Changes with anything that changes a row: sets made before are then made anew.
const VERSION: u32 = 1;
const SEED: u64 = 0x5ea1_7ec5;
/// Rows of the base that count as near to one of it.
const NEAR: usize = 8;
/// Rows that others are sorted by before each is compared with those sorted alike.
const PIVOTS: usize = 256;
/// Length of the noise relative to that of b - a. With it a million rows have the local intrinsic dimension of their
/// base deb_62k (15.7 and 15.6); with a third of it, 5.9.
const NOISE: f32 = 0.6;
/// Queries of a made set, and exact answers to each.
const QUERIES: usize = 1_000;
const DEPTH: usize = 100;

/// The directory with `rows` rows derived from the set in `base`; made now unless it was before.
pub fn directory(base: &Path, rows: usize) -> Result<PathBuf> {
    let name = base.file_name().context("expected a directory with a name")?.to_string_lossy();
    let home = tree::target().join("bench-data").join(format!("{name}-derived-{rows}-v{VERSION}"));
    if home.exists() {
        return Ok(home);
    }
    let vectors = Matrix::read(&base.join("vectors_f16.npy"))?;
    let maker = step("finding near rows of the base", || Maker::new(&vectors))?;
    let (made, queries) = step(&format!("deriving {rows} rows from {}", vectors.rows()), || {
        Ok((maker.rows(0, rows), maker.rows(rows as u64, QUERIES)))
    })?;
    let answers = step("computing exact answers", || Ok(nearest(Metric::ALL, &made, &queries, DEPTH.min(rows))))?;

    // Under another name until it is whole.
    let part = home.with_extension("part");
    if part.exists() {
        fs::remove_dir_all(&part)?;
    }
    fs::create_dir_all(&part).with_context(|| format!("could not create {}", part.display()))?;
    step(&format!("writing {}", home.display()), || {
        write_f16(&part.join("vectors_f16.npy"), made.dims, &made.iter().collect::<Vec<_>>())?;
        write_f16(&part.join("queries_f16.npy"), made.dims, &queries.iter().collect::<Vec<_>>())?;
        let flat: Vec<u32> = answers.iter().flatten().flatten().copied().collect();
        write_u32(&part.join("gt.npy"), &[answers.len(), QUERIES, DEPTH.min(rows)], &flat)?;
        fs::rename(&part, &home).with_context(|| format!("could not rename {}", part.display()))
    })?;
    Ok(home)
}

/// Local intrinsic dimension around the queries: the median of Levina and Bickel's estimate from each query's answers
/// in gt.npy, L2. A made set should not be easier than what it was made from.
pub fn intrinsic_dimension(directory: &Path, vectors: &Matrix, queries: &Matrix) -> Result<f64> {
    let npy = Npy::read(&directory.join("gt.npy"))?;
    let depth = *npy.shape.last().context("gt.npy has no shape")?;
    let rows = npy.integers()?;
    let mut estimates: Vec<f64> = (0..queries.rows())
        .map(|query| {
            let distances: Vec<f64> = rows[query * depth..][..depth]
                .iter()
                .map(|&row| Metric::L2.distance(queries.row(query), vectors.row(row as usize)).sqrt())
                .filter(|&distance| distance > 0.0)
                .collect();
            let far = distances.last().copied().unwrap_or(1.0);
            let sum: f64 = distances.iter().map(|distance| (far / distance).ln()).sum();
            (distances.len().max(2) - 1) as f64 / sum.max(f64::MIN_POSITIVE)
        })
        .collect();
    estimates.sort_by(f64::total_cmp);
    Ok(estimates[estimates.len() / 2])
}

/// Makes rows from a base.
pub struct Maker<'a> {
    base: &'a Matrix,
    near: Vec<Vec<u32>>,
}

impl<'a> Maker<'a> {
    /// Finds the rows near each row of `base`, among those that share its nearest pivot.
    pub fn new(base: &'a Matrix) -> Result<Self> {
        ensure!(base.rows() > NEAR, "expected more than {NEAR} rows to derive others from, not {}", base.rows());
        let pivots =
            pick(base, (0..PIVOTS.min(base.rows())).map(|pivot| pivot * base.rows() / PIVOTS.min(base.rows())));
        let [home] = nearest([Metric::L2], &pivots, base, 1);
        let mut groups = vec![Vec::new(); pivots.rows()];
        for (row, home) in home.iter().enumerate() {
            groups[home[0] as usize].push(row as u32);
        }
        // Too few to find enough near rows among: they go together, with as many more as that takes.
        let (mut groups, few): (Vec<_>, Vec<_>) = groups.into_iter().partition(|group| group.len() > NEAR);
        let mut rest: Vec<u32> = few.into_iter().flatten().collect();
        while !rest.is_empty() && rest.len() <= NEAR {
            rest.extend(groups.pop().expect("the base has more than NEAR rows"));
        }
        groups.push(rest);

        let mut near = vec![Vec::new(); base.rows()];
        for group in groups {
            let rows = pick(base, group.iter().map(|&row| row as usize));
            let [found] = nearest([Metric::L2], &rows, &rows, NEAR + 1);
            for (place, found) in found.into_iter().enumerate() {
                let others = found.into_iter().filter(|&other| other as usize != place).take(NEAR);
                near[group[place] as usize] = others.map(|other| group[other as usize]).collect();
            }
        }
        Ok(Self { base, near })
    }

    /// Rows number `first` to `first + count`.
    pub fn rows(&self, first: u64, count: usize) -> Matrix {
        let dims = self.base.dims;
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let share = count.div_ceil(threads).max(1);
        let mut values = vec![0.0; count * dims];
        thread::scope(|scope| {
            for (part, rows) in values.chunks_mut(share * dims).enumerate() {
                scope.spawn(move || {
                    for (number, row) in rows.chunks_exact_mut(dims).enumerate() {
                        self.row(first + (part * share + number) as u64, row);
                    }
                });
            }
        });
        Matrix { dims, values }
    }

    fn row(&self, number: u64, out: &mut [f32]) {
        let mut random = Random::new(SEED.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let home = random.below(self.base.rows());
        let near = &self.near[home];
        let b = near[random.below(near.len())] as usize;
        let c = near[random.below(near.len())] as usize;
        let (t, u) = (random.even() / 2.0, random.even() / 2.0);
        let (a, b, c) = (self.base.row(home), self.base.row(b), self.base.row(c));
        let gap = a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum::<f32>().sqrt();
        let noise = NOISE * gap / (out.len() as f32).sqrt();
        for (i, value) in out.iter_mut().enumerate() {
            *value = a[i] + t * (b[i] - a[i]) + u * (c[i] - a[i]) + noise * random.gaussian();
        }
        let wanted = (1.0 - t - u) * length(a) + t * length(b) + u * length(c);
        let scale = wanted / length(out).max(f32::MIN_POSITIVE);
        out.iter_mut().for_each(|value| *value = f16::from_f32(*value * scale).to_f32());
    }
}

fn pick(matrix: &Matrix, rows: impl Iterator<Item = usize>) -> Matrix {
    Matrix { dims: matrix.dims, values: rows.flat_map(|row| matrix.row(row).iter().copied()).collect() }
}

fn length(vector: &[f32]) -> f32 {
    vector.iter().map(|x| x * x).sum::<f32>().sqrt()
}

/// SplitMix64: the same numbers on every machine. Not for keys.
pub struct Random {
    state: u64,
    spare: Option<f32>,
}

impl Random {
    pub fn new(seed: u64) -> Self {
        Self { state: seed, spare: None }
    }

    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Even in 0..`bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.bits()) * bound as u128) >> 64) as usize
    }

    /// Even in [0, 1).
    pub fn even(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u32 << 24) as f32
    }

    /// Mean 0, variance 1; polar method (Marsaglia and Bray).
    pub fn gaussian(&mut self) -> f32 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        loop {
            let (x, y) = (2.0 * self.even() - 1.0, 2.0 * self.even() - 1.0);
            let square = x * x + y * y;
            if square > 0.0 && square < 1.0 {
                let factor = (-2.0 * square.ln() / square).sqrt();
                self.spare = Some(y * factor);
                return x * factor;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(rows: usize) -> Matrix {
        let mut random = Random::new(3);
        Matrix { dims: 16, values: (0..rows * 16).map(|_| random.gaussian()).collect() }
    }

    #[test]
    fn a_row_depends_on_its_number_alone() {
        let base = base(400);
        let maker = Maker::new(&base).unwrap();
        let all = maker.rows(0, 50);
        assert_eq!(maker.rows(0, 50).values, all.values);
        assert_eq!(maker.rows(13, 1).values, all.row(13));
        assert_eq!(Maker::new(&base).unwrap().rows(30, 20).values, all.values[30 * 16..]);
        assert_ne!(all.row(0), all.row(1));
    }

    #[test]
    fn rows_are_float16_near_the_base_and_none_of_it() {
        let base = base(400);
        let made = Maker::new(&base).unwrap().rows(0, 200);
        let [home] = nearest([Metric::L2], &base, &made, 1);
        let spread = Metric::L2.distance(base.row(0), base.row(1)).sqrt();
        for (row, home) in made.iter().zip(home) {
            assert!(row.iter().all(|&value| f16::from_f32(value).to_f32() == value));
            let distance = Metric::L2.distance(row, base.row(home[0] as usize)).sqrt();
            assert!(distance > 0.0 && distance < spread, "{distance} of {spread}");
        }
    }

    #[test]
    fn a_base_of_few_rows_will_do_but_not_of_fewer_than_it_takes() {
        assert_eq!(Maker::new(&base(9)).unwrap().rows(0, 30).rows(), 30);
        assert!(Maker::new(&base(8)).is_err());
    }
}
