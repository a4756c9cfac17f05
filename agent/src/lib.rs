//! The key agent: asks key services on behalf of the database server.
//!
//! A backend of PostgreSQL must not run a network client, so the extension hands each KEK that a key service keeps
//! to this process, over a Unix socket. [`server`] knows who may ask and reads [frames](sealvec_kms::agent);
//! [`service`] finds the slot in the [`registry`], a KEK in the [`cache`], or asks the slot's [`provider`], with
//! [`retry`] and [`breaker`] around each attempt. One provider a file: [`aws_kms`], [`aws_secrets`], [`vault`],
//! [`pkcs11`].
//!
//! Every failure is a [`Refusal`](sealvec_kms::agent::Refusal), sorted by what can be done about it. No text and no
//! event holds a key, a token, a PIN or what a service said in its own words. Keys of ours are wiped; what TLS, HTTP
//! and JSON libraries copied on the way is not.

pub mod aws;
pub mod aws_kms;
pub mod aws_secrets;
pub mod breaker;
pub mod cache;
mod inbox;
mod module;
pub mod pkcs11;
pub mod provider;
pub mod registry;
pub mod retry;
pub mod server;
pub mod service;
pub mod vault;

pub use registry::Registry;
pub use server::{Access, Server};
pub use service::{Limits, Service};

/// Result of everything here that a caller hears of.
pub type Result<T, E = sealvec_kms::agent::Refusal> = std::result::Result<T, E>;
