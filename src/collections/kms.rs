//! `create_kms`, `alter_kms`, `drop_kms`: key services by the names that rings and collections know.

use pgrx::JsonB;
use pgrx::PgSqlErrorCode::*;
use pgrx::prelude::*;

use super::call::required;
use super::registry;
use crate::audit::{self, Operation};
use crate::error::{OrRaise, SqlError};
use crate::keys::{self, kms_slot};

/// `create_kms(name, provider, options)`
#[pg_extern(sql = false)]
fn sealvec_create_kms(name: Option<&str>, provider: Option<&str>, options: Option<JsonB>) {
    audit::call_kms(Operation::CreateKms, name, || {
        let JsonB(options) = required(options, "options")?;
        kms_slot::create(required(name, "name")?, required(provider, "provider")?, options)
    })
    .or_raise()
}

/// `alter_kms(name, options)`: the whole of its options.
#[pg_extern(sql = false)]
fn sealvec_alter_kms(name: Option<&str>, options: Option<JsonB>) {
    audit::call_kms(Operation::AlterKms, name, || {
        let JsonB(options) = required(options, "options")?;
        kms_slot::alter(required(name, "name")?, options)
    })
    .or_raise()
}

/// `drop_kms(name)`: refused while a ring or a collection uses it, because nothing else says how to reach their keys.
#[pg_extern(sql = false)]
fn sealvec_drop_kms(name: Option<&str>) {
    audit::call_kms(Operation::DropKms, name, || {
        let name = required(name, "name")?;
        kms_slot::lock_for_drop(name)?;
        let in_use = |by: &str, detail: String| {
            Err(SqlError::new(
                ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
                format!("cannot drop key service \"{name}\" because {by} use it"),
            )
            .detail(detail))
        };
        let uses = |collection: &registry::Collection| collection.kms_name.as_deref() == Some(name);
        if let Some(user) = registry::all()?.iter().find(|collection| uses(collection)) {
            return in_use("indexes", format!("Index \"{}\" does.", user.name));
        }
        if let Some(ring) = keys::ring_of_slot(name)? {
            return in_use("key rings", format!("Key ring \"{ring}\" does."));
        }
        kms_slot::delete(name)
    })
    .or_raise()
}
