//! The sidecar: CyborgDB's v1 REST routes, each one call of a SQL function of sealvec.
//!
//! A request passes [`server`] (limits, request id, metrics), [`auth`] (who calls, before the body is read),
//! a route of [`cyborgdb`] and one statement through [`db`]; what goes wrong is an [`error::ApiError`].
//! No DEK ever comes here; a caller's KEK is wiped once it was used, the body that it came in is not.

#[cfg(feature = "agent")]
pub mod agent;
pub mod auth;
pub mod config;
pub mod cyborgdb;
pub mod db;
pub mod embed;
pub mod error;
pub mod extract;
pub mod limits;
pub mod seal;
pub mod sealer;
pub mod serve;
pub mod server;
pub mod slots;
pub mod sql;
pub mod state;
pub mod telemetry;
pub mod tls;
pub mod turn;
