//! Whether two answers are the same, where both may differ without meaning: last digits of floats, orders that mean
//! nothing, and what this server says more.

use serde_json::{Map, Value};

/// Of floats: the original computes in float32.
const TOLERANCE: f64 = 1e-5;

/// What stands where a 422 of the original repeats the key.
const HIDDEN: &str = "***";

/// Takes away what this server says more, having checked it.
pub fn without_additions(status: u16, body: &Value) -> Result<Value, String> {
    let mut body = body.clone();
    let Some(members) = body.as_object_mut() else { return Ok(body) };
    if status >= 400 {
        let said = members.remove("status_code");
        if said != Some(Value::from(status)) {
            return Err(format!("status_code is {said:?} under {status}"));
        }
    }
    if let Some(config) = members.remove("index_config") {
        // JS 0.14 reads the same facts under these names.
        for (name, other) in
            [("type", "index_type"), ("dimension", "dimension"), ("n_lists", "n_lists"), ("metric", "metric")]
        {
            if config[name] != members[other] {
                return Err(format!("index_config.{name} is not {other}"));
            }
        }
        members.remove("index_type");
    }
    Ok(body)
}

/// Puts what a 422 of ours says in the place of the keys that the recording repeats.
pub fn without_keys(recorded: &mut Value) {
    match recorded {
        Value::Object(members) => {
            if members.contains_key("index_key") {
                members.insert("index_key".to_owned(), HIDDEN.into());
            }
            members.values_mut().for_each(without_keys);
        }
        Value::Array(elements) => elements.iter_mut().for_each(without_keys),
        _ => {}
    }
}

/// Sorts what comes in no order: ids of `list_ids`, and `query_metadata` without a sort.
pub fn sort_rows(body: &mut Value) {
    let id = |row: &Value| row.as_str().or(row["id"].as_str()).unwrap_or_default().to_owned();
    for name in ["ids", "results"] {
        if let Some(rows) = body.get_mut(name).and_then(Value::as_array_mut) {
            rows.sort_by_key(id);
        }
    }
}

/// Sorts rows of equal distance by their ids: which of them comes first means nothing.
pub fn sort_ties(body: &mut Value) {
    let Some(rows) = body.get_mut("results").and_then(Value::as_array_mut) else { return };
    let key = |row: &Value| Some((row["distance"].as_f64()?, row["id"].as_str()?.to_owned()));
    let mut at = 0;
    while at < rows.len() {
        let Some((distance, _)) = key(&rows[at]) else { return };
        let equal = |row: &&Value| key(row).is_some_and(|(other, _)| (other - distance).abs() <= TOLERANCE);
        let ties = rows[at..].iter().take_while(equal).count();
        rows[at..at + ties].sort_by_key(|row| key(row).map(|(_, id)| id));
        at += ties;
    }
}

/// Equal but for [`TOLERANCE`].
pub fn same(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Number(a), Value::Number(b)) => {
            a == b || a.as_f64().zip(b.as_f64()).is_some_and(|(a, b)| a.is_finite() && (a - b).abs() <= TOLERANCE)
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => a.len() == b.len() && has(a, b),
        _ => ours == theirs,
    }
}

/// Whether `ours` has every member of `told`, the same; it may have more.
pub fn has(ours: &Map<String, Value>, told: &Map<String, Value>) -> bool {
    told.iter().all(|(name, value)| ours.get(name).is_some_and(|own| same(own, value)))
}
