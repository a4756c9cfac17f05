//! Bodies of answers. Rows of items are written by [`rows`](crate::cyborgdb::rows), straight from SQL's results;
//! their types here describe them.
#![allow(dead_code, reason = "some are descriptions only")]

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// It was done.
#[derive(Serialize, ToSchema)]
pub struct Success {
    /// `success`.
    #[schema(example = "success")]
    pub status: &'static str,
    /// What was done.
    pub message: String,
}

impl Success {
    /// Says so.
    pub fn new(message: String) -> Self {
        Self { status: "success", message }
    }
}

/// The server is there.
#[derive(Serialize, ToSchema)]
pub struct Health {
    /// `healthy`.
    pub status: &'static str,
    /// `v1`.
    pub api_version: &'static str,
    /// Version of the original whose routes these are.
    pub version: &'static str,
}

/// Names of indexes.
#[derive(Serialize, ToSchema)]
pub struct IndexList {
    /// Sorted.
    pub indexes: Vec<String>,
}

/// What an index is.
#[derive(Serialize, ToSchema)]
pub struct IndexInfo<'a> {
    /// Its name.
    pub index_name: &'a str,
    /// Always `ivfflat`, for clients of 0.14.
    pub index_type: &'static str,
    /// Has lists.
    pub is_trained: bool,
    /// Of its vectors; 0 while none is known.
    pub dimension: i32,
    /// `euclidean`, `squared_euclidean` or `cosine`.
    pub metric: &'a str,
    /// 1 while untrained.
    pub n_lists: i32,
    /// Promises of metadata fields, each policy complete.
    #[schema(value_type = BTreeMap<String, super::indexes::MetadataFieldPolicy>)]
    pub metadata_schema: &'a RawValue,
    /// Parameters of the full-text score, where some field is searched by text.
    pub bm25: Option<Bm25>,
    /// The same again, for clients of 0.14.
    pub index_config: IndexConfig<'a>,
}

/// An index as 0.14 describes it.
#[derive(Serialize, ToSchema)]
pub struct IndexConfig<'a> {
    /// `ivfflat`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Of its vectors.
    pub dimension: i32,
    /// Lists.
    pub n_lists: i32,
    /// Metric.
    pub metric: &'a str,
    /// The model that embeds contents.
    pub embedding_model: Option<&'a str>,
}

/// Parameters of the full-text score.
#[derive(Serialize, ToSchema)]
pub struct Bm25 {
    /// Saturation by frequency.
    pub k1: f64,
    /// Normalisation by length.
    pub b: f64,
    /// Which words count as the same.
    pub analyzer_version: &'static str,
}

/// What is being trained.
#[derive(Serialize, ToSchema)]
pub struct TrainingStatus {
    /// Indexes that are trained now.
    pub training_indexes: Vec<String>,
    /// The first of them.
    pub currently_training: Option<String>,
    /// Always empty: nothing waits.
    pub queued_indexes: Vec<String>,
    /// Rows from which the original trains by itself. This server needs no training.
    pub retrain_threshold: u32,
    /// Whether something is trained now.
    pub worker_running: bool,
    /// Always 0.
    pub worker_pid: u32,
    /// Always empty.
    #[schema(value_type = BTreeMap<String, Value>)]
    pub global_training: BTreeMap<String, bool>,
}

/// A new user and his key.
#[derive(Serialize, ToSchema)]
pub struct NewUser<'a> {
    /// 32 hex digits.
    pub user_id: &'a str,
    /// Shown now and never again.
    pub api_key: &'a str,
}

/// Users of an index.
#[derive(Serialize, ToSchema)]
pub struct Users {
    /// In the order of their ids.
    pub users: Vec<User>,
}

/// A user of an index.
#[derive(Serialize, ToSchema)]
pub struct User {
    /// 32 hex digits.
    pub user_id: String,
    /// `read`, `write`.
    pub permissions: Vec<String>,
}

/// Ids of all items.
#[derive(Serialize, ToSchema)]
pub struct IdList<'a> {
    /// In no order.
    #[schema(value_type = Vec<String>)]
    pub ids: Vec<&'a str>,
    /// How many.
    pub count: usize,
}

/// How many items there are.
#[derive(Serialize, ToSchema)]
pub struct Count {
    /// That many.
    pub result: i64,
}

/// Embedding models that `embedding_model` may name.
#[derive(Serialize, ToSchema)]
pub struct EmbeddingModels<'a> {
    /// All of them.
    pub models: Vec<EmbeddingModel<'a>>,
}

/// An embedding model.
#[derive(Serialize, ToSchema)]
pub struct EmbeddingModel<'a> {
    /// Full name; the part after the slash is enough, in any case.
    pub name: &'a str,
    /// Of its vectors.
    pub dimension: u16,
    /// Tokens that it reads of a text.
    pub max_seq_length: u32,
}

/// What a query found: rows, or rows for each vector of a batch of two or more.
#[derive(Serialize, ToSchema)]
pub struct QueryResponse {
    /// The rows.
    results: Results,
}

/// Rows, or rows for each vector.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum Results {
    /// Of one vector.
    One(Vec<QueryRow>),
    /// Of each vector.
    Many(Vec<Vec<QueryRow>>),
}

/// An item that was found. Members that were not asked for are absent.
#[derive(Serialize, ToSchema)]
pub struct QueryRow {
    /// Its id.
    id: String,
    /// Smaller is nearer.
    #[schema(required = false)]
    distance: f64,
    /// Of a hybrid query, instead of a distance; larger is better.
    #[schema(required = false)]
    score: f64,
    /// Its metadata.
    #[schema(required = false)]
    metadata: BTreeMap<String, Value>,
}

/// Items that were fetched, in the order of the request; missing ones left out.
#[derive(Serialize, ToSchema)]
pub struct GetResponse {
    /// The items.
    results: Vec<GetRow>,
}

/// An item. Members that were not asked for are absent.
#[derive(Serialize, ToSchema)]
pub struct GetRow {
    /// Its id.
    id: String,
    /// Its vector.
    #[schema(required = false)]
    vector: Vec<f32>,
    /// Its contents, empty if it has none.
    #[schema(required = false)]
    contents: String,
    /// Its metadata, empty if it has none.
    #[schema(required = false)]
    metadata: BTreeMap<String, Value>,
}

/// What a search by metadata found.
#[derive(Serialize, ToSchema)]
pub struct QueryMetadataResponse {
    /// The rows.
    results: Vec<MetadataRow>,
    /// Their ids again.
    ids: Vec<String>,
    /// How many.
    count: u64,
}

/// An item that was found by its metadata.
#[derive(Serialize, ToSchema)]
pub struct MetadataRow {
    /// Its id.
    id: String,
    /// Of a text search; larger is better.
    #[schema(required = false)]
    score: f64,
}

/// A failed request.
#[derive(Serialize, ToSchema)]
pub struct ErrorResponse {
    /// The status again.
    status_code: u16,
    /// What is wrong.
    detail: String,
}

/// A body that is not what the route takes.
#[derive(Serialize, ToSchema)]
pub struct ValidationErrorResponse {
    /// 422.
    status_code: u16,
    /// Everything that is wrong with it.
    detail: Vec<ValidationProblem>,
}

/// One thing that is wrong.
#[derive(Serialize, ToSchema)]
pub struct ValidationProblem {
    /// Its kind, as pydantic names it.
    #[serde(rename = "type")]
    kind: String,
    /// Where: `body`, names, places.
    loc: Vec<Value>,
    /// What is wrong.
    msg: String,
    /// What was there, without keys.
    input: Value,
    /// More about it.
    #[schema(required = false)]
    ctx: BTreeMap<String, Value>,
}

/// What was done with keys.
#[derive(Serialize, ToSchema)]
pub struct Audit<'a> {
    /// The newest first.
    pub events: Vec<AuditEvent<'a>>,
}

/// One event.
#[derive(Serialize, ToSchema)]
pub struct AuditEvent<'a> {
    /// RFC 3339, UTC, to the microsecond.
    #[schema(example = "2026-01-31T12:00:00.000000Z")]
    pub time: &'a str,
    /// The database role that logged in.
    pub session_user: Option<&'a str>,
    /// The role whose rights counted.
    pub role: Option<&'a str>,
    /// Where its client is; null on a Unix socket.
    pub client_addr: Option<&'a str>,
    /// Its port.
    pub client_port: Option<i32>,
    /// What it calls itself.
    pub application_name: Option<&'a str>,
    /// Process of the session.
    pub pid: i32,
    /// `unlock`, `grant`, `rotate_kek`, `kms_unwrap`, …
    pub operation: Option<&'a str>,
    /// `ok`, `failed`, `rolled back` or `prepared`.
    pub result: Option<&'a str>,
    /// Of a failure.
    pub sqlstate: Option<&'a str>,
    /// The key ring.
    pub ring: Option<&'a str>,
    /// The key service.
    pub kms: Option<&'a str>,
    /// What else is worth knowing; never a key.
    pub detail: Option<&'a str>,
    /// `table`, or `memory`: gone when the server restarts.
    pub source: &'a str,
}
