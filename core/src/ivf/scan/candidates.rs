//! Rows with a lower bound of their score, to be taken lowest first without sorting all of them.
//!
//! A scan codes thousands of rows and takes some dozens. Rows that can be among the best few go to
//! a heap; the others stay where scoring left them until the heap runs dry.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::format::list::BLOCK_ROWS;

/// How many good estimates decide which rows are hot.
const GOOD: usize = 40;
/// Rows that one refill makes hot at least.
const REFILL: usize = 64;

/// A float ordered as numbers are, NaN last.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ordered(pub f32);

impl Eq for Ordered {}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// Scored rows that were not taken yet.
pub struct Candidates {
    /// Bounds of every row ever added; infinite once the row is hot.
    lowers: Vec<f32>,
    /// Slots of every row ever added.
    slots: Vec<u64>,
    hot: BinaryHeap<Reverse<(Ordered, u64)>>,
    /// No row outside `hot` has a bound at or below this.
    cut: f32,
    /// The best estimates so far, worst on top.
    good: BinaryHeap<Ordered>,
    refill: usize,
}

impl Default for Candidates {
    fn default() -> Self {
        Self {
            lowers: Vec::new(),
            slots: Vec::new(),
            hot: BinaryHeap::new(),
            cut: f32::INFINITY,
            good: BinaryHeap::with_capacity(GOOD + 1),
            refill: REFILL,
        }
    }
}

/// Memory that one scan leaves to the next.
#[derive(Default)]
pub struct Spare {
    lowers: Vec<f32>,
    slots: Vec<u64>,
    hot: Vec<Reverse<(Ordered, u64)>>,
}

/// Rows whose memory is kept: 28 bytes each at most.
const SPARE_ROWS: usize = 1 << 16;

impl Candidates {
    /// None yet, in memory of a scan before.
    pub fn within(spare: Spare) -> Self {
        let Spare { mut lowers, mut slots, mut hot } = spare;
        lowers.clear();
        slots.clear();
        hot.clear();
        Self { lowers, slots, hot: hot.into(), ..Self::default() }
    }

    /// Leaves the memory, unless it is much.
    pub fn leave(self) -> Spare {
        let spare = Spare { lowers: self.lowers, slots: self.slots, hot: self.hot.into_vec() };
        let rows = spare.lowers.capacity().max(spare.slots.capacity()).max(spare.hot.capacity());
        if rows <= SPARE_ROWS { spare } else { Spare::default() }
    }

    /// Adds the first rows of a scored block, as many as `slots` has. No bound is below `lowest`.
    pub fn add(
        &mut self,
        lowest: f32,
        lowers: &[f32; BLOCK_ROWS],
        estimates: &[f32; BLOCK_ROWS],
        slots: impl ExactSizeIterator<Item = u64>,
    ) {
        let start = self.lowers.len();
        let rows = slots.len();
        self.lowers.extend_from_slice(&lowers[..rows]);
        self.slots.extend(slots);
        if lowest > self.cut {
            return;
        }
        for row in 0..rows {
            if lowers[row] > self.cut {
                continue;
            }
            self.note_estimate(estimates[row]);
            self.hot.push(Reverse((Ordered(lowers[row]), self.slots[start + row])));
            self.lowers[start + row] = f32::INFINITY;
        }
    }

    /// The cut follows the `GOOD`-th best estimate: rows whose bound lies above it are not needed soon. Until more rows than
    /// those were wanted: from then on it only rises, or each list that a long scan adds would have it look for the next
    /// rows among all again.
    fn note_estimate(&mut self, estimate: f32) {
        if self.refill > REFILL {
            return;
        }
        if self.good.len() < GOOD {
            self.good.push(Ordered(estimate));
            if self.good.len() < GOOD {
                return;
            }
        } else if self.good.peek().is_some_and(|worst| estimate < worst.0) {
            self.good.pop();
            self.good.push(Ordered(estimate));
        }
        if let Some(worst) = self.good.peek() {
            self.cut = self.cut.min(worst.0);
        }
    }

    /// The lowest bound of all rows; infinite if there is none.
    pub fn lowest(&mut self) -> f32 {
        loop {
            match self.hot.peek() {
                Some(Reverse((lower, _))) if lower.0 <= self.cut => return lower.0,
                top => {
                    let top = top.map_or(f32::INFINITY, |Reverse((lower, _))| lower.0);
                    if !self.warm_up() {
                        return top;
                    }
                }
            }
        }
    }

    /// Takes the row with the lowest bound.
    pub fn take(&mut self) -> Option<u64> {
        self.lowest();
        self.hot.pop().map(|Reverse((_, slot))| slot)
    }

    /// As [`take`](Self::take), if the bound is at most `limit` and nothing has to be looked for.
    pub fn take_within(&mut self, limit: f32) -> Option<u64> {
        let Reverse((lower, _)) = self.hot.peek()?;
        if lower.0 > self.cut.min(limit) {
            return None;
        }
        self.hot.pop().map(|Reverse((_, slot))| slot)
    }

    /// Slots of every row ever added.
    pub fn slots(&self) -> &[u64] {
        &self.slots
    }

    /// Makes the next best rows hot; `false` if all are.
    fn warm_up(&mut self) -> bool {
        let mut cold: Vec<f32> = self.lowers.iter().copied().filter(|lower| *lower < f32::INFINITY).collect();
        if cold.is_empty() {
            self.cut = f32::INFINITY;
            return false;
        }
        let wanted = self.refill.min(cold.len());
        self.refill = self.refill.saturating_mul(2); // a scan that goes on and on asks often
        let (_, cut, _) = cold.select_nth_unstable_by(wanted - 1, f32::total_cmp);
        self.cut = *cut;
        for (lower, slot) in self.lowers.iter_mut().zip(&self.slots) {
            if *lower <= self.cut {
                self.hot.push(Reverse((Ordered(*lower), *slot)));
                *lower = f32::INFINITY;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::random::Random;

    /// A scan through a selective filter takes rows between blocks, hundreds of times.
    #[test]
    fn refills_without_end() {
        let mut candidates = Candidates::default();
        for block in 0..300u64 {
            candidates.add(
                block as f32,
                &[block as f32; 32],
                &[1e9; 32],
                (0..32).map(|row| block * 32 + row).collect::<Vec<_>>().into_iter(),
            );
            for _ in 0..32 {
                assert!(candidates.take().is_some_and(|slot| slot / 32 == block));
            }
            assert_eq!(candidates.lowest(), f32::INFINITY);
            candidates.cut = -1.0; // as the good estimates of a nearer block would
        }
    }

    #[test]
    fn rows_come_lowest_first_whatever_the_estimates() {
        let mut random = Random::from_number(5);
        let mut candidates = Candidates::default();
        let mut all = Vec::new();
        for block in 0..60u64 {
            let rows = 1 + random.below(32);
            let lowers: [f32; 32] = std::array::from_fn(|_| random.uniform() as f32);
            let estimates = std::array::from_fn(|row| lowers[row] + random.uniform() as f32 * 0.3);
            candidates.add(
                lowers[..rows].iter().copied().fold(f32::INFINITY, f32::min),
                &lowers,
                &estimates,
                (0..rows as u64).map(|row| block * 32 + row).collect::<Vec<_>>().into_iter(),
            );
            all.extend((0..rows).map(|row| (Ordered(lowers[row]), block * 32 + row as u64)));
            if block % 7 == 3 {
                // Taking in between: what was taken is the lowest of what was there.
                all.sort();
                assert_eq!(candidates.lowest(), all[0].0.0);
                assert_eq!(candidates.take(), Some(all.remove(0).1));
            }
        }
        all.sort();
        let taken: Vec<u64> = std::iter::from_fn(|| candidates.take()).collect();
        assert_eq!(taken, all.iter().map(|(_, slot)| *slot).collect::<Vec<_>>());
        assert_eq!(candidates.lowest(), f32::INFINITY);
    }
}
