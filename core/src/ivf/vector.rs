//! Vectors in index form: what a record's plaintext says, and how a query scores against it.
//!
//! Under cosine the record keeps the elements as they came and the inverse of their norm, so that
//! values which float16 holds exactly stay exact; codes, centroids and scores see the unit vector.
//! Very short and very long vectors are kept times a power of two: their inverse norm is no float32.

use zeroize::Zeroizing;

use crate::{
    format::{
        Precision,
        meta::Identity,
        vector::{PLAIN_HEADER, plain_len},
    },
    math::distance,
    metric::Metric,
};

/// Norms of vectors that a cosine index keeps as they came; others have their direction only.
const KEPT_AS_IT_CAME: std::ops::RangeInclusive<f64> = 1e-3..=6e4;

/// Encodes `values` as the plaintext of a record; `false` if the metric can't index them (a zero
/// vector, or one whose norm is no number, under cosine).
pub fn encode(identity: &Identity, values: &[f32], plain: &mut Zeroizing<Vec<u8>>) -> bool {
    let cosine = identity.metric == Metric::Cosine;
    let norm = if cosine { norm(values) } else { 1.0 };
    if cosine && !(norm > 0.0 && norm.is_finite()) {
        return false;
    }
    plain.clear();
    plain.reserve_exact(plain_len(values.len(), identity.precision));
    plain.extend_from_slice(&[0; PLAIN_HEADER]);
    let near_one;
    let (values, norm) = if cosine && !KEPT_AS_IT_CAME.contains(&norm) {
        let scale = (-norm.log2().floor()).exp2();
        near_one = Zeroizing::new(values.iter().map(|value| (f64::from(*value) * scale) as f32).collect::<Vec<f32>>());
        (near_one.as_slice(), norm * scale)
    } else {
        (values, norm)
    };
    let (error, inverse) = match identity.precision {
        Precision::Float32 => {
            values.iter().for_each(|value| plain.extend_from_slice(&value.to_le_bytes()));
            (0.0, 1.0 / norm)
        }
        Precision::Float16 => {
            // What is out of range is kept in range, and the error says by how much.
            let _ = distance::f32_to_f16le(values, plain);
            let halves = &plain[PLAIN_HEADER..];
            if cosine {
                // The rounded vector has a norm of its own: scores take what is kept for a unit vector.
                let kept_norm = sum_of_halves(halves, values, |half, _| half * half).sqrt();
                let inverse = if kept_norm > 0.0 { 1.0 / kept_norm } else { 0.0 };
                let off = |half: f64, value: f64| (value / norm - half * inverse).powi(2);
                // Nothing left of it: it may lie anywhere, two apart at most.
                let error = if inverse > 0.0 { sum_of_halves(halves, values, off).sqrt() } else { 2.0 };
                (error, inverse)
            } else {
                (sum_of_halves(halves, values, |half, value| (value - half) * (value - half)).sqrt(), 0.0)
            }
        }
    };
    // Rounded up, so that "score less error" is a bound whatever float32 did to it.
    let error = if error > 0.0 { (error * (1.0 + 1e-6)) as f32 } else { 0.0 };
    let inverse = if cosine { inverse as f32 } else { 0.0 };
    plain[..4].copy_from_slice(&error.to_le_bytes());
    plain[4..PLAIN_HEADER].copy_from_slice(&inverse.to_le_bytes());
    true
}

/// Sums taken side by side, so that one need not wait for another.
const LANES: usize = 8;

/// The sum of `term(half, value)` over stored halves and the values that they were.
fn sum_of_halves(halves: &[u8], values: &[f32], term: impl Fn(f64, f64) -> f64) -> f64 {
    let mut sums = [0f64; LANES];
    let mut decoded = Zeroizing::new([0f32; LANES * 8]);
    for (halves, values) in halves.chunks(decoded.len() * 2).zip(values.chunks(decoded.len())) {
        let decoded = &mut decoded[..values.len()];
        distance::f16le_to_f32(halves, decoded);
        for (halves, values) in decoded.chunks(LANES).zip(values.chunks(LANES)) {
            for ((sum, half), value) in sums.iter_mut().zip(halves).zip(values) {
                *sum += term(f64::from(*half), f64::from(*value));
            }
        }
    }
    sums.iter().sum()
}

fn norm(values: &[f32]) -> f64 {
    let mut sums = [0f64; LANES];
    for values in values.chunks(LANES) {
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += f64::from(*value) * f64::from(*value);
        }
    }
    sums.iter().sum::<f64>().sqrt()
}

/// Brings a column value into index space in place; `false` if the metric can't index it.
pub fn to_index_space(metric: Metric, values: &mut [f32]) -> bool {
    if metric != Metric::Cosine {
        return true;
    }
    let norm = norm(values);
    if !(norm > 0.0 && norm.is_finite()) {
        return false;
    }
    values.iter_mut().for_each(|value| *value = (f64::from(*value) / norm) as f32);
    true
}

/// Decodes a record's plaintext into index space.
pub fn decode(identity: &Identity, plain: &[u8], out: &mut [f32]) {
    let (header, elements) = plain.split_at(PLAIN_HEADER);
    match identity.precision {
        Precision::Float32 => distance::f32le_to_f32(elements, out),
        Precision::Float16 => distance::f16le_to_f32(elements, out),
    }
    if identity.metric == Metric::Cosine {
        let inverse = float(header, 4);
        out.iter_mut().for_each(|value| *value *= inverse);
    }
}

fn half_at(bytes: &[u8]) -> half::f16 {
    half::f16::from_le_bytes(bytes.try_into().expect("two bytes"))
}

fn float(bytes: &[u8], at: usize) -> f32 {
    f32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// The score of a stored vector, and how far rounding moved that vector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Smaller is nearer.
    pub value: f32,
    /// Distance between the vector as stored and as it came; 0 = the score is exact.
    pub error: f32,
}

/// Largest relative error of rounding a vector to float16 in its normal range (2^-11), with room.
const HALF_ERROR: f32 = 4.95e-4;

/// A query in index space.
pub struct Query {
    metric: Metric,
    values: Zeroizing<Vec<f32>>,
    norm: f32,
}

impl Query {
    /// A query of the index's dimension. A zero vector under cosine is as far from every row as any.
    pub fn new(metric: Metric, values: &[f32]) -> Self {
        let mut values = Zeroizing::new(values.to_vec());
        if !to_index_space(metric, &mut values) {
            values.fill(0.0);
        }
        let norm = norm(&values) as f32;
        Self { metric, values, norm }
    }

    /// The elements in index space.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Their norm.
    pub fn norm(&self) -> f32 {
        self.norm
    }

    /// The metric.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// Scores a record's plaintext.
    pub fn score_plain(&self, identity: &Identity, plain: &[u8]) -> Score {
        let (header, elements) = plain.split_at(PLAIN_HEADER);
        let (error, inverse) = (float(header, 0), float(header, 4));
        let half = identity.precision == Precision::Float16;
        let dot = || match half {
            true => distance::dot_f16le(&self.values, elements),
            false => distance::dot_f32le(&self.values, elements),
        };
        let value = match self.metric {
            Metric::L2 if half => distance::l2_squared_f16le(&self.values, elements),
            Metric::L2 => distance::l2_squared_f32le(&self.values, elements),
            Metric::Cosine => self.cosine(dot() * inverse),
            Metric::InnerProduct => -dot(),
        };
        let score = Score { value, error };
        if self.metric == Metric::Cosine || distance::is_sure(value) {
            return score;
        }
        match half {
            true => self.beyond(score, elements.chunks_exact(2).map(|half| half_at(half).to_f64())),
            false => self.beyond(score, elements.chunks_exact(4).map(|bytes| float(bytes, 0).into())),
        }
    }

    /// The score of `elements` where float32 lost it or ran over: summed in f64, and a mere bound
    /// unless float32 holds what comes out.
    fn beyond(&self, score: Score, elements: impl Iterator<Item = f64>) -> Score {
        let pairs = self.values.iter().map(|value| f64::from(*value)).zip(elements);
        let truth = match self.metric {
            Metric::L2 | Metric::Cosine => distance::l2_squared_wide(pairs),
            Metric::InnerProduct => -distance::dot_wide(pairs),
        };
        let least = if self.metric == Metric::InnerProduct { f32::NEG_INFINITY } else { 0.0 };
        match truth as f32 {
            value if f64::from(value) == truth => Score { value, ..score },
            value => Score { value: value.next_down().max(least), error: score.error.max(f32::MIN_POSITIVE) },
        }
    }

    /// Scores a vector in index space.
    pub fn score_values(&self, values: &[f32]) -> Score {
        let value = match self.metric {
            Metric::L2 => distance::l2_squared(&self.values, values),
            Metric::Cosine => self.cosine(distance::dot(&self.values, values)),
            Metric::InnerProduct => -distance::dot(&self.values, values),
        };
        let score = Score { value, error: 0.0 };
        if self.metric == Metric::Cosine || distance::is_sure(value) {
            return score;
        }
        self.beyond(score, values.iter().map(|value| f64::from(*value)))
    }

    /// |q - x|^2 of unit vectors from their product.
    fn cosine(&self, dot: f32) -> f32 {
        (2.0 - 2.0 * dot).max(0.0)
    }

    /// A score that the true one of this row reaches, and that of no row given out later falls
    /// below: it depends on the score and on `worst`, the largest error seen, so it never falls.
    pub fn floor(&self, score: Score, worst: f32) -> f32 {
        // Room for what float32 rounds on the way, here and in the executor's own distance.
        let slack = 4e-6;
        match self.metric {
            Metric::L2 | Metric::Cosine => {
                let distance = score.value.sqrt();
                let length = if self.metric == Metric::Cosine { 1.0 } else { self.norm + distance };
                let error = score.error.max(HALF_ERROR * length);
                let low = (distance - error).max(0.0) * (1.0 - slack);
                low * low
            }
            Metric::InnerProduct => {
                let error = score.error.max(2.0 * worst);
                // The error may be infinite, and a zero query none the worse for it.
                let off = if self.norm > 0.0 { error * self.norm } else { 0.0 };
                score.value - off - score.value.abs() * slack
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Uuid;

    fn identity(metric: Metric, precision: Precision, dims: u16) -> Identity {
        Identity { index: Uuid::from_bytes([1; 16]), ring: 1, dims, metric, precision, lists: 0 }
    }

    #[test]
    fn float16_scores_bound_the_true_ones() {
        let mut random = crate::math::random::Random::from_number(3);
        for metric in [Metric::L2, Metric::Cosine, Metric::InnerProduct] {
            let identity = identity(metric, Precision::Float16, 24);
            for scale in [1e-3f32, 1.0, 300.0, 1e6] {
                let mut draw = || (0..24).map(|_| random.normal() * scale).collect::<Vec<f32>>();
                let (query, row) = (Query::new(metric, &draw()), draw());
                let mut plain = Zeroizing::new(Vec::new());
                assert!(encode(&identity, &row, &mut plain));
                let score = query.score_plain(&identity, &plain);
                let mut values = row.clone();
                to_index_space(metric, &mut values);
                let truth = query.score_values(&values).value;
                let floor = query.floor(score, score.error);
                assert!(score.error > 0.0 && floor <= truth, "{metric:?} {scale}: {floor} above {truth}");
            }
        }
    }

    #[test]
    fn vectors_of_any_size_have_the_cosine_of_f64() {
        let mut random = crate::math::random::Random::from_number(7);
        for size in [1e-42f32, 3e-40, 1e-38, 1e-20, 1.0, 1e20, 3e37] {
            for precision in [Precision::Float32, Precision::Float16] {
                let identity = identity(Metric::Cosine, precision, 24);
                let mut draw = |size: f32| (0..24).map(|_| random.normal() * size).collect::<Vec<f32>>();
                let (query, row) = (draw(1.0), draw(size));
                let mut plain = Zeroizing::new(Vec::new());
                assert!(encode(&identity, &row, &mut plain));
                let score = Query::new(Metric::Cosine, &query).score_plain(&identity, &plain);
                let (want, got) = (2.0 * distance::cosine(&query, &row), f64::from(score.value));
                let off = f64::from(score.error) * 2.0 + 1e-6; // |q - x|^2 moves by 2 <q, x - x'>
                assert!((got - want).abs() <= off, "{size:e} {precision:?}: {got} is not {want}");
                assert!(score.error < 1e-3, "{size:e} {precision:?}: {score:?}");
                let mut out = vec![0.0; 24];
                decode(&identity, &plain, &mut out);
                assert!((norm(&out) - 1.0).abs() < 1e-5, "{size:e} {precision:?}: {out:?}");
            }
        }
    }

    #[test]
    fn scores_that_float32_cannot_say_are_bounds() {
        let mut random = crate::math::random::Random::from_number(11);
        for metric in [Metric::L2, Metric::InnerProduct] {
            let identity = identity(metric, Precision::Float32, 24);
            for size in [1e-30f32, 1e-20, 1.0, 1e20, 3e37] {
                let mut draw = || (0..24).map(|_| random.normal() * size).collect::<Vec<f32>>();
                let (query, row) = (draw(), draw());
                let mut plain = Zeroizing::new(Vec::new());
                assert!(encode(&identity, &row, &mut plain));
                let truth = match metric {
                    Metric::L2 | Metric::Cosine => distance::l2(&query, &row).powi(2),
                    Metric::InnerProduct => -distance::inner_product(&query, &row),
                };
                let query = Query::new(metric, &query);
                for score in [query.score_plain(&identity, &plain), query.score_values(&row)] {
                    assert_eq!(score.error == 0.0, size == 1.0, "{metric:?} {size:e}: {score:?} of {truth}");
                    let floor = f64::from(query.floor(score, score.error));
                    assert!(floor <= truth, "{metric:?} {size:e}: {floor} above {truth}");
                }
                // The same vector is no such case: a scan for a row that is there stays exact.
                let same = Query::new(Metric::L2, &row).score_values(&row);
                assert_eq!(same, Score { value: 0.0, error: 0.0 });
            }
        }
    }

    #[test]
    fn an_infinite_error_leaves_a_zero_query_its_bound() {
        let zero = Query::new(Metric::InnerProduct, &[0.0; 2]);
        assert_eq!(zero.floor(Score { value: 0.0, error: f32::INFINITY }, f32::INFINITY), 0.0);
    }

    #[test]
    fn what_float16_holds_is_exact() {
        for metric in [Metric::L2, Metric::Cosine] {
            let identity = identity(metric, Precision::Float16, 3);
            let mut plain = Zeroizing::new(Vec::new());
            assert!(encode(&identity, &[0.5, -0.25, 2.0], &mut plain));
            assert!(Query::new(metric, &[1.0, 2.0, 3.0]).score_plain(&identity, &plain).error == 0.0);
        }
    }

    #[test]
    fn a_rounded_vector_bounds_its_distance_to_itself() {
        let mut random = crate::math::random::Random::from_number(5);
        for (metric, size) in [(Metric::L2, 1.0), (Metric::Cosine, 1e-7), (Metric::Cosine, 1.0), (Metric::Cosine, 1e3)]
        {
            for dims in [1, 8, 16, 384, 2000] {
                let identity = identity(metric, Precision::Float16, dims);
                for round in 0..100 {
                    let values: Vec<f32> = (0..dims).map(|_| random.normal() * size).collect();
                    let mut plain = Zeroizing::new(Vec::new());
                    assert!(encode(&identity, &values, &mut plain));
                    let query = Query::new(metric, &values);
                    let score = query.score_plain(&identity, &plain);
                    let floor = query.floor(score, 0.0);
                    assert!(floor < 1e-6, "{metric:?} {size} {dims} {round}: {floor} of {score:?}");
                }
            }
        }
    }

    #[test]
    fn a_zero_vector_has_no_direction() {
        let mut plain = Zeroizing::new(Vec::new());
        assert!(!encode(&identity(Metric::Cosine, Precision::Float32, 2), &[0.0, 0.0], &mut plain));
        assert!(encode(&identity(Metric::L2, Precision::Float32, 2), &[0.0, 0.0], &mut plain));
    }
}
