//! `query_metadata`: the items that a filter finds, without a vector, in an order of metadata.

use pgrx::PgSqlErrorCode::*;
use pgrx::prelude::*;
use pgrx::{IntoDatum, pg_sys};
use sealvec_core::filter::{OrderBy, OrderKey, Schema, Search};
use sealvec_core::item::OpenItem;

use super::call::{Call, Need, Shown};
use super::items::ItemKeys;
use super::names;
use super::payload::json_of;
use super::query::read_filter;
use super::registry::Collection;
use super::rows::Rows;
use super::spi::{self, Spi, Statement};
use crate::datatype::varlena::ArrayArg;
use crate::error::{OrRaise, SqlError};

/// Rows that are fetched at a time.
const FETCH: usize = 1_000;

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
    _text_fields: Option<ArrayArg<'_>>,
    _text_field_weights: Option<ArrayArg<'_>>,
    _require_all_terms: Option<bool>,
    index_key: Option<&[u8]>,
    user_id: Option<&[u8]>,
    user_token: Option<&[u8]>,
    call: pg_sys::FunctionCallInfo,
) -> Option<i32> {
    (|| {
        let opened = Call::open(name, &Shown { index_key, user_id, user_token }, Need::Read)?;
        let collection = &opened.collection;
        let filter = read_filter(filters)?;
        let invalid = |error: sealvec_core::filter::FilterError| {
            SqlError::new(ERRCODE_INVALID_PARAMETER_VALUE, error.to_string())
        };
        schema_of(collection)?.check(&filter, Search::Metadata).map_err(invalid)?;
        let order = json_of(order_by, "order_by")?.unwrap_or_default();
        let order = OrderBy::parse(&order, ascending.unwrap_or(true)).map_err(invalid)?;
        if text.is_some() {
            return Err(SqlError::new(ERRCODE_FEATURE_NOT_SUPPORTED, "full-text search is not there yet"));
        }
        // As the original has it, 0 is all.
        let top_k = match top_k.unwrap_or(0) {
            0 => usize::MAX,
            top_k @ 1.. => top_k as usize,
            top_k => {
                return Err(SqlError::new(
                    ERRCODE_INVALID_PARAMETER_VALUE,
                    format!("top_k must not be negative, got {top_k}"),
                ));
            }
        };
        let mut keys = ItemKeys::new(collection)?;
        let mut found: Vec<(Option<OrderKey>, OpenItem)> = Vec::new();
        spi::connect(|spi| {
            each_item(spi, collection, &mut keys, |item| {
                if filter.matches_json(item.metadata()) {
                    let key = order.as_ref().map(|order| order.key(item.metadata()));
                    found.push((key, item));
                }
                order.is_some() || found.len() < top_k
            })
        })?;
        if let Some(order) = &order {
            let key = |found: &(Option<OrderKey>, OpenItem)| found.0.clone().expect("taken with the item");
            found.sort_by(|a, b| order.compare(&key(a), &key(b)));
        }
        // SAFETY: the call of this very function, which returns a set.
        let mut rows = unsafe { Rows::new(call)? };
        for (rank, (_, item)) in found.iter().take(top_k).enumerate() {
            rows.push(|| {
                [
                    (rank as i32).into_datum(),
                    item.id().into_datum(),
                    None,
                    item.metadata().map(|json| json.text()).into_datum(),
                ]
            });
        }
        Ok(None)
    })()
    .or_raise()
}

/// The policies of a collection's metadata fields.
pub fn schema_of(collection: &Collection) -> Result<Schema, SqlError> {
    match json_of(collection.metadata_schema.as_deref().map(str::as_bytes), "metadata_schema")? {
        None => Ok(Schema::default()),
        Some(json) => Schema::parse(&json)
            .map_err(|error| SqlError::new(ERRCODE_DATA_CORRUPTED, format!("metadata_schema of the index: {error}"))),
    }
}

/// Opens every item of a collection in turn, until `visit` returns false.
pub fn each_item(
    spi: &mut Spi,
    collection: &Collection,
    keys: &mut ItemKeys,
    mut visit: impl FnMut(OpenItem) -> bool,
) -> Result<(), SqlError> {
    let sql = |_: &mut Spi| Ok(format!("SELECT id_token, item FROM {}", names::table(collection.uuid)));
    let mut cursor = spi.open(collection.uuid, Statement::Everything, sql, &[])?;
    loop {
        pgrx::check_for_interrupts!();
        let fetched = cursor.fetch(FETCH);
        for row in fetched.rows() {
            if !visit(keys.open(row.bytes(1), row.bytes(2))?) {
                return Ok(());
            }
        }
        if fetched.len() < FETCH {
            return Ok(());
        }
    }
}
