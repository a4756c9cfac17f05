//! The original's words: the label of each route's errors, and the sentences around what is wrong.

/// `create` of an index.
pub const CREATE: &str = "Failed to create index";
/// `describe`.
pub const DESCRIBE: &str = "Failed to load index";
/// `delete` of an index.
pub const DELETE_INDEX: &str = "Failed to delete index";
/// `train`.
pub const TRAIN: &str = "Failed to train index";
/// `list` and `training-status`.
pub const LIST: &str = "Failed to list indexes";
/// `upsert`.
pub const UPSERT: &str = "Failed to upsert vectors";
/// `upsert_binary`.
pub const UPSERT_BINARY: &str = "Failed to upsert vectors (binary)";
/// `query`.
pub const QUERY: &str = "Failed to query";
/// `query_binary`.
pub const QUERY_BINARY: &str = "Failed to query (binary)";
/// `query_metadata`.
pub const QUERY_METADATA: &str = "Failed to query metadata";
/// `get`.
pub const GET: &str = "Failed to retrieve items";
/// `delete` of items.
pub const DELETE: &str = "Failed to delete items";
/// `list_ids`.
pub const LIST_IDS: &str = "Failed to list IDs from index";
/// `num_vectors`.
pub const NUM_VECTORS: &str = "Failed to get size of index";
/// A new user.
pub const CREATE_USER: &str = "Failed to create user";
/// The list of users.
pub const LIST_USERS: &str = "Failed to list users";
/// A user who goes.
pub const DELETE_USER: &str = "Failed to delete user";
/// `/v1/audit`, which the original has not.
pub const AUDIT: &str = "Failed to read the audit log";

/// A 400's sentence: a bad value in a good body.
pub fn invalid(label: &str, what: &str) -> String {
    format!("{label}: Invalid input: {what}")
}

/// An upsert's vector of the wrong dimension.
pub fn upsert_dimension(expected: i64, got: i64) -> String {
    format!("vector has wrong dimension: expected {expected}, got {got}")
}

/// A query's vector of the wrong dimension.
pub fn query_dimension(expected: i64, got: i64) -> String {
    format!("The dimension of the vectors provided ({got}) doesn't match the index configuration ({expected}).")
}

/// A query without a vector.
pub const NO_QUERY: &str = "Provide at least one: query_vectors or query_contents.";
/// `vectors_b64` of no row.
pub const NO_QUERY_VECTORS: &str = "Query vectors cannot be empty.";
/// An upsert of nothing.
pub const NO_ITEMS: &str = "Invalid arguments. Expected a list of dicts when passing a single argument.";
/// Contents without a vector, on an index without a model.
pub const NO_MODEL_UPSERT: &str = "Index was not set up for automatic embedding generation. Provide `vector` \
    explicitly or create a new index with an embedding model.";
/// A text to embed, on an index without a model.
pub const NO_MODEL_QUERY: &str = "Index was not set up for automatic embedding generation. Provide `query_vectors` \
    explicitly or create an index with an embedding model.";
/// A number that is none, or is beyond float32.
pub const NOT_FINITE: &str = "vectors must be finite numbers: no NaN, no infinity, nothing beyond float32";
/// A number that is none, elsewhere.
pub const NOT_JSON: &str = "NaN and Infinity are no JSON numbers";
/// `vectors_b64` that is none.
pub const NO_BASE64: &str = "vectors_b64 is not valid base64";

/// Rows of different dimensions in one query.
pub fn ragged(rows: usize) -> String {
    format!(
        "setting an array element with a sequence. The requested array has an inhomogeneous shape after 1 dimensions. \
         The detected shape was ({rows},) + inhomogeneous part."
    )
}

/// Names in Python's list form: `['a', 'b']`.
pub fn python_list<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> String {
    let quoted: Vec<String> = names.into_iter().map(|name| python_string(name.as_ref())).collect();
    format!("[{}]", quoted.join(", "))
}

/// A string as Python's `repr` shows it, the plain cases.
pub fn python_string(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_pythons() {
        const CASES: &[(&[&str], &str)] = &[
            (&[], "[]"),
            (&["admin"], "['admin']"),
            (&["a", "it's"], "['a', \"it's\"]"),
            (&["\"'"], "['\"\\'']"),
            (&["a\\b\n\u{1}é"], "['a\\\\b\\n\\x01é']"),
        ];
        for (names, expected) in CASES {
            assert_eq!(python_list(*names), *expected);
        }
    }
}
