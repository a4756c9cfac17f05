//! Nearest neighbours: from SQL, by index or by sequential scan, and exact.

use postgres::Client;

use crate::{Matrix, said};

/// One row of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Near {
    pub id: i32,
    pub distance: f64,
}

/// The `limit` nearest rows of `table` by `operator`, as the session's settings plan it.
pub fn nearest(client: &mut Client, table: &str, operator: &str, query: &[f32], limit: i64) -> Vec<Near> {
    try_nearest(client, table, operator, query, limit).unwrap_or_else(|error| panic!("{table}: {}", said(&error)))
}

/// Like [`nearest`], where the server may give an error.
pub fn try_nearest(
    client: &mut Client,
    table: &str,
    operator: &str,
    query: &[f32],
    limit: i64,
) -> Result<Vec<Near>, postgres::Error> {
    let sql = format!(
        "SELECT id, embedding {operator} $1::real[]::sealvec FROM {table} \
         ORDER BY embedding {operator} $1::real[]::sealvec LIMIT $2"
    );
    let rows = client.query(&sql, &[&query, &limit])?;
    Ok(rows.iter().map(|row| Near { id: row.get(0), distance: row.get(1) }).collect())
}

/// Asks each query by the index with every list probed, and by a sequential scan; panics where the answers differ.
/// Rows at equal distance may come in any order. Returns how many rows were compared.
pub fn both_ways(client: &mut Client, table: &str, operator: &str, queries: &Matrix, limit: i64) -> usize {
    let mut compared = 0;
    for query in 0..queries.rows() {
        by_index(client, table, operator);
        let from_index = nearest(client, table, operator, queries.row(query), limit);
        crate::run(client, "SET enable_indexscan = off; SET enable_seqscan = on");
        let from_heap = nearest(client, table, operator, queries.row(query), limit);
        crate::run(client, "RESET enable_indexscan; RESET enable_seqscan; RESET sealvec.probes");
        same(&from_index, &from_heap).unwrap_or_else(|what| panic!("{table} {operator} query {query}: {what}"));
        compared += from_heap.len();
    }
    compared
}

/// Makes the session use the index, with every list probed, and sees that the plan does.
pub fn by_index(client: &mut Client, table: &str, operator: &str) {
    crate::run(client, "SET enable_seqscan = off; SET sealvec.probes = 32768");
    let explain = format!(
        "EXPLAIN SELECT id FROM {table} ORDER BY embedding {operator} \
         (SELECT embedding FROM {table} LIMIT 1) LIMIT 5"
    );
    let plan: Vec<String> = client
        .query(&explain, &[])
        .unwrap_or_else(|error| panic!("{explain}: {}", said(&error)))
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert!(plan.iter().any(|line| line.contains("Index Scan")), "expected an index scan:\n{}", plan.join("\n"));
}

/// Whether two answers are the same rows at the same distances, in order but for ties.
pub fn same(left: &[Near], right: &[Near]) -> Result<(), String> {
    if left.len() != right.len() {
        return Err(format!("{} rows by index, {} by sequential scan", left.len(), right.len()));
    }
    for (place, (a, b)) in left.iter().zip(right).enumerate() {
        if (a.distance - b.distance).abs() > 1e-6 {
            return Err(format!("place {place}: {a:?} by index, {b:?} by sequential scan"));
        }
        // Where another row has the same distance, the two may have changed places, also across the end.
        let tie =
            right.iter().filter(|c| (c.distance - b.distance).abs() <= 1e-6).count() > 1 || place + 1 == right.len();
        if a.id != b.id && !tie {
            return Err(format!("place {place}: row {} by index, row {} by sequential scan", a.id, b.id));
        }
    }
    let mut ids: Vec<i32> = left.iter().map(|near| near.id).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.len() != left.len() {
        return Err("a row came twice by index".into());
    }
    Ok(())
}

/// Euclidean distance.
pub fn l2(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(x, y)| f64::from(x - y).powi(2)).sum::<f64>().sqrt()
}

/// Cosine distance.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    1.0 - dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// The distance of the `k`-th nearest of `rows` to `query`: what is not further belongs to the answer.
pub fn kth(distances: impl Iterator<Item = f64>, k: usize) -> f64 {
    let mut distances: Vec<f64> = distances.collect();
    let at = k.min(distances.len()) - 1;
    *distances.select_nth_unstable_by(at, f64::total_cmp).1
}
