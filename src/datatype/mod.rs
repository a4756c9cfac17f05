//! The SQL type `sealvec(dims, ring)`: input, output, typmod, casts, distances.
//!
//! A value is sealed before it becomes a Datum. One that has met no column yet is sealed under the
//! session key ([`seal`]); the length coercion ([`coerce`]) reseals it under the column's ring. Values are
//! opened into wiped memory of the backend ([`opened`]), never into a memory context.

pub mod array;
mod coerce;
pub mod ddl;
mod distance;
pub mod errors;
mod io;
mod opened;
mod repeated;
pub mod reseal;
pub mod seal;
mod soft;
pub mod typmod;
pub mod varlena;

pub use opened::{with_pair, with_vector, with_vector_to_store};
pub use varlena::Value;

/// Called once per backend from `_PG_init`.
pub fn init() {
    opened::init();
}
