//! Kernels for x86-64 with AVX2, FMA and F16C: 8 floats or 32 bytes at a time.

use std::arch::x86_64::*;

use super::{Kernels, PANEL, QueryTable, Residual, ScoreArgs, TILE_POINTS, portable};
use crate::math::code::BLOCK_ROWS;

/// All of these were detected before this set is used.
pub(super) fn detected() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
}

pub(super) static KERNELS: Kernels = Kernels {
    name: "avx2",
    l2_squared,
    dot,
    l2_squared_f32le,
    dot_f32le,
    l2_squared_f16le,
    dot_f16le,
    l2_squared_many,
    dot_many,
    l2_squared_many_f16le,
    dot_many_f16le,
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

/// Defines a comparison of `q` with stored elements: `$load` reads 8 of them, `$one` a single one.
macro_rules! compare {
    ($name:ident, $stored:ty, $bytes:expr, $load:ident, $one:expr, $difference:expr) => {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn $name(q: &[f32], x: &[$stored]) -> f32 {
            let (n, pointer) = (q.len(), x.as_ptr().cast::<u8>());
            let step = |at: usize, sum: __m256| {
                // SAFETY: the caller gave as many stored elements as `q` has, and at + 8 <= n.
                let (a, b) = unsafe { (_mm256_loadu_ps(q.as_ptr().add(at)), $load(pointer.add(at * $bytes))) };
                let a = if $difference { _mm256_sub_ps(a, b) } else { a };
                _mm256_fmadd_ps(a, if $difference { a } else { b }, sum)
            };
            let mut sums = [_mm256_setzero_ps(); 4];
            let mut at = 0;
            while at + 32 <= n {
                sums[0] = step(at, sums[0]);
                sums[1] = step(at + 8, sums[1]);
                sums[2] = step(at + 16, sums[2]);
                sums[3] = step(at + 24, sums[3]);
                at += 32;
            }
            while at + 8 <= n {
                sums[0] = step(at, sums[0]);
                at += 8;
            }
            let mut tail = 0f32;
            for i in at..n {
                let (a, b): (f32, f32) = (q[i], $one(x, i));
                tail += if $difference { (a - b) * (a - b) } else { a * b };
            }
            tail + reduce(_mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3])))
        }
    };
}

compare!(l2_squared, f32, 4, load_f32, |x: &[f32], i: usize| x[i], true);
compare!(dot, f32, 4, load_f32, |x: &[f32], i: usize| x[i], false);
compare!(l2_squared_f32le, u8, 4, load_f32, portable::f32_at, true);
compare!(dot_f32le, u8, 4, load_f32, portable::f32_at, false);
compare!(l2_squared_f16le, u8, 2, load_f16, portable::f16_at, true);
compare!(dot_f16le, u8, 2, load_f16, portable::f16_at, false);

#[target_feature(enable = "avx2,fma,f16c")]
fn l2_squared_many(q: &[f32], rows: &[f32], out: &mut [f32]) {
    for (row, out) in rows.chunks_exact(q.len()).zip(out) {
        *out = l2_squared(q, row);
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn dot_many(q: &[f32], rows: &[f32], out: &mut [f32]) {
    for (row, out) in rows.chunks_exact(q.len()).zip(out) {
        *out = dot(q, row);
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn l2_squared_many_f16le(q: &[f32], rows: &[u8], out: &mut [f32]) {
    for (row, out) in rows.chunks_exact(q.len() * 2).zip(out) {
        *out = l2_squared_f16le(q, row);
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn dot_many_f16le(q: &[f32], rows: &[u8], out: &mut [f32]) {
    for (row, out) in rows.chunks_exact(q.len() * 2).zip(out) {
        *out = dot_f16le(q, row);
    }
}

/// Caller: 32 bytes can be read at `x`. x86 is little-endian, and the load needs no alignment.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load_f32(x: *const u8) -> __m256 {
    // SAFETY: the caller's promise.
    unsafe { _mm256_loadu_ps(x.cast()) }
}

/// Caller: 16 bytes can be read at `x`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn load_f16(x: *const u8) -> __m256 {
    // SAFETY: the caller's promise.
    unsafe { _mm256_cvtph_ps(_mm_loadu_si128(x.cast())) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn reduce(x: __m256) -> f32 {
    let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
}

#[target_feature(enable = "avx2,f16c")]
fn encode_f16(x: &[f32], out: &mut [u8]) {
    let whole = x.len() / 8 * 8;
    for (x, out) in x.chunks_exact(8).zip(out.chunks_exact_mut(16)) {
        // SAFETY: eight floats become 16 bytes.
        unsafe {
            let halves = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm256_loadu_ps(x.as_ptr()));
            _mm_storeu_si128(out.as_mut_ptr().cast(), halves);
        }
    }
    portable::encode_f16(&x[whole..], &mut out[whole * 2..]);
}

#[target_feature(enable = "avx2,f16c")]
fn decode_f16(bytes: &[u8], out: &mut [f32]) {
    let whole = out.len() / 8 * 8;
    for (bytes, out) in bytes.chunks_exact(16).zip(out.chunks_exact_mut(8)) {
        // SAFETY: 16 bytes become eight floats.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), load_f16(bytes.as_ptr())) };
    }
    portable::decode_f16(&bytes[whole * 2..], &mut out[whole..]);
}

// The loops of these three are simple enough for the compiler, given the instructions.

#[target_feature(enable = "avx2,fma")]
fn table(rotated: &[f32], lut: &mut [u8]) -> QueryTable {
    portable::table(rotated, lut)
}

#[target_feature(enable = "avx2")]
fn flip(x: &mut [f32], flips: &[u32]) {
    portable::flip(x, flips);
}

#[target_feature(enable = "avx2")]
fn residual(centroid: &[f32], row: &[f32], signs: &mut [u8]) -> Residual {
    portable::residual(centroid, row, signs)
}

#[target_feature(enable = "avx2")]
fn halves(x: &mut [f32]) {
    portable::halves(x);
}

#[target_feature(enable = "avx2,fma")]
fn hadamard(x: &mut [f32], scale: f32) {
    for part in x.chunks_exact_mut(64) {
        hadamard_64(part, scale);
    }
    let mut half = 64;
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

/// Scaled transform of 64 elements in eight registers.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn hadamard_64(x: &mut [f32], scale: f32) {
    assert_eq!(x.len(), 64);
    let scale = _mm256_set1_ps(scale);
    // Plus for the lanes that take a sum, minus for those that take a difference.
    let one = _mm256_setr_ps(1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0);
    let two = _mm256_setr_ps(1.0, 1.0, -1.0, -1.0, 1.0, 1.0, -1.0, -1.0);
    let four = _mm256_setr_ps(1.0, 1.0, 1.0, 1.0, -1.0, -1.0, -1.0, -1.0);
    let mut v = [_mm256_setzero_ps(); 8];
    for (i, v) in v.iter_mut().enumerate() {
        // SAFETY: x has 64 elements.
        let y = _mm256_mul_ps(unsafe { _mm256_loadu_ps(x.as_ptr().add(8 * i)) }, scale);
        let y = _mm256_fmadd_ps(y, one, _mm256_permute_ps::<0b10_11_00_01>(y));
        let y = _mm256_fmadd_ps(y, two, _mm256_permute_ps::<0b01_00_11_10>(y));
        *v = _mm256_fmadd_ps(y, four, _mm256_permute2f128_ps::<1>(y, y));
    }
    for half in [1, 2, 4] {
        for i in 0..8 {
            if i & half == 0 {
                let (a, b) = (v[i], v[i + half]);
                v[i] = _mm256_add_ps(a, b);
                v[i + half] = _mm256_sub_ps(a, b);
            }
        }
    }
    for (i, v) in v.iter().enumerate() {
        // SAFETY: x has 64 elements.
        unsafe { _mm256_storeu_ps(x.as_mut_ptr().add(8 * i), *v) };
    }
}

/// Sums of rows 0..8 and 8..16 from accumulators whose 16-bit lanes hold (even row + 256 odd row) and (odd row), for
/// two groups.
#[inline]
#[target_feature(enable = "avx2")]
fn widen(both: __m256i, odd: __m256i) -> [__m256i; 2] {
    let even = _mm256_sub_epi16(both, _mm256_slli_epi16::<8>(odd));
    [_mm256_unpacklo_epi16(even, odd), _mm256_unpackhi_epi16(even, odd)].map(|v| {
        let low = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(v));
        _mm256_add_epi32(low, _mm256_cvtepu16_epi32(_mm256_extracti128_si256::<1>(v)))
    })
}

#[target_feature(enable = "avx2,fma,f16c")]
fn score(args: &ScoreArgs<'_>, lower: &mut [f32; BLOCK_ROWS], estimate: &mut [f32; BLOCK_ROWS]) -> f32 {
    let nibble = _mm256_set1_epi8(15);
    let mut sums = [_mm256_setzero_si256(); 4];
    // Two entries of at most 127 add up in a byte; a 16-bit lane takes one such sum for each 64-byte step.
    for (lut, codes) in args.lut.chunks(64 * 256).zip(args.codes.chunks(64 * 256)) {
        let mut acc = [_mm256_setzero_si256(); 4];
        for (lut, codes) in lut.chunks_exact(64).zip(codes.chunks_exact(64)) {
            let look_up = |at: usize| {
                // SAFETY: both chunks have 64 bytes and at is 0 or 32.
                let (lut, codes) = unsafe {
                    (_mm256_loadu_si256(lut.as_ptr().add(at).cast()), _mm256_loadu_si256(codes.as_ptr().add(at).cast()))
                };
                let high = _mm256_and_si256(_mm256_srli_epi16::<4>(codes), nibble);
                (_mm256_shuffle_epi8(lut, _mm256_and_si256(codes, nibble)), _mm256_shuffle_epi8(lut, high))
            };
            let ((a, b), (c, d)) = (look_up(0), look_up(32));
            let (first, last) = (_mm256_add_epi8(a, c), _mm256_add_epi8(b, d));
            acc[0] = _mm256_add_epi16(acc[0], first);
            acc[1] = _mm256_add_epi16(acc[1], _mm256_srli_epi16::<8>(first));
            acc[2] = _mm256_add_epi16(acc[2], last);
            acc[3] = _mm256_add_epi16(acc[3], _mm256_srli_epi16::<8>(last));
        }
        let [a, b] = widen(acc[0], acc[1]);
        let [c, d] = widen(acc[2], acc[3]);
        for (sum, more) in sums.iter_mut().zip([a, b, c, d]) {
            *sum = _mm256_add_epi32(*sum, more);
        }
    }
    bounds(args, sums, lower, estimate)
}

/// [`Kernels::short_sums`]. A column of codes is 16 bytes at most; what is loaded behind its rows is never used.
#[target_feature(enable = "avx2")]
pub(super) fn short_sums(lut: &[u8], codes: &[u8], rows: usize) -> [u32; BLOCK_ROWS] {
    let (nibble, byte) = (_mm_set1_epi8(15), _mm_set1_epi16(255));
    let mut sums = [0u32; BLOCK_ROWS];
    let mut offset = 0;
    // A 16-bit lane takes the sum of two entries of at most 127 from each column.
    for lut in lut.chunks(32 * 256) {
        let mut even = _mm_setzero_si128();
        let mut odd = _mm_setzero_si128();
        for tables in lut.chunks_exact(32) {
            let column = match codes.get(offset..offset + 16) {
                // SAFETY: the range has 16 bytes.
                Some(column) => unsafe { _mm_loadu_si128(column.as_ptr().cast()) },
                None => {
                    let mut last = [0u8; 16];
                    last[..codes.len() - offset].copy_from_slice(&codes[offset..]);
                    // SAFETY: the array has 16 bytes.
                    unsafe { _mm_loadu_si128(last.as_ptr().cast()) }
                }
            };
            // SAFETY: two tables of 16 bytes.
            let (first, second) =
                unsafe { (_mm_loadu_si128(tables.as_ptr().cast()), _mm_loadu_si128(tables.as_ptr().add(16).cast())) };
            let low = _mm_shuffle_epi8(first, _mm_and_si128(column, nibble));
            let high = _mm_shuffle_epi8(second, _mm_and_si128(_mm_srli_epi16::<4>(column), nibble));
            let both = _mm_add_epi8(low, high);
            even = _mm_add_epi16(even, _mm_and_si128(both, byte));
            odd = _mm_add_epi16(odd, _mm_srli_epi16::<8>(both));
            offset += rows;
        }
        let (mut evens, mut odds) = ([0u16; 8], [0u16; 8]);
        // SAFETY: both arrays have 16 bytes.
        unsafe {
            _mm_storeu_si128(evens.as_mut_ptr().cast(), even);
            _mm_storeu_si128(odds.as_mut_ptr().cast(), odd);
        }
        for (pair, (even, odd)) in sums.chunks_exact_mut(2).zip(evens.into_iter().zip(odds)) {
            pair[0] += u32::from(even);
            pair[1] += u32::from(odd);
        }
    }
    sums
}

/// [`Kernels::finish`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn finish(
    args: &ScoreArgs<'_>,
    sums: &[u32; BLOCK_ROWS],
    lower: &mut [f32; BLOCK_ROWS],
    estimate: &mut [f32; BLOCK_ROWS],
) -> f32 {
    let at = |part: usize| {
        // SAFETY: part is 0 to 3, and there are 32 sums.
        unsafe { _mm256_loadu_si256(sums.as_ptr().add(part * 8).cast()) }
    };
    bounds(args, [at(0), at(1), at(2), at(3)], lower, estimate)
}

/// Bounds and estimates from the sums of 32 rows.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn bounds(
    args: &ScoreArgs<'_>,
    sums: [__m256i; 4],
    lower: &mut [f32; BLOCK_ROWS],
    estimate: &mut [f32; BLOCK_ROWS],
) -> f32 {
    let all = |x: f32| _mm256_set1_ps(x);
    let mut least = all(f32::INFINITY);
    for (part, sums) in sums.into_iter().enumerate() {
        let at = args.factors.as_ptr();
        // SAFETY: the factors are 32 f32 and twice 32 f16; this reads the 8 of each that belong to this part.
        let (add, rescale, error) = unsafe {
            (load_f32(at.add(part * 32)), load_f16(at.add(128 + part * 16)), load_f16(at.add(192 + part * 16)))
        };
        let rescale = _mm256_mul_ps(rescale, all(args.scale));
        let inner = _mm256_fmadd_ps(all(args.delta), _mm256_cvtepi32_ps(sums), all(args.bias));
        let value = _mm256_fnmadd_ps(rescale, inner, _mm256_add_ps(all(args.base), add));
        let bound = _mm256_fnmadd_ps(all(args.err), error, _mm256_sub_ps(value, all(args.constant)));
        let bound = _mm256_fnmadd_ps(all(args.lut_err), rescale, bound);
        let bound = _mm256_fnmadd_ps(all(args.slack), _mm256_andnot_ps(_mm256_set1_ps(-0.0), add), bound);
        let floor = all(args.floor);
        // The second operand wins over a NaN in the first: what overflowed is bounded by the floor.
        let (bound, value) = (_mm256_max_ps(bound, floor), _mm256_max_ps(value, floor));
        // SAFETY: both outputs have 32 elements.
        unsafe {
            _mm256_storeu_ps(lower.as_mut_ptr().add(part * 8), bound);
            _mm256_storeu_ps(estimate.as_mut_ptr().add(part * 8), value);
        }
        least = _mm256_min_ps(least, bound);
    }
    let least = _mm_min_ps(_mm256_castps256_ps128(least), _mm256_extractf128_ps::<1>(least));
    let least = _mm_min_ps(least, _mm_movehl_ps(least, least));
    _mm_cvtss_f32(_mm_min_ss(least, _mm_movehdup_ps(least)))
}

#[target_feature(enable = "avx2,fma")]
fn tile(points: &[&[f32]; TILE_POINTS], panel: &[f32], out: &mut [f32; TILE_POINTS * PANEL]) {
    // Four points by 16 centroids at a time: eight accumulators leave room in 16 registers.
    for point in (0..TILE_POINTS).step_by(4) {
        for column in (0..PANEL).step_by(16) {
            let mut acc = [[_mm256_setzero_ps(); 2]; 4];
            for (d, panel) in panel.chunks_exact(PANEL).enumerate() {
                // SAFETY: the chunk has 32 elements and column is 0 or 16.
                let (low, high) = unsafe {
                    (_mm256_loadu_ps(panel.as_ptr().add(column)), _mm256_loadu_ps(panel.as_ptr().add(column + 8)))
                };
                for (point, acc) in points[point..point + 4].iter().zip(&mut acc) {
                    // SAFETY: each point has an element for each chunk of the panel.
                    let point = _mm256_set1_ps(unsafe { *point.get_unchecked(d) });
                    acc[0] = _mm256_fmadd_ps(point, low, acc[0]);
                    acc[1] = _mm256_fmadd_ps(point, high, acc[1]);
                }
            }
            for (i, acc) in acc.into_iter().enumerate() {
                let at = (point + i) * PANEL + column;
                // SAFETY: at + 16 <= TILE_POINTS * PANEL.
                unsafe {
                    _mm256_storeu_ps(out.as_mut_ptr().add(at), acc[0]);
                    _mm256_storeu_ps(out.as_mut_ptr().add(at + 8), acc[1]);
                }
            }
        }
    }
}
