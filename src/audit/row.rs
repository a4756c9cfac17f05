//! An event as a row of `sealvec.audit_log`, and what becomes of it if its transaction is rolled back.
//!
//! Written below SQL: nobody has, or needs, the right to. Only where the transaction may write anyway, the table can be
//! locked at once and is what sealvec has made, but for indexes: what somebody does with a key does not wait because it is
//! written down, and fails for it only if Postgres cannot write at all, or an index that somebody added cannot be kept.

use std::cell::RefCell;
use std::mem::size_of;
use std::ptr;

use pgrx::{IntoDatum, PgList, pg_sys};

use super::event::{Event, Outcome};
use super::page;

/// Events of a transaction that are kept for its rollback; of more, the newest.
const PENDING_MAX: usize = 48;

/// Columns, in the order of sql/12_audit.sql.
const COLUMNS: usize = 13;
const TYPES: [pg_sys::Oid; COLUMNS] = {
    use pg_sys::{INT4OID, TEXTOID, TIMESTAMPTZOID};
    [
        TIMESTAMPTZOID,
        TEXTOID,
        TEXTOID,
        TEXTOID,
        INT4OID,
        TEXTOID,
        INT4OID,
        TEXTOID,
        TEXTOID,
        TEXTOID,
        TEXTOID,
        TEXTOID,
        TEXTOID,
    ]
};

const ROW_LOCK: pg_sys::LOCKMODE = pg_sys::RowExclusiveLock as pg_sys::LOCKMODE;
const NO_LOCK: pg_sys::LOCKMODE = pg_sys::NoLock as pg_sys::LOCKMODE;

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
    let row = row(event);
    let Some(table) = Table::open_at_once() else { return false };
    if !table.takes(&row) {
        return false;
    }
    // First, so that the rollback tells of it if the row cannot be written.
    // SAFETY: only reads the transaction's state.
    let level = unsafe { pg_sys::GetCurrentTransactionNestLevel() };
    PENDING.with_borrow_mut(|pending| {
        if pending.len() >= PENDING_MAX {
            pending.remove(0);
        }
        pending.push((level, *event));
    });
    table.insert(row);
    true
}

fn row(event: &Event) -> [Option<pg_sys::Datum>; COLUMNS] {
    let text = |text: Option<&str>| text.and_then(server_text);
    let actor = &event.actor;
    [
        Some(pg_sys::Datum::from(event.time)),
        text(Some(actor.session_user.as_str())),
        text(Some(actor.role.as_str())),
        text(actor.client.some()),
        (actor.port != 0).then(|| i32::from(actor.port).into()),
        text(actor.application.some()),
        Some(actor.pid.into()),
        text(Some(event.operation.as_str())),
        text(Some(event.outcome.as_str())),
        text(event.state()),
        text(event.ring.some()),
        text(event.kms.some()),
        text(event.detail.some()),
    ]
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

/// `sealvec.audit_log`, open and locked for writing with its indexes; the locks stay to the end of the transaction.
struct Table {
    relation: pg_sys::Relation,
    state: *mut pg_sys::EState,
    result: *mut pg_sys::ResultRelInfo,
}

impl Table {
    /// `None` if it is not there, is stored in another way, or somebody would have to be waited for.
    fn open_at_once() -> Option<Self> {
        // SAFETY: both look-ups take C strings and give InvalidOid for what does not exist. Any OID may be locked, and
        // try_table_open answers null for one that names nothing any more. Whoever adds or drops an index waits for the lock on
        // the table. Without a description of triggers there are none.
        unsafe {
            let schema = pg_sys::get_namespace_oid(c"sealvec".as_ptr(), true);
            let oid = pg_sys::get_relname_relid(c"audit_log".as_ptr(), schema);
            if oid == pg_sys::InvalidOid || !pg_sys::ConditionalLockRelationOid(oid, ROW_LOCK) {
                return None;
            }
            let relation = pg_sys::try_table_open(oid, NO_LOCK);
            if relation.is_null() {
                return None;
            }
            let indexes = PgList::<pg_sys::Oid>::from_pg(pg_sys::RelationGetIndexList(relation));
            let has_all = indexes.iter_oid().all(|index| pg_sys::ConditionalLockRelationOid(index, ROW_LOCK));
            let class = &*(*relation).rd_rel;
            let is_heap = class.relkind == pg_sys::RELKIND_RELATION as i8 && class.relam == pg_sys::HEAP_TABLE_AM_OID;
            if !has_all || !is_heap {
                pg_sys::table_close(relation, NO_LOCK);
                return None;
            }
            let state = pg_sys::CreateExecutorState();
            let before = pg_sys::MemoryContextSwitchTo((*state).es_query_cxt);
            let result: *mut pg_sys::ResultRelInfo = pg_sys::palloc0(size_of::<pg_sys::ResultRelInfo>()).cast();
            (*result).type_ = pg_sys::NodeTag::T_ResultRelInfo;
            pg_sys::InitResultRelInfo(result, relation, 0, ptr::null_mut(), 0);
            (*result).ri_TrigDesc = ptr::null_mut();
            pg_sys::ExecOpenIndices(result, false);
            pg_sys::MemoryContextSwitchTo(before);
            Some(Self { relation, state, result })
        }
    }

    /// Whether the row fits, and nothing that somebody has added can refuse it: no constraint, and nothing unique.
    fn takes(&self, row: &[Option<pg_sys::Datum>; COLUMNS]) -> bool {
        // SAFETY: an open relation, with as many attributes as it says and as many indexes as were opened.
        unsafe {
            let class = &*(*self.relation).rd_rel;
            let shape = (*self.relation).rd_att;
            let has_checks = !(*shape).constr.is_null() && (*(*shape).constr).num_check > 0;
            if (*shape).natts as usize != COLUMNS || has_checks || class.relispartition {
                return false;
            }
            let fits = |i: usize| {
                #[cfg(not(feature = "pg18"))]
                let column = &*(*shape).attrs.as_ptr().add(i);
                #[cfg(feature = "pg18")]
                let column = &*pg_sys::TupleDescAttr(shape, i as i32);
                column.atttypid == TYPES[i] && !column.attisdropped && !(column.attnotnull && row[i].is_none())
            };
            let indexes = (*self.result).ri_NumIndices as usize;
            let is_plain = |i: usize| {
                let index = &**(*self.result).ri_IndexRelationInfo.add(i);
                !index.ii_Unique && index.ii_ExclusionOps.is_null()
            };
            (0..COLUMNS).all(fits) && (0..indexes).all(is_plain)
        }
    }

    /// Writes a row that it takes. Expressions of indexes run with no more than the rights of the table's owner.
    fn insert(&self, row: [Option<pg_sys::Datum>; COLUMNS]) {
        // SAFETY: one Datum of the column's type for each column of the open relation; `takes` has looked. An ERROR ends the
        // statement, which puts user and settings back as it does here, and frees and closes all.
        unsafe {
            let slot = pg_sys::MakeSingleTupleTableSlot((*self.relation).rd_att, &raw const pg_sys::TTSOpsVirtual);
            for (i, value) in row.into_iter().enumerate() {
                *(*slot).tts_values.add(i) = value.unwrap_or(pg_sys::Datum::null());
                *(*slot).tts_isnull.add(i) = value.is_none();
            }
            pg_sys::ExecStoreVirtualTuple(slot);
            let (mut user, mut context) = (pg_sys::InvalidOid, 0);
            pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
            let owner = (*(*self.relation).rd_rel).relowner;
            pg_sys::SetUserIdAndSecContext(owner, context | pg_sys::SECURITY_RESTRICTED_OPERATION as i32);
            let level = pg_sys::NewGUCNestLevel();
            #[cfg(any(feature = "pg17", feature = "pg18"))]
            pg_sys::RestrictSearchPath();
            let has_snapshot = pg_sys::ActiveSnapshotSet();
            if !has_snapshot {
                pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
            }
            pg_sys::simple_table_tuple_insert(self.relation, slot);
            if (*self.result).ri_NumIndices > 0 {
                pg_sys::ExecInsertIndexTuples(
                    self.result,
                    slot,
                    self.state,
                    false,
                    false,
                    ptr::null_mut(),
                    ptr::null_mut(),
                    #[cfg(not(feature = "pg15"))]
                    false,
                );
            }
            if !has_snapshot {
                pg_sys::PopActiveSnapshot();
            }
            pg_sys::AtEOXact_GUC(false, level);
            pg_sys::SetUserIdAndSecContext(user, context);
            pg_sys::ExecDropSingleTupleTableSlot(slot);
        }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: made by `open_at_once`, ended once; when an ERROR is under way, abort closes and frees it.
            unsafe {
                pg_sys::ExecCloseIndices(self.result);
                pg_sys::FreeExecutorState(self.state);
                pg_sys::table_close(self.relation, NO_LOCK);
            }
        }
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
        XACT_EVENT_ABORT | XACT_EVENT_PARALLEL_ABORT => taken_away(1, Outcome::RolledBack),
        XACT_EVENT_COMMIT | XACT_EVENT_PARALLEL_COMMIT => with_pending(Vec::clear),
        // ROLLBACK PREPARED takes the rows in some other session, and what was opened is open here.
        XACT_EVENT_PREPARE => taken_away(1, Outcome::Prepared),
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
        pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB => taken_away(level, Outcome::RolledBack),
        pg_sys::SubXactEvent::SUBXACT_EVENT_COMMIT_SUB => {
            with_pending(|pending| pending.iter_mut().for_each(|(at, _)| *at = (*at).min(level - 1)));
        }
        _ => {}
    }
}

/// Rows written at `level` and deeper are gone, or out of reach. That a ring was open for a while is not to be forgotten with them.
fn taken_away(level: i32, outcome: Outcome) {
    with_pending(|pending| {
        for (_, event) in pending.iter().filter(|(at, _)| *at >= level) {
            page::remember(&event.turned(outcome));
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
