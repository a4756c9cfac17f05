//! Slots: key services by the names that `create_key_ring(provider => …)` and `create_index(kms_name => …)` know.
//!
//! A slot says who wraps KEKs and where, and holds no secret: those stand in the key agent's own file. `local` is
//! always there.

use std::ffi::CStr;

use pgrx::PgSqlErrorCode::*;
use pgrx::{JsonB, pg_sys};
use sealvec_kms::local::LOCAL_PROVIDER;
use serde_json::{Map, Value};

use super::table::{self, Key, Row, Table, prevent_read_only, value};
use crate::error::SqlError;

const SLOTS: &CStr = c"kms_slot";
const SLOT_BY_NAME: &CStr = c"kms_slot_pkey";
/// Most characters of a name.
const NAME_MAX: usize = 255;
/// Most bytes of the options' text: what the key agent takes in one request, less its other parts.
const OPTIONS_LEN_MAX: usize = 32 * 1024;

/// Columns of sealvec.kms_slot, as sql/70_collections.sql numbers them.
mod column {
    pub const NAME: usize = 1;
    pub const PROVIDER: usize = 2;
    pub const OPTIONS: usize = 3;
}

/// Each provider and the names of its options.
const PROVIDERS: [(&str, &[&str]); 5] = [
    (LOCAL_PROVIDER, &[]),
    ("aws-kms", AWS),
    ("aws", AWS),
    ("vault", &["key", "credentials", "mount", "address", "namespace"]),
    ("pkcs11", &["key", "credentials", "token"]),
];
const AWS: &[&str] =
    &["key_id", "region", "role_arn", "external_id", "role_session_name", "endpoint", "sts_endpoint", "credentials"];

/// A slot.
#[derive(Clone, Debug)]
pub struct KmsSlot {
    /// What rings and collections name.
    pub name: String,
    /// Who wraps.
    pub provider: String,
    /// Where, and under which key; a JSON object of texts.
    pub options: Map<String, Value>,
}

impl KmsSlot {
    /// Whether asking it never waits.
    pub fn is_local(&self) -> bool {
        self.provider == LOCAL_PROVIDER
    }

    fn read(row: &Row) -> Self {
        let options = match row.get(column::OPTIONS) {
            Some(JsonB(Value::Object(options))) => options,
            _ => Map::new(), // the agent says what is missing
        };
        Self {
            name: row.get(column::NAME).unwrap_or_default(),
            provider: row.get(column::PROVIDER).unwrap_or_default(),
            options,
        }
    }
}

/// The slot called `name`, as it stands now.
///
/// # Errors
/// 42704 if there is none.
pub fn find(name: &str) -> Result<KmsSlot, SqlError> {
    try_find(name)?.ok_or_else(|| unknown(name))
}

fn try_find(name: &str) -> Result<Option<KmsSlot>, SqlError> {
    let mut found = None;
    let keys = [Key::text(column::NAME, name)];
    Table::open(SLOTS, pg_sys::AccessShareLock)?.scan(Some(SLOT_BY_NAME), &keys, |row| {
        found = Some(KmsSlot::read(row));
        false
    })?;
    let local = || KmsSlot { name: name.to_owned(), provider: LOCAL_PROVIDER.to_owned(), options: Map::new() };
    Ok(found.or_else(|| (name == LOCAL_PROVIDER).then(local)))
}

/// As [`find`], and nobody drops it before this transaction ends: for a ring.
pub fn hold(name: &str) -> Result<KmsSlot, SqlError> {
    lock(name, pg_sys::AccessShareLock)?;
    find(name)
}

/// The one slot of `provider`, for a ring that comes without one.
///
/// # Errors
/// 22023 if there is none, or more than one.
pub fn only_one_of(provider: &str) -> Result<String, SqlError> {
    if provider == LOCAL_PROVIDER {
        return Ok(LOCAL_PROVIDER.to_owned());
    }
    let mut found = Vec::new();
    Table::open(SLOTS, pg_sys::AccessShareLock)?.scan(None, &[], |row| {
        let slot = KmsSlot::read(row);
        if slot.provider == provider {
            found.push(slot.name);
        }
        true
    })?;
    let [_] = found[..] else {
        return Err(SqlError::new(
            ERRCODE_INVALID_PARAMETER_VALUE,
            format!("which key service reaches the key of provider \"{provider}\" is not clear"),
        )
        .detail(format!("{} key services are of that provider.", found.len()))
        .hint("Name one: kms => 'name'. sealvec.create_kms() makes one, sealvec.kms_slots lists them."));
    };
    Ok(found.remove(0))
}

/// Adds a slot.
///
/// # Errors
/// 42710 if the name is taken, 42602 if it is none, 42704 for an unknown provider, 22023 for its options.
pub fn create(name: &str, provider: &str, options: Value) -> Result<(), SqlError> {
    if name.is_empty() || name.chars().count() > NAME_MAX || name.contains(char::is_control) {
        return Err(SqlError::new(
            ERRCODE_INVALID_NAME,
            "the name of a key service has 1 to 255 characters, and no control characters",
        ));
    }
    if name == "client" {
        return Err(SqlError::new(ERRCODE_RESERVED_NAME, "no key service can be called \"client\"")
            .detail("That is what a key ring has instead of one if the client holds its key."));
    }
    let options = checked(provider, options)?;
    lock(name, pg_sys::ShareUpdateExclusiveLock)?;
    if try_find(name)?.is_some() {
        return Err(SqlError::new(ERRCODE_DUPLICATE_OBJECT, format!("key service \"{name}\" already exists")));
    }
    Table::open(SLOTS, pg_sys::RowExclusiveLock)?.insert(&[
        value(name),
        value(provider),
        value(JsonB(Value::Object(options))),
    ]);
    Ok(())
}

/// Gives a slot other options, from its next request on. Rings that are open stay open.
///
/// # Errors
/// 42704 if there is none, 22023 for its options.
pub fn alter(name: &str, options: Value) -> Result<(), SqlError> {
    lock(name, pg_sys::ShareUpdateExclusiveLock)?;
    let slots = Table::open(SLOTS, pg_sys::RowExclusiveLock)?;
    let mut altered = None;
    slots.scan(Some(SLOT_BY_NAME), &[Key::text(column::NAME, name)], |row| {
        let options = checked(&KmsSlot::read(row).provider, options.clone());
        altered = Some(options.map(|options| {
            slots.update(row, &[(column::OPTIONS, value(JsonB(Value::Object(options))))]);
        }));
        false
    })?;
    altered.unwrap_or_else(|| match name {
        LOCAL_PROVIDER => checked(name, options).map(drop), // there without a row, and it has no options
        _ => Err(unknown(name)),
    })
}

/// Makes sure that nobody begins to use a slot, so that the caller can look who does.
pub fn lock_for_drop(name: &str) -> Result<(), SqlError> {
    lock(name, pg_sys::AccessExclusiveLock)
}

/// Removes a slot that the caller has locked.
///
/// # Errors
/// 42704 if there is none.
pub fn delete(name: &str) -> Result<(), SqlError> {
    let slots = Table::open(SLOTS, pg_sys::RowExclusiveLock)?;
    let mut found = false;
    slots.scan(Some(SLOT_BY_NAME), &[Key::text(column::NAME, name)], |row| {
        slots.delete(row);
        found = true;
        false
    })?;
    match (found, name) {
        (true, _) => Ok(()),
        (false, LOCAL_PROVIDER) => Err(SqlError::new(
            ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
            "cannot drop key service \"local\" because the server itself is that",
        )),
        (false, _) => Err(unknown(name)),
    }
}

/// A lock on the name, to the end of the transaction. Two names may share a place, and then wait for each other.
fn lock(name: &str, mode: u32) -> Result<(), SqlError> {
    if mode != pg_sys::AccessShareLock {
        prevent_read_only();
    }
    let class = table::oid_of(SLOTS)?;
    let digest = sealvec_core::crypto::digest::sha256(&[name.as_bytes()]);
    let (front, _) = digest.split_first_chunk().expect("32 bytes");
    let address = u32::from_le_bytes(*front).into();
    // SAFETY: takes any object's address; waits or reports an error.
    unsafe { pg_sys::LockDatabaseObject(class, address, 0, mode as pg_sys::LOCKMODE) };
    Ok(())
}

/// The options, if the provider has such. A value is never repeated: it may be a secret at the wrong place.
fn checked(provider: &str, options: Value) -> Result<Map<String, Value>, SqlError> {
    let invalid = |message: String| Err(SqlError::new(ERRCODE_INVALID_PARAMETER_VALUE, message));
    let Some((_, known)) = PROVIDERS.iter().find(|(name, _)| *name == provider) else {
        return Err(SqlError::new(ERRCODE_UNDEFINED_OBJECT, format!("there is no key provider \"{provider}\""))
            .hint("Key providers are local, aws-kms, aws, vault and pkcs11."));
    };
    let Value::Object(options) = options else {
        return invalid("the options of a key service are a JSON object".to_owned());
    };
    for (name, option) in &options {
        if !known.contains(&name.as_str()) {
            let has = match known.is_empty() {
                true => "It has none.".to_owned(),
                false => format!("It has {}.", known.join(", ")),
            };
            return Err(SqlError::new(
                ERRCODE_INVALID_PARAMETER_VALUE,
                format!("key provider \"{provider}\" has no option \"{}\"", name.escape_debug()),
            )
            .detail(has)
            .hint(
                "Secrets, files and modules stand in the key agent's own configuration, and credentials name them.",
            ));
        }
        match option {
            Value::String(text) if !text.is_empty() && !text.contains(char::is_control) => {}
            _ => return invalid(format!("option \"{name}\" of a key service is a text of one line")),
        }
    }
    if serde_json::to_string(&options).map_or(0, |text| text.len()) > OPTIONS_LEN_MAX {
        return invalid(format!("the options of a key service have at most {OPTIONS_LEN_MAX} bytes"));
    }
    Ok(options)
}

fn unknown(name: &str) -> SqlError {
    SqlError::new(ERRCODE_UNDEFINED_OBJECT, format!("key service \"{name}\" does not exist"))
        .hint("sealvec.kms_slots lists them; sealvec.create_kms() names one more.")
}
