//! Items as a client writes them: one JSON array of objects with `id`, `vector`, `contents`, `metadata`.
//!
//! Read in place, so that metadata goes from the request to the seal without being written anew. What a client may
//! leave out may also be null; unknown members are ignored; contents of no character and metadata of no member
//! count as absent. All as the original has it.

use std::borrow::Cow;

use serde_json::error::Category;

use super::Item;
use crate::json::{Json, Kind};
use crate::{Error, Result};

/// One item of an upsert, borrowed from the request.
pub struct ItemInput<'a> {
    id: Cow<'a, str>,
    vector: Option<Json<'a>>,
    contents: Option<Cow<'a, str>>,
    metadata: Option<&'a str>,
}

impl<'a> ItemInput<'a> {
    /// The items of an array, in order.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it is no array of objects, or a member of one is not of its kind; it says which member.
    pub fn parse_array(items: &'a str) -> Result<Vec<Self>> {
        let items = Json::parse(items)?;
        match items.kind() {
            Kind::Array => items.elements().map(Self::of_json).collect(),
            _ => Err(Error::Malformed { what: "items: expected an array of objects" }),
        }
    }

    /// One item.
    ///
    /// # Errors
    /// As [`parse_array`](Self::parse_array).
    pub fn of_json(item: Json<'a>) -> Result<Self> {
        if item.kind() != Kind::Object {
            return Err(Error::Malformed { what: "items: expected an array of objects" });
        }
        let (mut id, mut vector, mut contents, mut metadata) = (None, None, None, None);
        for (key, value) in item.members() {
            let place = match &*key.string() {
                "id" => &mut id,
                "vector" => &mut vector,
                "contents" => &mut contents,
                "metadata" => &mut metadata,
                _ => continue,
            };
            *place = Some(value).filter(|value| value.kind() != Kind::Null);
        }
        let string = |value: Json<'a>, what| value.string().ok_or(Error::Malformed { what });
        if metadata.is_some_and(|metadata| metadata.kind() != Kind::Object) {
            return Err(Error::Malformed { what: "metadata: expected a JSON object" });
        }
        if vector.is_some_and(|vector| vector.kind() != Kind::Array) {
            return Err(Error::Malformed { what: "vector: expected an array of numbers" });
        }
        const NO_ID: &str = "id: expected a string";
        let contents = contents.map(|contents| string(contents, "contents: expected a string")).transpose()?;
        Ok(Self {
            id: string(id.ok_or(Error::Malformed { what: NO_ID })?, NO_ID)?,
            vector,
            contents: contents.filter(|contents| !contents.is_empty()),
            metadata: metadata.filter(|metadata| !metadata.is_hollow()).map(Json::text),
        })
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its contents, from which a model makes the vector that is missing.
    pub fn contents(&self) -> Option<&str> {
        self.contents.as_deref()
    }

    /// Whether a vector came with it.
    pub fn has_vector(&self) -> bool {
        self.vector.is_some()
    }

    /// Its vector, into `out`, which is emptied first and empty without a vector.
    ///
    /// # Errors
    /// [`Error::Malformed`] if an element is no number, [`Error::NotFinite`] if it is out of float32's range.
    pub fn vector_into(&self, out: &mut Vec<f32>) -> Result<()> {
        out.clear();
        let Some(vector) = self.vector else { return Ok(()) };
        // Each number by way of float64, as with the original and any client that has read its JSON itself.
        *out = serde_json::from_str(vector.text()).map_err(|error| match error.classify() {
            Category::Syntax => Error::NotFinite("infinity"), // the syntax is checked: it is beyond float64
            _ => Error::Malformed { what: "vector: expected an array of numbers" },
        })?;
        match out.iter().all(|element| element.is_finite()) {
            true => Ok(()),
            false => Err(Error::NotFinite("infinity")),
        }
    }

    /// What is sealed of it.
    pub fn item(&self) -> Item<'_> {
        Item::of_checked(&self.id, self.contents.as_deref(), self.metadata.map(Json::checked_before))
    }
}

/// Says nothing of it.
impl std::fmt::Debug for ItemInput<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ItemInput([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Id, vector, contents and length of what is sealed.
    fn check(items: &str, expected: &[(&str, &[f32], Option<&str>, usize)]) {
        let read = ItemInput::parse_array(items).unwrap();
        let mut vector = vec![9.0];
        for (input, (id, elements, contents, plain)) in read.iter().zip(expected) {
            input.vector_into(&mut vector).unwrap();
            assert_eq!((input.id(), &vector[..], input.contents()), (*id, *elements, *contents), "{items}");
            assert_eq!(input.has_vector(), items.contains("\"vector\":["));
            assert_eq!(format!("{:?}", input.item()), format!("Item({plain} bytes)"));
        }
        assert_eq!(read.len(), expected.len());
    }

    #[test]
    fn items_are_read() {
        check("[]", &[]);
        check(r#"[{"id":"a"}]"#, &[("a", &[], None, 13)]);
        check(
            r#" [{"id":"a","vector":[1, -2.5e0,0.1],"contents":"c\u00e9","metadata":{"k": 1.0}},{"vector":[],"id":""}]"#,
            &[("a", &[1.0, -2.5, 0.1], Some("cé"), 12 + 1 + 3 + 10), ("", &[], None, 12)],
        );
    }

    #[test]
    fn null_and_empty_are_absent() {
        check(
            r#"[{"id":"a","vector":null,"contents":null,"metadata":null,"x":[1]},{"id":"b","contents":"","metadata":{ }}]"#,
            &[("a", &[], None, 13), ("b", &[], None, 13)],
        );
    }

    #[test]
    fn a_repeated_member_counts_last() {
        check(r#"[{"id":"a","i\u0064":"b"}]"#, &[("b", &[], None, 13)]);
    }

    #[test]
    fn bad_items_are_refused() {
        for items in [
            "",
            "null",
            "{}",
            "[1]",
            "[null]",
            "[{}]",
            r#"[{"id":1}]"#,
            r#"[{"id":null}]"#,
            r#"[{"id":"a","vector":{}}]"#,
            r#"[{"id":"a","vector":"[1]"}]"#,
            r#"[{"id":"a","contents":1}]"#,
            r#"[{"id":"a","metadata":[1]}]"#,
            r#"[{"id":"a","metadata":"{}"}]"#,
            r#"[{"id":"a"},]"#,
            r#"[{"id":"a","vector":[NaN]}]"#,
        ] {
            assert!(matches!(ItemInput::parse_array(items), Err(Error::Malformed { .. })), "{items}");
        }
        let mut out = Vec::new();
        let mut vector = |elements: &str| {
            let items = format!(r#"[{{"id":"a","vector":[{elements}]}}]"#);
            ItemInput::parse_array(&items).unwrap()[0].vector_into(&mut out)
        };
        for elements in ["\"1\"", "null", "true", "[1]", "1,{}"] {
            assert!(matches!(vector(elements), Err(Error::Malformed { .. })), "{elements}");
        }
        for elements in ["1e39", "-1e400", "3.5e38"] {
            assert!(matches!(vector(elements), Err(Error::NotFinite(_))), "{elements}");
        }
        assert!(vector("1e-400,3.4028234e38").is_ok());
    }
}
