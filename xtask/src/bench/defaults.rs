//! What a user gets who sets nothing, beside the best setting of the sweep.

use anyhow::Result;
use serde::Serialize;

use super::engine::NOTHING_SET;
use super::figure::Figure;
use super::measure::Ground;
use super::sweep::{Session, Sweep, Timing};
use crate::run::step;

/// Recall that the defaults aim at.
const AIM: f64 = 0.95;
const TURNS: usize = 8;
const TURN_SECONDS: f64 = 0.4;

#[derive(Serialize)]
pub struct Defaults {
    pub recall: f64,
    pub plain: Timing,
    /// The cheapest setting that reaches the recall that the defaults aim at.
    pub best_setting: String,
    pub best: Timing,
}

/// Both in turns; nothing where no setting reaches the aim.
pub fn measure(ground: &Ground, sweep: &Sweep) -> Result<Option<Defaults>> {
    let plain = sweep.points.iter().find(|point| point.setting == NOTHING_SET);
    let (Some(plain), Some(best)) = (plain, sweep.best(AIM)) else { return Ok(None) };
    let mut session = Session::open(ground, sweep.engine, &sweep.table)?;
    step(&format!("nothing set and {} in turns", best.setting), || {
        let mut timings: [Option<Timing>; 2] = [None, None];
        for _ in 0..TURNS {
            for (point, kept) in [plain, best].into_iter().zip(&mut timings) {
                session.set(&point.commands)?;
                let timing = session.time(TURN_SECONDS)?;
                *kept = Some(kept.take().map_or(timing.clone(), |kept| kept.bettered_by(&timing)));
            }
        }
        let [plain_timing, best_timing] = timings.map(|timing| timing.expect("there are turns"));
        Ok(Some(Defaults {
            recall: plain.recall,
            plain: plain_timing,
            best_setting: best.setting.clone(),
            best: best_timing,
        }))
    })
}

impl Defaults {
    pub fn figures(&self) -> Vec<Figure> {
        let note = format!("{:.0} QPS; {} does {:.0}", self.plain.qps, self.best_setting, self.best.qps);
        vec![
            Figure::higher("recall with nothing set", self.recall, "").wanted(AIM),
            Figure::higher(format!("QPS with nothing set / best at recall {AIM}"), self.plain.qps / self.best.qps, "x")
                .wanted(0.8)
                .note(note),
        ]
    }
}
