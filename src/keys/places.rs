//! Memory for keys that core holds while it works with them: an arena beside the session's own.

use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use sealvec_core::crypto::place::{self, Keeper};

use super::arena::{Arena, KEY_LEN, Slot};

/// Threads of an index build derive keys, too.
struct Places(Mutex<Inner>);

struct Inner {
    arena: Arena,
    /// Owners of the places that are lent.
    lent: Vec<Slot>,
    /// The system has refused to lock more: to ask again for each key takes three system calls.
    is_refused: bool,
}

// SAFETY: what the arena and its slots point to lives as long as the process, and whoever uses them holds the lock.
unsafe impl Send for Inner {}

static PLACES: Places = Places(Mutex::new(Inner { arena: Arena::new(), lent: Vec::new(), is_refused: false }));

/// From now on core's keys lie here.
pub fn install() {
    place::keep_keys_in(&PLACES);
}

impl Keeper for Places {
    fn take(&self) -> Option<&'static mut [u8; KEY_LEN]> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.is_refused && inner.arena.is_full() {
            return None; // the heap has to do
        }
        let Ok(slot) = inner.arena.keep(&[0; KEY_LEN]) else {
            inner.is_refused = true;
            return None;
        };
        let mut place = NonNull::new(slot.as_ptr().cast_mut())?;
        inner.lent.push(slot);
        // SAFETY: a slot is the only owner of its place, which is mapped for the life of the process; it is not used again
        // until the place comes back.
        Some(unsafe { place.as_mut() })
    }

    fn give_back(&self, place: &'static mut [u8; KEY_LEN]) {
        let place: *const [u8; KEY_LEN] = place;
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The last one lent comes back first, mostly.
        if let Some(found) = inner.lent.iter().rposition(|slot| std::ptr::eq(slot.as_ptr(), place)) {
            let slot = inner.lent.swap_remove(found);
            inner.arena.wipe(slot);
        }
    }
}
