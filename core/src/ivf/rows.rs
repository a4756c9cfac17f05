//! Opened vectors, end to end: wiped when they are dropped, and when they move to more room.

use std::ops::{Deref, DerefMut};

use zeroize::Zeroizing;

/// Elements of rows that were opened. A `Vec` that grows would leave what it had behind in freed memory.
#[derive(Clone, Default)]
pub struct Rows(Zeroizing<Vec<f32>>);

impl Rows {
    /// No rows yet, and room for `elements` elements.
    pub fn with_capacity(elements: usize) -> Self {
        Self(Zeroizing::new(Vec::with_capacity(elements)))
    }

    /// `elements` zeros, to open into.
    pub fn zeroed(elements: usize) -> Self {
        Self(Zeroizing::new(vec![0.0; elements]))
    }

    /// The rows of `dims` elements at `places` of `all`.
    pub fn gather(all: &[f32], dims: usize, places: impl ExactSizeIterator<Item = usize>) -> Self {
        let mut rows = Self::with_capacity(places.len() * dims);
        places.for_each(|place| rows.push(&all[place * dims..][..dims]));
        rows
    }

    /// Appends the elements of a row.
    pub fn push(&mut self, row: &[f32]) {
        let needed = self.0.len() + row.len();
        if needed > self.0.capacity() {
            let mut more = Zeroizing::new(Vec::with_capacity(needed.max(self.0.capacity() * 2)));
            more.extend_from_slice(&self.0);
            self.0 = more; // what was there before is wiped here
        }
        self.0.extend_from_slice(row);
    }
}

impl Deref for Rows {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl DerefMut for Rows {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}
