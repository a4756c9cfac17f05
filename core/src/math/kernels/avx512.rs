//! Kernels for x86-64 with AVX-512 F, BW, DQ and VL beside AVX2: 16 floats or 64 bytes at a time.

use std::arch::x86_64::*;

use super::{Kernels, PANEL, QueryTable, Residual, ScoreArgs, TILE_POINTS, avx2, portable};
use crate::math::code::BLOCK_ROWS;

/// All of these were detected before this set is used.
pub(super) fn detected() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && avx2::detected()
}

pub(super) static KERNELS: Kernels = Kernels {
    name: "avx512",
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
    short_sums: avx2::short_sums,
    finish: avx2::finish,
    tile,
};

/// Defines a comparison of `q` with stored elements: `$load` reads 16 of them, `$load_some` the masked rest as zeros.
macro_rules! compare {
    ($name:ident, $stored:ty, $bytes:expr, $load:ident, $load_some:ident, $difference:expr) => {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
        fn $name(q: &[f32], x: &[$stored]) -> f32 {
            let (n, q, x) = (q.len(), q.as_ptr(), x.as_ptr().cast::<u8>());
            let step = |at: usize, sum: __m512| {
                // SAFETY: the caller gave as many stored elements as `q` has, and at + 16 <= n.
                let (a, b) = unsafe { (_mm512_loadu_ps(q.add(at)), $load(x.add(at * $bytes))) };
                let a = if $difference { _mm512_sub_ps(a, b) } else { a };
                _mm512_fmadd_ps(a, if $difference { a } else { b }, sum)
            };
            let mut sums = [_mm512_setzero_ps(); 4];
            let mut at = 0;
            while at + 64 <= n {
                sums[0] = step(at, sums[0]);
                sums[1] = step(at + 16, sums[1]);
                sums[2] = step(at + 32, sums[2]);
                sums[3] = step(at + 48, sums[3]);
                at += 64;
            }
            while at + 16 <= n {
                sums[0] = step(at, sums[0]);
                at += 16;
            }
            if at < n {
                let mask = (1u16 << (n - at)) - 1;
                // SAFETY: the mask keeps both loads to the n - at elements that are left.
                let (a, b) = unsafe { (_mm512_maskz_loadu_ps(mask, q.add(at)), $load_some(mask, x.add(at * $bytes))) };
                let a = if $difference { _mm512_sub_ps(a, b) } else { a };
                sums[1] = _mm512_fmadd_ps(a, if $difference { a } else { b }, sums[1]);
            }
            let sum = _mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3]));
            _mm512_reduce_add_ps(sum)
        }
    };
}

compare!(l2_squared, f32, 4, load_f32, load_some_f32, true);
compare!(dot, f32, 4, load_f32, load_some_f32, false);
compare!(l2_squared_f32le, u8, 4, load_f32, load_some_f32, true);
compare!(dot_f32le, u8, 4, load_f32, load_some_f32, false);
compare!(l2_squared_f16le, u8, 2, load_f16, load_some_f16, true);
compare!(dot_f16le, u8, 2, load_f16, load_some_f16, false);

/// Defines a comparison of `q` with many rows, four at a time: the scan of all centroids reads each part of `q` once
/// for four rows.
macro_rules! compare_many {
    ($name:ident, $stored:ty, $bytes:expr, $width:expr, $load_some:ident, $one:ident, $difference:expr) => {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
        fn $name(q: &[f32], rows: &[$stored], out: &mut [f32]) {
            let dims = q.len();
            let length = dims * $width; // of a row, in elements of `rows`
            let fours = out.len() / 4 * 4;
            for (rows, out) in rows.chunks_exact(length * 4).zip(out.chunks_exact_mut(4)) {
                let rows = rows.as_ptr().cast::<u8>();
                let mut sums = [_mm512_setzero_ps(); 4];
                for at in (0..dims).step_by(16) {
                    let mask = (0xFFFFu32 >> (16 - (dims - at).min(16))) as u16;
                    // SAFETY: the mask keeps the loads to the elements of a row that are left, and there are four rows.
                    unsafe {
                        let a = _mm512_maskz_loadu_ps(mask, q.as_ptr().add(at));
                        for (row, sum) in sums.iter_mut().enumerate() {
                            let b = $load_some(mask, rows.add((row * dims + at) * $bytes));
                            let a = if $difference { _mm512_sub_ps(a, b) } else { a };
                            *sum = _mm512_fmadd_ps(a, if $difference { a } else { b }, *sum);
                        }
                    }
                }
                for (out, sum) in out.iter_mut().zip(sums) {
                    *out = _mm512_reduce_add_ps(sum);
                }
            }
            for (row, out) in rows[fours * length..].chunks_exact(length).zip(&mut out[fours..]) {
                *out = $one(q, row);
            }
        }
    };
}

compare_many!(l2_squared_many, f32, 4, 1, load_some_f32, l2_squared, true);
compare_many!(dot_many, f32, 4, 1, load_some_f32, dot, false);
compare_many!(l2_squared_many_f16le, u8, 2, 2, load_some_f16, l2_squared_f16le, true);
compare_many!(dot_many_f16le, u8, 2, 2, load_some_f16, dot_f16le, false);

/// Caller: 64 bytes can be read at `x`. x86 is little-endian, and the load needs no alignment.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load_f32(x: *const u8) -> __m512 {
    // SAFETY: the caller's promise.
    unsafe { _mm512_loadu_ps(x.cast()) }
}

/// Caller: 4 bytes can be read at `x` for each bit of `mask`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load_some_f32(mask: u16, x: *const u8) -> __m512 {
    // SAFETY: the caller's promise.
    unsafe { _mm512_maskz_loadu_ps(mask, x.cast()) }
}

/// Caller: 32 bytes can be read at `x`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load_f16(x: *const u8) -> __m512 {
    // SAFETY: the caller's promise.
    unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(x.cast())) }
}

/// Caller: 2 bytes can be read at `x` for each bit of `mask`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn load_some_f16(mask: u16, x: *const u8) -> __m512 {
    // SAFETY: the caller's promise.
    unsafe { _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, x.cast())) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn encode_f16(x: &[f32], out: &mut [u8]) {
    for (x, out) in x.chunks(16).zip(out.chunks_mut(32)) {
        let mask = (0xFFFFu32 >> (16 - x.len())) as u16;
        // SAFETY: the mask has a bit for each element of the chunk, which has two bytes in `out`.
        unsafe {
            let x = _mm512_maskz_loadu_ps(mask, x.as_ptr());
            let halves = _mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x);
            _mm256_mask_storeu_epi16(out.as_mut_ptr().cast(), mask, halves);
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn decode_f16(bytes: &[u8], out: &mut [f32]) {
    for (bytes, out) in bytes.chunks(32).zip(out.chunks_mut(16)) {
        let mask = (0xFFFFu32 >> (16 - out.len())) as u16;
        // SAFETY: the mask has a bit for each element of the chunk, which has two bytes in `bytes`.
        unsafe { _mm512_mask_storeu_ps(out.as_mut_ptr(), mask, load_some_f16(mask, bytes.as_ptr())) };
    }
}

// The loops of these three are simple enough for the compiler, given the instructions.

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
fn table(rotated: &[f32], lut: &mut [u8]) -> QueryTable {
    portable::table(rotated, lut)
}

#[target_feature(enable = "avx512f,avx512dq")]
fn flip(x: &mut [f32], flips: &[u32]) {
    portable::flip(x, flips);
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn residual(centroid: &[f32], row: &[f32], signs: &mut [u8]) -> Residual {
    portable::residual(centroid, row, signs)
}

#[target_feature(enable = "avx512f")]
fn halves(x: &mut [f32]) {
    portable::halves(x);
}

#[target_feature(enable = "avx512f,avx512dq")]
fn hadamard(x: &mut [f32], scale: f32) {
    // Up to 256 elements fit the registers; longer transforms are made of those and of passes over memory.
    match x.len() {
        64 => hadamard_registers::<4>(x, scale),
        128 => hadamard_registers::<8>(x, scale),
        len => {
            for part in x.chunks_exact_mut(256) {
                hadamard_registers::<16>(part, scale);
            }
            let mut half = 256;
            while half < len {
                for pair in x.chunks_exact_mut(half * 2) {
                    let (low, high) = pair.split_at_mut(half);
                    for (a, b) in low.iter_mut().zip(high) {
                        (*a, *b) = (*a + *b, *a - *b);
                    }
                }
                half *= 2;
            }
        }
    }
}

/// Scaled transform of 16 N elements.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn hadamard_registers<const N: usize>(x: &mut [f32], scale: f32) {
    assert_eq!(x.len(), 16 * N);
    let scale = _mm512_set1_ps(scale);
    // Plus for the lanes that take a sum, minus for those that take a difference.
    let signs = |half: u16| {
        let minus = match half {
            1 => 0xAAAA,
            2 => 0xCCCC,
            4 => 0xF0F0,
            _ => 0xFF00,
        };
        _mm512_mask_blend_ps(minus, _mm512_set1_ps(1.0), _mm512_set1_ps(-1.0))
    };
    let (one, two, four, eight) = (signs(1), signs(2), signs(4), signs(8));
    let mut v = [_mm512_setzero_ps(); N];
    for (i, v) in v.iter_mut().enumerate() {
        // SAFETY: x has 16 N elements.
        let y = _mm512_mul_ps(unsafe { _mm512_loadu_ps(x.as_ptr().add(16 * i)) }, scale);
        let y = _mm512_fmadd_ps(y, one, _mm512_permute_ps::<0b10_11_00_01>(y));
        let y = _mm512_fmadd_ps(y, two, _mm512_permute_ps::<0b01_00_11_10>(y));
        let y = _mm512_fmadd_ps(y, four, _mm512_shuffle_f32x4::<0b10_11_00_01>(y, y));
        *v = _mm512_fmadd_ps(y, eight, _mm512_shuffle_f32x4::<0b01_00_11_10>(y, y));
    }
    let mut half = 1;
    while half < N {
        for i in 0..N {
            if i & half == 0 {
                let (a, b) = (v[i], v[i + half]);
                v[i] = _mm512_add_ps(a, b);
                v[i + half] = _mm512_sub_ps(a, b);
            }
        }
        half *= 2;
    }
    for (i, v) in v.iter().enumerate() {
        // SAFETY: x has 16 N elements.
        unsafe { _mm512_storeu_ps(x.as_mut_ptr().add(16 * i), *v) };
    }
}

/// Sums of rows 0..16 and 16..32 from accumulators whose 16-bit lanes hold (even row + 256 odd row) and (odd row) of
/// the first 16 rows, then of the last, for four groups. Their four lanes together must fit 16 bits.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn widen(acc: [__m512i; 4]) -> [__m512i; 2] {
    let even = |both, odd| _mm512_sub_epi16(both, _mm512_slli_epi16::<8>(odd));
    let (a, b, c, d) = (even(acc[0], acc[1]), acc[1], even(acc[2], acc[3]), acc[3]);
    // Adds the four 128-bit lanes of each: [a, b, c, d].
    let halves = |x, y| {
        _mm512_add_epi16(_mm512_shuffle_i32x4::<0b01_00_01_00>(x, y), _mm512_shuffle_i32x4::<0b11_10_11_10>(x, y))
    };
    let (ab, cd) = (halves(a, b), halves(c, d));
    let all =
        _mm512_add_epi16(_mm512_shuffle_i32x4::<0b10_00_10_00>(ab, cd), _mm512_shuffle_i32x4::<0b11_01_11_01>(ab, cd));
    // Lane 0 has the even rows of the first half, lane 1 the odd ones: zip them.
    let zip = _mm512_set_epi16(
        31, 23, 30, 22, 29, 21, 28, 20, 27, 19, 26, 18, 25, 17, 24, 16, 15, 7, 14, 6, 13, 5, 12, 4, 11, 3, 10, 2, 9, 1,
        8, 0,
    );
    let rows = _mm512_permutexvar_epi16(zip, all);
    [_mm512_cvtepu16_epi32(_mm512_castsi512_si256(rows)), _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64::<1>(rows))]
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
fn score(args: &ScoreArgs<'_>, lower: &mut [f32; BLOCK_ROWS], estimate: &mut [f32; BLOCK_ROWS]) -> f32 {
    let nibble = _mm512_set1_epi8(15);
    let mut sums = [_mm512_setzero_si512(); 2];
    // Two entries of at most 127 add up in a byte. 64 steps put 64 such sums in each 16-bit lane, 256 in the sum of the
    // four lanes: at most 65,024.
    for (lut, codes) in args.lut.chunks(128 * 64).zip(args.codes.chunks(128 * 64)) {
        let mut acc = [_mm512_setzero_si512(); 4];
        for (lut, codes) in lut.chunks_exact(128).zip(codes.chunks_exact(128)) {
            let look_up = |at: usize| {
                // SAFETY: both chunks have 128 bytes and at is 0 or 64.
                let (lut, codes) = unsafe {
                    (_mm512_loadu_si512(lut.as_ptr().add(at).cast()), _mm512_loadu_si512(codes.as_ptr().add(at).cast()))
                };
                let high = _mm512_and_si512(_mm512_srli_epi16::<4>(codes), nibble);
                (_mm512_shuffle_epi8(lut, _mm512_and_si512(codes, nibble)), _mm512_shuffle_epi8(lut, high))
            };
            let ((a, b), (c, d)) = (look_up(0), look_up(64));
            let (first, last) = (_mm512_add_epi8(a, c), _mm512_add_epi8(b, d));
            acc[0] = _mm512_add_epi16(acc[0], first);
            acc[1] = _mm512_add_epi16(acc[1], _mm512_srli_epi16::<8>(first));
            acc[2] = _mm512_add_epi16(acc[2], last);
            acc[3] = _mm512_add_epi16(acc[3], _mm512_srli_epi16::<8>(last));
        }
        let [first, last] = widen(acc);
        sums = [_mm512_add_epi32(sums[0], first), _mm512_add_epi32(sums[1], last)];
    }

    let all = |x: f32| _mm512_set1_ps(x);
    let mut least = all(f32::INFINITY);
    for (half, sums) in sums.into_iter().enumerate() {
        let at = args.factors.as_ptr();
        // SAFETY: the factors are 32 f32 and twice 32 f16; this reads the 16 of each that belong to this half.
        let (add, rescale, error) = unsafe {
            (load_f32(at.add(half * 64)), load_f16(at.add(128 + half * 32)), load_f16(at.add(192 + half * 32)))
        };
        let rescale = _mm512_mul_ps(rescale, all(args.scale));
        let inner = _mm512_fmadd_ps(all(args.delta), _mm512_cvtepi32_ps(sums), all(args.bias));
        let value = _mm512_fnmadd_ps(rescale, inner, _mm512_add_ps(all(args.base), add));
        let bound = _mm512_fnmadd_ps(all(args.err), error, _mm512_sub_ps(value, all(args.constant)));
        let bound = _mm512_fnmadd_ps(all(args.lut_err), rescale, bound);
        let bound = _mm512_fnmadd_ps(all(args.slack), _mm512_abs_ps(add), bound);
        let floor = all(args.floor);
        // The second operand wins over a NaN in the first: what overflowed is bounded by the floor.
        let (bound, value) = (_mm512_max_ps(bound, floor), _mm512_max_ps(value, floor));
        // SAFETY: both outputs have 32 elements.
        unsafe {
            _mm512_storeu_ps(lower.as_mut_ptr().add(half * 16), bound);
            _mm512_storeu_ps(estimate.as_mut_ptr().add(half * 16), value);
        }
        least = _mm512_min_ps(least, bound);
    }
    _mm512_reduce_min_ps(least)
}

#[target_feature(enable = "avx512f,fma")]
fn tile(points: &[&[f32]; TILE_POINTS], panel: &[f32], out: &mut [f32; TILE_POINTS * PANEL]) {
    let mut acc = [[_mm512_setzero_ps(); 2]; TILE_POINTS];
    for (d, panel) in panel.chunks_exact(PANEL).enumerate() {
        // SAFETY: the chunk has 32 elements.
        let (low, high) = unsafe { (_mm512_loadu_ps(panel.as_ptr()), _mm512_loadu_ps(panel.as_ptr().add(16))) };
        for (point, acc) in points.iter().zip(&mut acc) {
            // SAFETY: each point has an element for each chunk of the panel.
            let point = _mm512_set1_ps(unsafe { *point.get_unchecked(d) });
            acc[0] = _mm512_fmadd_ps(point, low, acc[0]);
            acc[1] = _mm512_fmadd_ps(point, high, acc[1]);
        }
    }
    for (out, acc) in out.chunks_exact_mut(PANEL).zip(acc) {
        // SAFETY: the chunk has 32 elements.
        unsafe {
            _mm512_storeu_ps(out.as_mut_ptr(), acc[0]);
            _mm512_storeu_ps(out.as_mut_ptr().add(16), acc[1]);
        }
    }
}
