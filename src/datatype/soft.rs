//! Soft errors, from Postgres 16 on: text that is no vector is told to a caller who asked to be told, not stopped, as
//! `pg_input_is_valid` and `COPY … (ON_ERROR ignore)` do.
//!
//! Only what is wrong with the text itself is soft. A locked ring, a missing grant or a bug still ends the statement:
//! the same text would do later.

use pgrx::PgSqlErrorCode::{self, *};
use pgrx::pg_sys;

use super::varlena::SealedDatum;
use crate::error::SqlError;

/// Tells the caller of an input function of `error` and returns what it ignores, or raises it.
pub fn tell(error: SqlError, call: pg_sys::FunctionCallInfo) -> SealedDatum {
    if is_about_the_text(error.sqlstate) && save(&error, call) {
        return SealedDatum::ignored();
    }
    error.raise()
}

/// Data exceptions, too many dimensions, and the form of a later version.
fn is_about_the_text(sqlstate: PgSqlErrorCode) -> bool {
    let class = |code: PgSqlErrorCode| code as i32 & 0xfff; // ERRCODE_TO_CATEGORY, which is a macro
    class(sqlstate) == class(ERRCODE_DATA_EXCEPTION)
        || matches!(sqlstate, ERRCODE_PROGRAM_LIMIT_EXCEEDED | ERRCODE_FEATURE_NOT_SUPPORTED)
}

/// No caller asks before Postgres 16.
#[cfg(feature = "pg15")]
fn save(_error: &SqlError, _call: pg_sys::FunctionCallInfo) -> bool {
    false
}

/// `errsave()`, which is a macro; `false` if the caller did not ask.
#[cfg(not(feature = "pg15"))]
fn save(error: &SqlError, call: pg_sys::FunctionCallInfo) -> bool {
    use std::ffi::{CStr, CString, c_char, c_int};

    unsafe extern "C-unwind" {
        fn errcode(code: c_int) -> c_int;
        fn errmsg_internal(format: *const c_char, ...) -> c_int;
        fn errdetail_internal(format: *const c_char, ...) -> c_int;
        fn errhint(format: *const c_char, ...) -> c_int;
    }
    const AS_IT_IS: &CStr = c"%s";

    let text = |text: &str| CString::new(text).expect("no message of ours holds a zero byte");
    let message = text(&error.message);
    let (detail, hint) = (error.detail.as_deref().map(text), error.hint.as_deref().map(text));
    // SAFETY: Postgres calls an input function with a valid call, whose context is null or a node. With an ErrorSaveContext,
    // errsave_start returns and says whether details are wanted; then an error is being built until errsave_finish, which
    // copies it. The texts outlive these calls, which the boundary turns into panics if memory runs out.
    unsafe {
        let context = (*call).context;
        if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_ErrorSaveContext {
            return false;
        }
        if pg_sys::errsave_start(context, c"sealvec".as_ptr()) {
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                errcode(error.sqlstate as c_int);
                errmsg_internal(AS_IT_IS.as_ptr(), message.as_ptr());
                if let Some(detail) = &detail {
                    errdetail_internal(AS_IT_IS.as_ptr(), detail.as_ptr());
                }
                if let Some(hint) = &hint {
                    errhint(AS_IT_IS.as_ptr(), hint.as_ptr());
                }
            });
            pg_sys::errsave_finish(context, c"src/datatype/soft.rs".as_ptr(), line!() as c_int, c"sealvec_in".as_ptr());
        }
        true
    }
}
