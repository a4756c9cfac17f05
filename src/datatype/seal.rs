//! Turns elements into sealed bytes, under the session key or under a column's ring.

use std::cell::RefCell;
use std::rc::Rc;

use sealvec_core::crypto::XaesKey;
use sealvec_core::format::typmod::{DIMS_MAX, Typmod};
use sealvec_core::format::value::{self, ValueHeader};
use sealvec_core::keys::{Dek, Uuid};
use zeroize::Zeroize;

use super::errors;
use crate::error::SqlError;
use crate::keys::{self, Right, RingInfo};

/// Seals what has met no column yet. Only this session can open it.
pub fn for_session(elements: &[f32]) -> Result<Vec<u8>, SqlError> {
    let header = ValueHeader::session(elements.len())?;
    keys::with_session_key(|key, session| value::seal_value(key, &header, session, elements)).map_err(SqlError::from)
}

/// Seals for a column. The ring must be open to this session.
pub fn for_column(column: Typmod, elements: &[f32]) -> Result<Vec<u8>, SqlError> {
    if elements.len() != usize::from(column.dims) {
        return Err(errors::wrong_dims(column.dims.into(), elements.len()));
    }
    let sealed = keys::with_dek(column.ring, None, Right::Write, |dek, ring| {
        let header = ValueHeader::column(&ring.uuid, dek.version(), elements.len())?;
        with_value_key(dek, ring, |key| value::seal_value(key, &header, &ring.uuid, elements))
    })?;
    Ok(sealed?)
}

/// Seals for the column if there is one, else for the session.
pub fn seal(typmod: Option<Typmod>, elements: &[f32]) -> Result<Vec<u8>, SqlError> {
    match typmod {
        Some(column) => for_column(column, elements),
        None => for_session(elements),
    }
}

/// Column values are opened one by one, and deriving their key takes longer than opening one.
const KEYS_MAX: usize = 8;

struct CachedKey {
    ring: Uuid,
    version: u32,
    key: Rc<XaesKey>,
}

thread_local! {
    // One backend is one thread; XaesKey wipes itself on drop.
    static CACHE: RefCell<Vec<CachedKey>> = const { RefCell::new(Vec::new()) };
}

/// Runs `f` with the key of column values under `dek`. Must be called inside `keys::with_dek`, which has checked that
/// this session may use the DEK; the cache only saves deriving the same key again.
pub fn with_value_key<R>(dek: &Dek<'_>, ring: &RingInfo, f: impl FnOnce(&Rc<XaesKey>) -> R) -> R {
    CACHE.with_borrow_mut(|keys| {
        let found = keys.iter().position(|k| k.version == dek.version() && k.ring == ring.uuid);
        let at = found.unwrap_or_else(|| {
            if keys.len() == KEYS_MAX {
                keys.remove(0);
            }
            let key = Rc::new(dek.value_key(&ring.uuid));
            keys.push(CachedKey { ring: ring.uuid, version: dek.version(), key });
            keys.len() - 1
        });
        f(&keys[at].key)
    })
}

/// Forgets every derived key; they come again with the next `with_dek`.
pub fn forget_keys() {
    // In use only while a value is being sealed or opened, which closes no ring.
    let _ = CACHE.try_with(|keys| keys.try_borrow_mut().map(|mut keys| keys.clear()));
}

/// Room for a vector of at most `len_max` elements on its way in: filled by `f`, wiped whatever happens.
///
/// The room is the backend's and is never grown while in use. A memory context would be freed unwiped.
pub fn with_room<R>(len_max: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    thread_local! {
        static ROOM: RefCell<Box<[f32]>> = RefCell::new(vec![0.0; DIMS_MAX].into());
    }
    struct Wiped<'a>(&'a mut [f32]);
    impl Drop for Wiped<'_> {
        fn drop(&mut self) {
            self.0.zeroize();
        }
    }
    ROOM.with_borrow_mut(|room| {
        let room = Wiped(&mut room[..len_max.min(DIMS_MAX)]);
        f(&mut *room.0)
    })
}
