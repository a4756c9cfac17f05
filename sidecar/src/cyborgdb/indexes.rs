//! Routes under `/v1/indexes`, but for users.

use std::collections::BTreeSet;
use std::error::Error;

use axum::extract::State;
use axum::response::IntoResponse;
use bytes::{BufMut, BytesMut};
use serde_json::value::RawValue;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::body::JsonBody;
use super::dto::answers::{Bm25, IndexConfig, IndexInfo, IndexList, Success, TrainingStatus};
use super::dto::indexes::{CreateIndexRequest, IndexOperationRequest, MetadataFieldPolicy, Policies, TrainRequest};
use super::failure::{Answer, Failures};
use super::rows::RawJson;
use super::target::{Target, parse_key};
use super::{embedding, text, words};
use crate::auth::{Admin, AdminOrStranger, Caller};
use crate::error::{ApiError, Call};
use crate::sql::{Kek, ShownKey};
use crate::state::AppState;

/// Largest dimension of an index, as the extension has it.
const DIMENSION_MAX: i64 = 16_000;
/// Characters of an index's name, as the original had it up to 0.17.
const NAME_CHARS_MAX: usize = 255;
const METRICS: [&str; 3] = ["euclidean", "squared_euclidean", "cosine"];
/// Which words the full-text search takes for the same.
const ANALYZER: &str = "en/1;sw=2de831ef7be676b6;snowball-english-utf8-3.0.1";
/// BM25's parameters where none were given.
const BM25_K1: f64 = 1.2;
const BM25_B: f64 = 0.75;
/// What JS 0.14 expects an index to be.
const KIND: &str = "ivfflat";
/// Rows from which the original trains by itself; its clients read it.
const RETRAIN_THRESHOLD: u32 = 65_536;

const LIST_SQL: &str = "SELECT name FROM sealvec.list_indexes() AS name";
const SLOTS_SQL: &str = "SELECT name FROM sealvec.kms_slots ORDER BY name";
const CREATE_SQL: &str = "SELECT sealvec.create_index($1, dimension => $2, metric => $3, index_key => $4, \
    kms_name => $5, storage_precision => $6, embedding_model => $7, metadata_schema => $8, bm25_k1 => $9, \
    bm25_b => $10)::text";
const DESCRIBE_SQL: &str = "SELECT index_name, dimension, metric, embedding_model, is_trained, n_lists, \
    metadata_schema, bm25_k1, bm25_b FROM sealvec.describe_index($1, index_key => $2, user_id => $3)";
const DELETE_SQL: &str = "SELECT sealvec.delete_index($1, index_key => $2, user_id => $3)";
const TRAIN_SQL: &str = "SELECT sealvec.train($1, $2, index_key => $3, user_id => $4)";
const STATUS_SQL: &str = "SELECT index_name FROM sealvec.training_status() WHERE is_training ORDER BY index_name";

/// A `json` argument.
#[derive(Debug)]
struct JsonArgument(String);

impl ToSql for JsonArgument {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::JSON
    }

    to_sql_checked!();
}

fn whole_server() -> Call<'static> {
    Call { label: words::LIST, index: "", by_user: false, with_key: false }
}

/// Names of all indexes.
#[utoipa::path(
    get, path = "/indexes/list", tag = "indexes",
    responses((status = 200, body = IndexList), Failures), security(("ApiKey" = [])),
)]
pub async fn list(State(state): State<AppState>, _: Admin) -> Answer {
    let rows = state.pool.query(LIST_SQL, &[]).await.map_err(ApiError::from_sql(&whole_server()))?;
    let indexes = rows.iter().map(|row| row.get(0)).collect();
    Ok(axum::Json(IndexList { indexes }).into_response())
}

/// A new index.
#[utoipa::path(
    post, path = "/indexes/create", tag = "indexes", request_body = CreateIndexRequest,
    responses((status = 200, body = Success), (status = 409, body = super::dto::answers::ErrorResponse), Failures),
    security(("ApiKey" = [])),
)]
pub async fn create(State(state): State<AppState>, _: Admin, body: JsonBody) -> Answer {
    let text = body.text()?;
    let request: CreateIndexRequest<'_> = text.read()?;
    if !text.is_finite() {
        return Err(invalid(words::NOT_JSON).into());
    }
    let name = &*request.index_name;
    check_name(name)?;
    let key = key_of(&request)?;
    if let Some(slot) = request.kms_name.as_deref().filter(|_| key.is_none()) {
        check_slot(&state, slot).await?;
    }
    let metric = request.metric.as_deref().unwrap_or("euclidean");
    if !METRICS.contains(&metric) {
        return Err(invalid(&format!("Invalid distance metric: {metric}")).into());
    }
    let policies = policies(&request).map_err(|what| invalid(&what))?;
    let mut dimension = dimension_of(&request).map_err(|what| invalid(&what))?;
    let mut model = None;
    if let Some(named) = request.embedding_model.as_deref().filter(|name| !name.is_empty()) {
        let found = embedding::find(&state, words::CREATE, named)?;
        let produced = i32::from(found.dimension);
        if let Some(other) = dimension.filter(|d| *d != produced) {
            let what = format!(
                "dimension {other} does not match embedding model '{}', which produces {produced}.",
                found.name
            );
            return Err(invalid(&what).into());
        }
        // Says now what the first upsert would.
        embedding::embed(&state, words::CREATE, &found.name, vec![String::from("ready?")]).await?;
        (dimension, model) = (Some(produced), Some(found.name));
    }
    let precision = match request.storage_precision.as_deref() {
        None | Some("float32") => "float32",
        Some(_) => "float16", // the tq tiers too: nearer to what was asked than float32, and never worse
    };
    let schema = (!policies.0.is_empty()).then(|| JsonArgument(policies.to_json()));
    let slot = request.kms_name.as_deref().filter(|_| key.is_none());
    let call = Call { label: words::CREATE, index: name, by_user: false, with_key: key.is_some() };
    let key = ShownKey::of_index(name, key.as_ref());
    let params: [&(dyn ToSql + Sync); 10] =
        [&name, &dimension, &metric, &key, &slot, &precision, &model, &schema, &request.bm25_k1, &request.bm25_b];
    state.pool.query_keyed(CREATE_SQL, &params, &[&key]).await.map_err(ApiError::from_sql(&call))?;
    Ok(axum::Json(Success::new(format!("Index '{name}' created successfully"))).into_response())
}

fn invalid(what: &str) -> ApiError {
    ApiError::bad_request(words::invalid(words::CREATE, what))
}

fn check_name(name: &str) -> Result<(), ApiError> {
    if name.is_empty() {
        return Err(ApiError::bad_request("index_name cannot be empty."));
    }
    if name == "default" {
        return Err(ApiError::bad_request("Cannot provision index with reserved name 'default'"));
    }
    if name.chars().count() > NAME_CHARS_MAX {
        return Err(invalid(&format!("Index name cannot be longer than {NAME_CHARS_MAX} characters.")));
    }
    if name.contains('\0') {
        return Err(invalid("Index name cannot hold a NUL character."));
    }
    Ok(())
}

/// The key, or nothing for an index whose key a KMS holds.
fn key_of(request: &CreateIndexRequest<'_>) -> Result<Option<Kek>, ApiError> {
    let key = request.index_key.as_deref().filter(|key| !key.is_empty());
    let slot = request.kms_name.as_deref().filter(|slot| !slot.is_empty());
    match (key, slot) {
        (None, None) => Err(ApiError::bad_request("exactly one of kms_name or index_key must be supplied")),
        (Some(_), Some(slot)) => Err(ApiError::bad_request(format!(
            "index_key must not be supplied alongside kms_name={}. The service generates the KEK via the slot's KMS. \
             Either omit index_key, or omit kms_name to use the SDK-supplied-KEK path.",
            words::python_string(slot)
        ))),
        (Some(key), None) => parse_key(key).map(Some),
        (None, Some(_)) => Ok(None),
    }
}

async fn check_slot(state: &AppState, slot: &str) -> Result<(), ApiError> {
    if let Some(configured) = state.slots.iter().find(|configured| configured.name == slot) {
        configured.check()?;
    }
    let rows = state.pool.query(SLOTS_SQL, &[]).await.map_err(ApiError::from_sql(&whole_server()))?;
    let known: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
    if known.contains(&slot) {
        return Ok(());
    }
    let configured = state.slots.iter().map(|configured| configured.name.as_str());
    let all: BTreeSet<&str> = known.into_iter().chain(configured).collect();
    // The double quotes are the original's: it shows a Python KeyError.
    Err(ApiError::bad_request(format!(
        "\"Unknown KMS registry entry: {}. Known: {}\"",
        words::python_string(slot),
        words::python_list(all)
    )))
}

fn dimension_of(request: &CreateIndexRequest<'_>) -> Result<Option<i32>, String> {
    match request.dimension.unwrap_or(0) {
        0 => Ok(None),
        below if below < 0 => Err(format!("dimension cannot be negative, got {below}")),
        above if above > DIMENSION_MAX => Err(format!("dimension must be <= {DIMENSION_MAX}.")),
        dimension => Ok(i32::try_from(dimension).ok()),
    }
}

/// The schema with `text_fields` in it.
fn policies<'a>(request: &CreateIndexRequest<'a>) -> Result<Policies<'a>, String> {
    let mut policies = request.metadata_schema.clone().unwrap_or_default();
    for field in request.text_fields.iter().flatten() {
        if field.trim().is_empty() {
            return Err("text_fields must be non-empty names.".to_owned());
        }
        match policies.0.iter().find(|(name, _)| name == field) {
            Some((_, policy)) if policy.full_text => {}
            Some(_) => {
                return Err(format!(
                    "metadata_schema[{}]: full_text=True requires filterable=False (a field is either analyzed for \
                     BM25 or exact-match indexed, not both)",
                    words::python_string(field)
                ));
            }
            None => {
                let text = MetadataFieldPolicy { filterable: false, pattern: false, full_text: true };
                policies.0.push((field.clone(), text));
            }
        }
    }
    if !policies.has_text() && (request.bm25_k1.is_some() || request.bm25_b.is_some()) {
        return Err(
            "bm25_k1/bm25_b are BM25 scoring parameters and require at least one full_text field (mark one in \
                    metadata_schema, or pass text_fields)."
                .to_owned(),
        );
    }
    if request.bm25_k1.is_some_and(|k1| !k1.is_finite() || k1 < 0.0) {
        return Err("BM25 k1 must be finite and >= 0.".to_owned());
    }
    if request.bm25_b.is_some_and(|b| !(0.0..=1.0).contains(&b)) {
        return Err("BM25 b must be in [0, 1].".to_owned());
    }
    Ok(policies)
}

/// What an index is.
#[utoipa::path(
    post, path = "/indexes/describe", tag = "indexes", request_body = IndexOperationRequest,
    responses((status = 200, body = IndexInfo), Failures), security(("ApiKey" = [])),
)]
pub async fn describe(State(state): State<AppState>, caller: Caller, body: JsonBody) -> Answer {
    let text = body.text()?;
    let IndexOperationRequest { index_name, index_key } = text.read()?;
    let target = Target::of(&state, &caller, words::DESCRIBE, &index_name, index_key.as_deref()).await?;
    let rows = target.rows(DESCRIBE_SQL, &[&index_name]).await?;
    let row = rows.first().ok_or_else(|| target.call.explain_state("42704", ""))?;
    let (dimension, n_lists) = (row.get::<_, Option<i32>>(1).unwrap_or(0), row.get::<_, i32>(5));
    let metric: &str = row.get(2);
    let schema = row.get::<_, Option<RawJson<'_>>>(6).map_or("{}", |json| json.0);
    let schema: &RawValue = serde_json::from_str(schema).map_err(|_| ApiError::internal())?;
    let (k1, b) = (row.get::<_, Option<f64>>(7), row.get::<_, Option<f64>>(8));
    let searched = text::schema(serde_json::from_str(schema.get()).ok().as_ref());
    let bm25 = searched.fields().any(|(_, policy)| policy.full_text).then(|| Bm25 {
        k1: k1.unwrap_or(BM25_K1),
        b: b.unwrap_or(BM25_B),
        analyzer_version: ANALYZER,
    });
    let info = IndexInfo {
        index_name: row.get(0),
        index_type: KIND,
        // One list is none: clients read "n_lists 1 while untrained".
        is_trained: row.get(4) && n_lists > 1,
        dimension,
        metric,
        n_lists,
        metadata_schema: schema,
        bm25,
        index_config: IndexConfig { kind: KIND, dimension, n_lists, metric, embedding_model: row.get(3) },
    };
    Ok(axum::Json(info).into_response())
}

/// Deletes an index: table, keys and users, in one transaction.
#[utoipa::path(
    post, path = "/indexes/delete", tag = "indexes", request_body = IndexOperationRequest,
    responses((status = 200, body = Success), Failures), security(("ApiKey" = [])),
)]
pub async fn delete(State(state): State<AppState>, Admin(caller): Admin, body: JsonBody) -> Answer {
    let text = body.text()?;
    let IndexOperationRequest { index_name, index_key } = text.read()?;
    let target = Target::of(&state, &caller, words::DELETE_INDEX, &index_name, index_key.as_deref()).await?;
    target.rows(DELETE_SQL, &[&index_name]).await?;
    Ok(axum::Json(Success::new(format!("Index '{index_name}' deleted successfully"))).into_response())
}

/// Clusters an index anew. Never needed; an index of few rows stays as it is.
#[utoipa::path(
    post, path = "/indexes/train", tag = "indexes", request_body = TrainRequest,
    responses((status = 200, body = Success), Failures), security(("ApiKey" = [])),
)]
pub async fn train(State(state): State<AppState>, Admin(caller): Admin, body: JsonBody) -> Answer {
    let text = body.text()?;
    let request: TrainRequest<'_> = text.read()?;
    let name = &*request.index_name;
    let target = Target::of(&state, &caller, words::TRAIN, name, request.index_key.as_deref()).await?;
    if !text.is_finite() {
        return Err(target.refuse_value(words::NOT_JSON).await);
    }
    let n_lists = request.n_lists.filter(|n| *n != 0).map(|n| i32::try_from(n).unwrap_or(i32::MAX));
    if let Some(n) = request.n_lists.filter(|n| !(0..=65_535).contains(n)) {
        return Err(target.refuse_value(&format!("n_lists must be <= 65535; got {n}")).await);
    }
    target.rows(TRAIN_SQL, &[&name, &n_lists]).await?;
    Ok(axum::Json(Success::new(format!("Index '{name}' trained successfully"))).into_response())
}

/// What is being trained. CyborgDB's SDK 0.14 for JavaScript shows no key on this route, which was open in its day: a
/// caller without one is told of no index.
#[utoipa::path(
    get, path = "/indexes/training-status", tag = "indexes",
    responses((status = 200, body = TrainingStatus), Failures), security(("ApiKey" = [])),
)]
pub async fn training_status(State(state): State<AppState>, AdminOrStranger(admin): AdminOrStranger) -> Answer {
    let rows = match admin {
        Some(_) => state.pool.query(STATUS_SQL, &[]).await.map_err(ApiError::from_sql(&whole_server()))?,
        None => Vec::new(),
    };
    let training_indexes: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let status = TrainingStatus {
        currently_training: training_indexes.first().cloned(),
        worker_running: !training_indexes.is_empty(),
        training_indexes,
        queued_indexes: Vec::new(),
        retrain_threshold: RETRAIN_THRESHOLD,
        worker_pid: 0,
        global_training: Default::default(),
    };
    Ok(axum::Json(status).into_response())
}
