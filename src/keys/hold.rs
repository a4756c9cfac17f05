//! Locks on one ring, held to the end of the transaction: on its number, as Postgres locks an object that is no table.
//!
//! Whoever names a ring in a column keeps it from being dropped, whoever changes one keeps others from changing the
//! same one. Nobody waits for what is done to another ring, and a column never waits for a change.

use pgrx::pg_sys;

use super::catalog;
use super::table::prevent_read_only;
use crate::error::SqlError;

/// What a ring is held for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// It stays: a column, a grant. Any number at once.
    Use,
    /// Only one changes its row or its grants; two that read the same row would both write it, and one DEK would be lost.
    Change,
    /// It goes: nobody else has it, nor gets it before this transaction ends.
    Drop,
}

/// Holds the ring with this number, which need not exist. What was read of it before may be out of date afterwards.
///
/// # Errors
/// 25006 in a read-only transaction or on a standby, except for use.
pub fn hold(number: u32, how: Hold) -> Result<(), SqlError> {
    let mode = match how {
        Hold::Use => pg_sys::AccessShareLock,
        Hold::Change => pg_sys::ShareUpdateExclusiveLock,
        Hold::Drop => pg_sys::AccessExclusiveLock,
    };
    if how != Hold::Use {
        prevent_read_only();
    }
    let class = match catalog::ring_table() {
        Ok(class) => class,
        // pg_upgrade restores the members of an extension in any order: where there are no rings, none is dropped.
        Err(_) if how == Hold::Use => return Ok(()),
        Err(error) => return Err(error),
    };
    // SAFETY: takes any object's address; waits or reports an error, and hears of invalidations once it has the lock.
    unsafe { pg_sys::LockDatabaseObject(class, number.into(), 0, mode as pg_sys::LOCKMODE) };
    Ok(())
}
