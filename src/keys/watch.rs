//! What takes keys away without being asked: changed catalogs, RESET ALL, DISCARD ALL, the end of a transaction or
//! of the process.
//!
//! Callbacks only raise flags and, where no key is in use, wipe. They run in the middle of anything, also of
//! aborts, so they allocate nothing and report nothing.

use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering::Relaxed};

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};
use pgrx::prelude::*;

use super::backend::process_id;
use super::{expiry, session, session_key};

/// The catalog cache is out of date.
pub const CATALOG_CACHE: u32 = 1;
/// Open rings have to be compared with the catalog.
pub const OPEN_RINGS: u32 = 2;
/// Every key has to go.
pub const DROP_ALL: u32 = 4;
/// And what the user locked by hand may open on demand again.
pub const RESET: u32 = 8;

/// What happened since somebody looked. A static, because callbacks have no other way to leave word.
static HAPPENED: AtomicU32 = AtomicU32::new(0);

/// OID of sealvec.key_ring as last opened; 0 before that, when nothing is cached either.
static RELATION: AtomicU32 = AtomicU32::new(0);
/// The process whose end will be noticed; a forked child's will not.
static WILL_WIPE: AtomicI32 = AtomicI32::new(0);
/// How deep in savepoints somebody was last found to be allowed a ring in this transaction; 0 if nobody was.
static ALLOWED_AT: AtomicI32 = AtomicI32::new(0);
/// Our own call of set_config_option is under way.
static ARMING: AtomicBool = AtomicBool::new(false);

/// Set while keys are open, so that RESET ALL and DISCARD ALL, and an abort of the transaction that
/// set it, reach [`marker_assigned`]. Its value means nothing to users.
static MARKER: GucSetting<bool> = GucSetting::<bool>::new(false);
const MARKER_NAME: &std::ffi::CStr = c"sealvec.keys_in_session";

/// Whether anything happened; one load.
#[inline]
pub fn anything() -> bool {
    HAPPENED.load(Relaxed) & (OPEN_RINGS | DROP_ALL | RESET) != 0
}

/// Whether `what` happened since the last such call.
pub fn take(what: u32) -> bool {
    HAPPENED.load(Relaxed) & what != 0 && HAPPENED.fetch_and(!what, Relaxed) & what != 0
}

/// A check of `what` under way; if an ERROR ends it, it is still to be done.
pub struct Check(u32);

impl Check {
    /// Starts one if `what` happened.
    pub fn start(what: u32) -> Option<Self> {
        take(what).then(|| Self(what)) // not then_some: what it makes in vain would be dropped, and so raise the flag
    }

    /// The check is complete.
    pub fn done(self) {
        std::mem::forget(self);
    }
}

impl Drop for Check {
    fn drop(&mut self) {
        HAPPENED.fetch_or(self.0, Relaxed);
    }
}

/// Open rings are compared with the catalog before the next key is lent.
pub fn compare_again() {
    HAPPENED.fetch_or(OPEN_RINGS, Relaxed);
}

/// Every key goes before the next is lent.
pub fn drop_all() {
    HAPPENED.fetch_or(DROP_ALL, Relaxed);
}

/// The relation that counts, if there is one.
pub fn relation_seen() -> Option<pg_sys::Oid> {
    Some(pg_sys::Oid::from(RELATION.load(Relaxed))).filter(|oid| *oid != pg_sys::InvalidOid)
}

/// Somebody was found to be allowed a ring, perhaps by what this transaction did: if that is undone, it counts no more.
pub fn allowed() {
    // SAFETY: only reads the transaction's state.
    ALLOWED_AT.fetch_max(unsafe { pg_sys::GetCurrentTransactionNestLevel() }, Relaxed);
}

/// From now on, changes of this relation count.
pub fn relation(oid: pg_sys::Oid) {
    RELATION.store(oid.to_u32(), Relaxed);
}

/// Registers the callbacks; once per backend.
pub fn init() {
    // SAFETY: the callbacks live as long as the library, which Postgres never unloads; all are guarded.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), pg_sys::Datum::null());
        // pg_database_owner has its member by the database's row.
        use pg_sys::SysCacheIdentifier::{AUTHMEMROLEMEM, AUTHOID, DATABASEOID};
        for cache in [AUTHOID, AUTHMEMROLEMEM, DATABASEOID] {
            pg_sys::CacheRegisterSyscacheCallback(cache as i32, Some(role_changed), pg_sys::Datum::null());
        }
        pg_sys::RegisterXactCallback(Some(transaction_ends), std::ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(subtransaction_ends), std::ptr::null_mut());
        GucRegistry::define_bool_guc_with_hooks(
            MARKER_NAME,
            c"Set by sealvec while keys are open in the session.",
            c"RESET ALL and DISCARD ALL close every key ring through it.",
            &MARKER,
            GucContext::Suset,
            GucFlags::NO_SHOW_ALL | GucFlags::DISALLOW_IN_FILE,
            None,
            Some(marker_assigned),
            None,
        );
    }
}

/// Makes sure that RESET ALL, and the end of the process, will be noticed; before any key is kept.
pub fn arm() {
    // Not in `init`: under shared_preload_libraries that runs in the postmaster, and its children forget the callback.
    if WILL_WIPE.swap(process_id(), Relaxed) != process_id() {
        // SAFETY: the callback lives as long as the library, which Postgres never unloads.
        unsafe { pg_sys::on_proc_exit(Some(process_exits), pg_sys::Datum::null()) };
    }
    if MARKER.get() {
        return;
    }
    // A parallel query forbids SET, but not a value saved until the end of the transaction: keys opened
    // inside one go when it ends, and open again on demand.
    // SAFETY: C strings that live for the program; an ERROR becomes a panic and no key is kept.
    unsafe {
        let action = match pg_sys::IsInParallelMode() {
            true => pg_sys::GucAction::GUC_ACTION_SAVE,
            false => pg_sys::GucAction::GUC_ACTION_SET,
        };
        let _arming = Arming::start();
        pg_sys::set_config_option(
            MARKER_NAME.as_ptr(),
            c"on".as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GucSource::PGC_S_SESSION,
            action,
            true,
            0,
            false,
        );
    }
}

/// While it lives, [`marker_assigned`] knows that the call is ours; also when an ERROR ends it.
struct Arming;

impl Arming {
    fn start() -> Self {
        ARMING.store(true, Relaxed);
        Self
    }
}

impl Drop for Arming {
    fn drop(&mut self) {
        ARMING.store(false, Relaxed);
    }
}

/// RESET ALL, DISCARD ALL, or a rollback past the moment of the session's first use of a key.
#[pg_guard]
unsafe extern "C-unwind" fn marker_assigned(_value: bool, _extra: *mut c_void) {
    if ARMING.load(Relaxed) {
        return;
    }
    // SAFETY: only reads the transaction's state. A rollback runs outside of any; RESET ALL inside one.
    let by_command = unsafe { pg_sys::IsTransactionState() };
    // At the top level a rollback undoes the session's first use of a key, so nobody would hear of DISCARD ALL later.
    // SAFETY: only reads the transaction's state.
    if by_command || unsafe { pg_sys::GetCurrentTransactionNestLevel() } <= 1 {
        session_key::forget();
    }
    HAPPENED.fetch_or(if by_command { DROP_ALL | RESET } else { DROP_ALL }, Relaxed);
    session::close_if_idle();
}

/// Any relation's entry was invalidated; InvalidOid means all of them.
#[pg_guard]
unsafe extern "C-unwind" fn relation_changed(_arg: pg_sys::Datum, relation: pg_sys::Oid) {
    if relation == pg_sys::InvalidOid || relation.to_u32() == RELATION.load(Relaxed) {
        HAPPENED.fetch_or(CATALOG_CACHE | OPEN_RINGS, Relaxed);
    }
}

/// A role or a membership changed, and with it perhaps who may open what.
#[pg_guard]
unsafe extern "C-unwind" fn role_changed(_arg: pg_sys::Datum, _cache: i32, _hash: u32) {
    HAPPENED.fetch_or(OPEN_RINGS, Relaxed);
}

/// A transaction is about to end: between two statements, or because an idle backend was woken (see [`expiry`](super::expiry)).
#[pg_guard]
unsafe extern "C-unwind" fn transaction_ends(event: pg_sys::XactEvent::Type, _arg: *mut c_void) {
    use pg_sys::XactEvent::*;
    match event {
        XACT_EVENT_ABORT | XACT_EVENT_PARALLEL_ABORT => undone(1),
        XACT_EVENT_COMMIT | XACT_EVENT_PARALLEL_COMMIT | XACT_EVENT_PREPARE => kept(1),
        _ => {}
    }
    if !matches!(event, XACT_EVENT_PRE_COMMIT | XACT_EVENT_PRE_PREPARE) {
        return;
    }
    if event == XACT_EVENT_PRE_PREPARE {
        expiry::refuse_to_prepare();
    }
    if session_key::is_drawn() {
        arm(); // the rollback of a savepoint may have disarmed it
    }
    // SAFETY: reads a variable of the backend. Set while a statement runs, such as a procedure that commits.
    if unsafe { pg_sys::ActivePortal.is_null() } {
        session_key::forget_others();
        session::at_end();
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn subtransaction_ends(
    event: pg_sys::SubXactEvent::Type,
    _this: pg_sys::SubTransactionId,
    _parent: pg_sys::SubTransactionId,
    _arg: *mut c_void,
) {
    // SAFETY: only reads the transaction's state; the one that ends is still the current one.
    let level = unsafe { pg_sys::GetCurrentTransactionNestLevel() };
    match event {
        pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB => undone(level),
        pg_sys::SubXactEvent::SUBXACT_EVENT_COMMIT_SUB => kept(level),
        _ => {}
    }
}

/// What was done at `level` is the level's above now.
fn kept(level: i32) {
    ALLOWED_AT.fetch_min(level - 1, Relaxed);
    if !session::savepoint_ends(level, false) {
        HAPPENED.fetch_or(DROP_ALL, Relaxed); // a panic crosses us
    }
}

/// What was done at `level` and deeper is undone: what it unlocked, and perhaps the grant by which a ring was opened.
fn undone(level: i32) {
    if !session::savepoint_ends(level, true) {
        HAPPENED.fetch_or(DROP_ALL, Relaxed);
    }
    if ALLOWED_AT.fetch_min(level - 1, Relaxed) >= level {
        HAPPENED.fetch_or(OPEN_RINGS, Relaxed);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn process_exits(_code: i32, _arg: pg_sys::Datum) {
    session::wipe_for_exit();
}
