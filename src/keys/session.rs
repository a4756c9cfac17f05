//! The rings that are open in this backend, and who may use them now.
//!
//! A ring is open from the moment its KEK was shown, or its provider asked, until its time is up or something
//! takes it away (see [`watch`]). It is open in the session and for the outer user that opened it, and serves the
//! role that acts: the one that opened it, its owner, one with a grant. Catalog reads happen with no borrow held,
//! because they can run invalidation callbacks that come back here.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use pgrx::PgSqlErrorCode::*;
use pgrx::pg_sys;
use sealvec_core::keys::ring::OpenRing;
use sealvec_core::keys::{Dek, DekBytes, IdKey, Kek, UserId, Uuid};
use sealvec_kms::local::LOCAL_PROVIDER;

use super::arena::{self, KEY_LEN};
use super::backend::{Users, current_user, process_id, statement};
use super::catalog::{self, Ring, RingInfo, Standing};
use super::held::{self, Held, OpenRings, Origin, Right, Scoped};
use super::ring_user::{self, Opener};
use super::{expiry, kms_slot, provider, session_key, watch};
use crate::audit;
use crate::clock::{coarse_ms, now_ms};
use crate::error::SqlError;
use crate::guc;
use crate::interrupts::Undisturbed;

/// How often a session that uses keys listens to what others change, in the middle of a statement.
const HEAR_MS: u64 = 500;

/// How often a session of a standby looks whether its open rings are still to be open.
const LOOK_AGAIN_MS: u64 = 1000;

/// Rings that calls opened and that wait for the next call, at most.
const HIDDEN_MAX: usize = 64;

thread_local! {
    pub(super) static SESSION: RefCell<OpenRings> = RefCell::new(OpenRings::new());
    /// Of the next ring that is kept open.
    static SERIAL: Cell<u64> = const { Cell::new(1) };
    /// When others were last listened to.
    static HEARD_MS: Cell<u64> = const { Cell::new(0) };
    /// Whether the root key could be read, and the statement that tried: a view asks once for each ring.
    static ROOT_KEY_IS_THERE: Cell<(pg_sys::TimestampTz, bool)> = const { Cell::new((0, false)) };
}

// ---- what datatype and index use --------------------------------------------------------

/// Lends the ring's DEK of `version`, or the one that seals new data, to `f`. Opens a KMS-backed ring on demand.
///
/// Costs less than 100 ns when the ring is open. `f` may come back here for other rings.
///
/// # Errors
/// 55000 if the ring is locked, 42501 if the current user may not open it, or not for what `right` says, 42704 if there is
/// no such ring, or what the provider reports.
pub fn with_dek<R>(
    ring: u32,
    version: Option<u32>,
    right: Right,
    f: impl FnOnce(&Dek<'_>, &RingInfo) -> R,
) -> Result<R, SqlError> {
    let lent = lend(ring, version, right)?;
    // SAFETY: the slot holds this DEK and is not wiped while `lent` lives, whatever closes the ring meanwhile.
    let key = unsafe { &*lent.key };
    Ok(f(&Dek::new(lent.version, key), &lent.info))
}

/// As [`with_dek`], with the ring's id key, which makes tokens of ids.
pub fn with_keys<R>(
    ring: u32,
    version: Option<u32>,
    right: Right,
    f: impl FnOnce(&Dek<'_>, &[u8; KEY_LEN], &RingInfo) -> R,
) -> Result<R, SqlError> {
    let lent = lend(ring, version, right)?;
    // SAFETY: as in `with_dek`, for both slots.
    let (key, id_key) = unsafe { (&*lent.key, &*lent.id_key) };
    Ok(f(&Dek::new(lent.version, key), id_key, &lent.info))
}

/// Whether the current user could use the ring right now without waiting: it is open, or its provider is local.
pub fn is_open(ring: u32) -> bool {
    let user = current_user();
    if settle().is_err() {
        return false;
    }
    let (serves, shut) = SESSION.with_borrow(|session| {
        (session.shown(ring).map(|held| (held.serves(user), held.user.clone())), session.is_shut(ring))
    });
    match serves {
        Some((true, _)) => true,
        Some((false, opener)) => {
            catalog::ring(ring).and_then(|ring| may_use(&ring, opener.as_deref(), user)).unwrap_or_else(note)
        }
        None if shut => false,
        None => catalog::ring(ring).and_then(|ring| could_open(&ring, user)).unwrap_or_else(note),
    }
}

/// Whether the ring is not locked by hand and has a key service to ask, which may make the caller wait: for one who
/// can do without the keys, and holds no lock that others need meanwhile.
pub fn opens_by_itself(ring: u32) -> bool {
    let is_shut = SESSION.with_borrow(|session| session.is_shut(ring));
    !is_shut && catalog::ring(ring).is_ok_and(|ring| !ring.record.is_client_held())
}

/// As [`is_open`], leaving aside what a call under way has opened for itself alone.
pub fn is_open_in_session(ring: u32) -> bool {
    is_open(ring) && !SESSION.with_borrow(|session| session.rings.get(&ring).is_some_and(|held| held.scope.is_some()))
}

/// Whether `user` opened the ring, and not for single calls: while it is open he may use it.
pub(super) fn is_opener(ring: u32, user: pg_sys::Oid) -> bool {
    SESSION.with_borrow(|session| session.shown(ring).is_some_and(|held| held.scope.is_none() && held.opener == user))
}

/// Whether a user opened the ring in this session who may not do what `right` says.
pub fn is_denied(ring: u32, right: Right) -> bool {
    SESSION.with_borrow(|session| session.shown(ring).is_some_and(|held| !held.gives(right)))
}

/// Whether `role` may use a ring that is open: as may whoever could open it, and members of the role of the user who did.
fn may_use(ring: &Ring, opener: Option<&Opener>, role: pg_sys::Oid) -> Result<bool, SqlError> {
    Ok(opener.is_some_and(|opener| opener.serves(role) && opener.serves(Users::now().outer))
        || catalog::may_open(ring, role)?)
}

/// Answers "no" where an error is only the reason for it, and leaves the reason to whoever looks for it.
fn note(error: SqlError) -> bool {
    crate::tell::debug1!("key ring counts as locked: {}", error.message);
    false
}

/// Whether a ring that is not open would open for `user` at once: the provider is here, and so is its root key.
fn could_open(ring: &Ring, user: pg_sys::Oid) -> Result<bool, SqlError> {
    if !is_local(ring) || !catalog::may_open(ring, user)? {
        return Ok(false);
    }
    let (tried, is_there) = ROOT_KEY_IS_THERE.get();
    if tried == statement() {
        return Ok(is_there);
    }
    let is_there = provider::has_root_key().map(|()| true).unwrap_or_else(note);
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
    held::generation()
}

// ---- unlock and lock --------------------------------------------------------------------

/// Opens a client-held ring with its KEK.
///
/// # Errors
/// 28P01 if it is not the KEK, which says only that.
pub fn unlock_with(ring: &Ring, kek: &Kek) -> Result<(), SqlError> {
    settle()?;
    let open = ring.record.open(kek).map_err(|error| naming(ring, error))?;
    keep(ring, &open.into(), By::Itself)?;
    settle_kept()
}

/// Opens a ring for a user of it, by the copies that his own key has opened.
pub fn unlock_for(ring: &Ring, keys: &RingKeys, opener: Rc<Opener>) -> Result<(), SqlError> {
    settle()?;
    keep(ring, keys, By::User(opener))?;
    settle_kept()
}

/// Opens a KMS-backed ring through its provider, if the current user may.
pub fn unlock(ring: &Ring) -> Result<(), SqlError> {
    settle()?;
    check_grant(ring, None)?;
    let kek = unwrap_kek(ring)?;
    let open = ring.record.open(&kek).map_err(|error| naming(ring, error))?;
    keep(ring, &open.into(), By::Itself)?;
    if is_local(ring) {
        return Ok(()); // nobody waited since its rights were asked for
    }
    // The key service may have taken seconds, in which the grant was taken back, or the ring locked everywhere.
    settle_kept()?;
    check_grant(ring, None)?;
    watch::allowed();
    let user = current_user();
    SESSION.with_borrow_mut(|session| match session.rings.get_mut(&ring.info.number) {
        Some(held) => {
            (held.opener, held.allowed) = (user, user);
            Ok(())
        }
        None => Err(locked(&ring.info, Locked::Meanwhile)),
    })
}

/// Looks at the rings that are open now, the one just kept among them. Who was allowed it, and its row, were read a while
/// ago: what changed since may have been heard of when it was not among those to compare, and is told once only.
fn settle_kept() -> Result<(), SqlError> {
    watch::compare_again();
    settle()
}

/// The KEK of a KMS-backed ring, from its provider.
pub fn unwrap_kek(ring: &Ring) -> Result<Kek, SqlError> {
    let kms = ring.kms.as_deref().ok_or_else(|| without_slot(ring))?;
    provider::with(&kms_slot::find(kms)?, |provider| ring.record.unwrap_kek(provider))?
        .map_err(|error| naming(ring, error))
}

/// Whether asking for its KEK never waits.
fn is_local(ring: &Ring) -> bool {
    ring.record.provider() == LOCAL_PROVIDER
}

/// The row of a ring that a key service keeps names none: it was written by hand.
fn without_slot(ring: &Ring) -> SqlError {
    SqlError::new(
        ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("key ring \"{}\" names no key service", ring.info.name),
    )
    .detail(format!("Its key is kept by provider \"{}\".", ring.record.provider()))
    .hint("A superuser can set its kms in sealvec.key_ring to a name that sealvec.kms_slots has.")
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
        session.set_all_shut(true);
    });
}

/// 42501 unless the current user may open this KMS-backed ring, or use this one that is open: the user `opener` opened it,
/// or its own key did.
fn check_grant(ring: &Ring, opener: Option<&Opener>) -> Result<(), SqlError> {
    if may_use(ring, opener, current_user())? {
        return Ok(());
    }
    if opener.is_none() && !ring.record.is_client_held() && ring_user::has_key(ring.info.number, current_user())? {
        return Err(locked(&ring.info, Locked::ForUsers));
    }
    let name = ring.info.name.replace('\'', "''");
    let error =
        SqlError::new(ERRCODE_INSUFFICIENT_PRIVILEGE, format!("permission denied for key ring \"{}\"", ring.info.name));
    Err(match ring.record.is_client_held() || opener.is_some() {
        true => error
            .detail("It is open in this session, but not for the role that acts here: functions and maintenance run as their owner.")
            .hint(format!("Its owner can let that role use it where it is open: SELECT sealvec.grant_ring('{name}', 'role').")),
        false => error
            .detail("The right to read a column is not the right to open its values.")
            .hint(format!("Its owner can allow a role to open it: SELECT sealvec.grant_ring('{name}', 'role').")),
    })
}

/// Why a ring is locked.
enum Locked {
    /// Its client has to show its key.
    ForClient,
    /// A user of it has to show his.
    ForUsers,
    /// By hand.
    ByHand,
    /// In another session, while this one waited for its key.
    Meanwhile,
}

fn locked(info: &RingInfo, why: Locked) -> SqlError {
    let name = info.name.replace('\'', "''");
    let error =
        SqlError::new(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, format!("key ring \"{}\" is locked", info.name));
    match why {
        Locked::ForClient => error
            .detail("Its key is held by the client, and this session has not been shown it or has dropped it.")
            .hint(format!("Call SELECT sealvec.unlock('{name}', $1) with the 32-byte key bound to $1.")),
        Locked::ForUsers => error
            .detail("The current role has a key of its own for it, which this session has not been shown or has dropped.")
            .hint(format!("Open the wrap that sealvec.my_wraps('{name}') gives with the secret key, and call SELECT sealvec.unlock('{name}', user_key => $1); or show the token as user_token.")),
        Locked::ByHand => error
            .detail("It was locked in this session.")
            .hint(format!("Open it again: SELECT sealvec.unlock('{name}').")),
        Locked::Meanwhile => error
            .detail("It was locked or changed in another session while this one asked for its key.")
            .hint("Try again."),
    }
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
                false if is_local(ring) => named.hint("Its key provider gave another key than the one that sealed the ring: check sealvec.local_root_key_file."),
                false => named.hint(format!(
                    "Key service \"{}\" has another key than the one that sealed the ring, or the ring's row was altered.",
                    ring.kms.as_deref().unwrap_or_default()
                )),
            }
        }
        sealvec_core::Error::Altered { .. } => SqlError {
            message: format!("the record of key ring \"{}\" is not as it was written", ring.info.name).into(),
            ..error.into()
        },
        sealvec_core::Error::Provider(_) if is_local(ring) => SqlError::from(error)
            .hint("Check that sealvec.local_root_key_file names the file that this key ring was made with."),
        other => other.into(),
    }
}

/// As [`naming`], for a user's own key.
pub fn naming_user(ring: &Ring, error: sealvec_core::Error) -> SqlError {
    match error {
        sealvec_core::Error::WrongKey => SqlError::new(
            ERRCODE_INVALID_PASSWORD,
            format!("the key opens key ring \"{}\" for no role that this session has", ring.info.name),
        ),
        sealvec_core::Error::Altered { .. } => SqlError {
            message: format!("the record of a user of key ring \"{}\" is not as it was written", ring.info.name).into(),
            ..error.into()
        },
        other => other.into(),
    }
}

/// Keys of a ring on their way into the arena. Wiped on drop.
pub(super) struct RingKeys {
    /// Ascending versions; never empty.
    pub deks: Vec<DekBytes>,
    pub id_key: IdKey,
}

impl From<OpenRing> for RingKeys {
    fn from(OpenRing { deks, id_key }: OpenRing) -> Self {
        Self { deks, id_key }
    }
}

/// By what a ring is opened, and so for whom.
pub(super) enum By {
    /// Its own key: for the session.
    Itself,
    /// A user's: for the session, to do what he may.
    User(Rc<Opener>),
    /// A credential that has this digest, perhaps of a user of the collection: for the calls that show it again.
    Credential([u8; 32], Option<UserId>),
}

/// Keeps the ring open.
pub(super) fn keep(ring: &Ring, keys: &RingKeys, by: By) -> Result<(), SqlError> {
    let (credential, opener) = match by {
        By::Itself => (None, None),
        By::User(opener) => (None, Some(opener)),
        By::Credential(digest, user) => (Some((digest, user)), None),
    };
    watch::arm();
    watch::allowed();
    if guc::disable_core_dumps() {
        arena::forbid_core_dumps();
    }
    let (users, pid, user, now_ms) = (Users::now(), process_id(), current_user(), now_ms());
    // SAFETY: only reads the transaction's state.
    let level = unsafe { pg_sys::GetCurrentTransactionNestLevel() };
    SESSION.with_borrow_mut(|session| {
        session.close(|held| held.info.number == ring.info.number);
        if credential.is_some() && session.rings.values().filter(|held| !held.is_shown()).count() >= HIDDEN_MAX {
            session.close(|held| !held.is_shown()); // locked memory is scarce, and each comes back with its next call
        }
        let mut slots = Vec::with_capacity(keys.deks.len() + 1);
        let id_key = std::iter::once((0, keys.id_key.expose()));
        for (version, key) in keys.deks.iter().map(|dek| (dek.as_dek().version(), dek.as_dek().expose())).chain(id_key)
        {
            match session.arena.keep(key) {
                Ok(slot) => slots.push((version, slot)),
                Err(error) => {
                    slots.into_iter().for_each(|(_, slot)| session.arena.wipe(slot));
                    return Err(error);
                }
            }
        }
        let held = Held {
            serial: SERIAL.replace(SERIAL.get() + 1),
            info: Rc::new(ring.info.clone()),
            id_key: slots.pop().map(|(_, slot)| slot),
            deks: slots,
            // What is kept for calls waits for its credential, whether a transaction ends well or not.
            level: if credential.is_none() && (ring.record.is_client_held() || opener.is_some()) { level } else { 0 },
            origin: match ring.record.is_client_held() || opener.is_some() {
                true => Origin::Client,
                false if is_local(ring) => Origin::Local,
                false => Origin::Service,
            },
            user: opener,
            scope: credential.map(|(digest, user)| Scoped { digest, user, sealed: None, calls: 0 }),
            epoch: ring.epoch,
            opened_ms: now_ms,
            opener: user,
            allowed: user,
        };
        (session.users, session.pid) = (users, pid);
        session.oldest_ms = session.oldest_ms.min(now_ms);
        session.rings.insert(ring.info.number, held);
        if credential.is_none() {
            session.set_shut(ring.info.number, false);
        }
        Ok(())
    })?;
    set_alarm().inspect_err(|_| SESSION.with_borrow_mut(|session| session.close(|_| true)))
}

// ---- lending ----------------------------------------------------------------------------

/// A key in use; no key is wiped while one of these lives.
struct Lent {
    key: *const [u8; KEY_LEN],
    id_key: *const [u8; KEY_LEN],
    version: u32,
    info: Rc<RingInfo>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        if held::end_use() {
            SESSION.with(|session| {
                // Borrowed only if a panic crosses it; then the next close buries.
                if let Ok(mut session) = session.try_borrow_mut() {
                    session.bury();
                }
            });
        }
    }
}

fn lend(ring: u32, version: Option<u32>, right: Right) -> Result<Lent, SqlError> {
    settle()?;
    let user = current_user();
    if let Some(lent) = lend_held(ring, version, right, user)? {
        return Ok(lent);
    }
    authorize(ring, user)?;
    lend_held(ring, version, right, user)?
        .ok_or_else(|| SqlError::new(ERRCODE_INTERNAL_ERROR, "key ring closed while opening"))
}

/// A user opened the ring who may not do this.
fn denied(name: &str, right: Right) -> SqlError {
    let error = SqlError::new(ERRCODE_INSUFFICIENT_PRIVILEGE, format!("permission denied for key ring \"{name}\""));
    match right {
        Right::Read => error.detail("This session opened it as a user who may write, and not read."),
        Right::Write => error.detail("This session opened it as a user who may read, and not write."),
        Right::Either | Right::Own => {
            error.detail("This session opened it as one of its users; what is asked takes its own key.")
        }
    }
    .hint("Its owner makes users and gives them permissions: sealvec.grant_user().")
}

/// The key, if the ring is open and `user` is known to be allowed.
fn lend_held(ring: u32, version: Option<u32>, right: Right, user: pg_sys::Oid) -> Result<Option<Lent>, SqlError> {
    SESSION.with_borrow(|session| {
        let Some(held) = session.shown(ring).filter(|held| held.serves(user)) else {
            return Ok(None);
        };
        if !held.gives(right) {
            return Err(denied(&held.info.name, right));
        }
        // Whoever has not the newest DEK writes nothing: neither under an older one, nor into an index that he can read
        // only a part of.
        let newest = held.deks.last().map_or(0, |dek| dek.0);
        if right == Right::Write && newest < held.info.dek_version {
            return Err(sealvec_core::Error::NotShared(held.info.dek_version).into());
        }
        let dek = match version {
            None => held.deks.last(),
            Some(version) => held.deks.iter().rfind(|dek| dek.0 == version),
        };
        let (version, slot) = dek.ok_or_else(|| match version {
            Some(version) if held.info.has_retired(version) => catalog::retired(&held.info.name, version),
            Some(version) if held.info.versions.binary_search(&version).is_ok() => {
                sealvec_core::Error::NotShared(version).into()
            }
            version => sealvec_core::Error::UnknownDekVersion(version.unwrap_or(0)).into(),
        })?;
        let id_key = held.id_key.as_ref().expect("a ring is open with its id key").as_ptr();
        held::begin_use();
        Ok(Some(Lent { key: slot.as_ptr(), id_key, version: *version, info: held.info.clone() }))
    })
}

/// Opens the ring if that needs nobody's key, or finds that an open one may be used by `user` too.
fn authorize(number: u32, user: pg_sys::Oid) -> Result<(), SqlError> {
    let ring = catalog::ring(number)?;
    let (held, is_shut) =
        SESSION.with_borrow(|session| (session.shown(number).map(|held| held.user.clone()), session.is_shut(number)));
    let Some(opener) = held else {
        return match (ring.record.is_client_held(), is_shut) {
            (true, _) => Err(locked(&ring.info, Locked::ForClient)),
            (false, true) => Err(locked(&ring.info, Locked::ByHand)),
            (false, false) => match unlock(&ring) {
                Ok(()) => {
                    audit::opened(&ring.info.name, is_local(&ring), "by a statement");
                    Ok(())
                }
                Err(error) => {
                    audit::refused_by_itself(number, &ring.info.name, &error);
                    Err(error)
                }
            },
        };
    };
    check_grant(&ring, opener.as_deref())
        .inspect_err(|error| audit::refused_by_itself(number, &ring.info.name, error))?;
    watch::allowed();
    SESSION.with_borrow_mut(|session| {
        if let Some(held) = session.rings.get_mut(&number) {
            held.allowed = user;
        }
    });
    Ok(())
}

// ---- closing ----------------------------------------------------------------------------

/// Closes what has to be closed before anybody uses a key.
pub(super) fn settle() -> Result<(), SqlError> {
    hear();
    let calm = !watch::anything() && SESSION.with_borrow_mut(OpenRings::is_current);
    if calm { Ok(()) } else { settle_slowly() }
}

/// Hears what other sessions have changed, should the last time be long ago. Postgres listens when it takes a lock, and a
/// statement that takes none, such as one long scan, would use a key that was taken away until its end.
fn hear() {
    let now_ms = coarse_ms();
    if now_ms.wrapping_sub(HEARD_MS.get()) < HEAR_MS || SESSION.with_borrow(|session| session.rings.is_empty()) {
        return;
    }
    HEARD_MS.set(now_ms);
    // SAFETY: reads the transaction's state. Whoever holds a lock on a buffer or a critical section holds interrupts back,
    // and nothing is heard then; else this is what taking any lock on a table does.
    unsafe {
        if pg_sys::InterruptHoldoffCount == 0 && pg_sys::CritSectionCount == 0 && pg_sys::IsTransactionState() {
            pg_sys::AcceptInvalidationMessages();
        }
    }
}

#[cold]
fn settle_slowly() -> Result<(), SqlError> {
    close_due(false);
    let Some(check) = watch::Check::start(watch::OPEN_RINGS) else { return Ok(()) };
    // SAFETY: only reads the transaction's state.
    match unsafe { pg_sys::IsTransactionState() } {
        true => compare(
            |number| catalog::ring(number).ok().map(Standing::from),
            |number, user| user.stands(number).unwrap_or_else(note),
            |number, user| ring_user::is_of_collection(number, user).unwrap_or_else(note),
        ),
        false => SESSION.with_borrow_mut(|session| session.close(|_| true)), // no catalog to ask
    }
    check.done();
    Ok(())
}

/// Closes what a callback asked for, what another user or process opened, and what has outlived its time; that not in the
/// middle of a statement, whatever else happened meanwhile.
fn close_due(is_end: bool) {
    close_dropped();
    let ttl_ms = u64::from(guc::key_ttl_s()) * 1000;
    let now_ms = now_ms();
    SESSION.with_borrow_mut(|session| {
        let same = session.users == Users::now() && session.pid == process_id();
        let timed = ttl_ms != 0 && (is_end || !session.was_in_time());
        session.close(|held| !same || timed && now_ms.saturating_sub(held.opened_ms) >= ttl_ms);
    });
}

/// Closes every ring that does not stand as it did when it was opened, or whose user does not, or the collection's user in
/// whose call it is open. All three look in the catalog.
fn compare(
    standing: impl Fn(u32) -> Option<Standing>,
    stands: impl Fn(u32, &Opener) -> bool,
    is_of_collection: impl Fn(u32, UserId) -> bool,
) {
    // A local ring opens again on demand, and is checked then. A client can't be asked again, and a key service may be
    // away: what others do to other rings must not end the use of this one.
    #[allow(clippy::type_complexity)] // what of each the three look at
    let kept: Vec<(u32, i64, Uuid, Option<Rc<Opener>>, Option<UserId>)> = SESSION.with_borrow_mut(|session| {
        session.close(|held| held.origin == Origin::Local);
        let held = session.rings.values();
        held.map(|held| (held.info.number, held.epoch, held.info.uuid, held.user.clone(), held.caller())).collect()
    });
    for (number, epoch, uuid, user, caller) in kept {
        let found = standing(number).filter(|found| found.epoch == epoch && found.uuid == uuid);
        let found = found.filter(|_| user.as_deref().is_none_or(|user| stands(number, user)));
        let found = found.filter(|_| caller.is_none_or(|user| is_of_collection(number, user)));
        SESSION.with_borrow_mut(|session| match (found, session.rings.get_mut(&number)) {
            (Some(found), Some(held)) => {
                held.info = Rc::new(RingInfo { name: found.name, ..(*held.info).clone() });
                // A grant may have been taken back. It was what opened a ring that no KEK was shown for, or a user did,
                // who may be no member of his role any more.
                if held.origin == Origin::Service || held.user.is_some() {
                    held.opener = pg_sys::InvalidOid;
                    held::derived_is_stale();
                }
                held.allowed = held.opener;
            }
            _ => session.close(|held| held.info.number == number),
        });
    }
}

/// Between two statements: closes what is due, and sees to it that the rest goes when it is, also in a backend that
/// idles.
///
/// Waits for nobody and reports nothing: this is the end of somebody's commit, or a backend that waits for its client and
/// would take an error for the end of the connection. A ring that can't be looked at is closed.
pub fn at_end() {
    if SESSION.with_borrow(|session| session.rings.is_empty()) {
        let _ = expiry::set(None); // turning it off cannot fail for a timer that is there
        return;
    }
    close_due(true);
    if let Some(check) = watch::Check::start(watch::OPEN_RINGS) {
        let _undisturbed = Undisturbed::start();
        // No call is under way, and the next one looks for its user.
        compare(catalog::standing_at_once, |number, opener| opener.stands_at_once(number), |_, _| true);
        check.done();
    }
    if set_alarm().is_err() {
        SESSION.with_borrow_mut(|session| session.close(|_| true));
    }
}

/// Sets when this backend is next woken, should it idle then.
fn set_alarm() -> Result<(), SqlError> {
    let due_ms = SESSION.with_borrow(OpenRings::due_ms);
    // SAFETY: reads a flag of the server.
    let is_standby = unsafe { pg_sys::RecoveryInProgress() };
    expiry::set(match is_standby && SESSION.with_borrow(|session| !session.rings.is_empty()) {
        // What the primary changes comes with its log, and nobody here wakes those whom it concerns.
        true => Some(due_ms.unwrap_or(u64::MAX).min(now_ms() / LOOK_AGAIN_MS * LOOK_AGAIN_MS + LOOK_AGAIN_MS)),
        false => due_ms,
    })
}

/// Closes everything if a callback asked for it.
fn close_dropped() {
    let (drop_all, reset) = (watch::take(watch::DROP_ALL), watch::take(watch::RESET));
    if drop_all || reset {
        SESSION.with_borrow_mut(|session| {
            session.close(|_| true);
            if reset {
                session.set_all_shut(false);
            }
        });
    }
}

/// For callbacks: what was unlocked at `level` of savepoints and deeper was undone, or, with `is_undone` false, is kept
/// by the level above.
pub fn savepoint_ends(level: i32, is_undone: bool) -> bool {
    SESSION.with(|session| {
        let Ok(mut session) = session.try_borrow_mut() else { return false };
        match is_undone {
            true => session.undo(level),
            false => session.settle_at(level - 1),
        }
        if level <= 1 {
            session.end_calls();
        }
        true
    })
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
    session_key::wipe();
}
