//! Opens values for a moment: elements live in two wiped slots of the backend, never in a memory context.
//!
//! A query compares thousands of rows with one vector, so a slot whose value comes again keeps its
//! elements. "Comes again" means the same sealed bytes, all of them: were only the nonce compared, a
//! value with a flipped bit would pass as opened. The right to open is checked each time all the same.

use std::cell::Cell;
use std::rc::Rc;

use pgrx::pg_sys;
use pgrx::prelude::*;
use sealvec_core::Error;
use sealvec_core::crypto::XaesKey;
use sealvec_core::format::value::{self, HEADER_LEN, ValueHeader, ValueKind};
use sealvec_core::keys::Uuid;
use zeroize::Zeroizing;

use super::varlena::Value;
use super::{errors, repeated, seal, typmod};
use crate::error::SqlError;
use crate::keys::{self, Right, Standing};

/// Runs `f` on the elements of `value`; wrong bytes, a locked ring or a dead session are errors.
pub fn with_vector<R>(value: Value<'_>, f: impl FnOnce(&[f32]) -> R) -> Result<R, SqlError> {
    with_bytes(value.bytes(), f)
}

/// As [`with_vector`], for what writes the value down in another place, and shows nothing of it.
pub fn with_vector_to_store<R>(value: Value<'_>, f: impl FnOnce(&[f32]) -> R) -> Result<R, SqlError> {
    with_opened(value.bytes(), Right::Write, f)
}

/// As [`with_vector`], for sealed bytes that are no Datum.
pub fn with_bytes<R>(sealed: &[u8], f: impl FnOnce(&[f32]) -> R) -> Result<R, SqlError> {
    with_opened(sealed, Right::Read, f)
}

fn with_opened<R>(sealed: &[u8], right: Right, f: impl FnOnce(&[f32]) -> R) -> Result<R, SqlError> {
    with_slots(|slots| {
        header(sealed).and_then(|header| slots[0].fill(&header, sealed, right))?;
        Ok(f(slots[0].elements()))
    })
}

/// Runs `f` on the elements of both values, which must have equally many.
pub fn with_pair<R>(left: Value<'_>, right: Value<'_>, f: impl FnOnce(&[f32], &[f32]) -> R) -> Result<R, SqlError> {
    with_slots(|slots| {
        fill_pair(slots, left, right)?;
        Ok(f(slots[0].elements(), slots[1].elements()))
    })
}

/// Takes the slots out for `f`. They go back only if all went well and no ring was closed meanwhile: what closes one wipes
/// the slots that it finds, and would not have found these.
fn with_slots<R>(f: impl FnOnce(&mut [Slot; 2]) -> Result<R, SqlError>) -> Result<R, SqlError> {
    let before = keys::closings();
    let mut slots = SLOTS.take().unwrap_or_default();
    let result = f(&mut slots);
    if result.is_ok() && keys::closings() == before {
        SLOTS.set(Some(slots));
    }
    result
}

fn fill_pair(slots: &mut [Slot; 2], left: Value<'_>, right: Value<'_>) -> Result<(), SqlError> {
    slots[0].foresee(left.bytes());
    slots[1].foresee(right.bytes());
    let (of_left, of_right) = (header(left.bytes())?, header(right.bytes())?);
    if of_left.dims() != of_right.dims() {
        return Err(errors::different_dims(of_left.dims(), of_right.dims()));
    }
    slots[0].fill(&of_left, left.bytes(), Right::Read)?;
    slots[1].fill(&of_right, right.bytes(), Right::Read)
}

/// The header of a stored value, whose length must agree with it.
pub fn header(bytes: &[u8]) -> Result<ValueHeader, SqlError> {
    ValueHeader::decode(bytes).map_err(|error| match error {
        Error::Malformed { .. } => errors::corrupt(),
        other => other.into(),
    })
}

/// Opens `bytes` into the front of `out`, which has room for its dimensions.
fn open_into(
    header: &ValueHeader,
    bytes: &[u8],
    right: Right,
    out: &mut [f32],
    last: &mut Option<LastKey>,
) -> Result<(), SqlError> {
    if let Some(last) = last.as_ref().filter(|last| last.opens(header, right)) {
        return value::open_value_of(&last.key, header, &last.uuid, bytes, out).map_err(|error| closed(header, error));
    }
    *last = None;
    match header.kind() {
        ValueKind::Session => {
            keys::with_session_key(|key, session| value::open_value_of(key, header, session, bytes, out))
                .map_err(|error| if matches!(error, Error::Open) { errors::dead_session() } else { error.into() })
        }
        ValueKind::Column => {
            let (version, before) = (header.dek_version(), keys::generation());
            let (opened, key, uuid) = keys::with_dek(header.ring(), Some(version), right, |dek, ring| {
                seal::with_value_key(dek, ring, |key| {
                    (value::open_value_of(key, header, &ring.uuid, bytes, out), key.clone(), ring.uuid)
                })
            })?;
            *last = Standing::of(header.ring(), before).map(|standing| LastKey {
                ring: header.ring(),
                version,
                right,
                uuid,
                key,
                standing,
            });
            opened.map_err(|error| closed(header, error))
        }
    }
}

/// A value of a column did not open.
#[cold]
fn closed(header: &ValueHeader, error: Error) -> SqlError {
    match error {
        Error::Open => SqlError::from(error)
            .detail(format!("It says that it was sealed by {}.", typmod::ring_name(header.ring())))
            .hint("Its bytes are not those that were sealed: bring the row back from a backup."),
        other => other.into(),
    }
}

/// The key that opened the value before, for as long as nothing changes: a scan opens row after row with it.
struct LastKey {
    ring: u32,
    version: u32,
    right: Right,
    uuid: Uuid,
    key: Rc<XaesKey>,
    standing: Standing,
}

impl LastKey {
    fn opens(&self, header: &ValueHeader, right: Right) -> bool {
        header.kind() == ValueKind::Column
            && (header.ring(), header.dek_version(), right) == (self.ring, self.version, self.right)
            && self.standing.holds()
    }
}

/// Header and nonce: enough to tell that a value is another one.
const FRONT_LEN: usize = HEADER_LEN + 24;

/// One value and its elements.
struct Slot {
    /// The front of the value opened last; all zero if none is.
    front: [u8; FRONT_LEN],
    /// All of it, kept from the second time on: most values come once.
    sealed: Vec<u8>,
    elements: Zeroizing<Vec<f32>>,
    dims: usize,
    /// Where the value before this one lay.
    last: usize,
    last_key: Option<LastKey>,
}

impl Default for Slot {
    fn default() -> Self {
        let elements = Zeroizing::new(Vec::new());
        Self { front: [0; FRONT_LEN], sealed: Vec::new(), elements, dims: 0, last: 0, last_key: None }
    }
}

impl Slot {
    fn elements(&self) -> &[f32] {
        &self.elements[..self.dims]
    }

    /// Asks the processor for a value that is about to be opened, while its key is derived; and for the one that a scan
    /// comes to next: a heap page is filled from its end, so each row lies in front of the one before.
    fn foresee(&mut self, bytes: &[u8]) {
        let here = bytes.as_ptr().addr();
        let step = std::mem::replace(&mut self.last, here).wrapping_sub(here);
        if step == 0 {
            return;
        }
        prefetch(bytes.as_ptr(), bytes.len());
        if (bytes.len()..2 * bytes.len()).contains(&step) {
            prefetch(bytes.as_ptr().wrapping_sub(step + LINE), bytes.len() + LINE);
        }
    }

    fn fill(&mut self, header: &ValueHeader, bytes: &[u8], right: Right) -> Result<(), SqlError> {
        let again = self.front == bytes[..FRONT_LEN];
        if again && self.sealed == bytes {
            return match header.kind() {
                ValueKind::Session => Ok(()),
                ValueKind::Column if self.last_key.as_ref().is_some_and(|last| last.opens(header, right)) => Ok(()),
                ValueKind::Column => keys::with_dek(header.ring(), Some(header.dek_version()), right, |_, _| ()),
            };
        }

        self.forget();
        self.dims = header.dims();
        if self.elements.len() < self.dims {
            // Not resized: that would leave a copy of the old elements behind.
            self.elements = Zeroizing::new(vec![0.0; self.dims]);
        }
        let opened = open_into(header, bytes, right, &mut self.elements[..self.dims], &mut self.last_key);
        if let Err(error) = opened {
            self.wipe();
            return Err(error);
        }
        self.front.copy_from_slice(&bytes[..FRONT_LEN]);
        if again {
            self.sealed.extend_from_slice(bytes);
        }
        Ok(())
    }

    /// Never matches again; elements are overwritten by what follows.
    fn forget(&mut self) {
        self.front = [0; FRONT_LEN];
        self.sealed.clear();
    }

    fn wipe(&mut self) {
        self.forget();
        self.elements.iter_mut().for_each(|e| *e = 0.0);
        self.dims = 0;
    }
}

/// Bytes that a processor fetches at once.
const LINE: usize = 64;
/// Of a longer value only the front is asked for: the processor sees by itself where a long run goes.
const PREFETCH_MAX: usize = 4096;

/// Asks the processor for `len` bytes from `start` on, which need not be memory.
fn prefetch(start: *const u8, len: usize) {
    #[cfg(target_arch = "x86_64")]
    for at in (0..len.min(PREFETCH_MAX)).step_by(LINE) {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: nothing that a program sees is read, and an address that is none is no fault.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(at).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (start, len);
}

thread_local! {
    // Taken out while in use, so opening a ring, which runs queries, can't meet a borrowed slot.
    static SLOTS: Cell<Option<Box<[Slot; 2]>>> = const { Cell::new(None) };
}

/// Wipes the elements that are not in use at this moment. Allocates nothing, asks nobody.
fn forget() {
    let _ = SLOTS.try_with(|slots| drop(slots.take())); // wiped by Zeroizing
    repeated::forget();
}

/// And the derived keys.
fn forget_all() {
    forget();
    seal::forget_keys();
}

/// Makes sure that no element outlives its transaction, nor it or a key derived to open one the closing of a ring.
pub fn init() {
    keys::on_close(forget_all);
    // SAFETY: the callback lives as long as the library, which Postgres never unloads.
    unsafe { pg_sys::RegisterXactCallback(Some(at_transaction_end), std::ptr::null_mut()) };
}

#[pg_guard]
unsafe extern "C-unwind" fn at_transaction_end(event: pg_sys::XactEvent::Type, _arg: *mut std::ffi::c_void) {
    use pg_sys::XactEvent::*;
    if matches!(
        event,
        XACT_EVENT_COMMIT
            | XACT_EVENT_ABORT
            | XACT_EVENT_PREPARE
            | XACT_EVENT_PARALLEL_COMMIT
            | XACT_EVENT_PARALLEL_ABORT
    ) {
        forget();
    }
}
