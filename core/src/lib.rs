//! The foundation of sealvec: sealed formats, key logic, the encrypted IVF index, items, metadata filters and full text.
//!
//! Nothing here knows Postgres, touches a file or reads a clock. Pages come in through
//! [`store::PageStore`]; `src/storage` of the extension implements it on shared buffers, and
//! [`store::memory`] in memory, so that the whole index runs in `cargo test`.

#![deny(unsafe_code)] // only the SIMD kernels in `math` opt in

pub mod audit;
pub mod crypto;
pub mod error;
pub mod filter;
pub mod format;
pub mod item;
pub mod ivf;
pub mod json;
pub mod keys;
pub mod math;
pub mod metric;
pub mod store;
pub mod text;
pub mod transport;
pub mod wipe;

pub use error::{Error, Result};
