//! Nearest centroid of many points: a register-tiled product of points and packed centroids.

use rayon::prelude::*;
use zeroize::Zeroizing;

use super::code::least;
use super::distance::l2_squared;
use super::kernels::{PANEL, TILE_POINTS, table};

/// Multiply-adds between two chances to cancel: 10 ms with AVX-512, under 100 ms without SIMD.
const BATCH_WORK: usize = 400_000_000;

/// Centroids packed for assignment: shifted by their mean and scaled, so that neither a large common offset nor
/// extreme magnitudes cost precision in `|c|^2 - 2 <x, c>`.
pub struct Assigner<'a> {
    dims: usize,
    centroids: &'a [f32],
    centre: Zeroizing<Vec<f32>>,
    scale: f32,
    /// Panels of [`PANEL`] centroids, by dimension.
    panels: Zeroizing<Vec<f32>>,
    /// `|c|^2 / 2` of each packed centroid; infinite where a panel has no centroid.
    half_norms: Vec<f32>,
}

impl<'a> Assigner<'a> {
    /// Packs `centroids` (k x dims, k at least 1).
    pub fn new(dims: usize, centroids: &'a [f32]) -> Self {
        assert!(dims > 0 && !centroids.is_empty() && centroids.len().is_multiple_of(dims));
        let k = centroids.len() / dims;
        let mut centre = Zeroizing::new(vec![0f64; dims]);
        for row in centroids.chunks_exact(dims) {
            for (sum, x) in centre.iter_mut().zip(row) {
                *sum += f64::from(*x);
            }
        }
        let centre = Zeroizing::new(centre.iter().map(|sum| (sum / k as f64) as f32).collect::<Vec<f32>>());
        let widest = centroids
            .chunks_exact(dims)
            .flat_map(|row| row.iter().zip(&*centre))
            .map(|(x, c)| (x - c).abs())
            .fold(0f32, f32::max);
        // A power of two, so that scaling is exact; kept within what float32 can invert.
        let scale =
            if widest > 0.0 && widest.is_finite() { (-widest.log2().ceil()).clamp(-120.0, 120.0).exp2() } else { 1.0 };

        let panels_count = k.div_ceil(PANEL);
        let mut panels = Zeroizing::new(vec![0f32; panels_count * PANEL * dims]);
        let mut half_norms = vec![f32::INFINITY; panels_count * PANEL];
        for (i, row) in centroids.chunks_exact(dims).enumerate() {
            let panel = &mut panels[i / PANEL * PANEL * dims..][..PANEL * dims];
            let mut squares = 0f64;
            for (d, (x, c)) in row.iter().zip(&*centre).enumerate() {
                let packed = (x - c) * scale;
                panel[d * PANEL + i % PANEL] = packed;
                squares += f64::from(packed) * f64::from(packed);
            }
            half_norms[i] = (squares / 2.0) as f32;
        }
        Self { dims, centroids, centre, scale, panels, half_norms }
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
        (BATCH_WORK / (self.len() * self.dims)).max(TILE_POINTS)
    }

    /// For each point the number of its nearest centroid and the squared distance to it, in parallel on `pool`.
    pub fn assign(&self, points: &[f32], pool: Option<&rayon::ThreadPool>, out: &mut [(u32, f32)]) {
        assert_eq!(points.len(), out.len() * self.dims);
        const CHUNK: usize = TILE_POINTS * 16;
        match pool {
            None => self.assign_here(points, out),
            Some(pool) => pool.install(|| {
                points
                    .par_chunks(CHUNK * self.dims)
                    .zip(out.par_chunks_mut(CHUNK))
                    .for_each(|(points, out)| self.assign_here(points, out));
            }),
        }
    }

    fn assign_here(&self, points: &[f32], out: &mut [(u32, f32)]) {
        let kernels = table();
        let dims = self.dims;
        let mut packed = Zeroizing::new(vec![0f32; dims * TILE_POINTS]);
        let mut products = [0f32; TILE_POINTS * PANEL];
        for (points, out) in points.chunks(dims * TILE_POINTS).zip(out.chunks_mut(TILE_POINTS)) {
            for (lane, point) in points.chunks_exact(dims).enumerate() {
                for (d, (x, c)) in point.iter().zip(&*self.centre).enumerate() {
                    packed[d * TILE_POINTS + lane] = (x - c) * self.scale;
                }
            }
            let mut best = [(f32::INFINITY, 0u32); TILE_POINTS];
            for (number, panel) in self.panels.chunks_exact(PANEL * dims).enumerate() {
                kernels.tile(&packed, panel, &mut products);
                let half_norms = &self.half_norms[number * PANEL..][..PANEL];
                for (best, products) in best.iter_mut().zip(products.chunks_exact(PANEL)) {
                    // Most panels hold no nearer centroid: first their least value, which the compiler vectorises.
                    let mut values = [0f32; PANEL];
                    for ((value, product), half_norm) in values.iter_mut().zip(products).zip(half_norms) {
                        *value = half_norm - product;
                    }
                    let least = least(&values);
                    if least < best.0 {
                        let at = values.iter().position(|value| *value == least).expect("the least is one of them");
                        *best = (least, (number * PANEL + at) as u32);
                    }
                }
            }
            for (lane, (point, out)) in points.chunks_exact(dims).zip(out).enumerate() {
                let nearest = best[lane].1;
                let centroid = &self.centroids[nearest as usize * dims..][..dims];
                *out = (nearest, l2_squared(point, centroid));
            }
        }
    }
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
