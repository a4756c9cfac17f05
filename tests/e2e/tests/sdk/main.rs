//! The sidecar as its clients see it: CyborgDB's own SDKs unmodified, the documents' examples, and bad days.

mod concurrency;
mod documents;
mod fuzz;
mod key_services;
mod leaks;
mod node;
mod plain_keys;
mod python;
mod readme;
mod restarts;
mod revoke;
mod sealed_keys;
mod sealed_logs;
