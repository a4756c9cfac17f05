//! `metadata_schema`: what an index promises of a metadata field, and what may be asked of it where no vector is given.
//!
//! A query with a vector opens the metadata of each row it passes, so any filter can be answered. The original
//! answers `query_metadata` and hybrid queries from an index over metadata alone, and refuses a filter that this
//! index can't answer. We could answer all; the refusals are part of what its clients rely on.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Filter;
use super::error::FilterError;
use super::parse::{Node, Test};

/// The policies of an index's declared fields. Others have the default one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema(BTreeMap<String, Policy>);

/// What is promised of one field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// A filter may ask for it without a vector.
    pub filterable: bool,
    /// So may `$regex` and `$contains`.
    pub pattern: bool,
    /// Its words are ranked by a text query.
    pub full_text: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self { filterable: true, pattern: false, full_text: false }
    }
}

/// What asks for rows by metadata without passing by their vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// `query_metadata`
    Metadata,
    /// `query_metadata` with a text.
    Text,
    /// A query with a vector and a text.
    Hybrid,
}

impl Search {
    pub(super) fn refusal(self) -> &'static str {
        match self {
            Search::Metadata => {
                "query_metadata cannot filter on a non-indexed metadata field; index the field or use query() with a vector"
            }
            Search::Text => {
                "text query cannot filter on a non-indexed metadata field; index the field, or use query() with a vector."
            }
            Search::Hybrid => {
                "hybrid query cannot filter on a non-indexed metadata field; index the field, or drop `text` so the \
                 vector query can post-filter it."
            }
        }
    }
}

impl Schema {
    /// From `{field: {filterable, pattern, full_text}}`, each policy optional; `null` declares nothing.
    ///
    /// # Errors
    /// [`FilterError::Schema`] for policies that contradict each other, [`FilterError::Operand`] for anything else.
    pub fn parse(schema: &Value) -> Result<Self, FilterError> {
        let wrong = |expected, got: &Value| {
            Err(FilterError::Operand { operator: "metadata_schema", expected, got: got.to_string() })
        };
        let fields = match schema {
            Value::Null => return Ok(Self::default()),
            Value::Object(fields) => fields,
            _ => return wrong("an object", schema),
        };
        let mut policies = BTreeMap::new();
        for (field, declared) in fields {
            let Some(declared) = declared.as_object() else { return wrong("an object for each field", declared) };
            if field.trim().is_empty() {
                return Err(FilterError::Schema("metadata_schema field names must be non-empty"));
            }
            let (mut filterable, mut pattern, mut full_text) = (None, false, false);
            for (name, value) in declared {
                let Some(on) = value.as_bool() else { return wrong("boolean policies", value) };
                match name.as_str() {
                    "filterable" => filterable = Some(on),
                    "pattern" => pattern = on,
                    "full_text" => full_text = on,
                    _ => return wrong("the policies filterable, pattern and full_text", &Value::from(name.as_str())),
                }
            }
            if full_text && filterable == Some(true) {
                return Err(FilterError::Schema(
                    "full_text=true is incompatible with an explicit filterable=true — a full_text field is analyzed \
                     rather than exact-match indexed, so it implies filterable=false",
                ));
            }
            let filterable = filterable.unwrap_or(!full_text);
            if pattern && !filterable {
                return Err(FilterError::Schema(
                    "pattern=true requires filterable=true (the regex dictionary is only built for filterable fields)",
                ));
            }
            policies.insert(field.clone(), Policy { filterable, pattern, full_text });
        }
        Ok(Self(policies))
    }

    /// Makes each of `fields` one of words, as `text_fields` of an index's creation does.
    ///
    /// # Errors
    /// [`FilterError::Schema`] for an empty name, [`FilterError::SchemaField`] for a field declared as something else.
    pub fn with_text_fields(mut self, fields: &[String]) -> Result<Self, FilterError> {
        for field in fields {
            if field.is_empty() {
                return Err(FilterError::Schema("text_fields entries must be non-empty field names, got ''"));
            }
            let contradiction = match self.0.get(field) {
                Some(Policy { full_text: false, pattern: true, .. }) => {
                    "full_text=True is incompatible with pattern=True (a full-text field is analyzed into terms, never \
                     added to the regex dictionary)"
                }
                Some(Policy { full_text: false, filterable: true, .. }) => {
                    "full_text=True requires filterable=False (a field is either analyzed for BM25 or exact-match \
                     indexed, not both)"
                }
                _ => {
                    self.0.insert(field.clone(), Policy { filterable: false, pattern: false, full_text: true });
                    continue;
                }
            };
            return Err(FilterError::SchemaField { field: field.clone(), contradiction });
        }
        Ok(self)
    }

    /// Every declared field with all its policies: what [`parse`](Self::parse) reads, defaults filled in.
    pub fn to_value(&self) -> Value {
        let policies = |policy: Policy| {
            let Policy { filterable, pattern, full_text } = policy;
            serde_json::json!({ "filterable": filterable, "pattern": pattern, "full_text": full_text })
        };
        self.fields().map(|(field, policy)| (field.to_owned(), policies(policy))).collect()
    }

    /// The policy of the field at `path`: its own, or that of the nearest object around it that has one.
    pub fn policy(&self, path: &str) -> Policy {
        let around = path.rmatch_indices('.').map(|(dot, _)| &path[..dot]);
        let mut nearest = std::iter::once(path).chain(around);
        nearest.find_map(|path| self.0.get(path)).copied().unwrap_or_default()
    }

    /// The declared fields and their policies, in the order of their names.
    pub fn fields(&self) -> impl Iterator<Item = (&str, Policy)> {
        self.0.iter().map(|(field, policy)| (field.as_str(), *policy))
    }

    /// Whether `search` may ask for `filter`.
    ///
    /// # Errors
    /// [`FilterError::NotIndexed`] or [`FilterError::NoPattern`] for the first field that it may not.
    pub fn check(&self, filter: &Filter, search: Search) -> Result<(), FilterError> {
        self.check_node(&filter.0, search)
    }

    fn check_node(&self, node: &Node, search: Search) -> Result<(), FilterError> {
        match node {
            Node::All(filters) | Node::Any(filters) => {
                filters.iter().try_for_each(|filter| self.check_node(filter, search))
            }
            Node::Not(filter) => self.check_node(filter, search),
            Node::Field { path, tests } => {
                let policy = self.policy(path);
                if !policy.filterable {
                    return Err(FilterError::NotIndexed(search));
                }
                let operator = tests.iter().find_map(|test| match test {
                    Test::Pattern(_) => Some("$regex"),
                    Test::Contains(_) => Some("$contains"),
                    _ => None,
                });
                match operator {
                    Some(operator) if !policy.pattern => Err(FilterError::NoPattern { operator, field: path.clone() }),
                    _ => Ok(()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Schema {
        let declared = json!({"title": {"pattern": true}, "blob": {"filterable": false}, "body": {"full_text": true}});
        Schema::parse(&declared).unwrap()
    }

    /// What the original said, in its words.
    fn check(filter: Value, search: Search, expected: Result<(), &str>) {
        let checked = schema().check(&Filter::parse(&filter).unwrap(), search);
        assert_eq!(checked.map_err(|error| error.quoting_message()), expected.map_err(str::to_owned), "{filter}");
    }

    #[test]
    fn fields_are_refused_as_recorded() {
        let no_pattern = "$regex on 's' requires a regex-indexed (pattern) field";
        check(json!({"s": {"$regex": "(?i)apple"}}), Search::Metadata, Err(no_pattern));
        check(json!({"body": "fox fox fox"}), Search::Metadata, Err(Search::Metadata.refusal()));
        check(json!({"blob": "b"}), Search::Hybrid, Err(Search::Hybrid.refusal()));
        check(json!({"body": "fox"}), Search::Hybrid, Err(Search::Hybrid.refusal()));
        check(json!({"views": {"$gte": 5}}), Search::Hybrid, Ok(()));
    }

    #[test]
    fn every_field_of_a_filter_is_looked_at() {
        let bad = Err(Search::Metadata.refusal());
        for filter in [
            json!({"$and": [{"a": 1}, {"blob": 1}]}),
            json!({"$nor": [{"a": 1}, {"$or": [{"blob": 1}]}]}),
            json!({"$not": {"blob": {"$exists": true}}}),
            json!({"blob.inner": 1}),
            json!({"a": 1, "blob": 2}),
        ] {
            check(filter, Search::Metadata, bad);
        }
        check(json!({"title": {"$regex": "x"}}), Search::Metadata, Ok(()));
        check(json!({"title.inner": {"$contains": "x"}, "blobs": 1}), Search::Metadata, Ok(()));
        let no_pattern = "$contains on 'a.b' requires a regex-indexed (pattern) field";
        check(json!({"a.b": {"$gt": 1, "$contains": "x"}}), Search::Metadata, Err(no_pattern));
    }

    #[test]
    fn policies_fill_in_their_defaults() {
        assert_eq!(schema().policy("title"), Policy { filterable: true, pattern: true, full_text: false });
        assert_eq!(schema().policy("body"), Policy { filterable: false, pattern: false, full_text: true });
        assert_eq!(schema().policy("zz"), Policy::default());
        assert_eq!(schema().fields().map(|(field, _)| field).collect::<Vec<_>>(), ["blob", "body", "title"]);
        assert_eq!(Schema::parse(&Value::Null).unwrap(), Schema::parse(&json!({})).unwrap());
    }

    #[test]
    fn text_fields_are_fields_of_words() {
        let with = |schema: Value, field: &str| Schema::parse(&schema).unwrap().with_text_fields(&[field.into()]);
        let words = json!({"x": {"filterable": false, "pattern": false, "full_text": true}});
        for schema in [json!({}), json!({"x": {"full_text": true}}), json!({"x": {"filterable": false}})] {
            assert_eq!(with(schema, "x").unwrap().to_value(), words);
        }
        let refused = |schema: Value, field: &str| with(schema, field).unwrap_err();
        assert_eq!(
            refused(json!({"x": {"full_text": false}}), "x").quoting_message(),
            "metadata_schema['x']: full_text=True requires filterable=False (a field is either analyzed for BM25 or \
             exact-match indexed, not both)"
        );
        let pattern = refused(json!({"x": {"pattern": true}}), "x").quoting_message();
        assert!(pattern.starts_with("metadata_schema['x']: full_text=True is incompatible with pattern=True"));
        assert!(!format!("{:?}", refused(json!({"secret": {}}), "secret")).contains("secret"));
        assert_eq!(
            refused(json!({}), "").quoting_message(),
            "text_fields entries must be non-empty field names, got ''"
        );
    }

    #[test]
    fn a_schema_comes_back_with_its_defaults() {
        let schema = schema().with_text_fields(&["head".into()]).unwrap();
        let value = schema.to_value();
        assert_eq!(value["title"], json!({"filterable": true, "pattern": true, "full_text": false}));
        assert_eq!(value["head"], json!({"filterable": false, "pattern": false, "full_text": true}));
        assert_eq!(Schema::parse(&value).unwrap(), schema);
        assert_eq!(Schema::default().to_value(), json!({}));
    }

    #[test]
    fn policies_that_contradict_are_refused() {
        let message = |schema: Value| Schema::parse(&schema).unwrap_err().quoting_message();
        let pattern =
            "pattern=true requires filterable=true (the regex dictionary is only built for filterable fields)";
        assert_eq!(message(json!({"x": {"pattern": true, "filterable": false}})), pattern);
        assert_eq!(message(json!({"x": {"pattern": true, "full_text": true}})), pattern);
        assert!(message(json!({"x": {"full_text": true, "filterable": true}})).ends_with("implies filterable=false"));
        assert_eq!(message(json!({" ": {}})), "metadata_schema field names must be non-empty");
        for bad in [json!([]), json!({"x": 1}), json!({"x": {"foo": true}}), json!({"x": {"pattern": "yes"}})] {
            assert!(Schema::parse(&bad).is_err(), "{bad}");
        }
    }
}
