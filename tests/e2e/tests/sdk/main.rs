//! The sidecar as its clients see it: CyborgDB's own SDKs unmodified, the documents' examples, and bad days.

mod concurrency;
mod documents;
mod fuzz;
mod leaks;
mod node;
mod python;
mod readme;
mod restarts;
mod sealed_keys;
mod sealed_logs;
