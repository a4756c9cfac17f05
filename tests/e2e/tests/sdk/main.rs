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

/// Everything is logged that Postgres and auto_explain can log.
const LOGS_EVERYTHING: [&str; 9] = [
    "log_statement=all",
    "log_min_duration_statement=0",
    "log_parameter_max_length=-1",
    "log_parameter_max_length_on_error=-1",
    "log_error_verbosity=verbose",
    "auto_explain.log_min_duration=0",
    "auto_explain.log_verbose=on",
    "auto_explain.log_analyze=on",
    "auto_explain.log_nested_statements=on",
];
