//! Failed unlocks are slow, for the role that fails and the ring it fails at: on the way of the failure only, so that a
//! right key never waits, whoever tried a wrong one.

use std::time::{Duration, Instant};

use pgrx::PgSqlErrorCode::ERRCODE_INVALID_PASSWORD;
use pgrx::pg_sys;
use sealvec_core::audit::delay_ms;

use super::page::{self, Tried};
use crate::clock::now_ms;
use crate::error::SqlError;
use crate::guc;

/// Failures are in a row if no more than that lies between two.
const WINDOW_MS: u64 = 10 * 60 * 1000;

/// An attempt of this session to open a ring with a key.
#[derive(Clone, Copy)]
pub struct Attempt(Tried);

impl Attempt {
    /// At the ring with this number.
    pub fn at(ring: u32) -> Self {
        // SAFETY: reads variables of the backend. The session's user, because SET ROLE gives as many others as one is
        // a member of.
        let (database, role) = unsafe { (pg_sys::MyDatabaseId, pg_sys::GetSessionUserId()) };
        Self(Tried { database, role, ring })
    }

    /// The key was right.
    pub fn succeeded(self) {
        page::succeeded(self.0);
    }
}

/// Waits, if the key was wrong, as long as this failure is to take; returns the error. It is written down before: in an audited
/// call here, else by the caller.
///
/// A cancel, a timeout of the statement and a termination end the wait at once, and the statement with it.
pub fn slow_down(attempt: Attempt, error: SqlError) -> SqlError {
    if error.sqlstate != ERRCODE_INVALID_PASSWORD {
        return error;
    }
    super::fails(&error);
    let failures = page::failed(attempt.0, now_ms(), WINDOW_MS);
    let delay = delay_ms(failures, guc::failed_unlock_delay_max_ms());
    if delay > 0 {
        wait(Duration::from_millis(u64::from(delay)));
    }
    error
}

fn wait(delay: Duration) {
    let until = Instant::now() + delay;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
        // SAFETY: this backend's own latch; no lock of the server is held by the callers, who read catalogs only.
        unsafe {
            pg_sys::WaitLatch(pg_sys::MyLatch, events as i32, left.as_millis() as i64 + 1, pg_sys::PG_WAIT_EXTENSION);
            pg_sys::ResetLatch(pg_sys::MyLatch);
        }
        pgrx::check_for_interrupts!();
    }
}
