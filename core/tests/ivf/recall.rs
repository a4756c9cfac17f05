//! Recall on real embeddings, with nothing set: `tests/data/deb_10k`.

use std::path::Path;

use sealvec_core::{format::Precision, ivf::scan::ScanOptions, metric::Metric};

use crate::support::{Index, clustered, identity};

fn load(name: &str) -> Vec<Vec<f32>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/deb_10k").join(name);
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    bytes[128..]
        .chunks_exact(384 * 2)
        .map(|row| row.chunks_exact(2).map(|half| half::f16::from_le_bytes([half[0], half[1]]).to_f32()).collect())
        .collect()
}

#[test]
fn filled_from_empty_it_finds_95_percent() {
    let (rows, queries) = (load("vectors_f16.npy"), load("queries_f16.npy"));
    for metric in [Metric::L2, Metric::Cosine] {
        let mut index = Index::new(identity(384, metric, Precision::Float16));
        rows.iter().for_each(|row| {
            index.insert(row);
        });
        let mean = |index: &mut Index, queries: &[Vec<f32>]| {
            let sum: f64 = queries.iter().map(|query| index.recall(query, 10, ScanOptions::default())).sum();
            sum / queries.len() as f64
        };
        let (items, questions) = (mean(&mut index, &queries[..200]), mean(&mut index, &queries[200..]));
        eprintln!("{metric:?}: items {items:.4}, questions {questions:.4}");
        assert!(items >= 0.95 && questions >= 0.95, "{metric:?}: items {items}, questions {questions}");
    }
}

/// Such a row lies at the edge of its list, and other lists are about as near; who asks for it gets it as often as any.
#[test]
fn rows_far_from_all_others_are_found() {
    for metric in [Metric::L2, Metric::Cosine] {
        for far in [2.0, 5.0] {
            let mut random = sealvec_core::math::random::Random::new(b"far");
            let mut index = Index::new(identity(16, metric, Precision::Float16));
            let mut rows = clustered(9_000, 16, 3);
            let spread = rows.iter().flatten().fold(0f32, |most, x| most.max(x.abs()));
            let alone: Vec<Vec<f32>> =
                (0..60).map(|_| (0..16).map(|_| far * spread * random.normal()).collect()).collect();
            for (place, row) in alone.iter().enumerate() {
                rows.insert(place * 149, row.clone());
            }
            rows.iter().for_each(|row| {
                index.insert(row);
            });
            let found: f64 = alone.iter().map(|row| index.recall(row, 1, ScanOptions::default())).sum();
            assert!(found >= 59.0, "{metric:?} {far}: {found} of 60");
        }
    }
}
