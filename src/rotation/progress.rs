//! What a `reseal` under way tells other sessions: a row of sealvec.reseal_job, written with each batch.
//!
//! The table is unlogged: a row says nothing that anybody needs after a crash. That its session is still at it, the view
//! finds out: it compares the moment at which the statement began.

use std::ffi::CStr;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys;

use crate::error::SqlError;
use crate::keys::table::{Key, Table, value};

const JOBS: &CStr = c"reseal_job";

/// Columns of sealvec.reseal_job, as sql/72_rotation.sql numbers them.
const PID: usize = 1;

/// One state of a job.
#[derive(Clone, Copy, Default)]
pub struct State {
    /// The table that was named.
    pub table: pg_sys::Oid,
    /// Of it, its partitions and children, the one that is read now.
    pub relation: pg_sys::Oid,
    /// Which time over.
    pub pass: i32,
    /// How many of them there are, and how many are done in this pass.
    pub relations: (i64, i64),
    /// Pages of the one that is read now, and how many are done.
    pub blocks: (i64, i64),
    /// Rows that were resealed, that others held in this pass, and that have a value that does not open.
    pub rows: (i64, i64, i64),
}

/// Takes the place of what this session told before.
pub fn tell(state: &State) -> Result<(), SqlError> {
    let jobs = forget()?;
    // SAFETY: reads a variable of the backend.
    let begun = unsafe { pg_sys::GetCurrentStatementStartTimestamp() };
    jobs.insert(&[
        value(pid()),
        value(TimestampWithTimeZone::try_from(begun).expect("the server's clock is within the type's range")),
        value(state.table),
        value(state.relation),
        value(state.pass),
        value(state.relations.0),
        value(state.relations.1),
        value(state.blocks.0),
        value(state.blocks.1),
        value(state.rows.0),
        value(state.rows.1),
        value(state.rows.2),
    ]);
    Ok(())
}

/// Nothing is under way in this session.
pub fn end() -> Result<(), SqlError> {
    forget().map(drop)
}

/// Removes the rows of this session, and of those that are gone.
fn forget() -> Result<Table, SqlError> {
    let jobs = Table::open(JOBS, pg_sys::RowExclusiveLock)?;
    let mut gone = vec![pid()];
    jobs.scan(None, &[], |row| {
        let pid: i32 = row.get(PID).unwrap_or_default();
        // SAFETY: looks for a process by its number; null if there is none.
        if unsafe { pg_sys::BackendPidGetProc(pid) }.is_null() {
            gone.push(pid);
        }
        true
    })?;
    gone.sort_unstable();
    gone.dedup();
    for pid in gone {
        jobs.scan(None, &[Key::int4(PID, pid as u32)], |row| {
            jobs.delete(row);
            true
        })?;
    }
    Ok(jobs)
}

fn pid() -> i32 {
    // SAFETY: set once after fork.
    unsafe { pg_sys::MyProcPid }
}
