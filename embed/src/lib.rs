//! Text to vectors: all-MiniLM-L6-v2 as sentence-transformers runs it, in Rust, from files on disk.
//!
//! ```text
//! text -> tokens (WordPiece, cut at 256) -> BERT, 6 layers -> mean over tokens -> length 1 -> 384 x f32
//! ```
//!
//! - [`catalog`]: which models there are, loading one once, sharing out a call's texts
//! - [`files`]: where a model's files may lie; [`safetensors`]: reading weights
//! - [`tokens`]: text to token numbers; [`bert`]: the network
//!
//! On two cores of a shared Zen 4 server (AVX-512), texts of 71 tokens on average: 51 texts/s on one thread and 102 on
//! two; one text alone takes 24 ms on one thread and 13 on two (`examples/speed.rs`; `docs/DECISIONS.md` compares).
//!
//! The crate opens no connection: a model that is missing is an error that says how to get it. It logs nothing,
//! and no error quotes a text.

#![forbid(unsafe_code)]

mod bert;
mod catalog;
mod error;
mod files;
mod safetensors;
mod tokens;

pub use catalog::{Catalog, ModelInfo};
pub use error::EmbedError;
