//! Bytes and text as they are stored and exchanged.

pub mod text;
pub mod typmod;
pub mod value;

pub use value::MAX_DIMS;
