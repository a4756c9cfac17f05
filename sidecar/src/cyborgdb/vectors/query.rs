//! `POST /v1/vectors/query` and `query_binary`.

use axum::extract::State;
use sealvec_core::filter::{Filter, Search};

use super::super::body::JsonBody;
use super::super::dto::answers::QueryResponse;
use super::super::dto::query::{BinaryQuery, Query, QueryVectors, SearchOptions};
use super::super::dto::query_schema::{BinaryQueryRequest, QueryRequest};
use super::super::dto::vectors::{all_finite, vector_bytes};
use super::super::failure::{Answer, Failure, Failures, json};
use super::super::target::Target;
use super::super::{embedding, rows, text, words};
use crate::auth::Caller;
use crate::sql::{Payload, Vectors};
use crate::state::AppState;

/// Rows per vector if nothing is said.
const TOP_K: i64 = 100;

const SQL: &str = "SELECT query, id, distance, score, metadata FROM sealvec.query($1, $2, top_k => $3, n_probes => $4, \
    filters => $5, include => $6, text => $7, text_fields => $8, text_field_weights => $9, require_all_terms => $10, \
    alpha => $11, rrf_k => $12, window_mult => $13, index_key => $14, user_id => $15)";

/// Items nearest to a vector, or to each of a batch.
#[utoipa::path(
    post, path = "/vectors/query", tag = "vectors", request_body = QueryRequest,
    responses((status = 200, body = QueryResponse), Failures), security(("ApiKey" = [])),
)]
pub async fn query(State(state): State<AppState>, caller: Caller, body: JsonBody) -> Answer {
    let text = body.text()?;
    let query: Query<'_> = text.read()?;
    let options = &query.options;
    let target = target(&state, &caller, words::QUERY, options).await?;
    if !text.is_finite() && all_finite(&query.vectors.bytes) {
        return Err(target.refuse_value(words::NOT_JSON).await);
    }
    if query.vectors.count > 0 {
        return search(&target, query.vectors, options).await;
    }
    let Some(contents) = query.contents.as_deref().filter(|text| !text.is_empty()) else {
        return Err(target.refuse_value(words::NO_QUERY).await);
    };
    let plan = Plan::of(&target, 1, options).await?;
    let Some(model) = target.info().await?.embedding_model else {
        return Err(target.refuse_value(words::NO_MODEL_QUERY).await);
    };
    let bytes = embedding::embed(&state, words::QUERY, &model, vec![contents.to_owned()]).await?;
    plan.run(&target, &QueryVectors::one(bytes), options).await
}

/// As `/query`, with the vectors in binary.
#[utoipa::path(
    post, path = "/vectors/query_binary", tag = "vectors", request_body = BinaryQueryRequest,
    responses((status = 200, body = QueryResponse), Failures), security(("ApiKey" = [])),
)]
pub async fn query_binary(State(state): State<AppState>, caller: Caller, body: JsonBody) -> Answer {
    let text = body.text()?;
    let query: BinaryQuery<'_> = text.read()?;
    let target = target(&state, &caller, words::QUERY_BINARY, &query.options).await?;
    if !text.is_finite() {
        return Err(target.refuse_value(words::NOT_JSON).await);
    }
    let Some(bytes) = vector_bytes(&query.vectors_b64) else {
        return Err(target.refuse_value(words::NO_BASE64).await);
    };
    if bytes.is_empty() {
        return Err(target.refuse_value(words::NO_QUERY_VECTORS).await);
    }
    let row = usize::try_from(query.dimension).ok().and_then(|width| width.checked_mul(4)).filter(|row| *row > 0);
    let Some(row) = row.filter(|row| bytes.len().is_multiple_of(*row)) else {
        let what = format!("vectors_b64 of {} bytes holds no rows of dimension {}", bytes.len(), query.dimension);
        return Err(target.refuse_value(&what).await);
    };
    let vectors = QueryVectors { count: bytes.len() / row, width: Some(row / 4), bytes };
    search(&target, vectors, &query.options).await
}

async fn target<'a>(
    state: &'a AppState,
    caller: &Caller,
    label: &'static str,
    options: &'a SearchOptions<'_>,
) -> Result<Target<'a>, Failure> {
    Target::of(state, caller, label, &options.index_name, options.index_key.as_deref()).await
}

async fn search(target: &Target<'_>, vectors: QueryVectors, options: &SearchOptions<'_>) -> Answer {
    if vectors.width.is_none() {
        return Err(target.refuse_value(&words::ragged(vectors.count)).await);
    }
    if vectors.width == Some(0) {
        return Err(target.refuse_value(words::NO_QUERY_VECTORS).await);
    }
    if !all_finite(&vectors.bytes) {
        return Err(target.refuse_value(words::NOT_FINITE).await);
    }
    Plan::of(target, vectors.count, options).await?.run(target, &vectors, options).await
}

/// What is bound, once every value was found good.
struct Plan {
    top_k: i32,
    n_probes: Option<i32>,
    distance: bool,
    metadata: bool,
}

impl Plan {
    async fn of(target: &Target<'_>, vectors: usize, options: &SearchOptions<'_>) -> Result<Self, Failure> {
        match Self::check(target, vectors, options) {
            Ok((plan, filter)) => {
                if options.text.words().is_some() {
                    let schema = text::schema(target.info().await?.metadata_schema.as_ref());
                    let filtered = filter.map_or(Ok(()), |filter| text::check_filter(&schema, &filter, Search::Hybrid));
                    if let Err(what) = options.text.check_against(&schema, "hybrid").and(filtered) {
                        return Err(target.refuse_value(&what).await);
                    }
                }
                Ok(plan)
            }
            Err(what) => Err(target.refuse_value(&what).await),
        }
    }

    fn check(
        target: &Target<'_>,
        vectors: usize,
        options: &SearchOptions<'_>,
    ) -> Result<(Self, Option<Filter>), String> {
        let limits = &target.state.limits;
        if vectors > limits.batch_max {
            return Err(format!("a request takes at most {} query vectors, not {vectors}", limits.batch_max));
        }
        let top_k = options.top_k.unwrap_or(TOP_K);
        if top_k < 1 {
            return Err(format!("top_k must be at least 1, not {top_k}"));
        }
        let top_k = i32::try_from(top_k).ok().filter(|k| k.unsigned_abs() <= limits.top_k_max);
        let top_k = top_k.ok_or_else(|| format!("top_k exceeds kMaxTopK ({})", limits.top_k_max))?;
        let n_probes = options.n_probes.filter(|probes| *probes != 0);
        if n_probes.is_some_and(|probes| probes < 0) {
            return Err("n_probes must be 0 (left to the server) or more".to_owned());
        }
        options.text.check_alone()?;
        options.fusion.check(options.text.words().is_some())?;
        let filter = options.filters.map(text::parse_filter).transpose()?;
        let includes = |name| options.include.iter().any(|included| included == name);
        let n_probes = n_probes.map(|probes| i32::try_from(probes).unwrap_or(i32::MAX));
        Ok((Self { top_k, n_probes, distance: includes("distance"), metadata: includes("metadata") }, filter))
    }

    async fn run(self, target: &Target<'_>, vectors: &QueryVectors, options: &SearchOptions<'_>) -> Answer {
        let include: &[&str] = match (self.distance, self.metadata) {
            (false, false) => &[],
            (true, false) => &["distance"],
            (false, true) => &["metadata"],
            (true, true) => &["distance", "metadata"],
        };
        let words = options.text.words();
        let fields: Option<Vec<&str>> =
            options.text.text_fields.as_ref().map(|names| names.iter().map(|name| &**name).collect());
        let window = options.fusion.window_mult.map(|mult| i32::try_from(mult).unwrap_or(i32::MAX));
        let found = target
            .try_rows(
                SQL,
                &[
                    &target.call.index,
                    &Vectors::bytes(&vectors.bytes),
                    &self.top_k,
                    &self.n_probes,
                    &options.filters.map(|filters| Payload::text(filters.text())),
                    &include,
                    &words.map(Payload::text),
                    &fields,
                    &options.text.text_field_weights,
                    &options.text.require_all_terms,
                    &options.fusion.alpha,
                    &options.fusion.rrf_k,
                    &window,
                ],
            )
            .await;
        let width = vectors.width.expect("checked before");
        let found = match found {
            Ok(rows) => rows,
            Err(error) => return Err(target.explain(error, width, words::query_dimension).await),
        };
        // SQL divides the bytes by the index's dimension. Two rows of half of it are one to SQL: then the vectors
        // that rows came for are not the vectors that were sent.
        let answered = (0..vectors.count).all(|vector| has_rows(&found, vector)) && !has_rows(&found, vectors.count);
        if !answered && let Some(wrong) = target.wrong_dimension(width, words::query_dimension).await {
            return Err(wrong.into());
        }
        Ok(json(rows::query_results(&found, vectors.count, self.distance, self.metadata)))
    }
}

/// Whether some row is of this vector; rows come in the order of the vectors.
fn has_rows(rows: &[tokio_postgres::Row], vector: usize) -> bool {
    let of = |row: &tokio_postgres::Row| usize::try_from(row.get::<_, i32>(0)).unwrap_or(usize::MAX);
    rows.binary_search_by(|row| of(row).cmp(&vector)).is_ok()
}
