//! Sealing and opening: a record, and a page of a list.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput};
use sealvec_core::crypto::{AeadKey, ChunkAad, XaesKey};
use sealvec_core::format::list::ChunkLayout;
use sealvec_core::format::value::{ValueHeader, open_value, seal_value};
use sealvec_core::keys::{Dek, Uuid};

use crate::DIMS;

pub fn bench(criterion: &mut Criterion) {
    let aad = ChunkAad { index: Uuid::from_bytes([3; 16]), dek_version: 1, list: 7, epoch: 2, ordinal: 0, block: 11 };
    let layout = ChunkLayout::new(DIMS);
    let rows = layout.rows_max();
    let mut group = criterion.benchmark_group("seal");
    for (name, len) in
        [("record, float16".to_owned(), 2 * DIMS), (format!("chunk of {rows} rows"), layout.plain_len(rows))]
    {
        let plain = vec![0x5A; len];
        let key = AeadKey::new(&[7; 32]);
        let sealed = key.seal(&aad, &plain).expect("the kernel gives random bytes");
        let mut opened = vec![0; len];
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(format!("seal {name}"), |bencher| bencher.iter(|| key.seal(&aad, black_box(&plain))));
        group.bench_function(format!("open {name}"), |bencher| {
            bencher.iter(|| key.open_into(&aad, black_box(sealed.as_bytes()), &mut opened));
        });
    }
    group.throughput(Throughput::Elements(1));
    group.bench_function("a list's key schedule", |bencher| bencher.iter(|| AeadKey::new(black_box(&[9; 32]))));
    value(&mut group);
    group.finish();
}

/// A column value: a key of its own for each, derived.
fn value(group: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>) {
    let ring = Uuid::from_bytes([0x55; 16]);
    let key: XaesKey = Dek::new(1, &[9; 32]).value_key(&ring);
    let header = ValueHeader::column(&ring, 1, DIMS).expect("a header");
    let values = crate::normal(1, 1);
    let sealed = seal_value(&key, &header, &ring, &values).expect("sealed");
    group.bench_function("seal a column value", |bencher| {
        bencher.iter(|| seal_value(&key, &header, &ring, black_box(&values)));
    });
    group.bench_function("open a column value", |bencher| {
        bencher.iter_batched_ref(
            || vec![0f32; DIMS],
            |out| open_value(&key, &ring, black_box(&sealed), out).map(drop),
            BatchSize::SmallInput,
        );
    });
}
