//! `query`: the nearest items to each vector, through the index, filtered on the way; or ranked with a text.
//!
//! The index gives rows in the order of their distance for as long as more are asked for, so a filter never leaves
//! fewer rows than there are: it only makes the search longer. An item is opened once, for filter and result.

use pgrx::PgSqlErrorCode::*;
use pgrx::prelude::*;
use pgrx::{IntoDatum, pg_sys};
use sealvec_core::filter::{self, Filter};
use sealvec_core::text::{Fusion, FusionArguments, Hybrid};

use super::call::{Call, Need, Shown, required};
use super::describe;
use super::items::{ItemKeys, Kept, Told};
use super::nearest::{Search, nearest};
use super::payload::{json_of, texts_of};
use super::registry::Collection;
use super::rows::{Rows, Value as Column};
use super::spi::{self, Spi};
use super::text::{self, Given, Words};
use super::vectors::Vectors;
use crate::datatype::varlena::{ArrayArg, Value};
use crate::error::{OrRaise, SqlError};

/// Rows that are fetched first where a filter will refuse some.
const LIKELY_FILTERED: usize = 64;

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
    text_fields: Option<Vec<Option<String>>>,
    text_field_weights: Option<Vec<Option<f64>>>,
    require_all_terms: Option<bool>,
    alpha: Option<f64>,
    rrf_k: Option<f64>,
    window_mult: Option<i32>,
    index_key: Option<&[u8]>,
    user_id: Option<&[u8]>,
    user_token: Option<&[u8]>,
    call: pg_sys::FunctionCallInfo,
) -> Option<i32> {
    (|| {
        let vectors = required(vectors, "vectors")?;
        let opened = Call::open(name, &Shown { index_key, user_id, user_token }, Need::Read)?;
        let collection = &opened.collection;
        let given = Given {
            text,
            fields: text::whole(text_fields, "text_fields")?,
            weights: text::whole(text_field_weights, "text_field_weights")?,
            require_all: require_all_terms,
        };
        let fusion = FusionArguments { alpha, rrf_k, window_mult: window_mult.map(i64::from) };
        let asked = Asked {
            top_k: check_top_k(top_k)?,
            probes: check_probes(n_probes)?,
            filter: read_filter(filters)?,
            include: Include::read(include.as_ref())?,
            // The original's answers are exact until there are lists. Few rows are meant: to open what the codes' error
            // bounds would pass over costs little.
            is_exact: describe::lists(collection)? == 0,
        };
        let hybrid = text::hybrid(collection, &given, &fusion)?;
        if hybrid.is_some() {
            text::check_filter(collection, &asked.filter, filter::Search::Hybrid)?;
        }
        let dimension = collection.dimension.ok_or_else(|| no_dimension(collection))?;
        let vectors = Vectors::open(vectors)?;
        // SAFETY: the call of this very function, which returns a set.
        let mut rows = unsafe { Rows::new(call)? };
        let mut keys = ItemKeys::new(collection)?;
        spi::connect(|spi| {
            let words = match &hybrid {
                Some(Hybrid { text, fusion }) => {
                    Some((Words::read(spi, collection, &mut keys, text, &asked.filter)?, fusion))
                }
                None => None,
            };
            for (query, vector) in vectors.rows(dimension)?.enumerate() {
                let mut rank = 0i32;
                let mut push = |item: &Told, distance: Option<f64>, score: Option<f64>| {
                    rank += 1;
                    rows.push(|| row(query as i32, rank - 1, item, distance, score))
                };
                match &words {
                    None => {
                        for (item, distance) in asked.nearest(spi, collection, &mut keys, vector)? {
                            push(&item, distance, None)?;
                        }
                    }
                    Some((words, fusion)) => {
                        for (item, score) in asked.fused(spi, collection, &mut keys, vector, words, fusion)? {
                            push(&item, None, Some(score))?;
                        }
                    }
                }
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
    /// Whether the bounds of the index's codes are not to be trusted.
    is_exact: bool,
}

impl Asked {
    /// The nearest items that match.
    fn nearest(
        &self,
        spi: &mut Spi,
        collection: &Collection,
        keys: &mut ItemKeys,
        vector: &[f32],
    ) -> Result<Vec<(Told, Option<f64>)>, SqlError> {
        let likely = if self.filter.is_empty() { self.top_k } else { LIKELY_FILTERED.max(2 * self.top_k) };
        let search = Search { probes: self.probes, likely, distance: self.include.distance, is_exact: self.is_exact };
        let (mut found, mut kept) = (Vec::new(), Kept::default());
        nearest(spi, collection, keys, vector, &search, |item, distance| {
            if self.filter.is_empty() || self.filter.matches_json(item.metadata()) {
                let told = Told::of(&item, self.include.metadata);
                kept.count(&told)?;
                found.push((told, distance));
            }
            Ok(found.len() < self.top_k)
        })?;
        // The bounds of the index's codes are statistical: now and then a row comes later than its distance says.
        found.sort_by(|a, b| a.1.unwrap_or(0.0).total_cmp(&b.1.unwrap_or(0.0)));
        Ok(found)
    }

    /// The best items by the ranks of vectors and words.
    fn fused(
        &self,
        spi: &mut Spi,
        collection: &Collection,
        keys: &mut ItemKeys,
        vector: &[f32],
        words: &Words,
        fusion: &Fusion,
    ) -> Result<Vec<(Told, f64)>, SqlError> {
        let depth = fusion.depth(self.top_k);
        let mut by_vector = Vec::new();
        if fusion.needs_vectors() {
            let leg = Self { top_k: depth, filter: self.filter.clone(), include: Include::default(), ..*self };
            for (item, _) in leg.nearest(spi, collection, keys, vector)? {
                by_vector.extend(words.row(&keys.token(&item.id)));
            }
        }
        let by_text = if fusion.needs_texts() { words.best(depth) } else { Vec::new() };
        let best = fusion.fuse(&by_vector, &by_text, self.top_k);
        words.items(spi, collection, keys, &best, self.include.metadata)
    }
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
        for name in include.map(texts_of).transpose()?.into_iter().flatten().flatten() {
            match name {
                "distance" => read.distance = true,
                "metadata" => read.metadata = true,
                _ => {}
            }
        }
        Ok(read)
    }
}

fn row(query: i32, rank: i32, item: &Told, distance: Option<f64>, score: Option<f64>) -> [Column; 6] {
    [
        query.into_datum(),
        rank.into_datum(),
        item.id.as_str().into_datum(),
        distance.into_datum(),
        score.into_datum(),
        item.metadata.as_ref().map(|metadata| metadata.as_str()).into_datum(),
    ]
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
