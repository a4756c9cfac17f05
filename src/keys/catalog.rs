//! Key rings as the catalog has them: look-up by name and number, creation, change, grants.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CStr;
use std::rc::Rc;

use pgrx::PgSqlErrorCode::*;
use pgrx::pg_sys;
use sealvec_core::keys::ring::RingRecord;
use sealvec_core::keys::{Permissions, Uuid};
use sealvec_kms::local::LOCAL_PROVIDER;

use super::hold::{Hold, hold};
use super::table::{self, Key, Name, Role, Row, Table, value};
use super::{expiry, ring_user, watch};
use crate::error::SqlError;

const RING_TABLE: &CStr = c"key_ring";
const RING_BY_NUMBER: &CStr = c"key_ring_pkey";
const RING_BY_NAME: &CStr = c"key_ring_name_key";
const GRANT_TABLE: &CStr = c"ring_grant";
const GRANT_BY_RING: &CStr = c"ring_grant_pkey";

/// Columns of sealvec.key_ring, as sql/10_key_ring.sql numbers them.
mod ring_column {
    pub const NUMBER: usize = 1;
    pub const UUID: usize = 2;
    pub const NAME: usize = 3;
    pub const OWNER: usize = 4;
    pub const PROVIDER: usize = 5;
    pub const DEK_VERSION: usize = 6;
    pub const EPOCH: usize = 7;
    pub const RECORD: usize = 8;
    pub const OWNER_OID: usize = 9;
    pub const KMS: usize = 10;
    pub const RETIRING: usize = 11;
}

/// Columns of sealvec.ring_grant.
mod grant_column {
    pub const NUMBER: usize = 1;
    pub const ROLE: usize = 2;
    pub const ROLE_OID: usize = 3;
    pub const PERMISSIONS: usize = 4;
}

/// What anyone may know of a ring; no key is needed for it.
#[derive(Clone, Debug)]
pub struct RingInfo {
    /// Top 17 bits of the UUID: what values and typmods carry.
    pub number: u32,
    /// What sealed bytes are bound to.
    pub uuid: Uuid,
    /// What the user calls it.
    pub name: String,
    /// The DEK that seals new data.
    pub dek_version: u32,
    /// Every DEK version that it has, ascending.
    pub versions: Rc<[u32]>,
    /// The one that is about to be retired: no value of it may come from outside any more.
    pub retiring: Option<u32>,
}

impl RingInfo {
    /// Whether a value that says that it is of this version is told off at once: its DEK is gone, or about to go. One of
    /// a newer version than the ring has here may open once the ring is imported anew.
    pub fn has_retired(&self, version: u32) -> bool {
        version < self.dek_version && (self.retiring == Some(version) || self.versions.binary_search(&version).is_err())
    }
}

/// A ring with all that opening it takes.
pub struct Ring {
    /// The public part.
    pub info: RingInfo,
    /// The role that owns it.
    pub owner: Role,
    /// Raised to close the ring in every session.
    pub epoch: i64,
    /// The slot that reaches its KEK; `None` if the client holds it.
    pub kms: Option<String>,
    /// Envelopes and commitment.
    pub record: RingRecord,
}

/// What tells whether a ring that is open is still the one that was opened.
pub struct Standing {
    /// Of the ring.
    pub uuid: Uuid,
    /// It may have been renamed.
    pub name: String,
    /// Another one closes it.
    pub epoch: i64,
}

impl From<Ring> for Standing {
    fn from(ring: Ring) -> Self {
        Self { uuid: ring.info.uuid, name: ring.info.name, epoch: ring.epoch }
    }
}

thread_local! {
    /// Rings seen since the last invalidation. A ring that is missing is not remembered.
    static KNOWN: RefCell<HashMap<u32, Rc<RingInfo>>> = RefCell::default();
}

/// The ring called `name`.
///
/// # Errors
/// 42704 if there is none in this database.
pub fn ring_by_name(name: &str) -> Result<RingInfo, SqlError> {
    find_info(name).map(|info| (*info).clone())
}

/// The ring called `name`, which from now on is not dropped before this transaction ends: for a column.
///
/// # Errors
/// 42704 if there is none in this database.
pub fn hold_by_name(name: &str) -> Result<RingInfo, SqlError> {
    let mut held = None;
    loop {
        // While the lock was waited for, the name may have gone, or gone to another ring.
        let info = ring_by_name(name)?;
        if held == Some(info.number) {
            return Ok(info);
        }
        hold(info.number, Hold::Use)?;
        held = Some(info.number);
    }
}

/// Keeps the ring with this number, if there is one, from being dropped before this transaction ends: for a column.
pub fn hold_by_number(number: u32) -> Result<(), SqlError> {
    hold(number, Hold::Use)
}

/// The ring with this number.
///
/// # Errors
/// 42704 if there is none in this database.
pub fn ring_by_number(number: u32) -> Result<RingInfo, SqlError> {
    info(number).map(|info| (*info).clone())
}

/// As [`ring_by_number`], shared.
pub fn info(number: u32) -> Result<Rc<RingInfo>, SqlError> {
    forget_if_stale();
    if let Some(info) = KNOWN.with_borrow(|known| known.get(&number).cloned()) {
        return Ok(info);
    }
    let info = open_rings(pg_sys::AccessShareLock)?
        .find(RING_BY_NUMBER, Key::int4(ring_column::NUMBER, number), read_info)?
        .ok_or_else(|| unknown_number(number))??;
    Ok(remember(info))
}

/// 55000: sealed under a DEK that the ring `name` has no more, or is about to lose.
pub fn retired(name: &str, version: u32) -> SqlError {
    SqlError::new(
        ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("version {version} of the data key of key ring \"{name}\" is retired"),
    )
    .detail("What was sealed under it opens no more, or will not in a moment.")
    .hint("Send the vector itself, or a sealed value read since it was resealed. A dump from before restores into a database of its own.")
}

/// The version of the newest DEK that no rollback takes away: what outlives a transaction is not sealed under a DEK
/// that may not. The oldest that a ring has was there before any change that may be taken back.
pub fn lasting_dek_version(number: u32) -> Result<u32, SqlError> {
    open_rings(pg_sys::AccessShareLock)?
        .find(RING_BY_NUMBER, Key::int4(ring_column::NUMBER, number), |row| match row.is_ours() {
            true => read_info(row).map(|info| info.versions[0]),
            false => read_info(row).map(|info| info.dek_version),
        })?
        .ok_or_else(|| unknown_number(number))?
}

fn find_info(name: &str) -> Result<Rc<RingInfo>, SqlError> {
    forget_if_stale();
    if let Some(info) = KNOWN.with_borrow(|known| known.values().find(|info| info.name == name).cloned()) {
        return Ok(info);
    }
    let key = Name::new(name).ok_or_else(|| unknown_name(name))?;
    let info = open_rings(pg_sys::AccessShareLock)?
        .find(RING_BY_NAME, Key::name(ring_column::NAME, &key), read_info)?
        .ok_or_else(|| unknown_name(name))??;
    Ok(remember(info))
}

fn remember(info: RingInfo) -> Rc<RingInfo> {
    let info = Rc::new(info);
    KNOWN.with_borrow_mut(|known| known.insert(info.number, info.clone()));
    info
}

fn forget_if_stale() {
    if watch::take(watch::CATALOG_CACHE) {
        KNOWN.with_borrow_mut(HashMap::clear);
    }
}

/// Everything about the ring with this number, read now.
pub fn ring(number: u32) -> Result<Ring, SqlError> {
    open_rings(pg_sys::AccessShareLock)?
        .find(RING_BY_NUMBER, Key::int4(ring_column::NUMBER, number), read_ring)?
        .ok_or_else(|| unknown_number(number))?
}

/// Everything about the ring called `name`, read now.
pub fn ring_named(name: &str) -> Result<Ring, SqlError> {
    let key = Name::new(name).ok_or_else(|| unknown_name(name))?;
    open_rings(pg_sys::AccessShareLock)?
        .find(RING_BY_NAME, Key::name(ring_column::NAME, &key), read_ring)?
        .ok_or_else(|| unknown_name(name))?
}

/// A ring whose KEK the slot `kms` reaches, by its name; `None` if there is none.
pub fn ring_of_slot(kms: &str) -> Result<Option<String>, SqlError> {
    let mut found = None;
    open_rings(pg_sys::AccessShareLock)?.scan(None, &[], |row| {
        let slot: Option<String> = row.get(ring_column::KMS);
        if slot.as_deref() == Some(kms) {
            found = Some(row.name(ring_column::NAME));
        }
        found.is_none()
    })?;
    Ok(found)
}

/// Whether a ring has this number.
pub fn number_is_taken(number: u32) -> Result<bool, SqlError> {
    let table = open_rings(pg_sys::AccessShareLock)?;
    Ok(table.find(RING_BY_NUMBER, Key::int4(ring_column::NUMBER, number), |_| ())?.is_some())
}

/// Whether `role` may open the ring: its owner, a role it was granted to, a member of one of these, a superuser.
pub fn may_open(ring: &Ring, role: pg_sys::Oid) -> Result<bool, SqlError> {
    if owns(ring, role) {
        return Ok(true);
    }
    let mut granted = false;
    Table::open(GRANT_TABLE, pg_sys::AccessShareLock)?.scan(
        Some(GRANT_BY_RING),
        &[Key::int4(grant_column::NUMBER, ring.info.number)],
        |row| {
            // Who may open it with a key of his own only, may not without.
            granted =
                row.get::<i16>(grant_column::PERMISSIONS).is_none() && has_privileges_of(role, &granted_role(row));
            !granted
        },
    )?;
    Ok(granted)
}

/// What was granted to the role of this name on the ring: `None` if nothing was, or to another role of that name; `Some(None)`
/// for all that its key can do, else what it may do with a key of its own.
pub fn granted_to(number: u32, role: &Role) -> Result<Option<Option<Permissions>>, SqlError> {
    let mut found = None;
    find_grant(&Table::open(GRANT_TABLE, pg_sys::AccessShareLock)?, number, &role.name, |row| {
        found = (granted_role(row) == *role).then(|| granted_permissions(row));
    })?;
    Ok(found)
}

/// As [`granted_to`], for whoever may not wait, and knows the table by its OID.
pub fn granted_at_once(table: pg_sys::Oid, number: u32, role: &Role) -> Option<Permissions> {
    let mut found = None;
    let table = Table::open_at_once(table)?;
    let scanned = table.scan(None, &[Key::int4(grant_column::NUMBER, number)], |row| {
        if granted_role(row) == *role {
            found = granted_permissions(row);
        }
        found.is_none()
    });
    scanned.ok().and(found)
}

/// OID of sealvec.ring_grant.
pub fn grant_table() -> Result<pg_sys::Oid, SqlError> {
    table::oid_of(GRANT_TABLE)
}

fn granted_permissions(row: &Row) -> Option<Permissions> {
    row.get::<i16>(grant_column::PERMISSIONS).and_then(|bits| Permissions::from_bits(bits as u8))
}

/// Whether `role` has the rights of the ring's owner.
pub fn owns(ring: &Ring, role: pg_sys::Oid) -> bool {
    // SAFETY: a catalog look-up by OID.
    let is_superuser = unsafe { pg_sys::superuser_arg(role) };
    is_superuser || has_privileges_of(role, &ring.owner)
}

/// Membership counts as for any privilege. A role that was dropped or renamed gives nothing to anybody.
pub fn has_privileges_of(role: pg_sys::Oid, of: &Role) -> bool {
    // SAFETY: two OIDs of roles.
    of.valid().is_some_and(|of| unsafe { pg_sys::has_privs_of_role(role, of) })
}

fn granted_role(row: &Row) -> Role {
    Role { name: row.name(grant_column::ROLE), oid: row.get(grant_column::ROLE_OID) }
}

/// How the ring with this number stands, for whoever may not wait: nobody's lock on the catalog, on one of its indexes
/// or on what is stored out of line. `None` if it can't be seen at once, or is gone.
pub fn standing_at_once(number: u32) -> Option<Standing> {
    let table = Table::open_at_once(watch::relation_seen()?)?;
    let mut standing = None;
    let scanned = table.scan(None, &[Key::int4(ring_column::NUMBER, number)], |row| {
        standing = row.get::<pgrx::Uuid>(ring_column::UUID).map(|uuid| Standing {
            uuid: Uuid::from_bytes(*uuid.as_bytes()),
            name: row.name(ring_column::NAME),
            epoch: row.get(ring_column::EPOCH).unwrap_or(0),
        });
        false
    });
    scanned.ok().and(standing)
}

/// OID of sealvec.key_ring.
pub fn ring_table() -> Result<pg_sys::Oid, SqlError> {
    table::oid_of(RING_TABLE)
}

/// Adds a ring owned by the role `owner`, whose KEK is reached by the slot `kms`; the caller holds that.
///
/// # Errors
/// 42710 if the name or the UUID is already there.
pub fn insert(name: &str, owner: &Role, record: &RingRecord, kms: Option<&str>) -> Result<(), SqlError> {
    let (Some(key), Some(owner_name)) = (Name::new(name), Name::new(&owner.name)) else {
        return Err(SqlError::new(ERRCODE_INVALID_NAME, "a key ring's name has 1 to 63 bytes"));
    };
    hold(record.number(), Hold::Change)?;
    let table = open_rings(pg_sys::RowExclusiveLock)?;
    if table.find(RING_BY_NAME, Key::name(ring_column::NAME, &key), |_| ())?.is_some() {
        return Err(SqlError::new(ERRCODE_DUPLICATE_OBJECT, format!("key ring \"{name}\" already exists"))
            .hint("Take another name; the view sealvec.key_rings lists those in use."));
    }
    if let Some(other) = table
        .find(RING_BY_NUMBER, Key::int4(ring_column::NUMBER, record.number()), |row| row.name(ring_column::NAME))?
    {
        return Err(SqlError::new(ERRCODE_DUPLICATE_OBJECT, "a key ring with this number already exists")
            .detail(format!("Key ring \"{other}\" has number {}.", record.number()))
            .hint("A database holds a ring once; columns find it by its number, whatever its name."));
    }
    // Nobody's grant on a ring of this number that is gone is one on this ring.
    delete_grants(record.number())?;
    ring_user::delete_all(record.number())?;
    table.insert(&[
        value(record.number() as i32),
        value(pgrx::Uuid::from_bytes(*record.uuid().as_bytes())),
        Some(key.datum()),
        Some(owner_name.datum()),
        value(record.provider()),
        value(record.current_version() as i32),
        value(0i64),
        value(record.encode()),
        value(owner.oid),
        kms.and_then(value),
        None,
    ]);
    Ok(())
}

// From here on, the caller holds the ring for change, and has read it since.

/// Stores another record for the ring of the same number: a new KEK, or one more DEK. Every session drops the ring.
pub fn replace(record: &RingRecord, kms: Option<&str>) -> Result<(), SqlError> {
    change(record.number(), |epoch| {
        vec![
            (ring_column::PROVIDER, value(record.provider())),
            (ring_column::DEK_VERSION, value(record.current_version() as i32)),
            (ring_column::EPOCH, value(epoch + 1)),
            (ring_column::RECORD, value(record.encode())),
            (ring_column::KMS, kms.and_then(value)),
        ]
    })
}

/// Writes down which version is about to be retired. Open rings stay open.
pub fn set_retiring(number: u32, version: Option<u32>) -> Result<(), SqlError> {
    change(number, |_| vec![(ring_column::RETIRING, version.and_then(|version| value(version as i32)))])
}

/// Makes every session drop the ring when this transaction commits.
pub fn close_everywhere(number: u32) -> Result<(), SqlError> {
    change(number, |epoch| vec![(ring_column::EPOCH, value(epoch + 1))])
}

/// Gives the ring to the role `owner`.
pub fn set_owner(number: u32, owner: &Role) -> Result<(), SqlError> {
    let name = Name::new(&owner.name).expect("a role's name is a name");
    change(number, |epoch| {
        vec![
            (ring_column::OWNER, Some(name.datum())),
            (ring_column::OWNER_OID, value(owner.oid)),
            (ring_column::EPOCH, value(epoch + 1)),
        ]
    })
}

fn change(number: u32, changes: impl Fn(i64) -> Vec<(usize, table::Value)>) -> Result<(), SqlError> {
    let table = open_rings(pg_sys::RowExclusiveLock)?;
    expiry::wake_others_after_commit();
    table
        .find(RING_BY_NUMBER, Key::int4(ring_column::NUMBER, number), |row| {
            let epoch = row.get::<i64>(ring_column::EPOCH).unwrap_or(0);
            table.update(row, &changes(epoch));
        })?
        .ok_or_else(|| unknown_number(number))
}

/// Deletes the ring and its grants. Nothing can be opened under it again.
pub fn delete(number: u32) -> Result<(), SqlError> {
    delete_grants(number)?;
    ring_user::delete_all(number)?;
    let rings = open_rings(pg_sys::RowExclusiveLock)?;
    rings.find(RING_BY_NUMBER, Key::int4(ring_column::NUMBER, number), |row| rings.delete(row))?;
    expiry::wake_others_after_commit();
    Ok(())
}

fn delete_grants(number: u32) -> Result<(), SqlError> {
    let grants = Table::open(GRANT_TABLE, pg_sys::RowExclusiveLock)?;
    grants.scan(Some(GRANT_BY_RING), &[Key::int4(grant_column::NUMBER, number)], |row| {
        grants.delete(row);
        true
    })
}

/// Lets `role` open the ring, or use a key of its own for what `permissions` says; false if it could already by this very
/// grant.
pub fn grant(number: u32, role: &Role, permissions: Option<Permissions>) -> Result<bool, SqlError> {
    let table = Table::open(GRANT_TABLE, pg_sys::RowExclusiveLock)?;
    let mut stands = false;
    find_grant(&table, number, &role.name, |row| {
        stands = granted_role(row) == *role && granted_permissions(row) == permissions;
        if !stands {
            table.delete(row); // it is another, or was given to a role of this name that is gone
        }
    })?;
    if stands {
        return Ok(false);
    }
    let name = Name::new(&role.name).expect("a role's name is a name");
    let permissions = permissions.and_then(|permissions| value(i16::from(permissions.bits())));
    table.insert(&[value(number as i32), Some(name.datum()), value(role.oid), permissions]);
    close_cached()?;
    Ok(true)
}

/// Takes back what was granted under the name `role`; false if nothing was.
pub fn revoke(number: u32, role: &str) -> Result<bool, SqlError> {
    let table = Table::open(GRANT_TABLE, pg_sys::RowExclusiveLock)?;
    let mut found = false;
    find_grant(&table, number, role, |row| {
        table.delete(row);
        found = true;
    })?;
    close_cached()?;
    Ok(found)
}

/// Takes back the right of the role of this name to use a key of its own.
pub fn revoke_key(number: u32, role: &str) -> Result<(), SqlError> {
    let table = Table::open(GRANT_TABLE, pg_sys::RowExclusiveLock)?;
    find_grant(&table, number, role, |row| {
        if granted_permissions(row).is_some() {
            table.delete(row);
        }
    })?;
    close_cached()
}

/// Visits the grant under this name, if there is one.
fn find_grant(table: &Table, number: u32, role: &str, mut found: impl FnMut(&Row)) -> Result<(), SqlError> {
    table.scan(Some(GRANT_BY_RING), &[Key::int4(grant_column::NUMBER, number)], |row| {
        let this = row.name(grant_column::ROLE) == role;
        if this {
            found(row);
        }
        !this
    })
}

/// Tells every backend that something about rings changed: also this one, at its next command, and idle ones.
pub fn close_cached() -> Result<(), SqlError> {
    let table = open_rings(pg_sys::AccessShareLock)?;
    // SAFETY: the OID of an existing table.
    unsafe { pg_sys::CacheInvalidateRelcacheByRelid(table.oid()) };
    expiry::wake_others_after_commit();
    Ok(())
}

/// sealvec.key_ring, whose changes this backend hears of from now on.
fn open_rings(lock: u32) -> Result<Table, SqlError> {
    let table = Table::open(RING_TABLE, lock)?;
    watch::relation(table.oid());
    Ok(table)
}

fn read_info(row: &Row) -> Result<RingInfo, SqlError> {
    let record = read_record(row)?;
    Ok(info_of(row, &record))
}

fn read_ring(row: &Row) -> Result<Ring, SqlError> {
    let record = read_record(row)?;
    Ok(Ring {
        info: info_of(row, &record),
        owner: Role { name: row.name(ring_column::OWNER), oid: row.get(ring_column::OWNER_OID) },
        epoch: row.get(ring_column::EPOCH).unwrap_or(0),
        // A row that was restored or written by hand may have none.
        kms: row.get(ring_column::KMS).or_else(|| (record.provider() == LOCAL_PROVIDER).then(|| LOCAL_PROVIDER.into())),
        record,
    })
}

fn read_record(row: &Row) -> Result<RingRecord, SqlError> {
    let bytes: Vec<u8> = row.get(ring_column::RECORD).unwrap_or_default();
    let record = RingRecord::decode(&bytes)?;
    // The other columns repeat the record for views and indexes. The record decides; a row that disagrees was edited.
    if row.get::<i32>(ring_column::NUMBER) != Some(record.number() as i32) {
        return Err(SqlError::new(ERRCODE_DATA_CORRUPTED, "key ring record does not belong to its row")
            .detail(format!("Row of key ring \"{}\".", row.name(ring_column::NAME))));
    }
    Ok(record)
}

fn info_of(row: &Row, record: &RingRecord) -> RingInfo {
    RingInfo {
        number: record.number(),
        uuid: record.uuid(),
        name: row.name(ring_column::NAME),
        dek_version: record.current_version(),
        versions: record.versions().collect(),
        retiring: row.get::<i32>(ring_column::RETIRING).map(|version| version as u32),
    }
}

impl Table {
    /// What `read` makes of the one row with `key`, if there is one.
    pub(super) fn find<R>(
        &self,
        index: &CStr,
        key: Key,
        mut read: impl FnMut(&Row) -> R,
    ) -> Result<Option<R>, SqlError> {
        let mut found = None;
        self.scan(Some(index), &[key], |row| {
            found = Some(read(row));
            false
        })?;
        Ok(found)
    }
}

fn unknown_name(name: &str) -> SqlError {
    SqlError::new(ERRCODE_UNDEFINED_OBJECT, format!("key ring \"{name}\" does not exist"))
        .hint("The view sealvec.key_rings lists them; sealvec.create_key_ring() makes one.")
}

fn unknown_number(number: u32) -> SqlError {
    SqlError::new(ERRCODE_UNDEFINED_OBJECT, format!("key ring number {number} does not exist in this database"))
        .hint("Bring it over with sealvec.export_ring() there and sealvec.import_ring() here.")
}
