//! The SQL functions of the audit, as `sql/12_audit.sql` declares them.

use pgrx::PgSqlErrorCode::*;
use pgrx::prelude::*;

use super::event::Text;
use super::{Operation, page};
use crate::error::{OrRaise, SqlError};

/// `audit_memory()`: events of this database that have no row. Who may call it is the catalog's to say.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)] // the columns, one by one
fn sealvec_audit_memory() -> TableIterator<
    'static,
    (
        name!(time, TimestampWithTimeZone),
        name!(session_user, Option<String>),
        name!(role, Option<String>),
        name!(client_addr, Option<String>),
        name!(client_port, Option<i32>),
        name!(application_name, Option<String>),
        name!(pid, i32),
        name!(operation, Option<String>),
        name!(result, Option<String>),
        name!(sqlstate, Option<String>),
        name!(ring, Option<String>),
        name!(kms, Option<String>),
        name!(detail, Option<String>),
    ),
> {
    fn told<const N: usize>(text: &Text<N>) -> Option<String> {
        text.some().map(str::to_owned)
    }
    // SAFETY: reads a variable of the backend.
    let database = unsafe { pg_sys::MyDatabaseId };
    let rows = page::events().into_iter().filter(move |event| event.database == database).filter_map(|event| {
        let actor = &event.actor;
        Some((
            TimestampWithTimeZone::try_from(event.time).ok()?,
            told(&actor.session_user),
            told(&actor.role),
            told(&actor.client),
            (actor.port != 0).then_some(i32::from(actor.port)),
            told(&actor.application),
            actor.pid,
            told(&event.operation),
            told(&event.outcome),
            event.state().map(str::to_owned),
            told(&event.ring),
            told(&event.kms),
            told(&event.detail),
        ))
    });
    TableIterator::new(rows.collect::<Vec<_>>())
}

/// `audit_prune(keep) → bigint`: deletes rows older than `keep`; says how many.
#[pg_extern(sql = false)]
fn sealvec_audit_prune(keep: Option<Interval>) -> i64 {
    super::call(Operation::Prune, None, || {
        // SAFETY: a catalog look-up.
        if !unsafe { pg_sys::superuser() } {
            return Err(SqlError::new(ERRCODE_INSUFFICIENT_PRIVILEGE, "must be superuser to prune the audit log"));
        }
        let keep = keep.ok_or_else(|| {
            SqlError::new(ERRCODE_NULL_VALUE_NOT_ALLOWED, "argument \"keep\" must not be null")
        })?;
        let deleted = Spi::connect_mut(|spi| {
            spi.update(
                "DELETE FROM sealvec.audit_log l WHERE l.\"time\" OPERATOR(pg_catalog.<) (pg_catalog.now() OPERATOR(pg_catalog.-) $1)",
                None,
                &[keep.into()],
            )
            .map(|done| done.len())
        });
        let deleted = deleted.map_err(|error| {
            SqlError::new(ERRCODE_INTERNAL_ERROR, format!("could not prune sealvec.audit_log: {error}"))
        })?;
        super::note(format!("{deleted} rows deleted"));
        Ok(deleted as i64)
    })
    .or_raise()
}
