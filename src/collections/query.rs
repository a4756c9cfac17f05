//! `query`: the nearest items to each vector, through the index, filtered on the way.
//!
//! The index gives rows in the order of their distance for as long as more are asked for, so a filter never leaves
//! fewer rows than there are: it only makes the search longer. An item is opened once, for filter and result.

use pgrx::PgSqlErrorCode::*;
use pgrx::prelude::*;
use pgrx::{IntoDatum, pg_sys};
use sealvec_core::filter::Filter;
use sealvec_core::item::OpenItem;

use super::call::{Call, Need, Shown, required};
use super::items::ItemKeys;
use super::names::{self, Extension};
use super::payload::json_of;
use super::registry::Collection;
use super::rows::Rows;
use super::spi::{self, Settings, Spi, Statement};
use super::vectors::Vectors;
use crate::datatype::seal;
use crate::datatype::varlena::{ArrayArg, SealedDatum, Value};
use crate::error::{OrRaise, SqlError};

/// Most rows that are fetched at a time.
const FETCH_MAX: usize = 1_000;
/// Rows that are fetched first where a filter will refuse some.
const FETCH_FILTERED: usize = 64;

/// `query(name, vectors, top_k, n_probes, filters, include, text, …)`
#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)] // those of the SQL function
fn sealvec_query(
    name: Option<&str>,
    vectors: Option<Value<'_>>,
    top_k: Option<i32>,
    n_probes: Option<i32>,
    filters: Option<&[u8]>,
    include: Option<ArrayArg<'_>>,
    text: Option<&[u8]>,
    _text_fields: Option<ArrayArg<'_>>,
    _text_field_weights: Option<ArrayArg<'_>>,
    _require_all_terms: Option<bool>,
    _alpha: Option<f64>,
    _rrf_k: Option<f64>,
    _window_mult: Option<i32>,
    index_key: Option<&[u8]>,
    user_id: Option<&[u8]>,
    user_token: Option<&[u8]>,
    call: pg_sys::FunctionCallInfo,
) -> Option<i32> {
    (|| {
        let vectors = required(vectors, "vectors")?;
        let opened = Call::open(name, &Shown { index_key, user_id, user_token }, Need::Read)?;
        let collection = &opened.collection;
        let asked = Asked {
            top_k: check_top_k(top_k)?,
            probes: check_probes(n_probes)?,
            filter: read_filter(filters)?,
            include: Include::read(include.as_ref())?,
        };
        if text.is_some() {
            return Err(SqlError::new(ERRCODE_FEATURE_NOT_SUPPORTED, "full-text search is not there yet"));
        }
        let dimension = collection.dimension.ok_or_else(|| no_dimension(collection))?;
        let vectors = Vectors::open(vectors)?;
        // SAFETY: the call of this very function, which returns a set.
        let mut rows = unsafe { Rows::new(call)? };
        let mut keys = ItemKeys::new(collection)?;
        spi::connect(|spi| {
            for (query, vector) in vectors.rows(dimension)?.enumerate() {
                let mut rank = 0i32;
                nearest(spi, collection, &mut keys, vector, &asked, |item, distance| {
                    rows.push(|| {
                        [
                            (query as i32).into_datum(),
                            rank.into_datum(),
                            item.id().into_datum(),
                            distance.into_datum(),
                            None,
                            asked
                                .include
                                .metadata
                                .then(|| item.metadata().map(|json| json.text()))
                                .flatten()
                                .into_datum(),
                        ]
                    });
                    rank += 1;
                })?;
            }
            Ok(None)
        })
    })()
    .or_raise()
}

/// What is asked of each vector.
struct Asked {
    top_k: usize,
    /// `None`: chosen by the index.
    probes: Option<i32>,
    filter: Filter,
    include: Include,
}

/// What a row tells beside the id.
#[derive(Clone, Copy, Default)]
struct Include {
    distance: bool,
    metadata: bool,
}

impl Include {
    /// Names that are not known are ignored, as the original does.
    fn read(include: Option<&ArrayArg<'_>>) -> Result<Self, SqlError> {
        let mut read = Self::default();
        for name in include.map(super::payload::texts_of).transpose()?.into_iter().flatten().flatten() {
            match name {
                "distance" => read.distance = true,
                "metadata" => read.metadata = true,
                _ => {}
            }
        }
        Ok(read)
    }
}

/// Gives `found` the `top_k` nearest items that match, with their distance if that is wanted.
fn nearest(
    spi: &mut Spi,
    collection: &Collection,
    keys: &mut ItemKeys,
    vector: &[f32],
    asked: &Asked,
    mut found: impl FnMut(&OpenItem, Option<f64>),
) -> Result<(), SqlError> {
    let settings = Settings::new();
    for (name, value) in
        [(c"enable_seqscan", c"off"), (c"enable_sort", c"off"), (c"enable_bitmapscan", c"off"), (c"jit", c"off")]
    {
        settings.set(name, value);
    }
    if let Some(probes) = asked.probes {
        let probes = std::ffi::CString::new(probes.to_string()).expect("digits");
        settings.set(c"sealvec.probes", &probes);
    }
    let sealvec = names::sealvec_oid(spi)?;
    let parameter = (sealvec, SealedDatum::new(&seal::for_session(vector)?).datum());
    let statement = match asked.include.distance {
        true => Statement::NearestWithDistance,
        false => Statement::Nearest,
    };
    let sql = |spi: &mut Spi| Ok(select_nearest(&Extension::look(spi)?, collection, statement));
    let mut cursor = spi.open(collection.uuid, statement, sql, &[parameter])?;
    let mut wanted = asked.top_k;
    let mut batch = if asked.filter.is_empty() { wanted } else { FETCH_FILTERED.max(2 * wanted) }.min(FETCH_MAX);
    while wanted > 0 {
        pgrx::check_for_interrupts!();
        let fetched = cursor.fetch(batch);
        for row in fetched.rows() {
            let item = keys.open(row.bytes(1), row.bytes(2))?;
            if asked.filter.is_empty() || asked.filter.matches_json(item.metadata()) {
                let distance = asked.include.distance.then(|| row.get(3).unwrap_or(f64::NAN));
                found(&item, distance.map(|distance| collection.metric.told(distance)));
                wanted -= 1;
                if wanted == 0 {
                    break;
                }
            }
        }
        if fetched.len() < batch {
            break;
        }
        batch = (2 * batch).min(FETCH_MAX);
    }
    Ok(())
}

fn select_nearest(extension: &Extension, collection: &Collection, statement: Statement) -> String {
    let (table, operator) = (names::table(collection.uuid), extension.operator(collection));
    let distance = match statement {
        Statement::NearestWithDistance => format!(", embedding {operator} $1"),
        _ => String::new(),
    };
    format!("SELECT id_token, item{distance} FROM {table} ORDER BY embedding {operator} $1")
}

fn check_top_k(top_k: Option<i32>) -> Result<usize, SqlError> {
    match top_k.unwrap_or(100) {
        top_k @ 1.. => Ok(top_k as usize),
        top_k => Err(SqlError::new(ERRCODE_INVALID_PARAMETER_VALUE, format!("top_k must be at least 1, got {top_k}"))),
    }
}

/// 0 is as none; more than there are lists means all.
fn check_probes(probes: Option<i32>) -> Result<Option<i32>, SqlError> {
    const PROBES_MAX: i32 = 1 << 20; // of sealvec.probes
    match probes.unwrap_or(0) {
        0 => Ok(None),
        probes @ 1.. => Ok(Some(probes.min(PROBES_MAX))),
        probes => {
            Err(SqlError::new(ERRCODE_INVALID_PARAMETER_VALUE, format!("n_probes must not be negative, got {probes}")))
        }
    }
}

/// The filter argument; none is the empty one.
pub fn read_filter(filters: Option<&[u8]>) -> Result<Filter, SqlError> {
    let json = json_of(filters, "filters")?.unwrap_or_default();
    // Display quotes nothing of the filter: this text goes to the log.
    Filter::parse(&json).map_err(|error| SqlError::new(ERRCODE_INVALID_PARAMETER_VALUE, error.to_string()))
}

fn no_dimension(collection: &Collection) -> SqlError {
    SqlError::new(
        ERRCODE_OBJECT_IN_USE,
        format!("index \"{}\" has no dimension yet: the first upsert gives it one", collection.name),
    )
}
