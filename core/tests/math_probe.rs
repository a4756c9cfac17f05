//! The promise of a calibration: a target recall is met on queries like the data, and on every row by 1.0.

use sealvec_core::math::distance::{dot, l2_squared, norm, normalize};
use sealvec_core::math::kmeans::{KmeansOptions, kmeans};
use sealvec_core::math::random::Random;
use sealvec_core::math::{Asking, Calibration, ListStats, Prober, Rule, Scored, assign};
use sealvec_core::metric::Metric;

const DIMS: usize = 24;
const LISTS: usize = 60;

/// Gaussian clusters of two scales: some topics are wide, some narrow.
fn rows(random: &mut Random, metric: Metric, topics: &[f32], n: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(n * DIMS);
    for _ in 0..n {
        let topic = random.below(topics.len() / DIMS);
        let spread = if topic.is_multiple_of(3) { 0.2 } else { 0.6 };
        let mut row: Vec<f32> = topics[topic * DIMS..][..DIMS].iter().map(|t| t + spread * random.normal()).collect();
        match metric {
            Metric::Cosine => assert!(normalize(&mut row)),
            Metric::InnerProduct => {
                let stretch = 0.5 + random.uniform() as f32;
                row.iter_mut().for_each(|x| *x *= stretch);
            }
            Metric::L2 => {}
        }
        out.extend(row);
    }
    out
}

struct Lists {
    metric: Metric,
    rows: Vec<f32>,
    centroids: Vec<f32>,
    members: Vec<Vec<usize>>,
    stats: Vec<ListStats>,
    calibration: Calibration,
}

impl Lists {
    fn build(metric: Metric, rows: Vec<f32>, pool: Option<&rayon::ThreadPool>) -> Self {
        let n = rows.len() / DIMS;
        let centroids = kmeans(&rows, DIMS, LISTS, &KmeansOptions::default(), &mut || Ok(())).unwrap();
        let mut nearest = vec![(0, 0.0); n];
        assign(&rows, DIMS, &centroids, None, &mut nearest);
        let mut members = vec![Vec::new(); LISTS];
        for (i, (list, _)) in nearest.iter().enumerate() {
            members[*list as usize].push(i);
        }
        let stats: Vec<ListStats> = members
            .iter()
            .zip(centroids.chunks_exact(DIMS))
            .map(|(members, centroid)| ListStats::new(members.iter().map(|&i| &rows[i * DIMS..][..DIMS]), centroid))
            .collect();
        let places: Vec<usize> = Random::new(b"asking").sample(n, 1024);
        let asking: Vec<f32> = places.iter().flat_map(|&i| &rows[i * DIMS..][..DIMS]).copied().collect();
        let mut asking = Asking::new(metric, DIMS, &asking, &places);
        for (first, batch) in (0..).step_by(700).zip(rows.chunks(700 * DIMS)) {
            asking.see(&(first..first + batch.len() / DIMS).collect::<Vec<_>>(), batch, pool);
        }
        let list_of = |row: usize| Some(nearest[row].0);
        let calibration = asking.calibrate(list_of, &centroids, &stats, pool, &mut || Ok(())).unwrap();
        Self { metric, rows, centroids, members, stats, calibration }
    }

    fn score(&self, q: &[f32], x: &[f32]) -> f32 {
        if self.metric == Metric::InnerProduct { -dot(q, x) } else { l2_squared(q, x) }
    }

    /// Recall of the ten nearest and the share of lists opened before a row was emitted.
    fn recall(&self, q: &[f32], target: f32) -> (f64, f64) {
        let row = |i: usize| &self.rows[i * DIMS..][..DIMS];
        let mut truth: Vec<(f32, usize)> = (0..self.rows.len() / DIMS).map(|i| (self.score(q, row(i)), i)).collect();
        truth.sort_by(|a, b| a.0.total_cmp(&b.0));
        let scores: Vec<f32> = self.centroids.chunks_exact(DIMS).map(|c| self.score(q, c)).collect();
        let lists = Scored { metric: self.metric, query_norm: norm(q), stats: &self.stats, scores: &scores };
        let mut prober = Prober::new(&lists, Rule::Recall(&self.calibration, target));
        let mut opened = Vec::new();
        while prober.bound(&lists) == f32::NEG_INFINITY {
            opened.extend(&self.members[prober.take(&lists).unwrap().0 as usize]);
        }
        let found = truth[..10].iter().filter(|(_, i)| opened.contains(i)).count();
        (found as f64 / 10.0, prober.taken() as f64 / LISTS as f64)
    }
}

#[test]
fn a_target_recall_is_met() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    for metric in [Metric::L2, Metric::Cosine, Metric::InnerProduct] {
        let mut random = Random::new(b"recall");
        let topics: Vec<f32> = (0..40 * DIMS).map(|_| random.normal()).collect();
        let data = rows(&mut random, metric, &topics, 8000);
        let index = Lists::build(metric, data.clone(), Some(&pool));
        assert_eq!(index.calibration, Lists::build(metric, data, None).calibration, "threads change nothing");
        let queries = rows(&mut random, metric, &topics, 300);
        let mut opened_before = 0.0;
        for target in [0.8, 0.9, 0.95, 0.99, 1.0] {
            let (mut recall, mut opened) = (0.0, 0.0);
            for q in queries.chunks_exact(DIMS) {
                let (r, o) = index.recall(q, target);
                (recall, opened) = (recall + r / 300.0, opened + o / 300.0);
            }
            assert!(recall >= f64::from(target) - 0.015, "{metric:?} {target}: {recall}");
            assert!(opened >= opened_before && (target == 1.0 || opened < 0.6), "{metric:?} {target}: {opened}");
            opened_before = opened;
        }
        assert!((opened_before - 1.0).abs() < 1e-9);
    }
}

#[test]
fn degenerate_samples_calibrate_to_something_usable() {
    let calibration = |points: &[f32], lists: &[u32], centroids: &[f32]| {
        let stats = vec![ListStats::default(); centroids.len() / 2];
        let places: Vec<usize> = (0..lists.len()).collect();
        let mut asking = Asking::new(Metric::L2, 2, points, &places);
        asking.see(&places, points, None);
        asking.calibrate(|row| Some(lists[row]), centroids, &stats, None, &mut || Ok(())).unwrap()
    };
    assert_eq!(calibration(&[], &[], &[0.0, 0.0]), Calibration::everything());
    assert_eq!(calibration(&[1.0; 8], &[0; 4], &[0.0; 4]), Calibration::everything());
    for size in [0.0, 1.0, 1e-20, 1e15] {
        let same = calibration(&[size; 400], &[0; 200], &[size, size, size, size]);
        assert!(Calibration::decode(&same.encode()).is_ok(), "{size}");
        let line: Vec<f32> = (0..400).map(|i| i as f32 * size).collect();
        let spread = calibration(&line, &[1; 200], &[0.0, 0.0, 100.0 * size, 100.0 * size]);
        assert!(Calibration::decode(&spread.encode()).is_ok(), "{size}");
    }
}
