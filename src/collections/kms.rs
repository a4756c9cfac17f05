//! `create_kms`, `drop_kms`: key services by the names that `create_index(kms_name => …)` knows.

use pgrx::PgSqlErrorCode::*;
use pgrx::prelude::*;

use super::call::required;
use super::registry;
use crate::error::{OrRaise, SqlError};
use crate::keys;

/// Most characters of a name.
const NAME_MAX: usize = 255;

/// `create_kms(name, provider)`
#[pg_extern(sql = false)]
fn sealvec_create_kms(name: Option<&str>, provider: Option<&str>) {
    (|| {
        let (name, provider) = (required(name, "name")?, required(provider, "provider")?);
        if name.is_empty() || name.chars().count() > NAME_MAX {
            return Err(SqlError::new(ERRCODE_INVALID_NAME, "the name of a key service has 1 to 255 characters"));
        }
        if registry::slot(name)?.is_some() {
            return Err(SqlError::new(ERRCODE_DUPLICATE_OBJECT, format!("key service \"{name}\" already exists")));
        }
        if !keys::is_local(provider) {
            return Err(SqlError::new(
                ERRCODE_UNDEFINED_OBJECT,
                format!("key provider \"{provider}\" is not available in this server"),
            )
            .hint("Only \"local\" runs in the server."));
        }
        registry::insert_slot(name, provider)
    })()
    .or_raise()
}

/// `drop_kms(name)`
#[pg_extern(sql = false)]
fn sealvec_drop_kms(name: Option<&str>) {
    (|| {
        let name = required(name, "name")?;
        let uses = |collection: &registry::Collection| collection.kms_name.as_deref() == Some(name);
        if let Some(user) = registry::all()?.iter().find(|collection| uses(collection)) {
            return Err(SqlError::new(
                ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
                format!("cannot drop key service \"{name}\" because indexes use it"),
            )
            .detail(format!("Index \"{}\" does.", user.name)));
        }
        match registry::delete_slot(name)? {
            true => Ok(()),
            false => Err(SqlError::new(ERRCODE_UNDEFINED_OBJECT, format!("key service \"{name}\" does not exist"))),
        }
    })()
    .or_raise()
}
