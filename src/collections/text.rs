//! Words: the text arguments of `query` and `query_metadata`, and the pass over every item that ranks them.

use std::collections::HashMap;

use pgrx::PgSqlErrorCode::*;
use sealvec_core::filter::{Filter, Schema, Search};
use sealvec_core::item::IdToken;
use sealvec_core::text::{Bm25, FusionArguments, Hybrid, TextArguments, TextError, TextQuery};

use super::get::{LOOK_UP, fetch};
use super::items::{ItemKeys, Kept, Told};
use super::payload::{json_of, text_of};
use super::query_metadata::each_item;
use super::registry::Collection;
use super::spi::{Row, Spi};
use crate::error::SqlError;

/// The text arguments, as they came.
pub struct Given<'a> {
    pub text: Option<&'a [u8]>,
    pub fields: Option<Vec<String>>,
    pub weights: Option<Vec<f64>>,
    pub require_all: Option<bool>,
}

/// An array argument without NULLs.
pub fn whole<T>(array: Option<Vec<Option<T>>>, argument: &str) -> Result<Option<Vec<T>>, SqlError> {
    let Some(array) = array else { return Ok(None) };
    array.into_iter().collect::<Option<Vec<T>>>().map(Some).ok_or_else(|| {
        SqlError::new(ERRCODE_NULL_VALUE_NOT_ALLOWED, format!("argument \"{argument}\" must not contain nulls"))
    })
}

impl Given<'_> {
    fn arguments(&self) -> Result<TextArguments<'_>, SqlError> {
        Ok(TextArguments {
            text: self.text.map(text_of).transpose()?,
            fields: self.fields.as_deref(),
            weights: self.weights.as_deref(),
            require_all: self.require_all,
        })
    }
}

/// The hybrid part of a query, if it has one.
pub fn hybrid(
    collection: &Collection,
    given: &Given<'_>,
    fusion: &FusionArguments,
) -> Result<Option<Hybrid>, SqlError> {
    let schema = schema_of(collection)?;
    let bm25 = bm25_of(collection, &schema)?;
    Hybrid::parse(&given.arguments()?, fusion, &schema, bm25).map_err(refused)
}

/// The text of a `query_metadata`, if it has one.
pub fn text_query(collection: &Collection, given: &Given<'_>, ordered: bool) -> Result<Option<TextQuery>, SqlError> {
    let schema = schema_of(collection)?;
    let bm25 = bm25_of(collection, &schema)?;
    TextQuery::parse(&given.arguments()?, ordered, &schema, bm25).map_err(refused)
}

/// Whether the schema promises what the filter needs where no vector narrows the search.
pub fn check_filter(collection: &Collection, filter: &Filter, search: Search) -> Result<(), SqlError> {
    schema_of(collection)?
        .check(filter, search)
        .map_err(|error| SqlError::new(ERRCODE_INVALID_PARAMETER_VALUE, error.to_string()))
}

/// The policies of a collection's metadata fields.
fn schema_of(collection: &Collection) -> Result<Schema, SqlError> {
    match json_of(collection.metadata_schema.as_deref().map(str::as_bytes), "metadata_schema")? {
        None => Ok(Schema::default()),
        Some(json) => Schema::parse(&json)
            .map_err(|error| SqlError::new(ERRCODE_DATA_CORRUPTED, format!("metadata_schema of the index: {error}"))),
    }
}

fn bm25_of(collection: &Collection, schema: &Schema) -> Result<Bm25, SqlError> {
    Bm25::parse(collection.bm25.0, collection.bm25.1, schema).map_err(refused)
}

/// Quotes nothing of the request: this text goes to the log.
fn refused(error: TextError) -> SqlError {
    SqlError::new(ERRCODE_INVALID_PARAMETER_VALUE, error.to_string())
}

/// Every item of a collection by number, and those that hold the words, best first.
pub struct Words {
    tokens: Vec<IdToken>,
    by_token: HashMap<IdToken, u64>,
    ranked: Vec<(u64, f64)>,
}

impl Words {
    /// Opens every item once. Those that the filter leaves out count for the frequency of words alone.
    pub fn read(
        spi: &mut Spi,
        collection: &Collection,
        keys: &mut ItemKeys,
        query: &TextQuery,
        filter: &Filter,
    ) -> Result<Self, SqlError> {
        let (mut tokens, mut search) = (Vec::new(), query.search());
        each_item(spi, collection, keys, |token, item| {
            search.add(tokens.len() as u64, item.metadata(), filter.matches_json(item.metadata()));
            tokens.push(*token);
            Ok(true)
        })?;
        let by_token = (0..).zip(&tokens).map(|(row, token)| (*token, row)).collect();
        Ok(Self { tokens, by_token, ranked: search.finish(usize::MAX) })
    }

    /// The number of an item.
    pub fn row(&self, token: &IdToken) -> Option<u64> {
        self.by_token.get(token).copied()
    }

    /// The best rows.
    pub fn best(&self, limit: usize) -> Vec<u64> {
        self.ranked.iter().take(limit).map(|(row, _)| *row).collect()
    }

    /// The best rows with their scores.
    pub fn scored(&self, limit: usize) -> &[(u64, f64)] {
        &self.ranked[..limit.min(self.ranked.len())]
    }

    /// Opens these rows once more, in their order, some at a time; their metadata only if it is asked for.
    pub fn items(
        &self,
        spi: &mut Spi,
        collection: &Collection,
        keys: &mut ItemKeys,
        rows: &[(u64, f64)],
        metadata: bool,
    ) -> Result<Vec<(Told, f64)>, SqlError> {
        let (mut told, mut kept) = (Vec::with_capacity(rows.len()), Kept::default());
        for rows in rows.chunks(LOOK_UP) {
            pgrx::check_for_interrupts!();
            let tokens: Vec<IdToken> = rows.iter().map(|(row, _)| self.tokens[*row as usize]).collect();
            let fetched = fetch(spi, collection, &tokens, false)?;
            let found: HashMap<&[u8], Row<'_>> = fetched.rows().map(|row| (row.bytes(1), row)).collect();
            for (token, (_, score)) in tokens.iter().zip(rows) {
                let Some(row) = found.get(token.as_slice()) else { continue };
                let item = Told::of(&keys.open(token, row.bytes(2))?, metadata);
                kept.count(&item)?;
                told.push((item, *score));
            }
        }
        Ok(told)
    }
}
