//! `create_user`, `list_users`, `delete_user`: who else has the keys of a collection, under a key of his own.

use pgrx::PgSqlErrorCode::*;
use pgrx::prelude::*;
use pgrx::{IntoDatum, pg_sys};
use sealvec_core::keys::{Kek, Permission, Permissions, ServerKey, UserId, UserRecord, UserToken};
use sealvec_core::transport::Argument;

use super::call::{Call, Need, Shown, required, user_id as read_user_id};
use super::create::check_ring_owner;
use super::payload::texts_of;
use super::registry::{self, Part};
use super::rows::Rows;
use crate::audit::{self, Operation};
use crate::datatype::varlena::ArrayArg;
use crate::error::{OrRaise, SqlError};
use crate::keys;
use crate::transport;

/// `create_user(name, permissions, user_id, user_key, index_key)`
#[pg_extern(sql = false)]
fn sealvec_create_user(
    name: Option<&str>,
    permissions: Option<ArrayArg<'_>>,
    user_id: Option<&[u8]>,
    user_key: Option<&[u8]>,
    index_key: Option<&[u8]>,
    call: pg_sys::FunctionCallInfo,
) -> Option<i32> {
    audit::call(Operation::CreateUser, None, || {
        let permissions = read_permissions(&required(permissions, "permissions")?)?;
        let opened = owned_and_locked(name, index_key)?; // or a user might outlive an index that goes meanwhile
        let ring = opened.collection.ring;
        let may_tell = match user_key {
            Some(_) => transport::check_telling().is_ok(), // he has it, and a listener is not to hear what came sealed
            None => transport::check_telling().map(|()| true)?,
        };
        let token = UserToken::new(
            user_id.map_or_else(|| Ok(UserId::random()?), read_user_id)?,
            user_key.map_or_else(
                || Ok(Kek::generate()?),
                |key| keys::shown(key, Argument::UserKey, &opened.collection.name),
            )?,
        );
        if registry::user(ring, token.user())?.is_some() {
            return Err(SqlError::new(ERRCODE_DUPLICATE_OBJECT, "the index has a user with this user_id already"));
        }
        let record = keys::with_ring(ring, |record, open| {
            Ok(UserRecord::create(record, open, token.user(), permissions, token.kek())?)
        })?;
        registry::insert_user(ring, &record)?;
        let permitted: Vec<&str> = permissions.iter().map(name_of).collect();
        audit::note(format!("user {}: {}", audit::hex(token.user().as_bytes()), permitted.join(", ")));
        // SAFETY: the call of this very function, which returns a set.
        let mut rows = unsafe { Rows::new(call)? };
        // For SQL alone: a server that asks for tags of its own makes its tokens itself.
        let text = may_tell.then(|| token.encode(&ServerKey::public()));
        let text = text.as_ref().map(|text| text.as_str());
        rows.push(|| [token.user().as_bytes().as_slice().into_datum(), text.into_datum()])?;
        Ok(None)
    })
    .or_raise()
}

/// `list_users(name, index_key)`
#[pg_extern(sql = false)]
fn sealvec_list_users(name: Option<&str>, index_key: Option<&[u8]>, call: pg_sys::FunctionCallInfo) -> Option<i32> {
    (|| {
        let opened = owned(name, index_key)?;
        let users = registry::users(opened.collection.ring)?;
        // SAFETY: the call of this very function, which returns a set.
        let mut rows = unsafe { Rows::new(call)? };
        for user in &users {
            let permissions: Vec<&str> = user.permissions().iter().map(name_of).collect();
            rows.push(|| [user.user().as_bytes().as_slice().into_datum(), permissions.into_datum()])?;
        }
        Ok::<_, SqlError>(None)
    })()
    .or_raise()
}

/// `delete_user(name, user_id, index_key) → boolean`
#[pg_extern(sql = false)]
fn sealvec_delete_user(name: Option<&str>, user_id: Option<&[u8]>, index_key: Option<&[u8]>) -> bool {
    audit::call(Operation::DeleteUser, None, || {
        let user = read_user_id(required(user_id, "user_id")?)?;
        let opened = owned_and_locked(name, index_key)?;
        let found = registry::delete_user(opened.collection.ring, user)?;
        audit::note(format!("user {}{}", audit::hex(user.as_bytes()), if found { "" } else { ", who is none" }));
        Ok(found)
    })
    .or_raise()
}

/// As [`owned`], and others who change the collection wait. Nobody but its owner makes them wait, whatever he shows.
fn owned_and_locked(name: Option<&str>, index_key: Option<&[u8]>) -> Result<Call, SqlError> {
    let name = required(name, "name")?;
    let found = registry::find(name)?;
    found.audit();
    check_ring_owner(&found)?;
    registry::lock(name, Part::Shape)?;
    open_owned(name, index_key)
}

/// A call by whoever has the collection's own key and the rights of its owner.
fn owned(name: Option<&str>, index_key: Option<&[u8]>) -> Result<Call, SqlError> {
    let name = required(name, "name")?;
    registry::find(name)?.audit();
    open_owned(name, index_key)
}

fn open_owned(name: &str, index_key: Option<&[u8]>) -> Result<Call, SqlError> {
    let opened = Call::open(Some(name), &Shown { index_key, ..Shown::default() }, Need::Own)?;
    check_ring_owner(&opened.collection)?;
    Ok(opened)
}

fn read_permissions(names: &ArrayArg<'_>) -> Result<Permissions, SqlError> {
    let invalid = |message| Err(SqlError::new(ERRCODE_INVALID_PARAMETER_VALUE, message));
    let (mut read, mut write) = (false, false);
    for name in texts_of(names)? {
        match name {
            Some("read") => read = true,
            Some("write") => write = true,
            _ => return invalid("invalid permissions; allowed: ['read', 'write']"),
        }
    }
    match Permissions::new(read, write) {
        Some(permissions) => Ok(permissions),
        None => invalid("permissions must include at least one of 'read', 'write'"),
    }
}

fn name_of(permission: Permission) -> &'static str {
    match permission {
        Permission::Read => "read",
        Permission::Write => "write",
    }
}
