//! Tells the client, or the server's log, something that is no error, without jumping over anybody.
//!
//! Postgres answers a cancel, a timeout or a conflict with recovery that came meanwhile as the last thing of every report,
//! and a report may run out of memory. pgrx guards its own reports of errors against that and none of the others: the jump
//! would pass over every Rust frame up to whoever called us from C, and what they hold would be held for the life of the backend.
//! Here it becomes a panic, which drops things on its way.

use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;

use pgrx::PgSqlErrorCode;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use pgrx::prelude::*;

use crate::error::SqlError;
use crate::interrupts::Undisturbed;

unsafe extern "C-unwind" {
    fn errstart(level: c_int, domain: *const c_char) -> bool;
    fn errcode(code: c_int) -> c_int;
    fn errmsg_internal(format: *const c_char, ...) -> c_int;
    fn errdetail_internal(format: *const c_char, ...) -> c_int;
    fn errhint(format: *const c_char, ...) -> c_int;
    fn errhidestmt(hide: bool) -> c_int;
    fn errhidecontext(hide: bool) -> c_int;
    fn errfinish(file: *const c_char, line: c_int, function: *const c_char);
}

/// Texts of a report; null for one that it does without.
#[derive(Clone, Copy)]
struct Report {
    level: c_int,
    code: c_int,
    message: *const c_char,
    detail: *const c_char,
    hint: *const c_char,
    /// Without the statement, and the functions that it was made from.
    is_bare: bool,
}

/// Tells `what` at a level that returns.
pub fn tell(level: PgLogLevel, what: &SqlError) {
    let (message, detail, hint) = (c_string(&what.message), what.detail.as_deref(), what.hint.as_deref());
    let (detail, hint) = (detail.map(c_string), hint.map(c_string));
    let text = |text: &Option<CString>| text.as_deref().map_or(ptr::null(), CStr::as_ptr);
    send(Report {
        level: level as c_int,
        code: what.sqlstate as c_int,
        message: message.as_ptr(),
        detail: text(&detail),
        hint: text(&hint),
        is_bare: false,
    });
}

/// Writes a line to the server's log, which no client sees, whatever its client_min_messages.
///
/// Statement and context are left out: either may hold a key that a client has sent as a literal. No interrupt is answered
/// before it returns: it is called while errors are on their way, and while locks may be held.
pub fn log_bare(line: &str) {
    let message = c_string(line);
    let _undisturbed = Undisturbed::start();
    send(Report {
        level: PgLogLevel::LOG_SERVER_ONLY as c_int,
        code: PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION as c_int,
        message: message.as_ptr(),
        detail: ptr::null(),
        hint: ptr::null(),
        is_bare: true,
    });
}

/// What the macro ereport does.
fn send(report: Report) {
    debug_assert!(report.level < PgLogLevel::ERROR as c_int);
    // SAFETY: this thread is the backend's. Nothing in the closure has a destructor, so that it may be jumped over; its texts
    // are C strings of callers who wait for it.
    unsafe {
        pg_guard_ffi_boundary(|| {
            if !errstart(report.level, ptr::null()) {
                return;
            }
            const TEXT: *const c_char = c"%s".as_ptr();
            errcode(report.code);
            errmsg_internal(TEXT, report.message);
            if !report.detail.is_null() {
                errdetail_internal(TEXT, report.detail);
            }
            if !report.hint.is_null() {
                errhint(TEXT, report.hint);
            }
            if report.is_bare {
                errhidestmt(true);
                errhidecontext(true);
            }
            errfinish(c"tell.rs".as_ptr(), 0, c"sealvec".as_ptr());
        });
    }
}

fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', " ")).expect("no NUL is left in it")
}

/// `notice!("…")`: as pgrx's, which must not be used here.
macro_rules! notice {
    ($($text:tt)*) => {
        $crate::tell::tell(
            pgrx::PgLogLevel::NOTICE,
            &$crate::error::SqlError::new(pgrx::PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, format!($($text)*)),
        )
    };
}

/// `warning!("…")`: as pgrx's, which must not be used here.
macro_rules! warning {
    ($($text:tt)*) => {
        $crate::tell::tell(
            pgrx::PgLogLevel::WARNING,
            &$crate::error::SqlError::new(pgrx::PgSqlErrorCode::ERRCODE_WARNING, format!($($text)*)),
        )
    };
}

/// `debug1!("…")`: as pgrx's, which must not be used here.
macro_rules! debug1 {
    ($($text:tt)*) => {
        if pgrx::PgLogLevel::DEBUG1.is_interesting() {
            $crate::tell::tell(
                pgrx::PgLogLevel::DEBUG1,
                &$crate::error::SqlError::new(pgrx::PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, format!($($text)*)),
            );
        }
    };
}

pub(crate) use {debug1, notice, warning};
