//! One level of a value at a time: what `serde_json` finds in an array or object, its parts still text.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Json;

/// Elements of an array.
pub type Elements<'a> = std::vec::IntoIter<Json<'a>>;

/// Members of an object: key and value.
pub type Members<'a> = std::vec::IntoIter<(Key<'a>, Json<'a>)>;

/// The key of a member; borrowed unless it holds an escape.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Key<'a> {
    /// Its characters.
    pub fn string(self) -> Cow<'a, str> {
        self.0
    }

    /// Whether it is `key`.
    pub fn is(&self, key: &str) -> bool {
        self.0 == key
    }
}

/// A string's characters, as a key's.
pub(super) fn string(text: &str) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Key<'_>>(text).ok().map(Key::string)
}

pub(super) fn elements(text: &str) -> Elements<'_> {
    serde_json::from_str::<Vec<Json<'_>>>(text).unwrap_or_default().into_iter()
}

pub(super) fn members(text: &str) -> Members<'_> {
    serde_json::from_str::<Pairs<'_>>(text).map(|pairs| pairs.0).unwrap_or_default().into_iter()
}

impl<'de: 'a, 'a> Deserialize<'de> for Json<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        <&RawValue>::deserialize(from).map(|raw| Json(raw.get()))
    }
}

/// An object as a list: no map of serde's or std's keeps the order and the repetitions.
struct Pairs<'a>(Vec<(Key<'a>, Json<'a>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(PairsVisitor).map(Pairs)
    }
}

struct PairsVisitor;

impl<'de> Visitor<'de> for PairsVisitor {
    type Value = Vec<(Key<'de>, Json<'de>)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<Self::Value, M::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = members.next_entry()? {
            pairs.push(pair);
        }
        Ok(pairs)
    }
}
