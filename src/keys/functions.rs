//! The SQL functions of schema `sealvec` that deal with keys, as `sql/20_keys.sql` declares them.

use std::ffi::CStr;
use std::ptr;

use pgrx::PgSqlErrorCode::*;
use pgrx::prelude::*;
use sealvec_core::keys::ring::CLIENT_PROVIDER;
use sealvec_core::keys::{DekBytes, IdKey, Kek, KekSource, OpenRing, RingRecord};
use sealvec_core::transport::Argument;
use sealvec_kms::local::LOCAL_PROVIDER;

use super::catalog::{self, Ring, RingInfo};
use super::held::Right;
use super::hold::{Hold, hold};
use super::kek::shown;
use super::kms_slot::KmsSlot;
use super::table::Role;
use super::{export, kms_slot, provider, ring_user, session, users};
use crate::audit::{self, Attempt, Operation};
use crate::error::{OrRaise, SqlError};
use crate::tell::{notice, warning};

/// `init_root_key() → text`: the file of the local provider's root key, made if there is none.
#[pg_extern(sql = false)]
fn sealvec_init_root_key() -> String {
    let made = audit::call(Operation::InitRootKey, None, || {
        require_superuser("make the root key")?;
        let (file, made) = provider::init_root_key()?;
        audit::note(if made { "made" } else { "was there" });
        Ok((file, made))
    });
    let (file, made) = made.or_raise();
    let file = file.display().to_string();
    match made {
        true => notice!(
            "keep a copy of \"{file}\" apart from every backup of this database: without it no key ring of provider \"local\" opens"
        ),
        false => notice!("root-key file \"{file}\" exists already and is used as it is"),
    }
    file
}

/// `create_key_ring(name, kek, provider) → uuid`; the provider is a slot's name.
#[pg_extern(sql = false)]
fn sealvec_create_key_ring(name: Option<&str>, kek: Option<&[u8]>, provider: Option<&str>) -> pgrx::Uuid {
    audit::call(Operation::CreateRing, name, || create(name, kek, provider)).or_raise()
}

fn create(name: Option<&str>, kek: Option<&[u8]>, provider: Option<&str>) -> Result<pgrx::Uuid, SqlError> {
    let name = required(name, "name")?;
    check_name(name)?;
    let kek = kek.map(|kek| shown(kek, Argument::Kek, name)).transpose()?;
    let record = create_ring(name, kek.as_ref(), provider)?;
    Ok(pgrx::Uuid::from_bytes(*record.uuid().as_bytes()))
}

/// Makes a ring of the current role, whose KEK is shown or kept by the slot `kms`. Whether the role may make one is the
/// caller's to have asked. May wait for a key service.
pub fn create_ring(name: &str, kek: Option<&Kek>, kms: Option<&str>) -> Result<RingRecord, SqlError> {
    let kms = kms.unwrap_or(if kek.is_some() { CLIENT_PROVIDER } else { LOCAL_PROVIDER });
    let record = with_source(kek, kms, |source| {
        let mut failed = None;
        let record = RingRecord::create(source, |number| {
            // Nor one that columns have whose ring is to be imported yet, or was dropped by force.
            let taken = catalog::number_is_taken(number).and_then(|ring| Ok(ring || !columns_of(number)?.is_empty()));
            taken.unwrap_or_else(|error| {
                failed = Some(error);
                false
            })
        });
        failed.map_or(record.map_err(SqlError::from), Err)
    })??;
    catalog::insert(name, &current_role()?, &record, slot_of(&record, kms))?;
    Ok(record)
}

/// Removes a ring whose owner has asked for it, unless columns are sealed under it.
pub fn drop_ring(number: u32) -> Result<(), SqlError> {
    hold(number, Hold::Drop)?;
    let columns = columns_of(number)?;
    if let Some(column) = columns.first() {
        return Err(SqlError::new(
            ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
            "cannot remove the keys, because other columns are sealed under them",
        )
        .detail(format!("Column {column} is.")));
    }
    catalog::delete(number)
}

/// The ring of this name, if the current user has the rights of its owner.
pub fn owned_ring(name: Option<&str>) -> Result<RingInfo, SqlError> {
    required(name, "ring").and_then(owned).map(|ring| ring.info)
}

/// Whether the ring is still there.
pub fn ring_exists(number: u32) -> Result<bool, SqlError> {
    catalog::number_is_taken(number)
}

/// 42501 unless the current user has the rights of the ring's owner.
pub fn check_owner(number: u32) -> Result<(), SqlError> {
    let ring = catalog::ring(number)?;
    // SAFETY: only reads a variable of the backend.
    match catalog::owns(&ring, unsafe { pg_sys::GetUserId() }) {
        true => Ok(()),
        false => Err(SqlError::new(
            ERRCODE_INSUFFICIENT_PRIVILEGE,
            format!("must be owner of key ring \"{}\"", ring.info.name),
        )),
    }
}

/// Lends a ring that is open, with its record, to `f`: for a copy of its keys under another.
pub fn with_ring<R>(number: u32, f: impl FnOnce(&RingRecord, &OpenRing) -> Result<R, SqlError>) -> Result<R, SqlError> {
    let ring = catalog::ring(number)?;
    let mut open = None;
    for version in ring.record.versions() {
        let (dek, id_key) = session::with_keys(number, Some(version), Right::Own, |dek, id_key, _| {
            (DekBytes::from_slice(version, dek.expose()), IdKey::from_slice(id_key))
        })?;
        let open = open.get_or_insert(OpenRing { deks: Vec::new(), id_key: id_key? });
        open.deks.push(dek?);
    }
    f(&ring.record, &open.expect("a ring has a DEK"))
}

/// `drop_key_ring(name, force)`: refused while a column uses it, because nothing sealed under it can be opened again.
/// Anybody can make such a column, so the owner may insist, and then waits for nobody's.
#[pg_extern(sql = false)]
fn sealvec_drop_key_ring(name: Option<&str>, force: Option<bool>) {
    audit::call(Operation::DropRing, name, || {
        let force = force == Some(true);
        let ring = held(required(name, "name")?, if force { Hold::Change } else { Hold::Drop })?;
        let users = columns_of(ring.info.number)?;
        let columns = match users.len() {
            more if more > COLUMNS_NAMED => format!("Columns: {}, and more.", users[..COLUMNS_NAMED].join(", ")),
            _ => format!("Columns: {}.", users.join(", ")),
        };
        if !users.is_empty() && !force {
            return Err(SqlError::new(
                ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
                format!("cannot drop key ring \"{}\" because columns are sealed under it", ring.info.name),
            )
            .detail(columns)
            .hint("Drop these columns or tables first, or let their values be lost with force => true. Export the ring beforehand if any backup of them is to be read again."));
        }
        catalog::delete(ring.info.number)?;
        if !users.is_empty() {
            warning!("what is sealed under key ring \"{}\" is lost. {columns}", ring.info.name);
        }
        Ok(())
    })
    .or_raise()
}

/// `grant_ring(ring, role)`: the role may open a KMS-backed ring, and use a client-held one in a session that has it open.
#[pg_extern(sql = false)]
fn sealvec_grant_ring(ring: Option<&str>, role: Option<&str>) {
    audit::call(Operation::Grant, ring, || {
        let role = existing_role(role)?;
        let ring = held(required(ring, "ring")?, Hold::Change)?;
        if let Some(Some(_)) = catalog::granted_to(ring.info.number, &role)? {
            return Err(SqlError::new(
                ERRCODE_DUPLICATE_OBJECT,
                format!("role \"{}\" is a user of key ring \"{}\"", role.name, ring.info.name),
            )
            .detail("By this grant it would do without a key of its own whatever the key ring's key can do.")
            .hint("If that is wanted, take its own key away first: sealvec.revoke_user()."));
        }
        if !catalog::grant(ring.info.number, &role, None)? {
            notice!("role \"{}\" has a grant on key ring \"{}\" already", role.name, ring.info.name);
        }
        audit::note(format!("to role {}", role.name));
        Ok::<_, SqlError>(())
    })
    .or_raise()
}

/// `revoke_ring(ring, role)`: also of a role that is gone by now.
#[pg_extern(sql = false)]
fn sealvec_revoke_ring(ring: Option<&str>, role: Option<&str>) {
    audit::call(Operation::Revoke, ring, || {
        let role = required(role, "role")?;
        let ring = held(required(ring, "ring")?, Hold::Change)?;
        if catalog::revoke(ring.info.number, role)? {
            audit::note(format!("from role {role}"));
        } else {
            notice!("role \"{role}\" had no grant on key ring \"{}\"", ring.info.name);
        }
        if ring_user::all(ring.info.number)?.iter().any(|user| user.role.name == role) {
            notice!("role \"{role}\" keeps a wrapped key that it can't use; sealvec.revoke_user() removes it");
        }
        Ok::<_, SqlError>(())
    })
    .or_raise()
}

/// `set_ring_owner(ring, role)`: superusers, and the owner in favour of a role that he is a member of.
#[pg_extern(sql = false)]
fn sealvec_set_ring_owner(ring: Option<&str>, role: Option<&str>) {
    audit::call(Operation::SetRingOwner, ring, || {
        let role = existing_role(role)?;
        let ring = held(required(ring, "ring")?, Hold::Change)?;
        if !role.oid.is_some_and(can_become) {
            return Err(SqlError::new(
                ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("must be member of role \"{}\"", role.name),
            ));
        }
        audit::note(format!("to role {}", role.name));
        catalog::set_owner(ring.info.number, &role)
    })
    .or_raise()
}

/// `unlock(ring, kek, user_key, user_token)`
#[pg_extern(sql = false)]
fn sealvec_unlock(ring: Option<&str>, kek: Option<&[u8]>, user_key: Option<&[u8]>, user_token: Option<&[u8]>) {
    audit::call(Operation::Unlock, ring, || {
        let ring = catalog::ring_named(required(ring, "ring")?)?;
        let attempt = Attempt::at(ring.info.number);
        match (kek, user_key, user_token) {
            (kek, None, None) => match old_kek(&ring, kek) {
                Ok(Some(kek)) => session::unlock_with(&ring, &kek),
                Ok(None) => session::unlock(&ring),
                Err(error) => Err(error),
            },
            (None, Some(key), None) => users::unlock_with_key(&ring, key),
            (None, None, Some(token)) => users::unlock_with_token(&ring, token),
            _ => Err(SqlError::new(
                ERRCODE_INVALID_PARAMETER_VALUE,
                "expected one of kek, user_key and user_token, not more",
            )),
        }
        .map_err(|error| audit::slow_down(attempt, error))
        .inspect(|()| attempt.succeeded())
    })
    .or_raise()
}

/// `lock(ring, everywhere)`
#[pg_extern(sql = false)]
fn sealvec_lock(ring: Option<&str>, everywhere: Option<bool>) {
    let number = match everywhere {
        Some(true) => audit::call(Operation::LockEverywhere, ring, || {
            let number = held(required(ring, "ring")?, Hold::Change)?.info.number;
            catalog::close_everywhere(number)?;
            Ok(number)
        }),
        _ => required(ring, "ring").and_then(catalog::ring_by_name).map(|ring| ring.number),
    };
    session::lock(number.or_raise());
}

/// `lock_all()`
#[pg_extern(sql = false)]
fn sealvec_lock_all() {
    session::lock_all();
}

/// `rotate_kek(ring, kek, new_kek, kms, fresh)`: other envelopes around the same DEKs; data is not touched.
#[pg_extern(sql = false)]
fn sealvec_rotate_kek(
    ring: Option<&str>,
    kek: Option<&[u8]>,
    new_kek: Option<&[u8]>,
    kms: Option<&str>,
    fresh: Option<bool>,
) {
    audit::call(Operation::RotateKek, ring, || {
        let mut ring = held(required(ring, "ring")?, Hold::Change)?;
        let shown_new = new_kek.map(|kek| shown(kek, Argument::NewKek, &ring.info.name)).transpose()?;
        let to = match (kms, &shown_new, &ring.kms) {
            (Some(kms), ..) => kms.to_owned(),
            (None, None, Some(kms)) => kms.clone(),
            _ => CLIENT_PROVIDER.to_owned(),
        };
        audit::note(format!("to {to}"));
        let keeps_kek = fresh != Some(true) && kek.is_none() && shown_new.is_none();
        if keeps_kek && let Some((from, to)) = services(&ring, &to)? {
            let moved = provider::move_kek(&mut ring.record, &from, &to)?;
            moved.map_err(|error| session::naming(&ring, error))?;
            return catalog::replace(&ring.record, Some(&to.name));
        }
        let old = kek_of(&ring, kek)?;
        let rewrapped = with_source(shown_new.as_ref(), &to, |source| {
            let provider = match source {
                KekSource::Provider(provider) => Some(provider),
                KekSource::Client(_) => None,
            };
            ring.record.rewrap(&old, source)?;
            // A KEK that does not come back is lost with all that it wraps.
            provider.map(|provider| ring.record.unwrap_kek(provider)).transpose()
        })?;
        let unwrapped = rewrapped.map_err(|error| session::naming(&ring, error))?;
        catalog::replace(&ring.record, slot_of(&ring.record, &to))?;
        let new = unwrapped.as_ref().or(shown_new.as_ref());
        users::vouch_anew(&ring, &old, new.expect("a key service gave it, or the client showed it"))
    })
    .or_raise()
}

/// The key services that a KEK moves between without leaving them; `None` if the server or the client is one of the two.
fn services(ring: &Ring, to: &str) -> Result<Option<(KmsSlot, KmsSlot)>, SqlError> {
    let Some(from) = ring.kms.as_deref().filter(|_| to != CLIENT_PROVIDER) else { return Ok(None) };
    let (from, to) = (kms_slot::find(from)?, kms_slot::hold(to)?);
    Ok((!from.is_local() && !to.is_local()).then_some((from, to)))
}

/// `rekey(ring, kek) → integer`: a new version of the DEK, which seals from now on what is written; old data keeps its own.
#[pg_extern(sql = false)]
fn sealvec_rekey(ring: Option<&str>, kek: Option<&[u8]>) -> i32 {
    audit::call(Operation::Rekey, ring, || {
        let mut ring = held(required(ring, "ring")?, Hold::Change)?;
        let kek = kek_of(&ring, kek)?;
        let (version, _) = users::rekey(&mut ring, &kek)?;
        audit::note(format!("data key version {version}"));
        Ok::<_, SqlError>(version as i32)
    })
    .or_raise()
}

/// The ring, held against every other change, if the current user has the rights of its owner.
pub fn hold_for_change(name: Option<&str>) -> Result<RingInfo, SqlError> {
    Ok(held(required(name, "ring")?, Hold::Change)?.info)
}

/// Says early that a KEK does not open a ring, or that its key service is away.
pub fn check_kek(name: &str, kek: Option<&[u8]>) -> Result<(), SqlError> {
    let ring = owned(name)?;
    let kek = kek_of(&ring, kek)?;
    ring.record.check_kek(&kek).map_err(|error| session::naming(&ring, error))
}

/// Takes a version of its DEK away from a ring that the caller holds for change, for good.
pub fn remove_dek(name: &str, version: u32, kek: Option<&[u8]>) -> Result<(), SqlError> {
    let mut ring = owned(name)?;
    let kek = kek_of(&ring, kek)?;
    ring.record.remove_dek(&kek, version).map_err(|error| session::naming(&ring, error))?;
    catalog::replace(&ring.record, ring.kms.as_deref())?;
    users::wrap_anew(&ring, &kek, ring.record.current_version())?; // or their copies of it would stay
    catalog::set_retiring(ring.info.number, None)
}

/// Takes a ring away that the caller holds for change, whoever needs it.
pub fn shred(number: u32) -> Result<(), SqlError> {
    catalog::delete(number)
}

/// `export_ring(ring) → bytea`
#[pg_extern(sql = false)]
fn sealvec_export_ring(ring: Option<&str>) -> Vec<u8> {
    let exported = audit::call(Operation::ExportRing, ring, || {
        required(ring, "ring").and_then(owned).map(|ring| export::encode(&ring.info.name, &ring.record))
    });
    exported.or_raise()
}

/// `import_ring(export, name, kms) → uuid`: the ring's UUID and keys under its own or another name; it belongs to
/// whoever imports it. Its KEK is reached by the slot given, or by the only one of its provider.
#[pg_extern(sql = false)]
fn sealvec_import_ring(exported: Option<&[u8]>, name: Option<&str>, kms: Option<&str>) -> pgrx::Uuid {
    audit::call(Operation::ImportRing, None, || {
        let (own_name, record) = export::decode(required(exported, "export")?)?;
        if !record.is_client_held() {
            // Such a record stands in every dump, and its provider opens it for whoever owns the row.
            require_superuser("import a key ring that the server can open")?;
        }
        let name = name.unwrap_or(own_name);
        check_name(name)?;
        audit::about(name);
        let kms = slot_for(&record, kms)?;
        catalog::insert(name, &current_role()?, &record, kms.as_deref())?;
        Ok::<_, SqlError>(pgrx::Uuid::from_bytes(*record.uuid().as_bytes()))
    })
    .or_raise()
}

/// `ring_is_open(number) → boolean`, for the view.
#[pg_extern(sql = false)]
fn sealvec_ring_is_open(number: i32) -> bool {
    u32::try_from(number).is_ok_and(session::is_open)
}

/// `hold_ring(number) → boolean`, for the event trigger: keeps the ring from being dropped before the transaction ends;
/// false if there is none.
#[pg_extern(sql = false)]
fn sealvec_hold_ring(number: i32) -> bool {
    let Ok(number) = u32::try_from(number) else { return false };
    hold(number, Hold::Use).and_then(|()| catalog::number_is_taken(number)).or_raise()
}

/// Trigger on the two catalogs: only a superuser writes to them by hand, restore included, and is heard everywhere.
/// sealvec's own functions write below the level of triggers.
#[pg_extern(sql = false)]
fn sealvec_key_ring_changed() {
    // pg_write_all_data may write any table, and a row in either of these two is the right to open.
    require_superuser("write to the key-ring catalogs").and_then(|()| catalog::close_cached()).or_raise()
}

// ---- arguments --------------------------------------------------------------------------

pub(super) fn required<T>(value: Option<T>, argument: &str) -> Result<T, SqlError> {
    value.ok_or_else(|| {
        SqlError::new(ERRCODE_NULL_VALUE_NOT_ALLOWED, format!("argument \"{argument}\" must not be null"))
    })
}

/// A name that a column's type modifier can carry, and that its output, the ring's number, is never taken for.
fn check_name(name: &str) -> Result<(), SqlError> {
    let fits = (1..=63).contains(&name.len())
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.contains(char::is_control);
    if fits {
        return Ok(());
    }
    Err(SqlError::new(ERRCODE_INVALID_NAME, "invalid name for a key ring")
        .hint("A name has 1 to 63 bytes, no control characters, and does not start with a digit."))
}

/// The ring, if the current user has the rights of its owner.
fn owned(name: &str) -> Result<Ring, SqlError> {
    let ring = catalog::ring_named(name)?;
    // SAFETY: only reads a variable of the backend.
    if catalog::owns(&ring, unsafe { pg_sys::GetUserId() }) {
        return Ok(ring);
    }
    Err(SqlError::new(ERRCODE_INSUFFICIENT_PRIVILEGE, format!("must be owner of key ring \"{name}\""))
        .detail("What is asked changes the ring for everybody, or hands out its wrapped keys.")
        .hint("The view sealvec.key_rings names its owner; a superuser can do the same."))
}

/// The ring, if the current user has the rights of its owner, held for `how` and read since.
pub(super) fn held(name: &str, how: Hold) -> Result<Ring, SqlError> {
    let mut number = owned(name)?.info.number; // nobody else may make others wait
    loop {
        hold(number, how)?;
        let ring = owned(name)?;
        if ring.info.number == number {
            return Ok(ring);
        }
        number = ring.info.number;
    }
}

pub(super) fn existing_role(role: Option<&str>) -> Result<Role, SqlError> {
    let role = required(role, "role")?;
    Role::named(role).ok_or_else(|| SqlError::new(ERRCODE_UNDEFINED_OBJECT, format!("role \"{role}\" does not exist")))
}

fn current_role() -> Result<Role, SqlError> {
    Role::current().ok_or_else(|| SqlError::new(ERRCODE_UNDEFINED_OBJECT, "the current role was dropped"))
}

/// What ALTER … OWNER TO asks of the current user.
fn can_become(role: pg_sys::Oid) -> bool {
    // SAFETY: two OIDs of roles.
    unsafe {
        #[cfg(feature = "pg15")]
        let can = pg_sys::is_member_of_role(pg_sys::GetUserId(), role);
        #[cfg(not(feature = "pg15"))]
        let can = pg_sys::member_can_set_role(pg_sys::GetUserId(), role);
        can
    }
}

fn require_superuser(what: &str) -> Result<(), SqlError> {
    // SAFETY: a catalog look-up.
    if unsafe { pg_sys::superuser() } {
        return Ok(());
    }
    Err(SqlError::new(ERRCODE_INSUFFICIENT_PRIVILEGE, format!("must be superuser to {what}")))
}

/// The KEK that the caller shows for a client-held ring; `None` for a KMS-backed one, for which none may be shown.
fn old_kek(ring: &Ring, kek: Option<&[u8]>) -> Result<Option<Kek>, SqlError> {
    let name = &ring.info.name;
    match (ring.record.is_client_held(), kek) {
        (true, Some(kek)) => Ok(Some(shown(kek, Argument::Kek, name)?)),
        (true, None) => {
            Err(SqlError::new(ERRCODE_NULL_VALUE_NOT_ALLOWED, format!("key ring \"{name}\" needs its key"))
                .detail("Its key is held by the client.")
                .hint("Bind the 32 bytes as sealvec.kek."))
        }
        (false, None) => Ok(None),
        (false, Some(_)) => Err(SqlError::new(
            ERRCODE_INVALID_PARAMETER_VALUE,
            format!("key ring \"{name}\" takes no key from the client"),
        )
        .detail(format!("Its key is kept by provider \"{}\".", ring.record.provider()))),
    }
}

/// The ring's KEK: shown by the caller, or from its provider.
pub(super) fn kek_of(ring: &Ring, kek: Option<&[u8]>) -> Result<Kek, SqlError> {
    match old_kek(ring, kek)? {
        Some(kek) => Ok(kek),
        None => session::unwrap_kek(ring),
    }
}

/// The slot of a record that was made with `kms`, which may be no slot but the client.
fn slot_of<'a>(record: &RingRecord, kms: &'a str) -> Option<&'a str> {
    (!record.is_client_held()).then_some(kms)
}

/// The slot of a record that comes from elsewhere, held.
fn slot_for(record: &RingRecord, kms: Option<&str>) -> Result<Option<String>, SqlError> {
    let provider = record.provider();
    let invalid = |message: String| SqlError::new(ERRCODE_INVALID_PARAMETER_VALUE, message);
    if record.is_client_held() {
        return match kms {
            None => Ok(None),
            Some(_) => {
                Err(invalid("a key ring whose key the client holds has no key service".into()).hint("Leave kms out."))
            }
        };
    }
    let kms = kms.map_or_else(|| kms_slot::only_one_of(provider), |kms| Ok(kms.to_owned()))?;
    let slot = kms_slot::hold(&kms)?;
    match slot.provider == provider {
        true => Ok(Some(kms)),
        false => Err(invalid(format!("key service \"{kms}\" is of provider \"{}\"", slot.provider))
            .detail(format!("The key ring's key is kept by provider \"{provider}\"."))
            .hint("Import it with a key service of its own provider, then move it with sealvec.rotate_kek().")),
    }
}

/// Lends the source of a new KEK to `make`: the client's key, or the provider of the slot of that name.
fn with_source<R>(kek: Option<&Kek>, kms: &str, make: impl FnOnce(KekSource<'_>) -> R) -> Result<R, SqlError> {
    match (kms, kek) {
        ("client", Some(kek)) => Ok(make(KekSource::Client(kek))),
        ("client", None) => Err(SqlError::new(ERRCODE_NULL_VALUE_NOT_ALLOWED, "a client-held key ring needs its key")
            .hint("Bind the 32 bytes that only the client keeps as sealvec.kek.")),
        (_, None) => provider::with(&kms_slot::hold(kms)?, |provider| make(KekSource::Provider(provider))),
        (_, Some(_)) => Err(SqlError::new(
            ERRCODE_INVALID_PARAMETER_VALUE,
            format!("key service \"{kms}\" takes no key from the client"),
        )
        .hint("Leave the provider out for a key ring whose key only the client holds.")),
    }
}

/// How many columns a message names.
const COLUMNS_NAMED: usize = 3;

/// Columns, domains and composite attributes sealed under the ring in this database; at most one more than are named. As they are now:
/// the transaction's own snapshot may be older than the lock on the ring, and than a table made meanwhile.
fn columns_of(number: u32) -> Result<Vec<String>, SqlError> {
    const QUERY: &CStr = c"SELECT pg_catalog.concat_ws('.', pg_catalog.quote_ident(c.schema), pg_catalog.quote_ident(c.\"table\"), pg_catalog.quote_ident(c.\"column\"))
        FROM sealvec.columns c WHERE c.ring_number OPERATOR(pg_catalog.=) $1 ORDER BY 1 LIMIT 4";
    Spi::connect(|_| {
        // SAFETY: inside an SPI connection; one parameter, not null, of the type named; the table of results lives
        // until the connection ends, and so do the strings made of it.
        unsafe {
            let plan = pg_sys::SPI_prepare(QUERY.as_ptr(), 1, [pg_sys::INT4OID].as_mut_ptr());
            let status = match plan.is_null() {
                true => pg_sys::SPI_result,
                false => pg_sys::SPI_execute_snapshot(
                    plan,
                    [pg_sys::Datum::from(number as i32)].as_mut_ptr(),
                    ptr::null(),
                    pg_sys::GetLatestSnapshot(),
                    ptr::null_mut(),
                    true,
                    false,
                    0,
                ),
            };
            if status != pg_sys::SPI_OK_SELECT as i32 {
                return Err(SqlError::new(ERRCODE_INTERNAL_ERROR, format!("could not read sealvec.columns: {status}")));
            }
            let found = &*pg_sys::SPI_tuptable;
            let name = |row| CStr::from_ptr(pg_sys::SPI_getvalue(row, found.tupdesc, 1)).to_string_lossy().into_owned();
            Ok((0..found.numvals as usize).map(|i| name(*found.vals.add(i))).collect())
        }
    })
}
