//! What the end-to-end tests stand on: private clusters, real vectors, exact answers, files of a data directory.
//!
//! Nothing here knows sealvec's code: servers are started by the `xtask` program, everything else is SQL, HTTP and files.

pub mod answers;
pub mod cluster;
pub mod data;
pub mod http;
pub mod items;
pub mod kms;
pub mod ledger;
pub mod memory;
pub mod packages;
pub mod page;
pub mod random;
pub mod seal;
pub mod sidecar;
pub mod standby;
pub mod text;
pub mod xtask;

pub use answers::{both_ways, nearest};
pub use cluster::Cluster;
pub use data::Matrix;
pub use http::Http;
pub use random::Random;
pub use sidecar::Sidecar;

use postgres::Client;
use postgres::error::DbError;

/// The error that a statement must give.
pub fn error_of(client: &mut Client, sql: &str) -> DbError {
    match client.batch_execute(sql) {
        Ok(()) => panic!("expected an error from {sql}"),
        Err(error) => error.as_db_error().unwrap_or_else(|| panic!("{sql}: no error of the server: {error}")).clone(),
    }
}

/// Runs statements that must succeed.
pub fn run(client: &mut Client, sql: &str) {
    if let Err(error) = client.batch_execute(sql) {
        panic!("{sql}: {}", said(&error));
    }
}

/// The first column of the only row.
pub fn one<T: for<'a> postgres::types::FromSql<'a>>(client: &mut Client, sql: &str) -> T {
    match client.query_one(sql, &[]) {
        Ok(row) => row.get(0),
        Err(error) => panic!("{sql}: {}", said(&error)),
    }
}

/// An error with all that the server said.
pub fn said(error: &postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => format!(
            "{} {}{}{}",
            error.code().code(),
            error.message(),
            error.detail().map(|detail| format!(" DETAIL: {detail}")).unwrap_or_default(),
            error.hint().map(|hint| format!(" HINT: {hint}")).unwrap_or_default()
        ),
        None => error.to_string(),
    }
}

/// Waits until `ready` gives something; panics with `what` after `seconds`.
pub fn eventually<T>(what: &str, seconds: u64, mut ready: impl FnMut() -> Option<T>) -> T {
    let begun = std::time::Instant::now();
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(begun.elapsed().as_secs() < seconds, "{what}: not within {seconds} s");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}
