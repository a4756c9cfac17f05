//! The kernels in plain Rust: the oracle of the others, and what runs where there is no SIMD set.

use half::f16;

use super::{Kernels, PANEL, QueryTable, Residual, ScoreArgs, TILE_POINTS};
use crate::math::code::BLOCK_ROWS;
use crate::math::code::least;

pub(super) static KERNELS: Kernels = Kernels {
    name: "portable",
    l2_squared: |a, b| accumulate(a, |i| b[i], square_of_difference),
    dot: |a, b| accumulate(a, |i| b[i], product),
    l2_squared_f32le: |q, x| accumulate(q, |i| f32_at(x, i), square_of_difference),
    dot_f32le: |q, x| accumulate(q, |i| f32_at(x, i), product),
    l2_squared_f16le: |q, x| accumulate(q, |i| f16_at(x, i), square_of_difference),
    dot_f16le: |q, x| accumulate(q, |i| f16_at(x, i), product),
    l2_squared_many: |q, rows, out| many(q, rows, out, square_of_difference),
    dot_many: |q, rows, out| many(q, rows, out, product),
    l2_squared_many_f16le: |q, rows, out| {
        for (row, out) in rows.chunks_exact(q.len() * 2).zip(out) {
            *out = accumulate(q, |i| f16_at(row, i), square_of_difference);
        }
    },
    dot_many_f16le: |q, rows, out| {
        for (row, out) in rows.chunks_exact(q.len() * 2).zip(out) {
            *out = accumulate(q, |i| f16_at(row, i), product);
        }
    },
    encode_f16,
    decode_f16,
    flip,
    hadamard,
    halves,
    residual,
    table,
    score,
    short_sums,
    finish,
    tile,
};

/// Independent sums, so that the compiler may vectorise what floating point order would forbid.
const LANES: usize = 16;

#[inline(always)]
fn accumulate(q: &[f32], x: impl Fn(usize) -> f32, term: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0f32; LANES];
    let whole = q.len() / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        for lane in 0..LANES {
            sums[lane] += term(q[start + lane], x(start + lane));
        }
    }
    let mut tail = 0f32;
    for (i, q) in q.iter().enumerate().skip(whole) {
        tail += term(*q, x(i));
    }
    sums.iter().sum::<f32>() + tail
}

fn many(q: &[f32], rows: &[f32], out: &mut [f32], term: impl Fn(f32, f32) -> f32) {
    for (row, out) in rows.chunks_exact(q.len()).zip(out) {
        *out = accumulate(q, |i| row[i], &term);
    }
}

#[inline(always)]
fn square_of_difference(a: f32, b: f32) -> f32 {
    (a - b) * (a - b)
}

#[inline(always)]
fn product(a: f32, b: f32) -> f32 {
    a * b
}

#[inline(always)]
pub(super) fn f32_at(bytes: &[u8], i: usize) -> f32 {
    let at = i * 4;
    f32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[inline(always)]
pub(super) fn f16_at(bytes: &[u8], i: usize) -> f32 {
    f16::from_le_bytes([bytes[i * 2], bytes[i * 2 + 1]]).to_f32()
}

pub(super) fn encode_f16(x: &[f32], out: &mut [u8]) {
    for (x, out) in x.iter().zip(out.chunks_exact_mut(2)) {
        out.copy_from_slice(&f16::from_f32(*x).to_le_bytes());
    }
}

pub(super) fn decode_f16(bytes: &[u8], out: &mut [f32]) {
    for (i, out) in out.iter_mut().enumerate() {
        *out = f16_at(bytes, i);
    }
}

#[inline(always)]
pub(super) fn flip(x: &mut [f32], flips: &[u32]) {
    for (x, flip) in x.iter_mut().zip(flips) {
        *x = f32::from_bits(x.to_bits() ^ flip);
    }
}

/// Eight sums side by side in every set, so that all round alike.
#[inline(always)]
pub(super) fn residual(centroid: &[f32], row: &[f32], signs: &mut [u8]) -> Residual {
    const LANES: usize = 8;
    let (mut l1, mut l2, mut signed) = ([0f64; LANES], [0f64; LANES], [0f64; LANES]);
    let steps = row.chunks_exact(LANES).zip(centroid.chunks_exact(LANES)).zip(signs.chunks_exact_mut(2));
    for ((row, centroid), signs) in steps {
        let mut byte = 0;
        for lane in 0..LANES {
            let c = f64::from(centroid[lane]);
            let r = f64::from(row[lane]) - c;
            let is_plus = row[lane] >= centroid[lane];
            byte |= u8::from(is_plus) << lane;
            l1[lane] += r.abs();
            l2[lane] += r * r;
            signed[lane] += if is_plus { c } else { -c };
        }
        signs.copy_from_slice(&[byte & 15, byte >> 4]);
    }
    let [l1, norm_squared, signed_centroid] = [l1, l2, signed].map(|sums| sums.iter().sum());
    Residual { l1, norm_squared, signed_centroid }
}

#[inline(always)]
pub(super) fn halves(x: &mut [f32]) {
    let (low, high) = x.split_at_mut(x.len() / 2);
    for (a, b) in low.iter_mut().zip(high) {
        let (sum, difference) = (*a + *b, *a - *b);
        *a = sum * std::f32::consts::FRAC_1_SQRT_2;
        *b = difference * std::f32::consts::FRAC_1_SQRT_2;
    }
}

fn hadamard(x: &mut [f32], scale: f32) {
    for x in x.iter_mut() {
        *x *= scale;
    }
    let mut half = 1;
    while half < x.len() {
        for pair in x.chunks_exact_mut(half * 2) {
            let (low, high) = pair.split_at_mut(half);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
}

/// Plus or minus one for each dimension of a group and each table entry.
const SIGNS: [[f32; 16]; 4] = {
    let mut signs = [[-1.0; 16]; 4];
    let mut entry = 0;
    while entry < 16 {
        let mut dimension = 0;
        while dimension < 4 {
            if entry >> dimension & 1 == 1 {
                signs[dimension][entry] = 1.0;
            }
            dimension += 1;
        }
        entry += 1;
    }
    signs
};

/// The largest table entry: the sum of two still fits a byte.
pub(super) const LARGEST_ENTRY: f32 = 127.0;

#[inline(always)]
pub(super) fn table(rotated: &[f32], lut: &mut [u8]) -> QueryTable {
    let mut widest = [0f32; 16];
    for groups in rotated.chunks_exact(64) {
        for (i, widest) in widest.iter_mut().enumerate() {
            let sum = (0..4).fold(0.0, |sum, j| sum + groups[i * 4 + j].abs());
            *widest = if sum > *widest { sum } else { *widest };
        }
    }
    let widest = 2.0 * widest.into_iter().fold(0f32, f32::max);
    let delta = if widest > 0.0 { widest / LARGEST_ENTRY } else { 1.0 };
    let per_delta = 1.0 / delta;
    // Adding and subtracting 1.5 * 2^23 rounds to an integer, whose lowest byte is then the sum's.
    const ROUND: f32 = 12_582_912.0;
    let (mut bias, mut worst, mut variance) = (0f64, 0f32, [0f32; 16]);
    for (group, lut) in rotated.chunks_exact(4).zip(lut.chunks_exact_mut(16)) {
        let low = group.iter().fold(0.0, |sum, x| sum + x.abs());
        bias -= f64::from(low);
        let mut largest = [0f32; 16];
        for entry in 0..16 {
            let signed = (0..4).fold(low, |sum, j| sum + SIGNS[j][entry] * group[j]);
            let exact = (signed * per_delta).clamp(0.0, LARGEST_ENTRY);
            let rounded = exact + ROUND;
            lut[entry] = rounded.to_bits() as u8;
            let off = (exact - (rounded - ROUND)).abs();
            largest[entry] = off;
            variance[entry] += off * off;
        }
        worst += largest.into_iter().fold(0f32, |m, x| if x > m { x } else { m });
    }
    QueryTable { delta, bias: bias as f32, worst, variance: variance.iter().sum::<f32>() / 16.0 }
}

/// For each of 32 rows, the sum of the table entries its code selects. Exact in every set.
fn sums(lut: &[u8], codes: &[u8]) -> [u32; BLOCK_ROWS] {
    let mut sums = [0u32; BLOCK_ROWS];
    for (table, codes) in lut.chunks_exact(16).zip(codes.chunks_exact(16)) {
        for (row, byte) in codes.iter().enumerate() {
            sums[row] += u32::from(table[usize::from(byte & 15)]);
            sums[row + 16] += u32::from(table[usize::from(byte >> 4)]);
        }
    }
    sums
}

fn score(args: &ScoreArgs<'_>, lower: &mut [f32; BLOCK_ROWS], estimate: &mut [f32; BLOCK_ROWS]) -> f32 {
    finish(args, &sums(args.lut, args.codes), lower, estimate)
}

/// As [`sums`], of a short block.
fn short_sums(lut: &[u8], codes: &[u8], rows: usize) -> [u32; BLOCK_ROWS] {
    let mut sums = [0u32; BLOCK_ROWS];
    for (tables, column) in lut.chunks_exact(32).zip(codes.chunks_exact(rows)) {
        for (sum, byte) in sums.iter_mut().zip(column) {
            *sum += u32::from(tables[usize::from(byte & 15)]) + u32::from(tables[16 + usize::from(byte >> 4)]);
        }
    }
    sums
}

fn finish(
    args: &ScoreArgs<'_>,
    sums: &[u32; BLOCK_ROWS],
    lower: &mut [f32; BLOCK_ROWS],
    estimate: &mut [f32; BLOCK_ROWS],
) -> f32 {
    let (adds, scaled) = args.factors.split_at(BLOCK_ROWS * 4);
    for row in 0..BLOCK_ROWS {
        let add = f32_at(adds, row);
        let rescale = f16_at(scaled, row) * args.scale;
        let error = f16_at(scaled, BLOCK_ROWS + row);
        let value = args.base + add - rescale * (args.delta * sums[row] as f32 + args.bias);
        let bound = value - args.err * error - args.lut_err * rescale - args.slack * add.abs() - args.constant;
        // `max` drops a NaN: what overflowed is bounded by the floor and so always reranked.
        lower[row] = bound.max(args.floor);
        estimate[row] = value.max(args.floor);
    }
    least(lower)
}

fn tile(points: &[&[f32]; TILE_POINTS], panel: &[f32], out: &mut [f32; TILE_POINTS * PANEL]) {
    out.fill(0.0);
    for (d, panel) in panel.chunks_exact(PANEL).enumerate() {
        for (point, out) in points.iter().zip(out.chunks_exact_mut(PANEL)) {
            for (centroid, out) in panel.iter().zip(out) {
                *out += point[d] * centroid;
            }
        }
    }
}
