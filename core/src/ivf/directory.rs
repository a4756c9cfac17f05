//! The centroid directory: loading it once per backend and epoch, writing a new one.

use std::rc::Rc;

use zeroize::{Zeroize, Zeroizing};

use super::{Cache, Query, pages, read_meta, rows::Rows};
use crate::{
    Error, Result,
    crypto::DirectoryAad,
    format::{
        directory::{Digest, DirectoryEntry, DirectoryPage, DirectoryStream, PIECE_PLAIN_MAX},
        list::ChunkLayout,
        meta::{META_BLOCK, Meta},
        slot::{ChildBlock, NODE_CHILDREN, NodeHeader},
    },
    keys::IndexKeys,
    math::{
        BLOCK_ROWS, Centroids, ListTerm, QueryCodes, Rotation,
        calibrate::Calibration,
        distance, encode_block,
        probe::{ListStats, Lists},
    },
    metric::Metric,
    store::{Action, Block, Clear, NO_BLOCK, PageKind, PageStore, SealedBytes, body},
};

/// Lists from which a query bounds their scores by codes first. Fewer are scored all at once as fast.
const CODED_LISTS: usize = 256;
/// Least error multiplier of those bounds: one fails in some ten thousand, and then a list is opened a little late.
const LIST_MULTIPLIER: f32 = 3.5;

/// A directory in the clear, ready to probe and to encode with.
pub struct Directory {
    /// Its epoch.
    pub epoch: u64,
    /// How chunks lie.
    pub layout: ChunkLayout,
    /// The rotation of every code.
    pub rotation: Rotation,
    /// What it was decoded from.
    pub stream: DirectoryStream,
    /// Statistics of the lists, as the probe rule wants them.
    pub stats: Vec<ListStats>,
}

impl Drop for Directory {
    fn drop(&mut self) {
        self.stream.seed.zeroize(); // the mean and the rest by themselves
    }
}

impl Directory {
    /// Makes a directory of a stream.
    pub fn new(epoch: u64, metric: Metric, stream: DirectoryStream) -> Self {
        let dims = stream.mean.len();
        let stats = stream.entries.iter().map(|entry| entry.stats).collect();
        let rotation = Rotation::new(dims, stream.seed);
        let mut directory = Self { epoch, layout: ChunkLayout::new(dims), rotation, stream, stats };
        if directory.stream.digest.is_none() {
            directory.stream.digest = Some(directory.make_digest(metric));
        }
        directory
    }

    fn digest(&self) -> &Digest {
        self.stream.digest.as_ref().expect("every directory has one")
    }

    /// A directory without lists, around the mean of the first rows.
    pub fn first(epoch: u64, metric: Metric, mean: Zeroizing<Vec<f32>>) -> Result<Self> {
        let seed = crate::crypto::nonce::random()?;
        let calibration = Calibration::everything();
        let centroids = Centroids::new(mean.len(), &[]);
        Ok(Self::new(
            epoch,
            metric,
            DirectoryStream { seed, calibration, mean, entries: Vec::new(), centroids, digest: None },
        ))
    }

    /// Codes the centroids about the mean of the rows, as L0's rows are, and takes their own mean.
    fn make_digest(&self, metric: Metric) -> Digest {
        let (dims, padded, layout) = (self.stream.mean.len(), self.rotation.padded(), self.layout.block);
        let lists = self.stats.len();
        let coded = if lists >= CODED_LISTS { Digest::code_bytes(lists, dims) } else { 0 };
        let mut codes = Zeroizing::new(vec![0; coded]);
        let about = Zeroizing::new(vec![0.0; padded]);
        let mut rotated = Rows::zeroed(BLOCK_ROWS * padded);
        let (mut centroid, mut sums) = (Zeroizing::new(vec![0f32; dims]), Zeroizing::new(vec![0f64; dims]));
        let mut spread = 0f64;
        for (block, first) in (0..lists).step_by(BLOCK_ROWS).enumerate() {
            let in_block = (lists - first).min(BLOCK_ROWS);
            for (list, rotated) in (first..first + in_block).zip(rotated.chunks_exact_mut(padded)) {
                self.stream.centroids.decode(list, &mut centroid);
                centroid.iter_mut().zip(&*self.stream.mean).for_each(|(value, mean)| *value -= mean);
                sums.iter_mut().zip(&*centroid).for_each(|(sum, value)| *sum += f64::from(*value));
                spread += f64::from(distance::dot(&centroid, &centroid));
                self.rotation.apply(&centroid, rotated);
            }
            if coded > 0 {
                let out = &mut codes[block * layout.block_bytes(BLOCK_ROWS)..][..layout.block_bytes(in_block)];
                encode_block(&layout, metric, &about, &rotated[..in_block * padded], out);
            }
        }
        let count = lists.max(1) as f64;
        let offset = Zeroizing::new(sums.iter().map(|sum| (sum / count) as f32).collect());
        Digest { offset, spread: (spread / count) as f32, codes }
    }

    /// The lists.
    pub fn entries(&self) -> &[DirectoryEntry] {
        &self.stream.entries
    }

    /// Centroid of list `index`.
    pub fn centroid(&self, index: usize) -> Zeroizing<Vec<f32>> {
        self.stream.centroids.get(index)
    }

    /// Rotates `values - mean`: what rows and centroids are coded as.
    pub fn rotate(&self, values: &[f32], shifted: &mut Vec<f32>, out: &mut [f32]) {
        shifted.clear();
        shifted.extend(values.iter().zip(&*self.stream.mean).map(|(value, mean)| value - mean));
        self.rotation.apply(shifted, out);
    }
}

/// A directory as one query sees it.
pub struct View {
    /// The directory.
    pub directory: Rc<Directory>,
    /// The query's table, which scores every list.
    pub codes: QueryCodes,
    /// Score of the query against the mean, L0's centroid.
    pub to_mean: f32,
    metric: Metric,
    norm: f32,
    scaled: Zeroizing<Vec<f32>>,
    mean_score: f32,
    multiplier: f32,
}

impl View {
    /// How `query` sees `directory`; its bounds of rows fail as rarely as `multiplier` says.
    pub fn new(directory: Rc<Directory>, query: &Query, multiplier: f32) -> Self {
        let (metric, values, mean) = (query.metric(), query.values(), &*directory.stream.mean);
        let product = |values: &[f32]| f64::from(distance::dot(values, &directory.digest().offset));
        // Codes are taken about the mean, which moves no L2 score and no inner product.
        let (codes, to_mean, mean_score) = match metric {
            Metric::InnerProduct => {
                let codes = QueryCodes::with_error_multiplier(&directory.rotation, metric, values, multiplier);
                let to_mean = -distance::dot(values, mean);
                (codes, to_mean, f64::from(to_mean) - product(values))
            }
            Metric::L2 | Metric::Cosine => {
                let pairs = values.iter().zip(mean);
                let about = Zeroizing::new(pairs.map(|(value, mean)| value - mean).collect::<Vec<f32>>());
                let codes = QueryCodes::with_error_multiplier(&directory.rotation, metric, &about, multiplier);
                let to_mean = distance::dot(&about, &about);
                (codes, to_mean, f64::from(to_mean) - 2.0 * product(&about) + f64::from(directory.digest().spread))
            }
        };
        let scaled = directory.stream.centroids.scaled(values);
        let norm = query.norm();
        let (mean_score, multiplier) = (mean_score as f32, multiplier.max(LIST_MULTIPLIER));
        Self { directory, codes, to_mean, metric, norm, scaled, mean_score, multiplier }
    }
}

impl Lists for View {
    fn count(&self) -> usize {
        self.directory.stats.len()
    }

    fn score(&self, list: u32) -> f32 {
        self.directory.stream.centroids.score(self.metric, &self.scaled, list as usize)
    }

    fn bounds(&self, out: &mut Vec<f32>) -> bool {
        let directory = &self.directory;
        let codes = &directory.digest().codes;
        if codes.is_empty() {
            directory.stream.centroids.score_all(self.metric, &self.scaled, out);
            return true;
        }
        let (layout, lists) = (&directory.layout.block, self.count());
        let term = ListTerm { q_to_centroid: self.to_mean };
        let (mut lowers, mut estimates) = ([0.0; BLOCK_ROWS], [0.0; BLOCK_ROWS]);
        out.clear();
        for (block, first) in codes.chunks_exact(layout.block_bytes(BLOCK_ROWS)).zip((0..lists).step_by(BLOCK_ROWS)) {
            let in_block = (lists - first).min(BLOCK_ROWS);
            let block = &block[..layout.block_bytes(in_block)];
            self.codes.score_block_surely(self.multiplier, layout, term, block, in_block, &mut lowers, &mut estimates);
            out.extend_from_slice(&lowers[..in_block]);
        }
        false
    }

    fn mean_score(&self) -> f32 {
        self.mean_score
    }

    fn metric(&self) -> Metric {
        self.metric
    }

    fn query_norm(&self) -> f32 {
        self.norm
    }

    fn stats(&self) -> &[ListStats] {
        &self.directory.stats
    }
}

/// The directory that a fresh meta page names, from the cache if it is that one, with the meta it
/// belongs to. `None` while the index has none.
pub fn current<S: PageStore>(
    store: &S,
    cache: &mut Cache,
    keys: &mut IndexKeys,
) -> Result<(Meta, Option<Rc<Directory>>)> {
    loop {
        let meta = read_meta(store)?;
        if meta.identity.index != cache.index() {
            return Err(Error::Bug("a cache is used for another index"));
        }
        if meta.directory_root == NO_BLOCK {
            return Ok((meta, None));
        }
        if let Some(cached) = cache.directory.as_ref().filter(|cached| cached.epoch == meta.directory_epoch) {
            return Ok((meta, Some(cached.clone())));
        }
        store.check_interrupts()?;
        match load(store, keys, &meta)? {
            Ok(bytes) => {
                let dims = meta.identity.dims as usize;
                let directory = Rc::new(Directory::new(
                    meta.directory_epoch,
                    meta.identity.metric,
                    DirectoryStream::decode(&bytes, dims).map_err(|error| match error {
                        Error::Malformed { what } => Error::Corrupt { block: meta.directory_root, what },
                        other => other,
                    })?,
                ));
                cache.directory = Some(directory.clone());
                return Ok((meta, Some(directory)));
            }
            // A newer directory was published and this one's pages are gone; else it is damage.
            Err(moved) if read_meta(store)?.directory_epoch == meta.directory_epoch => {
                return Err(moved);
            }
            Err(_) => {}
        }
    }
}

/// The plaintext stream, or what was wrong on a page that may just have been recycled.
fn load<S: PageStore>(store: &S, keys: &IndexKeys, meta: &Meta) -> Result<Result<Zeroizing<Vec<u8>>>> {
    let epoch = meta.directory_epoch;
    let blocks = match blocks(store, meta.directory_root, epoch)? {
        Ok(blocks) => blocks,
        Err(moved) => return Ok(Err(moved)),
    };
    let mut bytes = Zeroizing::new(Vec::with_capacity(blocks.len() * PIECE_PLAIN_MAX));
    for (ordinal, block) in blocks.into_iter().enumerate() {
        store.check_interrupts()?;
        let corrupt = |what| Error::Corrupt { block, what };
        let page = store.read(block)?;
        let expected = DirectoryPage { epoch, ordinal: ordinal as u32 };
        let this = pages::known(&page, block)? == PageKind::Directory;
        if !this || DirectoryPage::at(body(&page), 0) != Some(expected) {
            return Ok(Err(corrupt("not the piece of the centroid directory that its index says")));
        }
        let sealed = &body(&page)[DirectoryPage::LEN..];
        let start = bytes.len();
        let len = sealed
            .len()
            .checked_sub(crate::crypto::OVERHEAD)
            .ok_or(corrupt("a piece of the directory is cut short"))?;
        bytes.resize(start + len, 0);
        let aad = aad(keys, epoch, ordinal as u32, block);
        keys.directory()
            .open_into(&aad, sealed, &mut bytes[start..])
            .map_err(|_| corrupt("could not open a piece of the centroid directory"))?;
    }
    Ok(Ok(bytes))
}

fn aad(keys: &IndexKeys, epoch: u64, ordinal: u32, block: Block) -> DirectoryAad {
    DirectoryAad { index: keys.index(), dek_version: keys.dek_version(), epoch, ordinal, block }
}

/// Blocks of the pieces below the index page `root`, or what was wrong with an index page.
fn blocks<S: PageStore>(store: &S, root: Block, epoch: u64) -> Result<Result<Vec<Block>>> {
    let mut blocks = Vec::new();
    for index in index_pages(store, root, epoch)? {
        match index {
            Ok((_, children)) => blocks.extend(children),
            Err(moved) => return Ok(Err(moved)),
        }
    }
    Ok(Ok(blocks))
}

/// Every page of the directory of `epoch`, index pages too.
pub fn all_blocks<S: PageStore>(store: &S, root: Block, epoch: u64) -> Result<std::collections::HashSet<Block>> {
    let mut all = std::collections::HashSet::new();
    for index in index_pages(store, root, epoch)? {
        let (block, children) = index?;
        all.insert(block);
        all.extend(children);
    }
    Ok(all)
}

/// An index page with its children, or what was wrong with it.
type IndexPage = Result<(Block, Vec<Block>)>;

fn index_pages<S: PageStore>(store: &S, root: Block, epoch: u64) -> Result<Vec<IndexPage>> {
    let mut found = Vec::new();
    let mut block = root;
    while block != NO_BLOCK {
        store.check_interrupts()?;
        let page = store.read(block)?;
        let this = pages::known(&page, block)? == PageKind::DirectoryIndex;
        let Some(node) = NodeHeader::at(body(&page), 0).filter(|node| this && node.key == epoch) else {
            found.push(Err(Error::Corrupt { block, what: "not an index page of this centroid directory" }));
            break;
        };
        let children = (0..node.count as usize).map(|index| {
            let child = ChildBlock::at(body(&page), ChildBlock::offset(index));
            child.map(|child| child.0).ok_or(Error::Corrupt { block, what: "a directory index page is cut short" })
        });
        found.push(Ok((block, children.collect::<Result<_>>()?)));
        if found.len() > store.blocks()? as usize {
            return Err(Error::Corrupt { block, what: "the centroid directory's index goes round in a circle" });
        }
        block = node.next;
    }
    Ok(found)
}

/// Writes `stream` as the directory of `epoch`, which nobody can reach yet; its first index page.
pub fn write<S: PageStore>(
    store: &S,
    keys: &IndexKeys,
    epoch: u64,
    dims: usize,
    stream: &DirectoryStream,
) -> Result<Block> {
    let bytes = stream.encode(dims);
    let mut blocks = Vec::new();
    for (ordinal, piece) in bytes.chunks(PIECE_PLAIN_MAX).enumerate() {
        store.check_interrupts()?;
        let mut action = store.begin()?;
        let (slot, block) = action.create(PageKind::Directory)?;
        let ordinal = ordinal as u32;
        let sealed = keys.directory().seal(&aad(keys, epoch, ordinal, block), piece)?;
        let mut page = action.page_mut(slot);
        page.write_grow(0, &DirectoryPage { epoch, ordinal });
        page.copy_sealed(DirectoryPage::LEN, SealedBytes::of(&sealed));
        action.commit()?;
        blocks.push(block);
    }
    let mut next = NO_BLOCK;
    for children in blocks.chunks(NODE_CHILDREN).rev() {
        let mut action = store.begin()?;
        let (slot, block) = action.create(PageKind::DirectoryIndex)?;
        let mut page = action.page_mut(slot);
        let bytes = (children.len() * PIECE_PLAIN_MAX) as u32;
        page.write_grow(0, &NodeHeader { key: epoch, count: children.len() as u32, level: 0, next, bytes });
        for (index, child) in children.iter().enumerate() {
            page.write_grow(ChildBlock::offset(index), &ChildBlock(*child));
        }
        action.commit()?;
        next = block;
    }
    Ok(next)
}

/// Frees the pages of an old directory: pieces, then their index page. A record each.
pub fn free<S: PageStore>(store: &S, root: Block, epoch: u64) -> Result<()> {
    if root == NO_BLOCK {
        return Ok(());
    }
    for index in index_pages(store, root, epoch)? {
        let Ok((block, children)) = index else {
            return Ok(());
        };
        for child in children {
            free_page(
                store,
                child,
                |page| DirectoryPage::at(page, 0).is_some_and(|page| page.epoch == epoch),
                PageKind::Directory,
            )?;
        }
        free_page(
            store,
            block,
            |page| NodeHeader::at(page, 0).is_some_and(|node| node.key == epoch),
            PageKind::DirectoryIndex,
        )?;
    }
    Ok(())
}

fn free_page<S: PageStore>(store: &S, block: Block, is_it: impl Fn(&[u8]) -> bool, kind: PageKind) -> Result<()> {
    debug_assert_ne!(block, META_BLOCK);
    let mut action = store.begin()?;
    let slot = action.update(block)?;
    if pages::known(action.page(slot), block)? == kind && is_it(body(action.page(slot))) {
        action.page_mut(slot).free();
        action.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::{
        probe::{Prober, Rule, Scored},
        random::Random,
    };

    const DIMS: usize = 64;

    /// Centroids around a few topics, some of them twice, and what is known of their lists.
    fn directory(random: &mut Random, metric: Metric, lists: usize) -> Rc<Directory> {
        let topics: Vec<f32> = (0..20 * DIMS).map(|_| random.normal()).collect();
        let mut centroids = Vec::new();
        for list in 0..lists {
            if list % 10 == 9 {
                let twice = centroids[(list - 9) * DIMS..][..DIMS].to_vec();
                centroids.extend_from_slice(&twice);
                continue;
            }
            let topic = &topics[random.below(20) * DIMS..][..DIMS];
            let mut centroid: Vec<f32> = topic.iter().map(|x| 0.5 + x + 0.4 * random.normal()).collect();
            if metric == Metric::Cosine {
                distance::normalize(&mut centroid);
            }
            centroids.extend_from_slice(&centroid);
        }
        let entry = |list: usize| {
            let other = list % 10 == 9; // as the one it repeats
            let random = (if other { list - 9 } else { list } * 7919 % 100) as f32 / 100.0;
            let stats = ListStats { r2: 0.5 + random, sigma: 0.1 * random };
            DirectoryEntry { uid: list as u64 + 1, position: list as u32, head: 1, rows: 9, stats }
        };
        let stream = DirectoryStream {
            seed: [5; 32],
            calibration: Calibration::decode(&floats([0.05, 0.1, 0.2, 0.4, 0.6, 1.0, 30.0])).unwrap(),
            mean: crate::ivf::cluster::mean_of(&centroids[..lists / 2 * DIMS], DIMS),
            entries: (0..lists).map(entry).collect(),
            centroids: Centroids::new(DIMS, &centroids),
            digest: None,
        };
        Rc::new(Directory::new(1, metric, stream))
    }

    fn floats<const N: usize>(values: [f32; N]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    /// What a stream sees: lists in their order, and the bound before each.
    fn stream(lists: &impl Lists, rule: Rule<'_>) -> Vec<(u32, f32)> {
        let mut prober = Prober::new(lists, rule);
        let mut seen = Vec::new();
        loop {
            let mut bound = prober.bound(lists);
            if bound.is_finite() && seen.len() % 3 == 2 {
                prober.emitted(bound); // rows come out between lists
                bound = prober.bound(lists);
            }
            if bound == f32::INFINITY {
                (0..20).for_each(|_| prober.emitted(1.0));
                bound = prober.bound(lists);
            }
            let Some((list, score)) = prober.take(lists) else { break };
            assert!((score - lists.score(list)).abs() <= 1e-5 * score.abs().max(1.0));
            seen.push((list, bound));
        }
        assert_eq!(prober.bound(lists), f32::INFINITY);
        seen
    }

    #[test]
    fn bounds_by_codes_change_no_order_and_no_bound() {
        let mut random = Random::new(b"lazy");
        for metric in [Metric::L2, Metric::Cosine, Metric::InnerProduct] {
            for lists in [1, 2, 31, CODED_LISTS, CODED_LISTS + 1, 1000, 2011] {
                let directory = directory(&mut random, metric, lists);
                assert_eq!(directory.digest().codes.is_empty(), lists < CODED_LISTS);
                for round in 0..6 {
                    let size = if round == 5 { 20.0 } else { 1.0 };
                    let query: Vec<f32> = (0..DIMS).map(|_| 0.5 + size * random.normal()).collect();
                    let query = Query::new(metric, &query);
                    let view = View::new(directory.clone(), &query, 8.0); // no bound fails
                    let mut scores = Vec::new();
                    if !view.bounds(&mut scores) {
                        scores = (0..lists as u32).map(|list| view.score(list)).collect();
                    }
                    let mean = scores.iter().sum::<f32>() / lists as f32;
                    let near = (view.mean_score() - mean).abs() <= 1e-4 * (1.0 + mean.abs());
                    assert!(near, "{metric:?} {lists}: mean {} is not {mean}", view.mean_score());
                    let norm = query.norm();
                    let flat =
                        Flat(Scored { metric, query_norm: norm, stats: &directory.stats, scores: &scores }, &view);
                    let calibration = &directory.stream.calibration;
                    let recalls = [0.5, 0.9, 0.99, 1.0].map(|target| Rule::Recall(calibration, target));
                    let probes = [0, 1, 7, lists / 2, lists - 1, lists, lists + 9].map(Rule::Probes);
                    for rule in recalls.into_iter().chain(probes) {
                        let (lazy, all) = (stream(&view, rule), stream(&flat, rule));
                        let differs = lazy.iter().zip(&all).position(|(a, b)| a != b);
                        assert_eq!((differs, lazy.len()), (None, all.len()), "{metric:?} {lists} {rule:?}");
                    }
                }
            }
        }
    }

    /// All scores known, with the same mean to the last bit.
    struct Flat<'a>(Scored<'a>, &'a View);

    impl Lists for Flat<'_> {
        fn count(&self) -> usize {
            self.0.count()
        }
        fn score(&self, list: u32) -> f32 {
            self.0.score(list)
        }
        fn bounds(&self, out: &mut Vec<f32>) -> bool {
            self.0.bounds(out)
        }
        fn mean_score(&self) -> f32 {
            self.1.mean_score()
        }
        fn metric(&self) -> Metric {
            self.0.metric()
        }
        fn query_norm(&self) -> f32 {
            self.0.query_norm()
        }
        fn stats(&self) -> &[ListStats] {
            self.0.stats()
        }
    }

    #[test]
    fn few_lists_of_many_are_scored() {
        let mut random = Random::new(b"few");
        for metric in [Metric::L2, Metric::Cosine, Metric::InnerProduct] {
            let directory = directory(&mut random, metric, 3000);
            let near = if metric == Metric::Cosine { 0.02 } else { 0.2 };
            let query: Vec<f32> = directory.centroid(17).iter().map(|x| x + near * random.normal()).collect();
            let view = View::new(directory.clone(), &Query::new(metric, &query), 2.5);
            let mut prober = Prober::new(&view, Rule::Probes(10));
            assert!((10..600).contains(&prober.scored()), "{metric:?}: {}", prober.scored());
            // A first page of rows scores no more.
            let before = prober.scored();
            while prober.bound(&view) == f32::NEG_INFINITY {
                prober.take(&view);
            }
            assert_eq!(prober.scored(), before);
        }
    }

    #[test]
    fn what_overflows_still_opens_every_list() {
        for metric in [Metric::L2, Metric::InnerProduct] {
            for (size, query) in [(1e30f32, 1e30f32), (1e19, 1e-30), (1e-30, 1e30), (1e-30, 1e-30), (0.0, 1.0)] {
                let centroids: Vec<f32> = (0..300 * 8).map(|i| size * (i as f32 / 2400.0 - 0.4)).collect();
                let stats = ListStats { r2: size, sigma: size };
                let entry = DirectoryEntry { uid: 1, position: 0, head: 1, rows: 9, stats };
                let stream = DirectoryStream {
                    seed: [5; 32],
                    calibration: Calibration::decode(&floats([0.05, 0.1, 0.2, 0.4, 0.6, 1.0, 30.0])).unwrap(),
                    mean: vec![0.0; 8].into(),
                    entries: vec![entry; 300],
                    centroids: Centroids::new(8, &centroids),
                    digest: None,
                };
                let directory = Rc::new(Directory::new(1, metric, stream));
                let view = View::new(directory, &Query::new(metric, &[query; 8]), 2.5);
                for rule in [Rule::Recall(&view.directory.stream.calibration, 0.95), Rule::Probes(5)] {
                    let mut prober = Prober::new(&view, rule);
                    assert!(!prober.bound(&view).is_nan());
                    assert_eq!(std::iter::from_fn(|| prober.take(&view)).count(), 300, "{metric:?} {size} {query}");
                }
            }
        }
    }
}
