//! Distances between vectors in memory and stored little-endian vectors, and the two stored precisions.
//!
//! Lengths must agree; a mismatch is our bug and panics. Stored bytes need no alignment.

use super::kernels::table;

/// Squared Euclidean distance.
pub fn l2_squared(a: &[f32], b: &[f32]) -> f32 {
    table().l2_squared(a, b)
}

/// Inner product.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    table().dot(a, b)
}

/// Sums of squares and products that float32 got right: none below the least was lost, none above became infinite.
const SURE: std::ops::RangeInclusive<f32> = 1e-30..=1e30;

/// Euclidean distance. Summed in float32 as pgvector does, but in f64 where squares vanish or overflow.
pub fn l2(a: &[f32], b: &[f32]) -> f64 {
    let squared = l2_squared(a, b);
    if is_sure(squared) { f64::from(squared).sqrt() } else { l2_squared_wide(pairs(a, b)).sqrt() }
}

/// Inner product. Summed in float32, but in f64 where products vanish or overflow.
pub fn inner_product(a: &[f32], b: &[f32]) -> f64 {
    let product = dot(a, b);
    if is_sure(product) { f64::from(product) } else { dot_wide(pairs(a, b)) }
}

/// Cosine distance, 0 to 2; NaN if either vector is zero. In f64 where float32 loses the squares of a norm.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let sums = [dot(a, b), dot(a, a), dot(b, b)];
    let [product, left, right] = if is_sure(sums[1]) && is_sure(sums[2]) {
        sums.map(f64::from)
    } else {
        [dot_wide(pairs(a, b)), dot_wide(pairs(a, a)), dot_wide(pairs(b, b))]
    };
    // Rounding may end a little outside; NaN stays NaN.
    1.0 - (product / (left * right).sqrt()).clamp(-1.0, 1.0)
}

/// Squared Euclidean distance in f64, which holds every sum of squares of float32.
pub(crate) fn l2_squared_wide(pairs: impl Iterator<Item = (f64, f64)>) -> f64 {
    pairs.map(|(a, b)| (a - b) * (a - b)).sum()
}

/// Inner product in f64.
pub(crate) fn dot_wide(pairs: impl Iterator<Item = (f64, f64)>) -> f64 {
    pairs.map(|(a, b)| a * b).sum()
}

/// Is a squared distance or an inner product that float32 summed as good as float32 can say it?
pub(crate) fn is_sure(sum: f32) -> bool {
    SURE.contains(&sum.abs())
}

fn pairs<'a>(a: &'a [f32], b: &'a [f32]) -> impl Iterator<Item = (f64, f64)> + 'a {
    a.iter().zip(b).map(|(a, b)| (f64::from(*a), f64::from(*b)))
}

/// Euclidean norm. Summed in f64, so neither 1e30 overflows nor 1e-30 vanishes.
pub fn norm(x: &[f32]) -> f32 {
    x.iter().map(|&e| f64::from(e) * f64::from(e)).sum::<f64>().sqrt() as f32
}

/// Scales `x` to norm 1; returns false and leaves it alone if it is zero or not finite.
pub fn normalize(x: &mut [f32]) -> bool {
    let norm = x.iter().map(|&e| f64::from(e) * f64::from(e)).sum::<f64>().sqrt();
    if !(norm.is_finite() && norm > 0.0) {
        return false;
    }
    for e in x {
        *e = (f64::from(*e) / norm) as f32;
    }
    true
}

/// Squared Euclidean distance to a stored float32 vector; `x.len() == 4 * q.len()`.
pub fn l2_squared_f32le(q: &[f32], x: &[u8]) -> f32 {
    table().l2_squared_f32le(q, x)
}

/// Inner product with a stored float32 vector; `x.len() == 4 * q.len()`.
pub fn dot_f32le(q: &[f32], x: &[u8]) -> f32 {
    table().dot_f32le(q, x)
}

/// Squared Euclidean distance to a stored float16 vector; `x.len() == 2 * q.len()`.
pub fn l2_squared_f16le(q: &[f32], x: &[u8]) -> f32 {
    table().l2_squared_f16le(q, x)
}

/// Inner product with a stored float16 vector; `x.len() == 2 * q.len()`.
pub fn dot_f16le(q: &[f32], x: &[u8]) -> f32 {
    table().dot_f16le(q, x)
}

/// Squared Euclidean distance from `q` to each of `out.len()` rows laid end to end.
pub fn l2_squared_many(q: &[f32], rows: &[f32], out: &mut [f32]) {
    table().l2_squared_many(q, rows, out);
}

/// Inner product of `q` with each of `out.len()` rows laid end to end.
pub fn dot_many(q: &[f32], rows: &[f32], out: &mut [f32]) {
    table().dot_many(q, rows, out);
}

/// Squared Euclidean distance from `q` to each of `out.len()` stored float16 rows laid end to end.
pub fn l2_squared_many_f16le(q: &[f32], rows: &[u8], out: &mut [f32]) {
    table().l2_squared_many_f16le(q, rows, out);
}

/// Inner product of `q` with each of `out.len()` stored float16 rows laid end to end.
pub fn dot_many_f16le(q: &[f32], rows: &[u8], out: &mut [f32]) {
    table().dot_many_f16le(q, rows, out);
}

/// Appends `x` as little-endian float32.
pub fn f32_to_f32le(x: &[f32], out: &mut Vec<u8>) {
    out.reserve(x.len() * 4);
    out.extend(x.iter().flat_map(|e| e.to_le_bytes()));
}

/// Reads little-endian float32.
pub fn f32le_to_f32(bytes: &[u8], out: &mut [f32]) {
    assert_eq!(bytes.len(), out.len() * 4);
    for (bytes, out) in bytes.chunks_exact(4).zip(out) {
        *out = f32::from_le_bytes(bytes.try_into().expect("chunks of four bytes"));
    }
}

/// Appends `x` as little-endian float16, rounded to nearest even.
/// Returns false if a finite element is out of range and became the largest finite float16 instead.
#[must_use = "a saturated element is not the element that was given"]
pub fn f32_to_f16le(x: &[f32], out: &mut Vec<u8>) -> bool {
    let start = out.len();
    out.resize(start + x.len() * 2, 0);
    let bytes = &mut out[start..];
    table().encode_f16(x, bytes);
    // 65520 is the first number that rounds to infinity.
    if x.iter().all(|e| e.abs() < 65520.0) {
        return true;
    }
    for (x, bytes) in x.iter().zip(bytes.chunks_exact_mut(2)) {
        if x.is_finite() && x.abs() >= 65520.0 {
            bytes.copy_from_slice(&half::f16::MAX.to_le_bytes());
            bytes[1] |= if x.is_sign_negative() { 0x80 } else { 0 };
        }
    }
    false
}

/// Reads little-endian float16.
pub fn f16le_to_f32(bytes: &[u8], out: &mut [f32]) {
    table().decode_f16(bytes, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::kernels::all;
    use crate::math::random::Random;

    fn vector(random: &mut Random, dims: usize) -> Vec<f32> {
        (0..dims).map(|_| random.normal()).collect()
    }

    #[test]
    fn every_kernel_set_agrees_with_f64() {
        let mut random = Random::new(b"distances");
        for dims in (1..140).chain([255, 384, 960, 1536, 16000]) {
            let (a, b) = (vector(&mut random, dims), vector(&mut random, dims));
            // One byte in front: stored vectors are not aligned.
            let (mut b32, mut b16) = (vec![0u8], vec![0u8]);
            f32_to_f32le(&b, &mut b32);
            assert!(f32_to_f16le(&b, &mut b16));
            let mut rounded = vec![0f32; dims];
            f16le_to_f32(&b16[1..], &mut rounded);

            let l2 = |b: &[f32]| a.iter().zip(b).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum::<f64>();
            let ip = |b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
            for set in all() {
                let near = |got: f32, want: f64| {
                    let tolerance = 1e-5 * (1.0 + l2(&b).abs());
                    assert!((f64::from(got) - want).abs() < tolerance, "{} {dims}: {got} is not {want}", set.name);
                };
                near(set.l2_squared(&a, &b), l2(&b));
                near(set.dot(&a, &b), ip(&b));
                near(set.l2_squared_f32le(&a, &b32[1..]), l2(&b));
                near(set.dot_f32le(&a, &b32[1..]), ip(&b));
                near(set.l2_squared_f16le(&a, &b16[1..]), l2(&rounded));
                near(set.dot_f16le(&a, &b16[1..]), ip(&rounded));
            }
        }
    }

    #[test]
    fn every_float16_survives_every_kernel_set() {
        let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let want: Vec<f32> = (0..=u16::MAX).map(|bits| half::f16::from_bits(bits).to_f32()).collect();
        for set in all() {
            let mut floats = vec![0f32; 65536];
            set.decode_f16(&bytes, &mut floats);
            for (got, want) in floats.iter().zip(&want) {
                assert!(got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan()), "{}", set.name);
            }
            let finite: Vec<f32> = want.iter().copied().filter(|x| !x.is_nan()).collect();
            let mut back = vec![0u8; finite.len() * 2];
            set.encode_f16(&finite, &mut back);
            let expected: Vec<u8> = finite.iter().flat_map(|x| half::f16::from_f32(*x).to_le_bytes()).collect();
            assert_eq!(back, expected, "{}", set.name);
        }
    }

    #[test]
    fn float16_rounds_alike_in_every_kernel_set() {
        let mut random = Random::new(b"rounding");
        let x: Vec<f32> = (0..4099).map(|_| random.normal() * (random.normal() * 6.0).exp2()).collect();
        let want: Vec<u8> = x.iter().flat_map(|x| half::f16::from_f32(*x).to_le_bytes()).collect();
        for set in all() {
            let mut got = vec![0u8; want.len()];
            set.encode_f16(&x, &mut got);
            assert_eq!(got, want, "{}", set.name);
        }
    }

    #[test]
    fn float16_saturates_and_says_so() {
        let mut bytes = Vec::new();
        assert!(f32_to_f16le(&[65504.0, -65519.0, 1e-9], &mut bytes));
        bytes.clear();
        assert!(!f32_to_f16le(&[65520.0, -1e15, 3.0], &mut bytes));
        let mut back = [0f32; 3];
        f16le_to_f32(&bytes, &mut back);
        assert_eq!(back, [65504.0, -65504.0, 3.0]);
    }

    #[test]
    fn distances_of_any_size_are_those_of_f64() {
        let mut random = Random::new(b"sizes");
        // From denormals, which have few bits left, to the largest float32.
        for size in [1e-43, 3e-39, 1e-30, 1e-18, 1e-10, 1.0, 1e12, 1e18, 1e25, 3e37] {
            for dims in [1, 3, 16, 37, 384, 2000] {
                let mut draw = || vector(&mut random, dims).iter().map(|x| x * size).collect::<Vec<f32>>();
                let (a, b, unit) = (draw(), draw(), vector(&mut Random::new(b"unit"), dims));
                for (a, b) in [(&a, &b), (&a, &unit), (&unit, &b), (&a, &a)] {
                    let wide = |x: &[f32], y: &[f32]| dot_wide(pairs(x, y));
                    let (aa, bb, ab) = (wide(a, a), wide(b, b), wide(a, b));
                    assert!(aa > 0.0 && bb > 0.0);
                    let near = |got: f64, want: f64, size: f64| {
                        assert!((got - want).abs() <= 1e-5 * size, "{size:e} {dims}: {got} is not {want}");
                    };
                    near(l2(a, b), l2_squared_wide(pairs(a, b)).sqrt(), aa.sqrt() + bb.sqrt());
                    near(inner_product(a, b), ab, (aa * bb).sqrt());
                    near(cosine(a, b), 1.0 - ab / (aa.sqrt() * bb.sqrt()), 1.0);
                }
            }
        }
        assert!(cosine(&[0.0, 0.0], &[1.0, 2.0]).is_nan() && cosine(&[1e30, 0.0], &[0.0, 0.0]).is_nan());
        assert_eq!(cosine(&[f32::MAX; 2], &[-f32::MAX; 2]), 2.0);
        assert_eq!(l2(&[f32::MAX], &[-f32::MAX]), 2.0 * f64::from(f32::MAX));
        assert_eq!(l2(&[1.0, 2.0], &[1.0, 2.0]), 0.0);
    }

    #[test]
    fn norms_neither_overflow_nor_vanish() {
        assert_eq!(norm(&[3e30, 4e30]), 5e30);
        assert_eq!(norm(&[3e-30, 4e-30]), 5e-30);
        assert!(!normalize(&mut [0.0, 0.0]));
        let mut x = [3e-30, 4e-30];
        assert!(normalize(&mut x));
        assert_eq!(x, [0.6, 0.8]);
    }

    #[test]
    fn many_rows_are_one_row_repeated() {
        let mut random = Random::new(b"many");
        for (dims, n) in [(1, 9), (37, 5), (64, 4), (384, 11), (16000, 3), (5, 0)] {
            let (q, mut rows) = (vector(&mut random, dims), vector(&mut random, dims * n));
            let mut stored = vec![0u8];
            assert!(f32_to_f16le(&rows, &mut stored));
            f16le_to_f32(&stored[1..], &mut rows);
            for set in all() {
                let [mut l2, mut ip, mut l2_stored, mut ip_stored] = std::array::from_fn(|_| vec![0f32; n]);
                set.l2_squared_many(&q, &rows, &mut l2);
                set.dot_many(&q, &rows, &mut ip);
                set.l2_squared_many_f16le(&q, &stored[1..], &mut l2_stored);
                set.dot_many_f16le(&q, &stored[1..], &mut ip_stored);
                for (i, row) in rows.chunks_exact(dims).enumerate() {
                    let near = |got: f32, want: f32| (got - want).abs() <= 1e-5 * (1.0 + l2[i]);
                    let (distance, product) = (l2_squared(&q, row), dot(&q, row));
                    assert!(near(l2[i], distance) && near(ip[i], product), "{} {dims} {i}", set.name);
                    assert!(near(l2_stored[i], distance) && near(ip_stored[i], product), "{} {dims} {i}", set.name);
                }
            }
        }
    }
}
