//! What a query computes: its table, codes of a block, distances to centroids and to opened rows.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use sealvec_core::math::{
    BLOCK_ROWS, BlockLayout, ListTerm, QueryCodes, Rotation, distance, encode_block, instruction_set,
};
use sealvec_core::metric::Metric;

use crate::{DIMS, normal};

pub fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group(format!("score ({})", instruction_set()));
    let (rotation, layout) = (Rotation::new(DIMS, [5; 32]), BlockLayout::new(DIMS));
    let query = normal(1, 1);
    group.bench_function("a query's table", |bencher| {
        bencher.iter(|| QueryCodes::new(&rotation, Metric::L2, black_box(&query)));
    });

    let rotated = |values: &[f32]| -> Vec<f32> {
        let mut out = vec![0.0; values.len() / DIMS * layout.padded()];
        for (row, out) in values.chunks_exact(DIMS).zip(out.chunks_exact_mut(layout.padded())) {
            rotation.apply(row, out);
        }
        out
    };
    let centroid = rotated(&normal(1, 2));
    let rows = rotated(&normal(BLOCK_ROWS, 3));
    let mut block = vec![0; layout.block_bytes(BLOCK_ROWS)];
    group.throughput(Throughput::Elements(BLOCK_ROWS as u64));
    group.bench_function("code a block", |bencher| {
        bencher.iter(|| encode_block(&layout, Metric::L2, &centroid, black_box(&rows), &mut block));
    });
    let codes = QueryCodes::new(&rotation, Metric::L2, &query);
    let (mut lower, mut estimate) = ([0.0; BLOCK_ROWS], [0.0; BLOCK_ROWS]);
    group.bench_function("score a block", |bencher| {
        let term = ListTerm { q_to_centroid: 700.0 };
        bencher.iter(|| codes.score_block(&layout, term, black_box(&block), BLOCK_ROWS, &mut lower, &mut estimate));
    });

    let centroids = normal(250, 4);
    let mut scores = vec![0.0; 250];
    group.throughput(Throughput::Elements(250));
    group.bench_function("250 centroids", |bencher| {
        bencher.iter(|| distance::l2_squared_many(&query, black_box(&centroids), &mut scores));
    });
    let mut half = Vec::new();
    assert!(distance::f32_to_f16le(&normal(1, 5), &mut half), "nothing is out of range");
    group.throughput(Throughput::Elements(1));
    group.bench_function("an opened row, float16", |bencher| {
        bencher.iter(|| distance::l2_squared_f16le(&query, black_box(&half)));
    });
    group.finish();
}
