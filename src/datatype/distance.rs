//! Distances, and the few other functions of values: `open`, `same`, `dims`.
//!
//! pgvector's definitions: single-precision elements, double-precision result, and NaN for the cosine
//! distance of a zero vector. Where pgvector's sums overflow or vanish, ours are right.

use pgrx::prelude::*;
use sealvec_core::math::distance;

use super::opened::{self, with_pair, with_vector};
use super::varlena::{RealArray, Value};
use crate::error::OrRaise;

/// `<->`: Euclidean distance.
#[pg_extern(sql = false)]
fn sealvec_l2_distance(left: Value<'_>, right: Value<'_>) -> f64 {
    with_pair(left, right, distance::l2).or_raise()
}

/// `<#>`: negative inner product.
#[pg_extern(sql = false)]
fn sealvec_negative_inner_product(left: Value<'_>, right: Value<'_>) -> f64 {
    with_pair(left, right, |a, b| -distance::inner_product(a, b)).or_raise()
}

/// `<=>`: cosine distance, 0 to 2.
#[pg_extern(sql = false)]
fn sealvec_cosine_distance(left: Value<'_>, right: Value<'_>) -> f64 {
    with_pair(left, right, distance::cosine).or_raise()
}

/// `sealvec.open`: the elements, for a caller who may open the ring.
#[pg_extern(sql = false)]
fn sealvec_open(value: Value<'_>) -> RealArray {
    with_vector(value, RealArray::new).or_raise()
}

/// `sealvec.same`: whether both hold the same elements; sealed bytes differ each time.
#[pg_extern(sql = false)]
fn sealvec_same(left: Value<'_>, right: Value<'_>) -> bool {
    let (left_dims, right_dims) =
        (opened::header(left.bytes()).or_raise().dims(), opened::header(right.bytes()).or_raise().dims());
    left_dims == right_dims && with_pair(left, right, |a, b| a == b).or_raise()
}

/// `sealvec.dims`: the number of dimensions, which is no secret.
#[pg_extern(sql = false)]
fn sealvec_dims(value: Value<'_>) -> i32 {
    opened::header(value.bytes()).or_raise().dims() as i32
}
