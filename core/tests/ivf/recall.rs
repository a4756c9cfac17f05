//! Recall on real embeddings, with nothing set: `tests/data/deb_10k`.

use std::path::Path;

use sealvec_core::{format::Precision, ivf::scan::ScanOptions, metric::Metric};

use crate::support::{Index, identity};

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
