//! An event as a line of the server's log.

use pgrx::pg_sys;
use sealvec_core::audit::Line;

use super::event::{self, Event};
use crate::tell;

/// Writes the line.
pub fn write(event: &Event) {
    tell::log_bare(&line(event));
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
