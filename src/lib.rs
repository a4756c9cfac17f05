//! sealvec for PostgreSQL: the sealed column type, key rings and the `sealed_ivf` access method.
//!
//! This crate is glue. It turns Datums into Rust values, calls `sealvec-core`, and turns errors into
//! `ereport`. Inside, dependencies run downwards only: `rotation` → [`collections`] → `datatype`, `index` → [`keys`] → [`transport`],
//! [`audit`] → [`guc`], [`error`], [`clock`], `shared`, `tell`; only `index` uses `storage`.

use pgrx::prelude::*;

pub mod audit;
pub mod clock;
pub mod collections;
pub mod datatype;
pub mod error;
pub mod guc;
pub mod index;
mod interrupts;
pub mod keys;
mod rotation;
mod shared;
pub mod storage;
mod tell;
pub mod transport;

pgrx::pg_module_magic!();

/// Runs once per backend, when the first sealvec function is called; no shared_preload_libraries needed.
#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    guc::init();
    shared::request(audit::SHARED_LEN + transport::SHARED_LEN, || {
        audit::begin();
        transport::begin();
    });
    audit::init();
    keys::init();
    datatype::init();
    index::init();
    guc::reserve_prefix();
}
