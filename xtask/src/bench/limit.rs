//! What the machine could do at best with the bytes that a query opens and scores.

use anyhow::Result;
use serde::Serialize;

use super::engine::Engine;
use super::figure::Figure;
use super::measure::{DATABASE, Ground};
use super::sweep::Sweep;
use crate::run::step;

/// AES-GCM of one core, and how fast one core reads codes from its caches; the figures.
const OPENED_PER_SECOND: f64 = 12e9;
const SCORED_PER_SECOND: f64 = 30e9;
/// Bytes of a row in a list beside its code: slot and factors.
const BESIDE_CODE: f64 = 12.0;
/// Lists from which a query meets their centroids by code first, and exactly only those that it may open.
const CODED_LISTS: f64 = 256.0;

#[derive(Serialize)]
pub struct Limit {
    pub level: f64,
    pub setting: String,
    /// Coded rows that a query opens and scores.
    pub rows: f64,
    /// Codes that it scores: those rows, and centroids.
    pub codes: f64,
    pub bytes_opened: f64,
    pub bytes_scored: f64,
    pub limit_us: f64,
    pub cpu_us: f64,
}

/// For the fewest probes that reach each level: so many lists of the size that a query meets, L0, the codes of all
/// centroids and the centroids of these lists. Exact rows of the rerank are left out; they are some 30 records of less than a kilobyte.
pub fn limits(ground: &Ground, sweep: &Sweep, index: &str) -> Result<Vec<Limit>> {
    step("reading list sizes", || {
        let mut client = ground.cluster.connect(DATABASE)?;
        let row = client.query_one(
            // A query lies near many rows as a row does: it meets a list as often as the list has rows.
            "SELECT coalesce(sum(rows::float8 ^ 2) / nullif(sum(rows), 0), 0), count(*)::float8
             FROM sealvec.list_stats($1::text::regclass) WHERE NOT is_l0",
            &[&index],
        )?;
        let (per_list, lists): (f64, f64) = (row.get(0), row.get(1));
        let l0: i64 =
            client.query_one("SELECT rows_in_l0 FROM sealvec.index_stats($1::text::regclass)", &[&index])?.get(0);
        let dims = ground.vectors.dims as f64;
        let levels = ground.goals.levels.iter().map(|level| level.recall);
        let limits = levels.filter_map(|level| {
            let reaching = sweep.points.iter().filter(|point| point.recall >= level);
            let (point, probes) = reaching
                .filter_map(|point| Some((point, point.setting.strip_prefix("probes ")?.parse::<f64>().ok()?)))
                .min_by(|a, b| a.1.total_cmp(&b.1))?;
            let rows = probes.min(lists) * per_list + l0 as f64;
            let coded = if lists < CODED_LISTS { 0.0 } else { lists };
            let exact = if lists < CODED_LISTS { lists } else { probes };
            let opened = rows * (dims / 8.0 + BESIDE_CODE);
            let scored = (rows + coded) * dims / 8.0 + exact * dims * 2.0;
            Some(Limit {
                level,
                setting: point.setting.clone(),
                rows,
                codes: rows + coded,
                bytes_opened: opened,
                bytes_scored: scored,
                limit_us: 1e6 * (opened / OPENED_PER_SECOND + scored / SCORED_PER_SECOND),
                cpu_us: point.timing.cpu_us,
            })
        });
        Ok(limits.collect())
    })
}

pub fn print(limits: &[Limit]) {
    if limits.is_empty() {
        return;
    }
    println!(
        "\n{}, fixed probes: bytes opened / 12 GB/s + bytes scored / 30 GB/s, and its share of the CPU time of a query",
        Engine::Sealed.name()
    );
    for limit in limits {
        println!(
            "  {:.3} ({:12}) {:7.0} rows, {:6.0} kB opened, {:6.0} kB scored: {:6.1} µs of {:6.0} µs, {:.0} %",
            limit.level,
            limit.setting,
            limit.rows,
            limit.bytes_opened / 1e3,
            limit.bytes_scored / 1e3,
            limit.limit_us,
            limit.cpu_us,
            100.0 * limit.limit_us / limit.cpu_us
        );
    }
}

pub fn figures(limits: &[Limit]) -> Vec<Figure> {
    let share = |limit: &Limit| 100.0 * limit.limit_us / limit.cpu_us;
    limits
        .iter()
        .map(|limit| {
            Figure::higher(format!("share of the physical limit at recall {}", limit.level), share(limit), "%")
                .note(&limit.setting)
        })
        .collect()
}
