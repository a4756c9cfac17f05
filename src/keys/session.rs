//! The rings that are open in this backend, and who may use them now.
//!
//! A ring is open from the moment its KEK was shown, or its provider asked, until its time is up or something
//! takes it away (see [`watch`]). A client-held ring belongs to the session and outer user that unlocked it;
//! a KMS-backed one is checked against its grants for whoever asks. Catalog reads happen with no borrow held,
//! because they can run invalidation callbacks that come back here.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use pgrx::PgSqlErrorCode::*;
use pgrx::pg_sys;
use sealvec_core::crypto::XaesKey;
use sealvec_core::keys::ring::OpenRing;
use sealvec_core::keys::{Dek, DekBytes, Kek, Uuid};

use super::arena::{self, Arena, KEY_LEN, Slot};
use super::catalog::{self, Ring, RingInfo};
use super::{provider, watch};
use crate::error::{OrRaise, SqlError};
use crate::guc;

static GENERATION: AtomicU64 = AtomicU64::new(1);
/// Calls of [`with_dek`] under way: no key is wiped until the last is over.
static IN_USE: AtomicU32 = AtomicU32::new(0);
/// Keys of closed rings that wait for it.
static DYING: AtomicU32 = AtomicU32::new(0);

thread_local! {
    static SESSION: RefCell<Session> = RefCell::new(Session::new());
    static SESSION_KEY: RefCell<Option<Rc<SessionKey>>> = const { RefCell::new(None) };
    static FORGET: RefCell<Vec<fn()>> = const { RefCell::new(Vec::new()) };
    /// Whether the root key could be read, and the statement that tried: a view asks once for each ring.
    static ROOT_KEY_IS_THERE: Cell<(pg_sys::TimestampTz, bool)> = const { Cell::new((0, false)) };
}

// ---- what datatype and index use --------------------------------------------------------

/// Lends the ring's DEK of `version`, or the one that seals new data, to `f`. Opens a KMS-backed ring on demand.
///
/// Costs less than 100 ns when the ring is open. `f` may come back here for other rings.
///
/// # Errors
/// 55000 if the ring is locked, 42501 if the current user may not open it, 42704 if there is no such ring,
/// or what the provider reports.
pub fn with_dek<R>(ring: u32, version: Option<u32>, f: impl FnOnce(&Dek<'_>, &RingInfo) -> R) -> Result<R, SqlError> {
    let lent = lend(ring, version)?;
    // SAFETY: the slot holds this DEK and is not wiped while `lent` lives, whatever closes the ring meanwhile.
    let key = unsafe { &*lent.key };
    Ok(f(&Dek::new(lent.version, key), &lent.info))
}

/// Whether the current user could use the ring right now without waiting: it is open, or its provider is local.
pub fn is_open(ring: u32) -> bool {
    let user = current_user();
    if settle().is_err() {
        return false;
    }
    let (open, shut) = SESSION.with_borrow(|session| {
        let open = session.rings.get(&ring).map(|held| held.is_client_held || held.allowed == user);
        (open, session.is_shut(ring))
    });
    match open {
        Some(true) => true,
        _ if shut => false,
        _ => catalog::ring(ring).and_then(|ring| could_open(&ring, user)).unwrap_or_else(note),
    }
}

/// Answers "no" where an error is only the reason for it, and leaves the reason to whoever looks for it.
fn note(error: SqlError) -> bool {
    pgrx::debug1!("key ring counts as locked: {}", error.message);
    false
}

/// Whether a ring that is not open would open for `user` at once: the provider is here, and so is its root key.
fn could_open(ring: &Ring, user: pg_sys::Oid) -> Result<bool, SqlError> {
    let name = ring.record.provider();
    if !provider::is_local(name) || !catalog::may_open(ring, user)? {
        return Ok(false);
    }
    let (tried, is_there) = ROOT_KEY_IS_THERE.get();
    if tried == statement() {
        return Ok(is_there);
    }
    let is_there = provider::with(name, |_| true).unwrap_or_else(note);
    ROOT_KEY_IS_THERE.set((statement(), is_there));
    Ok(is_there)
}

/// Changes whenever a DEK was dropped: whatever was derived under an older number is stale.
///
/// It says nothing of who asks: start each scan with [`with_dek`], which checks that.
pub fn generation() -> u64 {
    if settle().is_err() {
        SESSION.with_borrow_mut(|session| session.close(|_| true));
    }
    GENERATION.load(Relaxed)
}

/// Calls `forget` from now on whenever a ring was closed, so that what was derived from its keys goes at once and
/// not only when somebody next looks at [`generation`].
///
/// It runs in the middle of anything, aborts included: it may drop memory and nothing else, may not come back to
/// this module, and has to leave alone what is borrowed at that moment.
pub fn on_close(forget: fn()) {
    FORGET.with_borrow_mut(|all| all.push(forget));
}

/// Lends the key that lives and dies with this backend, and the UUID that stands for it.
pub fn with_session_key<R>(f: impl FnOnce(&XaesKey, &Uuid) -> R) -> R {
    let pid = process_id();
    let key = SESSION_KEY.with_borrow(|key| key.clone().filter(|key| key.pid == pid));
    let key = key.unwrap_or_else(|| {
        // First use, or a fork has copied the parent's: draw from the kernel.
        let uuid = Uuid::random().or_raise();
        let dek = DekBytes::generate(1).or_raise();
        let key = Rc::new(SessionKey { key: XaesKey::new(dek.as_dek().expose()), uuid, pid });
        SESSION_KEY.set(Some(key.clone()));
        key
    });
    f(&key.key, &key.uuid)
}

// ---- unlock and lock --------------------------------------------------------------------

/// Opens a client-held ring with its KEK.
///
/// # Errors
/// 28P01 if it is not the KEK, which says only that.
pub fn unlock_with(ring: &Ring, kek: &Kek) -> Result<(), SqlError> {
    settle()?;
    let open = ring.record.open(kek).map_err(|error| naming(ring, error))?;
    keep(ring, &open)
}

/// Opens a KMS-backed ring through its provider, if the current user may.
pub fn unlock(ring: &Ring) -> Result<(), SqlError> {
    settle()?;
    check_grant(ring)?;
    let kek = unwrap_kek(ring)?;
    let open = ring.record.open(&kek).map_err(|error| naming(ring, error))?;
    keep(ring, &open)
}

/// The KEK of a KMS-backed ring, from its provider.
pub fn unwrap_kek(ring: &Ring) -> Result<Kek, SqlError> {
    provider::with(ring.record.provider(), |provider| ring.record.unwrap_kek(provider))?
        .map_err(|error| naming(ring, error))
}

/// Closes the ring in this session until it is unlocked again.
pub fn lock(ring: u32) {
    watch::arm(); // so that RESET ALL lets a KMS-backed ring open on demand again
    SESSION.with_borrow_mut(|session| {
        session.close(|held| held.info.number == ring);
        session.set_shut(ring, true);
    });
}

/// Closes every ring in this session until it is unlocked again.
pub fn lock_all() {
    watch::arm();
    SESSION.with_borrow_mut(|session| {
        session.close(|_| true);
        (session.all_shut, session.except) = (true, HashSet::new());
    });
}

/// 42501 unless the current user may open this KMS-backed ring.
fn check_grant(ring: &Ring) -> Result<(), SqlError> {
    if catalog::may_open(ring, current_user())? {
        return Ok(());
    }
    let name = &ring.info.name;
    Err(SqlError::new(ERRCODE_INSUFFICIENT_PRIVILEGE, format!("permission denied for key ring \"{name}\"")).hint(
        format!(
            "Its owner can allow a role to open it: SELECT sealvec.grant_ring('{}', 'role').",
            name.replace('\'', "''")
        ),
    ))
}

fn locked(info: &RingInfo, is_client_held: bool) -> SqlError {
    let name = info.name.replace('\'', "''");
    SqlError::new(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, format!("key ring \"{}\" is locked", info.name)).hint(
        match is_client_held {
            true => format!(
                "Its key is held by the client: SELECT sealvec.unlock('{name}', $1) with the 32-byte key bound to $1."
            ),
            false => format!("It was locked in this session: SELECT sealvec.unlock('{name}')."),
        },
    )
}

/// `error` with the ring's name in it, where the user has to know which.
pub fn naming(ring: &Ring, error: sealvec_core::Error) -> SqlError {
    match error {
        sealvec_core::Error::WrongKey => {
            let named = SqlError::new(
                ERRCODE_INVALID_PASSWORD,
                format!("the key does not open key ring \"{}\"", ring.info.name),
            );
            match ring.record.is_client_held() {
                true => named,
                false => named.hint("Its key provider gave another key than the one that sealed the ring: check sealvec.local_root_key_file."),
            }
        }
        sealvec_core::Error::Provider(_) if provider::is_local(ring.record.provider()) => SqlError::from(error)
            .hint("Check that sealvec.local_root_key_file names the file that this key ring was made with."),
        other => other.into(),
    }
}

fn keep(ring: &Ring, open: &OpenRing) -> Result<(), SqlError> {
    watch::arm();
    if guc::disable_core_dumps() {
        arena::forbid_core_dumps();
    }
    let (users, pid, user, now_ms) = (Users::now(), process_id(), current_user(), now_ms());
    SESSION.with_borrow_mut(|session| {
        session.close(|held| held.info.number == ring.info.number);
        let mut deks = Vec::with_capacity(open.deks.len());
        for dek in &open.deks {
            match session.arena.keep(dek.as_dek().expose()) {
                Ok(slot) => deks.push((dek.as_dek().version(), slot)),
                Err(error) => {
                    deks.into_iter().for_each(|(_, slot)| session.arena.wipe(slot));
                    return Err(error);
                }
            }
        }
        let held = Held {
            info: Rc::new(ring.info.clone()),
            deks,
            epoch: ring.epoch,
            opened_ms: now_ms,
            is_client_held: ring.record.is_client_held(),
            allowed: user,
        };
        (session.users, session.pid) = (users, pid);
        session.oldest_ms = session.oldest_ms.min(now_ms);
        session.rings.insert(ring.info.number, held);
        session.set_shut(ring.info.number, false);
        Ok(())
    })
}

// ---- lending ----------------------------------------------------------------------------

/// A key in use; no key is wiped while one of these lives.
struct Lent {
    key: *const [u8; KEY_LEN],
    version: u32,
    info: Rc<RingInfo>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        if IN_USE.fetch_sub(1, Relaxed) == 1 && DYING.load(Relaxed) > 0 {
            SESSION.with(|session| {
                // Borrowed only if a panic crosses it; then the next close buries.
                if let Ok(mut session) = session.try_borrow_mut() {
                    session.bury();
                }
            });
        }
    }
}

fn lend(ring: u32, version: Option<u32>) -> Result<Lent, SqlError> {
    settle()?;
    let user = current_user();
    if let Some(lent) = lend_held(ring, version, user)? {
        return Ok(lent);
    }
    authorize(ring, user)?;
    lend_held(ring, version, user)?
        .ok_or_else(|| SqlError::new(ERRCODE_INTERNAL_ERROR, "key ring closed while opening"))
}

/// The key, if the ring is open and `user` is known to be allowed.
fn lend_held(ring: u32, version: Option<u32>, user: pg_sys::Oid) -> Result<Option<Lent>, SqlError> {
    SESSION.with_borrow(|session| {
        let Some(held) = session.rings.get(&ring).filter(|held| held.is_client_held || held.allowed == user) else {
            return Ok(None);
        };
        let dek = match version {
            None => held.deks.last(),
            Some(version) => held.deks.iter().rfind(|dek| dek.0 == version),
        };
        let (version, slot) = dek.ok_or(sealvec_core::Error::UnknownDekVersion(version.unwrap_or(0)))?;
        IN_USE.fetch_add(1, Relaxed);
        Ok(Some(Lent { key: slot.as_ptr(), version: *version, info: held.info.clone() }))
    })
}

/// Opens the ring if that needs nobody's key, or finds that an open one may be used by `user` too.
fn authorize(number: u32, user: pg_sys::Oid) -> Result<(), SqlError> {
    let ring = catalog::ring(number)?;
    if ring.record.is_client_held() || SESSION.with_borrow(|session| session.is_shut(number)) {
        return Err(locked(&ring.info, ring.record.is_client_held()));
    }
    let is_held = SESSION.with_borrow(|session| session.rings.contains_key(&number));
    if !is_held {
        return unlock(&ring);
    }
    check_grant(&ring)?;
    SESSION.with_borrow_mut(|session| {
        if let Some(held) = session.rings.get_mut(&number) {
            held.allowed = user;
        }
    });
    Ok(())
}

// ---- closing ----------------------------------------------------------------------------

/// Closes what has to be closed before anybody uses a key.
fn settle() -> Result<(), SqlError> {
    let calm = !watch::anything() && SESSION.with_borrow_mut(Session::is_current);
    if calm { Ok(()) } else { settle_slowly() }
}

#[cold]
fn settle_slowly() -> Result<(), SqlError> {
    close_dropped();
    let ttl_ms = u64::from(guc::key_ttl_s()) * 1000;
    let now_ms = now_ms();
    SESSION.with_borrow_mut(|session| {
        let same = session.users == Users::now() && session.pid == process_id();
        session.close(|held| !same || ttl_ms != 0 && now_ms.saturating_sub(held.opened_ms) >= ttl_ms);
    });
    let Some(check) = watch::Check::start(watch::OPEN_RINGS) else { return Ok(()) };
    // SAFETY: only reads the transaction's state.
    if !unsafe { pg_sys::IsTransactionState() } {
        SESSION.with_borrow_mut(|session| session.close(|_| true)); // no catalog to ask
        check.done();
        return Ok(());
    }
    // KMS-backed rings open again on demand, and are checked then. A client can't be asked again.
    let kept: Vec<(u32, i64, Uuid)> = SESSION.with_borrow_mut(|session| {
        session.close(|held| !held.is_client_held);
        session.rings.values().map(|held| (held.info.number, held.epoch, held.info.uuid)).collect()
    });
    for (number, epoch, uuid) in kept {
        let found = catalog::ring(number).ok().filter(|ring| ring.epoch == epoch && ring.info.uuid == uuid);
        SESSION.with_borrow_mut(|session| match (found, session.rings.get_mut(&number)) {
            (Some(ring), Some(held)) => held.info = Rc::new(ring.info), // it may have been renamed
            _ => session.close(|held| held.info.number == number),
        });
    }
    check.done();
    Ok(())
}

/// Closes everything if a callback asked for it.
fn close_dropped() {
    let (drop_all, reset) = (watch::take(watch::DROP_ALL), watch::take(watch::RESET));
    if drop_all || reset {
        SESSION.with_borrow_mut(|session| {
            session.close(|_| true);
            if reset {
                (session.all_shut, session.except) = (false, HashSet::new());
            }
        });
    }
}

/// For callbacks: closes and wipes now if nothing of ours is under way; else the next use does.
pub fn close_if_idle() {
    if SESSION.with(|session| session.try_borrow_mut().is_ok()) {
        close_dropped();
    }
}

/// For process exit.
pub fn wipe_for_exit() {
    SESSION.with(|session| {
        if let Ok(mut session) = session.try_borrow_mut() {
            session.rings.clear();
            session.arena.wipe_all();
        }
    });
    SESSION_KEY.set(None);
}

/// The session and outer user: what SET SESSION AUTHORIZATION and SET ROLE change, and a
/// SECURITY DEFINER function does not.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Users(pg_sys::Oid, pg_sys::Oid);

impl Users {
    fn now() -> Self {
        // SAFETY: both only read a variable of the backend.
        unsafe { Self(unguarded::GetSessionUserId(), unguarded::GetOuterUserId()) }
    }
}

/// The user whose privileges count at this moment; inside a SECURITY DEFINER function its owner.
fn current_user() -> pg_sys::Oid {
    // SAFETY: only reads a variable of the backend.
    unsafe { unguarded::GetUserId() }
}

/// Accessors that report no errors, called without pgrx's guard: that costs more than they do.
mod unguarded {
    use pgrx::pg_sys::{Oid, TimestampTz};

    unsafe extern "C" {
        pub fn GetSessionUserId() -> Oid;
        pub fn GetOuterUserId() -> Oid;
        pub fn GetUserId() -> Oid;
        pub fn GetCurrentStatementStartTimestamp() -> TimestampTz;
    }
}

fn process_id() -> i32 {
    // SAFETY: set once after fork, before any of our code runs in the process.
    unsafe { pg_sys::MyProcPid }
}

/// When the client's current statement began: what tells two statements apart.
fn statement() -> pg_sys::TimestampTz {
    // SAFETY: only reads a variable of the backend.
    unsafe { unguarded::GetCurrentStatementStartTimestamp() }
}

/// Milliseconds that also pass while the machine sleeps.
fn now_ms() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec; the clock exists since Linux 2.6.39.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut now) };
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

/// The key of values that have met no column yet.
struct SessionKey {
    key: XaesKey,
    uuid: Uuid,
    /// The process that drew it.
    pid: i32,
}

/// An open ring.
struct Held {
    info: Rc<RingInfo>,
    /// Ascending versions; never empty.
    deks: Vec<(u32, Slot)>,
    /// The row's epoch when it was opened.
    epoch: i64,
    opened_ms: u64,
    is_client_held: bool,
    /// The role that last passed the grant check of a KMS-backed ring.
    allowed: pg_sys::Oid,
}

struct Session {
    arena: Arena,
    rings: HashMap<u32, Held, BuildHasherDefault<ByNumber>>,
    /// Keys of closed rings that may still be in use.
    dying: Vec<Slot>,
    users: Users,
    pid: i32,
    /// When the ring that is open longest was opened.
    oldest_ms: u64,
    /// The statement in which time was last looked at.
    timed: pg_sys::TimestampTz,
    /// Whether rings are locked by hand, except those in `except`.
    all_shut: bool,
    except: HashSet<u32>,
}

impl Session {
    fn new() -> Self {
        Self {
            arena: Arena::new(),
            rings: HashMap::default(),
            dying: Vec::new(),
            users: Users(pg_sys::InvalidOid, pg_sys::InvalidOid),
            pid: 0,
            oldest_ms: u64::MAX,
            timed: 0,
            all_shut: false,
            except: HashSet::new(),
        }
    }

    /// Whether every open ring may stay open, as far as user, process and time go. Time is looked at once a
    /// statement: a key does not go in the middle of one.
    fn is_current(&mut self) -> bool {
        self.rings.is_empty() || self.users == Users::now() && self.pid == process_id() && self.is_in_time()
    }

    fn is_in_time(&mut self) -> bool {
        let statement = statement();
        if statement == self.timed {
            return true;
        }
        let ttl_ms = u64::from(guc::key_ttl_s()) * 1000;
        let in_time = ttl_ms == 0 || now_ms().saturating_sub(self.oldest_ms) < ttl_ms;
        if in_time {
            self.timed = statement;
        }
        in_time
    }

    fn is_shut(&self, ring: u32) -> bool {
        self.all_shut != self.except.contains(&ring)
    }

    fn set_shut(&mut self, ring: u32, shut: bool) {
        if shut == self.all_shut {
            self.except.remove(&ring);
        } else {
            self.except.insert(ring);
        }
    }

    /// Closes every ring that `goes` names.
    fn close(&mut self, goes: impl Fn(&Held) -> bool) {
        let dying = &mut self.dying;
        let before = self.rings.len();
        self.rings.retain(|_, held| {
            let goes = goes(held);
            if goes {
                dying.extend(held.deks.drain(..).map(|(_, slot)| slot));
            }
            !goes
        });
        if self.rings.len() < before {
            GENERATION.fetch_add(1, Relaxed);
            self.oldest_ms = self.rings.values().map(|held| held.opened_ms).min().unwrap_or(u64::MAX);
            FORGET.with_borrow(|all| all.iter().for_each(|forget| forget()));
        }
        self.bury();
    }

    /// Wipes the keys of closed rings, unless one may be in use.
    fn bury(&mut self) {
        if IN_USE.load(Relaxed) == 0 {
            for slot in self.dying.drain(..) {
                self.arena.wipe(slot);
            }
        }
        DYING.store(self.dying.len() as u32, Relaxed);
    }
}

/// Ring numbers are drawn at random: they are their own hash, once spread to the bits that the map looks at.
#[derive(Default)]
struct ByNumber(u64);

impl Hasher for ByNumber {
    fn write(&mut self, _: &[u8]) {
        unreachable!("a ring number is a u32")
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
