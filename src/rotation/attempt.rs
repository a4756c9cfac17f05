//! Work that may fail without ending what it is part of: in a subtransaction of its own, and waiting for nobody's lock for long.
//!
//! Anybody may name a ring in a column of a table of his, and hold that table locked, or have it damaged. Whoever goes through
//! all of them holds the ring meanwhile.

use std::ffi::CString;
use std::panic::AssertUnwindSafe;

use pgrx::PgSqlErrorCode::*;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;

use crate::error::SqlError;

/// Longest wait for a lock, until one did not come: what is locked for a moment only, as by autovacuum when it cuts a table
/// short, is free by then. Shorter than `deadlock_timeout` is by default.
const LOCK_WAIT_MAX_MS: i32 = 500;
/// And for each after that: whoever locks one table may lock thousands.
const LOCK_WAIT_MIN_MS: i32 = 10;

/// One attempt after another, and how long they may still wait.
pub struct Attempts {
    lock_wait_ms: i32,
}

/// Why an attempt came to nothing.
pub enum Failed {
    /// What it needs is locked by another session.
    Locked,
    /// Anything else, in Postgres's words or ours.
    Error(String),
}

/// What ended an attempt.
enum Ended {
    Ours(SqlError),
    Caught(Box<CaughtError>),
}

impl Attempts {
    /// None yet.
    pub fn new() -> Self {
        Self { lock_wait_ms: LOCK_WAIT_MAX_MS }
    }

    /// Runs `f`. What it allocated and locked stays if it succeeds.
    ///
    /// # Errors
    /// What is no failure of the attempt, but ends the statement: a cancel, a conflict with recovery.
    pub fn run<T>(&mut self, f: impl FnOnce() -> Result<T, SqlError>) -> Result<Result<T, Failed>, SqlError> {
        let lock_wait = self.lock_wait();
        // SAFETY: begun here and ended below, whatever `f` does; what is current goes back to what it was, as PL/pgSQL has it.
        let (context, owner) = unsafe { (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner) };
        // SAFETY: as above. The setting is the subtransaction's, and ends with it.
        unsafe {
            pg_sys::BeginInternalSubTransaction(std::ptr::null());
            pg_sys::MemoryContextSwitchTo(context);
            pg_sys::set_config_option(
                c"lock_timeout".as_ptr(),
                lock_wait.as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SAVE,
                true,
                0,
                false,
            );
        }
        let result = PgTryBuilder::new(AssertUnwindSafe(|| f().map_err(Ended::Ours)))
            .catch_others(|caught| Err(Ended::Caught(caught.into())))
            .execute();
        // SAFETY: the subtransaction begun above is the current one: `f` ends those that it begins.
        unsafe {
            match result {
                Ok(_) => pg_sys::ReleaseCurrentSubTransaction(),
                Err(_) => pg_sys::RollbackAndReleaseCurrentSubTransaction(),
            }
            pg_sys::MemoryContextSwitchTo(context);
            pg_sys::CurrentResourceOwner = owner;
        }
        let (state, message) = match result {
            Ok(value) => return Ok(Ok(value)),
            Err(Ended::Ours(error)) => (error.sqlstate, error.message.into_owned()),
            Err(Ended::Caught(caught)) => match *caught {
                CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => {
                    (report.sql_error_code(), report.message().to_owned())
                }
                bug @ CaughtError::RustPanic { .. } => bug.rethrow(),
            },
        };
        match state {
            // Whoever holds it may wait for the ring in turn.
            ERRCODE_LOCK_NOT_AVAILABLE | ERRCODE_T_R_DEADLOCK_DETECTED => {
                self.lock_wait_ms = LOCK_WAIT_MIN_MS;
                Ok(Err(Failed::Locked))
            }
            ERRCODE_QUERY_CANCELED | ERRCODE_ADMIN_SHUTDOWN | ERRCODE_T_R_SERIALIZATION_FAILURE => {
                Err(SqlError::new(state, message))
            }
            _ => Ok(Err(Failed::Error(message))),
        }
    }

    fn lock_wait(&self) -> CString {
        // SAFETY: reads a setting of the backend; 0 is no limit.
        let own = Some(unsafe { pg_sys::LockTimeout }).filter(|own| *own > 0);
        let wait = own.map_or(self.lock_wait_ms, |own| own.min(self.lock_wait_ms));
        CString::new(wait.to_string()).expect("digits")
    }
}
