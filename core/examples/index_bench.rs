//! `cargo run --release -p sealvec-core --example index_bench DIR [l2|cosine] [built|filled]`: the whole sealed index in
//! memory on real embeddings (DIR as `shared/data/deb_62k`): build, recall and microseconds a query.

use std::{path::Path, time::Instant};

use sealvec_core::{
    format::{Precision, Tid, meta::Identity},
    ivf::{
        self, Cache, ColumnKeys, Keys, Phase, Work,
        insert::{Row, insert},
        merge::{Effort, merge},
        scan::{Scan, ScanOptions},
    },
    keys::{Dek, IndexKeys, Uuid},
    metric::Metric,
    store::memory::MemoryStore,
};

fn rows(path: &Path) -> Vec<Vec<f32>> {
    let bytes = std::fs::read(path).expect("an .npy file");
    let decode = |row: &[u8]| row.chunks_exact(2).map(|h| half::f16::from_le_bytes([h[0], h[1]]).to_f32()).collect();
    bytes[128..].chunks_exact(384 * 2).map(decode).collect()
}

fn main() {
    let dir = std::env::args().nth(1).expect("a directory");
    let metric = match std::env::args().nth(2).as_deref() {
        Some("cosine") => Metric::Cosine,
        _ => Metric::L2,
    };
    let (vectors, queries) =
        (rows(&Path::new(&dir).join("vectors_f16.npy")), rows(&Path::new(&dir).join("queries_f16.npy")));
    let truth = std::fs::read(Path::new(&dir).join("gt.npy")).expect("gt.npy");
    let truth: Vec<u16> = truth[128..].chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
    let plane = if metric == Metric::L2 { 0 } else { queries.len() * 100 };

    let which = std::env::args().nth(3);
    for grown in [false, true] {
        if which.as_deref().is_some_and(|which| grown != (which == "filled")) {
            continue;
        }
        let identity = Identity {
            index: Uuid::random().unwrap(),
            ring: 1,
            dims: 384,
            metric,
            precision: Precision::Float16,
            lists: 0,
        };
        let (store, mut cache) = (MemoryStore::new(), Cache::new(identity.index));
        let key = [1; 32];
        let mut index_keys = IndexKeys::new(&Dek::new(1, &key), identity.index);
        let no_values = ColumnKeys::new(identity.index); // nothing is inserted without the key
        ivf::create(&store, identity).unwrap();
        let start = Instant::now();
        let mut tick = |_: Phase, _: u64, _: u64| Ok(());
        let mut longest = 0.0f64;
        for (number, values) in vectors.iter().enumerate() {
            let tid = Tid { block: number as u32 / 100, offset: (number % 100 + 1) as u16 };
            let row = Row::Plain { tid, values, keys: &mut index_keys };
            let inserted = insert(&store, &mut cache, row).unwrap();
            if grown && inserted.tail >= ivf::TAIL_ROWS {
                let began = Instant::now();
                let mut keys = Keys { index: &mut index_keys, values: &no_values };
                let mut work = Work { pool: None, memory_bytes: 64 << 20, tick: &mut tick };
                merge(&store, &mut cache, &mut keys, Effort::Step, &mut work).unwrap();
                longest = longest.max(began.elapsed().as_secs_f64());
            }
        }
        let loaded = start.elapsed();
        let mut keys = Keys { index: &mut index_keys, values: &no_values };
        if !grown {
            let mut work = Work { pool: None, memory_bytes: 64 << 20, tick: &mut tick };
            ivf::build::finish(&store, &mut cache, &mut keys, &mut work).unwrap();
        }
        let stats = ivf::stats::index_stats(&store).unwrap();
        println!(
            "{} {metric:?}: {:.2} s load, {:.2} s in all, longest merge {longest:.2} s, {} pages, {} lists of {:?} rows, L0 {}",
            if grown { "filled" } else { "built" },
            loaded.as_secs_f64(),
            start.elapsed().as_secs_f64(),
            stats.pages,
            stats.meta.lists,
            stats.list_rows,
            stats.meta.l0_rows,
        );
        let automatic =
            [0.90, 0.95, 0.98, 0.99].map(|target_recall| ScanOptions { target_recall, ..Default::default() });
        let fixed = [8, 16, 24, 32, 64, 96].map(|probes| ScanOptions { probes, ..Default::default() });
        for options in automatic.into_iter().chain(fixed) {
            let (mut found, mut lists, mut opened, mut coded) = (0, 0, 0, 0);
            let mut best = vec![f64::INFINITY; queries.len()]; // the least of the rounds: others share the machine
            for round in 0..7 {
                for (number, query) in queries.iter().enumerate() {
                    let start = Instant::now();
                    let meta = ivf::read_meta(&store).unwrap();
                    let mut scan = Scan::new(&meta, query, options).unwrap();
                    for _ in 0..10 {
                        let Some(hit) = scan.next(&store, &mut cache, &mut keys).unwrap() else { break };
                        let row = hit.tid.block * 100 + u32::from(hit.tid.offset) - 1;
                        let top = &truth[plane + number * 100..][..10];
                        found += usize::from(round == 0 && top.contains(&(row as u16)));
                    }
                    best[number] = best[number].min(start.elapsed().as_secs_f64());
                    if round == 0 {
                        let counts = scan.counts();
                        lists += counts.lists;
                        opened += counts.opened;
                        coded += counts.coded;
                    }
                }
            }
            let n = queries.len() as f64;
            println!(
                "  probes {:3} target {:.2}: recall {:.4}, {:6.1} µs, {:5.1} lists, {:6.0} coded, {:4.1} opened",
                options.probes,
                options.target_recall,
                found as f64 / n / 10.0,
                best.iter().sum::<f64>() / n * 1e6,
                f64::from(lists) / n,
                coded as f64 / n,
                opened as f64 / n,
            );
        }
    }
}
