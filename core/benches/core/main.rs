//! What a search and a build are made of, each by itself: `cargo bench -p sealvec-core`.
//!
//! `SEALVEC_BENCH_DATA` names a directory with `vectors_f16.npy` and `queries_f16.npy`; without it `tests/data/deb_10k` serves.

mod cluster;
mod scan;
mod score;
mod seal;
#[allow(dead_code)] // what tests need besides
#[path = "../../tests/ivf/support.rs"]
mod support;

use criterion::{criterion_group, criterion_main};

criterion_group!(benches, seal::bench, score::bench, cluster::bench, scan::bench);
criterion_main!(benches);

/// Dimensions of most figures.
const DIMS: usize = 384;

/// `rows` x [`DIMS`] of standard normal numbers.
fn normal(rows: usize, seed: u64) -> Vec<f32> {
    let mut random = sealvec_core::math::random::Random::from_number(seed);
    (0..rows * DIMS).map(|_| random.normal()).collect()
}
