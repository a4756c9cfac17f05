//! Replays what CyborgDB 0.18.0 answered to each recorded filter: the same ids, or the same message.

use std::collections::BTreeSet;

use sealvec_core::filter::{Filter, FilterError, OrderBy, Schema, Search};
use sealvec_core::json::Json;
use serde_json::Value;

const RECORDED: &str = include_str!("data/cyborgdb_filters.json");

/// Answered otherwise on purpose.
const DIFFERENCES: [(&str, &str); 1] = [("filt_type", "$type works, as in 0.17")];

/// Ids of the items that match, in the order asked for, or the message.
fn answer(items: &serde_json::Map<String, Value>, exchange: &Value) -> Result<Vec<String>, FilterError> {
    let filter = Filter::parse(&exchange["filters"])?;
    if exchange["route"] == "query_metadata" {
        Schema::default().check(&filter, Search::Metadata)?; // these indexes declare no field
    }
    let order = OrderBy::parse(&exchange["order_by"], exchange["ascending"].as_bool().unwrap_or(true))?;
    let mut found = Vec::new();
    for (id, metadata) in items {
        let text = metadata.to_string();
        let metadata = Json::parse(&text).unwrap();
        let metadata = Some(metadata).filter(|metadata| metadata.text() != "null");
        assert_eq!(filter.matches_json(metadata), filter.matches(&items[id]), "both ways to match agree");
        if filter.matches_json(metadata) {
            found.push((id.clone(), order.as_ref().map(|order| order.key(metadata))));
        }
    }
    if let Some(order) = order {
        found.sort_by(|a, b| order.compare(a.1.as_ref().unwrap(), b.1.as_ref().unwrap()));
    }
    let top = exchange["top_k"].as_u64().unwrap_or(u64::MAX) as usize;
    Ok(found.into_iter().map(|(id, _)| id).take(top).collect())
}

#[test]
fn every_recorded_filter_is_answered_as_the_original_did() {
    let recorded: Value = serde_json::from_str(RECORDED).unwrap();
    let (mut rows, mut messages) = (0, 0);
    for exchange in recorded["exchanges"].as_array().unwrap() {
        let name = exchange["name"].as_str().unwrap();
        if DIFFERENCES.iter().any(|(different, _)| *different == name) {
            continue;
        }
        let items = recorded["items"][exchange["index"].as_str().unwrap()].as_object().unwrap();
        match (exchange["status"].as_u64().unwrap(), answer(items, exchange)) {
            (200, Ok(found)) => {
                let expected: Vec<_> =
                    exchange["ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect();
                // The original gives rows in an order of its own unless it is asked for one.
                let ordered = exchange["order_by"].as_str().is_some_and(|field| field == "views")
                    || exchange["order_by"].is_object();
                match ordered {
                    true => assert_eq!(found, expected, "{name}"),
                    false => {
                        assert_eq!(BTreeSet::from_iter(found), BTreeSet::from_iter(expected), "{name}");
                    }
                }
                rows += 1;
            }
            (400, Err(error)) => {
                let prefix = match exchange["route"].as_str().unwrap() {
                    "query" => "Failed to query: Invalid input: ",
                    "query_metadata" => "Failed to query metadata: Invalid input: ",
                    other => panic!("{other}"),
                };
                let detail = exchange["detail"].as_str().unwrap();
                assert_eq!(format!("{prefix}{}", error.quoting_message()), detail, "{name}");
                messages += 1;
            }
            (status, answer) => panic!("{name}: the original answered {status}, not {answer:?}"),
        }
    }
    assert_eq!((rows, messages), (75, 25), "has the recording changed?");
}

#[test]
fn the_listed_differences_are_real() {
    let recorded: Value = serde_json::from_str(RECORDED).unwrap();
    for (name, reason) in DIFFERENCES {
        let exchanges = recorded["exchanges"].as_array().unwrap();
        let exchange = exchanges.iter().find(|exchange| exchange["name"] == name).expect("recorded");
        assert_eq!(exchange["status"], 400, "{name}: {reason}");
        assert!(Filter::parse(&exchange["filters"]).is_ok(), "{name}: {reason}");
    }
}
