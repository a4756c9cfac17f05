//! One call of a function on a collection: the collection, and its ring open for as long as the call lasts.

use pgrx::PgSqlErrorCode::*;
use sealvec_core::Error;
use sealvec_core::keys::{Kek, Permission, UserId};
use sealvec_core::transport::Argument;

use super::names;
use super::registry::{self, Collection, Part};
use crate::error::SqlError;
use crate::keys::{self, Credential, Right, Scope};
use crate::transport;

/// The credential arguments, as they came.
#[derive(Clone, Copy, Default)]
pub struct Shown<'a> {
    /// 32 bytes: of the collection, or of the user that `user_id` names.
    pub index_key: Option<&'a [u8]>,
    /// 16 bytes.
    pub user_id: Option<&'a [u8]>,
    /// A user's id and key in one text.
    pub user_token: Option<&'a [u8]>,
}

/// What a call is about to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Query, get, list, count.
    Read,
    /// Upsert, delete.
    Write,
    /// What a user may know whatever his permissions are.
    Either,
    /// What no user may do.
    Own,
}

/// A call under way.
pub struct Call {
    /// What it is about. Nobody else gives it a dimension while this call may write and it has none.
    pub collection: Collection,
    /// Closes the ring again, if this call opened it.
    _scope: Option<Scope>,
}

impl Call {
    /// Finds the collection and opens its ring.
    ///
    /// # Errors
    /// 42704 for an unknown name, 55000 if the client holds the key and showed none, 28000 if a key was shown and
    /// the ring takes none, 28P01 for a wrong one, 42501 for a user without the permission.
    pub fn open(name: Option<&str>, shown: &Shown<'_>, need: Need) -> Result<Self, SqlError> {
        let name = required(name, "name")?;
        let found = registry::find(name)?;
        let scope = open(&found, shown, need)?;
        // The first upsert changes the table. It waits here for another one, before it holds what that one needs.
        if need == Need::Write && found.dimension.is_none() {
            registry::lock(name, Part::Shape)?;
        }
        // Whoever removes it waits from now on. One that was removed meanwhile took its table with it; and only what it
        // is to learn yet can have changed.
        if !names::hold_table(found.uuid) {
            return Err(registry::unknown(name));
        }
        let collection = if found.dimension.is_some() { found } else { registry::find(name)? };
        // What a trigger does, it does with the caller's rights and while his key opens the ring.
        if need == Need::Write && scope.is_some() && names::has_triggers(collection.uuid) {
            return Err(has_triggers(&collection));
        }
        Ok(Self { collection, _scope: scope })
    }
}

/// Opens the ring of a collection.
pub fn open(collection: &Collection, shown: &Shown<'_>, need: Need) -> Result<Option<Scope>, SqlError> {
    if let Some((user, kek)) = user(&collection.name, shown)? {
        return open_for_user(collection, user, &kek, need).map(Some);
    }
    match (shown.index_key, collection.is_client_held()) {
        (Some(key), true) => {
            let place = transport::place(key, Argument::IndexKey, &collection.name);
            if let Some(place) = &place
                && let Some(scope) = keys::open_again(collection.ring, place)?
            {
                return Ok(Some(scope));
            }
            let kek = keys::shown(key, Argument::IndexKey, &collection.name)?;
            let opened = keys::open_for_call(collection.ring, &Credential::Kek(&kek));
            let scope = opened.map_err(|error| naming(collection, error))?;
            if let Some(place) = &place {
                keys::remember(collection.ring, place);
            }
            Ok(Some(scope))
        }
        (Some(_), false) => Err(SqlError::new(
            ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION,
            format!("index \"{}\" is KMS-backed; do not supply index_key", collection.name),
        )
        .hint("Leave index_key out: the server resolves the key itself.")),
        (None, true) if !keys::is_open_in_session(collection.ring) => Err(SqlError::new(
            ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("index \"{}\" needs its key", collection.name),
        )
        .detail("Its key is held by the client, who shows it with each call.")
        .hint("Pass index_key => $1 with the 32 bytes bound to $1.")),
        (None, true) => check_right(collection, need).map(|()| None), // unlocked in this session
        // Opens by itself when a key is asked for; here so that all functions refuse the same roles.
        (None, false) => {
            let opened = keys::with_dek(collection.ring, None, Right::Either, |_, _| ());
            opened.map_err(|error| match error.sqlstate {
                ERRCODE_INSUFFICIENT_PRIVILEGE => may_not_open(collection),
                // Nobody showed a key that could be wrong: the key service has another one.
                ERRCODE_INVALID_PASSWORD => SqlError { sqlstate: ERRCODE_SYSTEM_ERROR, ..error },
                _ => error,
            })?;
            check_right(collection, need).map(|()| None)
        }
    }
}

/// 42501 if a user of the ring has opened it in this session who may not do what is needed.
fn check_right(collection: &Collection, need: Need) -> Result<(), SqlError> {
    let right = match need {
        Need::Read => Right::Read,
        Need::Write => Right::Write,
        Need::Either => Right::Either,
        Need::Own => Right::Own,
    };
    match keys::is_denied(collection.ring, right) {
        true => Err(denied(collection)),
        // Here, and not at the first value: whoever lacks the newest data key writes nothing.
        false if need == Need::Write => keys::with_dek(collection.ring, None, right, |_, _| ()),
        false => Ok(()),
    }
}

fn open_for_user(collection: &Collection, user: UserId, kek: &Kek, need: Need) -> Result<Scope, SqlError> {
    // A user who was removed is as one without permissions: nobody learns which.
    let record = registry::user(collection.ring, user)?.ok_or_else(|| denied(collection))?;
    let permission = match need {
        Need::Read => Permission::Read,
        Need::Write => Permission::Write,
        Need::Either => record.permissions().iter().next().expect("a user has one at least"),
        Need::Own => {
            record.check_kek(kek).map_err(|error| naming(collection, error.into()))?;
            return Err(denied(collection));
        }
    };
    keys::open_for_call(collection.ring, &Credential::User { record: &record, kek, permission })
        .map_err(|error| naming(collection, error))
}

/// The user that the credential is of, with his KEK; `None` if it is of the collection itself.
fn user(name: &str, shown: &Shown<'_>) -> Result<Option<(UserId, Kek)>, SqlError> {
    let contradictory =
        || SqlError::new(ERRCODE_INVALID_PARAMETER_VALUE, "a user shows a token, or index_key with user_id, not both");
    match (shown.user_token, shown.user_id, shown.index_key) {
        (None, None, _) => Ok(None),
        (Some(token), None, None) => {
            Ok(Some(keys::shown_token(token, Argument::UserToken, name)?.ok_or_else(bad_token)?.into_parts()))
        }
        (None, Some(user), Some(key)) => Ok(Some((user_id(user)?, keys::shown(key, Argument::IndexKey, name)?))),
        (None, Some(_), None) => Err(SqlError::new(
            ERRCODE_INVALID_PARAMETER_VALUE,
            "user_id says whose key index_key is, and there is none",
        )
        .hint("Pass the user's own 32-byte key as index_key.")),
        (Some(_), ..) => Err(contradictory()),
    }
}

/// The id of a user, 16 bytes.
pub fn user_id(bytes: &[u8]) -> Result<UserId, SqlError> {
    let bytes = bytes.try_into().map_err(|_| {
        SqlError::new(ERRCODE_INVALID_PARAMETER_VALUE, format!("user_id must be exactly 16 bytes, not {}", bytes.len()))
    })?;
    Ok(UserId::from_bytes(bytes))
}

fn has_triggers(collection: &Collection) -> SqlError {
    SqlError::new(
        ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("no key is taken to write to index \"{}\" while its table has triggers", collection.name),
    )
    .detail("A trigger, or what a foreign key makes of one, runs while the key opens the index, and could open its items.")
    .hint("Drop them and VACUUM the table, which sealvec.collections names. An index on a key service that needs no credential may have them.")
}

/// The role has no grant on the collection's ring.
fn may_not_open(collection: &Collection) -> SqlError {
    let name = collection.name.replace('\'', "''");
    SqlError::new(ERRCODE_INSUFFICIENT_PRIVILEGE, format!("permission denied for index \"{}\"", collection.name))
        .detail("The right to read its table is not the right to open its items.")
        .hint(format!("Its owner can allow a role to: SELECT sealvec.grant_ring(ring, 'role') FROM sealvec.collections WHERE name = '{name}'."))
}

fn bad_token() -> SqlError {
    SqlError::new(ERRCODE_INVALID_PASSWORD, "user_token is none")
        .detail("A token starts with cdbk_1_ and has 82 characters.")
}

/// The user has not the permission, or is no user any more.
pub fn denied(collection: &Collection) -> SqlError {
    SqlError::new(ERRCODE_INSUFFICIENT_PRIVILEGE, format!("permission denied for index \"{}\"", collection.name))
        .hint("Its owner makes users and gives them permissions: sealvec.create_user().")
}

/// `error` in the words of collections, which the user knows by name, not by ring.
fn naming(collection: &Collection, error: SqlError) -> SqlError {
    let name = &collection.name;
    match error.sqlstate {
        ERRCODE_INVALID_PASSWORD => {
            SqlError::new(ERRCODE_INVALID_PASSWORD, format!("wrong encryption key for index \"{name}\""))
        }
        ERRCODE_INSUFFICIENT_PRIVILEGE if error.message == Error::PermissionDenied.to_string() => denied(collection),
        _ => error,
    }
}

/// An argument that may not be NULL.
pub fn required<T>(value: Option<T>, argument: &str) -> Result<T, SqlError> {
    value.ok_or_else(|| {
        SqlError::new(ERRCODE_NULL_VALUE_NOT_ALLOWED, format!("argument \"{argument}\" must not be null"))
    })
}
