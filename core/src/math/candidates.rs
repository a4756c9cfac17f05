//! Rows waiting for rerank, nearest lower bound first.
//!
//! A scan bounds thousands of rows and reranks some dozens, so only blocks are kept in order: a heap of each block's
//! least bound costs a step a block, not a step a row.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::code::BLOCK_ROWS;

/// Scored blocks and the order of their rows.
#[derive(Clone, Debug, Default)]
pub struct Candidates {
    blocks: Vec<[f32; BLOCK_ROWS]>,
    /// Least bound of a block and its number, packed so that integers order as the bounds do.
    heap: BinaryHeap<Reverse<u64>>,
}

/// A row taken from [`Candidates`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Its lower bound.
    pub lower: f32,
    /// The block, counted in the order of [`Candidates::push`].
    pub block: usize,
    /// The row in the block.
    pub row: usize,
}

impl Candidates {
    /// Forgets all blocks and keeps the memory.
    pub fn clear(&mut self) {
        self.blocks.clear();
        self.heap.clear();
    }

    /// Adds a block by its lower bounds, infinite where there is no row; `least` is what `score_block` returned.
    pub fn push(&mut self, lower: &[f32; BLOCK_ROWS], least: f32) {
        let number = self.blocks.len() as u32;
        self.blocks.push(*lower);
        self.enqueue(least, number);
    }

    /// Blocks added so far.
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// The least lower bound of the rows not taken; infinite when there is none.
    pub fn least(&self) -> f32 {
        self.heap.peek().map_or(f32::INFINITY, |Reverse(key)| ordered_to_float((key >> 32) as u32))
    }

    /// Takes the row of least lower bound.
    pub fn pop(&mut self) -> Option<Candidate> {
        let Reverse(key) = self.heap.pop()?;
        let (lower, number) = (ordered_to_float((key >> 32) as u32), key as u32);
        let bounds = &mut self.blocks[number as usize];
        let row = bounds.iter().position(|bound| *bound == lower).expect("a block's least bound is one of its bounds");
        bounds[row] = f32::INFINITY;
        let least = least(bounds);
        self.enqueue(least, number);
        Some(Candidate { lower, block: number as usize, row })
    }

    fn enqueue(&mut self, least: f32, number: u32) {
        if least < f32::INFINITY {
            self.heap.push(Reverse(u64::from(float_to_ordered(least)) << 32 | u64::from(number)));
        }
    }
}

/// The least of the bounds.
pub(super) fn least(bounds: &[f32; BLOCK_ROWS]) -> f32 {
    // Eight at a time, so that the compiler may use vectors.
    let mut least = [f32::INFINITY; 8];
    for bounds in bounds.chunks_exact(8) {
        for (least, bound) in least.iter_mut().zip(bounds) {
            *least = if *bound < *least { *bound } else { *least };
        }
    }
    least.into_iter().fold(f32::INFINITY, f32::min)
}

/// Bits that order, as an unsigned number, as the floats do; -0 and 0 are one.
fn float_to_ordered(x: f32) -> u32 {
    let bits = (x + 0.0).to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

fn ordered_to_float(bits: u32) -> f32 {
    f32::from_bits(if bits >> 31 == 1 { bits & !(1 << 31) } else { !bits })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::random::Random;

    #[test]
    fn rows_come_in_order_of_their_bounds() {
        let mut random = Random::new(b"candidates");
        let mut candidates = Candidates::default();
        for round in 0..3 {
            candidates.clear();
            let mut want = Vec::new();
            for block in 0..20 {
                let mut bounds = [f32::INFINITY; BLOCK_ROWS];
                for (row, bound) in bounds.iter_mut().enumerate().take(if block % 3 == 0 { block } else { 32 }) {
                    // Some equal, some zero, some below zero (inner product).
                    *bound = (random.normal() * 10.0).round() / if round == 0 { 1.0 } else { 7.0 };
                    want.push((*bound, block, row));
                }
                candidates.push(&bounds, least(&bounds));
            }
            want.sort_by(|a, b| a.0.total_cmp(&b.0));
            let mut seen = Vec::new();
            for want in &want {
                assert_eq!(candidates.least(), want.0);
                let got = candidates.pop().unwrap();
                assert_eq!(got.lower, want.0);
                seen.push((got.block, got.row));
            }
            assert_eq!(candidates.pop(), None);
            assert_eq!(candidates.least(), f32::INFINITY);
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), want.len());
        }
    }
}
