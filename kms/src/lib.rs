//! Key providers: who keeps a ring's KEK, behind [`sealvec_core::keys::KekProvider`].
//!
//! - [`local`]: a root key in a file beside the server, the embedded default. Protects dumps, backups, WAL
//!   and replicas, not a disk that has the file on it.
//! - [`client`]: the client holds the KEK; nothing is stored.
//! - [`agent`]: what is said to a key agent, which asks the network's key services (crate `sealvec-agent`).
//!
//! This crate may touch files. It never sees a DEK and never logs.

#![forbid(unsafe_code)]

pub mod agent;
pub mod client;
pub mod local;
pub mod root_key;
mod trusted_path;

pub use client::ClientProvider;
pub use local::LocalProvider;
pub use root_key::{RootKey, RootKeyError, RootKeyFile};
