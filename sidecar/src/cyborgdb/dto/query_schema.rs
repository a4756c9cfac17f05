//! The search requests as OpenAPI describes them. They are read into the types of [`query`](super::query).
#![allow(dead_code, reason = "descriptions")]

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::ToSchema;

/// A vector, or a text that the index's model embeds; or a batch of vectors.
#[derive(ToSchema)]
pub struct QueryRequest {
    /// Name of the index.
    #[schema(example = "my_index")]
    index_name: String,
    /// The index key, 64 hex digits.
    index_key: Option<String>,
    /// One vector, or an array of vectors. A batch of exactly one is answered like one vector.
    query_vectors: Option<OneOrMany>,
    /// A text to embed; ignored beside `query_vectors`.
    query_contents: Option<String>,
    /// Rows per vector, 100 by default.
    #[schema(minimum = 1)]
    top_k: Option<i64>,
    /// Lists to look into; 0 or nothing leaves it to the server.
    #[schema(minimum = 0)]
    n_probes: Option<i64>,
    /// Accepted, without effect: every row is ranked by its exact distance.
    rerank_mult: Option<i64>,
    /// Accepted, without effect.
    greedy: Option<bool>,
    /// Conditions on metadata.
    filters: Option<BTreeMap<String, Value>>,
    /// `distance`, `metadata`; only ids by default.
    #[schema(required = false)]
    include: Vec<String>,
    /// Words to search in the index's `full_text` fields, beside the vector.
    text: Option<String>,
    /// Which of the fields; all by default.
    text_fields: Option<Vec<String>>,
    /// A weight for each of the fields; 1 by default.
    text_field_weights: Option<Vec<f64>>,
    /// Every word must match, not only one.
    require_all_terms: Option<bool>,
    /// Weight of the vector's rank beside that of the text, 0 to 1; 0.5 by default.
    #[schema(minimum = 0, maximum = 1)]
    alpha: Option<f64>,
    /// Smoothing of the ranks; 60 by default.
    rrf_k: Option<f64>,
    /// Candidates of either side, in multiples of `top_k`; 3 by default.
    #[schema(minimum = 1)]
    window_mult: Option<i64>,
}

/// A vector or vectors.
#[derive(serde::Serialize, ToSchema)]
#[serde(untagged)]
enum OneOrMany {
    /// A vector.
    One(Vec<f32>),
    /// Vectors.
    Many(Vec<Vec<f32>>),
}

/// Vectors in binary.
#[derive(ToSchema)]
pub struct BinaryQueryBatch {
    /// Base64 of float32 numbers, little-endian, one row after the other.
    vectors_b64: String,
    /// Numbers of a row.
    #[schema(minimum = 1)]
    dimension: i64,
}

/// As `QueryRequest`, with the vectors in binary.
#[derive(ToSchema)]
pub struct BinaryQueryRequest {
    /// Name of the index.
    #[schema(example = "my_index")]
    index_name: String,
    /// The index key, 64 hex digits.
    index_key: Option<String>,
    /// The vectors. A batch of exactly one is answered like one vector.
    batch: BinaryQueryBatch,
    /// Rows per vector, 100 by default.
    #[schema(minimum = 1)]
    top_k: Option<i64>,
    /// Lists to look into; 0 or nothing leaves it to the server.
    #[schema(minimum = 0)]
    n_probes: Option<i64>,
    /// Accepted, without effect.
    rerank_mult: Option<i64>,
    /// Accepted, without effect.
    greedy: Option<bool>,
    /// Conditions on metadata.
    filters: Option<BTreeMap<String, Value>>,
    /// `distance`, `metadata`; only ids by default.
    #[schema(required = false)]
    include: Vec<String>,
    /// Words to search in the index's `full_text` fields, beside the vector.
    text: Option<String>,
    /// Which of the fields; all by default.
    text_fields: Option<Vec<String>>,
    /// A weight for each of the fields; 1 by default.
    text_field_weights: Option<Vec<f64>>,
    /// Every word must match, not only one.
    require_all_terms: Option<bool>,
    /// Weight of the vector's rank beside that of the text, 0 to 1; 0.5 by default.
    #[schema(minimum = 0, maximum = 1)]
    alpha: Option<f64>,
    /// Smoothing of the ranks; 60 by default.
    rrf_k: Option<f64>,
    /// Candidates of either side, in multiples of `top_k`; 3 by default.
    #[schema(minimum = 1)]
    window_mult: Option<i64>,
}

/// Search by metadata alone.
#[derive(ToSchema)]
pub struct QueryMetadataRequest {
    /// Name of the index.
    #[schema(example = "my_index")]
    index_name: String,
    /// The index key, 64 hex digits.
    index_key: Option<String>,
    /// Conditions on metadata; none matches everything.
    filters: Option<BTreeMap<String, Value>>,
    /// Most rows; 0 or nothing gives all.
    #[schema(minimum = 0)]
    top_k: Option<i64>,
    /// A field to sort by.
    order_by: Option<OrderBy>,
    /// The order of a field that `order_by` names.
    #[schema(default = true, required = false)]
    ascending: bool,
    /// Words to search in the index's `full_text` fields; rows come by their score.
    text: Option<String>,
    /// Which of the fields; all by default.
    text_fields: Option<Vec<String>>,
    /// A weight for each of the fields; 1 by default.
    text_field_weights: Option<Vec<f64>>,
    /// Every word must match, not only one.
    require_all_terms: Option<bool>,
}

/// A field, or `{field: 1}` or `{field: -1}`.
#[derive(serde::Serialize, ToSchema)]
#[serde(untagged)]
enum OrderBy {
    /// A field.
    Field(String),
    /// A field and its direction.
    Direction(BTreeMap<String, i64>),
}
