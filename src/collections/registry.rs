//! The catalogs of collections: what is known of one without a key, and its users.

use std::ffi::CStr;

use pgrx::PgSqlErrorCode::*;
use pgrx::pg_sys;
use sealvec_core::keys::{UserId, UserRecord, Uuid};

use crate::audit;
use crate::error::SqlError;
use crate::keys;
use crate::keys::table::{self, Key, Row, Table, value};

const COLLECTIONS: &CStr = c"collection";
const COLLECTION_BY_NAME: &CStr = c"collection_pkey";
const USERS: &CStr = c"collection_user";
const USER_BY_ID: &CStr = c"collection_user_pkey";

/// Writers of users wait for each other, readers for nobody: what a writer finds, nobody else removes.
const WRITERS: u32 = pg_sys::ShareUpdateExclusiveLock;

/// Columns of sealvec.collection, as sql/70_collections.sql numbers them.
mod column {
    pub const NAME: usize = 1;
    pub const UUID: usize = 2;
    pub const RING: usize = 3;
    pub const DIMENSION: usize = 4;
    pub const METRIC: usize = 5;
    pub const STORAGE_PRECISION: usize = 6;
    pub const EMBEDDING_MODEL: usize = 7;
    pub const KMS_NAME: usize = 8;
    pub const METADATA_SCHEMA: usize = 9;
    pub const BM25_K1: usize = 10;
    pub const BM25_B: usize = 11;
}

/// Columns of sealvec.collection_user.
mod user_column {
    pub const RING: usize = 1;
    pub const USER_ID: usize = 2;
    pub const RECORD: usize = 3;
}

/// How distances are measured and told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Metric {
    /// The root of the sum of squares.
    Euclidean,
    /// The sum of squares.
    SquaredEuclidean,
    /// 1 minus the cosine, 0 to 2; 1 where a vector is zero.
    Cosine,
}

impl Metric {
    /// By its name, as in the catalog and in requests.
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::Euclidean, Self::SquaredEuclidean, Self::Cosine].into_iter().find(|metric| metric.name() == name)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Euclidean => "euclidean",
            Self::SquaredEuclidean => "squared_euclidean",
            Self::Cosine => "cosine",
        }
    }

    /// What users are told, given what the operator says.
    pub fn told(self, distance: f64) -> f64 {
        match self {
            Self::Euclidean => distance,
            Self::SquaredEuclidean => distance * distance,
            Self::Cosine if distance.is_nan() => 1.0,
            Self::Cosine => distance,
        }
    }
}

/// A collection.
#[derive(Clone, Debug)]
pub struct Collection {
    /// What users call it; any text.
    pub name: String,
    /// What its table is called.
    pub uuid: Uuid,
    /// Number of its key ring.
    pub ring: u32,
    /// Elements of a vector; `None` until the first upsert.
    pub dimension: Option<usize>,
    /// How distances are measured.
    pub metric: Metric,
    /// `float32` or `float16`, for the index.
    pub storage_precision: String,
    /// The model that makes vectors of contents, outside of the database.
    pub embedding_model: Option<String>,
    /// The key service that keeps the KEK; `None` if the client does.
    pub kms_name: Option<String>,
    /// Policies of metadata fields, JSON as it came.
    pub metadata_schema: Option<String>,
    /// Parameters of BM25, where they were given.
    pub bm25: (Option<f64>, Option<f64>),
}

impl Collection {
    /// Whether the client holds its KEK.
    pub fn is_client_held(&self) -> bool {
        self.kms_name.is_none()
    }

    /// Names itself to the audited call under way.
    pub fn audit(&self) {
        audit::about(&format!("index {}", self.uuid)); // as its ring is called
        audit::note(format!("index {}", self.name));
    }

    fn read(row: &Row) -> Result<Self, SqlError> {
        let metric: String = row.get(column::METRIC).unwrap_or_default();
        let uuid: pgrx::Uuid = row.get(column::UUID).expect("a NOT NULL column");
        Ok(Self {
            name: row.get(column::NAME).unwrap_or_default(),
            uuid: Uuid::from_bytes(*uuid.as_bytes()),
            ring: row.get::<i32>(column::RING).unwrap_or_default() as u32,
            dimension: row.get::<i32>(column::DIMENSION).map(|dimension| dimension as usize),
            metric: Metric::of_name(&metric)
                .ok_or_else(|| SqlError::new(ERRCODE_DATA_CORRUPTED, "the row of an index names no metric"))?,
            storage_precision: row.get(column::STORAGE_PRECISION).unwrap_or_default(),
            embedding_model: row.get(column::EMBEDDING_MODEL),
            kms_name: row.get(column::KMS_NAME),
            metadata_schema: row.get(column::METADATA_SCHEMA),
            bm25: (row.get(column::BM25_K1), row.get(column::BM25_B)),
        })
    }
}

/// The collection called `name`.
///
/// # Errors
/// 42704 if there is none.
pub fn find(name: &str) -> Result<Collection, SqlError> {
    try_find(name)?.ok_or_else(|| unknown(name))
}

/// As [`find`], if there is one.
pub fn try_find(name: &str) -> Result<Option<Collection>, SqlError> {
    let mut found = None;
    Table::open(COLLECTIONS, pg_sys::AccessShareLock)?.scan(
        Some(COLLECTION_BY_NAME),
        &[Key::text(column::NAME, name)],
        |row| {
            found = Some(Collection::read(row));
            false
        },
    )?;
    found.transpose()
}

/// Every collection, in no order.
pub fn all() -> Result<Vec<Collection>, SqlError> {
    let mut found = Vec::new();
    Table::open(COLLECTIONS, pg_sys::AccessShareLock)?.scan(None, &[], |row| {
        found.push(Collection::read(row));
        true
    })?;
    found.into_iter().collect()
}

/// Adds a collection.
pub fn insert(collection: &Collection) -> Result<(), SqlError> {
    Table::open(COLLECTIONS, pg_sys::RowExclusiveLock)?.insert(&[
        value(collection.name.as_str()),
        value(pgrx::Uuid::from_bytes(*collection.uuid.as_bytes())),
        value(collection.ring as i32),
        collection.dimension.and_then(|dimension| value(dimension as i32)),
        value(collection.metric.name()),
        value(collection.storage_precision.as_str()),
        collection.embedding_model.as_deref().and_then(value),
        collection.kms_name.as_deref().and_then(value),
        collection.metadata_schema.as_deref().and_then(value),
        collection.bm25.0.and_then(value),
        collection.bm25.1.and_then(value),
    ]);
    Ok(())
}

/// Writes down what the first upsert told.
pub fn set_dimension(name: &str, dimension: usize) -> Result<(), SqlError> {
    let table = Table::open(COLLECTIONS, pg_sys::RowExclusiveLock)?;
    table.scan(Some(COLLECTION_BY_NAME), &[Key::text(column::NAME, name)], |row| {
        table.update(row, &[(column::DIMENSION, value(dimension as i32))]);
        false
    })
}

/// Removes every user of a ring.
pub fn delete_users(ring: u32) -> Result<(), SqlError> {
    let users = Table::open(USERS, WRITERS)?;
    users.scan(None, &[Key::int4(user_column::RING, ring)], |row| {
        users.delete(row);
        true
    })
}

/// Removes a collection's row, and its users.
pub fn delete(collection: &Collection) -> Result<(), SqlError> {
    delete_users(collection.ring)?;
    let collections = Table::open(COLLECTIONS, pg_sys::RowExclusiveLock)?;
    collections.scan(Some(COLLECTION_BY_NAME), &[Key::text(column::NAME, &collection.name)], |row| {
        collections.delete(row);
        false
    })
}

/// Makes others who make, change or train a collection of this name wait for the end of this transaction. `part` tells
/// these from each other.
pub fn lock(name: &str, part: Part) -> Result<(), SqlError> {
    table::prevent_read_only();
    let (class, address) = (lock_class()?, lock_address(name));
    let mode = pg_sys::ShareUpdateExclusiveLock as pg_sys::LOCKMODE;
    // SAFETY: takes any object's address; waits or reports an error.
    unsafe { pg_sys::LockDatabaseObject(class, address, part as u16, mode) };
    Ok(())
}

/// What [`lock`] locks, as `pg_locks` shows it in classid.
pub fn lock_class() -> Result<pg_sys::Oid, SqlError> {
    table::oid_of(COLLECTIONS)
}

/// Where [`lock`] puts a name, as `pg_locks` shows it in objid. Two names may share a place, and then wait for each other.
pub fn lock_address(name: &str) -> pg_sys::Oid {
    let digest = sealvec_core::crypto::digest::sha256(&[name.as_bytes()]);
    let (front, _) = digest.split_first_chunk().expect("32 bytes");
    u32::from_le_bytes(*front).into()
}

/// What is done to a collection under a lock on its name.
#[derive(Clone, Copy)]
#[repr(u16)]
pub enum Part {
    /// It is made, changed or removed.
    Shape = 1,
    /// Its lists are made anew.
    Training = 2,
}

// ---- users -----------------------------------------------------------------------------

/// The record of a user; `None` for one that there is not, or no more.
pub fn user(ring: u32, user: UserId) -> Result<Option<UserRecord>, SqlError> {
    let mut found = None;
    let keys = [Key::int4(user_column::RING, ring), Key::bytes(user_column::USER_ID, user.as_bytes())];
    Table::open(USERS, pg_sys::AccessShareLock)?.scan(Some(USER_BY_ID), &keys, |row| {
        found = Some(read_user(row));
        false
    })?;
    found.transpose()
}

/// Every user of a ring, by id.
pub fn users(ring: u32) -> Result<Vec<UserRecord>, SqlError> {
    let mut found = Vec::new();
    Table::open(USERS, pg_sys::AccessShareLock)?.scan(None, &[Key::int4(user_column::RING, ring)], |row| {
        found.push(read_user(row));
        true
    })?;
    let mut found = found.into_iter().collect::<Result<Vec<_>, _>>()?;
    found.sort_by_key(UserRecord::user);
    Ok(found)
}

/// Adds a user.
pub fn insert_user(ring: u32, record: &UserRecord) -> Result<(), SqlError> {
    Table::open(USERS, WRITERS)?.insert(&[
        value(ring as i32),
        value(record.user().as_bytes().as_slice()),
        value(record.encode()),
    ]);
    Ok(())
}

/// Removes a user; false if there was none.
pub fn delete_user(ring: u32, user: UserId) -> Result<bool, SqlError> {
    let users = Table::open(USERS, WRITERS)?;
    let keys = [Key::int4(user_column::RING, ring), Key::bytes(user_column::USER_ID, user.as_bytes())];
    let mut found = false;
    users.scan(Some(USER_BY_ID), &keys, |row| {
        users.delete(row);
        found = true;
        false
    })?;
    keys::close_cached()?; // his calls that are under way end, too
    Ok(found)
}

fn read_user(row: &Row) -> Result<UserRecord, SqlError> {
    let bytes: Vec<u8> = row.get(user_column::RECORD).unwrap_or_default();
    Ok(UserRecord::decode(&bytes)?)
}

/// There is no collection of that name.
pub fn unknown(name: &str) -> SqlError {
    SqlError::new(ERRCODE_UNDEFINED_OBJECT, format!("index \"{name}\" does not exist"))
        .hint("sealvec.list_indexes() names those that are there; sealvec.create_index() makes one.")
}
