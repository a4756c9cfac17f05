//! What a build computes: k-means and assignment, on one core and on all.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use sealvec_core::math::{KmeansOptions, assign, kmeans};

use crate::{DIMS, normal};

const POINTS: usize = 16_000;
const LISTS: usize = 250;

pub fn bench(criterion: &mut Criterion) {
    let points = normal(POINTS, 1);
    let pool = rayon::ThreadPoolBuilder::new().build().expect("threads");
    let mut group = criterion.benchmark_group("cluster");
    group.sample_size(10);
    for (cores, pool) in [("one core", None), ("all cores", Some(&pool))] {
        group.throughput(Throughput::Elements(POINTS as u64));
        group.bench_function(format!("k-means, 10 rounds, {LISTS} lists, {cores}"), |bencher| {
            let options = KmeansOptions { pool, ..KmeansOptions::default() };
            bencher.iter(|| kmeans(black_box(&points), DIMS, LISTS, &options, &mut || Ok(())));
        });
        let centroids = &points[..LISTS * DIMS];
        let mut nearest = vec![(0, 0.0); POINTS];
        group.bench_function(format!("assign to {LISTS} lists, {cores}"), |bencher| {
            bencher.iter(|| assign(black_box(&points), DIMS, centroids, pool, &mut nearest));
        });
    }
    group.finish();
}
