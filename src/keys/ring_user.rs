//! Users of key rings as the catalog has them: copies of a ring's keys under a key of the user's own, for a role.
//!
//! A row opens nothing for a role that has no grant beside it (`permissions` of sealvec.ring_grant): see
//! [`catalog`](super::catalog).

use std::ffi::CStr;
use std::rc::Rc;

use pgrx::pg_sys;
use sealvec_core::keys::{Kek, Permissions, UserId, UserPublicKey, UserRecord, UserWrap, Voucher};

use super::catalog;
use super::table::{self, Key, Name, Role, Row, Table, value};
use crate::error::SqlError;

const TABLE: &CStr = c"ring_user";
const BY_RING: &CStr = c"ring_user_pkey";
const COLLECTION_USERS: &CStr = c"collection_user";
const USER_OF_COLLECTION: &CStr = c"collection_user_pkey";

/// Columns of sealvec.ring_user, as sql/10_key_ring.sql numbers them.
mod column {
    pub const NUMBER: usize = 1;
    pub const ROLE: usize = 2;
    pub const ROLE_OID: usize = 3;
    pub const USER_ID: usize = 4;
    pub const RECORD: usize = 7;
    pub const WRAP: usize = 8;
    pub const VOUCHER: usize = 9;
}

/// A user of a ring.
pub struct RingUser {
    /// Whose sessions may use his key.
    pub role: Role,
    /// Copies of the ring's keys.
    pub record: UserRecord,
    /// His KEK, wrapped to his public key; `None` if he has a token.
    pub wrap: Option<Vouched>,
}

/// A wrap, and what the catalog has to show that it was made by who had the ring's KEK.
pub struct Vouched {
    wrap: UserWrap,
    voucher: Option<Voucher>,
}

impl Vouched {
    /// For a wrap that was just made, by whoever has the ring's KEK.
    pub fn new(wrap: UserWrap, kek: &Kek) -> Self {
        let voucher = Some(Voucher::of(&wrap, kek));
        Self { wrap, voucher }
    }

    /// As the catalog has it: true or not.
    pub fn wrap(&self) -> &UserWrap {
        &self.wrap
    }

    /// Whether the ring's KEK vouches for it.
    pub fn holds(&self, kek: &Kek) -> bool {
        self.voucher.is_some_and(|voucher| voucher.check(&self.wrap, kek).is_ok())
    }

    /// The public key that DEKs of after `dek_version` may be wrapped to; `None` if whoever has the ring's KEK did not
    /// make `record` a user by it while that was the ring's newest DEK.
    pub fn public_key(&self, kek: &Kek, record: &UserRecord, dek_version: u32) -> Option<UserPublicKey> {
        let of_record = (record.ring(), record.user(), record.permissions());
        let same = (self.wrap.ring(), self.wrap.user(), self.wrap.permissions()) == of_record;
        (same && self.wrap.dek_version() == dek_version && self.holds(kek)).then(|| self.wrap.public_key())
    }
}

/// What an open ring remembers of the user who opened it.
pub struct Opener {
    /// The role that the key is for.
    pub role: Role,
    /// What he may do.
    pub permissions: Permissions,
    /// Drawn each time that somebody is made a user.
    user: UserId,
    /// Where to look without waiting: OIDs of sealvec.ring_user and sealvec.ring_grant.
    tables: (pg_sys::Oid, pg_sys::Oid),
}

impl RingUser {
    /// Adds him.
    pub fn insert(&self, number: u32) -> Result<(), SqlError> {
        let name = Name::new(&self.role.name).expect("a role's name is a name");
        let versions: Vec<i32> = self.record.versions().iter().map(|version| *version as i32).collect();
        Table::open(TABLE, pg_sys::RowExclusiveLock)?.insert(&[
            value(number as i32),
            Some(name.datum()),
            value(self.role.oid),
            value(self.record.user().as_bytes().as_slice()),
            value(i16::from(self.record.permissions().bits())),
            value(versions),
            value(self.record.encode()),
            self.wrap.as_ref().and_then(|vouched| value(vouched.wrap.encode())),
            self.wrap.as_ref().and_then(|vouched| value(vouched.voucher?.as_bytes().as_slice())),
        ]);
        catalog::close_cached()
    }

    /// What to remember of him while a ring is open that he opened, to do what `permissions` says.
    pub fn opener(&self, permissions: Permissions) -> Result<Rc<Opener>, SqlError> {
        Ok(Rc::new(Opener {
            role: self.role.clone(),
            permissions,
            user: self.record.user(),
            tables: (table::oid_of(TABLE)?, catalog::grant_table()?),
        }))
    }
}

impl Opener {
    /// Whether `role` may use what he opened: as he may, a member of his role.
    pub fn serves(&self, role: pg_sys::Oid) -> bool {
        catalog::has_privileges_of(role, &self.role)
    }

    /// Whether he is still a user of the ring, by the same key, and may do what he might.
    pub fn stands(&self, number: u32) -> Result<bool, SqlError> {
        if self.role.valid().is_none() {
            return Ok(false);
        }
        let table = Table::open(TABLE, pg_sys::AccessShareLock)?;
        let stands = self.has_row(&table, Some(BY_RING), number)?;
        Ok(stands && catalog::granted_to(number, &self.role)? == Some(Some(self.permissions)))
    }

    /// As [`stands`](Self::stands), for whoever may not wait; false if it can't be seen at once. It asks nothing of roles:
    /// whoever uses a key does.
    pub fn stands_at_once(&self, number: u32) -> bool {
        Table::open_at_once(self.tables.0).is_some_and(|table| self.has_row(&table, None, number).unwrap_or(false))
            && catalog::granted_at_once(self.tables.1, number, &self.role) == Some(self.permissions)
    }

    fn has_row(&self, table: &Table, index: Option<&CStr>, number: u32) -> Result<bool, SqlError> {
        let mut found = false;
        table.scan(index, &[Key::int4(column::NUMBER, number)], |row| {
            // Not the record, which may be stored out of line: that can't be read at once.
            found = role_of(row) == self.role
                && row.get(column::USER_ID).is_some_and(|user: Vec<u8>| user == self.user.as_bytes());
            !found
        })?;
        Ok(found)
    }
}

/// Every user of a ring, by name of role; also those whose role is gone.
pub fn all(number: u32) -> Result<Vec<RingUser>, SqlError> {
    let mut found = Vec::new();
    Table::open(TABLE, pg_sys::AccessShareLock)?.scan(Some(BY_RING), &[Key::int4(column::NUMBER, number)], |row| {
        found.push(read(row));
        true
    })?;
    let mut found = found.into_iter().collect::<Result<Vec<_>, _>>()?;
    found.sort_by(|a, b| a.role.name.cmp(&b.role.name));
    Ok(found)
}

/// Whether `role` is a user of the ring, or a member of one's.
pub fn has_key(number: u32, role: pg_sys::Oid) -> Result<bool, SqlError> {
    let mut found = false;
    Table::open(TABLE, pg_sys::AccessShareLock)?.scan(Some(BY_RING), &[Key::int4(column::NUMBER, number)], |row| {
        found = catalog::has_privileges_of(role, &role_of(row));
        !found
    })?;
    Ok(found)
}

/// Removes the user with the role of this name; false if there was none.
pub fn delete(number: u32, role: &str) -> Result<bool, SqlError> {
    delete_where(number, |row| row.name(column::ROLE) == role)
}

/// Removes every user of a ring.
pub fn delete_all(number: u32) -> Result<(), SqlError> {
    delete_where(number, |_| true).map(drop)
}

fn delete_where(number: u32, goes: impl Fn(&Row) -> bool) -> Result<bool, SqlError> {
    let table = Table::open(TABLE, pg_sys::RowExclusiveLock)?;
    let mut found = false;
    table.scan(Some(BY_RING), &[Key::int4(column::NUMBER, number)], |row| {
        if goes(row) {
            table.delete(row);
            found = true;
        }
        true
    })?;
    catalog::close_cached()?;
    Ok(found)
}

/// Role and newest DEK version of each user of a ring.
pub fn newest_of_users(number: u32) -> Result<Vec<(String, u32)>, SqlError> {
    let newest = |record: &UserRecord| *record.versions().last().expect("a user has one at least");
    Ok(all(number)?.into_iter().map(|user| (user.role.name, newest(&user.record))).collect())
}

/// Whether a collection with this ring has that user.
pub fn is_of_collection(number: u32, user: UserId) -> Result<bool, SqlError> {
    let mut found = false;
    let keys = [Key::int4(1, number), Key::bytes(2, user.as_bytes())];
    Table::open(COLLECTION_USERS, pg_sys::AccessShareLock)?.scan(Some(USER_OF_COLLECTION), &keys, |_| {
        found = true;
        false
    })?;
    Ok(found)
}

/// How many users of collections have copies of the ring's keys.
pub fn count_of_collection(number: u32) -> Result<u32, SqlError> {
    let mut count = 0;
    Table::open(COLLECTION_USERS, pg_sys::AccessShareLock)?.scan(None, &[Key::int4(1, number)], |_| {
        count += 1;
        true
    })?;
    Ok(count)
}

fn read(row: &Row) -> Result<RingUser, SqlError> {
    let record: Vec<u8> = row.get(column::RECORD).unwrap_or_default();
    let wrap: Option<Vec<u8>> = row.get(column::WRAP);
    let voucher: Option<Vec<u8>> = row.get(column::VOUCHER);
    let vouched = |wrap: Vec<u8>| {
        let voucher = voucher.map(|bytes| Voucher::from_slice(&bytes)).transpose()?;
        Ok::<_, SqlError>(Vouched { wrap: UserWrap::decode(&wrap)?, voucher })
    };
    Ok(RingUser { role: role_of(row), record: UserRecord::decode(&record)?, wrap: wrap.map(vouched).transpose()? })
}

fn role_of(row: &Row) -> Role {
    Role { name: row.name(column::ROLE), oid: row.get(column::ROLE_OID) }
}
