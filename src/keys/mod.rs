//! Keys in the backend: which rings exist, who may open them, and the DEKs open right now.
//!
//! The seam for `datatype` and `index`: [`generation`], and once `core::keys` stands, `ring_by_name`, `ring_by_number`,
//! `with_dek`, `is_open`, `with_session_key`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

static GENERATION: AtomicU64 = AtomicU64::new(1);

/// Called once per backend from `_PG_init`.
pub fn init() {}

/// Changes whenever any DEK is dropped: whatever was derived under an older number is stale.
pub fn generation() -> u64 {
    GENERATION.load(Relaxed)
}
