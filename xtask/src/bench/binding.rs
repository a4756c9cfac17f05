//! What it costs to bind a query's vector as an array of numbers: the server casts it.

use anyhow::Result;
use serde::Serialize;

use super::engine::{Engine, REAL_ARRAY, array, parameter};
use super::figure::Figure;
use super::measure::Ground;
use super::sweep::{Session, Timing};
use crate::run::step;

const TURNS: usize = 6;
const TURN_SECONDS: f64 = 0.3;

/// The same queries, bound in two ways; nothing set.
#[derive(Serialize)]
pub struct Bindings {
    pub sealvec: Timing,
    pub real_array: Timing,
}

pub fn measure(ground: &Ground) -> Result<Bindings> {
    let table = Engine::Sealed.table();
    let open = |oid, bind| Session::bound(ground, Engine::Sealed, &table, oid, bind);
    let (mut sealvec, mut real_array) = (open(ground.types.sealvec, parameter)?, open(REAL_ARRAY, array)?);
    step("queries bound as sealvec and as real[]", || {
        let mut best = Bindings { sealvec: sealvec.time(TURN_SECONDS)?, real_array: real_array.time(TURN_SECONDS)? };
        for _ in 1..TURNS {
            best.sealvec = best.sealvec.bettered_by(&sealvec.time(TURN_SECONDS)?);
            best.real_array = best.real_array.bettered_by(&real_array.time(TURN_SECONDS)?);
        }
        Ok(best)
    })
}

impl Bindings {
    pub fn figures(&self) -> Vec<Figure> {
        let note = format!("{:.0} µs of CPU, {:.0} bound as sealvec", self.real_array.cpu_us, self.sealvec.cpu_us);
        let ratio = self.real_array.cpu_us / self.sealvec.cpu_us;
        vec![Figure::lower("a query bound as real[] / as sealvec", ratio, "x").note(note)]
    }
}
