//! Holding back what may end a statement in the middle.

use pgrx::pg_sys;

/// While it lives, no cancel and no termination is answered; they are afterwards.
pub struct Undisturbed;

impl Undisturbed {
    /// From now on.
    pub fn start() -> Self {
        // SAFETY: what HOLD_INTERRUPTS does; this thread alone changes it.
        unsafe { pg_sys::InterruptHoldoffCount += 1 };
        Self
    }
}

impl Drop for Undisturbed {
    fn drop(&mut self) {
        // SAFETY: what RESUME_INTERRUPTS does. An ERROR sets the count to 0.
        unsafe { pg_sys::InterruptHoldoffCount = pg_sys::InterruptHoldoffCount.saturating_sub(1) };
    }
}
