//! Recall and microseconds of the index arithmetic on real embeddings, in memory, nothing sealed.
//!
//! `cargo run --release -p sealvec-core --example ivf_bench -- DIR [--metric l2|cosine] [--lists 250,350,500] [--probes 8,64]`
//! DIR is laid out like `data/deb_62k`: vectors_f16.npy, queries_f16.npy, gt.npy. One thread answers, warm.
//! A list's bytes are copied before they are scored, where the index would open them.

use std::error::Error;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use sealvec_core::math::distance::{
    f16le_to_f32, f32_to_f16le, l2_squared_f16le, l2_squared_many, l2_squared_many_f16le, norm, normalize,
};
use sealvec_core::math::kmeans::{KmeansOptions, assign_batched, kmeans};
use sealvec_core::math::random::Random;
use sealvec_core::math::{
    Assigner, BLOCK_ROWS, BlockLayout, Calibration, Candidates, ListStats, ListTerm, Prober, QueryCodes, Rotation,
    Sample, calibrate, encode_block,
};
use sealvec_core::metric::Metric;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

const K: usize = 10;
const TARGETS: [f32; 4] = [0.90, 0.95, 0.98, 0.99];
const REPEATS: usize = 5;

/// An array of a .npy file: its shape and its bytes.
struct Npy {
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Npy {
    fn read(path: &Path) -> Result<Self> {
        let file = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
        if file.get(..6) != Some(b"\x93NUMPY") {
            return Err(format!("{} is not a .npy file", path.display()).into());
        }
        let header_end = 10 + usize::from(u16::from_le_bytes([file[8], file[9]]));
        let header = std::str::from_utf8(&file[10..header_end])?;
        let shape = header.split_once("'shape': (").and_then(|(_, rest)| rest.split_once(')')).ok_or("no shape")?.0;
        let shape = shape
            .split(',')
            .map(str::trim)
            .filter(|s| !s.is_empty())
            .map(str::parse)
            .collect::<Result<_, std::num::ParseIntError>>()?;
        Ok(Self { shape, bytes: file[header_end..].to_vec() })
    }

    fn floats(&self) -> Vec<f32> {
        let mut out = vec![0f32; self.bytes.len() / 2];
        f16le_to_f32(&self.bytes, &mut out);
        out
    }
}

struct Data {
    metric: Metric,
    dims: usize,
    rows: Vec<f32>,
    rows_f16: Vec<u8>,
    queries: Vec<f32>,
    /// Exact nearest rows of each query, 100 each.
    truth: Vec<u16>,
    /// The first queries are held-out items, the others questions in natural language.
    items: usize,
}

impl Data {
    fn read(dir: &Path, metric: Metric) -> Result<Self> {
        let (rows, queries, truth) = (
            Npy::read(&dir.join("vectors_f16.npy"))?,
            Npy::read(&dir.join("queries_f16.npy"))?,
            Npy::read(&dir.join("gt.npy"))?,
        );
        let (dims, count) = (rows.shape[1], queries.shape[0]);
        let which = usize::from(metric == Metric::Cosine);
        let truth = truth.bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).skip(which * count * 100);
        let truth = truth.take(count * 100).collect();
        let (mut vectors, mut query_vectors) = (rows.floats(), queries.floats());
        let mut rows_f16 = rows.bytes;
        if metric == Metric::Cosine {
            vectors.chunks_exact_mut(dims).chain(query_vectors.chunks_exact_mut(dims)).for_each(|x| {
                normalize(x);
            });
            rows_f16.clear();
            assert!(f32_to_f16le(&vectors, &mut rows_f16));
            f16le_to_f32(&rows_f16, &mut vectors);
        }
        Ok(Self {
            metric,
            dims,
            rows: vectors,
            rows_f16,
            queries: query_vectors,
            truth,
            items: count.saturating_sub(50),
        })
    }

    fn count(&self) -> usize {
        self.rows.len() / self.dims
    }
}

/// The blocks of a list end to end, and the number of each of their rows.
#[derive(Default)]
struct List {
    blocks: Vec<u8>,
    rows: Vec<u32>,
}

struct Index {
    layout: BlockLayout,
    rotation: Rotation,
    centroids_f16: Vec<u8>,
    lists: Vec<List>,
    stats: Vec<ListStats>,
    calibration: Calibration,
}

impl Index {
    fn build(data: &Data, lists: usize, pool: &rayon::ThreadPool) -> Result<Self> {
        let dims = data.dims;
        let mut clock = Clock::default();
        let sample_rows = Random::from_number(lists as u64).sample(data.count(), 64 * lists);
        let sample: Vec<f32> = sample_rows.iter().flat_map(|&i| &data.rows[i * dims..][..dims]).copied().collect();
        let options = KmeansOptions { pool: Some(pool), seed: lists as u64, ..Default::default() };
        let mut tick = Ticks::default();
        let mut centroids = kmeans(&sample, dims, lists, &options, &mut || tick.tick())?;
        // The index stores them as float16, and codes refer to what is stored.
        let mut centroids_f16 = Vec::new();
        assert!(f32_to_f16le(&centroids, &mut centroids_f16));
        f16le_to_f32(&centroids_f16, &mut centroids);
        clock.lap("kmeans");
        let mut nearest = vec![(0u32, 0f32); data.count()];
        assign_batched(&data.rows, dims, &centroids, Some(pool), &mut nearest, &mut || tick.tick())?;
        clock.lap("assign");

        let (rotation, layout) = (Rotation::new(dims, [1; 32]), BlockLayout::new(dims));
        let mut members = vec![Vec::new(); centroids.len() / dims];
        for (i, (list, _)) in nearest.iter().enumerate() {
            members[*list as usize].push(i as u32);
        }
        let mut rotated_centroid = vec![0f32; layout.padded()];
        let mut rotated = vec![0f32; layout.padded() * BLOCK_ROWS];
        let mut out = Vec::new();
        for (rows, centroid) in members.into_iter().zip(centroids.chunks_exact(dims)) {
            rotation.apply(centroid, &mut rotated_centroid);
            let mut blocks = vec![0u8; rows.len().div_ceil(BLOCK_ROWS) * layout.block_bytes()];
            for (rows, block) in rows.chunks(BLOCK_ROWS).zip(blocks.chunks_exact_mut(layout.block_bytes())) {
                for (row, rotated) in rows.iter().zip(rotated.chunks_exact_mut(layout.padded())) {
                    rotation.apply(&data.rows[*row as usize * dims..][..dims], rotated);
                }
                encode_block(&layout, data.metric, &rotated_centroid, &rotated[..rows.len() * layout.padded()], block);
            }
            out.push(List { blocks, rows });
        }
        clock.lap("codes");
        let stats = |(list, centroid): (&List, &[f32])| {
            let rows: Vec<f32> =
                list.rows.iter().flat_map(|&i| &data.rows[i as usize * dims..][..dims]).copied().collect();
            ListStats::new(&rows, centroid)
        };
        let stats: Vec<ListStats> = out.iter().zip(centroids.chunks_exact(dims)).map(stats).collect();
        clock.lap("stats");
        let sample_lists: Vec<u32> = sample_rows.iter().map(|&i| nearest[i].0).collect();
        let sample = Sample { points: &sample, lists: &sample_lists, population: data.count() };
        let calibration = calibrate(data.metric, &sample, &centroids, &stats, Some(pool), &mut || tick.tick())?;
        clock.lap("calibrate");
        println!("lists {lists}: {} longest gap between ticks {} ms", clock.report, tick.longest.as_millis());
        Ok(Self { layout, rotation, centroids_f16, lists: out, stats, calibration })
    }
}

#[derive(Default)]
struct Ticks {
    last: Option<Instant>,
    longest: Duration,
}

impl Ticks {
    fn tick(&mut self) -> sealvec_core::Result<()> {
        let now = Instant::now();
        if let Some(last) = self.last {
            self.longest = self.longest.max(now - last);
        }
        self.last = Some(now);
        Ok(())
    }
}

struct Clock {
    last: Instant,
    report: String,
}

impl Default for Clock {
    fn default() -> Self {
        Self { last: Instant::now(), report: String::new() }
    }
}

impl Clock {
    fn lap(&mut self, what: &str) {
        self.report += &format!("{what} {} ms, ", self.last.elapsed().as_millis());
        self.last = Instant::now();
    }
}

#[derive(Clone, Copy)]
enum Probes {
    Fixed(usize),
    Target(f32),
}

/// Time by stage: prepare, centroids, copy, score, rerank.
#[derive(Clone, Copy, Default)]
struct Spent {
    stages: [Duration; 5],
    probes: usize,
    scored: usize,
    reranked: usize,
}

/// What a scan keeps from query to query.
struct Scan<'a> {
    data: &'a Data,
    index: &'a Index,
    scores: Vec<f32>,
    private: Vec<u8>,
    candidates: Candidates,
    /// List and first row of each scored block.
    blocks: Vec<(u32, u32)>,
    spent: Spent,
}

impl<'a> Scan<'a> {
    fn new(data: &'a Data, index: &'a Index) -> Self {
        let scores = vec![0f32; index.lists.len()];
        Self {
            data,
            index,
            scores,
            private: Vec::new(),
            candidates: Candidates::default(),
            blocks: Vec::new(),
            spent: Spent::default(),
        }
    }

    fn nearest(&mut self, q: &[f32], probes: Probes) -> Vec<u32> {
        let index = self.index;
        let start = Instant::now();
        let query = QueryCodes::new(&index.rotation, self.data.metric, q);
        let q_norm = norm(q);
        self.candidates.clear();
        self.blocks.clear();
        let prepared = Instant::now();
        l2_squared_many_f16le(q, &index.centroids_f16, &mut self.scores);
        let mut prober = match probes {
            Probes::Fixed(n) => Prober::fixed(self.data.metric, &index.stats, q_norm, &self.scores, n),
            Probes::Target(t) => {
                Prober::new(self.data.metric, &index.calibration, t, &index.stats, q_norm, &self.scores)
            }
        };
        self.spent.stages[0] += prepared - start;
        let mut last = Instant::now();
        self.spent.stages[1] += last - prepared;

        let mut exact: Vec<(f32, u32)> = Vec::new(); // reranked and not emitted, farthest first
        let mut out = Vec::new();
        while out.len() < K {
            let best = exact.last().map_or(f32::INFINITY, |row| row.0);
            let bound = prober.bound();
            let least = self.candidates.least();
            if bound == f32::NEG_INFINITY
                || best.min(least) > bound
                || (best == f32::INFINITY && least == f32::INFINITY)
            {
                let now = Instant::now();
                self.spent.stages[4] += now - last;
                let Some(list) = prober.take() else { break };
                last = self.open(&query, list, now);
            } else if best <= least {
                prober.emitted(best);
                out.extend(exact.pop().map(|row| row.1));
            } else {
                let candidate = self.candidates.pop().expect("its bound was finite");
                let (list, first) = self.blocks[candidate.block];
                let row = index.lists[list as usize].rows[first as usize + candidate.row];
                let bytes = self.data.dims * 2;
                let distance = l2_squared_f16le(q, &self.data.rows_f16[row as usize * bytes..][..bytes]);
                let at = exact.partition_point(|other| other.0 > distance);
                exact.insert(at, (distance, row));
                self.spent.reranked += 1;
            }
        }
        self.spent.stages[4] += last.elapsed();
        self.spent.probes += prober.taken();
        out
    }

    fn open(&mut self, query: &QueryCodes, list: u32, start: Instant) -> Instant {
        let index = self.index;
        let from = &index.lists[list as usize];
        self.private.clear();
        self.private.extend_from_slice(&from.blocks);
        let copied = Instant::now();
        let term = ListTerm { q_to_centroid: self.scores[list as usize] };
        let (mut lower, mut estimate) = ([0f32; BLOCK_ROWS], [0f32; BLOCK_ROWS]);
        for (number, block) in self.private.chunks_exact(index.layout.block_bytes()).enumerate() {
            let rows = (from.rows.len() - number * BLOCK_ROWS).min(BLOCK_ROWS);
            let least = query.score_block(&index.layout, term, block, rows, &mut lower, &mut estimate);
            self.candidates.push(&lower, least);
            self.blocks.push((list, (number * BLOCK_ROWS) as u32));
        }
        self.spent.scored += from.rows.len();
        self.spent.stages[2] += copied - start;
        let scored = Instant::now();
        self.spent.stages[3] += scored - copied;
        scored
    }
}

impl Spent {
    fn total(&self) -> Duration {
        self.stages.iter().sum()
    }
}

/// Each query runs several times and its fastest run counts: other work on the machine disturbs no figure.
fn measure(data: &Data, index: &Index, name: &str, probes: Probes) {
    let count = data.queries.len() / data.dims;
    let mut scan = Scan::new(data, index);
    let (mut found, mut sum) = ([0usize; 2], Spent::default());
    for (i, q) in data.queries.chunks_exact(data.dims).enumerate() {
        let mut best: Option<Spent> = None;
        let mut rows = Vec::new();
        for _ in 0..REPEATS {
            scan.spent = Spent::default();
            rows = scan.nearest(q, probes);
            best = Some(best.filter(|best| best.total() <= scan.spent.total()).unwrap_or(scan.spent));
        }
        let best = best.expect("a query runs at least once");
        sum.stages.iter_mut().zip(best.stages).for_each(|(sum, stage)| *sum += stage);
        sum.probes += best.probes;
        sum.scored += best.scored;
        sum.reranked += best.reranked;
        let truth = &data.truth[i * 100..][..K];
        found[usize::from(i >= data.items)] += rows.iter().filter(|row| truth.contains(&(**row as u16))).count();
    }
    let per_query = |d: Duration| d.as_secs_f64() * 1e6 / count as f64;
    let recall = |found: usize, queries: usize| found as f64 / (queries * K) as f64;
    let [prepare, centroids, copy, score, rerank] = sum.stages.map(per_query);
    println!(
        "  {name:<12} recall {:.4} (items {:.4}, questions {:.4})  {:>6.1} us: prepare {prepare:.1} centroids {centroids:.1} \
         copy {copy:.1} score {score:.1} rerank {rerank:.1}; lists {:.1} rows {} reranked {:.1}",
        recall(found[0] + found[1], count),
        recall(found[0], data.items),
        recall(found[1], count - data.items),
        per_query(sum.total()),
        sum.probes as f64 / count as f64,
        sum.scored / count,
        sum.reranked as f64 / count as f64,
    );
}

/// Nanoseconds of one call, the fastest of many short rounds.
fn nanoseconds(mut f: impl FnMut()) -> f64 {
    let mut best = f64::MAX;
    for _ in 0..200 {
        let start = Instant::now();
        for _ in 0..20 {
            f();
        }
        best = best.min(start.elapsed().as_secs_f64() * 1e9 / 20.0);
    }
    best
}

/// The kernels one by one, hot.
fn kernels(data: &Data) {
    let dims = data.dims;
    let (q, rows) = (&data.queries[..dims], &data.rows[..dims * BLOCK_ROWS]);
    let (rotation, layout) = (Rotation::new(dims, [1; 32]), BlockLayout::new(dims));
    let mut rotated = vec![0f32; layout.padded() * BLOCK_ROWS];
    let rotate = nanoseconds(|| rotation.apply(black_box(q), &mut rotated[..layout.padded()]));
    for (row, out) in rows.chunks_exact(dims).zip(rotated.chunks_exact_mut(layout.padded())) {
        rotation.apply(row, out);
    }
    let centroid = rotated[..layout.padded()].to_vec();
    let mut block = vec![0u8; layout.block_bytes()];
    let encode = nanoseconds(|| encode_block(&layout, data.metric, &centroid, black_box(&rotated), &mut block));
    let prepare = nanoseconds(|| drop(black_box(QueryCodes::new(&rotation, data.metric, q))));
    let query = QueryCodes::new(&rotation, data.metric, q);
    let (mut lower, mut estimate) = ([0f32; BLOCK_ROWS], [0f32; BLOCK_ROWS]);
    let term = ListTerm { q_to_centroid: 1.0 };
    let score = nanoseconds(|| {
        black_box(query.score_block(&layout, term, black_box(&block), BLOCK_ROWS, &mut lower, &mut estimate));
    });
    let f16 = nanoseconds(|| {
        black_box(l2_squared_f16le(q, black_box(&data.rows_f16[..dims * 2])));
    });
    let mut out = [0f32; BLOCK_ROWS];
    let f32 = nanoseconds(|| l2_squared_many(black_box(q), rows, &mut out));
    let mut candidates = Candidates::default();
    let push_pop = nanoseconds(|| {
        candidates.clear();
        for i in 0..200u32 {
            candidates.push(&lower, lower[0] + i as f32);
        }
        black_box(candidates.least());
    });
    let mut out = vec![(0, 0f32); 64];
    let assigner = Assigner::new(dims, &data.rows[..256 * dims]);
    let assign = nanoseconds(|| assigner.assign(black_box(&data.rows[..64 * dims]), None, &mut out));
    println!("  assignment {:.0} multiply-adds a ns", (64 * 256 * dims) as f64 / assign);
    println!(
        "  ns: rotate {rotate:.0}, prepare {prepare:.0}, score a block {score:.0}, encode a block {encode:.0}, \
         l2 f16 {f16:.1}, l2 f32 {:.1} a row, 200 pushes {push_pop:.0}",
        f32 / BLOCK_ROWS as f64
    );
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().ok_or("usage: ivf_bench DIR [--metric l2|cosine] [--lists 250,350,500] [--probes 8,64]")?;
    let (mut metrics, mut lists) = (vec![Metric::L2, Metric::Cosine], vec![250, 350, 500]);
    let mut probes = vec![4, 8, 16, 24, 32, 48, 64, 96, 128];
    let numbers = |list: &str| list.split(',').map(str::parse).collect::<Result<Vec<usize>, std::num::ParseIntError>>();
    while let Some(option) = args.next() {
        let value = args.next().ok_or("an option needs a value")?;
        match option.as_str() {
            "--metric" => metrics.retain(|m| value == if *m == Metric::L2 { "l2" } else { "cosine" }),
            "--lists" => lists = numbers(&value)?,
            "--probes" => probes = numbers(&value)?,
            _ => return Err(format!("unknown option {option}").into()),
        }
    }
    let pool = rayon::ThreadPoolBuilder::new().build()?;
    for metric in metrics {
        let data = Data::read(Path::new(&dir), metric)?;
        println!(
            "{metric:?}: {} rows x {}, {} queries, kernels {}",
            data.count(),
            data.dims,
            data.queries.len() / data.dims,
            sealvec_core::math::instruction_set()
        );
        kernels(&data);
        for &count in &lists {
            let index = Index::build(&data, count, &pool)?;
            for &probes in probes.iter().filter(|probes| **probes < count) {
                measure(&data, &index, &format!("{probes} probes"), Probes::Fixed(probes));
            }
            for target in TARGETS {
                measure(&data, &index, &format!("target {target}"), Probes::Target(target));
            }
        }
    }
    Ok(())
}
