//! Requests about an index as a whole.

use std::borrow::Cow;

use sealvec_core::json::Json;
use serde::Serialize;
use utoipa::ToSchema;

use super::Body;
use crate::cyborgdb::echo::write_json_string;
use crate::cyborgdb::validate::{Checker, Step};

/// An index, and the key that opens it.
#[derive(ToSchema)]
pub struct IndexOperationRequest<'a> {
    /// Name of the index.
    #[schema(value_type = String, example = "my_index")]
    pub index_name: Cow<'a, str>,
    /// The index key, 64 hex digits. Required where the client holds the key, to be left out where a KMS does.
    #[schema(value_type = Option<String>)]
    pub index_key: Option<Cow<'a, str>>,
}

/// A new index.
#[derive(ToSchema)]
pub struct CreateIndexRequest<'a> {
    /// Its name.
    #[schema(value_type = String, example = "my_index")]
    pub index_name: Cow<'a, str>,
    /// A slot of the key registry. Either this or `index_key`.
    #[schema(value_type = Option<String>)]
    pub kms_name: Option<Cow<'a, str>>,
    /// The index key, 64 hex digits, which every later request shows again. Either this or `kms_name`.
    #[schema(value_type = Option<String>)]
    pub index_key: Option<Cow<'a, str>>,
    /// Dimension of its vectors. 0 or nothing: that of the first vector, or of the embedding model.
    pub dimension: Option<i64>,
    /// The model that embeds `contents` and `query_contents`; see `/v1/embedding-models`.
    #[schema(value_type = Option<String>)]
    pub embedding_model: Option<Cow<'a, str>>,
    /// `euclidean` (the default), `squared_euclidean` or `cosine`.
    #[schema(value_type = Option<String>)]
    pub metric: Option<Cow<'a, str>>,
    /// Precision of the copy that the index scans. The `tq` tiers are accepted and kept as float16.
    #[schema(value_type = Option<StoragePrecision>)]
    pub storage_precision: Option<Cow<'a, str>>,
    /// What is promised of metadata fields: `{field: {filterable, pattern, full_text}}`.
    #[schema(value_type = Option<std::collections::BTreeMap<String, MetadataFieldPolicy>>)]
    pub metadata_schema: Option<Policies<'a>>,
    /// Short for `full_text: true` in `metadata_schema`.
    #[schema(value_type = Option<Vec<String>>)]
    pub text_fields: Option<Vec<Cow<'a, str>>>,
    /// BM25's k1, 1.2 if absent.
    pub bm25_k1: Option<f64>,
    /// BM25's b, 0.75 if absent.
    pub bm25_b: Option<f64>,
}

/// What the original takes for `storage_precision`.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[allow(dead_code, reason = "a description")]
pub enum StoragePrecision {
    /// Four bytes a number.
    Float32,
    /// Two bytes a number.
    Float16,
    /// Kept as float16.
    Tq12,
    /// Kept as float16.
    Tq8,
    /// Kept as float16.
    Tq6,
    /// Kept as float16.
    Tq4,
}

/// What an index promises of a metadata field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct MetadataFieldPolicy {
    /// `query_metadata` and hybrid queries may filter on it.
    #[schema(default = true, required = false)]
    pub filterable: bool,
    /// They may use `$regex` and `$contains` on it.
    #[schema(default = false, required = false)]
    pub pattern: bool,
    /// Its text is searched by `text`.
    #[schema(default = false, required = false)]
    pub full_text: bool,
}

/// A metadata schema: fields in the order they came, every policy complete.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policies<'a>(pub Vec<(Cow<'a, str>, MetadataFieldPolicy)>);

/// A request to cluster an index anew.
#[derive(ToSchema)]
pub struct TrainRequest<'a> {
    /// Name of the index.
    #[schema(value_type = String, example = "my_index")]
    pub index_name: Cow<'a, str>,
    /// The index key, 64 hex digits.
    #[schema(value_type = Option<String>)]
    pub index_key: Option<Cow<'a, str>>,
    /// Lists to make; 0 or nothing leaves it to the server.
    pub n_lists: Option<i64>,
    /// Accepted, without effect.
    #[allow(dead_code, reason = "read for its 422 only")]
    pub batch_size: Option<i64>,
    /// Accepted, without effect.
    #[allow(dead_code, reason = "read for its 422 only")]
    pub max_iters: Option<i64>,
    /// Accepted, without effect.
    #[allow(dead_code, reason = "read for its 422 only")]
    pub tolerance: Option<f64>,
    /// Accepted, without effect.
    #[allow(dead_code, reason = "read for its 422 only")]
    pub max_memory: Option<i64>,
}

impl<'a> Body<'a> for IndexOperationRequest<'a> {
    fn read(c: &mut Checker<'a>, value: Json<'a>) -> Option<Self> {
        let f = c.fields(value)?;
        let index_name = f.required(c, "index_name", Checker::string);
        let index_key = f.optional(c, "index_key", Checker::string);
        Some(Self { index_name: index_name?, index_key })
    }
}

impl<'a> Body<'a> for CreateIndexRequest<'a> {
    fn read(c: &mut Checker<'a>, value: Json<'a>) -> Option<Self> {
        let f = c.fields(value)?;
        let index_name = f.required(c, "index_name", Checker::string);
        let rest = Self {
            index_name: Cow::Borrowed(""),
            kms_name: f.optional(c, "kms_name", Checker::string),
            index_key: f.optional(c, "index_key", Checker::string),
            dimension: f.optional(c, "dimension", Checker::integer),
            embedding_model: f.optional(c, "embedding_model", Checker::string),
            metric: f.optional(c, "metric", Checker::string),
            storage_precision: f.optional(c, "storage_precision", precision),
            metadata_schema: f.optional(c, "metadata_schema", Policies::read),
            text_fields: f.optional(c, "text_fields", Checker::strings),
            bm25_k1: f.optional(c, "bm25_k1", Checker::number),
            bm25_b: f.optional(c, "bm25_b", Checker::number),
        };
        Some(Self { index_name: index_name?, ..rest })
    }
}

const PRECISIONS: [&str; 6] = ["float32", "float16", "tq12", "tq8", "tq6", "tq4"];
const PRECISION_EXPECTED: &str = r#"{"expected":"'float32', 'float16', 'tq12', 'tq8', 'tq6' or 'tq4'"}"#;
const PRECISION_MESSAGE: &str = "Input should be 'float32', 'float16', 'tq12', 'tq8', 'tq6' or 'tq4'";

fn precision<'a>(c: &mut Checker<'a>, value: Json<'a>) -> Option<Cow<'a, str>> {
    let precision = value.string().filter(|text| PRECISIONS.contains(&&**text));
    if precision.is_none() {
        c.note_with("literal_error", PRECISION_MESSAGE, value, Some(PRECISION_EXPECTED));
    }
    precision
}

impl<'a> Body<'a> for TrainRequest<'a> {
    fn read(c: &mut Checker<'a>, value: Json<'a>) -> Option<Self> {
        let f = c.fields(value)?;
        let index_name = f.required(c, "index_name", Checker::string);
        let rest = Self {
            index_name: Cow::Borrowed(""),
            index_key: f.optional(c, "index_key", Checker::string),
            n_lists: f.optional(c, "n_lists", Checker::integer),
            batch_size: f.optional(c, "batch_size", Checker::integer),
            max_iters: f.optional(c, "max_iters", Checker::integer),
            tolerance: f.optional(c, "tolerance", Checker::number),
            max_memory: f.optional(c, "max_memory", Checker::integer),
        };
        Some(Self { index_name: index_name?, ..rest })
    }
}

/// pydantic's `ctx` of an error that a validator of the original raised.
const RAISED: &str = r#"{"error":{}}"#;

impl<'a> Policies<'a> {
    fn read(c: &mut Checker<'a>, value: Json<'a>) -> Option<Self> {
        let object = c.object(value)?;
        let mut policies: Vec<(Cow<'a, str>, MetadataFieldPolicy)> = Vec::new();
        for (name, declared) in object.members() {
            let name = name.string();
            let policy = c.inside(Step::Name(name.clone()), |c| MetadataFieldPolicy::read(c, declared));
            if let Some(policy) = policy {
                policies.retain(|(earlier, _)| *earlier != name); // the last of two counts
                policies.push((name, policy));
            }
        }
        // The original looks at the names once every policy was read well.
        if c.is_clean() && policies.iter().any(|(name, _)| name.trim().is_empty()) {
            let message = "Value error, metadata_schema field names must be non-empty";
            c.note_with("value_error", message, value, Some(RAISED));
            return None;
        }
        Some(Self(policies))
    }

    /// As JSON, every policy with its three members.
    pub fn to_json(&self) -> String {
        let mut out = String::from("{");
        for (place, (name, policy)) in self.0.iter().enumerate() {
            if place > 0 {
                out.push(',');
            }
            write_json_string(name, &mut out);
            out.push(':');
            out.push_str(&serde_json::to_string(policy).expect("three booleans are JSON"));
        }
        out.push('}');
        out
    }

    /// Whether some field's text is searched.
    pub fn has_text(&self) -> bool {
        self.0.iter().any(|(_, policy)| policy.full_text)
    }
}

impl MetadataFieldPolicy {
    fn read<'a>(c: &mut Checker<'a>, value: Json<'a>) -> Option<Self> {
        let f = c.fields(value)?;
        let filterable = f.defaulted(c, "filterable", Checker::boolean);
        let pattern = f.defaulted(c, "pattern", Checker::boolean).unwrap_or(false);
        let full_text = f.defaulted(c, "full_text", Checker::boolean).unwrap_or(false);
        f.forbid_others(c, &["filterable", "pattern", "full_text"]);
        let wrong = if full_text && pattern {
            "Value error, full_text=true is incompatible with pattern=true"
        } else if full_text && filterable == Some(true) {
            "Value error, full_text=true is incompatible with an explicit filterable=true — a full_text field is \
             analyzed rather than exact-match indexed, so it implies filterable=false"
        } else if pattern && filterable == Some(false) {
            "Value error, pattern=true requires filterable=true (the regex dictionary is only built for filterable \
             fields)"
        } else {
            return Some(Self { filterable: filterable.unwrap_or(!full_text), pattern, full_text });
        };
        c.note_with("value_error", wrong, value, Some(RAISED));
        None
    }
}
