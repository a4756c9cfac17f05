//! The recordings: exchanges in their order, what they left out, and what differs on purpose.

use std::collections::HashMap;
use std::fs;

use sealvec_e2e::xtask::root;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// A request and what CyborgDB 0.18.0 answered.
#[derive(Debug, Deserialize)]
pub struct Exchange {
    pub mode: String,
    pub name: String,
    pub method: String,
    pub path: String,
    pub request_headers: HashMap<String, String>,
    request_body: Box<RawValue>, // metadata in it nests deeper than a Value may
    pub status: Option<u16>,     // none: the service crashed
    pub response_body: Value,
}

impl Exchange {
    /// The body as it was sent. Text that is no JSON, or was cut, was recorded as a string.
    pub fn body(&self) -> Option<String> {
        match self.request_body.get() {
            "null" => None,
            text if text.starts_with('"') => Some(serde_json::from_str(text).expect("a string")),
            text => Some(text.to_owned()),
        }
    }
}

/// A request that the recording left out, made before the exchange that needs it.
#[derive(Debug, Deserialize)]
pub struct Setup {
    pub mode: String,
    pub before: String,
    pub method: String,
    pub path: String,
    #[serde(default)]
    pub headers: HashMap<String, String>,
    pub body: Option<Box<RawValue>>,
    /// Keeps a new user's token and id under the names that the recording has for them.
    #[serde(default)]
    pub token: Option<String>,
    #[serde(default)]
    pub user: Option<String>,
}

/// An exchange that we answer otherwise.
#[derive(Debug, Deserialize)]
pub struct Difference {
    pub mode: String,
    pub name: String,
    /// Our status; none where the exchange is not replayed.
    pub status: Option<u16>,
    /// Our body, or the members of it that are told.
    #[serde(default)]
    pub body: Option<Value>,
    pub reason: String,
}

fn lines<T: for<'a> Deserialize<'a>>(file: &str) -> Vec<T> {
    let path = root().join("tests/data").join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{file}: {error} in {line:.200}")))
        .collect()
}

/// All exchanges, in their order.
pub fn exchanges() -> Vec<Exchange> {
    lines("cyborgdb_exchanges.jsonl")
}

/// All left-out requests, in their order.
pub fn setups() -> Vec<Setup> {
    lines("cyborgdb_setup.jsonl")
}

/// All differences.
pub fn differences() -> Vec<Difference> {
    lines("cyborgdb_differences.jsonl")
}
