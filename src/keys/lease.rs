//! Long work that derived its keys at the start: it ends when the ring is taken away, as a scan does with its next row.

use pgrx::pg_sys;

use super::backend::current_user;
use super::held::Right;
use super::session::{generation, is_opener, with_dek};
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

/// What [`with_dek`] has just found of a ring: it may be used, until anything changes that could make the answer another.
#[derive(Clone, Copy)]
pub struct Standing {
    generation: u64,
    user: pg_sys::Oid,
}

impl Standing {
    /// Of a ring that was lent just now, and if nothing was closed since `before`, the [`generation`] from before that. None
    /// for one that is open to a role beside the one that opened it, or for one call: what ends such a use closes nothing,
    /// and is found by asking only.
    pub fn of(ring: u32, before: u64) -> Option<Self> {
        let (user, generation) = (current_user(), generation()); // which may close the ring: looked at afterwards
        (generation == before && is_opener(ring, user)).then_some(Self { generation, user })
    }

    /// Looks again, as [`with_dek`] does before it lends: at time, users and what was heard of other sessions.
    pub fn holds(&self) -> bool {
        generation() == self.generation && current_user() == self.user
    }
}
