//! Rows of SQL's results as JSON, written without a detour: ids, distances, vectors, and metadata as it is stored.

use std::error::Error;

use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Type};

use super::echo::write_json_string;

/// A `json` result, borrowed from its row. SQL made it from a text that was checked when it was stored.
pub struct RawJson<'a>(pub &'a str);

impl<'a> FromSql<'a> for RawJson<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(std::str::from_utf8(raw)?))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::JSON
    }
}

/// `{"results": …}` of a query: rows, or rows for each of two or more vectors.
pub fn query_results(rows: &[Row], vectors: usize, distance: bool, metadata: bool) -> String {
    let mut out = String::with_capacity(32 + rows.len() * 64);
    out.push_str("{\"results\":[");
    if vectors == 1 {
        write_list(rows.iter(), &mut out, |row, out| write_hit(row, distance, metadata, out));
    } else {
        let mut rest = rows;
        for vector in 0..vectors {
            if vector > 0 {
                out.push(',');
            }
            let ours = rest.iter().take_while(|row| usize::try_from(row.get::<_, i32>(0)) == Ok(vector)).count();
            let (hits, others) = rest.split_at(ours);
            rest = others;
            out.push('[');
            write_list(hits.iter(), &mut out, |row, out| write_hit(row, distance, metadata, out));
            out.push(']');
        }
    }
    out.push_str("]}");
    out
}

/// Columns: query, id, distance, score, metadata.
fn write_hit(row: &Row, distance: bool, metadata: bool, out: &mut String) {
    out.push_str("{\"id\":");
    write_json_string(row.get(1), out);
    match (row.get::<_, Option<f64>>(3), row.get::<_, Option<f64>>(2)) {
        // A row of a hybrid query has a score and no distance.
        (Some(score), _) => write_number(",\"score\":", score, out),
        (None, Some(far)) if distance => write_number(",\"distance\":", far, out),
        _ => {}
    }
    if metadata {
        out.push_str(",\"metadata\":");
        out.push_str(row.get::<_, Option<RawJson<'_>>>(4).map_or("{}", |json| json.0));
    }
    out.push('}');
}

/// What of each item a `get` shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Its vector.
    pub vector: bool,
    /// Its contents.
    pub contents: bool,
    /// Its metadata.
    pub metadata: bool,
}

impl Shown {
    /// Of an `include`; other names are ignored.
    pub fn of<S: AsRef<str>>(include: &[S]) -> Self {
        let has = |name| include.iter().any(|shown| shown.as_ref() == name);
        Self { vector: has("vector"), contents: has("contents"), metadata: has("metadata") }
    }

    /// As SQL's `include`.
    pub fn names(self) -> Vec<&'static str> {
        let all = [("vector", self.vector), ("contents", self.contents), ("metadata", self.metadata)];
        all.into_iter().filter_map(|(name, shown)| shown.then_some(name)).collect()
    }

    /// The original leaves out an item that lacks the only thing asked for.
    fn leaves_out(self, contents: bool, metadata: bool) -> bool {
        match (self.vector, self.contents, self.metadata) {
            (false, true, false) => !contents,
            (false, false, true) => !metadata,
            _ => false,
        }
    }
}

/// `{"results": …}` of a get. Columns: id, vector, contents, metadata.
pub fn get_results(rows: &[Row], shown: Shown) -> String {
    let mut out = String::from("{\"results\":[");
    let kept = rows.iter().filter(|row| {
        let contents = shown.contents && row.get::<_, Option<&str>>(2).is_some();
        let metadata = shown.metadata && row.get::<_, Option<RawJson<'_>>>(3).is_some();
        !shown.leaves_out(contents, metadata)
    });
    write_list(kept, &mut out, |row, out| {
        out.push_str("{\"id\":");
        write_json_string(row.get(0), out);
        if shown.vector {
            write_vector(&row.get::<_, Option<Vec<f32>>>(1).unwrap_or_default(), out);
        }
        if shown.contents {
            out.push_str(",\"contents\":");
            write_json_string(row.get::<_, Option<&str>>(2).unwrap_or(""), out);
        }
        if shown.metadata {
            out.push_str(",\"metadata\":");
            out.push_str(row.get::<_, Option<RawJson<'_>>>(3).map_or("{}", |json| json.0));
        }
        out.push('}');
    });
    out.push_str("]}");
    out
}

/// The answer of `query_metadata`. Columns: id, score.
pub fn metadata_results(rows: &[Row]) -> String {
    let mut out = String::from("{\"results\":[");
    write_list(rows.iter(), &mut out, |row, out| {
        out.push_str("{\"id\":");
        write_json_string(row.get(0), out);
        if let Some(score) = row.get::<_, Option<f64>>(1) {
            write_number(",\"score\":", score, out);
        }
        out.push('}');
    });
    out.push_str("],\"ids\":[");
    write_list(rows.iter(), &mut out, |row, out| write_json_string(row.get(0), out));
    out.push_str("],\"count\":");
    out.push_str(&rows.len().to_string());
    out.push('}');
    out
}

fn write_list<T>(items: impl Iterator<Item = T>, out: &mut String, write: impl Fn(T, &mut String)) {
    for (place, item) in items.enumerate() {
        if place > 0 {
            out.push(',');
        }
        write(item, out);
    }
}

/// The shortest text of a number that reads back as it, with a point: Python tells 1 from 1.0.
fn write_number(name: &str, number: f64, out: &mut String) {
    out.push_str(name);
    out.push_str(&serde_json::to_string(&number).expect("a number is JSON, and what is none is null"));
}

fn write_vector(vector: &[f32], out: &mut String) {
    out.push_str(",\"vector\":");
    out.push_str(&serde_json::to_string(vector).expect("numbers are JSON"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_without_the_only_thing_asked_for_is_left_out() {
        let contents = Shown::of(&["contents"]);
        let metadata = Shown::of(&["metadata", "distance"]);
        assert!(contents.leaves_out(false, true) && !contents.leaves_out(true, false));
        assert!(metadata.leaves_out(true, false) && !metadata.leaves_out(false, true));
        for include in [&["vector", "contents"][..], &["contents", "metadata"], &["vector"], &[], &["distance"]] {
            assert!(!Shown::of(include).leaves_out(false, false), "{include:?}");
        }
        assert_eq!(Shown::of(&["metadata", "x", "vector"]).names(), ["vector", "metadata"]);
    }

    #[test]
    fn floats_keep_their_point() {
        let mut out = String::new();
        write_number("", 4.0, &mut out);
        write_vector(&[1.0, 0.1, -2.5e-8], &mut out);
        assert_eq!(out, "4.0,\"vector\":[1.0,0.1,-2.5e-8]");
    }
}
