//! One-bit codes with error bounds (RaBitQ: Gao and Long, SIGMOD 2024) and their fast scan.
//!
//! With r = R(x - c) for a row x of the list of centroid c, P its length after rotation, and s = sign(r):
//! `<r, q'> ~ a <s, q'>` for q' = R(q - c), a = |r|^2 / |r|_1. Off by more than
//! `eps |r| |q'| sqrt((1 - t^2) / t^2 / (P - 1))`, t = |r|_1 / (sqrt(P) |r|), with a chance that falls like exp(-eps^2).
//! Only `<s, Rq>` depends on both query and code, so one table per query serves every list:
//!
//! | score | base | f_add | f_rescale | f_err times |
//! |---|---|---|---|---|
//! | squared L2 (cosine: of normalised vectors) | \|q - c\|^2 | \|r\|^2 + f_rescale <s, Rc> | 2 a | \|q - c\| |
//! | negative inner product | -<q, c> | 0 | a | \|q\| |
//!
//! score = base + f_add - f_rescale <s, Rq>, never further off than eps * f_err * (\|q - c\| or \|q\|) but rarely.
//!
//! A block holds 32 rows (unused ones zero), columnar, little-endian:
//!
//! | offset | size | meaning |
//! |---|---|---|
//! | 0 | 4 P | codes: byte 16 g + i has dimensions 4 g .. 4 g + 4 of row i (low nibble) and row i + 16 (high); bit set = r >= 0 |
//! | 4 P | 128 | f_add, float32 |
//! | 4 P + 128 | 64 | f_rescale / scale, float16, nearest |
//! | 4 P + 192 | 64 | f_err / scale, float16, rounded up |
//! | 4 P + 256 | 4 | scale, float32, a power of two |
//!
//! A block of n <= 16 rows is short and wastes no room, for growth leaves a handful of rows behind each time:
//!
//! | offset | size | meaning |
//! |---|---|---|
//! | 0 | n P / 8 | codes: byte n j + i has dimensions 8 j .. 8 j + 8 of row i, lowest bit first |
//! | n P / 8 | 8 n + 4 | f_add, f_rescale / scale, f_err / scale of n rows, and scale, as above |
//!
//! Where a common mean dominates the data, subtract it from rows, centroids and (L2) queries first: the table's
//! error follows |q|. L2 scores do not move; inner products take the true `-<q, c>` as base, so they do not either.

use half::f16;
use zeroize::Zeroizing;

use super::distance::norm;
use super::kernels::{QueryTable, Residual, ScoreArgs, table};
use super::rotate::{Rotation, padded};
use crate::metric::Metric;

/// Rows in a block.
pub const BLOCK_ROWS: usize = 32;
/// Multiplies every stored error. 1.9 caps recall at 0.997 on real embeddings, 2.5 at 0.9993.
pub const ERROR_MULTIPLIER: f32 = 2.5;

/// Most rows of a short block.
pub const SHORT_ROWS: usize = 16;

/// Bytes of the factors of a row: f_add, f_rescale, f_err.
const FACTOR_BYTES: usize = 8;
/// Relative error of a float32 sum such as `base + f_add - product`, with room to spare.
const ROUNDING: f32 = 1e-6;

/// Sizes of the blocks of an index of so many dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockLayout {
    padded: usize,
}

impl BlockLayout {
    /// The layout for `dims` (at least 1) dimensions.
    pub fn new(dims: usize) -> Self {
        assert!(dims > 0);
        Self { padded: padded(dims) }
    }

    /// Length of a rotated vector.
    pub fn padded(&self) -> usize {
        self.padded
    }

    /// Code bytes of a row.
    pub fn code_bytes_per_row(&self) -> usize {
        self.padded / 8
    }

    /// Bytes of a block of `rows` rows, 1 to 32.
    pub fn block_bytes(&self, rows: usize) -> usize {
        let stored = if rows > SHORT_ROWS { BLOCK_ROWS } else { rows };
        stored * (self.code_bytes_per_row() + FACTOR_BYTES) + 4
    }
}

/// Where the query stands to the list being scored.
#[derive(Clone, Copy, Debug)]
pub struct ListTerm {
    /// Score of the query against the list's centroid: squared distance, or negative inner product.
    /// The centroid must be the very one the rows were encoded against.
    pub q_to_centroid: f32,
}

/// Codes up to 32 rows into `out` (as long as `block_bytes` says). `rows` holds rotated rows end to end, `rotated_centroid` the
/// rotated centroid; encode the vectors that rerank will see (rounded to the stored precision).
pub fn encode_block(layout: &BlockLayout, metric: Metric, rotated_centroid: &[f32], rows: &[f32], out: &mut [u8]) {
    let p = layout.padded;
    let count = rows.len() / p;
    assert_eq!(rotated_centroid.len(), p);
    assert!(rows.len() == count * p && count <= BLOCK_ROWS);
    assert_eq!(out.len(), layout.block_bytes(count));
    out.fill(0);
    let short = count <= SHORT_ROWS;
    let stored = if short { count } else { BLOCK_ROWS };
    let (codes, factors) = out.split_at_mut(stored * layout.code_bytes_per_row());

    let mut encoded = [Factors::default(); BLOCK_ROWS];
    let mut signs = vec![0u8; p / 4];
    let centroid_squared = rotated_centroid.iter().map(|c| f64::from(*c) * f64::from(*c)).sum();
    for (i, row) in rows.chunks_exact(p).enumerate() {
        encoded[i] = factors_of(metric, rotated_centroid, centroid_squared, row, &mut signs);
        if short {
            for (code, pair) in codes[i..].iter_mut().step_by(count).zip(signs.chunks_exact(2)) {
                *code = pair[0] | pair[1] << 4;
            }
            continue;
        }
        let shift = if i < 16 { 0 } else { 4 };
        for (code, nibble) in codes[i % 16..].iter_mut().step_by(16).zip(&signs) {
            *code |= nibble << shift;
        }
    }
    let scale = power_of_two_above(encoded.iter().fold(0f64, |m, f| m.max(f.rescale).max(f.err)));
    let (adds, rest) = factors.split_at_mut(stored * 4);
    let (rescales, rest) = rest.split_at_mut(stored * 2);
    let (errs, scale_bytes) = rest.split_at_mut(stored * 2);
    scale_bytes.copy_from_slice(&(scale as f32).to_le_bytes());
    for (i, f) in encoded[..count].iter().enumerate() {
        let stored = f16::from_f64(f.rescale / scale);
        let rescale = stored.to_f64() * scale;
        // What f_rescale lost in rounding is at most this times |<s, q'>| <= sqrt(P) |q'|.
        let err = f.err + (rescale - f.rescale).abs() * (p as f64).sqrt();
        let add = match metric {
            Metric::L2 | Metric::Cosine => (f.norm_squared + rescale * f.signed_centroid) as f32,
            Metric::InnerProduct => 0.0,
        };
        // A row beyond float32 gets a NaN, which the scan bounds by the floor: it is always reranked.
        let finite = add.is_finite() && f.err.is_finite();
        adds[i * 4..][..4].copy_from_slice(&if finite { add } else { f32::NAN }.to_le_bytes());
        rescales[i * 2..][..2].copy_from_slice(&stored.to_le_bytes());
        errs[i * 2..][..2].copy_from_slice(&rounded_up(err / scale).to_le_bytes());
    }
}

#[derive(Clone, Copy, Default)]
struct Factors {
    norm_squared: f64,
    /// `<s, Rc>`
    signed_centroid: f64,
    rescale: f64,
    err: f64,
}

/// The factors of one row, given the sum of squares of its centroid; its sign bits go to `signs`, one nibble a byte.
fn factors_of(metric: Metric, centroid: &[f32], centroid_squared: f64, row: &[f32], signs: &mut [u8]) -> Factors {
    let Residual { l1, norm_squared, signed_centroid } = table().residual(centroid, row, signs);
    let weight = if metric == Metric::InnerProduct { 1.0 } else { 2.0 };
    if norm_squared == 0.0 {
        return Factors { norm_squared, signed_centroid, rescale: 0.0, err: 0.0 };
    }
    let p = row.len() as f64;
    let t_squared = (l1 * l1 / (p * norm_squared)).min(1.0);
    let statistical = (norm_squared * (1.0 - t_squared) / t_squared / (p - 1.0)).sqrt();
    // Row and centroid were rotated in float32, each off by some 1e-7 of its norm.
    let rounding = f64::from(ROUNDING) * (norm_squared + centroid_squared).sqrt();
    Factors {
        norm_squared,
        signed_centroid,
        rescale: weight * norm_squared / l1,
        err: weight * (statistical + rounding),
    }
}

fn power_of_two_above(x: f64) -> f64 {
    // Within float32's normal range; beyond it the row's f_add is NaN anyway.
    if x > 0.0 { x.log2().ceil().clamp(-126.0, 127.0).exp2() } else { 1.0 }
}

fn rounded_up(x: f64) -> f16 {
    let nearest = f16::from_f64(x);
    if nearest.to_f64() < x { f16::from_bits(nearest.to_bits() + 1) } else { nearest }
}

/// A query, ready to score blocks: its table serves every list.
#[derive(Clone, Debug)]
pub struct QueryCodes {
    metric: Metric,
    lut: Zeroizing<Vec<u8>>,
    delta: f32,
    bias: f32,
    lut_err: f32,
    norm: f32,
    multiplier: f32,
}

impl QueryCodes {
    /// Rotates `q` (under cosine: normalised by the caller) and makes its table.
    pub fn new(rotation: &Rotation, metric: Metric, q: &[f32]) -> Self {
        Self::with_error_multiplier(rotation, metric, q, ERROR_MULTIPLIER)
    }

    /// As [`QueryCodes::new`], with another multiplier of the error bounds than [`ERROR_MULTIPLIER`].
    pub fn with_error_multiplier(rotation: &Rotation, metric: Metric, q: &[f32], multiplier: f32) -> Self {
        let mut rotated = Zeroizing::new(vec![0f32; rotation.padded()]);
        rotation.apply(q, &mut rotated);
        let mut lut = Zeroizing::new(vec![0u8; rotated.len() * 4]);
        let made = table().table(&rotated, &mut lut);
        let norm = norm(&rotated);
        // Which entry of a group a code selects is as good as random to the query's rounding: five sigma of the sum,
        // or all of them at their worst. To which comes what rotating and adding up in float32 lose: -bias is |Rq|_1.
        let rounding = ROUNDING * (norm * (rotated.len() as f32).sqrt() - made.bias);
        let lut_err = made.worst.min(5.0 * made.variance.sqrt()) * made.delta + rounding;
        let QueryTable { delta, bias, .. } = made;
        Self { metric, lut, delta, bias, lut_err, norm, multiplier }
    }

    /// Lower bounds and estimates of the scores of the first `rows` rows of a block; the others become infinite.
    /// Both are finite for finite input, and never below 0 for squared distances. Returns the least lower bound.
    pub fn score_block(
        &self,
        layout: &BlockLayout,
        term: ListTerm,
        block: &[u8],
        rows: usize,
        lower: &mut [f32; BLOCK_ROWS],
        estimate: &mut [f32; BLOCK_ROWS],
    ) -> f32 {
        self.score_block_surely(self.multiplier, layout, term, block, rows, lower, estimate)
    }

    /// As [`QueryCodes::score_block`], with another multiplier of the error bounds than the query's own.
    #[allow(clippy::too_many_arguments)]
    pub fn score_block_surely(
        &self,
        multiplier: f32,
        layout: &BlockLayout,
        term: ListTerm,
        block: &[u8],
        rows: usize,
        lower: &mut [f32; BLOCK_ROWS],
        estimate: &mut [f32; BLOCK_ROWS],
    ) -> f32 {
        assert_eq!(layout.padded * 4, self.lut.len());
        assert_eq!(block.len(), layout.block_bytes(rows));
        let stored = if rows > SHORT_ROWS { BLOCK_ROWS } else { rows };
        let (codes, rest) = block.split_at(stored * layout.code_bytes_per_row());
        let (factors, scale) = rest.split_at(stored * FACTOR_BYTES);
        let mut columns = [0; BLOCK_ROWS * FACTOR_BYTES];
        let factors = if stored < BLOCK_ROWS { spread(factors, rows, &mut columns) } else { factors };
        let scale = f32::from_le_bytes(scale.try_into().expect("the layout ends in four bytes"));
        let (distance, floor) = match self.metric {
            Metric::L2 | Metric::Cosine => (term.q_to_centroid.max(0.0).sqrt(), 0.0),
            Metric::InnerProduct => (self.norm, f32::MIN),
        };
        let args = ScoreArgs {
            lut: &self.lut,
            codes,
            factors,
            scale,
            delta: self.delta,
            bias: self.bias,
            base: term.q_to_centroid,
            err: multiplier * distance * scale,
            lut_err: self.lut_err,
            slack: ROUNDING,
            constant: ROUNDING * term.q_to_centroid.abs(),
            floor,
        };
        if stored < BLOCK_ROWS {
            table().score_short(&args, rows, lower, estimate);
        } else {
            let least_of_all = table().score(&args, lower, estimate);
            if rows >= BLOCK_ROWS {
                return least_of_all;
            }
        }
        lower[rows..].fill(f32::INFINITY);
        estimate[rows..].fill(f32::INFINITY);
        least(lower)
    }
}

/// Brings the factors of a short block of `rows` rows to the columns of a whole one.
fn spread<'a>(factors: &[u8], rows: usize, columns: &'a mut [u8; BLOCK_ROWS * FACTOR_BYTES]) -> &'a [u8] {
    let mut from = factors;
    for (column, size) in [(0, 4), (BLOCK_ROWS * 4, 2), (BLOCK_ROWS * 6, 2)] {
        let (values, rest) = from.split_at(rows * size);
        columns[column..column + values.len()].copy_from_slice(values);
        from = rest;
    }
    columns
}

/// The least of N values that is a number, N a multiple of eight.
pub(super) fn least<const N: usize>(values: &[f32; N]) -> f32 {
    const { assert!(N.is_multiple_of(8)) };
    // Eight at a time, so that the compiler may use vectors.
    let mut least = [f32::INFINITY; 8];
    for values in values.chunks_exact(8) {
        for (least, value) in least.iter_mut().zip(values) {
            *least = if *value < *least { *value } else { *least };
        }
    }
    least.into_iter().fold(f32::INFINITY, f32::min)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::kernels::all;
    use crate::math::random::Random;

    /// With these factors the estimate is the integer sum itself, so any difference between two sets shows.
    #[test]
    fn integer_sums_are_the_same_in_every_kernel_set() {
        let mut random = Random::new(b"sums");
        for p in [64, 128, 384, 960, 1536, 4096, 4160, 8192, 16000] {
            for extreme in [false, true] {
                let mut byte = || if extreme { 255 } else { random.next() as u8 };
                let lut: Vec<u8> = (0..p * 4).map(|_| byte() / 2).collect();
                let codes: Vec<u8> = (0..p * 4).map(|_| byte()).collect();
                let mut factors = vec![0u8; BLOCK_ROWS * FACTOR_BYTES];
                for rescale in factors[128..192].chunks_exact_mut(2) {
                    rescale.copy_from_slice(&f16::from_f32(-1.0).to_le_bytes());
                }
                let args = ScoreArgs {
                    lut: &lut,
                    codes: &codes,
                    factors: &factors,
                    scale: 1.0,
                    delta: 1.0,
                    bias: 0.0,
                    base: 0.0,
                    err: 0.0,
                    lut_err: 0.0,
                    slack: 0.0,
                    constant: 0.0,
                    floor: 0.0,
                };
                let mut want = [0u32; BLOCK_ROWS];
                for (table, codes) in lut.chunks_exact(16).zip(codes.chunks_exact(16)) {
                    for row in 0..BLOCK_ROWS {
                        let nibble = codes[row % 16] >> (row / 16 * 4) & 15;
                        want[row] += u32::from(table[usize::from(nibble)]);
                    }
                }
                for set in all() {
                    let (mut lower, mut estimate) = ([0f32; BLOCK_ROWS], [0f32; BLOCK_ROWS]);
                    let min = set.score(&args, &mut lower, &mut estimate);
                    assert_eq!(min, least(&lower));
                    assert_eq!(estimate.map(|x| x as u32), want, "{} {p}", set.name);
                    assert_eq!(lower, estimate, "{} {p}", set.name);
                }
                for rows in [1, 2, 7, 15, 16] {
                    let codes = &codes[..p / 8 * rows];
                    let mut want = [0; SHORT_ROWS];
                    for (column, tables) in codes.chunks_exact(rows).zip(lut.chunks_exact(32)) {
                        for (want, byte) in want.iter_mut().zip(column) {
                            *want += u32::from(tables[usize::from(byte & 15)]);
                            *want += u32::from(tables[16 + usize::from(byte >> 4)]);
                        }
                    }
                    for set in all() {
                        let (mut lower, mut estimate) = ([0f32; BLOCK_ROWS], [0f32; BLOCK_ROWS]);
                        set.score_short(&ScoreArgs { codes, ..args }, rows, &mut lower, &mut estimate);
                        assert_eq!(estimate.map(|x| x as u32)[..rows], want[..rows], "{} {p} {rows}", set.name);
                        assert_eq!(lower[..rows], estimate[..rows], "{} {p} {rows}", set.name);
                    }
                }
            }
        }
    }

    #[test]
    fn residuals_are_the_same_in_every_kernel_set() {
        let mut random = Random::new(b"residuals");
        for p in [64, 384, 1536] {
            let centroid: Vec<f32> = (0..p).map(|_| random.normal()).collect();
            for size in [0.0, 1e-3, 1e15] {
                let row: Vec<f32> = centroid.iter().map(|c| c + size * random.normal()).collect();
                let r: Vec<f64> = row.iter().zip(&centroid).map(|(x, c)| f64::from(*x) - f64::from(*c)).collect();
                let mut want = vec![0; p / 4];
                let portable = all()[0].residual(&centroid, &row, &mut want);
                let near = |a: f64, b: f64| (a - b).abs() <= 1e-12 * p as f64 * (a.abs() + 1.0);
                assert!(near(portable.l1, r.iter().map(|r| r.abs()).sum()));
                assert!(near(portable.norm_squared, r.iter().map(|r| r * r).sum()));
                let signed =
                    r.iter().zip(&centroid).map(|(r, c)| if *r >= 0.0 { f64::from(*c) } else { -f64::from(*c) });
                assert!(near(portable.signed_centroid, signed.sum()));
                for (i, r) in r.iter().enumerate() {
                    assert_eq!(want[i / 4] >> (i % 4) & 1 == 1, *r >= 0.0, "{i}: {r}");
                }
                for set in all() {
                    let mut signs = vec![0; p / 4];
                    assert_eq!(set.residual(&centroid, &row, &mut signs), portable, "{} {p}", set.name);
                    assert_eq!(signs, want, "{} {p}", set.name);
                }
            }
        }
    }

    #[test]
    fn tables_are_the_same_in_every_kernel_set() {
        let mut random = Random::new(b"tables");
        for p in [64, 384, 1536] {
            for size in [0.0, 1e-20, 1.0, 1e15] {
                let rotated: Vec<f32> = (0..p).map(|_| size * random.normal()).collect();
                let mut want = vec![0u8; p * 4];
                let portable = all()[0].table(&rotated, &mut want);
                for code in 0..4 {
                    let entry = |g: usize| (g * 7 + code * 5) % 16;
                    let sum: f64 = (0..p / 4).map(|g| f64::from(want[g * 16 + entry(g)])).sum();
                    let signed = |g: usize, j: usize| {
                        if entry(g) >> j & 1 == 1 { rotated[g * 4 + j] } else { -rotated[g * 4 + j] }
                    };
                    let exact: f64 = (0..p / 4)
                        .flat_map(|g| (0..4).map(move |j| (g, j)))
                        .map(|(g, j)| f64::from(signed(g, j)))
                        .sum();
                    let off = (sum * f64::from(portable.delta) + f64::from(portable.bias) - exact).abs();
                    assert!(off <= f64::from((portable.worst + 0.01) * portable.delta), "{p} {size}: {off}");
                }
                for set in all() {
                    let mut got = vec![0u8; p * 4];
                    let made = set.table(&rotated, &mut got);
                    // A fused multiply-add may round an entry the other way.
                    assert!(got.iter().zip(&want).all(|(a, b)| a.abs_diff(*b) <= 1 && *a <= 127), "{} {p}", set.name);
                    assert!((made.worst - portable.worst).abs() <= 0.01 * portable.worst.max(1.0), "{}", set.name);
                    assert_eq!((made.delta, made.bias), (portable.delta, portable.bias), "{}", set.name);
                }
            }
        }
    }

    #[test]
    fn bounds_and_estimates_agree_in_every_kernel_set() {
        let mut random = Random::new(b"agree");
        for dims in [3, 65, 384, 1536, 4200] {
            let (rotation, layout) = (Rotation::new(dims, [1; 32]), BlockLayout::new(dims));
            let mut vector = || {
                let mut out = vec![0f32; layout.padded()];
                rotation.apply(&(0..dims).map(|_| random.normal()).collect::<Vec<_>>(), &mut out);
                out
            };
            let centroid = vector();
            let rows: Vec<f32> = (0..BLOCK_ROWS).flat_map(|_| vector()).collect();
            let mut block = vec![0u8; layout.block_bytes(BLOCK_ROWS)];
            encode_block(&layout, Metric::L2, &centroid, &rows, &mut block);
            let (codes, rest) = block.split_at(layout.padded * 4);
            let lut: Vec<u8> = (0..layout.padded * 4).map(|i| (i * 37 % 128) as u8).collect();
            let args = ScoreArgs {
                lut: &lut,
                codes,
                factors: &rest[..256],
                scale: 0.75,
                delta: 0.01,
                bias: -3.5,
                base: 9.0,
                err: 1.5,
                lut_err: 0.02,
                slack: 0.01,
                constant: 0.5,
                floor: 0.0,
            };
            let (mut lower, mut estimate) = ([0f32; BLOCK_ROWS], [0f32; BLOCK_ROWS]);
            all()[0].score(&args, &mut lower, &mut estimate);
            for set in all() {
                let (mut low, mut value) = ([0f32; BLOCK_ROWS], [0f32; BLOCK_ROWS]);
                set.score(&args, &mut low, &mut value);
                for (got, want) in low.iter().chain(&value).zip(lower.iter().chain(&estimate)) {
                    assert!(
                        (got - want).abs() <= 1e-4 * (1.0 + want.abs()),
                        "{} {dims}: {got} is not {want}",
                        set.name
                    );
                }
            }
        }
    }
}
