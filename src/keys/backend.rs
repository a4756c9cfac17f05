//! What this backend is at the moment: its users, its process, its statement.

use pgrx::pg_sys;

/// The session and outer user: what SET SESSION AUTHORIZATION and SET ROLE change, and a
/// SECURITY DEFINER function does not.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Users {
    /// Who logged in, or whom SET SESSION AUTHORIZATION names.
    pub session: pg_sys::Oid,
    /// Whom SET ROLE names, else the session user.
    pub outer: pg_sys::Oid,
}

impl Users {
    /// Of nobody: equal to no users that a backend can have.
    pub const NONE: Self = Self { session: pg_sys::InvalidOid, outer: pg_sys::InvalidOid };

    /// Those of this moment.
    pub fn now() -> Self {
        // SAFETY: both only read a variable of the backend.
        unsafe { Self { session: unguarded::GetSessionUserId(), outer: unguarded::GetOuterUserId() } }
    }
}

/// The user whose privileges count at this moment; inside a SECURITY DEFINER function its owner.
pub fn current_user() -> pg_sys::Oid {
    // SAFETY: only reads a variable of the backend.
    unsafe { unguarded::GetUserId() }
}

/// Accessors that report no errors, called without pgrx's guard: that costs more than they do.
mod unguarded {
    use pgrx::pg_sys::{Oid, TimestampTz};

    unsafe extern "C" {
        pub fn GetSessionUserId() -> Oid;
        pub fn GetOuterUserId() -> Oid;
        pub fn GetUserId() -> Oid;
        pub fn GetCurrentStatementStartTimestamp() -> TimestampTz;
    }
}

/// This process.
pub fn process_id() -> i32 {
    // SAFETY: set once after fork, before any of our code runs in the process.
    unsafe { pg_sys::MyProcPid }
}

/// When the client's current statement began: what tells two statements apart.
pub fn statement() -> pg_sys::TimestampTz {
    // SAFETY: only reads a variable of the backend.
    unsafe { unguarded::GetCurrentStatementStartTimestamp() }
}
