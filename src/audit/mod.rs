//! Who did what with keys: one line in the server's log for each event, and a row or a place in shared memory.
//!
//! - **Done on purpose** (unlock, grants, rotation, users, key services, …): a line, and a row of `sealvec.audit_log` in
//!   the same transaction. If that is rolled back, the event moves to shared memory: a ring that was open for a while was open.
//! - **Failed, or where nothing may be written** (read-only, standby, parallel): a line, and a place in shared memory.
//! - **Opened by a statement by itself**: the same, once for each opening and never a row, because a SELECT writes nothing. A ring
//!   of provider `local` opens at any time without asking anybody: that is told only with `sealvec.audit_openings`.
//!
//! The view `sealvec.audit` shows rows and shared memory together. Nobody fails and nobody waits because of all this.

mod event;
mod functions;
mod log;
mod page;
mod row;
mod slow;

use std::cell::{Cell, RefCell};
use std::panic::AssertUnwindSafe;
use std::time::Instant;

use pgrx::PgSqlErrorCode::{self, *};
use pgrx::prelude::*;

use crate::clock::now_ms;
use crate::error::SqlError;
use crate::guc;
use event::{Event, Text};

pub use event::Operation;
pub use page::{LEN as SHARED_LEN, begin};
pub use slow::{Attempt, slow_down};

/// How long a refusal that was told is not told again.
const AGAIN_MS: u64 = 60_000;
/// Refusals that are remembered for it.
const TOLD_MAX: usize = 64;

thread_local! {
    /// How many audited calls are under way: what happens inside was asked for, and may be written.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// What the innermost call has said of itself.
    static NOTED: RefCell<Noted> = const { RefCell::new(Noted::of(None)) };
}

struct Noted {
    /// The call, as it began; `None` outside of calls.
    event: Option<Event>,
    ring: Option<String>,
    detail: String,
    /// It is written down already that it failed.
    is_told: bool,
}

impl Noted {
    const fn of(event: Option<Event>) -> Self {
        Self { event, ring: None, detail: String::new(), is_told: false }
    }

    /// The call, with the ring that it turned out to be about.
    fn event(&self) -> Option<Event> {
        let mut event = self.event?;
        if let Some(ring) = &self.ring {
            event.ring = Text::new(ring);
        }
        Some(event)
    }
}

/// Called once per backend from `_PG_init`.
pub fn init() {
    row::init();
}

/// Runs a call of `operation` about the ring of this name, and writes down how it ended.
pub fn call<R>(
    operation: Operation,
    ring: Option<&str>,
    run: impl FnOnce() -> Result<R, SqlError>,
) -> Result<R, SqlError> {
    audited(operation, |event| event.ring = Text::new(ring.unwrap_or_default()), run)
}

/// As [`call`], about the key service of this name.
pub fn call_kms<R>(
    operation: Operation,
    kms: Option<&str>,
    run: impl FnOnce() -> Result<R, SqlError>,
) -> Result<R, SqlError> {
    audited(operation, |event| event.kms = Text::new(kms.unwrap_or_default()), run)
}

/// Adds to what the log will say of the audited call under way. No key, no token.
pub fn note(detail: impl AsRef<str>) {
    if DEPTH.get() == 0 {
        return;
    }
    NOTED.with_borrow_mut(|noted| {
        if !noted.detail.is_empty() {
            noted.detail.push_str("; ");
        }
        noted.detail.push_str(detail.as_ref());
    });
}

/// Names the ring of the call under way, where the caller did not.
pub fn about(ring: &str) {
    if DEPTH.get() == 0 {
        return;
    }
    NOTED.with_borrow_mut(|noted| noted.ring = Some(ring.to_owned()));
}

/// Bytes of a public id, for a detail.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn audited<R>(
    operation: Operation,
    describe: impl FnOnce(&mut Event),
    run: impl FnOnce() -> Result<R, SqlError>,
) -> Result<R, SqlError> {
    page::prepare();
    // Before `run`: after an ERROR of Postgres no catalog may be looked into.
    let mut event = Event::now(operation);
    describe(&mut event);
    let outer = Inside::enter(event);
    let result = watched(&event, run);
    let noted = outer.leave();
    let mut event = noted.event().unwrap_or(event);
    match &result {
        Ok(_) => {
            event.detail = Text::new(&noted.detail);
            deliberate(&event);
        }
        Err(_) if noted.is_told => {}
        Err(error) => failed(&event, error),
    }
    result
}

/// Runs it; an ERROR of Postgres on its way through is written down and goes on.
fn watched<R>(event: &Event, run: impl FnOnce() -> R) -> R {
    let event = AssertUnwindSafe(event);
    PgTryBuilder::new(AssertUnwindSafe(run))
        .catch_others(|error| {
            let (noted, is_told) = NOTED.with_borrow(|noted| (Text::new(&noted.detail), noted.is_told));
            let state = match &error {
                pg_sys::panic::CaughtError::PostgresError(report) | pg_sys::panic::CaughtError::ErrorReport(report) => {
                    report.sql_error_code()
                }
                pg_sys::panic::CaughtError::RustPanic { .. } => ERRCODE_INTERNAL_ERROR,
            };
            if !is_told {
                tell(&Event { detail: noted, ..event.failed(state) });
            }
            error.rethrow()
        })
        .execute()
}

/// An audited call; what another one around it had noted comes back when it ends.
struct Inside(Option<Noted>);

impl Inside {
    fn enter(event: Event) -> Self {
        DEPTH.set(DEPTH.get() + 1);
        Self(Some(NOTED.replace(Noted::of(Some(event)))))
    }

    fn leave(mut self) -> Noted {
        NOTED.replace(self.0.take().expect("left once"))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get().saturating_sub(1));
        if let Some(before) = self.0.take() {
            NOTED.set(before);
        }
    }
}

/// A line, and a row where that may be.
fn deliberate(event: &Event) {
    log::write(event);
    if !row::insert(event) {
        page::remember(event);
    }
}

/// A line, and a place in shared memory.
fn tell(event: &Event) {
    log::write(event);
    page::remember(event);
}

fn failed(event: &Event, error: &SqlError) {
    let mut event = event.failed(error.sqlstate);
    if is_no_name(error.sqlstate) {
        // What is no name of anything may be a key that came as the wrong argument.
        (event.ring, event.kms) = (Text::EMPTY, Text::EMPTY);
    } else {
        event.detail = Text::new(&error.message);
    }
    tell(&event);
}

fn is_no_name(state: PgSqlErrorCode) -> bool {
    matches!(state, ERRCODE_UNDEFINED_OBJECT | ERRCODE_INVALID_NAME | ERRCODE_RESERVED_NAME)
}

/// The audited call under way, if there is one, has failed: written down now, and not again when it ends. Its end may not come:
/// a session that is terminated while it waits unwinds nothing.
fn fails(error: &SqlError) {
    let event = NOTED.with_borrow_mut(|noted| {
        noted.is_told |= noted.event.is_some();
        noted.event()
    });
    if let Some(event) = event {
        failed(&event, error);
    }
}

/// A statement has opened a ring, or was refused, without a call of `unlock`: once for each opening. Of a ring that is
/// there at any time only with `sealvec.audit_openings`.
pub fn opened(ring: &str, is_at_hand: bool, how: &str) {
    // Inside an audited call, that tells of it.
    if DEPTH.get() > 0 || is_at_hand && !guc::audit_openings() {
        return;
    }
    let mut event = Event::now(Operation::Open);
    (event.ring, event.detail) = (Text::new(ring), Text::new(how));
    tell(&event);
}

/// A call was refused a ring: the key that it showed is wrong, or may not do that.
pub fn refused(ring: &str, error: &SqlError) {
    if DEPTH.get() > 0 {
        return;
    }
    let mut event = Event::now(Operation::Open);
    event.ring = Text::new(ring);
    failed(&event, error);
}

/// A statement was refused a ring: the role may not, or who keeps the key did not give it. Told once for a ring, role and
/// reason in [`AGAIN_MS`]: inserts into an index that wait for somebody with the key come here with each row.
pub fn refused_by_itself(ring: u32, name: &str, error: &SqlError) {
    thread_local! {
        static TOLD: RefCell<Vec<(u32, pg_sys::Oid, PgSqlErrorCode, u64)>> = const { RefCell::new(Vec::new()) };
    }
    // SAFETY: only reads a variable of the backend.
    let (role, now_ms) = (unsafe { pg_sys::GetUserId() }, now_ms());
    let is_new = TOLD.with_borrow_mut(|told| {
        told.retain(|(.., at_ms)| now_ms.saturating_sub(*at_ms) < AGAIN_MS);
        let is_new = !told.iter().any(|(of, by, state, _)| (*of, *by, *state) == (ring, role, error.sqlstate));
        if is_new && told.len() < TOLD_MAX {
            told.push((ring, role, error.sqlstate, now_ms));
        }
        is_new
    });
    if is_new {
        refused(name, error);
    }
}

/// Runs a request to the key service `kms` about the ring with this UUID; `failure` tells why an answer is none.
pub fn kms_request<R>(
    operation: Operation,
    kms: &str,
    ring: &str,
    run: impl FnOnce() -> R,
    failure: impl FnOnce(&R) -> Option<PgSqlErrorCode>,
) -> R {
    page::prepare();
    let mut event = Event::now(operation);
    event.kms = Text::new(kms);
    let begun = Instant::now();
    let answer = watched(&event, run);
    event.detail = Text::new(&format!("ring {ring}, {} ms", begun.elapsed().as_millis()));
    match failure(&answer) {
        Some(state) => tell(&event.failed(state)),
        None if DEPTH.get() > 0 => deliberate(&event),
        None => tell(&event),
    }
    answer
}
