//! An event as a row of `sealvec.audit_log`, and what becomes of it if its transaction is rolled back.
//!
//! Written below SQL: nobody has, or needs, the right to. Only where the transaction may write anyway, and the table can
//! be locked at once: what somebody does with a key neither fails nor waits because it is written down.

use std::cell::RefCell;
use std::ptr;

use pgrx::{IntoDatum, pg_sys};

use super::event::Event;
use super::page;

/// Events of a transaction that are kept for its rollback; of more, the newest.
const PENDING_MAX: usize = 48;

thread_local! {
    /// Events of this transaction whose rows go if it is rolled back, and how deep in savepoints each was.
    static PENDING: RefCell<Vec<(i32, Event)>> = const { RefCell::new(Vec::new()) };
}

/// Registers the callbacks; once per backend.
pub fn init() {
    // SAFETY: the callbacks live as long as the library, which Postgres never unloads; both are guarded.
    unsafe {
        pg_sys::RegisterXactCallback(Some(transaction_ends), ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(subtransaction_ends), ptr::null_mut());
    }
}

/// Adds the row; false where that is not to be done now. Whoever calls has claimed the page: the end of a transaction may not
/// fail for want of memory.
pub fn insert(event: &Event) -> bool {
    if !may_write() {
        return false;
    }
    let Some(table) = open_at_once() else { return false };
    let text = |text: Option<&str>| text.map(server_text);
    let actor = &event.actor;
    // In the order of sql/12_audit.sql.
    let row = [
        Some(pg_sys::Datum::from(event.time)),
        text(Some(actor.session_user.as_str())).flatten(),
        text(Some(actor.role.as_str())).flatten(),
        text(actor.client.some()).flatten(),
        (actor.port != 0).then(|| i32::from(actor.port).into()),
        text(actor.application.some()).flatten(),
        Some(actor.pid.into()),
        text(Some(event.operation.as_str())).flatten(),
        text(Some(event.outcome.as_str())).flatten(),
        text(event.state()).flatten(),
        text(event.ring.some()).flatten(),
        text(event.kms.some()).flatten(),
        text(event.detail.some()).flatten(),
    ];
    let mut values = row.map(|value| value.unwrap_or(pg_sys::Datum::null()));
    let mut nulls = row.map(|value| value.is_none());
    // SAFETY: one Datum of the column's type for each column of the open relation, or none is written.
    let written = unsafe {
        let fits = (*(*table).rd_att).natts as usize == row.len();
        if fits {
            let tuple = pg_sys::heap_form_tuple((*table).rd_att, values.as_mut_ptr(), nulls.as_mut_ptr());
            pg_sys::CatalogTupleInsert(table, tuple);
            pg_sys::heap_freetuple(tuple);
        }
        pg_sys::table_close(table, pg_sys::NoLock as pg_sys::LOCKMODE);
        fits
    };
    if written {
        // SAFETY: only reads the transaction's state.
        let level = unsafe { pg_sys::GetCurrentTransactionNestLevel() };
        PENDING.with_borrow_mut(|pending| {
            if pending.len() >= PENDING_MAX {
                pending.remove(0);
            }
            pending.push((level, *event));
        });
    }
    written
}

fn may_write() -> bool {
    // SAFETY: reads the state of the transaction and of the server.
    unsafe {
        pg_sys::IsTransactionState()
            && !pg_sys::XactReadOnly
            && !pg_sys::RecoveryInProgress()
            && !pg_sys::IsInParallelMode()
    }
}

/// The table, unless it is not there, or somebody would have to be waited for.
fn open_at_once() -> Option<pg_sys::Relation> {
    let mode = pg_sys::RowExclusiveLock as pg_sys::LOCKMODE;
    // SAFETY: both look-ups take C strings and give InvalidOid for what does not exist. Any OID may be locked, and
    // try_table_open answers null for one that names nothing any more.
    unsafe {
        let schema = pg_sys::get_namespace_oid(c"sealvec".as_ptr(), true);
        let oid = pg_sys::get_relname_relid(c"audit_log".as_ptr(), schema);
        if oid == pg_sys::InvalidOid || !pg_sys::ConditionalLockRelationOid(oid, mode) {
            return None;
        }
        let table = pg_sys::try_table_open(oid, pg_sys::NoLock as pg_sys::LOCKMODE);
        (!table.is_null()).then_some(table)
    }
}

/// A text in the encoding of the database, where it has one for every character.
fn server_text(text: &str) -> Option<pg_sys::Datum> {
    // SAFETY: reads a setting of the database.
    match unsafe { pg_sys::GetDatabaseEncoding() } == pg_sys::pg_enc::PG_UTF8 as i32 {
        true => text.into_datum(),
        false => text.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect::<String>().into_datum(),
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn transaction_ends(event: pg_sys::XactEvent::Type, _arg: *mut std::ffi::c_void) {
    use pg_sys::XactEvent::*;
    match event {
        XACT_EVENT_ABORT | XACT_EVENT_PARALLEL_ABORT => undone(1),
        XACT_EVENT_COMMIT | XACT_EVENT_PARALLEL_COMMIT | XACT_EVENT_PREPARE => with_pending(Vec::clear),
        _ => {}
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn subtransaction_ends(
    event: pg_sys::SubXactEvent::Type,
    _this: pg_sys::SubTransactionId,
    _parent: pg_sys::SubTransactionId,
    _arg: *mut std::ffi::c_void,
) {
    // SAFETY: only reads the transaction's state; the one that ends is still the current one.
    let level = unsafe { pg_sys::GetCurrentTransactionNestLevel() };
    match event {
        pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB => undone(level),
        pg_sys::SubXactEvent::SUBXACT_EVENT_COMMIT_SUB => {
            with_pending(|pending| pending.iter_mut().for_each(|(at, _)| *at = (*at).min(level - 1)));
        }
        _ => {}
    }
}

/// Rows written at `level` and deeper are gone. That a ring was open for a while is not to be forgotten with them.
fn undone(level: i32) {
    with_pending(|pending| {
        for (_, event) in pending.iter().filter(|(at, _)| *at >= level) {
            page::remember(&event.rolled_back());
        }
        pending.retain(|(at, _)| *at < level);
    });
}

fn with_pending(f: impl FnOnce(&mut Vec<(i32, Event)>)) {
    PENDING.with(|pending| {
        // Borrowed only if an ERROR crosses an insert.
        if let Ok(mut pending) = pending.try_borrow_mut() {
            f(&mut pending);
        }
    });
}
