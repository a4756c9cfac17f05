//! An event as a line of the server's log.

use std::ffi::{CString, c_char, c_int};
use std::ptr;

use pgrx::pg_sys;
use sealvec_core::audit::Line;

use super::event::{self, Event};

/// Level LOG in the server's log alone: no client sees it, whatever its client_min_messages.
const LOG_SERVER_ONLY: c_int = 16;

unsafe extern "C-unwind" {
    fn errstart(level: c_int, domain: *const c_char) -> bool;
    fn errfinish(file: *const c_char, line: c_int, function: *const c_char);
}

/// Writes the line.
///
/// Statement and context are left out: either may hold a key that a client has sent as a literal.
pub fn write(event: &Event) {
    let line = CString::new(line(event)).expect("no character of a line is a control character");
    // SAFETY: what the macro ereport does, at a level that returns; all strings outlive the calls.
    unsafe {
        if errstart(LOG_SERVER_ONLY, ptr::null()) {
            pg_sys::errmsg_internal(c"%s".as_ptr(), line.as_ptr());
            pg_sys::errhidestmt(true);
            pg_sys::errhidecontext(true);
            errfinish(c"log.rs".as_ptr(), 0, c"sealvec_audit".as_ptr());
        }
    }
}

fn line(event: &Event) -> String {
    // SAFETY: reads a setting of the database.
    let is_unicode = unsafe { pg_sys::GetDatabaseEncoding() } == pg_sys::pg_enc::PG_UTF8 as i32;
    let mut line = Line::new(is_unicode);
    let actor = &event.actor;
    line.field("operation", event.operation.as_str()).field("result", event.outcome.as_str());
    if let Some(state) = event.state() {
        line.field("sqlstate", state);
    }
    line.field("session_user", actor.session_user.as_str()).field("role", actor.role.as_str());
    line.field("client", actor.client.as_str()).field("port", &actor.port.to_string());
    line.field("application", actor.application.as_str()).field("pid", &actor.pid.to_string());
    line.field("database", event::database().as_str());
    line.field("ring", event.ring.as_str()).field("kms", event.kms.as_str()).field("detail", event.detail.as_str());
    line.as_str().to_owned()
}
