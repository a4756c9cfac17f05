//! The server's key pairs in shared memory: one for an hour, and the one before it for ten minutes more.
//!
//! Nothing is written to disk, so a standby has its own.
//!
//! **A secret in shared memory**: every backend of this server can read it, as it can read the buffers; it opens keys only
//! on their way, and those that come go to these very backends. It is overwritten as soon as anybody looks after its
//! time is up.
//!
//! Only copies happen under the lock: no allocation, no cryptography, nothing that can fail.

use std::cell::Cell;
use std::ffi::CStr;
use std::ptr;

use pgrx::pg_sys;
use sealvec_core::transport::{KeyId, PublicKey, TransportKey};
use zeroize::{Zeroize, Zeroizing};

use crate::clock::now_ms;
use crate::error::SqlError;
use crate::guc;
use crate::shared::{self, Shared};

/// Names the page in Postgres's table of shared memory. With another layout it gets another number, since a library that
/// was replaced meets the page of the old one until the server is restarted.
const NAME: &CStr = c"sealvec transport keys 1";
const TRANCHE: &CStr = c"SealvecTransportKeys";

/// Longest time that a key opens after another has taken its place.
const KEPT_MS: u64 = 10 * 60 * 1000;

/// A key pair and its times, in milliseconds of CLOCK_BOOTTIME, which all processes of a machine share.
#[repr(C)]
#[derive(Clone, Copy)]
struct Slot {
    id: [u8; KeyId::LEN],
    secret: [u8; 32],
    public: [u8; 32],
    /// Given to clients before that; 0 in an empty slot.
    given_until_ms: u64,
    /// Opens before that.
    opens_until_ms: u64,
    /// `given_until_ms` on the wall's clock.
    expires: pg_sys::TimestampTz,
}

/// The current key, and the one before it.
type Page = Shared<[Slot; 2]>;

thread_local! {
    static PAGE: Cell<*mut Page> = const { Cell::new(ptr::null_mut()) };
}

/// Bytes of shared memory that it takes.
pub const LEN: usize = Page::LEN;

const EMPTY: Slot =
    Slot { id: [0; KeyId::LEN], secret: [0; 32], public: [0; 32], given_until_ms: 0, opens_until_ms: 0, expires: 0 };

impl Slot {
    fn of(key: &TransportKey, now_ms: u64) -> Self {
        let life_ms = u64::from(guc::transport_key_life_s()) * 1000;
        let public = key.public();
        // SAFETY: reads the clock.
        let now = unsafe { pg_sys::GetCurrentTimestamp() };
        Self {
            id: *public.id().as_bytes(),
            secret: *key.expose(),
            public: *public.as_bytes(),
            given_until_ms: now_ms + life_ms,
            opens_until_ms: now_ms + life_ms + life_ms.min(KEPT_MS),
            expires: now + life_ms as i64 * 1000,
        }
    }

    fn wipe(&mut self) {
        self.secret.zeroize();
        *self = EMPTY;
    }
}

/// The public key to seal to, and until when it is given. Makes another if its time is up.
///
/// # Errors
/// When the kernel gives no random bytes. Postgres itself raises 53200 if it has no shared memory to spare.
pub fn current() -> Result<(PublicKey, pg_sys::TimestampTz), SqlError> {
    let found = locked(pg_sys::LWLockMode::LW_SHARED, |slots, now_ms| given(&slots[0], now_ms));
    if let Some(found) = found {
        return Ok(found);
    }
    let mut fresh = Slot::of(&TransportKey::generate()?, now_ms());
    let found = locked(pg_sys::LWLockMode::LW_EXCLUSIVE, |slots, now_ms| {
        let [current, before] = slots;
        if let Some(found) = given(current, now_ms) {
            return found; // another backend was first
        }
        before.wipe();
        if now_ms < current.opens_until_ms {
            *before = *current;
        }
        current.wipe();
        *current = fresh;
        given(current, 0).expect("it was made a moment ago")
    });
    fresh.wipe();
    Ok(found)
}

/// The key pair of that id, if it still opens.
pub fn find(id: KeyId) -> Option<TransportKey> {
    let (mut secret, mut public) = (Zeroizing::new([0; 32]), [0; 32]);
    let (found, is_over) = locked(pg_sys::LWLockMode::LW_SHARED, |slots, now_ms| {
        let found = slots.iter().find(|slot| slot.id == *id.as_bytes() && now_ms < slot.opens_until_ms);
        if let Some(slot) = found {
            secret.copy_from_slice(&slot.secret);
            public = slot.public;
        }
        let is_over = slots.iter().any(|slot| slot.opens_until_ms != 0 && now_ms >= slot.opens_until_ms);
        (found.is_some(), is_over)
    });
    if is_over {
        locked(pg_sys::LWLockMode::LW_EXCLUSIVE, |slots, now_ms| {
            slots.iter_mut().filter(|slot| now_ms >= slot.opens_until_ms).for_each(Slot::wipe);
        });
    }
    found.then(|| TransportKey::of_parts(id, &secret, public))
}

fn given(slot: &Slot, now_ms: u64) -> Option<(PublicKey, pg_sys::TimestampTz)> {
    let public = PublicKey::new(KeyId::from_bytes(slot.id), slot.public);
    (now_ms < slot.given_until_ms).then_some((public, slot.expires))
}

/// Lends the slots under the page's lock, with the time. `f` must not raise errors; in a shared lock it only reads.
fn locked<R>(mode: pg_sys::LWLockMode::Type, f: impl FnOnce(&mut [Slot; 2], u64) -> R) -> R {
    let page = attached();
    // SAFETY: `attached` gives what was claimed.
    unsafe { Page::locked(page, mode, |slots| f(slots, now_ms())) }
}

/// Claims the page in shared memory that the postmaster has just made, also after a crash, when it had one before. Postgres
/// raises 53200 if it has none to spare.
pub fn begin() {
    PAGE.set(ptr::null_mut());
    attached();
}

/// The page, claimed if this is the first backend that asks.
fn attached() -> *mut Page {
    if PAGE.get().is_null() {
        // SAFETY: slots of zeros are empty ones.
        PAGE.set(unsafe { shared::claim(NAME, TRANCHE) }.unwrap_or_else(|error| error.rethrow()));
    }
    PAGE.get()
}
