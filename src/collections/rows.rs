//! The result of a set-returning function: rows kept in memory until Postgres has taken them.
//!
//! Never spilled: a tuplestore of work_mem writes what is over it to a temporary file, and these rows are in the clear.

use std::ptr;

use pgrx::PgSqlErrorCode::*;
use pgrx::pg_sys;

use crate::error::SqlError;

/// A column's value; `None` for NULL.
pub type Value = Option<pg_sys::Datum>;

/// Most bytes of a result: it lies in memory as a whole.
pub const RESULT_BYTES_MAX: usize = 1 << 30;

/// 54000: a result beyond it.
pub fn too_large() -> SqlError {
    SqlError::new(ERRCODE_PROGRAM_LIMIT_EXCEEDED, "the result is larger than 1 GB")
        .hint("Ask for fewer items at a time, or for less of each.")
}

/// Rows of the result of one call.
pub struct Rows {
    store: *mut pg_sys::Tuplestorestate,
    shape: pg_sys::TupleDesc,
    /// Where the store keeps its rows, and what that held before.
    context: pg_sys::MemoryContext,
    before: usize,
    /// Holds the Datums of a row until the store has copied them.
    scratch: pg_sys::MemoryContext,
}

impl Rows {
    /// For the result of `call`, which Postgres takes when the function returns.
    ///
    /// # Safety
    /// `call` is the current call of a function declared `RETURNS SETOF`.
    pub unsafe fn new(call: pg_sys::FunctionCallInfo) -> Result<Self, SqlError> {
        // SAFETY: the caller's duty; a node tells what it is by its tag. All allocations live as long as the query.
        unsafe {
            let result = (*call).resultinfo.cast::<pg_sys::ReturnSetInfo>();
            let takes_all = !result.is_null()
                && (*result).type_ == pg_sys::NodeTag::T_ReturnSetInfo
                && (*result).allowedModes as u32 & pg_sys::SetFunctionReturnMode::SFRM_Materialize != 0;
            if !takes_all {
                return Err(SqlError::new(
                    ERRCODE_FEATURE_NOT_SUPPORTED,
                    "set-valued function called in context that cannot accept a set",
                ));
            }
            let before = pg_sys::MemoryContextSwitchTo((*(*result).econtext).ecxt_per_query_memory);
            let mut shape = ptr::null_mut();
            let mut scalar = pg_sys::InvalidOid;
            match pg_sys::get_call_result_type(call, &mut scalar, &mut shape) {
                pg_sys::TypeFuncClass::TYPEFUNC_COMPOSITE => {}
                _ => {
                    shape = pg_sys::CreateTemplateTupleDesc(1);
                    pg_sys::TupleDescInitEntry(shape, 1, c"value".as_ptr(), scalar, -1, 0);
                }
            }
            let random = (*result).allowedModes as u32 & pg_sys::SetFunctionReturnMode::SFRM_Materialize_Random != 0;
            let context = pg_sys::CurrentMemoryContext;
            let allocated = pg_sys::MemoryContextMemAllocated(context, false) as usize;
            let store = pg_sys::tuplestore_begin_heap(random, false, i32::MAX);
            (*result).returnMode = pg_sys::SetFunctionReturnMode::SFRM_Materialize;
            (*result).setResult = store;
            (*result).setDesc = shape;
            let scratch = pg_sys::AllocSetContextCreateInternal(
                pg_sys::CurrentMemoryContext,
                c"sealvec rows".as_ptr(),
                pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            );
            pg_sys::MemoryContextSwitchTo(before);
            Ok(Self { store, shape, context, before: allocated, scratch })
        }
    }

    /// Adds the row that `make` makes; what it allocates is freed when the row is in.
    ///
    /// # Errors
    /// 54000 if the result is larger than memory is set aside for.
    pub fn push<const N: usize>(&mut self, make: impl FnOnce() -> [Value; N]) -> Result<(), SqlError> {
        self.try_push(|| Ok(make()))
    }

    /// As [`push`](Self::push), of a row that may fail.
    pub fn try_push<const N: usize>(
        &mut self,
        make: impl FnOnce() -> Result<[Value; N], SqlError>,
    ) -> Result<(), SqlError> {
        // SAFETY: the store and the context live as long as the query; the store copies the row. Should `make` panic,
        // abort resets the current context itself.
        unsafe {
            let before = pg_sys::MemoryContextSwitchTo(self.scratch);
            let row = match make() {
                Ok(row) => row,
                Err(error) => {
                    pg_sys::MemoryContextSwitchTo(before);
                    return Err(error);
                }
            };
            assert_eq!(N, (*self.shape).natts as usize, "a value for each column");
            let mut values = row.map(|value| value.unwrap_or(pg_sys::Datum::null()));
            let mut nulls = row.map(|value| value.is_none());
            pg_sys::tuplestore_putvalues(self.store, self.shape, values.as_mut_ptr(), nulls.as_mut_ptr());
            pg_sys::MemoryContextSwitchTo(before);
            pg_sys::MemoryContextReset(self.scratch);
            let allocated = pg_sys::MemoryContextMemAllocated(self.context, false) as usize;
            match allocated.saturating_sub(self.before) > RESULT_BYTES_MAX {
                false => Ok(()),
                true => Err(too_large()),
            }
        }
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: made by `new`, current nowhere; when an ERROR is under way, abort frees it. Store and descriptor are
            // the executor's by now.
            unsafe { pg_sys::MemoryContextDelete(self.scratch) };
        }
    }
}
