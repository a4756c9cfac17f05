//! Requests that write, fetch or delete items.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use sealvec_core::json::{Json, Kind};
use utoipa::ToSchema;

use super::Body;
use crate::cyborgdb::validate::{Checker, Step};

/// Items to write.
#[derive(ToSchema)]
pub struct UpsertRequest<'a> {
    /// Name of the index.
    #[schema(value_type = String, example = "my_index")]
    pub index_name: Cow<'a, str>,
    /// The index key, 64 hex digits.
    #[schema(value_type = Option<String>)]
    pub index_key: Option<Cow<'a, str>>,
    /// The items. An id that is there already is replaced as a whole.
    #[schema(value_type = Vec<VectorItem>)]
    pub items: Items<'a>,
}

/// One item.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes an element of UpsertRequest::items, which is read into columns")]
pub struct VectorItem {
    /// Its id.
    id: String,
    /// Its vector; absent where the index has an embedding model that makes it of `contents`.
    vector: Option<Vec<f32>>,
    /// Any text, given back as it is.
    contents: Option<String>,
    /// Any JSON object.
    metadata: Option<BTreeMap<String, serde_json::Value>>,
}

/// Items as columns, the form that SQL takes.
#[derive(Default)]
pub struct Items<'a> {
    /// Ids.
    pub ids: Vec<Cow<'a, str>>,
    /// All vectors in a row, float32 little-endian.
    pub vectors: Vec<u8>,
    /// Numbers of each item's vector; `None` where it has none.
    pub widths: Vec<Option<usize>>,
    /// Contents; the empty text counts as none.
    pub contents: Vec<Option<Cow<'a, str>>>,
    /// Metadata; the empty object counts as none.
    pub metadata: Vec<Option<Json<'a>>>,
}

/// Items to write, their vectors in binary.
#[derive(ToSchema)]
pub struct BinaryUpsertRequest<'a> {
    /// Name of the index.
    #[schema(value_type = String, example = "my_index")]
    pub index_name: Cow<'a, str>,
    /// The index key, 64 hex digits.
    #[schema(value_type = Option<String>)]
    pub index_key: Option<Cow<'a, str>>,
    /// The items.
    #[schema(value_type = BinaryVectorBatch)]
    pub batch: BinaryVectorBatch<'a>,
}

/// Items as columns.
#[derive(ToSchema)]
pub struct BinaryVectorBatch<'a> {
    /// Ids.
    #[schema(value_type = Vec<String>)]
    pub ids: Vec<Cow<'a, str>>,
    /// Base64 of float32 numbers, little-endian, one row after the other.
    #[schema(value_type = String)]
    pub vectors_b64: Cow<'a, str>,
    /// Numbers of a row.
    pub dimension: i64,
    /// Objects, one per id.
    #[schema(value_type = Option<Vec<Option<BTreeMap<String, serde_json::Value>>>>)]
    pub metadata: Option<Vec<Option<Json<'a>>>>,
    /// Texts, one per id.
    #[schema(value_type = Option<Vec<Option<String>>>)]
    pub contents: Option<Vec<Option<Cow<'a, str>>>>,
}

/// Items to fetch.
#[derive(ToSchema)]
pub struct GetRequest<'a> {
    /// Name of the index.
    #[schema(value_type = String, example = "my_index")]
    pub index_name: Cow<'a, str>,
    /// The index key, 64 hex digits.
    #[schema(value_type = Option<String>)]
    pub index_key: Option<Cow<'a, str>>,
    /// Their ids.
    #[schema(value_type = Vec<String>)]
    pub ids: Vec<Cow<'a, str>>,
    /// What to fetch of them: `vector`, `contents`, `metadata`; all of them by default.
    #[schema(value_type = Vec<String>, required = false)]
    pub include: Option<Vec<Cow<'a, str>>>,
}

/// Items to delete.
#[derive(ToSchema)]
pub struct DeleteRequest<'a> {
    /// Name of the index.
    #[schema(value_type = String, example = "my_index")]
    pub index_name: Cow<'a, str>,
    /// The index key, 64 hex digits.
    #[schema(value_type = Option<String>)]
    pub index_key: Option<Cow<'a, str>>,
    /// Their ids; an unknown one is no error.
    #[schema(value_type = Vec<String>)]
    pub ids: Vec<Cow<'a, str>>,
}

impl<'a> Body<'a> for UpsertRequest<'a> {
    fn read(c: &mut Checker<'a>, value: Json<'a>) -> Option<Self> {
        let f = c.fields(value)?;
        let index_name = f.required(c, "index_name", Checker::string);
        let index_key = f.optional(c, "index_key", Checker::string);
        let items = f.required(c, "items", Items::read);
        Some(Self { index_name: index_name?, index_key, items: items? })
    }
}

impl<'a> Items<'a> {
    fn read(c: &mut Checker<'a>, value: Json<'a>) -> Option<Self> {
        let array = c.array(value)?;
        let mut items = Self::default();
        for (place, item) in array.elements().enumerate() {
            c.inside(Step::Place(place), |c| items.read_item(c, item));
        }
        Some(items)
    }

    fn read_item(&mut self, c: &mut Checker<'a>, value: Json<'a>) {
        let Some(f) = c.fields(value) else { return };
        let id = f.required(c, "id", Checker::string);
        let width = f.optional(c, "vector", |c, value| c.floats(value, &mut self.vectors));
        let contents = f.optional(c, "contents", contents);
        let metadata = f.optional(c, "metadata", Checker::object);
        // After a problem nobody reads the columns.
        self.ids.extend(id);
        self.widths.push(width);
        self.contents.push(contents.filter(|text| !text.is_empty()));
        self.metadata.push(metadata.filter(|object| !object.is_hollow()));
    }
}

/// A text. The original's type is "text or bytes", which JSON does not tell apart, and its 422 names both.
fn contents<'a>(c: &mut Checker<'a>, value: Json<'a>) -> Option<Cow<'a, str>> {
    let text = value.string();
    if text.is_none() {
        c.inside(Step::Name("str".into()), |c| c.note("string_type", "Input should be a valid string", value));
        c.inside(Step::Name("bytes".into()), |c| c.note("bytes_type", "Input should be a valid bytes", value));
    }
    text
}

/// `null` as nothing, and anything else by `read`.
fn or_null<'a, T>(
    c: &mut Checker<'a>,
    value: Json<'a>,
    read: impl FnOnce(&mut Checker<'a>, Json<'a>) -> Option<T>,
) -> Option<Option<T>> {
    if value.kind() == Kind::Null { Some(None) } else { read(c, value).map(Some) }
}

impl<'a> Body<'a> for BinaryUpsertRequest<'a> {
    fn read(c: &mut Checker<'a>, value: Json<'a>) -> Option<Self> {
        let f = c.fields(value)?;
        let index_name = f.required(c, "index_name", Checker::string);
        let index_key = f.optional(c, "index_key", Checker::string);
        let batch = f.required(c, "batch", BinaryVectorBatch::read);
        Some(Self { index_name: index_name?, index_key, batch: batch? })
    }
}

impl<'a> BinaryVectorBatch<'a> {
    fn read(c: &mut Checker<'a>, value: Json<'a>) -> Option<Self> {
        let f = c.fields(value)?;
        let ids = f.required(c, "ids", Checker::strings);
        let vectors_b64 = f.required(c, "vectors_b64", Checker::string);
        let dimension = f.required(c, "dimension", Checker::integer);
        let metadata =
            f.optional(c, "metadata", |c, value| c.list(value, |c, object| or_null(c, object, Checker::object)));
        let texts = f.optional(c, "contents", |c, value| c.list(value, |c, text| or_null(c, text, contents)));
        Some(Self { ids: ids?, vectors_b64: vectors_b64?, dimension: dimension?, metadata, contents: texts })
    }
}

impl<'a> Body<'a> for GetRequest<'a> {
    fn read(c: &mut Checker<'a>, value: Json<'a>) -> Option<Self> {
        let f = c.fields(value)?;
        let index_name = f.required(c, "index_name", Checker::string);
        let index_key = f.optional(c, "index_key", Checker::string);
        let ids = f.required(c, "ids", Checker::strings);
        let include = f.defaulted(c, "include", Checker::strings);
        Some(Self { index_name: index_name?, index_key, ids: ids?, include })
    }
}

impl<'a> Body<'a> for DeleteRequest<'a> {
    fn read(c: &mut Checker<'a>, value: Json<'a>) -> Option<Self> {
        let f = c.fields(value)?;
        let index_name = f.required(c, "index_name", Checker::string);
        let index_key = f.optional(c, "index_key", Checker::string);
        let ids = f.required(c, "ids", Checker::strings);
        Some(Self { index_name: index_name?, index_key, ids: ids? })
    }
}

/// Base64 as the SDKs write it, with or without its padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The bytes of a `vectors_b64`; `None` if it is no base64.
pub fn vector_bytes(base64: &str) -> Option<Vec<u8>> {
    BASE64.decode(base64.as_bytes()).ok()
}

/// Whether every float32 is a number.
pub fn all_finite(bytes: &[u8]) -> bool {
    // An exponent of all ones is infinity or no number. No branch inside: it runs at the memory's speed.
    bytes.chunks_exact(4).fold(0_u32, |odd, four| {
        let bits = u32::from_le_bytes(four.try_into().expect("four bytes"));
        odd | u32::from(bits & 0x7f80_0000 == 0x7f80_0000)
    }) == 0
}
