//! Keys in the backend: which rings exist, who may open them, and the DEKs open right now.
//!
//! `datatype` and `index` use what is re-exported here and nothing below it.

mod arena;
mod catalog;
mod export;
mod functions;
mod kek;
mod provider;
mod session;
mod table;
mod watch;

pub use catalog::{RingInfo, ring_by_name, ring_by_number};
pub use session::{generation, is_open, on_close, with_dek, with_session_key};

/// Called once per backend from `_PG_init`.
pub fn init() {
    watch::init();
}
