//! Coding rows into the plaintext of chunks.

use rayon::prelude::*;
use zeroize::Zeroizing;

use super::{Directory, rows::Rows};
use crate::{
    format::list::{BLOCK_ROWS, CHUNK_PREFIX, ChunkLayout},
    math::encode_block,
    metric::Metric,
};

/// A chunk's plaintext and its rows.
pub type Chunk = (Zeroizing<Vec<u8>>, usize);

/// Codes rows against a list of `directory`, or against the mean (L0), into chunks.
pub fn encode_rows(
    directory: &Directory,
    metric: Metric,
    list: Option<usize>,
    slots: &[u64],
    values: &[f32],
) -> Vec<Chunk> {
    let layout: &ChunkLayout = &directory.layout;
    let padded = directory.rotation.padded();
    let dims = directory.stream.mean.len();
    let mut shifted = Zeroizing::new(Vec::with_capacity(dims));
    let mut centroid = Zeroizing::new(vec![0.0; padded]); // the mean itself, shifted by the mean
    if let Some(list) = list {
        directory.rotate(&directory.centroid(list), &mut shifted, &mut centroid);
    }
    let mut rotated = Rows::zeroed(BLOCK_ROWS * padded);
    let mut chunks = Vec::new();
    for (slots, values) in split_by_reach(slots, layout.rows_max())
        .map(|range| (&slots[range.clone()], &values[range.start * dims..range.end * dims]))
    {
        let mut plain = Zeroizing::new(vec![0; layout.plain_len(slots.len())]);
        plain[..CHUNK_PREFIX].copy_from_slice(&slots[0].to_le_bytes());
        for (index, (slots_of_block, rows)) in
            slots.chunks(BLOCK_ROWS).zip(values.chunks(BLOCK_ROWS * dims)).enumerate()
        {
            for (row, out) in rows.chunks_exact(dims).zip(rotated.chunks_exact_mut(padded)) {
                directory.rotate(row, &mut shifted, out);
            }
            let (range, deltas) = layout.block_at(slots.len(), index);
            let (codes, deltas) = plain[range].split_at_mut(deltas);
            encode_block(&layout.block, metric, &centroid, &rotated[..slots_of_block.len() * padded], codes);
            deltas.fill(0xff);
            for (slot, delta) in slots_of_block.iter().zip(deltas.chunks_exact_mut(4)) {
                delta.copy_from_slice(&((slot - slots[0]) as u32).to_le_bytes());
            }
        }
        chunks.push((plain, slots.len()));
    }
    chunks
}

/// Cuts ascending slots into ranges of at most `most` whose distance from the first fits 32 bits.
fn split_by_reach(slots: &[u64], most: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let base = *slots.get(start)?;
        let reach = slots[start..].iter().take(most).take_while(|slot| **slot - base < u64::from(u32::MAX)).count();
        let range = start..start + reach;
        start = range.end;
        Some(range)
    })
}

/// `f` of each item and its number, in order, on the threads of `pool` if there are any. Without, not through rayon,
/// which would make threads of its own, and Postgres's signals might find them.
pub(super) fn in_parallel<T: Sync, R: Send>(
    pool: Option<&rayon::ThreadPool>,
    items: &[T],
    f: impl Fn(usize, &T) -> R + Sync,
) -> Vec<R> {
    match pool {
        Some(pool) => pool.install(|| items.par_iter().enumerate().map(|(number, item)| f(number, item)).collect()),
        None => items.iter().enumerate().map(|(number, item)| f(number, item)).collect(),
    }
}
