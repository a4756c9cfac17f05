//! `reseal`: the rows of a table sealed anew under the newest DEK, batch by batch, each in a transaction of its own.
//!
//! A row says itself which DEK sealed it, so nothing is remembered between two calls: whatever ends one, the next goes on.
//! What a reader sees of a row does not change, so this is no UPDATE: row security, triggers and rules are not asked, as a
//! rewrite of the table would not ask them. Constraints, generated columns and indexes are kept, as the table's owner.
//!
//! A row is changed only from the version that was just locked, so that no concurrent change is lost. Rows that others hold
//! are left out at first; when all others are done, they are waited for, one by one and holding no other.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ptr;

use pgrx::PgSqlErrorCode::*;
use pgrx::prelude::*;
use pgrx::{IntoDatum, pg_sys};

use super::heap::{Heap, Scan, Scratch, Shows, Slot, Tuple};
use super::places::{self, Column, Holds, Place};
use super::progress::{self, State};
use crate::audit::{self, Operation};
use crate::collections::call::{self, Call, Need, Shown};
use crate::collections::create::check_ring_owner;
use crate::collections::items::ItemKeys;
use crate::collections::names;
use crate::datatype::reseal::{self as values, Resealed, does_not_open};
use crate::error::{OrRaise, SqlError};
use crate::keys::table::prevent_read_only;
use crate::keys::{self, Right};
use crate::tell::{notice, tell};

/// Most rows of a batch that may be asked for.
const BATCH_MAX: i32 = 1_000_000;
/// Pages read in one transaction, should there be nothing to do: a snapshot keeps VACUUM from its work.
const BLOCKS_AT_ONCE: u32 = 8_192;

/// Rows that do not open that are remembered, at most.
const UNOPENED_MAX: usize = 100_000;

thread_local! {
    /// The job of this session. One that an error ended is replaced by the next.
    static JOB: RefCell<Option<Job>> = const { RefCell::new(None) };
}

/// What one CALL is about.
struct Job {
    number: i32,
    /// The table that was named.
    table: pg_sys::Oid,
    /// It, its partitions and children, as far as they have columns to reseal.
    places: Vec<Place>,
    batch: usize,
    /// The place at hand, and the first of its pages that is not done.
    at: usize,
    block: u32,
    pass: i32,
    resealed: i64,
    /// Rows that others held in this pass.
    held: i64,
    /// Rows that do not open: place, page and item.
    unopened: BTreeSet<(usize, u32, u16)>,
}

/// `reseal_begin(table, column, batch) → integer`: the number of the job.
#[pg_extern(sql = false)]
fn sealvec_reseal_begin(table: Option<pg_sys::Oid>, column: Option<&std::ffi::CStr>, batch: Option<i32>) -> i32 {
    audit::call(Operation::ResealStart, None, || {
        let table = call::required(table, "table")?;
        begin(table, column.map(|column| column.to_string_lossy().into_owned()), batch)
    })
    .or_raise()
}

/// `reseal_index_begin(name, batch, index_key) → integer`
#[pg_extern(sql = false)]
fn sealvec_reseal_index_begin(name: Option<&str>, batch: Option<i32>, index_key: Option<&[u8]>) -> i32 {
    audit::call(Operation::ResealStart, None, || {
        let call = Call::open(name, &Shown { index_key, ..Shown::default() }, Need::Own)?;
        check_ring_owner(&call.collection)?;
        let table = names::table_oid(call.collection.uuid).ok_or_else(|| gone(&call.collection.name))?;
        begin(table, None, batch)
    })
    .or_raise()
}

/// `reseal_step(job) → boolean`: one batch; false when nothing is left to do.
#[pg_extern(sql = false)]
fn sealvec_reseal_step(job: i32) -> bool {
    step(job).or_raise()
}

/// `reseal_index_step(job, name, index_key) → boolean`: the same with the ring of a collection open as long as it lasts.
#[pg_extern(sql = false)]
fn sealvec_reseal_index_step(job: i32, name: Option<&str>, index_key: Option<&[u8]>) -> bool {
    (|| {
        let _call = Call::open(name, &Shown { index_key, ..Shown::default() }, Need::Own)?;
        step(job)
    })()
    .or_raise()
}

fn begin(table: pg_sys::Oid, column: Option<String>, batch: Option<i32>) -> Result<i32, SqlError> {
    prevent_read_only();
    // SAFETY: reads the transaction's state.
    if unsafe { pg_sys::IsTransactionBlock() } {
        return Err(in_transaction("sealvec.reseal()"));
    }
    let batch = batch.unwrap_or(1_000);
    if !(1..=BATCH_MAX).contains(&batch) {
        return Err(SqlError::new(
            ERRCODE_INVALID_PARAMETER_VALUE,
            format!("batch must be between 1 and {BATCH_MAX}, not {batch}"),
        ));
    }
    check_kind(table)?;
    check_owner(table)?;
    let mut places = places::places(Some(table))?;
    for place in &mut places {
        place.columns.retain(|found| column.as_ref().is_none_or(|column| found.name == *column));
    }
    places.retain(|place| !place.columns.is_empty());
    if places.is_empty() {
        return Err(SqlError::new(ERRCODE_WRONG_OBJECT_TYPE, match column {
            Some(column) => format!("column \"{column}\" of table {} holds nothing sealed", name_of(table)),
            None => format!("table {} has no sealed column", name_of(table)),
        })
        .hint("The view sealvec.columns lists columns of type sealvec; sealvec.dek_usage() tells what lies under which data key."));
    }
    if let Some(place) = places.iter().find(|place| place.is_anothers) {
        return Err(SqlError::new(
            ERRCODE_FEATURE_NOT_SUPPORTED,
            format!("cannot reseal temporary table {} of another session", place.name),
        ));
    }
    check_can_open(&places)?;
    note(table, &places);
    Ok(JOB.with_borrow_mut(|job| {
        let number = job.as_ref().map_or(1, |job| job.number.wrapping_add(1));
        let (batch, pass) = (batch as usize, 1);
        *job = Some(Job {
            number,
            table,
            places,
            batch,
            at: 0,
            block: 0,
            pass,
            resealed: 0,
            held: 0,
            unopened: BTreeSet::new(),
        });
        number
    }))
}

/// What the audit log is told: the table, and the ring if there is one only.
fn note(table: pg_sys::Oid, places: &[Place]) {
    audit::note(name_of(table));
    let rings: BTreeSet<u32> =
        places.iter().flat_map(|place| &place.columns).filter_map(|column| column.ring()).collect();
    if let (Some(ring), 1) = (rings.first(), rings.len())
        && let Ok(ring) = keys::info(*ring)
    {
        audit::about(&ring.name);
    }
}

/// Says at once, and not at the first old row, that a ring is locked.
fn check_can_open(places: &[Place]) -> Result<(), SqlError> {
    for column in places.iter().flat_map(|place| &place.columns) {
        if let Some(ring) = column.ring().filter(|ring| keys::info(*ring).is_ok()) {
            keys::with_dek(ring, None, Right::Write, |_, _| ())?;
        }
    }
    Ok(())
}

fn step(number: i32) -> Result<bool, SqlError> {
    // Taken out while in use: functions of the table's owner may run, and begin another.
    let mut job = JOB.take().filter(|job| job.number == number).ok_or_else(|| {
        SqlError::new(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "no resealing is under way in this session")
            .hint("CALL sealvec.reseal() takes its steps by itself.")
    })?;
    let more = job.step()?;
    if more {
        job.tell()?;
    } else {
        audit::call(Operation::ResealEnd, None, || {
            note(job.table, &job.places);
            audit::note(format!("{} rows sealed anew", job.resealed));
            progress::end()
        })?;
        job.report();
    }
    JOB.set(Some(job));
    Ok(more)
}

impl Job {
    /// About a batch of rows, or many pages. False when all is done.
    fn step(&mut self) -> Result<bool, SqlError> {
        let Some(place) = self.places.get(self.at) else { return Ok(self.next_pass()) };
        let Some(heap) = Heap::open(place.relation, pg_sys::RowExclusiveLock) else {
            self.next_place();
            return Ok(true);
        };
        check_owner(place.relation)?;
        check_unchanged(&heap, place)?;
        let blocks = heap.blocks();
        if self.block >= blocks {
            self.next_place();
            return Ok(true);
        }
        let mut until = blocks.min(self.block + BLOCKS_AT_ONCE);
        let mut found: Vec<Candidate> = Vec::new();
        {
            let scratch = Scratch::new();
            let mut scan = Scan::of_blocks(&heap, Shows::Newest, self.block, until - self.block);
            while let Some(tuple) = scan.next() {
                let tid = tuple.tid();
                let (block, _) = pgrx::itemptr::item_pointer_get_both(tid);
                // Whole pages only, so that rows that are left out do not stand in the way of the next batch.
                if found.len() >= self.batch && found.last().is_some_and(|last| last.block() != block) {
                    until = block;
                    break;
                }
                let is_old = scratch.within(|| is_old(&tuple, &place.columns));
                scratch.reset();
                if is_old {
                    found.push(Candidate { tid, inserter: scan.inserter() });
                }
            }
        }
        let waits = self.pass > 1;
        let mut writer = Writer::new(&heap, &place.columns);
        let mut done = 0;
        for candidate in &found {
            let outcome = match (writer.reseal(candidate, false)?, waits) {
                // To wait with rows of ours locked would make a deadlock of it.
                (Outcome::Held, true) if done > 0 => {
                    until = candidate.block();
                    break;
                }
                (Outcome::Held, true) => writer.reseal(candidate, true)?,
                (outcome, _) => outcome,
            };
            match outcome {
                Outcome::Done => {}
                Outcome::Resealed => done += 1,
                Outcome::Unopened if self.unopened.len() < UNOPENED_MAX => {
                    let (block, item) = pgrx::itemptr::item_pointer_get_both(candidate.tid);
                    self.unopened.insert((self.at, block, item));
                }
                Outcome::Unopened => {}
                Outcome::Held => self.held += 1,
            }
        }
        drop(writer);
        self.resealed += done;
        self.block = until;
        Ok(true)
    }

    fn next_place(&mut self) {
        (self.at, self.block) = (self.at + 1, 0);
    }

    /// Once more from the front, as long as others held rows; they are waited for.
    fn next_pass(&mut self) -> bool {
        if self.held == 0 {
            return false;
        }
        (self.at, self.block, self.held) = (0, 0, 0);
        self.unopened.clear();
        self.pass += 1;
        true
    }

    fn tell(&self) -> Result<(), SqlError> {
        let relation = self.places.get(self.at).map_or(self.table, |place| place.relation);
        // What is not there any more has no pages.
        let blocks = Heap::open(relation, pg_sys::AccessShareLock).filter(|_| self.at < self.places.len());
        let blocks = blocks.map_or(0, |heap| heap.blocks());
        progress::tell(&State {
            table: self.table,
            relation,
            pass: self.pass,
            relations: (self.places.len() as i64, self.at as i64),
            blocks: (blocks.into(), self.block.min(blocks).into()),
            rows: (self.resealed, self.held, self.unopened.len() as i64),
        })
    }

    fn report(&self) {
        let table = name_of(self.table);
        notice!("resealed {} of table {table}", rows(self.resealed));
        let Some((place, block, item)) = self.unopened.first() else { return };
        let left = SqlError::new(
            ERRCODE_DATA_CORRUPTED,
            format!("{} of table {table} left as before: a value does not open", rows(self.unopened.len() as i64)),
        )
        .detail(format!("The first is ({block},{item}) of {}.", self.places[*place].name))
        .hint("Who may INSERT can store what was never sealed. Correct or delete such rows by ctid; as long as they are there, the data key that they name is in use.");
        tell(PgLogLevel::WARNING, &left);
    }
}

fn rows(count: i64) -> String {
    if count == 1 { "1 row".to_owned() } else { format!("{count} rows") }
}

/// A tuple with something old in it.
struct Candidate {
    tid: pg_sys::ItemPointerData,
    /// The transaction under way that has just written it.
    inserter: Option<pg_sys::TransactionId>,
}

impl Candidate {
    fn block(&self) -> u32 {
        pgrx::itemptr::item_pointer_get_both(self.tid).0
    }
}

enum Outcome {
    /// It is gone, or has nothing old any more.
    Done,
    /// What opens in it is under the newest DEK now.
    Resealed,
    /// What is old in it does not open.
    Unopened,
    /// Somebody else has it, or has just changed it: later.
    Held,
}

/// Whether anything in the columns could be sealed under a newer DEK.
fn is_old(tuple: &Tuple<'_>, columns: &[Column]) -> bool {
    columns.iter().any(|column| {
        let Some(datum) = tuple.get(column.number) else { return false };
        let mut old = false;
        // SAFETY: the column's type holds what the catalog says; the tuple stays until the scan goes on.
        unsafe {
            match column.holds {
                Holds::Values { lies, .. } => values::headers(datum, lies, |header| old |= values::is_old(&header)),
                Holds::Items { ring, .. } => {
                    let header = sealvec_core::item::ItemHeader::decode(values::slice(datum, ITEM_FRONT));
                    let info = keys::info(ring);
                    old = header.is_ok_and(|header| {
                        header.ring() == ring
                            && info.is_ok_and(|info| {
                                header.dek_version() < info.dek_version
                                    && info.versions.binary_search(&header.dek_version()).is_ok()
                            })
                    });
                }
            }
        }
        old
    })
}

const ITEM_FRONT: usize = sealvec_core::item::HEADER_LEN;

/// Writes rows of one table in one transaction.
struct Writer<'a> {
    heap: &'a Heap,
    columns: &'a [Column],
    locked: Slot,
    new: Slot,
    scratch: Scratch,
    items: Option<ItemKeys>,
    executor: Option<Executor>,
}

impl<'a> Writer<'a> {
    fn new(heap: &'a Heap, columns: &'a [Column]) -> Self {
        let (locked, new) = (Slot::new(heap), Slot::of_values(heap));
        Self { heap, columns, locked, new, scratch: Scratch::new(), items: None, executor: None }
    }

    /// Locks the tuple and stores its row anew. With `wait`, whoever has it is waited for.
    fn reseal(&mut self, candidate: &Candidate, wait: bool) -> Result<Outcome, SqlError> {
        pgrx::check_for_interrupts!();
        let mut tid = candidate.tid;
        if let Some(inserter) = candidate.inserter {
            // SAFETY: reads the transaction's state.
            let is_ours = unsafe { pg_sys::TransactionIdIsCurrentTransactionId(inserter) };
            if !is_ours {
                if wait {
                    // SAFETY: an open relation; waits for the end of the transaction, and may be cancelled.
                    unsafe {
                        pg_sys::XactLockTableWait(
                            inserter,
                            self.heap.relation(),
                            &mut tid,
                            pg_sys::XLTW_Oper::XLTW_Lock,
                        )
                    };
                }
                return Ok(Outcome::Held); // whether it is there now, the next pass finds out
            }
        }
        let policy = match wait {
            true => pg_sys::LockWaitPolicy::LockWaitBlock,
            false => pg_sys::LockWaitPolicy::LockWaitSkip,
        };
        // SAFETY: the tuple was live, or about to be deleted, under a snapshot that this statement still holds, so its place
        // is not given to another; the slot is of this table. No lock but on this tuple is waited for.
        let result = unsafe {
            let mut failure = pg_sys::TM_FailureData::default();
            pg_sys::table_tuple_lock(
                self.heap.relation(),
                &mut tid,
                pg_sys::GetActiveSnapshot(),
                self.locked.get(),
                pg_sys::GetCurrentCommandId(false),
                pg_sys::LockTupleMode::LockTupleNoKeyExclusive,
                policy,
                0,
                &mut failure,
            )
        };
        let outcome = match result {
            pg_sys::TM_Result::TM_Ok => self.store(),
            pg_sys::TM_Result::TM_Deleted => Ok(Outcome::Done),
            // Its newer version is another tuple.
            _ => Ok(Outcome::Held),
        };
        // SAFETY: nothing of the tuple is used any more.
        unsafe { pg_sys::ExecClearTuple(self.locked.get()) };
        self.scratch.reset();
        outcome
    }

    /// Stores the row of the locked tuple anew.
    fn store(&mut self) -> Result<Outcome, SqlError> {
        let Self { columns, locked, scratch, items, .. } = self;
        let tuple = locked.tuple();
        let anew = scratch.within(|| anew(&tuple, columns, items))?;
        if anew.changed.is_empty() {
            return Ok(if anew.unopened { Outcome::Unopened } else { Outcome::Done });
        }
        // SAFETY: both slots are of this table's shape, and the locked one holds all its columns; the values live until the
        // scratch is reset.
        unsafe {
            pg_sys::ExecClearTuple(self.new.get());
            let (from, to) = (&*self.locked.get(), &mut *self.new.get());
            let natts = (*self.heap.shape()).natts as usize;
            ptr::copy_nonoverlapping(from.tts_values, to.tts_values, natts);
            ptr::copy_nonoverlapping(from.tts_isnull, to.tts_isnull, natts);
            for (column, datum) in anew.changed {
                *to.tts_values.add(column as usize - 1) = datum;
            }
            pg_sys::ExecStoreVirtualTuple(self.new.get());
        }
        let executor = self.executor.get_or_insert_with(|| Executor::new(self.heap));
        executor.update(self.heap, &self.locked, &self.new);
        // SAFETY: stored by now.
        unsafe { pg_sys::ExecClearTuple(self.new.get()) };
        Ok(Outcome::Resealed)
    }
}

struct AnewRow {
    changed: Vec<(i16, pg_sys::Datum)>,
    /// Whether something old in it does not open.
    unopened: bool,
}

/// What to store in place of what is old in a row.
fn anew(tuple: &Tuple<'_>, columns: &[Column], items: &mut Option<ItemKeys>) -> Result<AnewRow, SqlError> {
    let mut row = AnewRow { changed: Vec::new(), unopened: false };
    for column in columns {
        let Some(datum) = tuple.get(column.number) else { continue };
        let resealed = match column.holds {
            // SAFETY: the column's type holds what the catalog says; the tuple is locked and pinned.
            Holds::Values { lies, .. } => unsafe { values::reseal(datum, lies)? },
            Holds::Items { ring, token } => {
                let Some(token) = tuple.get(token) else { continue };
                let keys = match items {
                    Some(keys) => keys,
                    None => items.insert(ItemKeys::of_ring(ring)?),
                };
                // SAFETY: two columns of type bytea of this tuple.
                let (token, sealed) = unsafe { (values::whole(token), values::whole(datum)) };
                match keys.reseal(token, sealed) {
                    Ok(None) => Resealed::Current,
                    Ok(Some(sealed)) => Resealed::Anew(sealed.into_datum().expect("bytes are a Datum"), 0),
                    Err(error) if does_not_open(&error) => Resealed::Unopened(1),
                    Err(error) => return Err(error),
                }
            }
        };
        match resealed {
            Resealed::Current => {}
            Resealed::Unopened(_) => row.unopened = true,
            Resealed::Anew(datum, unopened) => {
                row.changed.push((column.number, datum));
                row.unopened |= unopened > 0;
            }
        }
    }
    Ok(row)
}

/// What the executor needs to store rows of one table and keep its indexes.
struct Executor {
    state: *mut pg_sys::EState,
    result: *mut pg_sys::ResultRelInfo,
}

impl Executor {
    fn new(heap: &Heap) -> Self {
        // SAFETY: an open table, locked for writing, that outlives this. Without a description of triggers there are none.
        unsafe {
            let state = pg_sys::CreateExecutorState();
            let before = pg_sys::MemoryContextSwitchTo((*state).es_query_cxt);
            let result: *mut pg_sys::ResultRelInfo = pg_sys::palloc0(size_of::<pg_sys::ResultRelInfo>()).cast();
            (*result).type_ = pg_sys::NodeTag::T_ResultRelInfo;
            pg_sys::InitResultRelInfo(result, heap.relation(), 0, ptr::null_mut(), 0);
            (*result).ri_TrigDesc = ptr::null_mut();
            (*state).es_snapshot = pg_sys::GetActiveSnapshot();
            pg_sys::ExecOpenIndices(result, false);
            pg_sys::MemoryContextSwitchTo(before);
            Self { state, result }
        }
    }

    /// Stores `new` in place of the tuple in `locked`, as the table's owner: what is his runs with no more than his rights.
    fn update(&mut self, heap: &Heap, locked: &Slot, new: &Slot) {
        // SAFETY: the tuple is locked by this transaction, so that its update waits for nobody and succeeds, or an ERROR ends
        // the statement, which puts user and settings back as it does here.
        unsafe {
            let (mut user, mut context) = (pg_sys::InvalidOid, 0);
            pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
            pg_sys::SetUserIdAndSecContext(heap.owner(), context | pg_sys::SECURITY_RESTRICTED_OPERATION as i32);
            let level = pg_sys::NewGUCNestLevel();
            #[cfg(any(feature = "pg17", feature = "pg18"))]
            pg_sys::RestrictSearchPath();
            pg_sys::ExecSimpleRelationUpdate(self.result, self.state, ptr::null_mut(), locked.get(), new.get());
            pg_sys::AtEOXact_GUC(false, level);
            pg_sys::SetUserIdAndSecContext(user, context);
            let row = (*self.state).es_per_tuple_exprcontext;
            if !row.is_null() {
                pg_sys::MemoryContextReset((*row).ecxt_per_tuple_memory);
            }
        }
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: made by `new`, ended once; when an ERROR is under way, abort closes and frees it.
            unsafe {
                pg_sys::ExecCloseIndices(self.result);
                pg_sys::FreeExecutorState(self.state);
            }
        }
    }
}

// ---- who may, and what ------------------------------------------------------------------

/// 25001: what commits can't be part of a transaction.
pub fn in_transaction(what: &str) -> SqlError {
    SqlError::new(ERRCODE_ACTIVE_SQL_TRANSACTION, format!("{what} cannot run inside a transaction block"))
        .detail("It commits as it goes along.")
        .hint("CALL it by itself, outside of BEGIN and COMMIT.")
}

fn check_kind(table: pg_sys::Oid) -> Result<(), SqlError> {
    // SAFETY: a look-up by OID; 0 for one that names nothing.
    let kind = unsafe { pg_sys::get_rel_relkind(table) } as u8;
    let wrong = |what: &str, hint: &'static str| {
        Err(SqlError::new(ERRCODE_WRONG_OBJECT_TYPE, format!("{} is {what}, not a table", name_of(table))).hint(hint))
    };
    match kind {
        pg_sys::RELKIND_RELATION | pg_sys::RELKIND_PARTITIONED_TABLE => Ok(()),
        0 => Err(SqlError::new(ERRCODE_UNDEFINED_TABLE, format!("there is no table with OID {}", table.to_u32()))),
        pg_sys::RELKIND_MATVIEW => {
            wrong("a materialized view", "Reseal what it reads, then REFRESH MATERIALIZED VIEW.")
        }
        pg_sys::RELKIND_FOREIGN_TABLE => wrong("a foreign table", "Reseal it where it is stored."),
        pg_sys::RELKIND_INDEX | pg_sys::RELKIND_PARTITIONED_INDEX => {
            wrong("an index", "REINDEX INDEX CONCURRENTLY builds it anew under the newest data key.")
        }
        _ => wrong("of another kind", "Name the table whose rows are to be sealed anew."),
    }
}

/// 42501 unless the current user owns the table.
fn check_owner(table: pg_sys::Oid) -> Result<(), SqlError> {
    // SAFETY: look-ups by OID.
    let owns = unsafe {
        let user = pg_sys::GetUserId();
        #[cfg(feature = "pg15")]
        let owns = pg_sys::pg_class_ownercheck(table, user);
        #[cfg(not(feature = "pg15"))]
        let owns = pg_sys::object_ownercheck(pg_sys::RelationRelationId, table, user);
        owns
    };
    match owns {
        true => Ok(()),
        false => {
            Err(SqlError::new(ERRCODE_INSUFFICIENT_PRIVILEGE, format!("must be owner of table {}", name_of(table))))
        }
    }
}

/// Between two batches somebody may have changed the table.
fn check_unchanged(heap: &Heap, place: &Place) -> Result<(), SqlError> {
    match heap.is_heap() && place.columns.iter().all(|column| column.stands(place.relation)) {
        true => Ok(()),
        false if !heap.is_heap() => Err(SqlError::new(
            ERRCODE_FEATURE_NOT_SUPPORTED,
            format!("table {} is stored by an access method other than heap", place.name),
        )
        .hint("ALTER TABLE … SET ACCESS METHOD heap, or UPDATE the column with vectors of your own.")),
        false => Err(SqlError::new(
            ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("table {} was altered while it was resealed", place.name),
        )
        .hint("What is done stays. CALL it again.")),
    }
}

fn gone(name: &str) -> SqlError {
    SqlError::new(ERRCODE_UNDEFINED_TABLE, format!("the table of index \"{name}\" is gone"))
        .hint("sealvec.delete_index() removes what is left of it.")
}

/// A table's name for messages.
fn name_of(table: pg_sys::Oid) -> String {
    // SAFETY: a look-up by OID; null, or a palloc'd C string.
    unsafe {
        let name = pg_sys::get_rel_name(table);
        match name.is_null() {
            true => table.to_u32().to_string(),
            false => format!("\"{}\"", std::ffi::CStr::from_ptr(name).to_string_lossy()),
        }
    }
}
