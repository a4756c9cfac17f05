//! Nearest centroid of many points: a register-tiled product of points and packed centroids.

use rayon::prelude::*;
use zeroize::Zeroizing;

use super::code::least;
use super::distance::l2_squared;
use super::kernels::{PANEL, TILE_POINTS, table};

/// Multiply-adds between two chances to cancel: 10 ms with AVX-512, under 100 ms without SIMD.
const BATCH_WORK: usize = 400_000_000;

/// Points that one task assigns together.
const TASK_POINTS: usize = TILE_POINTS * 16;
/// The same where centroids are in groups, at most: each group's points of a task are compared together, so the more the
/// better.
const GROUPED_POINTS: usize = 2048;
/// The same for batches, of which each thread gets a share.
const GROUPED_WORK: usize = 3 * BATCH_WORK;

/// Centroids in groups of near ones, numbered group by group.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    /// Centres of the groups, end to end.
    pub centres: Zeroizing<Vec<f32>>,
    /// How many of the centroids are in the groups up to and with each.
    pub ends: Vec<usize>,
}

/// How many of the groups nearest to a point its nearest centroid is looked for in.
const NEAREST_GROUPS: usize = 8;
/// The same while centroids still move.
const ROUGHLY_GROUPS: usize = 4;

/// Centroids packed for assignment: shifted by their mean and scaled, so that neither a large common offset nor
/// extreme magnitudes cost precision in `|c|^2 - 2 <x, c>`.
pub struct Assigner<'a> {
    dims: usize,
    centroids: &'a [f32],
    centre: Zeroizing<Vec<f32>>,
    scale: f32,
    packed: Panels,
    /// The centres of groups, and the end of the panels of each.
    groups: Option<(Panels, Vec<usize>)>,
    /// Groups that a point is compared with.
    nearest_groups: usize,
}

/// Vectors packed in panels of [`PANEL`], by dimension.
#[derive(Default)]
struct Panels {
    values: Zeroizing<Vec<f32>>,
    /// `|c|^2 / 2` of each packed centroid; infinite where a panel has none.
    half_norms: Vec<f32>,
    /// Their numbers.
    numbers: Vec<u32>,
}

impl Panels {
    /// Room for `panels` panels.
    fn with_capacity(panels: usize, dims: usize) -> Self {
        Self {
            values: Zeroizing::new(Vec::with_capacity(panels * PANEL * dims)),
            half_norms: Vec::with_capacity(panels * PANEL),
            numbers: Vec::with_capacity(panels * PANEL),
        }
    }

    /// Appends `rows`, numbered from `first`, to panels of their own.
    fn push(&mut self, first: usize, rows: &[f32], centre: &[f32], scale: f32) {
        let dims = centre.len();
        for (group, rows) in rows.chunks(PANEL * dims).enumerate() {
            let (start, at) = (self.values.len(), self.half_norms.len());
            self.values.resize(start + PANEL * dims, 0.0);
            self.half_norms.resize(at + PANEL, f32::INFINITY);
            self.numbers.resize(at + PANEL, 0);
            for (lane, row) in rows.chunks_exact(dims).enumerate() {
                let mut squares = 0f64;
                for (d, (x, c)) in row.iter().zip(centre).enumerate() {
                    let packed = (x - c) * scale;
                    self.values[start + d * PANEL + lane] = packed;
                    squares += f64::from(packed) * f64::from(packed);
                }
                self.half_norms[at + lane] = (squares / 2.0) as f32;
                self.numbers[at + lane] = (first + group * PANEL + lane) as u32;
            }
        }
    }

    fn len(&self) -> usize {
        self.half_norms.len() / PANEL
    }

    /// `|c|^2 / 2 - <x, c>` of a tile of points and the centroids of each panel of a range: `visit(lane, first, values)`.
    fn compare(
        &self,
        dims: usize,
        tile: &[&[f32]; TILE_POINTS],
        range: std::ops::Range<usize>,
        mut visit: impl FnMut(usize, usize, &[f32; PANEL]),
    ) {
        let kernels = table();
        let mut products = [0f32; TILE_POINTS * PANEL];
        for number in range {
            kernels.tile(tile, &self.values[number * PANEL * dims..][..PANEL * dims], &mut products);
            let half_norms = &self.half_norms[number * PANEL..][..PANEL];
            for (lane, products) in products.chunks_exact(PANEL).enumerate() {
                let mut values = [0f32; PANEL];
                for ((value, product), half_norm) in values.iter_mut().zip(products).zip(half_norms) {
                    *value = half_norm - product;
                }
                visit(lane, number * PANEL, &values);
            }
        }
    }

    /// The nearest centroid of each point of a tile, if it is nearer than the best so far.
    fn nearest(
        &self,
        dims: usize,
        tile: &[&[f32]; TILE_POINTS],
        range: std::ops::Range<usize>,
        best: &mut [(f32, u32); TILE_POINTS],
    ) {
        self.compare(dims, tile, range, |lane, first, values| {
            // Most panels hold no nearer centroid: first their least value, which the compiler vectorises.
            let least = least(values);
            if least < best[lane].0 {
                let at = values.iter().position(|value| *value == least).expect("the least is one of them");
                best[lane] = (least, self.numbers[first + at]);
            }
        });
    }
}

impl<'a> Assigner<'a> {
    /// Packs `centroids` (k x dims, k at least 1).
    pub fn new(dims: usize, centroids: &'a [f32]) -> Self {
        Self::grouped(dims, centroids, None)
    }

    /// As [`Assigner::new`]. With groups a point is compared with the centroids of the few nearest groups only, so for
    /// one in some hundred what it gets is the second nearest.
    pub fn grouped(dims: usize, centroids: &'a [f32], groups: Option<&Groups>) -> Self {
        assert!(dims > 0 && !centroids.is_empty() && centroids.len().is_multiple_of(dims));
        let k = centroids.len() / dims;
        let mut centre = Zeroizing::new(vec![0f64; dims]);
        for row in centroids.chunks_exact(dims) {
            for (sum, x) in centre.iter_mut().zip(row) {
                *sum += f64::from(*x);
            }
        }
        let centre = Zeroizing::new(centre.iter().map(|sum| (sum / k as f64) as f32).collect::<Vec<f32>>());
        let centres = groups.map_or(&[][..], |groups| &groups.centres);
        let widest = centroids
            .chunks_exact(dims)
            .chain(centres.chunks_exact(dims))
            .flat_map(|row| row.iter().zip(&*centre))
            .map(|(x, c)| (x - c).abs())
            .fold(0f32, f32::max);
        // A power of two, so that scaling is exact; kept within what float32 can invert.
        let scale =
            if widest > 0.0 && widest.is_finite() { (-widest.log2().ceil()).clamp(-120.0, 120.0).exp2() } else { 1.0 };

        let Some(groups) = groups else {
            let mut packed = Panels::with_capacity(k.div_ceil(PANEL), dims);
            packed.push(0, centroids, &centre, scale);
            return Self { dims, centroids, centre, scale, packed, groups: None, nearest_groups: 0 };
        };
        assert!(groups.ends.last() == Some(&k) && groups.ends.len() * dims == centres.len());
        let starts = || std::iter::once(0).chain(groups.ends.iter().copied());
        let panels = starts().zip(&groups.ends).map(|(start, end)| (end - start).div_ceil(PANEL)).sum();
        let mut packed = Panels::with_capacity(panels, dims);
        let mut ends = Vec::with_capacity(groups.ends.len());
        for (start, end) in starts().zip(&groups.ends) {
            packed.push(start, &centroids[start * dims..end * dims], &centre, scale);
            ends.push(packed.len());
        }
        let mut coarse = Panels::with_capacity(groups.ends.len().div_ceil(PANEL), dims);
        coarse.push(0, centres, &centre, scale);
        // A group without centroids is nobody's nearest.
        for (group, (start, end)) in starts().zip(&groups.ends).enumerate() {
            if start == *end {
                coarse.half_norms[group] = f32::INFINITY;
            }
        }
        Self { dims, centroids, centre, scale, packed, groups: Some((coarse, ends)), nearest_groups: NEAREST_GROUPS }
    }

    /// Compares with fewer groups: good enough to move centroids.
    pub fn roughly(mut self) -> Self {
        self.nearest_groups = ROUGHLY_GROUPS;
        self
    }

    /// How many centroids there are.
    pub fn len(&self) -> usize {
        self.centroids.len() / self.dims
    }

    /// Never: there is at least one centroid.
    pub fn is_empty(&self) -> bool {
        self.centroids.is_empty()
    }

    /// Points a batch may hold so that one call of [`Assigner::assign`] stays under some 100 ms.
    pub fn batch_points(&self) -> usize {
        let (compared, work) = match &self.groups {
            None => (self.len(), BATCH_WORK),
            Some((coarse, ends)) => {
                let groups = ends.len().max(1);
                let fine = self.packed.len() * PANEL * self.nearest_groups.min(groups) / groups;
                (coarse.len() * PANEL + fine, GROUPED_WORK)
            }
        };
        (work / (compared * self.dims)).max(TILE_POINTS)
    }

    /// For each point the number of its nearest centroid and the squared distance to it, in parallel on `pool`.
    pub fn assign(&self, points: &[f32], pool: Option<&rayon::ThreadPool>, out: &mut [(u32, f32)]) {
        assert_eq!(points.len(), out.len() * self.dims);
        let threads = pool.map_or(1, rayon::ThreadPool::current_num_threads);
        let task = match &self.groups {
            None => TASK_POINTS,
            Some(_) => out.len().div_ceil(threads).next_multiple_of(TILE_POINTS).clamp(TASK_POINTS, GROUPED_POINTS),
        };
        match pool {
            None => points
                .chunks(task * self.dims)
                .zip(out.chunks_mut(task))
                .for_each(|(points, out)| self.assign_here(points, out)),
            Some(pool) => pool.install(|| {
                points
                    .par_chunks(task * self.dims)
                    .zip(out.par_chunks_mut(task))
                    .for_each(|(points, out)| self.assign_here(points, out));
            }),
        }
    }

    fn assign_here(&self, points: &[f32], out: &mut [(u32, f32)]) {
        match &self.groups {
            None => self.assign_to_all(points, out),
            Some((coarse, ends)) => self.assign_by_groups(coarse, ends, points, out),
        }
        for (point, out) in points.chunks_exact(self.dims).zip(out) {
            out.1 = l2_squared(point, &self.centroids[out.0 as usize * self.dims..][..self.dims]);
        }
    }

    /// Points as they are compared: less the centre, scaled.
    fn centred(&self, points: &[f32], out: &mut [f32]) {
        for (point, out) in points.chunks_exact(self.dims).zip(out.chunks_exact_mut(self.dims)) {
            for ((x, c), out) in point.iter().zip(&*self.centre).zip(out) {
                *out = (x - c) * self.scale;
            }
        }
    }

    fn assign_to_all(&self, points: &[f32], out: &mut [(u32, f32)]) {
        let dims = self.dims;
        let mut centred = Zeroizing::new(vec![0f32; dims * TILE_POINTS]);
        for (points, out) in points.chunks(dims * TILE_POINTS).zip(out.chunks_mut(TILE_POINTS)) {
            self.centred(points, &mut centred);
            let mut best = [(f32::INFINITY, 0u32); TILE_POINTS];
            self.packed.nearest(dims, &tile(dims, &centred, 0..TILE_POINTS), 0..self.packed.len(), &mut best);
            for (out, best) in out.iter_mut().zip(best) {
                out.0 = best.1;
            }
        }
    }

    /// Finds the nearest groups of each point, then compares group by group.
    fn assign_by_groups(&self, coarse: &Panels, ends: &[usize], points: &[f32], out: &mut [(u32, f32)]) {
        let dims = self.dims;
        let mut centred = Zeroizing::new(vec![0f32; points.len()]);
        self.centred(points, &mut centred);
        let mut wanted: Vec<Vec<usize>> = vec![Vec::new(); ends.len()];
        let mut scores = vec![[(f32::INFINITY, 0u32); TILE_POINTS]; coarse.len() * PANEL];
        let mut order = Vec::with_capacity(ends.len());
        for first in (0..out.len()).step_by(TILE_POINTS) {
            let last = (first + TILE_POINTS).min(out.len());
            coarse.compare(dims, &tile(dims, &centred, first..last), 0..coarse.len(), |lane, first, values| {
                for (at, value) in values.iter().enumerate() {
                    scores[first + at][lane] = (*value, (first + at) as u32);
                }
            });
            for point in first..last {
                order.clear();
                order.extend(scores.iter().map(|scores| scores[point - first]).filter(|score| score.0 < f32::INFINITY));
                if order.len() > self.nearest_groups {
                    order.select_nth_unstable_by(self.nearest_groups - 1, |a, b| a.0.total_cmp(&b.0));
                }
                for (_, group) in order.iter().take(self.nearest_groups) {
                    wanted[*group as usize].push(point);
                }
            }
        }
        let mut best = vec![(f32::INFINITY, 0u32); out.len()];
        let starts = std::iter::once(0).chain(ends.iter().copied());
        for ((start, end), wanted) in starts.zip(ends).zip(&wanted) {
            for wanted in wanted.chunks(TILE_POINTS) {
                let mut nearest = [(f32::INFINITY, 0); TILE_POINTS];
                for (nearest, point) in nearest.iter_mut().zip(wanted) {
                    *nearest = best[*point];
                }
                let tile = tile(dims, &centred, wanted.iter().copied());
                self.packed.nearest(dims, &tile, start..*end, &mut nearest);
                for (nearest, point) in nearest.into_iter().zip(wanted) {
                    best[*point] = nearest;
                }
            }
        }
        for (out, best) in out.iter_mut().zip(best) {
            out.0 = best.1;
        }
    }
}

/// The rows of some points; a lane without one repeats the first.
pub(super) fn tile(dims: usize, rows: &[f32], points: impl Iterator<Item = usize>) -> [&[f32]; TILE_POINTS] {
    let mut tile = [&rows[..0]; TILE_POINTS];
    let mut filled = 0;
    for (lane, point) in tile.iter_mut().zip(points) {
        *lane = &rows[point * dims..][..dims];
        filled += 1;
    }
    let first = tile[0];
    tile[filled..].fill(first);
    tile
}

/// For each point the number of its nearest centroid (k x dims) and the squared distance to it. For cosine, points and
/// centroids are normalised by the caller; for inner product lists are cells of squared distance all the same.
pub fn assign(
    points: &[f32],
    dims: usize,
    centroids: &[f32],
    pool: Option<&rayon::ThreadPool>,
    out: &mut [(u32, f32)],
) {
    Assigner::new(dims, centroids).assign(points, pool, out);
}

/// The nearest centroid of one point and the squared distance to it.
pub fn nearest(point: &[f32], centroids: &[f32]) -> (u32, f32) {
    assert!(!point.is_empty() && !centroids.is_empty());
    let mut best = (0, f32::INFINITY);
    for (i, centroid) in centroids.chunks_exact(point.len()).enumerate() {
        let distance = l2_squared(point, centroid);
        if distance < best.1 {
            best = (i as u32, distance);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::kernels::all;
    use crate::math::random::Random;

    fn vectors(random: &mut Random, n: usize, dims: usize, mean: f32, size: f32) -> Vec<f32> {
        (0..n * dims).map(|_| mean + size * random.normal()).collect()
    }

    #[test]
    fn assignment_is_the_nearest_centroid() {
        let mut random = Random::new(b"assign");
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        for (n, k, dims, mean, size) in [
            (1, 1, 1, 0.0, 1.0),
            (70, 33, 3, 0.0, 1.0),
            (300, 31, 65, 0.0, 1.0),
            (300, 32, 384, 1e4, 1.0),
            (200, 100, 20, 0.0, 1e15),
            (200, 100, 20, 0.0, 1e-18),
            (40, 3, 16000, 0.0, 1.0),
        ] {
            let points = vectors(&mut random, n, dims, mean, size);
            let centroids = vectors(&mut random, k, dims, mean, size);
            let (mut here, mut there) = (vec![(0, 0.0); n], vec![(0, 0.0); n]);
            assign(&points, dims, &centroids, None, &mut here);
            assign(&points, dims, &centroids, Some(&pool), &mut there);
            assert_eq!(here, there);
            for (point, (number, distance)) in points.chunks_exact(dims).zip(&here) {
                let (_, best) = nearest(point, &centroids);
                assert_eq!(*distance, l2_squared(point, &centroids[*number as usize * dims..][..dims]));
                assert!(*distance <= best * 1.0001, "{n} {k} {dims} {mean} {size}: {distance} above {best}");
            }
        }
    }

    #[test]
    fn every_kernel_set_multiplies_alike() {
        let mut random = Random::new(b"tile");
        for dims in [1, 2, 7, 64, 385] {
            let points = vectors(&mut random, dims, TILE_POINTS, 0.0, 1.0);
            let panel = vectors(&mut random, dims, PANEL, 0.0, 1.0);
            let mut want = [0f32; TILE_POINTS * PANEL];
            let points = super::tile(dims, &points, 0..TILE_POINTS);
            all()[0].tile(&points, &panel, &mut want);
            for set in all() {
                let mut got = [0f32; TILE_POINTS * PANEL];
                set.tile(&points, &panel, &mut got);
                for (got, want) in got.iter().zip(&want) {
                    assert!((got - want).abs() < 1e-3, "{} {dims}: {got} is not {want}", set.name);
                }
            }
        }
    }

    #[test]
    fn hostile_points_still_get_a_list() {
        let centroids = [0.0f32, 0.0, 1.0, 1.0];
        let points = [f32::MAX, f32::MAX, -1e30, 1e30, 0.0, 0.0];
        let mut out = [(9, 0.0); 3];
        assign(&points, 2, &centroids, None, &mut out);
        assert!(out.iter().all(|(number, distance)| *number < 2 && !distance.is_nan()));
    }
}
