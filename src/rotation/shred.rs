//! `shred`: a ring's envelopes destroyed, and with them everything that is sealed under it.

use pgrx::PgSqlErrorCode::*;
use pgrx::prelude::*;
use pgrx::{IntoDatum, pg_sys};

use super::usage::{self, Use};
use crate::audit::{self, Operation};
use crate::collections::call::required;
use crate::collections::registry;
use crate::collections::rows::Rows;
use crate::error::{OrRaise, SqlError};
use crate::keys;
use crate::tell::tell;

/// `shred(ring, confirm)`: what became unreadable.
#[pg_extern(sql = false)]
fn sealvec_shred(ring: Option<&str>, confirm: Option<&str>, call: pg_sys::FunctionCallInfo) -> Option<i32> {
    audit::call(Operation::Shred, ring, || {
        let name = required(ring, "ring")?;
        keys::owned_ring(ring)?; // what it is called is for its owner to know
        if confirm != Some(name) {
            return Err(SqlError::new(
                ERRCODE_INVALID_PARAMETER_VALUE,
                format!("to shred key ring \"{name}\", repeat its name: confirm => '{}'", name.replace('\'', "''")),
            )
            .detail("Nothing that is sealed under it can ever be opened again.")
            .hint("sealvec.dek_usage() tells what that is. sealvec.export_ring() keeps a copy of its envelopes, if that is wanted."));
        }
        let ring = keys::hold_for_change(ring)?;
        // First it goes, whoever holds what it sealed locked and whatever of that can't be read.
        let users = usage::users(&ring)?;
        registry::delete_users(ring.number)?;
        keys::shred(ring.number)?;
        let mut lost = usage::sealed(ring.number)?;
        lost.extend(users);
        // SAFETY: the call of this very function, which returns a set.
        let mut rows = unsafe { Rows::new(call)? };
        for Use { version, object, column, uses, kind, .. } in &lost {
            rows.push(|| {
                [
                    kind.name().into_datum(),
                    object.as_str().into_datum(),
                    column.as_deref().into_datum(),
                    version.map(|version| version as i32).into_datum(),
                    uses.map(|uses| uses as i64).into_datum(),
                ]
            })?;
        }
        warn(name, &lost);
        Ok(None)
    })
    .or_raise()
}

fn warn(name: &str, lost: &[Use]) {
    let (unknown, known): (Vec<&Use>, Vec<&Use>) = lost.iter().partition(|lost| lost.is_unknown());
    let objects = known.iter().map(|lost| &lost.object).collect::<std::collections::BTreeSet<_>>().len();
    let rest = match unknown.is_empty() {
        true => String::new(),
        false => format!(" May hold more of it: {}.", usage::told(&unknown)),
    };
    let told = SqlError::new(
        ERRCODE_WARNING,
        match objects {
            0 if unknown.is_empty() => format!("key ring \"{name}\" is shredded; nothing was sealed under it"),
            0 => format!("key ring \"{name}\" is shredded; nothing that could be counted was sealed under it"),
            1 => format!("key ring \"{name}\" is shredded; what it sealed in 1 object can no longer be read"),
            objects => format!("key ring \"{name}\" is shredded; what it sealed in {objects} objects can no longer be read"),
        },
    )
    .detail(format!("Its envelopes are still in the server's log of changes (WAL), in dead rows until VACUUM, on standbys until they follow, and in backups and exports.{rest}"))
    .hint("To be sure of those, destroy the key that wraps them in its key service, or let them expire. VACUUM sealvec.key_ring.");
    tell(PgLogLevel::WARNING, &told);
}
