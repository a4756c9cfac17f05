//! The key of values that have met no column yet: literals and parameters on their way.
//!
//! It is drawn at first use and ends with the process, at RESET ALL and DISCARD ALL, and when another session user
//! takes over. SET ROLE leaves it: who switches roles by transaction keeps functions and prepared statements with
//! literals in them, and the new role gets no sealed value that it was not handed.

use std::cell::RefCell;
use std::rc::Rc;

use pgrx::pg_sys;
use sealvec_core::crypto::XaesKey;
use sealvec_core::keys::{DekBytes, Uuid};

use super::backend::{Users, process_id};
use super::{held, watch};
use crate::error::OrRaise;

struct SessionKey {
    key: XaesKey,
    uuid: Uuid,
    /// The process that drew it.
    pid: i32,
    /// The session user that it is for.
    user: pg_sys::Oid,
}

thread_local! {
    static KEY: RefCell<Option<Rc<SessionKey>>> = const { RefCell::new(None) };
}

/// Lends the key that lives and dies with this session, and the UUID that stands for it.
pub fn with_session_key<R>(f: impl FnOnce(&XaesKey, &Uuid) -> R) -> R {
    watch::arm(); // so that DISCARD ALL is noticed
    forget_others();
    let key = KEY.with_borrow(Option::clone).unwrap_or_else(|| {
        let uuid = Uuid::random().or_raise();
        let dek = DekBytes::generate(1).or_raise();
        let key = XaesKey::new(dek.as_dek().expose());
        let key = Rc::new(SessionKey { key, uuid, pid: process_id(), user: Users::now().session });
        KEY.set(Some(key.clone()));
        key
    });
    f(&key.key, &key.uuid)
}

/// Whether there is one.
pub fn is_drawn() -> bool {
    KEY.with_borrow(Option::is_some)
}

/// Drops the key if it is the parent's, copied by a fork, or another session user's.
pub fn forget_others() {
    let stays = KEY
        .with_borrow(|key| key.as_ref().is_none_or(|key| key.pid == process_id() && key.user == Users::now().session));
    if !stays {
        forget();
    }
}

/// Drops the key: what was sealed under it does not open again. Cached plans hold such values; they are made anew
/// from their text when they are next used. Allocates nothing.
pub fn forget() {
    if wipe() {
        // SAFETY: only marks plans as stale; Postgres does so from invalidation callbacks, in the middle of anything.
        unsafe { pg_sys::ResetPlanCache() };
    }
}

/// Drops the key alone, for process exit; whether there was one.
pub fn wipe() -> bool {
    // Borrowed only for a moment, in which nothing calls back.
    let dropped = KEY.with(|key| key.try_borrow_mut().ok().and_then(|mut key| key.take()));
    if dropped.is_some() {
        held::forget_derived();
    }
    dropped.is_some()
}
