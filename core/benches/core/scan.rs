//! Whole searches of an index in memory: all of a query but Postgres.

use std::path::{Path, PathBuf};

use criterion::Criterion;
use sealvec_core::format::Precision;
use sealvec_core::ivf::scan::ScanOptions;
use sealvec_core::metric::Metric;

use crate::DIMS;
use crate::support::{Index, identity};

pub fn bench(criterion: &mut Criterion) {
    let (rows, queries) = (load("vectors_f16.npy"), load("queries_f16.npy"));
    let mut index = Index::new(identity(DIMS as u16, Metric::L2, Precision::Float16));
    rows.chunks(1000).for_each(|rows| index.insert_many(rows));
    index.train();
    let mut group = criterion.benchmark_group(format!("scan of {} rows, top 10", rows.len()));
    let probes = |probes| ScanOptions { probes, ..ScanOptions::default() };
    for (name, options) in [("nothing set", ScanOptions::default()), ("24 lists", probes(24)), ("64 lists", probes(64))]
    {
        let mut next = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                next = (next + 1) % queries.len();
                index.search(&queries[next], 10, options)
            });
        });
    }
    group.finish();
}

fn load(name: &str) -> Vec<Vec<f32>> {
    let given = std::env::var_os("SEALVEC_BENCH_DATA").map(PathBuf::from);
    let directory = given.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/deb_10k"));
    let path = directory.join(name);
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let element = |half: &[u8]| half::f16::from_le_bytes([half[0], half[1]]).to_f32();
    bytes[128..].chunks_exact(DIMS * 2).map(|row| row.chunks_exact(2).map(element).collect()).collect()
}
