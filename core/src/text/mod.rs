//! Full text: BM25 over words of metadata, and its fusion with the ranks of a vector query.
//!
//! An item's score is the sum, over the searched fields f and the query's terms t that it holds, of
//!
//! ```text
//! weight(f) · idf(t, f) · tf · (k1 + 1) / (tf + k1 · (1 − b + b · len / avglen(f)))
//! idf(t, f) = ln(1 + (N − n + 0.5) / (n + 0.5))
//! ```
//!
//! with tf occurrences of t among the len terms of the item's field, avglen the mean of len, N the items that have any
//! term in f, and n those of them that hold t. It is Robertson and Zaragoza's formula (The Probabilistic Relevance
//! Framework, 2009, 3.4) with the idf of Lucene, which is never negative. N, n and avglen are counted
//! over all items, whatever the filter leaves over.
//!
//! There is no index of words: whoever reads one learns the words. A [`TextSearch`] sees the opened metadata of every
//! item once, and keeps what it needs of those that hold a term.
//!
//! A hybrid query ranks by reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009), see [`Fusion`].

mod analyze;
mod error;
mod fusion;
mod query;
mod search;

pub use analyze::{ANALYZER_VERSION, TOKEN_LEN_MAX};
pub use error::TextError;
pub use fusion::{Fusion, FusionArguments};
pub use query::{Bm25, Hybrid, TERMS_MAX, TextArguments, TextQuery};
pub use search::TextSearch;
