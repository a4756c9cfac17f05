//! `POST /v1/vectors/query_metadata`.

use axum::extract::State;
use sealvec_core::filter::{Filter, OrderBy, Search};
use serde_json::Value;

use super::super::body::JsonBody;
use super::super::dto::answers::QueryMetadataResponse;
use super::super::dto::query::MetadataQuery;
use super::super::dto::query_schema::QueryMetadataRequest;
use super::super::failure::{Answer, Failures, json};
use super::super::target::Target;
use super::super::{rows, text, words};
use crate::auth::Caller;
use crate::sql::Payload;
use crate::state::AppState;

const SQL: &str = "SELECT id, score FROM sealvec.query_metadata($1, filters => $2, top_k => $3, order_by => $4, \
    ascending => $5, text => $6, text_fields => $7, text_field_weights => $8, require_all_terms => $9, \
    index_key => $10, user_id => $11)";

/// Items by their metadata, without a vector.
#[utoipa::path(
    post, path = "/vectors/query_metadata", tag = "vectors", request_body = QueryMetadataRequest,
    responses((status = 200, body = QueryMetadataResponse), Failures), security(("ApiKey" = [])),
)]
pub async fn query_metadata(State(state): State<AppState>, caller: Caller, body: JsonBody) -> Answer {
    let text = body.text()?;
    let query: MetadataQuery<'_> = text.read()?;
    let target =
        Target::of(&state, &caller, words::QUERY_METADATA, &query.index_name, query.index_key.as_deref()).await?;
    if !text.is_finite() {
        return Err(target.refuse_value(words::NOT_JSON).await);
    }
    let filter = match check(&query) {
        Ok(filter) => filter,
        Err(what) => return Err(target.refuse_value(&what).await),
    };
    if filter.is_some() || query.text.words().is_some() {
        let schema = text::schema(target.info().await?.metadata_schema.as_ref());
        let of_text = query.text.words().map_or(Ok(()), |_| query.text.check_against(&schema, "text"));
        let of_filter = filter.map_or(Ok(()), |filter| text::check_filter(&schema, &filter, Search::Metadata));
        if let Err(what) = of_text.and(of_filter) {
            return Err(target.refuse_value(&what).await);
        }
    }
    let top_k = query.top_k.filter(|k| *k != 0).map(|k| i32::try_from(k).unwrap_or(i32::MAX));
    let fields: Option<Vec<&str>> =
        query.text.text_fields.as_ref().map(|names| names.iter().map(|name| &**name).collect());
    let order_by = query.order_by.filter(|order| order.string().is_none_or(|field| !field.is_empty()));
    let found = target
        .rows(
            SQL,
            &[
                &query.index_name,
                &query.filters.map(|filters| Payload::text(filters.text())),
                &top_k,
                &order_by.map(|order| Payload::text(order.text())),
                &query.ascending,
                &query.text.words().map(Payload::text),
                &fields,
                &query.text.text_field_weights,
                &query.text.require_all_terms,
            ],
        )
        .await?;
    Ok(json(rows::metadata_results(&found)))
}

/// What can be refused without a look at the index.
fn check(query: &MetadataQuery<'_>) -> Result<Option<Filter>, String> {
    if let Some(top_k) = query.top_k.filter(|k| *k < 0) {
        return Err(format!("top_k must be 0 (all) or more, not {top_k}"));
    }
    query.text.check_alone()?;
    let filter = query.filters.map(text::parse_filter).transpose()?;
    let Some(order_by) = query.order_by else { return Ok(filter) };
    let order: Value = serde_json::from_str(order_by.text()).map_err(|_| "order_by is unreadable".to_owned())?;
    let ordered = OrderBy::parse(&order, query.ascending).map_err(|error| error.quoting_message())?;
    if ordered.is_some() && query.text.words().is_some() {
        return Err("order_by is not supported together with query text: full-text results are ranked by BM25 score. \
                    Drop order_by, or query without text."
            .to_owned());
    }
    Ok(filter)
}
