//! A ring opened for the length of one call, by a credential that the call itself shows.
//!
//! A pooled connection serves many clients, so what one of them showed may serve no other. The keys stay in the
//! arena when the call ends, with all that was derived from them, but nobody is lent one until a call shows the same
//! credential again, or another that opens the ring: checking it costs a digest where opening costs an envelope for
//! each DEK.
//!
//! A ring that is open in the session anyway stays as it is. The credential is checked all the same.

use pgrx::pg_sys;
use sealvec_core::crypto::mac;
use sealvec_core::keys::{DekBytes, Kek, Permission, UserId, UserRecord};
use zeroize::Zeroizing;

use super::backend::current_user;
use super::catalog::{self, Ring};
use super::held::Held;
use super::session::{self, By, RingKeys, SESSION};
use super::watch;
use crate::audit::{self, Attempt};
use crate::error::SqlError;

/// What a call shows.
pub enum Credential<'a> {
    /// The KEK of a client-held ring.
    Kek(&'a Kek),
    /// A user's own KEK, his record as it stands now, and what he is about to do.
    User { record: &'a UserRecord, kek: &'a Kek, permission: Permission },
}

/// The ring is open until this is dropped.
#[must_use]
pub struct Scope {
    ring: u32,
    serial: u64,
    /// The role that was allowed before, where the ring was open in the session for another one.
    allowed_before: Option<pg_sys::Oid>,
    counted: bool,
}

thread_local! {
    /// Makes digests of credentials that mean nothing outside this process.
    static DIGEST_KEY: Zeroizing<[u8; 32]> = {
        let key = DekBytes::generate(1).expect("the kernel gives random bytes");
        Zeroizing::new(*key.as_dek().expose())
    };
}

/// Opens the ring for a call.
///
/// # Errors
/// 28P01 if the credential does not open it, 42501 for a user without the permission, 55000 for one made before the
/// ring's newest DEK who is about to write.
pub fn open_for_call(number: u32, credential: &Credential<'_>) -> Result<Scope, SqlError> {
    session::settle()?;
    let user = current_user();
    let digest = credential.digest();
    let again = SESSION.with_borrow_mut(|session| {
        let held = session.rings.get_mut(&number).filter(|held| held.serves(user))?;
        held.scope.as_ref().filter(|scope| scope.digest == digest)?;
        Some(Scope::counting(number, held))
    });
    if let Some(scope) = again {
        return Ok(scope);
    }
    let ring = catalog::ring(number)?;
    let attempt = Attempt::at(number);
    let keys = credential.open(&ring).map_err(|error| {
        audit::refused(&ring.info.name, &error);
        audit::slow_down(attempt, error)
    })?;
    attempt.succeeded();
    let shown = SESSION.with_borrow_mut(|session| {
        // What a user opened for the session may do less than this credential: it gives way.
        let held = session.rings.get_mut(&number);
        let held = held.filter(|held| held.info.uuid == ring.info.uuid && held.user.is_none())?;
        match &mut held.scope {
            None => {
                let before = std::mem::replace(&mut held.allowed, user);
                Some(Scope { ring: number, serial: held.serial, allowed_before: Some(before), counted: false })
            }
            // Another credential for the same keys: what was derived from them may stay.
            Some(scope) if has_keys(&held.deks, &keys) => {
                (scope.digest, scope.sealed, scope.user) = (digest, None, credential.user());
                (held.opener, held.allowed) = (user, user);
                Some(Scope::counting(number, held))
            }
            Some(_) => None,
        }
    });
    if let Some(scope) = shown {
        return Ok(scope);
    }
    session::keep(&ring, &keys, By::Credential(digest, credential.user()))?;
    if credential.user().is_some() {
        watch::compare_again(); // his record was read before: what became of it since is looked at with the first use
    }
    audit::opened(&ring.info.name, false, &credential.told());
    SESSION.with_borrow_mut(|session| {
        let held = session.rings.get_mut(&number);
        Ok(Scope::counting(number, held.expect("kept a moment ago")))
    })
}

/// As [`open_for_call`] where the last call has shown the same sealed bytes at the same place: what is in them is not
/// opened again, which takes longer than all else here. `place` stands for both ([`crate::transport::place`]).
///
/// # Errors
/// As [`open_for_call`].
pub fn open_again(number: u32, place: &[u8]) -> Result<Option<Scope>, SqlError> {
    session::settle()?;
    let (user, digest) = (current_user(), digest_of(place));
    Ok(SESSION.with_borrow_mut(|session| {
        let held = session.rings.get_mut(&number).filter(|held| held.serves(user))?;
        held.scope.as_ref().filter(|scope| scope.sealed == Some(digest))?;
        Some(Scope::counting(number, held))
    }))
}

/// The credential that has just opened the ring came as `place` says: for [`open_again`].
pub fn remember(number: u32, place: &[u8]) {
    SESSION.with_borrow_mut(|session| {
        if let Some(scope) = session.rings.get_mut(&number).and_then(|held| held.scope.as_mut()) {
            scope.sealed = Some(digest_of(place));
        }
    });
}

fn digest_of(message: &[u8]) -> [u8; 32] {
    DIGEST_KEY.with(|key| mac::authenticate(key, message))
}

impl Credential<'_> {
    /// The user of the collection whose it is.
    fn user(&self) -> Option<UserId> {
        match self {
            Self::Kek(_) => None,
            Self::User { record, .. } => Some(record.user()),
        }
    }

    /// Whose it is, for the audit.
    fn told(&self) -> String {
        match self {
            Self::Kek(_) => "by a call that showed its key".to_owned(),
            Self::User { record, .. } => format!("by a call of user {}", audit::hex(record.user().as_bytes())),
        }
    }

    /// Equal for equal credentials only, and for no one but this process.
    fn digest(&self) -> [u8; 32] {
        let (kind, kek, record) = match self {
            Self::Kek(kek) => (0, kek, Vec::new()),
            Self::User { record, kek, permission } => (*permission as u8, kek, record.encode()),
        };
        let mut message = Zeroizing::new(Vec::with_capacity(1 + 32 + record.len())); // never regrown: no copy is left
        message.push(kind);
        message.extend_from_slice(kek.expose());
        message.extend_from_slice(&record);
        digest_of(&message)
    }

    fn open(&self, ring: &Ring) -> Result<RingKeys, SqlError> {
        match self {
            Self::Kek(kek) => Ok(ring.record.open(kek).map_err(|error| session::naming(ring, error))?.into()),
            Self::User { record, kek, permission } => {
                let open = record.open(&ring.record, kek, *permission)?;
                if *permission == Permission::Write {
                    open.dek(ring.info.dek_version)?;
                }
                Ok(RingKeys { deks: open.deks, id_key: open.id_key })
            }
        }
    }
}

/// Whether the DEKs of an open ring are exactly these.
fn has_keys(held: &[(u32, super::arena::Slot)], keys: &RingKeys) -> bool {
    held.len() == keys.deks.len()
        && held.iter().zip(&keys.deks).all(|((version, slot), dek)| {
            // SAFETY: a slot of an open ring holds its key; nobody writes to it meanwhile. The envelopes' commitments
            // have told that both are the ring's, so that the time this takes tells nothing.
            *version == dek.as_dek().version() && unsafe { &*slot.as_ptr() } == dek.as_dek().expose()
        })
}

impl Scope {
    fn counting(ring: u32, held: &mut Held) -> Self {
        held.scope.as_mut().expect("opened for calls").calls += 1;
        Self { ring, serial: held.serial, allowed_before: None, counted: true }
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        let ended = SESSION.try_with(|session| {
            let Ok(mut session) = session.try_borrow_mut() else { return false };
            // Closed meanwhile, or opened anew, it is no more what this showed.
            let Some(held) = session.rings.get_mut(&self.ring).filter(|held| held.serial == self.serial) else {
                return true;
            };
            if let Some(before) = self.allowed_before {
                held.allowed = before;
            }
            if let Some(scope) = held.scope.as_mut().filter(|_| self.counted) {
                scope.calls = scope.calls.saturating_sub(1); // the end of a transaction may have come first
            }
            true
        });
        if ended == Ok(false) {
            watch::drop_all(); // a panic crosses the session: nothing may stay open by it
        }
    }
}
