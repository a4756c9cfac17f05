//! The SQL type `sealvec(dims, ring)`: input, output, typmod, casts, distances.

/// Called once per backend from `_PG_init`.
pub fn init() {}
