//! Long work that derived its keys at the start: it ends when the ring is taken away, as a scan does with its next row.

use super::held::Right;
use super::session::{generation, with_dek};
use crate::error::SqlError;

/// The use of a ring for the length of such work.
pub struct Lease {
    ring: u32,
    right: Right,
    generation: u64,
}

impl Lease {
    /// From now on. The work has just opened the ring.
    pub fn new(ring: u32, right: Right) -> Self {
        Self { ring, right, generation: generation() }
    }

    /// Looks again. Costs some 20 ns, so it can be asked once a row; holds no lock and is asked under none.
    ///
    /// # Errors
    /// As [`with_dek`], if the ring was closed, or the current user lost the right.
    pub fn renew(&mut self) -> Result<(), SqlError> {
        if generation() != self.generation {
            with_dek(self.ring, None, self.right, |_, _| ())?;
            self.generation = generation();
        }
        Ok(())
    }
}
