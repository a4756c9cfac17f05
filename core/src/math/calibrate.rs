//! How far queries must look, measured: rows of the data ask, their true neighbours are found, and the quantile of what
//! those needed is the threshold of each recall target ([`super::probe`] says of what).

use rayon::prelude::*;
use zeroize::Zeroizing;

use super::distance::{dot, l2_squared};
use super::kernels::{PANEL, TILE_POINTS, table};
use super::probe::{ANCHOR_ROWS, ListStats, finite};
use crate::metric::Metric;
use crate::{Error, Result};

/// Recall targets whose z is measured and stored.
pub const TARGETS: [f32; 6] = [0.80, 0.90, 0.95, 0.98, 0.99, 0.999];

/// Of what a target leaves out this share is really allowed: pays for error bounds that fail and for sampling noise.
const ALLOWED: f32 = 0.8;
/// Share of the nearest rows whose error bound fails, so that they are found late, however many lists are opened.
const LOST: f64 = 7e-4;

/// How far a query must look for each recall target, measured on the data.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Calibration {
    /// z of each of [`TARGETS`], never falling; infinite opens every list.
    z: [f32; TARGETS.len()],
    /// The t of the module's formulas.
    typical: f32,
}

impl Calibration {
    /// Bytes of the stored form: z of 0.80, 0.90, 0.95, 0.98, 0.99, 0.999 and t, float32 little-endian.
    pub const BYTES: usize = 28;

    /// What an index without enough rows to measure uses: every list is scanned.
    pub fn everything() -> Self {
        Self { z: [f32::INFINITY; TARGETS.len()], typical: 1.0 }
    }

    /// The threshold for a recall target: interpolated in ln(1 - recall); zero finds nothing sure, one opens all lists.
    fn z(&self, target_recall: f32) -> f32 {
        if target_recall >= 1.0 {
            return f32::INFINITY;
        }
        let (first, last) = (TARGETS[0], TARGETS.len() - 1);
        if target_recall <= first {
            return self.z[0] * (target_recall / first).max(0.0);
        }
        let miss = |recall: f32| -(1.0 - recall).ln();
        let above = TARGETS.iter().position(|t| target_recall <= *t).unwrap_or(last);
        let (low, high) = (self.z[above - 1], self.z[above]);
        if high.is_infinite() {
            return high;
        }
        let share =
            (miss(target_recall) - miss(TARGETS[above - 1])) / (miss(TARGETS[above]) - miss(TARGETS[above - 1]));
        low + (high - low) * share
    }

    /// How far behind the nearest a list may be and still be due: z s. Not a number where all rows are one point, or beyond
    /// float32.
    pub fn threshold(&self, target_recall: f32, metric: Metric, q_norm: f32, mean_score: f32) -> f32 {
        self.z(target_recall) * scale(metric, self.typical, q_norm, mean_score)
    }

    /// The stored form.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut out = [0u8; Self::BYTES];
        for (out, x) in out.chunks_exact_mut(4).zip(self.z.iter().chain([&self.typical])) {
            out.copy_from_slice(&x.to_le_bytes());
        }
        out
    }

    /// Reads the stored form.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let malformed = Error::Malformed { what: "probe calibration" };
        if bytes.len() != Self::BYTES {
            return Err(malformed);
        }
        let mut floats = [0f32; TARGETS.len() + 1];
        super::distance::f32le_to_f32(bytes, &mut floats);
        let [z @ .., typical] = floats;
        let rising = z[0] >= 0.0 && z.windows(2).all(|pair| pair[0] <= pair[1]);
        if rising && typical > 0.0 && typical.is_finite() { Ok(Self { z, typical }) } else { Err(malformed) }
    }
}

/// From how many times t on m says that a query lies outside the data.
const FAR: f32 = 1.5;

/// s of the module's formulas: the scale of a query.
fn scale(metric: Metric, typical: f32, q_norm: f32, mean_to_centroid: f32) -> f32 {
    match metric {
        Metric::L2 | Metric::Cosine => {
            let u = mean_to_centroid / typical;
            mean_to_centroid * u.sqrt() * (u / FAR).max(1.0).powi(2)
        }
        Metric::InnerProduct => {
            let size = q_norm * q_norm + typical;
            let u = (size + 2.0 * mean_to_centroid) / size;
            q_norm * typical.sqrt() * u * u
        }
    }
}

/// Rows of the data as queries. Their true neighbours are found while all rows pass by, then what z each recall target
/// needs follows from the lists of those.
///
/// No row that asks may have had a say in a centroid: it would lie nearer to its own list than a query does, by a sixth
/// of the distance where a list has a dozen rows in the sample, and all thresholds would be too wide.
pub struct Asking {
    metric: Metric,
    dims: usize,
    rows: Zeroizing<Vec<f32>>,
    /// Distances come from products, so a large common offset would drown them: this row comes off first (L2 only; the
    /// order of inner products with one query does not survive a shift).
    origin: Zeroizing<Vec<f32>>,
    panels: Vec<AskingPanel>,
    seen: usize,
}

/// Up to [`PANEL`] queries, by dimension, and what they found.
struct AskingPanel {
    values: Zeroizing<Vec<f32>>,
    /// Their own places: no row is its own neighbour.
    places: Vec<usize>,
    /// The nearest rows of each so far, (distance, place), nearest first.
    best: Vec<Vec<(f32, usize)>>,
    /// The distance of the last of those; where a panel has no query, nothing is nearer.
    worst: [f32; PANEL],
}

impl Asking {
    /// For rows of `dims` elements end to end, as many as `places`: where they are among all rows.
    pub fn new(metric: Metric, dims: usize, rows: &[f32], places: &[usize]) -> Self {
        assert_eq!(rows.len(), places.len() * dims);
        let mut origin = Zeroizing::new(vec![0.0; dims]);
        if metric != Metric::InnerProduct && !rows.is_empty() {
            origin.copy_from_slice(&rows[..dims]);
        }
        let panel = |(rows, places): (&[f32], &[usize])| {
            let mut values = Zeroizing::new(vec![0f32; PANEL * dims]);
            let mut worst = [f32::NEG_INFINITY; PANEL];
            for (lane, row) in rows.chunks_exact(dims).enumerate() {
                worst[lane] = f32::INFINITY;
                for (d, (x, o)) in row.iter().zip(&*origin).enumerate() {
                    values[d * PANEL + lane] = x - o;
                }
            }
            let best = vec![Vec::with_capacity(ANCHOR_ROWS + 1); places.len()];
            AskingPanel { values, places: places.to_vec(), best, worst }
        };
        let panels = rows.chunks(PANEL * dims).zip(places.chunks(PANEL)).map(panel).collect();
        Self { metric, dims, rows: Zeroizing::new(rows.to_vec()), origin, panels, seen: 0 }
    }

    /// A batch of rows passes by, each at its place. Of equally near rows those that come first are kept.
    pub fn see(&mut self, places: &[usize], rows: &[f32], pool: Option<&rayon::ThreadPool>) {
        let (dims, metric, origin) = (self.dims, self.metric, &self.origin);
        assert_eq!(rows.len(), places.len() * dims);
        self.seen += places.len();
        let mut centred = Zeroizing::new(vec![0f32; rows.len()]);
        let mut half_norms = vec![0f32; places.len()];
        let centre = |((out, row), half_norm): ((&mut [f32], &[f32]), &mut f32)| {
            out.iter_mut().zip(row).zip(&**origin).for_each(|((out, x), o)| *out = x - o);
            *half_norm = if metric == Metric::InnerProduct { 0.0 } else { dot(out, out) / 2.0 };
        };
        match pool {
            None => {
                centred.chunks_mut(dims).zip(rows.chunks(dims)).zip(&mut half_norms).for_each(centre);
                self.panels.iter_mut().for_each(|panel| panel.see(dims, places, &centred, &half_norms));
            }
            Some(pool) => pool.install(|| {
                centred.par_chunks_mut(dims).zip(rows.par_chunks(dims)).zip(&mut half_norms).for_each(centre);
                self.panels.par_iter_mut().for_each(|panel| panel.see(dims, places, &centred, &half_norms));
            }),
        }
    }

    /// What z each recall target needs, when all rows have passed by. `list_of` names the list of a row by its place.
    /// `tick` is called on the calling thread at least every 100 ms or so.
    pub fn calibrate(
        &self,
        list_of: impl Fn(usize) -> Option<u32> + Sync,
        centroids: &[f32],
        stats: &[ListStats],
        pool: Option<&rayon::ThreadPool>,
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Calibration> {
        assert_eq!(centroids.len(), stats.len() * self.dims);
        if self.rows.is_empty() || self.seen < 2 * ANCHOR_ROWS || stats.len() < 2 {
            return Ok(Calibration::everything());
        }
        let dims = self.dims;
        let neighbours: Vec<&[(f32, usize)]> =
            self.panels.iter().flat_map(|panel| panel.best.iter().map(Vec::as_slice)).collect();
        let one = |(query, neighbours): (&[f32], &&[(f32, usize)])| {
            let scores = centroids.chunks_exact(dims).map(|centroid| match self.metric {
                Metric::L2 | Metric::Cosine => l2_squared(query, centroid),
                Metric::InnerProduct => -dot(query, centroid),
            });
            let scores: Vec<f32> = scores.collect();
            let norm = super::distance::norm(query);
            let reach = |list: usize| stats[list].reach(self.metric, norm, scores[list]);
            let nearest = (0..stats.len()).map(reach).fold(f32::INFINITY, f32::min);
            let lists = neighbours.iter().filter_map(|(_, place)| list_of(*place));
            Asked {
                norm,
                mean: scores.iter().map(|score| f64::from(*score)).sum::<f64>() / scores.len() as f64,
                behind: lists.map(|list| reach(list as usize) - nearest).collect(),
            }
        };
        let batch = (50_000_000 / (stats.len() * dims)).clamp(1, neighbours.len());
        let mut asked = Vec::with_capacity(neighbours.len());
        for (queries, neighbours) in self.rows.chunks(batch * dims).zip(neighbours.chunks(batch)) {
            tick()?;
            match pool {
                None => asked.extend(queries.chunks_exact(dims).zip(neighbours).map(one)),
                Some(pool) => pool.install(|| {
                    asked.par_extend(queries.par_chunks_exact(dims).zip(neighbours).map(one));
                }),
            }
        }
        Ok(Calibration::of(self.metric, &asked))
    }
}

impl AskingPanel {
    fn see(&mut self, dims: usize, places: &[usize], rows: &[f32], half_norms: &[f32]) {
        let kernels = table();
        let mut products = [0f32; TILE_POINTS * PANEL];
        for first in (0..places.len()).step_by(TILE_POINTS) {
            let last = (first + TILE_POINTS).min(places.len());
            kernels.tile(&super::assign::tile(dims, rows, first..last), &self.values, &mut products);
            for (row, products) in (first..last).zip(products.chunks_exact(PANEL)) {
                let value = |product: f32| half_norms[row] - product;
                // Most rows are near none of them, which the compiler finds out with vectors.
                let near = products.iter().zip(&self.worst);
                if !near.fold(false, |any, (product, worst)| any | (value(*product) < *worst)) {
                    continue;
                }
                for ((lane, best), worst) in self.best.iter_mut().enumerate().zip(&mut self.worst) {
                    let value = value(products[lane]);
                    if value < *worst && self.places[lane] != places[row] {
                        let at = best.partition_point(|other| other.0 <= value);
                        best.insert(at, (value, places[row]));
                        best.truncate(ANCHOR_ROWS);
                        *worst = if best.len() == ANCHOR_ROWS { best[ANCHOR_ROWS - 1].0 } else { f32::INFINITY };
                    }
                }
            }
        }
    }
}

/// What one query found.
struct Asked {
    norm: f32,
    /// Mean of its scores against all centroids.
    mean: f64,
    /// How far behind the nearest the lists of its neighbours are.
    behind: Vec<f32>,
}

impl Calibration {
    fn of(metric: Metric, asked: &[Asked]) -> Self {
        let mean = |value: fn(&Asked) -> f64| finite(asked.iter().map(value).sum::<f64>() / asked.len() as f64);
        let typical = match metric {
            Metric::L2 | Metric::Cosine => mean(|asked| asked.mean),
            Metric::InnerProduct => mean(|asked| f64::from(asked.norm).powi(2)),
        };
        let mut needed = Vec::with_capacity(asked.len() * ANCHOR_ROWS);
        for query in asked {
            let scale = scale(metric, typical, query.norm, query.mean as f32);
            needed.extend(query.behind.iter().map(|behind| behind / scale).map(|z| if z.is_nan() { 0.0 } else { z }));
        }
        if needed.is_empty() || !(typical > 0.0 && typical.is_finite()) {
            return Self::everything(); // no distance that float32 can hold
        }
        needed.sort_unstable_by(f32::total_cmp);
        let quantile = |target: f32| {
            let allowed = f64::from((1.0 - target) * ALLOWED);
            let aim = 1.0 - (allowed - LOST).max(allowed * 0.4);
            needed[((needed.len() as f64 * aim).ceil() as usize).min(needed.len()) - 1]
        };
        Self { z: TARGETS.map(quantile), typical }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALIBRATION: Calibration = Calibration { z: [0.1, 0.2, 0.25, 0.5, 0.75, 1.5], typical: 2.0 };

    #[test]
    fn the_stored_form_is_golden() {
        let bytes = CALIBRATION.encode();
        let words: Vec<u32> = bytes.chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect();
        assert_eq!(words, [0x3DCC_CCCD, 0x3E4C_CCCD, 0x3E80_0000, 0x3F00_0000, 0x3F40_0000, 0x3FC0_0000, 0x4000_0000]);
        assert_eq!(Calibration::decode(&bytes).unwrap(), CALIBRATION);
        let everything = Calibration::everything();
        assert_eq!(Calibration::decode(&everything.encode()).unwrap(), everything);
    }

    #[test]
    fn malformed_calibrations_are_refused() {
        let good = CALIBRATION.encode();
        assert!(Calibration::decode(&good[..27]).is_err());
        for (at, bad) in
            [(0, f32::NAN), (0, -0.1), (4, 0.05), (8, f32::NAN), (24, 0.0), (24, f32::INFINITY), (24, -1.0)]
        {
            let mut bytes = good;
            bytes[at..at + 4].copy_from_slice(&bad.to_le_bytes());
            assert!(Calibration::decode(&bytes).is_err(), "{bad} at {at}");
        }
    }

    #[test]
    fn more_recall_never_wants_less() {
        let mut before = 0.0;
        for step in 0..=1000 {
            let z = CALIBRATION.z(step as f32 / 1000.0);
            assert!(z >= before, "{step}: {z} after {before}");
            before = z;
        }
        for (target, z) in TARGETS.iter().zip(CALIBRATION.z) {
            assert!((CALIBRATION.z(*target) - z).abs() < 1e-4);
        }
        assert_eq!(CALIBRATION.z(1.0), f32::INFINITY);
        assert_eq!(Calibration::everything().z(0.5), f32::INFINITY);
    }
}
