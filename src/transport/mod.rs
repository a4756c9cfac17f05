//! Keys that come sealed to this server: the public key that clients seal to, and what opens them again.
//!
//! `page` keeps the key pair where every backend finds it, `plain` says when a key that comes unsealed is refused.

mod page;
mod plain;

use std::ffi::CStr;

use pgrx::PgSqlErrorCode::*;
use pgrx::prelude::*;
use sealvec_core::Error;
use sealvec_core::transport::{Argument, Binding, SealedKey};
use zeroize::Zeroizing;

use crate::error::{OrRaise, OwnState, SqlError};

pub use page::{LEN as SHARED_LEN, begin};
pub use plain::{check_plain, check_telling};

/// `transport_key(OUT key_id, OUT public_key, OUT expires, OUT database, OUT role)`: what a client seals to, and the names
/// that it binds to.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)] // the columns, one by one
fn sealvec_transport_key() -> TableIterator<
    'static,
    (
        name!(key_id, Vec<u8>),
        name!(public_key, Vec<u8>),
        name!(expires, TimestampWithTimeZone),
        name!(database, String),
        name!(role, String),
    ),
> {
    let (key, expires) = page::current().or_raise();
    let Names { database, role } = Names::now().or_raise();
    let expires = TimestampWithTimeZone::try_from(expires).expect("a time that Postgres gave");
    TableIterator::once((key.id().as_bytes().to_vec(), key.as_bytes().to_vec(), expires, database, role))
}

/// What was sealed, if `bytes` are a sealed key.
///
/// # Errors
/// SV001 if the server has no such key pair any more, 28P01 if it was sealed for another place.
pub fn open(bytes: &[u8], argument: Argument, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, SqlError> {
    let Some(sealed) = SealedKey::read(bytes) else { return Ok(None) };
    let sealed = sealed?;
    let key = page::find(sealed.key_id()).ok_or_else(stale)?;
    let Names { database, role } = Names::now()?;
    let binding = Binding { database: &database, role: &role, name, argument };
    let opened = key.open(&binding, &sealed).map_err(|error| match error {
        Error::SealedElsewhere => elsewhere(&binding),
        error => error.into(),
    });
    opened.map(Some)
}

/// What stands for sealed bytes at the place where they are shown: where it is the same, [`open`] gives the same. `None`
/// for bytes that are no sealed key, or one that does not open any more.
pub fn place(bytes: &[u8], argument: Argument, name: &str) -> Option<Vec<u8>> {
    let sealed = SealedKey::read(bytes)?.ok()?;
    page::find(sealed.key_id())?;
    // SAFETY: only reads a variable of the backend.
    let role = unsafe { pg_sys::GetOuterUserId() }.to_u32();
    let length = u32::try_from(sealed.as_bytes().len()).ok()?; // tells the bytes from the name behind them
    let head = [&[argument as u8][..], &role.to_le_bytes(), &length.to_le_bytes()].concat();
    Some([&head, sealed.as_bytes(), name.as_bytes()].concat())
}

/// Where this backend is, in UTF-8: the database, and the role that SET ROLE or the login gave. Inside a SECURITY DEFINER
/// function the role stays the caller's, for it is the caller who has sealed.
struct Names {
    database: String,
    role: String,
}

impl Names {
    fn now() -> Result<Self, SqlError> {
        // SAFETY: look-ups in catalogs; both give a string in the current context, or null.
        let (database, role) = unsafe {
            (pg_sys::get_database_name(pg_sys::MyDatabaseId), pg_sys::GetUserNameFromId(pg_sys::GetOuterUserId(), true))
        };
        if database.is_null() || role.is_null() {
            return Err(SqlError::new(ERRCODE_UNDEFINED_OBJECT, "the current database or role was dropped"));
        }
        Ok(Self { database: utf8(database)?, role: utf8(role)? })
    }
}

fn utf8(name: *mut std::ffi::c_char) -> Result<String, SqlError> {
    // SAFETY: a C string of the database's encoding; the result is a C string, or `name` itself.
    let name = unsafe {
        let len = CStr::from_ptr(name).count_bytes() as i32;
        CStr::from_ptr(pg_sys::pg_server_to_any(name, len, pg_sys::pg_enc::PG_UTF8 as i32))
    };
    name.to_str().map(str::to_owned).map_err(|_| {
        SqlError::new(
            ERRCODE_CHARACTER_NOT_IN_REPERTOIRE,
            "the name of the database or of the role is no text in UTF-8",
        )
    })
}

fn stale() -> SqlError {
    SqlError::new(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "the key was sealed to a transport key that is gone")
        .state(OwnState::StaleTransportKey)
        .detail("This server has made another since, or the key was sealed for another server.")
        .hint("Ask sealvec.transport_key() again, seal anew, and send the call once more.")
}

fn elsewhere(here: &Binding<'_>) -> SqlError {
    SqlError::new(ERRCODE_INVALID_PASSWORD, Error::SealedElsewhere.to_string())
        .detail(format!(
            "Here are database \"{}\", role \"{}\" and argument {} of a call about \"{}\".",
            here.database,
            here.role,
            here.argument.name(),
            here.name
        ))
        .hint("A sealed key opens only in the database, for the role, for the ring or index, and as the argument that it was sealed for.")
}
