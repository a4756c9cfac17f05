//! Requests that search, as they are read.

use std::borrow::Cow;

use sealvec_core::json::{Json, Kind};

use super::Body;
use crate::cyborgdb::validate::{Checker, Fields, Refusal, Step};

/// Full-text search beside or instead of a vector.
#[derive(Default)]
pub struct TextOptions<'a> {
    /// Words to search.
    pub text: Option<Cow<'a, str>>,
    /// Which `full_text` fields; all by default.
    pub text_fields: Option<Vec<Cow<'a, str>>>,
    /// A weight for each of them.
    pub text_field_weights: Option<Vec<f64>>,
    /// Every word must match.
    pub require_all_terms: Option<bool>,
}

/// How the ranks of text and vector are fused.
#[derive(Default)]
pub struct FusionOptions {
    /// Weight of the vector's rank.
    pub alpha: Option<f64>,
    /// Smoothing of the ranks.
    pub rrf_k: Option<f64>,
    /// Candidates of each side, in multiples of `top_k`.
    pub window_mult: Option<i64>,
}

/// What every vector query has.
#[derive(Default)]
pub struct SearchOptions<'a> {
    /// Name of the index.
    pub index_name: Cow<'a, str>,
    /// The index key.
    pub index_key: Option<Cow<'a, str>>,
    /// Rows per vector.
    pub top_k: Option<i64>,
    /// Lists to look into.
    pub n_probes: Option<i64>,
    /// Conditions on metadata; the empty object is none.
    pub filters: Option<Json<'a>>,
    /// `distance`, `metadata`; others are ignored.
    pub include: Vec<Cow<'a, str>>,
    /// The full-text side.
    pub text: TextOptions<'a>,
    /// Its fusion.
    pub fusion: FusionOptions,
}

/// Vectors of a query: rows of float32 little-endian.
#[derive(Debug, Default, PartialEq)]
pub struct QueryVectors {
    /// All rows behind each other.
    pub bytes: Vec<u8>,
    /// How many. One alone and a batch of one are answered alike.
    pub count: usize,
    /// Numbers of each row; `None` if the rows differ.
    pub width: Option<usize>,
}

/// The body of `/query`, one query or a batch.
pub struct Query<'a> {
    /// What to search with; no row if none was given.
    pub vectors: QueryVectors,
    /// What to embed if there is no vector.
    pub contents: Option<Cow<'a, str>>,
    /// The rest.
    pub options: SearchOptions<'a>,
}

/// The body of `/query_binary`.
pub struct BinaryQuery<'a> {
    /// Base64 of the vectors.
    pub vectors_b64: Cow<'a, str>,
    /// Numbers of a row.
    pub dimension: i64,
    /// The rest.
    pub options: SearchOptions<'a>,
}

/// The body of `/query_metadata`.
pub struct MetadataQuery<'a> {
    /// Name of the index.
    pub index_name: Cow<'a, str>,
    /// The index key.
    pub index_key: Option<Cow<'a, str>>,
    /// Conditions on metadata; the empty object is none.
    pub filters: Option<Json<'a>>,
    /// Most rows.
    pub top_k: Option<i64>,
    /// A string, or an object of integers.
    pub order_by: Option<Json<'a>>,
    /// The order of a field that `order_by` names.
    pub ascending: bool,
    /// The full-text search.
    pub text: TextOptions<'a>,
}

impl<'a> TextOptions<'a> {
    fn read(c: &mut Checker<'a>, f: &Fields<'a>) -> Self {
        Self {
            text: f.optional(c, "text", Checker::string),
            text_fields: f.optional(c, "text_fields", Checker::strings),
            text_field_weights: f.optional(c, "text_field_weights", |c, value| c.list(value, Checker::number)),
            require_all_terms: f.optional(c, "require_all_terms", Checker::boolean),
        }
    }
}

impl<'a> SearchOptions<'a> {
    /// Reads the members in the original's order, which is that of a 422's list. `vectors` reads what stands
    /// between the key and `top_k`.
    fn read<T>(
        c: &mut Checker<'a>,
        f: &Fields<'a>,
        vectors: impl FnOnce(&mut Checker<'a>, &Fields<'a>) -> Option<T>,
    ) -> Option<(Self, T)> {
        let text = TextOptions::read(c, f);
        let fusion = FusionOptions {
            alpha: f.optional(c, "alpha", Checker::number),
            rrf_k: f.optional(c, "rrf_k", Checker::number),
            window_mult: f.optional(c, "window_mult", Checker::integer),
        };
        let index_name = f.required(c, "index_name", Checker::string);
        let index_key = f.optional(c, "index_key", Checker::string);
        let vectors = vectors(c, f);
        let top_k = f.optional(c, "top_k", Checker::integer);
        let n_probes = f.optional(c, "n_probes", Checker::integer);
        f.optional(c, "rerank_mult", Checker::integer);
        f.optional(c, "greedy", Checker::boolean);
        let filters = f.optional(c, "filters", Checker::object).filter(|filters| !filters.is_hollow());
        let include = f.defaulted(c, "include", Checker::strings).unwrap_or_default();
        let index_name = index_name?;
        Some((Self { index_name, index_key, top_k, n_probes, filters, include, text, fusion }, vectors?))
    }
}

impl QueryVectors {
    /// One row.
    pub fn one(bytes: Vec<u8>) -> Self {
        Self { count: 1, width: Some(bytes.len() / 4), bytes }
    }

    fn read_one<'a>(c: &mut Checker<'a>, value: Json<'a>) -> Option<Self> {
        let mut bytes = Vec::with_capacity(value.text().len() / 2);
        let width = c.floats(value, &mut bytes)?;
        Some(if width == 0 { Self::default() } else { Self::one(bytes) })
    }

    fn read_rows<'a>(c: &mut Checker<'a>, value: Json<'a>) -> Option<Self> {
        let array = c.array(value)?;
        let mut bytes = Vec::with_capacity(value.text().len() / 2);
        let (mut count, mut width, mut same) = (0, None, true);
        for row in array.elements() {
            let found = c.inside(Step::Place(count), |c| c.floats(row, &mut bytes));
            same &= *width.get_or_insert(found) == found;
            count += 1;
        }
        Some(Self { bytes, count, width: width.flatten().filter(|_| same) })
    }
}

impl<'a> Query<'a> {
    fn read_one(c: &mut Checker<'a>, value: Json<'a>) -> Option<Self> {
        let f = c.fields(value)?;
        let (options, (vectors, contents)) = SearchOptions::read(c, &f, |c, f| {
            let vectors = f.optional(c, "query_vectors", QueryVectors::read_one);
            let contents = f.optional(c, "query_contents", Checker::string);
            Some((vectors.unwrap_or_default(), contents))
        })?;
        Some(Self { vectors, contents, options })
    }

    fn read_batch(c: &mut Checker<'a>, value: Json<'a>) -> Option<Self> {
        let f = c.fields(value)?;
        let (options, vectors) =
            SearchOptions::read(c, &f, |c, f| f.required(c, "query_vectors", QueryVectors::read_rows))?;
        Some(Self { vectors, contents: None, options })
    }
}

impl<'a> Body<'a> for Query<'a> {
    fn parse(value: Json<'a>) -> Result<Self, Refusal> {
        let vectors = value.member("query_vectors");
        if vectors.and_then(|v| v.elements().next()).is_some_and(|first| first.kind() == Kind::Array) {
            // A good batch is a bad single query, with a problem for each row: do not even ask.
            let mut checker = Checker::of_body();
            if let (Some(query), true) = (Self::read_batch(&mut checker, value), checker.is_clean()) {
                return Ok(query);
            }
        }
        let mut checker = Checker::of_body();
        let query = Self::read(&mut checker, value);
        checker.finish(query)
    }

    /// One query; or what is wrong with it, both as one query and as a batch.
    fn read(c: &mut Checker<'a>, value: Json<'a>) -> Option<Self> {
        let query = c.inside(Step::Name("QueryRequest".into()), |c| Self::read_one(c, value));
        if c.is_clean() {
            return query;
        }
        c.inside(Step::Name("BatchQueryRequest".into()), |c| Self::read_batch(c, value));
        None
    }
}

impl<'a> Body<'a> for BinaryQuery<'a> {
    fn read(c: &mut Checker<'a>, value: Json<'a>) -> Option<Self> {
        let f = c.fields(value)?;
        let (options, (vectors_b64, dimension)) = SearchOptions::read(c, &f, |c, f| {
            f.required(c, "batch", |c, value| {
                let f = c.fields(value)?;
                let vectors_b64 = f.required(c, "vectors_b64", Checker::string);
                let dimension = f.required(c, "dimension", Checker::integer);
                Some((vectors_b64?, dimension?))
            })
        })?;
        Some(Self { vectors_b64, dimension, options })
    }
}

impl<'a> Body<'a> for MetadataQuery<'a> {
    fn read(c: &mut Checker<'a>, value: Json<'a>) -> Option<Self> {
        let f = c.fields(value)?;
        let text = TextOptions::read(c, &f);
        let index_name = f.required(c, "index_name", Checker::string);
        let index_key = f.optional(c, "index_key", Checker::string);
        let filters = f.optional(c, "filters", Checker::object).filter(|filters| !filters.is_hollow());
        let top_k = f.optional(c, "top_k", Checker::integer);
        let order_by = f.optional(c, "order_by", order_by);
        let ascending = f.defaulted(c, "ascending", Checker::boolean).unwrap_or(true);
        Some(Self { index_name: index_name?, index_key, filters, top_k, order_by, ascending, text })
    }
}

/// A string, or an object of integers; a 422 says what is wrong with it as either.
fn order_by<'a>(c: &mut Checker<'a>, value: Json<'a>) -> Option<Json<'a>> {
    fn directions<'a>(c: &mut Checker<'a>, value: Json<'a>) -> Option<Json<'a>> {
        for (name, direction) in c.object(value)?.members() {
            c.inside(Step::Name(name.string()), |c| c.integer(direction));
        }
        Some(value)
    }
    let mut apart = Checker::of_body();
    if value.kind() == Kind::String || (directions(&mut apart, value).is_some() && apart.is_clean()) {
        return Some(value);
    }
    c.inside(Step::Name("str".into()), |c| c.note("string_type", "Input should be a valid string", value));
    c.inside(Step::Name("dict[str,int]".into()), |c| directions(c, value));
    None
}
