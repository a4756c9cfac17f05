//! Shared memory of the audit: events that have no row, and failed unlocks by role and ring.
//!
//! If Postgres has no shared memory to spare, events stand in the server's log alone, and failed unlocks are not slowed:
//! nobody's key waits for that.
//!
//! Each kind of event has places of its own, so that what costs nothing, such as the name of a ring that is none, pushes no
//! wrong key out; and of a kind that has no place left, that login role loses its oldest event which has most, so that
//! nobody pushes out another's. Only copies happen under the lock: no allocation, nothing that can fail.

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

/// Wrong keys that are kept.
const WRONG_KEYS: usize = 24;
/// Denied rights.
const DENIED: usize = 12;
/// Other failures, and what was rolled back.
const FAILURES: usize = 16;
/// What was done.
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

/// Events in the order in which they came to their places, the first `len` of them.
#[repr(C)]
struct Newest<const N: usize> {
    len: u64,
    /// How many came before, for each place.
    numbers: [u64; N],
    next_number: u64,
    events: [Event; N],
}

#[repr(C)]
struct Kept {
    wrong_keys: Newest<WRONG_KEYS>,
    denied: Newest<DENIED>,
    failures: Newest<FAILURES>,
    others: Newest<OTHERS>,
    counts: [Count; COUNTED],
}

type Page = Shared<Kept>;

thread_local! {
    static PAGE: Cell<*mut Page> = const { Cell::new(ptr::null_mut()) };
    static REFUSED: Cell<bool> = const { Cell::new(false) };
}

/// Bytes of shared memory that it takes.
pub const LEN: usize = Page::LEN;

// Postgres leaves 100 kB for all extensions that are not preloaded.
const _: () = assert!(LEN <= 40 * 1024);

impl<const N: usize> Newest<N> {
    fn push(&mut self, event: &Event) {
        let place = match self.kept() {
            kept if kept < N => {
                self.len = kept as u64 + 1;
                kept
            }
            _ => self.to_give_up(event),
        };
        self.events[place] = *event;
        self.numbers[place] = self.next_number;
        self.next_number += 1;
    }

    /// How many there are; of shared memory, so no more than there can be.
    fn kept(&self) -> usize {
        self.len.min(N as u64) as usize
    }

    /// The oldest of the role that would have most places, were `new` one more.
    fn to_give_up(&self, new: &Event) -> usize {
        let places_of = |event: &Event| {
            self.events.iter().chain([new]).filter(|other| other.actor.session_user == event.actor.session_user).count()
        };
        let most = self.events.iter().map(places_of).max().unwrap_or(0);
        let of_those = (0..N).filter(|&place| places_of(&self.events[place]) == most);
        of_those.min_by_key(|&place| self.numbers[place]).unwrap_or(0)
    }

    fn copy(&self, out: &mut Vec<Event>) {
        out.extend_from_slice(&self.events[..self.kept()]); // within what the caller has reserved
    }
}

/// Keeps the event until newer ones take its place.
pub fn remember(event: &Event) {
    let outcome = event.outcome.as_str();
    let is_failure = outcome == Outcome::Failed.name() || outcome == Outcome::RolledBack.name();
    locked(pg_sys::LWLockMode::LW_EXCLUSIVE, |page| match (is_failure, &event.sqlstate) {
        (true, b"28P01") => page.wrong_keys.push(event),
        (true, b"42501") => page.denied.push(event),
        (true, _) => page.failures.push(event),
        (false, _) => page.others.push(event),
    });
}

/// What is kept, in no order.
pub fn events() -> Vec<Event> {
    let mut found = Vec::with_capacity(WRONG_KEYS + DENIED + FAILURES + OTHERS);
    locked(pg_sys::LWLockMode::LW_SHARED, |page| {
        page.wrong_keys.copy(&mut found);
        page.denied.copy(&mut found);
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

/// Claims the page in shared memory that the postmaster has just made, also after a crash, when it had one before.
pub fn begin() {
    PAGE.set(ptr::null_mut());
    REFUSED.set(false);
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
