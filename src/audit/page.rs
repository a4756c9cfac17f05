//! Shared memory of the audit: events that have no row, and failed unlocks by role and ring.
//!
//! If Postgres has no shared memory to spare, events stand in the server's log alone, and failed unlocks are not slowed:
//! nobody's key waits for that.
//!
//! Failures have places of their own, so that the traffic of a busy server does not push them out. Only copies happen
//! under the lock: no allocation, nothing that can fail.

use std::cell::Cell;
use std::ffi::CStr;
use std::ptr;

use pgrx::pg_sys;

use super::event::{Event, Outcome};
use crate::shared::{self, Shared};
use crate::tell::warning;

/// Names the page in Postgres's table of shared memory. With another layout it gets another number, since a library that
/// was replaced meets the page of the old one until the server is restarted.
const NAME: &CStr = c"sealvec audit 2";
const TRANCHE: &CStr = c"SealvecAudit";

/// Failed and undone events that are kept.
const FAILURES: usize = 48;
/// Others.
const OTHERS: usize = 16;
/// Roles and rings whose failed unlocks are counted.
const COUNTED: usize = 128;

/// Who fails to open what.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tried {
    /// Where the ring is.
    pub database: pg_sys::Oid,
    /// Who logged in.
    pub role: pg_sys::Oid,
    /// Number of the ring; 0 in an empty place.
    pub ring: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Count {
    tried: Tried,
    failures: u32,
    /// When the last one was, in milliseconds of CLOCK_BOOTTIME.
    last_ms: u64,
}

/// The newest events, each at its number modulo `N`.
#[repr(C)]
struct Newest<const N: usize> {
    written: u64,
    events: [Event; N],
}

#[repr(C)]
struct Kept {
    failures: Newest<FAILURES>,
    others: Newest<OTHERS>,
    counts: [Count; COUNTED],
}

type Page = Shared<Kept>;

/// Bytes of shared memory that it takes.
pub const LEN: usize = Page::LEN;

// Postgres leaves 100 kB for all extensions that are not preloaded.
const _: () = assert!(LEN <= 40 * 1024);

impl<const N: usize> Newest<N> {
    fn push(&mut self, event: &Event) {
        self.events[(self.written % N as u64) as usize] = *event;
        self.written += 1;
    }

    fn copy(&self, out: &mut Vec<Event>) {
        let kept = self.written.min(N as u64) as usize;
        out.extend_from_slice(&self.events[..kept]); // within what the caller has reserved
    }
}

/// Keeps the event until newer ones take its place.
pub fn remember(event: &Event) {
    let outcome = event.outcome.as_str();
    let is_failure = outcome == Outcome::Failed.name() || outcome == Outcome::RolledBack.name();
    locked(pg_sys::LWLockMode::LW_EXCLUSIVE, |page| match is_failure {
        true => page.failures.push(event),
        false => page.others.push(event),
    });
}

/// What is kept, in no order.
pub fn events() -> Vec<Event> {
    let mut found = Vec::with_capacity(FAILURES + OTHERS);
    locked(pg_sys::LWLockMode::LW_SHARED, |page| {
        page.failures.copy(&mut found);
        page.others.copy(&mut found);
    });
    found
}

/// Counts a failure at `now_ms`; returns how many there were in a row, each at most `window_ms` after the one before.
pub fn failed(tried: Tried, now_ms: u64, window_ms: u64) -> u32 {
    locked(pg_sys::LWLockMode::LW_EXCLUSIVE, |page| {
        let counts = &mut page.counts;
        let known = counts.iter().position(|count| count.tried == tried);
        // Else the place that was not used for longest.
        let place = known.unwrap_or_else(|| {
            let oldest = counts.iter().enumerate().min_by_key(|(_, count)| count.last_ms);
            oldest.map_or(0, |(place, _)| place)
        });
        let count = &mut counts[place];
        if count.tried != tried || now_ms.saturating_sub(count.last_ms) > window_ms {
            (count.tried, count.failures) = (tried, 0);
        }
        count.failures = count.failures.saturating_add(1);
        count.last_ms = now_ms;
        count.failures
    })
    .unwrap_or(0)
}

/// A success: earlier failures count no more.
pub fn succeeded(tried: Tried) {
    let known = |page: &mut Kept| page.counts.iter().position(|count| count.tried == tried && count.failures > 0);
    if locked(pg_sys::LWLockMode::LW_SHARED, known).flatten().is_none() {
        return;
    }
    locked(pg_sys::LWLockMode::LW_EXCLUSIVE, |page| {
        if let Some(place) = known(page) {
            (page.counts[place].failures, page.counts[place].last_ms) = (0, 0);
        }
    });
}

/// Claims the page while an ERROR may still be reported, and no lock is held.
pub fn prepare() {
    attached();
}

/// Lends the page under its lock; `None` if there is none. `f` must not raise errors; in a shared lock it only reads.
fn locked<R>(mode: pg_sys::LWLockMode::Type, f: impl FnOnce(&mut Kept) -> R) -> Option<R> {
    let page = attached()?;
    // SAFETY: `attached` gives what was claimed.
    Some(unsafe { Page::locked(page, mode, f) })
}

/// The page, claimed if this is the first backend that asks; `None` if there is no memory for it.
fn attached() -> Option<*mut Page> {
    thread_local! {
        static PAGE: Cell<*mut Page> = const { Cell::new(ptr::null_mut()) };
        static REFUSED: Cell<bool> = const { Cell::new(false) };
    }
    if PAGE.get().is_null() && !REFUSED.get() {
        // SAFETY: all-zero is a value of everything in it.
        match unsafe { shared::claim(NAME, TRANCHE) } {
            Ok(page) => PAGE.set(page),
            Err(_) => {
                REFUSED.set(true);
                warning!("no shared memory is left for the audit of key rings");
            }
        }
    }
    Some(PAGE.get()).filter(|page| !page.is_null())
}
