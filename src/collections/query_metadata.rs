//! `query_metadata`: the items that a filter finds, or words rank, without a vector, in an order of metadata.

use pgrx::PgSqlErrorCode::*;
use pgrx::prelude::*;
use pgrx::{IntoDatum, pg_sys};
use sealvec_core::filter::{Filter, FilterError, OrderBy, OrderKey, Search};
use sealvec_core::item::{IdToken, OpenItem};

use super::call::{Call, Need, Shown};
use super::items::{ItemKeys, Kept, Told};
use super::names;
use super::payload::json_of;
use super::query::read_filter;
use super::registry::Collection;
use super::rows::Rows;
use super::spi::{self, Batch, Spi, Statement};
use super::text::{self, Given, Words};
use crate::error::{OrRaise, SqlError};

/// `query_metadata(name, filters, top_k, order_by, ascending, text, …)`
#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)] // those of the SQL function
fn sealvec_query_metadata(
    name: Option<&str>,
    filters: Option<&[u8]>,
    top_k: Option<i32>,
    order_by: Option<&[u8]>,
    ascending: Option<bool>,
    text: Option<&[u8]>,
    text_fields: Option<Vec<Option<String>>>,
    text_field_weights: Option<Vec<Option<f64>>>,
    require_all_terms: Option<bool>,
    index_key: Option<&[u8]>,
    user_id: Option<&[u8]>,
    user_token: Option<&[u8]>,
    call: pg_sys::FunctionCallInfo,
) -> Option<i32> {
    (|| {
        let opened = Call::open(name, &Shown { index_key, user_id, user_token }, Need::Read)?;
        let collection = &opened.collection;
        let top_k = check_top_k(top_k)?;
        let filter = read_filter(filters)?;
        let order = json_of(order_by, "order_by")?.unwrap_or_default();
        let order = OrderBy::parse(&order, ascending.unwrap_or(true)).map_err(refused)?;
        let given = Given {
            text,
            fields: text::whole(text_fields, "text_fields")?,
            weights: text::whole(text_field_weights, "text_field_weights")?,
            require_all: require_all_terms,
        };
        let words = text::text_query(collection, &given, order.is_some())?;
        let search = if words.is_some() { Search::Text } else { Search::Metadata };
        text::check_filter(collection, &filter, search)?;
        let mut keys = ItemKeys::new(collection)?;
        let found: Vec<(Told, Option<f64>)> = spi::connect(|spi| match &words {
            None => in_order(spi, collection, &mut keys, &filter, order.as_ref(), top_k),
            Some(query) => {
                let words = Words::read(spi, collection, &mut keys, query, &filter)?;
                let items = words.items(spi, collection, &mut keys, words.scored(top_k), true)?;
                Ok(items.into_iter().map(|(item, score)| (item, Some(score))).collect())
            }
        })?;
        // SAFETY: the call of this very function, which returns a set.
        let mut rows = unsafe { Rows::new(call)? };
        for (rank, (item, score)) in found.iter().enumerate() {
            rows.push(|| {
                [
                    (rank as i32).into_datum(),
                    item.id.as_str().into_datum(),
                    score.into_datum(),
                    item.metadata.as_ref().map(|metadata| metadata.as_str()).into_datum(),
                ]
            })?;
        }
        Ok::<_, SqlError>(None)
    })()
    .or_raise()
}

/// The items that match: the first `top_k` in the order that is asked for, or any.
fn in_order(
    spi: &mut Spi,
    collection: &Collection,
    keys: &mut ItemKeys,
    filter: &Filter,
    order: Option<&OrderBy>,
    top_k: usize,
) -> Result<Vec<(Told, Option<f64>)>, SqlError> {
    let mut found: Vec<(Option<OrderKey>, Told)> = Vec::new();
    let mut kept = Kept::default();
    each_item(spi, collection, keys, |_, item| {
        if filter.matches_json(item.metadata()) {
            let told = Told::of(&item, true);
            kept.count(&told)?;
            found.push((order.map(|order| order.key(item.metadata())), told));
        }
        Ok(order.is_some() || found.len() < top_k)
    })?;
    if let Some(order) = order {
        found.sort_by(|a, b| match (&a.0, &b.0) {
            (Some(a), Some(b)) => order.compare(a, b),
            _ => unreachable!("each item's key was taken with it"),
        });
    }
    found.truncate(top_k);
    Ok(found.into_iter().map(|(_, item)| (item, None)).collect())
}

/// As the original has it, 0 is all.
fn check_top_k(top_k: Option<i32>) -> Result<usize, SqlError> {
    match top_k.unwrap_or(0) {
        0 => Ok(usize::MAX),
        top_k @ 1.. => Ok(top_k as usize),
        top_k => {
            Err(SqlError::new(ERRCODE_INVALID_PARAMETER_VALUE, format!("top_k must not be negative, got {top_k}")))
        }
    }
}

/// Quotes nothing of the request: this text goes to the log.
fn refused(error: FilterError) -> SqlError {
    SqlError::new(ERRCODE_INVALID_PARAMETER_VALUE, error.to_string())
}

/// Opens every item of a collection in turn, until `visit` returns false.
pub fn each_item(
    spi: &mut Spi,
    collection: &Collection,
    keys: &mut ItemKeys,
    mut visit: impl FnMut(&IdToken, OpenItem) -> Result<bool, SqlError>,
) -> Result<(), SqlError> {
    let sql = |_: &mut Spi| Ok(format!("SELECT id_token, item FROM {}", names::table(collection.uuid)));
    let mut cursor = spi.open(collection.uuid, Statement::Everything, sql, &[])?;
    let mut batch = Batch::first(usize::MAX);
    loop {
        pgrx::check_for_interrupts!();
        let fetched = cursor.fetch(batch.len());
        let mut bytes = 0;
        for row in fetched.rows() {
            let (token, sealed) = (row.bytes(1), row.bytes(2));
            bytes += sealed.len();
            let item = keys.open(token, sealed)?;
            if !visit(token.try_into().expect("the item opened under it"), item)? {
                return Ok(());
            }
        }
        if fetched.len() < batch.len() {
            return Ok(());
        }
        batch.next(bytes);
    }
}
