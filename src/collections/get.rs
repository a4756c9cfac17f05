//! `get`, `delete`, `list_ids`, `num_vectors`: items by id, and how many there are.

use std::collections::HashMap;

use pgrx::prelude::*;
use pgrx::{IntoDatum, pg_sys};
use sealvec_core::item::IdToken;

use super::call::{Call, Need, Shown, required};
use super::items::ItemKeys;
use super::names;
use super::payload::{ids_of, texts_of};
use super::query_metadata::each_item;
use super::registry::Collection;
use super::rows::Rows;
use super::spi::{self, Fetched, Row, Settings, Spi, Statement};
use crate::datatype::varlena::{ArrayArg, RealArray, Value};
use crate::datatype::with_vector;
use crate::error::{OrRaise, SqlError};

/// Ids that one statement looks up.
pub const LOOK_UP: usize = 100;

/// `get(name, ids, include, …)`
#[pg_extern(sql = false)]
fn sealvec_get(
    name: Option<&str>,
    ids: Option<ArrayArg<'_>>,
    include: Option<ArrayArg<'_>>,
    index_key: Option<&[u8]>,
    user_id: Option<&[u8]>,
    user_token: Option<&[u8]>,
    call: pg_sys::FunctionCallInfo,
) -> Option<i32> {
    (|| {
        let ids = required(ids, "ids")?;
        let ids = ids_of(&ids)?;
        let include = include.as_ref().map(texts_of).transpose()?;
        let asked = |what| include.as_ref().is_none_or(|include| include.contains(&Some(what)));
        let (vector, contents, metadata) = (asked("vector"), asked("contents"), asked("metadata"));
        let opened = Call::open(name, &Shown { index_key, user_id, user_token }, Need::Read)?;
        let collection = &opened.collection;
        let mut keys = ItemKeys::new(collection)?;
        // SAFETY: the call of this very function, which returns a set.
        let mut rows = unsafe { Rows::new(call)? };
        let has_vectors = vector && collection.dimension.is_some();
        let mut rank = 0i32;
        spi::connect(|spi| {
            for ids in ids.chunks(LOOK_UP) {
                pgrx::check_for_interrupts!();
                let tokens: Vec<IdToken> = ids.iter().map(|id| keys.token(id)).collect();
                let fetched = fetch(spi, collection, &tokens, has_vectors)?;
                let found: HashMap<&[u8], Row<'_>> = fetched.rows().map(|row| (row.bytes(1), row)).collect();
                for token in &tokens {
                    let Some(row) = found.get(token.as_slice()) else { continue };
                    let item = keys.open(token, row.bytes(2))?;
                    rows.try_push(|| {
                        let vector = match row.datum(3).filter(|_| has_vectors) {
                            // SAFETY: a sealvec of the row, which lives as long as what was fetched.
                            Some(datum) => {
                                let value = unsafe { Value::from_datum(datum) };
                                Some(with_vector(value, RealArray::new)?.datum())
                            }
                            None => None,
                        };
                        Ok([
                            rank.into_datum(),
                            item.id().into_datum(),
                            vector,
                            contents.then(|| item.contents()).flatten().into_datum(),
                            metadata.then(|| item.metadata().map(|json| json.text())).flatten().into_datum(),
                        ])
                    })?;
                    rank += 1;
                }
            }
            Ok(None)
        })
    })()
    .or_raise()
}

/// The rows with these tokens, in no order: token, item, and the vector if that is wanted.
pub fn fetch(spi: &mut Spi, collection: &Collection, tokens: &[IdToken], vectors: bool) -> Result<Fetched, SqlError> {
    let (statement, vector) = match vectors {
        true => (Statement::FetchWithVector, ", embedding"),
        false => (Statement::Fetch, ""),
    };
    let sql = |_: &mut Spi| {
        let table = names::table(collection.uuid);
        Ok(format!("SELECT id_token, item{vector} FROM {table} WHERE id_token OPERATOR(pg_catalog.=) ANY ($1)"))
    };
    // The plan is kept, and a table is small when it is first asked.
    let settings = Settings::new();
    settings.set(c"enable_seqscan", c"off");
    Ok(spi.execute(collection.uuid, statement, sql, &[token_array(tokens)], true)?.0)
}

fn token_array(tokens: &[IdToken]) -> (pg_sys::Oid, pg_sys::Datum) {
    let tokens: Vec<&[u8]> = tokens.iter().map(|token| token.as_slice()).collect();
    (pg_sys::BYTEAARRAYOID, tokens.into_datum().expect("an array is a Datum"))
}

/// `delete(name, ids, …) → bigint`
#[pg_extern(sql = false)]
fn sealvec_delete(
    name: Option<&str>,
    ids: Option<ArrayArg<'_>>,
    index_key: Option<&[u8]>,
    user_id: Option<&[u8]>,
    user_token: Option<&[u8]>,
) -> i64 {
    (|| {
        let ids = required(ids, "ids")?;
        let ids = ids_of(&ids)?;
        let opened = Call::open(name, &Shown { index_key, user_id, user_token }, Need::Write)?;
        let collection = &opened.collection;
        let keys = ItemKeys::new(collection)?;
        let mut tokens: Vec<IdToken> = ids.iter().map(|id| keys.token(id)).collect();
        tokens.sort_unstable();
        tokens.dedup();
        let sql = |_: &mut Spi| {
            Ok(format!("DELETE FROM {} WHERE id_token OPERATOR(pg_catalog.=) ANY ($1)", names::table(collection.uuid)))
        };
        spi::connect(|spi| {
            // By the index, and so in the order of tokens, as upsert writes: two calls never wait crosswise.
            let settings = Settings::new();
            settings.set(c"enable_seqscan", c"off");
            settings.set(c"enable_bitmapscan", c"off");
            let mut deleted = 0;
            for tokens in tokens.chunks(LOOK_UP) {
                pgrx::check_for_interrupts!();
                deleted += spi.execute(collection.uuid, Statement::Delete, sql, &[token_array(tokens)], false)?.1;
            }
            Ok(deleted as i64)
        })
    })()
    .or_raise()
}

/// `list_ids(name, …)`
#[pg_extern(sql = false)]
fn sealvec_list_ids(
    name: Option<&str>,
    index_key: Option<&[u8]>,
    user_id: Option<&[u8]>,
    user_token: Option<&[u8]>,
    call: pg_sys::FunctionCallInfo,
) -> Option<i32> {
    (|| {
        let opened = Call::open(name, &Shown { index_key, user_id, user_token }, Need::Read)?;
        let collection = &opened.collection;
        let mut keys = ItemKeys::new(collection)?;
        // SAFETY: the call of this very function, which returns a set.
        let mut rows = unsafe { Rows::new(call)? };
        spi::connect(|spi| {
            each_item(spi, collection, &mut keys, |_, item| {
                rows.push(|| [item.id().into_datum()])?;
                Ok(true)
            })
        })?;
        Ok::<_, SqlError>(None)
    })()
    .or_raise()
}

/// `num_vectors(name, …) → bigint`
#[pg_extern(sql = false)]
fn sealvec_num_vectors(
    name: Option<&str>,
    index_key: Option<&[u8]>,
    user_id: Option<&[u8]>,
    user_token: Option<&[u8]>,
) -> i64 {
    (|| {
        let opened = Call::open(name, &Shown { index_key, user_id, user_token }, Need::Read)?;
        let collection = &opened.collection;
        let sql = |_: &mut Spi| Ok(format!("SELECT pg_catalog.count(*) FROM {}", names::table(collection.uuid)));
        spi::connect(|spi| {
            let (fetched, _) = spi.execute(collection.uuid, Statement::Count, sql, &[], true)?;
            Ok(fetched.rows().next().and_then(|row| row.get::<i64>(1)).unwrap_or(0))
        })
    })()
    .or_raise()
}
