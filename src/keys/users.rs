//! Users of key rings: `grant_user`, `revoke_user`, `my_wraps`, and how such a user unlocks.
//!
//! A user is a role with a key of its own: the ring's keys are wrapped under it, for reading, writing or both. Whoever
//! makes him a user never holds the secret that opens a wrap to a public key. Two things have to be there: the wrapped key
//! (sealvec.ring_user), and the right to use it (sealvec.ring_grant). Either can be taken away.

use pgrx::PgSqlErrorCode::*;
use pgrx::prelude::*;
use sealvec_core::keys::{Kek, Permission, Permissions, ServerKey, UserPublicKey, UserRecord, UserToken, UserWrap};
use sealvec_core::transport::Argument;

use super::backend::{Users, current_user};
use super::catalog::{self, Ring};
use super::functions::{existing_role, held, kek_of, required};
use super::hold::Hold;
use super::kek::{shown, shown_token};
use super::ring_user::{self, RingUser, Vouched};
use super::session::{self, RingKeys};
use crate::audit::{self, Operation};
use crate::error::{OrRaise, SqlError};
use crate::tell::{notice, warning};

/// `grant_user(ring, role, permissions, public_key, token, kek)`: makes the role a user, or gives it another key.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)] // the columns, one by one
fn sealvec_grant_user(
    ring: Option<&str>,
    role: Option<&str>,
    permissions: Option<Vec<Option<String>>>,
    public_key: Option<&[u8]>,
    token: Option<bool>,
    kek: Option<&[u8]>,
) -> TableIterator<'static, (name!(user_id, Vec<u8>), name!(user_token, Option<String>))> {
    let row = audit::call(Operation::GrantUser, ring, || {
        let role = existing_role(role)?;
        let ring = held(required(ring, "ring")?, Hold::Change)?;
        let permissions = read_permissions(&required(permissions, "permissions")?)?;
        let public_key = public_key.map(UserPublicKey::from_slice).transpose()?;
        if public_key.is_some() == (token == Some(true)) {
            return Err(SqlError::new(ERRCODE_INVALID_PARAMETER_VALUE, "a user has a public key or a token")
                .hint("Pass the 32 bytes of his X25519 public key as public_key, or token => true for a token that is shown once."));
        }
        if public_key.is_none() {
            crate::transport::check_telling()?;
        }
        if catalog::granted_to(ring.info.number, &role)? == Some(None) {
            return Err(SqlError::new(
                ERRCODE_DUPLICATE_OBJECT,
                format!("role \"{}\" has a grant on key ring \"{}\"", role.name, ring.info.name),
            )
            .detail("By it the role does without a key of its own whatever the key ring's key can do.")
            .hint("Take it back first: sealvec.revoke_ring()."));
        }
        let kek = kek_of(&ring, kek)?;
        let open = ring.record.open(&kek).map_err(|error| session::naming(&ring, error))?;
        let drawn = UserToken::generate()?;
        let record = UserRecord::create(&ring.record, &open, drawn.user(), permissions, drawn.kek())?;
        let wrap = public_key.map(|key| UserWrap::create(&record, drawn.kek(), key, &role.name)).transpose()?;
        let text = wrap.is_none().then(|| drawn.encode(&ServerKey::public()).as_str().to_owned());
        if ring_user::delete(ring.info.number, &role.name)? {
            notice!(
                "role \"{}\" was a user of key ring \"{}\"; its key from before opens nothing any more",
                role.name,
                ring.info.name
            );
        }
        catalog::grant(ring.info.number, &role, Some(permissions))?;
        let allowed: Vec<&str> = permissions.iter().map(name_of).collect();
        audit::note(format!("to role {}: {}", role.name, allowed.join(", ")));
        let wrap = wrap.map(|wrap| Vouched::new(wrap, &kek));
        RingUser { role, record, wrap }.insert(ring.info.number)?;
        Ok((drawn.user().as_bytes().to_vec(), text))
    });
    TableIterator::once(row.or_raise())
}

/// `revoke_user(ring, role, rekey, kek)`: also of a role that is gone by now.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)] // the columns, one by one
fn sealvec_revoke_user(
    ring: Option<&str>,
    role: Option<&str>,
    rekey: Option<bool>,
    kek: Option<&[u8]>,
) -> TableIterator<'static, (name!(dek_version, i32), name!(left_behind, Vec<String>))> {
    let row = audit::call(Operation::RevokeUser, ring, || {
        let role = required(role, "role")?;
        let mut ring = held(required(ring, "ring")?, Hold::Change)?;
        // An error, and not a notice: a name with a slip in it must not look like somebody who was shut out.
        if !ring_user::delete(ring.info.number, role)? {
            return Err(SqlError::new(
                ERRCODE_UNDEFINED_OBJECT,
                format!("role \"{role}\" is no user of key ring \"{}\"", ring.info.name),
            )
            .hint("The view sealvec.ring_users lists them; sealvec.revoke_ring() takes back what grant_ring() gave."));
        }
        catalog::revoke_key(ring.info.number, role)?;
        audit::note(format!("from role {role}"));
        if rekey != Some(true) {
            return Ok((ring.info.dek_version as i32, Vec::new()));
        }
        let kek = kek_of(&ring, kek)?;
        let (version, left_behind) = self::rekey(&mut ring, &kek)?;
        audit::note(format!("data key version {version}"));
        Ok((version as i32, left_behind))
    });
    TableIterator::once(row.or_raise())
}

/// `my_wraps(ring)`: those that the session's role may use.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)] // the columns, one by one
fn sealvec_my_wraps(
    ring: Option<&str>,
) -> TableIterator<
    'static,
    (name!(role, String), name!(permissions, Vec<&'static str>), name!(dek_version, i32), name!(wrap, Vec<u8>)),
> {
    let rows = (|| {
        let ring = catalog::ring_named(required(ring, "ring")?)?;
        let mut rows = Vec::new();
        for user in usable(&ring)? {
            if let Some(wrap) = user.user.wrap.as_ref().map(Vouched::wrap) {
                let permissions = user.permissions.iter().map(name_of).collect();
                rows.push((user.user.role.name, permissions, wrap.dek_version() as i32, wrap.encode()));
            }
        }
        Ok::<_, SqlError>(rows)
    })();
    TableIterator::new(rows.or_raise())
}

// ---- unlock -----------------------------------------------------------------------------

/// A user whose key the current session may use, and what for.
struct Usable {
    user: RingUser,
    permissions: Permissions,
}

/// Opens a ring with the key that a user's wrap held.
///
/// # Errors
/// 42501 if the session's role is no user of the ring, 28P01 if this is the key of none that it is.
pub fn unlock_with_key(ring: &Ring, key: &[u8]) -> Result<(), SqlError> {
    let key = shown(key, Argument::RingUserKey, &ring.info.name)?;
    unlock(ring, |user| user.record.check_kek(&key).is_ok(), &key)
}

/// As [`unlock_with_key`], with a token.
pub fn unlock_with_token(ring: &Ring, token: &[u8]) -> Result<(), SqlError> {
    let token = shown_token(token, Argument::RingUserToken, &ring.info.name)?.ok_or_else(|| {
        SqlError::new(ERRCODE_INVALID_PASSWORD, "user_token is none")
            .detail("A token starts with cdbk_1_ and has 82 characters.")
    })?;
    unlock(ring, |user| token.check(&user.record).is_ok(), token.kek())
}

fn unlock(ring: &Ring, is_his: impl Fn(&RingUser) -> bool, key: &Kek) -> Result<(), SqlError> {
    let usable = usable(ring)?;
    if usable.is_empty() {
        return Err(SqlError::new(
            ERRCODE_INSUFFICIENT_PRIVILEGE,
            format!("permission denied for key ring \"{}\"", ring.info.name),
        )
        .detail("The session's role is no user of it, or its right to use its key was taken back. A key opens it for the role that it was made for, and its members.")
        .hint("Its owner makes users: sealvec.grant_user()."));
    }
    let wrong = || session::naming_user(ring, sealvec_core::Error::WrongKey);
    let found = usable.into_iter().find(|usable| is_his(&usable.user)).ok_or_else(wrong)?;
    let mut open = None;
    // Each copy is looked at: a permission is there because its copy opens, not because a number says so.
    for permission in found.permissions.iter() {
        let opened = found.user.record.open(&ring.record, key, permission);
        open = Some(opened.map_err(|error| session::naming_user(ring, error))?);
    }
    let open = open.expect("a user has one permission at least");
    let keys = RingKeys { deks: open.deks, id_key: open.id_key };
    session::unlock_for(ring, &keys, found.user.opener(found.permissions)?)
}

/// Users of the ring that the session's role is, or is a member of, with what the grant leaves of their permissions. In a
/// function with its owner's rights he has to be one, too.
fn usable(ring: &Ring) -> Result<Vec<Usable>, SqlError> {
    let (outer, acting) = (Users::now().outer, current_user());
    let mut found = Vec::new();
    for user in ring_user::all(ring.info.number)? {
        if ![outer, acting].into_iter().all(|role| catalog::has_privileges_of(role, &user.role)) {
            continue;
        }
        if let Some(permissions) = granted(ring, &user)? {
            found.push(Usable { user, permissions });
        }
    }
    Ok(found)
}

/// What the user may do, if he has both: the role and its grant, and the key.
fn granted(ring: &Ring, user: &RingUser) -> Result<Option<Permissions>, SqlError> {
    if user.role.valid().is_none() {
        return Ok(None);
    }
    let granted = catalog::granted_to(ring.info.number, &user.role)?.flatten();
    Ok(granted.filter(|granted| *granted == user.record.permissions()))
}

// ---- rekey ------------------------------------------------------------------------------

/// A new DEK for the ring, which the caller holds for change; wrapped for every user with a public key. Returns its version,
/// and the roles that can't have it.
pub fn rekey(ring: &mut Ring, kek: &Kek) -> Result<(u32, Vec<String>), SqlError> {
    let newest = ring.record.current_version();
    let version = ring.record.add_dek(kek).map_err(|error| session::naming(ring, error))?;
    catalog::replace(&ring.record, ring.kms.as_deref())?;
    let left_behind = wrap_anew(ring, kek, newest)?;
    let of_collection = ring_user::count_of_collection(ring.info.number)?;
    if !left_behind.with_token.is_empty() {
        notice!(
            "users of key ring \"{}\" with a token read nothing that is written from now on, and write nothing, until sealvec.grant_user() gives them another: {}",
            ring.info.name,
            left_behind.with_token.join(", ")
        );
    }
    if of_collection > 0 {
        notice!(
            "{of_collection} of the index's users read nothing that is written from now on, and write nothing, until sealvec.create_user() makes them anew"
        );
    }
    let mut roles = [left_behind.with_token, left_behind.not_vouched_for].concat();
    roles.sort();
    Ok((version, roles))
}

/// Roles of users whose copies stay as they are.
#[derive(Default)]
pub struct LeftBehind {
    /// Their keys are theirs alone.
    with_token: Vec<String>,
    /// Nobody who had the ring's KEK gave them the public key that the catalog has, or not since the last rekey.
    not_vouched_for: Vec<String>,
}

/// Gives every user with a public key the DEKs that the ring has now, and no others. `newest` is the DEK that they have:
/// who lacks it was put there by somebody who may change the files, and not the ring. Whose role is gone, or has lost its
/// grant, gets nothing: he has his secret still.
pub fn wrap_anew(ring: &Ring, kek: &Kek, newest: u32) -> Result<LeftBehind, SqlError> {
    let number = ring.info.number;
    let mut left_behind = LeftBehind::default();
    let mut open = None;
    for user in ring_user::all(number)? {
        if granted(ring, &user)?.is_none() {
            continue;
        }
        let RingUser { role, record, wrap: Some(vouched) } = user else {
            left_behind.with_token.push(user.role.name);
            continue;
        };
        let Some(public_key) = vouched.public_key(kek, &record, newest) else {
            left_behind.not_vouched_for.push(role.name);
            continue;
        };
        if open.is_none() {
            open = Some(ring.record.open(kek).map_err(|error| session::naming(ring, error))?);
        }
        let own = Kek::generate()?;
        let open = open.as_ref().expect("made above");
        let record = UserRecord::create(&ring.record, open, record.user(), record.permissions(), &own)?;
        let wrap = Vouched::new(UserWrap::create(&record, &own, public_key, &role.name)?, kek);
        ring_user::delete(number, &role.name)?;
        RingUser { role, record, wrap: Some(wrap) }.insert(number)?;
    }
    if !left_behind.not_vouched_for.is_empty() {
        warning!(
            "key ring \"{}\" does not vouch for the public keys of these users, who get no new data key until sealvec.grant_user() makes them users again: {}",
            ring.info.name,
            left_behind.not_vouched_for.join(", ")
        );
    }
    Ok(left_behind)
}

/// The ring has another KEK: it vouches under that one for whom it vouched under the old.
pub fn vouch_anew(ring: &Ring, old: &Kek, new: &Kek) -> Result<(), SqlError> {
    let number = ring.info.number;
    for user in ring_user::all(number)? {
        let RingUser { role, record, wrap: Some(vouched) } = user else { continue };
        if vouched.holds(old) {
            ring_user::delete(number, &role.name)?;
            RingUser { role, record, wrap: Some(Vouched::new(vouched.wrap().clone(), new)) }.insert(number)?;
        }
    }
    Ok(())
}

// ---- permissions ------------------------------------------------------------------------

fn read_permissions(names: &[Option<String>]) -> Result<Permissions, SqlError> {
    let invalid = |message: &'static str| {
        SqlError::new(ERRCODE_INVALID_PARAMETER_VALUE, message).hint("Pass '{read}', '{write}' or '{read,write}'.")
    };
    let (mut read, mut write) = (false, false);
    for name in names {
        match name.as_deref() {
            Some("read") => read = true,
            Some("write") => write = true,
            _ => return Err(invalid("permissions are read and write")),
        }
    }
    Permissions::new(read, write).ok_or_else(|| invalid("a user may read, write or both"))
}

fn name_of(permission: Permission) -> &'static str {
    match permission {
        Permission::Read => "read",
        Permission::Write => "write",
    }
}
