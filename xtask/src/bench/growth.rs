//! How a query's time grows with rows: a small derived set beside a large one.

use anyhow::Result;
use serde::Serialize;

use super::engine::Engine;
use super::figure::Figure;
use super::load;
use super::measure::{self, Ground};
use super::sweep::{self, Sweep, Timing};

const TABLE: &str = "sealed_base";
const INDEX: &str = "sealed_base_index";

#[derive(Serialize)]
pub struct Growth {
    pub rows: usize,
    pub base_rows: usize,
    pub points: Vec<Grown>,
}

#[derive(Serialize)]
pub struct Grown {
    pub level: f64,
    pub p50_us: f64,
    pub base_p50_us: f64,
    pub settings: [String; 2],
}

/// Makes an index on the small set and takes turns on it and on the large one, at their best settings.
pub fn measure(large: &Ground, sweep: &Sweep, base: &Ground) -> Result<Growth> {
    load::table(base.cluster, Engine::Sealed, TABLE, base.vectors)?;
    measure::build(base, Engine::Sealed, INDEX, TABLE, "256MB")?;
    measure::check_plan(base, Engine::Sealed, TABLE, INDEX)?;
    let small = sweep::sweep(base, Engine::Sealed, "sealed_ivf, few rows", TABLE, 0.995)?;
    let heats = [sweep::heats(large, &[sweep])?, sweep::heats(base, &[&small])?];
    let points = heats[0].iter().zip(&heats[1]).filter_map(|(large, small)| {
        let (large, level, small) = (large.entries[0].as_ref()?, large.level, small.entries[0].as_ref()?);
        let p50 = |timing: &Timing| timing.p50_us;
        Some(Grown {
            level,
            p50_us: p50(&large.timing),
            base_p50_us: p50(&small.timing),
            settings: [large.setting.clone(), small.setting.clone()],
        })
    });
    Ok(Growth { rows: large.vectors.rows(), base_rows: base.vectors.rows(), points: points.collect() })
}

impl Growth {
    /// The exponent e in time ~ rows^e.
    fn exponent(&self, point: &Grown) -> f64 {
        (point.p50_us / point.base_p50_us).ln() / (self.rows as f64 / self.base_rows as f64).ln()
    }

    pub fn figures(&self) -> Vec<Figure> {
        let figure = |point: &Grown| {
            let note = format!(
                "p50 {:.0} µs at {} ({}), {:.0} µs at {} ({})",
                point.base_p50_us, self.base_rows, point.settings[1], point.p50_us, self.rows, point.settings[0]
            );
            Figure::lower(format!("p50 grows as n to the, recall {}", point.level), self.exponent(point), "")
                .wanted(0.5)
                .note(note)
        };
        self.points.iter().map(figure).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponent_is_that_of_the_growth() {
        let point = Grown { level: 0.98, p50_us: 400.0, base_p50_us: 100.0, settings: Default::default() };
        let growth = Growth { rows: 160_000, base_rows: 10_000, points: Vec::new() };
        assert!((growth.exponent(&point) - 0.5).abs() < 1e-9);
    }
}
