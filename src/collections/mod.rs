//! Collections: CyborgDB's encrypted indexes as SQL functions.
//!
//! A collection is a key ring, a table and a `sealed_ivf` index, known by a name. Each function takes its credential as
//! an argument, opens the ring for its own length ([`call`]), runs ordinary SQL on the table with the rights of whoever
//! calls ([`spi`]), and opens or seals items on the way. Nothing here knows how vectors are sealed or searched.

mod call;
mod create;
mod describe;
mod get;
mod items;
mod kms;
mod names;
mod nearest;
mod payload;
mod query;
mod query_metadata;
mod registry;
mod rows;
mod spi;
mod text;
mod train;
mod upsert;
mod users;
mod vectors;
