//! Text to vectors: all-MiniLM-L6-v2 as sentence-transformers runs it, from files on disk.
//!
//! ```text
//! text -> tokens (WordPiece, cut at 256) -> BERT, 6 layers -> mean over tokens -> length 1 -> 384 x f32
//! ```
//!
//! - [`catalog`]: which models there are, loading one once, sharing out a call's texts
//! - [`files`]: where a model's files may lie
//! - [`tokens`]: text to token numbers, with the crate `tokenizers`; [`bert`]: the network, with candle
//!
//! A text of 71 tokens takes 39 ms of one Zen 4 core, so a thread that has one to itself makes 26 a second
//! (`examples/speed.rs`; `docs/DECISIONS.md` compares).
//!
//! The crate opens no connection: a model that is missing is an error that says how to get it. It logs nothing,
//! and no error quotes a text.
//!
//! Threads are the catalog's own. candle divides its products among the rayon pool that it is called in, whatever
//! `RAYON_NUM_THREADS` says.

#![forbid(unsafe_code)]

mod bert;
mod catalog;
mod error;
mod files;
mod tokens;

pub use catalog::{Catalog, ModelInfo};
pub use error::EmbedError;
