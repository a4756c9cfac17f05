//! End to end: the promises of the README on whole servers, seen through SQL and files.

mod access;
mod audit;
mod cancel;
mod collections;
mod core_dump;
mod crash;
mod cursor;
mod drivers;
mod idle;
mod key_locks;
mod kms;
mod locked;
mod plaintext;
mod recall;
mod rescan;
mod rotation;
mod subkeys;
mod tamper;
mod users;
