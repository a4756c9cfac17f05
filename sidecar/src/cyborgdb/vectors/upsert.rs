//! `POST /v1/vectors/upsert` and `upsert_binary`: one statement, so all of a batch or nothing of it.

use std::borrow::Cow;

use axum::extract::State;
use axum::response::IntoResponse;
use sealvec_core::json::Json;

use super::super::body::JsonBody;
use super::super::dto::answers::Success;
use super::super::dto::vectors::{BinaryUpsertRequest, Items, UpsertRequest, all_finite, vector_bytes};
use super::super::failure::{Answer, Failure, Failures};
use super::super::target::Target;
use super::super::{embedding, words};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::sql::{Payload, Vectors};
use crate::state::AppState;

const SQL: &str = "SELECT sealvec.upsert($1, $2::sealvec.payload[], $3::sealvec.vectors, $4::sealvec.payload[], \
    $5::sealvec.payload[], index_key => $6, user_id => $7)";

/// Writes items. An id that is there already is replaced as a whole.
#[utoipa::path(
    post, path = "/vectors/upsert", tag = "vectors", request_body = UpsertRequest,
    responses((status = 200, body = Success), Failures), security(("ApiKey" = [])),
)]
pub async fn upsert(State(state): State<AppState>, caller: Caller, body: JsonBody) -> Answer {
    let text = body.text()?;
    let UpsertRequest { index_name, index_key, mut items } = text.read()?;
    let target = Target::of(&state, &caller, words::UPSERT, &index_name, index_key.as_deref()).await?;
    if items.ids.is_empty() {
        return Err(target.refuse_value(words::NO_ITEMS).await);
    }
    check_count(&target, items.ids.len()).await?;
    if !all_finite(&items.vectors) {
        return Err(target.refuse_value(words::NOT_FINITE).await);
    }
    if !text.is_finite() {
        return Err(target.refuse_value(words::NOT_JSON).await);
    }
    if items.widths.contains(&None) {
        embed_contents(&target, &mut items).await?;
    }
    let width = one_width(&target, &items).await?;
    write(&target, width, &items.ids, &items.vectors, &items.contents, &items.metadata).await
}

/// As `/upsert`, with the vectors in binary.
#[utoipa::path(
    post, path = "/vectors/upsert_binary", tag = "vectors", request_body = BinaryUpsertRequest,
    responses((status = 200, body = Success), Failures), security(("ApiKey" = [])),
)]
pub async fn upsert_binary(State(state): State<AppState>, caller: Caller, body: JsonBody) -> Answer {
    let text = body.text()?;
    let BinaryUpsertRequest { index_name, index_key, batch } = text.read()?;
    let target = Target::of(&state, &caller, words::UPSERT_BINARY, &index_name, index_key.as_deref()).await?;
    if !text.is_finite() {
        return Err(target.refuse_value(words::NOT_JSON).await);
    }
    let Some(vectors) = vector_bytes(&batch.vectors_b64) else {
        return Err(target.refuse_value(words::NO_BASE64).await);
    };
    let ids = batch.ids.len();
    if ids == 0 && vectors.is_empty() {
        return Err(target.refuse_value(words::NO_ITEMS).await);
    }
    check_count(&target, ids).await?;
    let width = usize::try_from(batch.dimension).unwrap_or(0);
    let row = width.checked_mul(4).filter(|row| *row > 0);
    let Some(row) = row.filter(|row| vectors.len().is_multiple_of(*row)) else {
        let what = format!("vectors_b64 of {} bytes holds no rows of dimension {}", vectors.len(), batch.dimension);
        return Err(target.refuse_value(&what).await);
    };
    let lists = [
        ("vectors", vectors.len() / row),
        ("contents", batch.contents.as_ref().map_or(ids, Vec::len)),
        ("metadata", batch.metadata.as_ref().map_or(ids, Vec::len)),
    ];
    if let Some((name, count)) = lists.into_iter().find(|(_, count)| *count != ids) {
        return Err(target.refuse_value(&format!("expected as many {name} as ids: {ids}, not {count}")).await);
    }
    if !all_finite(&vectors) {
        return Err(target.refuse_value(words::NOT_FINITE).await);
    }
    let contents: Vec<_> = batch.contents.into_iter().flatten().map(|text| text.filter(|t| !t.is_empty())).collect();
    let metadata: Vec<_> =
        batch.metadata.into_iter().flatten().map(|object| object.filter(|o| !o.is_hollow())).collect();
    write(&target, width, &batch.ids, &vectors, &contents, &metadata).await
}

async fn check_count(target: &Target<'_>, count: usize) -> Result<(), Failure> {
    match target.state.limits.check_batch("items", count) {
        Ok(()) => Ok(()),
        Err(error) => Err(target.refuse(error).await),
    }
}

/// Gives each item without a vector that of its contents.
async fn embed_contents(target: &Target<'_>, items: &mut Items<'_>) -> Result<(), Failure> {
    let label = target.call.label;
    let Some(model) = target.info().await?.embedding_model else {
        return Err(ApiError::bad_request(words::invalid(label, words::NO_MODEL_UPSERT)).into());
    };
    let mut texts = Vec::new();
    for (place, (width, contents)) in items.widths.iter().zip(&items.contents).enumerate() {
        match (width, contents) {
            (Some(_), _) => {}
            (None, Some(contents)) => texts.push(contents.clone().into_owned()),
            (None, None) => {
                let what = format!("Item at index {place} is missing both 'vector' and 'contents' fields.");
                return Err(ApiError::bad_request(words::invalid(label, &what)).into());
            }
        }
    }
    let count = texts.len();
    let embedded = embedding::embed(target.state, label, &model, texts).await?;
    let row = embedded.len() / count.max(1);
    let (mut vectors, mut given, mut made) = (Vec::new(), &items.vectors[..], &embedded[..]);
    for width in &mut items.widths {
        let (from, length) = match width {
            Some(width) => (&mut given, *width * 4),
            None => (&mut made, row),
        };
        let (one, rest) = from.split_at(length);
        vectors.extend_from_slice(one);
        *from = rest;
        *width = Some(length / 4);
    }
    items.vectors = vectors;
    Ok(())
}

/// The one width of all vectors; SQL takes them as one run of numbers.
async fn one_width(target: &Target<'_>, items: &Items<'_>) -> Result<usize, Failure> {
    let widths = || items.widths.iter().flatten().copied();
    let first = widths().next().unwrap_or(0);
    if first > 0 && widths().all(|width| width == first) {
        return Ok(first);
    }
    let known = target.info().await?.dimension.and_then(|d| usize::try_from(d).ok());
    let expected = known.unwrap_or_else(|| widths().find(|width| *width > 0).unwrap_or(1));
    let got = widths().find(|width| *width != expected).unwrap_or(0);
    let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let what = words::upsert_dimension(number(expected), number(got));
    Err(ApiError::bad_request(words::invalid(target.call.label, &what)).into())
}

async fn write(
    target: &Target<'_>,
    width: usize,
    ids: &[Cow<'_, str>],
    vectors: &[u8],
    contents: &[Option<Cow<'_, str>>],
    metadata: &[Option<Json<'_>>],
) -> Answer {
    let tokens: Vec<Payload<'_>> = ids.iter().map(|id| Payload::text(id)).collect();
    // No array at all where no element is there: the common case costs nothing.
    let contents: Option<Vec<Option<Payload<'_>>>> = contents
        .iter()
        .any(Option::is_some)
        .then(|| contents.iter().map(|text| text.as_deref().map(Payload::text)).collect());
    let metadata: Option<Vec<Option<Payload<'_>>>> = metadata
        .iter()
        .any(Option::is_some)
        .then(|| metadata.iter().map(|object| object.map(|o| Payload::text(o.text()))).collect());
    let written =
        target.try_rows(SQL, &[&target.call.index, &tokens, &Vectors::bytes(vectors), &contents, &metadata]).await;
    match written {
        Ok(_) => Ok(axum::Json(Success::new(format!("Upserted {} vectors", ids.len()))).into_response()),
        Err(error) => Err(target.explain(error, width, words::upsert_dimension).await),
    }
}
