//! The access method `sealed_ivf`: callbacks between Postgres and `sealvec_core::ivf`.

/// Called once per backend from `_PG_init`: reloptions and whatever else the access method registers.
pub fn init() {}
