//! Many clusters by way of groups: the points in some groups, each group in its share of the clusters, then rounds over all.
//!
//! k-means compares every point with every centroid. In two levels a point meets the centres of some sqrt(k) groups and
//! the centroids of the few nearest: 1,000,000 points and 11,000 clusters in a tenth of the time. What groups cost at
//! their borders the last rounds mend. Splitting the largest clusters and dropping the smallest evens them out but buys
//! no query anything: at the same recall as many rows are scored.

use zeroize::Zeroizing;

use super::{
    assign::Groups,
    kmeans::{KmeansOptions, assign_batched, assign_grouped, kmeans, spherical, update},
    random::Random,
};
use crate::Result;

/// Clusters from which groups pay.
const GROUPED: usize = 500;
/// Points for each group that groups are made from.
const GROUP_POINTS: usize = 128;
/// Points that are moved between two ticks.
const TICK_POINTS: usize = 1 << 14;
/// Rounds over all points after each group was clustered.
const ROUNDS: usize = 3;

/// What a clustering found.
pub struct Clusters {
    /// Centroids, end to end.
    pub centroids: Zeroizing<Vec<f32>>,
    /// The groups that they are in, if there are many.
    pub groups: Option<Groups>,
}

impl Clusters {
    /// Moves each centroid to the mean of its points, given their sums and counts; one without points stays.
    pub fn move_to_means(
        &mut self,
        dims: usize,
        sums: &[f64],
        counts: &[u32],
        options: &KmeansOptions<'_>,
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        assert!(sums.len() == self.centroids.len() && counts.len() * dims == sums.len());
        for ((centroid, sums), count) in self.centroids.chunks_exact_mut(dims).zip(sums.chunks_exact(dims)).zip(counts)
        {
            if *count > 0 {
                centroid.iter_mut().zip(sums).for_each(|(x, sum)| *x = (sum / f64::from(*count)) as f32);
            }
        }
        spherical(options, dims, &mut self.centroids);
        if let Some(groups) = &mut self.groups {
            *groups = regroup(&mut self.centroids, dims, &groups.centres, options, tick)?;
        }
        Ok(())
    }
}

/// Clusters `points` (n x dims) as [`kmeans`] does, in groups if there are many clusters; puts points in another order.
/// The result depends on points, k and seed alone. `tick` as there.
pub fn cluster(
    points: &mut [f32],
    dims: usize,
    k: usize,
    options: &KmeansOptions<'_>,
    tick: &mut dyn FnMut() -> Result<()>,
) -> Result<Clusters> {
    assert!(dims > 0 && points.len().is_multiple_of(dims));
    let n = points.len() / dims;
    let k = k.min(n);
    if k < GROUPED {
        let centroids = Zeroizing::new(kmeans(points, dims, k, options, tick)?);
        return Ok(Clusters { centroids, groups: None });
    }
    let count = (k as f64).sqrt() as usize;
    let centres = group_centres(points, dims, count, options, tick)?;
    let mut nearest = vec![(0, 0.0); n];
    assign_batched(points, dims, &centres, options.pool, &mut nearest, tick)?;
    let ends = sort(points, dims, count, &nearest, tick)?;

    // Each group's share of the clusters follows from its points; rounding runs on, so that they come to k.
    let mut centroids = Zeroizing::new(Vec::with_capacity(k * dims));
    let share = |points: usize| (points as u128 * k as u128 / n as u128) as usize;
    let mut start = 0;
    for end in ends {
        let clusters = share(end) - share(start);
        let found = Zeroizing::new(kmeans(&points[start * dims..end * dims], dims, clusters, options, tick)?);
        centroids.extend_from_slice(&found);
        start = end;
    }
    let mut groups = regroup(&mut centroids, dims, &centres, options, tick)?;
    for _ in 0..ROUNDS {
        assign_grouped(points, dims, &centroids, Some(&groups), options.pool, &mut nearest, tick)?;
        update(points, dims, &nearest, &mut centroids, options.pool, tick)?;
        spherical(options, dims, &mut centroids);
        groups = regroup(&mut centroids, dims, &centres, options, tick)?;
    }
    Ok(Clusters { centroids, groups: Some(groups) })
}

/// Centres of groups, from as many points as they need.
fn group_centres(
    points: &[f32],
    dims: usize,
    count: usize,
    options: &KmeansOptions<'_>,
    tick: &mut dyn FnMut() -> Result<()>,
) -> Result<Zeroizing<Vec<f32>>> {
    let n = points.len() / dims;
    let wanted = (count * GROUP_POINTS).min(n);
    let mut some = Zeroizing::new(Vec::with_capacity(wanted * dims));
    for point in Random::new(b"groups").sample(n, wanted) {
        some.extend_from_slice(&points[point * dims..][..dims]);
    }
    Ok(Zeroizing::new(kmeans(&some, dims, count, options, tick)?))
}

/// Puts the points of each of `count` clusters together; where those of each end.
fn sort(
    points: &mut [f32],
    dims: usize,
    count: usize,
    nearest: &[(u32, f32)],
    tick: &mut dyn FnMut() -> Result<()>,
) -> Result<Vec<usize>> {
    let mut ends = vec![0usize; count];
    nearest.iter().for_each(|(cluster, _)| ends[*cluster as usize] += 1);
    let mut total = 0;
    for end in &mut ends {
        total += *end;
        *end = total - *end;
    }
    let mut to: Vec<usize> = Vec::with_capacity(nearest.len());
    for (cluster, _) in nearest {
        to.push(ends[*cluster as usize]);
        ends[*cluster as usize] += 1;
    }
    for i in 0..to.len() {
        if i.is_multiple_of(TICK_POINTS) {
            tick()?;
        }
        while to[i] != i {
            let other = to[i];
            let (low, high) = points.split_at_mut(i.max(other) * dims);
            low[i.min(other) * dims..][..dims].swap_with_slice(&mut high[..dims]);
            to.swap(i, other);
        }
    }
    Ok(ends)
}

/// Numbers centroids anew, group by group, each in the group of the nearest centre.
fn regroup(
    centroids: &mut [f32],
    dims: usize,
    centres: &Zeroizing<Vec<f32>>,
    options: &KmeansOptions<'_>,
    tick: &mut dyn FnMut() -> Result<()>,
) -> Result<Groups> {
    let mut nearest = vec![(0, 0.0); centroids.len() / dims];
    assign_batched(centroids, dims, centres, options.pool, &mut nearest, tick)?;
    let ends = sort(centroids, dims, centres.len() / dims, &nearest, tick)?;
    Ok(Groups { centres: centres.clone(), ends })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::Assigner;
    use crate::{Error, math::assign::nearest};

    const DIMS: usize = 12;

    fn points(n: usize) -> Vec<f32> {
        let mut random = Random::new(b"grouped");
        let topics: Vec<f32> = (0..80 * DIMS).map(|_| 3.0 * random.normal()).collect();
        let mut out = Vec::new();
        for i in 0..n {
            // Some topics have many more points than others.
            let topic = (random.uniform().powi(3) * 80.0) as usize;
            out.extend((0..DIMS).map(|d| topics[topic * DIMS + d] + random.normal() + 1e-3 * (i % 7) as f32));
        }
        out
    }

    fn spread(points: &[f32], centroids: &[f32]) -> f64 {
        points.chunks_exact(DIMS).map(|p| f64::from(nearest(p, centroids).1)).sum::<f64>()
    }

    #[test]
    fn groups_cluster_about_as_well_as_all_at_once() {
        let all = points(20_000);
        let options = KmeansOptions::default();
        let flat = kmeans(&all, DIMS, 700, &options, &mut || Ok(())).unwrap();
        let mut mine = all.clone();
        let found = cluster(&mut mine, DIMS, 700, &options, &mut || Ok(())).unwrap();
        assert_eq!(found.centroids.len(), 700 * DIMS);
        let (flat, grouped) = (spread(&all, &flat), spread(&all, &found.centroids));
        assert!(grouped < 1.03 * flat, "{grouped} against {flat}");

        // The same points, in another order.
        let sorted = |points: &[f32]| {
            let mut rows: Vec<Vec<u32>> =
                points.chunks(DIMS).map(|p| p.iter().map(|x| x.to_bits()).collect()).collect();
            rows.sort();
            rows
        };
        assert_eq!(sorted(&mine), sorted(&all));

        let groups = found.groups.unwrap();
        assert_eq!(groups.ends.last(), Some(&700));
        let mut assigned = vec![(0, 0.0); 20_000];
        Assigner::grouped(DIMS, &found.centroids, Some(&groups)).assign(&mine, None, &mut assigned);
        let off = mine.chunks_exact(DIMS).zip(&assigned).filter(|(p, got)| nearest(p, &found.centroids).0 != got.0);
        let off = off.count();
        assert!(off < 200, "{off} points got another cluster than the nearest");
    }

    #[test]
    fn means_of_more_points_lie_nearer() {
        let all = points(20_000);
        let options = KmeansOptions::default();
        let mut found = cluster(&mut all[..3000 * DIMS].to_vec(), DIMS, 600, &options, &mut || Ok(())).unwrap();
        let before = spread(&all, &found.centroids);
        let mut assigned = vec![(0, 0.0); 20_000];
        Assigner::grouped(DIMS, &found.centroids, found.groups.as_ref()).assign(&all, None, &mut assigned);
        let (mut sums, mut counts) = (vec![0f64; 600 * DIMS], vec![0; 600]);
        for (point, (cluster, _)) in all.chunks_exact(DIMS).zip(assigned) {
            counts[cluster as usize] += 1;
            let sums = &mut sums[cluster as usize * DIMS..][..DIMS];
            sums.iter_mut().zip(point).for_each(|(sum, x)| *sum += f64::from(*x));
        }
        found.move_to_means(DIMS, &sums, &counts, &options, &mut || Ok(())).unwrap();
        let after = spread(&all, &found.centroids);
        assert!(after < 0.97 * before, "{after} after {before}");
        assert_eq!(found.groups.unwrap().ends.last(), Some(&600));
    }

    #[test]
    fn threads_do_not_change_the_result() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let run = |pool| {
            let options = KmeansOptions { pool, ..Default::default() };
            cluster(&mut points(6000), DIMS, 600, &options, &mut || Ok(())).unwrap().centroids
        };
        assert_eq!(run(None), run(Some(&pool)));
    }

    #[test]
    fn awkward_points_give_finite_centroids() {
        for points in [vec![7.0; 3000 * 2], vec![0.0; 700 * 2], (0..4000).map(|i| (i % 3) as f32 * 1e15).collect()] {
            for spherical in [false, true] {
                let options = KmeansOptions { spherical, ..Default::default() };
                let found = cluster(&mut points.clone(), 2, 600, &options, &mut || Ok(())).unwrap();
                assert_eq!(found.centroids.len(), 600 * 2);
                assert!(found.centroids.iter().all(|x| x.is_finite()));
                let groups = found.groups.unwrap();
                let mut assigned = vec![(9999, 0.0); points.len() / 2];
                Assigner::grouped(2, &found.centroids, Some(&groups)).assign(&points, None, &mut assigned);
                assert!(assigned.iter().all(|(cluster, _)| *cluster < 600));
            }
        }
    }

    #[test]
    fn a_cancelled_clustering_stops() {
        let mut ticks = 0;
        let result = cluster(&mut points(3000), DIMS, 600, &KmeansOptions::default(), &mut || {
            ticks += 1;
            if ticks == 40 { Err(Error::Store) } else { Ok(()) }
        });
        assert!(matches!(result, Err(Error::Store)));
        assert_eq!(ticks, 40);
    }
}
