//! Buffers, pages and WAL: `sealvec_core::store` on a Postgres relation. Knows nothing of keys or vectors.
