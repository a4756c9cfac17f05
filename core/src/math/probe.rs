//! Which lists a query must scan, and when it may stop.
//!
//! Each list has a reach e, smaller for lists more likely to hold near rows:
//! squared L2 (and cosine): e = |q - c|^2 + r2 / 4, r2 the mean squared distance of its rows to c;
//! negative inner product: e = -<q, c> - |q| sigma / 2, sigma the deviation of its rows along a typical direction.
//!
//! A query first scans every list with e - min(e) <= z s. s is the query's own scale, so that questions far from all
//! data open more lists: L2 t u^1.5 max(1, u / 1.5)^2, where u = m / t, m is the mean of |q - c|^2 over all lists and t its
//! mean over queries drawn from the data; inner product |q| sqrt(t) u^2 with t the mean squared norm of rows and u = |q - c|^2 averaged over lists
//! and divided by |q|^2 + t. z comes from [`Asking`]: rows as queries, the quantile of what their true neighbours
//! needed. On 62,666 real embeddings in 250 lists a target of 0.95 opens 27 lists and finds 0.964 of the ten nearest of
//! held-out items, 0.984 of those of questions; a constant s that serves the items finds 0.914 of the questions'.
//!
//! The scan is a stream: after the first [`ANCHOR_ROWS`] rows what the caller still wants can't be known, so each row
//! emitted at score d beyond the last of those, a, widens the threshold by a slope times d - a. A filter that rejects
//! most rows thus opens more and more lists.

use zeroize::Zeroizing;

use super::calibrate::Calibration;
use super::distance::dot;
use crate::metric::Metric;

/// Rows emitted before the threshold starts to widen: what a first page of results holds.
pub const ANCHOR_ROWS: usize = 10;

/// What a scan knows of a list beside its centroid.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ListStats {
    /// Mean squared distance of the rows to the centroid.
    pub r2: f32,
    /// Root mean square of the rows' projection on the direction from the centroid to another row.
    pub sigma: f32,
}

impl ListStats {
    /// Of the rows of a list, or of a sample of them; a list without rows has zeros.
    pub fn new<'a>(rows: impl Iterator<Item = &'a [f32]>, centroid: &[f32]) -> Self {
        let dims = centroid.len();
        let mut n = 0;
        let (mut squares, mut products) = (0f64, 0f64);
        let mut before = Zeroizing::new(vec![0f32; dims]);
        let mut residual = Zeroizing::new(vec![0f32; dims]);
        for row in rows {
            assert_eq!(row.len(), dims);
            for ((r, x), c) in residual.iter_mut().zip(row).zip(centroid) {
                *r = x - c;
            }
            squares += f64::from(dot(&residual, &residual));
            if n > 0 {
                products += f64::from(dot(&residual, &before)).powi(2);
            }
            std::mem::swap(&mut before, &mut residual);
            n += 1;
        }
        if n == 0 {
            return Self::default();
        }
        let r2 = squares / n as f64;
        // E <a, b>^2 / E |b|^2 is the mean square of a along the direction of b, for independent rows a and b.
        let sigma = if n > 1 && r2 > 0.0 { (products / (n - 1) as f64 / r2).sqrt() } else { 0.0 };
        Self { r2: finite(r2), sigma: finite(sigma) }
    }

    /// The statistics of two sets of rows together, near enough where their means are near.
    pub fn merged(self, rows: usize, other: Self, other_rows: usize) -> Self {
        let total = (rows + other_rows).max(1) as f32;
        let mean = |a: f32, b: f32| a * (rows as f32 / total) + b * (other_rows as f32 / total);
        Self { r2: mean(self.r2, other.r2), sigma: mean(self.sigma, other.sigma) }
    }

    /// e of the module's formulas, of a list at this score; it never falls with the score.
    pub(super) fn reach(&self, metric: Metric, q_norm: f32, q_to_centroid: f32) -> f32 {
        match metric {
            Metric::L2 | Metric::Cosine => q_to_centroid + 0.25 * self.r2,
            Metric::InnerProduct => q_to_centroid - 0.5 * q_norm * self.sigma,
        }
    }
}

pub(super) fn finite(x: f64) -> f32 {
    x.min(f64::from(f32::MAX)) as f32
}

/// The lists as one query sees them.
pub trait Lists {
    /// How many there are.
    fn count(&self) -> usize;

    /// Score of the query against the centroid of a list: squared distance, or negative inner product.
    fn score(&self, list: u32) -> f32;

    /// Lower bounds of the scores of all lists, in their order; returns whether they are the scores themselves.
    fn bounds(&self, out: &mut Vec<f32>) -> bool;

    /// Mean of the scores of all lists.
    fn mean_score(&self) -> f32;

    /// How the scores compare.
    fn metric(&self) -> Metric;

    /// Norm of the query.
    fn query_norm(&self) -> f32;

    /// What is known of each list.
    fn stats(&self) -> &[ListStats];
}

/// Lists whose scores are all known.
pub struct Scored<'a> {
    /// How the scores compare.
    pub metric: Metric,
    /// Norm of the query.
    pub query_norm: f32,
    /// What is known of each list.
    pub stats: &'a [ListStats],
    /// The score of each list.
    pub scores: &'a [f32],
}

impl Lists for Scored<'_> {
    fn count(&self) -> usize {
        self.scores.len()
    }

    fn score(&self, list: u32) -> f32 {
        self.scores[list as usize]
    }

    fn bounds(&self, out: &mut Vec<f32>) -> bool {
        out.clear();
        out.extend_from_slice(self.scores);
        true
    }

    fn mean_score(&self) -> f32 {
        self.scores.iter().sum::<f32>() / self.scores.len().max(1) as f32
    }

    fn metric(&self) -> Metric {
        self.metric
    }

    fn query_norm(&self) -> f32 {
        self.query_norm
    }

    fn stats(&self) -> &[ListStats] {
        self.stats
    }
}

/// When a scan may stop opening lists.
#[derive(Clone, Copy, Debug)]
pub enum Rule<'a> {
    /// When this share of the nearest rows has been found, as far as was measured.
    Recall(&'a Calibration, f32),
    /// After so many lists, and no more until it runs dry.
    Probes(usize),
}

/// A list whose score was taken.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// e - min(e).
    behind: f32,
    list: u32,
    score: f32,
}

/// Lists that are looked through or skipped together, by the least of their bounds.
const TOGETHER: usize = 32;
/// How much farther the next batch of lists reaches than the nearest list that is left.
const WIDER: f32 = 1.25;

/// The order in which one query opens lists, and the score below which rows may be emitted.
///
/// Where bounds are cheaper than scores (see [`Lists::bounds`]) only lists that may be due are scored; the others wait by
/// their bound until the stream gets there. The order is the same.
#[derive(Clone, Debug)]
pub struct Prober {
    /// Lists with their scores, nearest first: those in `sorted`, then the others in any order.
    known: Vec<Known>,
    sorted: usize,
    next: usize,
    /// Lower bounds of e of the other lists, by number; infinite for known ones.
    waiting: Vec<f32>,
    /// The least of each [`TOGETHER`] of them.
    least: Vec<f32>,
    /// How many wait.
    left: usize,
    nearest: f32,
    /// Every list this far behind is in order.
    reached: f32,
    threshold: f32,
    slope: f32,
    emitted: usize,
    anchor: f32,
}

impl Prober {
    /// For a query that sees `lists` so; the same must be given to every later call.
    pub fn new(lists: &impl Lists, rule: Rule<'_>) -> Self {
        let mut prober = Self::nearest_known(lists);
        match rule {
            Rule::Recall(calibration, target) => {
                let threshold = calibration.threshold(target, lists.metric(), lists.query_norm(), lists.mean_score());
                // Not a number where all rows are one point, or beyond float32: then every list is scanned.
                prober.threshold = if threshold.is_nan() { f32::INFINITY } else { threshold };
                // More recall, faster widening: 1.1 at 0.95 and 1.45 at 0.99 hold the target under filters of any
                // selectivity.
                prober.slope = (0.95 + 0.22 * (0.1 / (1.0 - target).max(1e-4)).ln()).max(0.25);
            }
            Rule::Probes(probes) => prober.threshold = prober.behind_of(lists, probes),
        }
        prober.reach(lists, prober.threshold);
        prober
    }

    /// All lists by their bounds, and those scored that may be the nearest.
    fn nearest_known(lists: &impl Lists) -> Self {
        let mut prober = Self {
            known: Vec::new(),
            sorted: 0,
            next: 0,
            waiting: Vec::with_capacity(lists.count().next_multiple_of(TOGETHER)),
            least: Vec::new(),
            left: 0,
            nearest: f32::INFINITY,
            reached: f32::NEG_INFINITY,
            threshold: 0.0,
            slope: 0.0,
            emitted: 0,
            anchor: 0.0,
        };
        let (metric, norm) = (lists.metric(), lists.query_norm());
        let exact = lists.bounds(&mut prober.waiting);
        assert!(prober.waiting.len() == lists.count() && lists.stats().len() == lists.count());
        if exact {
            prober.known.reserve_exact(lists.count());
            for ((list, stats), score) in (0..).zip(lists.stats()).zip(prober.waiting.drain(..)) {
                let reach = stats.reach(metric, norm, score);
                prober.nearest = prober.nearest.min(reach);
                prober.known.push(Known { behind: reach, list, score });
            }
        } else {
            for (bound, stats) in prober.waiting.iter_mut().zip(lists.stats()) {
                let reach = stats.reach(metric, norm, *bound);
                // Infinity says that a list is known.
                *bound = if reach.is_nan() { f32::NEG_INFINITY } else { reach.min(f32::MAX) };
            }
            prober.left = lists.count();
            prober.waiting.resize(lists.count().next_multiple_of(TOGETHER), f32::INFINITY);
            prober.least.extend(prober.waiting.chunks_exact(TOGETHER).map(least));
            // The list of the least bound first: its e rules out most others.
            let least = least(&prober.least);
            if let Some(first) = prober.waiting.iter().position(|bound| *bound == least && *bound < f32::INFINITY) {
                prober.nearest = prober.nearest.min(prober.score(lists, first));
            }
            (0..prober.least.len()).for_each(|chunk| prober.score_nearest(lists, chunk));
        }
        let nearest = prober.nearest;
        for known in &mut prober.known {
            known.behind = behind(known.behind, nearest);
        }
        prober
    }

    /// Scores what may be nearest of all in a chunk; `behind` is e itself until the nearest is known.
    fn score_nearest(&mut self, lists: &impl Lists, chunk: usize) {
        if self.least[chunk] > self.nearest {
            return;
        }
        for place in chunk * TOGETHER..(chunk + 1) * TOGETHER {
            if self.waiting[place] <= self.nearest && self.waiting[place] < f32::INFINITY {
                let reach = self.score(lists, place);
                self.nearest = self.nearest.min(reach);
            }
        }
        self.least[chunk] = least(&self.waiting[chunk * TOGETHER..][..TOGETHER]);
    }

    /// Takes the score of a list that waited; its e.
    fn score(&mut self, lists: &impl Lists, place: usize) -> f32 {
        let score = lists.score(place as u32);
        let reach = lists.stats()[place].reach(lists.metric(), lists.query_norm(), score);
        self.known.push(Known { behind: reach, list: place as u32, score });
        self.waiting[place] = f32::INFINITY;
        self.left -= 1;
        reach
    }

    /// Scores every list that may be no further behind than `limit`.
    fn score_within(&mut self, lists: &impl Lists, limit: f32) {
        if self.left == 0 {
            return;
        }
        for chunk in 0..self.least.len() {
            if behind(self.least[chunk], self.nearest) > limit {
                continue;
            }
            for place in chunk * TOGETHER..(chunk + 1) * TOGETHER {
                let bound = self.waiting[place];
                if bound < f32::INFINITY && behind(bound, self.nearest) <= limit {
                    let reach = self.score(lists, place);
                    self.known.last_mut().expect("just scored").behind = behind(reach, self.nearest);
                }
            }
            self.least[chunk] = least(&self.waiting[chunk * TOGETHER..][..TOGETHER]);
        }
    }

    /// How far behind the last of the `probes` nearest lists is.
    fn behind_of(&mut self, lists: &impl Lists, probes: usize) -> f32 {
        if probes >= lists.count() {
            return f32::INFINITY;
        }
        let Some(last) = probes.checked_sub(1) else {
            return f32::NEG_INFINITY;
        };
        if self.left > 0 {
            // So many lists are no further than the worst of those with the least bounds.
            let mut bounds = self.waiting.clone();
            bounds[..lists.count()].select_nth_unstable_by(last, f32::total_cmp);
            self.score_within(lists, behind(bounds[last].min(f32::MAX), self.nearest));
            if self.known.len() > last {
                let enough = self.select(last);
                self.score_within(lists, enough);
            } else {
                self.score_within(lists, f32::INFINITY);
            }
        }
        self.select(last)
    }

    /// How far behind the list at `place` is in the order of those that are known.
    fn select(&mut self, place: usize) -> f32 {
        self.known.select_nth_unstable_by(place, |a, b| a.behind.total_cmp(&b.behind)).1.behind
    }

    /// Brings every list up to `limit` behind in order. Most scans need no more, so the others are not sorted.
    fn reach(&mut self, lists: &impl Lists, limit: f32) {
        self.score_within(lists, limit);
        let mut end = self.sorted;
        for i in self.sorted..self.known.len() {
            if self.known[i].behind <= limit {
                self.known.swap(i, end);
                end += 1;
            }
        }
        self.known[self.sorted..end].sort_unstable_by(|a, b| a.behind.total_cmp(&b.behind).then(a.list.cmp(&b.list)));
        self.sorted = end;
        self.reached = self.reached.max(limit);
    }

    fn prepare_next(&mut self, lists: &impl Lists) {
        while self.next == self.sorted && self.next < self.known.len() + self.left {
            let waiting = behind(least(&self.least), self.nearest);
            let waiting = if self.left == 0 { f32::INFINITY } else { waiting };
            let nearest = self.known[self.next..].iter().fold(waiting, |nearest, known| nearest.min(known.behind));
            // A batch of lists at a time; and what waits behind by nothing must not hold it up.
            self.reach(lists, (nearest * WIDER).max(f32::MIN_POSITIVE));
        }
    }

    /// Rows at a score up to this may be emitted before another list is opened: -infinity while the first lists are
    /// due, infinity when no list needs to be. The scan opens one nevertheless when it has no row left.
    pub fn bound(&mut self, lists: &impl Lists) -> f32 {
        let first_rows = self.emitted < ANCHOR_ROWS || self.slope == 0.0;
        if first_rows && self.next == self.sorted && self.reached >= self.threshold {
            return f32::INFINITY; // whatever the next list is, it is not due
        }
        self.prepare_next(lists);
        let Some(known) = self.known.get(self.next) else { return f32::INFINITY };
        let beyond = known.behind - self.threshold;
        if beyond <= 0.0 || beyond.is_nan() {
            f32::NEG_INFINITY
        } else if first_rows {
            f32::INFINITY
        } else {
            self.anchor + beyond / self.slope
        }
    }

    /// The next list to open and its score, nearest first; none when all were.
    pub fn take(&mut self, lists: &impl Lists) -> Option<(u32, f32)> {
        self.prepare_next(lists);
        let known = self.known.get(self.next)?;
        self.next += 1;
        Some((known.list, known.score))
    }

    /// The list that comes after, as far as is known.
    pub fn peek(&self) -> Option<u32> {
        self.known[..self.sorted].get(self.next).map(|known| known.list)
    }

    /// Lists opened so far.
    pub fn taken(&self) -> usize {
        self.next
    }

    /// Lists whose score was taken so far.
    pub fn scored(&self) -> usize {
        self.known.len()
    }

    /// A row was emitted at this score.
    pub fn emitted(&mut self, score: f32) {
        self.emitted += 1;
        if self.emitted <= ANCHOR_ROWS {
            self.anchor = score;
        }
    }
}

/// How far behind the nearest; what is no number counts as near.
fn behind(reach: f32, nearest: f32) -> f32 {
    let behind = reach - nearest;
    if behind.is_nan() { 0.0 } else { behind }
}

fn least(values: &[f32]) -> f32 {
    values.iter().fold(f32::INFINITY, |least, value| if *value < least { *value } else { least })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::random::Random;

    /// z of 0.80, 0.90, 0.95, 0.98, 0.99 and 0.999, then t.
    const STORED: [f32; 7] = [0.1, 0.2, 0.25, 0.5, 0.75, 1.5, 2.0];

    /// A prober with the lists that it is for.
    struct Probe<'a> {
        lists: Scored<'a>,
        prober: Prober,
    }

    impl<'a> Probe<'a> {
        fn new(lists: Scored<'a>, rule: Rule<'_>) -> Self {
            Self { prober: Prober::new(&lists, rule), lists }
        }

        fn bound(&mut self) -> f32 {
            self.prober.bound(&self.lists)
        }

        fn take(&mut self) -> Option<u32> {
            let (list, score) = self.prober.take(&self.lists)?;
            assert!(score == self.lists.scores[list as usize] || score.is_nan());
            Some(list)
        }
    }

    const NONE: [ListStats; 500] = [ListStats { r2: 0.0, sigma: 0.0 }; 500];

    fn plain(scores: &[f32]) -> Scored<'_> {
        Scored { metric: Metric::L2, query_norm: 1.0, stats: &NONE[..scores.len()], scores }
    }

    fn calibration() -> Calibration {
        let bytes: Vec<u8> = STORED.iter().flat_map(|value| value.to_le_bytes()).collect();
        Calibration::decode(&bytes).unwrap()
    }

    fn prober(scores: &[f32], target: f32) -> Probe<'_> {
        Probe::new(plain(scores), Rule::Recall(&calibration(), target))
    }

    #[test]
    fn lists_come_nearest_first_and_each_once() {
        let mut random = Random::new(b"order");
        for lists in [1, 2, 10, 500] {
            let scores: Vec<f32> = (0..lists).map(|_| 1.0 + random.uniform() as f32 * 3.0).collect();
            for mut prober in
                [prober(&scores, 0.9), prober(&scores, 1.0), { Probe::new(plain(&scores), Rule::Probes(lists / 3)) }]
            {
                let mut taken = Vec::new();
                while let Some(list) = prober.take() {
                    taken.push(list as usize);
                }
                assert!(taken.windows(2).all(|pair| scores[pair[0]] <= scores[pair[1]]));
                taken.sort_unstable();
                assert_eq!(taken, (0..lists).collect::<Vec<_>>());
                assert_eq!(prober.bound(), f32::INFINITY);
                assert_eq!(prober.prober.taken(), lists);
            }
        }
    }

    #[test]
    fn a_fixed_number_is_that_number() {
        let scores: Vec<f32> = (0..100).map(|i| ((i * 37) % 100) as f32).collect();
        for probes in [0, 1, 7, 99, 100, 1000] {
            let mut prober = Probe::new(plain(&scores), Rule::Probes(probes));
            while prober.bound() == f32::NEG_INFINITY {
                prober.take();
            }
            assert_eq!(prober.prober.taken(), probes.min(100));
            for _ in 0..50 {
                prober.prober.emitted(1e9);
            }
            assert_eq!(prober.bound(), f32::INFINITY);
        }
    }

    #[test]
    fn the_threshold_widens_with_what_was_emitted() {
        // Mean 2: scale 2, z 0.25, threshold 0.5: the first two lists are due at once.
        let mut prober = prober(&[1.0, 1.5, 2.0, 3.5], 0.95);
        for list in [0, 1] {
            assert_eq!(prober.bound(), f32::NEG_INFINITY);
            assert_eq!(prober.take(), Some(list));
        }
        for i in 0..ANCHOR_ROWS {
            assert_eq!(prober.bound(), f32::INFINITY);
            prober.prober.emitted(i as f32);
        }
        let bound = prober.bound();
        assert!(bound > 9.0 && bound < 10.0, "{bound}");
        prober.prober.emitted(50.0);
        assert_eq!(prober.bound(), bound, "the anchor stays");
        assert_eq!(prober.take(), Some(2));
        assert!(prober.bound() > bound);
    }

    #[test]
    fn what_overflows_still_opens_every_list() {
        for scores in [[f32::INFINITY; 3], [f32::NAN; 3], [0.0; 3], [1e38, 2e38, f32::MAX], [1e-44, 1e-45, 0.0]] {
            for metric in [Metric::L2, Metric::InnerProduct] {
                let stats = [ListStats { r2: f32::MAX, sigma: 1.0 }; 3];
                let lists = Scored { metric, query_norm: 1e19, stats: &stats, scores: &scores };
                let mut prober = Probe::new(lists, Rule::Recall(&calibration(), 0.95));
                assert!(!prober.bound().is_nan());
                assert_eq!(std::iter::from_fn(|| prober.take()).count(), 3);
            }
        }
    }

    #[test]
    fn stats_measure_the_rows() {
        // Rows along one axis: every projection on another row is the whole row.
        let line: Vec<f32> = (0..50).flat_map(|i| [if i % 2 == 0 { 3.0 } else { -3.0 }, 0.0]).collect();
        let stats = ListStats::new(line.chunks_exact(2), &[0.0, 0.0]);
        assert!((stats.r2 - 9.0).abs() < 1e-4 && (stats.sigma - 3.0).abs() < 1e-4);
        assert_eq!(ListStats::new(std::iter::empty(), &[0.0, 0.0]), ListStats::default());
        assert_eq!(ListStats::new([&[1.0, 2.0][..]].into_iter(), &[1.0, 2.0]), ListStats::default());
        let merged = stats.merged(3, ListStats { r2: 1.0, sigma: 1.0 }, 1);
        assert!((merged.r2 - 7.0).abs() < 1e-4);
        assert_eq!(ListStats::default().merged(0, ListStats::default(), 0), ListStats::default());
    }
}
