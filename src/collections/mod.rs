//! Collections: CyborgDB's encrypted indexes as SQL functions.
//!
//! A collection is a key ring, a table and a `sealed_ivf` index, known by a name. Each function takes its credential as
//! an argument, opens the ring for its own length ([`call`]), runs ordinary SQL on the table with the rights of whoever
//! calls ([`spi`]), and opens or seals items on the way. Nothing here knows how vectors are sealed or searched.

pub(crate) mod call;
pub(crate) mod create;
mod describe;
mod get;
pub(crate) mod items;
mod kms;
pub(crate) mod names;
mod nearest;
mod payload;
mod query;
mod query_metadata;
pub(crate) mod registry;
pub(crate) mod rows;
pub(crate) mod spi;
mod text;
mod train;
mod upsert;
mod users;
mod vectors;
