//! Lloyd's k-means: random seeds from the data, empty clusters repaired, bounded work between two ticks.
//!
//! Reproducible: the result depends on points, k and seed, never on the number of threads.

use rayon::prelude::*;
use zeroize::Zeroizing;

use super::assign::{Assigner, Groups};
use super::distance::normalize;
use super::random::Random;
use crate::Result;

/// How to cluster.
pub struct KmeansOptions<'a> {
    /// Rounds of assignment and update.
    pub iterations: usize,
    /// Same seed, same result.
    pub seed: u64,
    /// Centroids are normalised after each update (cosine).
    pub spherical: bool,
    /// Where to work in parallel; `None` works on the calling thread alone. Its threads do arithmetic only.
    pub pool: Option<&'a rayon::ThreadPool>,
}

impl Default for KmeansOptions<'_> {
    fn default() -> Self {
        Self { iterations: 10, seed: 1, spherical: false, pool: None }
    }
}

/// Bytes that clustering `n` points needs beside the points themselves (an upper bound).
pub fn memory_bytes(n: usize, k: usize, dims: usize) -> usize {
    let groups = (k as f64).sqrt() as usize + 1;
    let panels = (k + groups * super::kernels::PANEL) * dims * 4;
    // centroids, packed centroids, f64 sums of the clusters being updated, assignment and order of the points
    k * dims * 4 + panels + k * dims * 4 + n * (8 + 4) + k * 32 + dims * 1024 + 65536
}

/// Clusters `points` (n x dims) and returns min(k, n) centroids end to end (none if there is no point or k is 0).
/// With fewer different points than k some centroids are equal. `tick` is called on the calling thread at least every
/// 100 ms or so; its error ends the work and is returned.
pub fn kmeans(
    points: &[f32],
    dims: usize,
    k: usize,
    options: &KmeansOptions<'_>,
    tick: &mut dyn FnMut() -> Result<()>,
) -> Result<Vec<f32>> {
    assert!(dims > 0 && points.len().is_multiple_of(dims));
    let n = points.len() / dims;
    let k = k.min(n);
    if k == 0 {
        return Ok(Vec::new());
    }
    let mut random = Random::from_number(options.seed);
    // Its first centroids are points as they are: wiped if the work is cancelled.
    let mut centroids = Zeroizing::new(Vec::with_capacity(k * dims));
    for i in random.sample(n, k) {
        centroids.extend_from_slice(&points[i * dims..][..dims]);
    }
    spherical(options, dims, &mut centroids);

    let mut nearest = vec![(0u32, 0f32); n];
    for _ in 0..options.iterations {
        let before = nearest.clone();
        assign_batched(points, dims, &centroids, options.pool, &mut nearest, tick)?;
        if before == nearest {
            break;
        }
        update(points, dims, &nearest, &mut centroids, options.pool, tick)?;
        spherical(options, dims, &mut centroids);
    }
    Ok(std::mem::take(&mut *centroids))
}

pub(super) fn spherical(options: &KmeansOptions<'_>, dims: usize, centroids: &mut [f32]) {
    if options.spherical {
        for centroid in centroids.chunks_exact_mut(dims) {
            normalize(centroid); // the mean of opposite points stays zero: a list like any other
        }
    }
}

/// As [`super::assign::assign`], with `tick` called between batches of bounded work.
pub fn assign_batched(
    points: &[f32],
    dims: usize,
    centroids: &[f32],
    pool: Option<&rayon::ThreadPool>,
    out: &mut [(u32, f32)],
    tick: &mut dyn FnMut() -> Result<()>,
) -> Result<()> {
    assign_grouped(points, dims, centroids, None, pool, out, tick)
}

/// As [`assign_batched`], by way of groups if there are any, [roughly](Assigner::roughly).
pub fn assign_grouped(
    points: &[f32],
    dims: usize,
    centroids: &[f32],
    groups: Option<&Groups>,
    pool: Option<&rayon::ThreadPool>,
    out: &mut [(u32, f32)],
    tick: &mut dyn FnMut() -> Result<()>,
) -> Result<()> {
    let assigner = Assigner::grouped(dims, centroids, groups).roughly();
    let batch = assigner.batch_points();
    for (points, out) in points.chunks(batch * dims).zip(out.chunks_mut(batch)) {
        tick()?;
        assigner.assign(points, pool, out);
    }
    tick()
}

/// Moves each centroid to the mean of its points, and each centroid without points to a far point of a wide cluster.
pub(super) fn update(
    points: &[f32],
    dims: usize,
    nearest: &[(u32, f32)],
    centroids: &mut [f32],
    pool: Option<&rayon::ThreadPool>,
    tick: &mut dyn FnMut() -> Result<()>,
) -> Result<()> {
    let k = centroids.len() / dims;
    // Points sorted by cluster (a counting sort), so that each mean is one task and its order of summation is fixed.
    let mut ends = vec![0usize; k];
    for (cluster, _) in nearest {
        ends[*cluster as usize] += 1;
    }
    let mut total = 0;
    for end in &mut ends {
        total += *end;
        *end = total - *end;
    }
    let mut order = vec![0u32; nearest.len()];
    for (i, (cluster, _)) in nearest.iter().enumerate() {
        let at = &mut ends[*cluster as usize];
        order[*at] = i as u32;
        *at += 1;
    }
    let members = |cluster: usize| &order[if cluster == 0 { 0 } else { ends[cluster - 1] }..ends[cluster]];

    let mean = |(cluster, centroid): (usize, &mut [f32])| {
        let members = members(cluster);
        if members.is_empty() {
            return;
        }
        let mut sums = Zeroizing::new(vec![0f64; dims]);
        for &i in members {
            for (sum, x) in sums.iter_mut().zip(&points[i as usize * dims..][..dims]) {
                *sum += f64::from(*x);
            }
        }
        for (out, sum) in centroid.iter_mut().zip(&*sums) {
            *out = (sum / members.len() as f64) as f32;
        }
    };
    // Half the points in one cluster are still one task: 100 ms are some 4e8 elements, so batches follow the points.
    let mut start = 0;
    while start < k {
        let mut end = start + 1;
        let mut work = members(start).len();
        while end < k && (work + members(end).len()) * dims < 200_000_000 {
            work += members(end).len();
            end += 1;
        }
        tick()?;
        let batch = &mut centroids[start * dims..end * dims];
        match pool {
            None => batch.chunks_exact_mut(dims).enumerate().for_each(|(i, c)| mean((start + i, c))),
            Some(pool) => {
                pool.install(|| batch.par_chunks_exact_mut(dims).enumerate().for_each(|(i, c)| mean((start + i, c))));
            }
        }
        start = end;
    }

    // Each empty cluster takes the farthest point of the cluster with the largest sum of squares, one each.
    let mut empty: Vec<usize> = (0..k).filter(|&c| members(c).is_empty()).collect();
    if !empty.is_empty() {
        let spread = |c: usize| members(c).iter().map(|&i| f64::from(nearest[i as usize].1)).sum::<f64>();
        let mut wide: Vec<(f64, usize)> = (0..k).filter(|&c| members(c).len() > 1).map(|c| (spread(c), c)).collect();
        wide.sort_by(|a, b| b.0.total_cmp(&a.0));
        for (_, cluster) in wide {
            let Some(target) = empty.pop() else { break };
            let farthest =
                members(cluster).iter().max_by(|a, b| nearest[**a as usize].1.total_cmp(&nearest[**b as usize].1));
            let i = *farthest.expect("a wide cluster has members") as usize;
            centroids[target * dims..][..dims].copy_from_slice(&points[i * dims..][..dims]);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use crate::math::assign::nearest;

    fn blobs(random: &mut Random, n: usize, k: usize, dims: usize) -> Vec<f32> {
        let centres: Vec<f32> = (0..k * dims).map(|_| 10.0 * random.normal()).collect();
        (0..n)
            .flat_map(|i| (0..dims).map(|d| centres[i % k * dims + d] + 0.1 * random.normal()).collect::<Vec<_>>())
            .collect()
    }

    fn inertia(points: &[f32], dims: usize, centroids: &[f32]) -> f64 {
        points.chunks_exact(dims).map(|p| f64::from(nearest(p, centroids).1)).sum()
    }

    #[test]
    fn separate_blobs_are_found() {
        let mut random = Random::new(b"blobs");
        let points = blobs(&mut random, 2000, 20, 16);
        let options = KmeansOptions { iterations: 25, ..Default::default() };
        let centroids = kmeans(&points, 16, 20, &options, &mut || Ok(())).unwrap();
        // Noise alone is 2000 * 16 * 0.01 = 320; one blob missed costs 100 * 16 * 100.
        let spread = inertia(&points, 16, &centroids);
        assert!(spread < 2000.0 * 400.0, "{spread}");
        assert!(centroids.iter().all(|x| x.is_finite()));
    }

    #[test]
    fn threads_do_not_change_the_result() {
        let mut random = Random::new(b"threads");
        let points = blobs(&mut random, 1000, 7, 33);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let alone = kmeans(&points, 33, 12, &KmeansOptions::default(), &mut || Ok(())).unwrap();
        let options = KmeansOptions { pool: Some(&pool), ..Default::default() };
        assert_eq!(alone, kmeans(&points, 33, 12, &options, &mut || Ok(())).unwrap());
    }

    #[test]
    fn awkward_input_gives_finite_centroids() {
        for (points, dims, k, expected) in [
            (vec![], 3, 5, 0),
            (vec![1.0; 3], 3, 0, 0),
            (vec![1.0, 2.0, 3.0], 1, 10, 3),
            (vec![7.0; 400], 4, 9, 9),
            (vec![0.0; 400], 4, 100, 100),
            ((0..600).map(|i| i as f32 * 1e14).collect(), 3, 8, 8),
            ((0..600).map(|i| i as f32 * 1e-20).collect(), 3, 8, 8),
            ((0..600).map(|i| if i % 2 == 0 { 1.0 } else { -1.0 }).collect(), 1, 8, 8),
        ] {
            for spherical in [false, true] {
                let options = KmeansOptions { spherical, ..Default::default() };
                let centroids = kmeans(&points, dims, k, &options, &mut || Ok(())).unwrap();
                assert_eq!(centroids.len(), expected * dims);
                assert!(centroids.iter().all(|x| x.is_finite()), "{dims} {k}");
            }
        }
    }

    #[test]
    fn spherical_centroids_have_norm_one() {
        let mut random = Random::new(b"sphere");
        let points = blobs(&mut random, 500, 5, 8);
        let options = KmeansOptions { spherical: true, ..Default::default() };
        let centroids = kmeans(&points, 8, 9, &options, &mut || Ok(())).unwrap();
        for centroid in centroids.chunks_exact(8) {
            assert!((crate::math::distance::norm(centroid) - 1.0).abs() < 1e-5);
        }
    }

    #[test]
    fn a_cancelled_clustering_stops() {
        let mut random = Random::new(b"cancel");
        let points = blobs(&mut random, 500, 5, 8);
        let mut ticks = 0;
        let result = kmeans(&points, 8, 9, &KmeansOptions::default(), &mut || {
            ticks += 1;
            if ticks == 4 { Err(Error::Store) } else { Ok(()) }
        });
        assert!(matches!(result, Err(Error::Store)));
        assert_eq!(ticks, 4);
    }
}
