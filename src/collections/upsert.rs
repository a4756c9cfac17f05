//! `upsert`: items added or replaced, all of a call or none.

use std::ffi::c_int;

use pgrx::PgSqlErrorCode::*;
use pgrx::prelude::*;
use pgrx::{IntoDatum, pg_sys};
use sealvec_core::format::typmod::Typmod;
use sealvec_core::item::{IdToken, Item, ItemInput, sealed_len};
use sealvec_core::json::Json;
use zeroize::Zeroizing;

use super::call::{Call, Need, Shown, required};
use super::create::learn_dimension;
use super::items::ItemKeys;
use super::names;
use super::payload::{ids_of, text_of, texts_of};
use super::registry::Metric;
use super::spi::{self, Spi, Statement};
use super::vectors::{Vectors, wrong_dims};
use crate::datatype::seal;
use crate::datatype::varlena::{ArrayArg, SealedDatum, Value};
use crate::error::{OrRaise, SqlError};
use crate::index::together;

/// Most rows that one statement writes.
const ROWS_MAX: usize = 1_000;
/// Bytes after which a statement takes no further row: arrays of the sealed parts are held in memory, twice, and a
/// Datum ends at 1 GB.
const BYTES_ENOUGH: usize = 16 << 20;

/// `upsert(name, items, …) → bigint`: items as a JSON array of objects.
#[pg_extern(sql = false)]
fn sealvec_upsert_items(
    name: Option<&str>,
    items: Option<&[u8]>,
    index_key: Option<&[u8]>,
    user_id: Option<&[u8]>,
    user_token: Option<&[u8]>,
) -> i64 {
    (|| {
        let text = text_of(required(items, "items")?)?;
        let mut call = Call::open(name, &Shown { index_key, user_id, user_token }, Need::Write)?;
        let items = ItemInput::parse_array(text)?;
        let (mut elements, mut vector) = (Zeroizing::new(Vec::new()), Zeroizing::new(Vec::new()));
        let Some(first) = items.first() else { return Ok(0) };
        read_vector(first, 0, &mut vector)?;
        let dims = dims_of(&mut call, vector.len())?;
        // Never regrown: no copy is left behind. An element takes two bytes of the text at least, so that nobody has more
        // set aside than he has sent.
        reserve(&mut elements, (items.len() * dims).min(text.len() / 2 + 1))?;
        for (place, item) in items.iter().enumerate() {
            read_vector(item, place, &mut vector)?;
            if vector.len() != dims {
                return Err(wrong_dims(dims, vector.len()));
            }
            assert!(elements.capacity() - elements.len() >= dims, "room for every element of the text");
            elements.extend_from_slice(&vector);
        }
        let rows = items.iter().zip(elements.chunks_exact(dims)).map(|(input, vector)| {
            // JSON can write it and no text of Postgres can hold it: the item could not be asked for.
            if input.id().contains('\0') || input.contents().is_some_and(|contents| contents.contains('\0')) {
                return Err(SqlError::new(
                    ERRCODE_CHARACTER_NOT_IN_REPERTOIRE,
                    "an id or contents with a NUL character",
                )
                .hint("Postgres has no text with \\u0000 in it; write binary contents in base64."));
            }
            Ok(Given { id: input.id(), item: input.item(), vector })
        });
        write(&call, rows.collect::<Result<_, SqlError>>()?)?;
        Ok(items.len() as i64)
    })()
    .or_raise()
}

/// `upsert(name, ids, vectors, contents, metadata, …) → bigint`: items field by field.
#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)] // those of the SQL function
fn sealvec_upsert_rows(
    name: Option<&str>,
    ids: Option<ArrayArg<'_>>,
    vectors: Option<Value<'_>>,
    contents: Option<ArrayArg<'_>>,
    metadata: Option<ArrayArg<'_>>,
    index_key: Option<&[u8]>,
    user_id: Option<&[u8]>,
    user_token: Option<&[u8]>,
) -> i64 {
    (|| {
        let ids = required(ids, "ids")?;
        let ids = ids_of(&ids)?;
        let vectors = Vectors::open(required(vectors, "vectors")?)?;
        let mut call = Call::open(name, &Shown { index_key, user_id, user_token }, Need::Write)?;
        let (contents, metadata) =
            (column(&contents, "contents", ids.len())?, column(&metadata, "metadata", ids.len())?);
        if ids.is_empty() {
            return match vectors.len() {
                0 => Ok(0),
                _ => Err(counts_differ("vectors", 0, 1)),
            };
        }
        let told = vectors.dims().unwrap_or(vectors.len() / ids.len());
        let dims = dims_of(&mut call, told)?;
        let vectors = vectors.rows(dims)?;
        let vectors = same_count("vectors", vectors.collect(), ids.len())?;
        let rows = ids.iter().zip(vectors).zip(contents).zip(metadata).map(|(((id, vector), contents), metadata)| {
            let contents = contents.filter(|contents| !contents.is_empty());
            let metadata = metadata.filter(|metadata| !is_hollow(metadata));
            Ok(Given { id, item: Item::new(id, contents, metadata)?, vector })
        });
        write(&call, rows.collect::<Result<_, SqlError>>()?)?;
        Ok(ids.len() as i64)
    })()
    .or_raise()
}

/// One item of a call.
struct Given<'a> {
    id: &'a str,
    item: Item<'a>,
    vector: &'a [f32],
}

/// An ERROR where there is no memory: Rust's own way ends the process, and so the server.
fn reserve(elements: &mut Vec<f32>, count: usize) -> Result<(), SqlError> {
    elements.try_reserve_exact(count).map_err(|_| {
        SqlError::new(ERRCODE_OUT_OF_MEMORY, "no memory for the vectors of a request")
            .hint("Send fewer items at a time.")
    })
}

fn read_vector(item: &ItemInput<'_>, place: usize, out: &mut Vec<f32>) -> Result<(), SqlError> {
    item.vector_into(out)?;
    match out.is_empty() {
        false => Ok(()),
        true => Err(SqlError::new(ERRCODE_INVALID_PARAMETER_VALUE, format!("item {place} has no vector"))
            .hint("The database makes no vectors of contents: a server with the index's embedding_model does.")),
    }
}

/// The collection's dimension; the first upsert's, if nobody told before.
fn dims_of(call: &mut Call, found: usize) -> Result<usize, SqlError> {
    if call.collection.dimension.is_none() {
        if found == 0 {
            return Err(counts_differ("vectors", 1, 0));
        }
        learn_dimension(&mut call.collection, found)?;
    }
    Ok(call.collection.dimension.expect("known or learnt"))
}

/// The elements of an argument that has one for each id, or is left out.
fn column<'a>(array: &Option<ArrayArg<'a>>, what: &'static str, ids: usize) -> Result<Vec<Option<&'a str>>, SqlError> {
    match array {
        None => Ok(vec![None; ids]),
        Some(array) => same_count(what, texts_of(array)?, ids),
    }
}

/// Whether the text of an object has no member; what is no JSON at all is refused later.
fn is_hollow(metadata: &str) -> bool {
    metadata.len() < 16 && Json::parse(metadata).is_ok_and(Json::is_hollow)
}

fn same_count<T>(what: &'static str, found: Vec<T>, expected: usize) -> Result<Vec<T>, SqlError> {
    if found.len() == expected { Ok(found) } else { Err(counts_differ(what, expected, found.len())) }
}

fn counts_differ(what: &'static str, ids: usize, found: usize) -> SqlError {
    SqlError::new(ERRCODE_INVALID_PARAMETER_VALUE, format!("expected as many {what} as ids: {ids}, not {found}"))
        .hint("Each id has one vector, and NULL for contents or metadata that it has not.")
}

/// Seals and writes the items in the order of their tokens, so that two calls never wait for each other crosswise.
fn write(call: &Call, given: Vec<Given<'_>>) -> Result<(), SqlError> {
    let collection = &call.collection;
    let dims = collection.dimension.expect("learnt before");
    let mut keys = ItemKeys::new(collection)?;
    let mut order: Vec<(IdToken, usize)> =
        given.iter().enumerate().map(|(place, item)| (keys.token(item.id), place)).collect();
    order.sort_unstable();
    // Of one id that comes twice the last counts.
    let last = |pair: &[(IdToken, usize)]| pair.len() < 2 || pair[0].0 != pair[1].0;
    let order: Vec<(IdToken, usize)> =
        (0..order.len()).filter(|&i| last(&order[i..(i + 2).min(order.len())])).map(|i| order[i]).collect();
    spi::connect(|spi| {
        let sealvec = names::sealvec_oid(spi)?;
        let mut rest = &order[..];
        while !rest.is_empty() {
            pgrx::check_for_interrupts!();
            let (part, behind) = rest.split_at(part_len(rest, dims, &given)?);
            write_part(spi, call, &mut keys, sealvec, part, &given)?;
            rest = behind;
        }
        Ok(())
    })
}

/// How many rows from the front go into one statement; one at least.
fn part_len(rest: &[(IdToken, usize)], dims: usize, given: &[Given<'_>]) -> Result<usize, SqlError> {
    let (mut rows, mut bytes) = (0, 0);
    for (_, place) in rest.iter().take(ROWS_MAX) {
        bytes += size_of::<f32>() * dims + sealed_len(&given[*place].item)?;
        rows += 1;
        if bytes >= BYTES_ENOUGH {
            break;
        }
    }
    Ok(rows)
}

fn write_part(
    spi: &mut Spi,
    call: &Call,
    keys: &mut ItemKeys,
    sealvec: pg_sys::Oid,
    part: &[(IdToken, usize)],
    given: &[Given<'_>],
) -> Result<(), SqlError> {
    let collection = &call.collection;
    let column = Typmod { dims: collection.dimension.expect("learnt before") as u16, ring: collection.ring };
    let scratch = Scratch::new();
    let mut columns: [Vec<pg_sys::Datum>; 4] = std::array::from_fn(|_| Vec::with_capacity(part.len()));
    for (token, place) in part {
        let item = &given[*place];
        columns[0].push(token.as_slice().into_datum().expect("bytes are a Datum"));
        columns[1].push(keys.seal(token, &item.item)?);
        columns[2].push(SealedDatum::new(&seal::for_column(column, item.vector)?).datum());
        columns[3].push(item.vector.iter().all(|element| *element == 0.0).into());
    }
    let [tokens, items, vectors, zeros] = columns;
    // SAFETY: the types exist; each Datum is of the array's element type.
    let parameters = unsafe {
        let vectors_type = pg_sys::get_array_type(sealvec);
        [
            (pg_sys::BYTEAARRAYOID, array_of(tokens, pg_sys::BYTEAOID)),
            (pg_sys::BYTEAARRAYOID, array_of(items, pg_sys::BYTEAOID)),
            (vectors_type, array_of(vectors, sealvec)),
            (pg_sys::BOOLARRAYOID, array_of(zeros, pg_sys::BOOLOID)),
        ]
    };
    scratch.leave();
    let table = names::table(collection.uuid);
    let (column, parameter, set) = match collection.metric {
        Metric::Cosine => (", is_zero", ", pg_catalog.unnest($4)", ", is_zero = EXCLUDED.is_zero"),
        _ => ("", "", ""),
    };
    let parameters = if parameter.is_empty() { &parameters[..3] } else { &parameters[..] };
    let sql = |_: &mut Spi| {
        Ok(format!(
            "INSERT INTO {table} (id_token, item, embedding{column}) \
             SELECT pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3){parameter} \
             ON CONFLICT (id_token) DO UPDATE SET item = EXCLUDED.item, embedding = EXCLUDED.embedding{set} \
             RETURNING ctid, id_token"
        ))
    };
    let mut execute = || spi.execute(collection.uuid, Statement::Upsert, sql, parameters, false);
    match names::index_oid(collection.uuid).filter(|_| names::is_plain(collection.uuid)) {
        Some(index) => together(index, || {
            let (stored, _) = execute()?;
            let vector_of = |token: &[u8]| {
                // Nothing of a user's runs that could have changed it.
                let place = part.binary_search_by(|(known, _)| known.as_slice().cmp(token));
                given[part[place.expect("a token of this call")].1].vector
            };
            Ok(stored.rows().map(|row| (row.tid(1), vector_of(row.bytes(2)))).collect())
        }),
        None => execute().map(|_| ()),
    }
}

/// An array in the current memory context.
///
/// # Safety
/// `element` is a type, and each Datum of it.
unsafe fn array_of(mut elements: Vec<pg_sys::Datum>, element: pg_sys::Oid) -> pg_sys::Datum {
    let (mut length, mut by_value, mut align) = (0i16, false, 0);
    // SAFETY: the caller's duty.
    unsafe {
        pg_sys::get_typlenbyvalalign(element, &mut length, &mut by_value, &mut align);
        let (data, count) = (elements.as_mut_ptr(), elements.len() as c_int);
        pg_sys::construct_array(data, count, element, length.into(), by_value, align).into()
    }
}

/// A memory context for what one statement is given; freed when the next is prepared, or with SPI's own.
struct Scratch {
    context: pg_sys::MemoryContext,
    before: pg_sys::MemoryContext,
}

impl Scratch {
    fn new() -> Self {
        // SAFETY: a child of the current context, which frees it at the latest.
        unsafe {
            let context = pg_sys::AllocSetContextCreateInternal(
                pg_sys::CurrentMemoryContext,
                c"sealvec upsert".as_ptr(),
                pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            );
            Self { context, before: pg_sys::MemoryContextSwitchTo(context) }
        }
    }

    /// Back to the context before; what was made stays until this is dropped.
    fn leave(&self) {
        // SAFETY: the context that was current when this was made.
        unsafe { pg_sys::MemoryContextSwitchTo(self.before) };
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: made in `new`; nothing in it is used any more. When an ERROR is under way, abort frees it.
            unsafe {
                pg_sys::MemoryContextSwitchTo(self.before);
                pg_sys::MemoryContextDelete(self.context);
            }
        }
    }
}
