//! The centroid directory: loading it once per backend and epoch, writing a new one.

use std::rc::Rc;

use zeroize::Zeroize;

use super::{Cache, pages, read_meta};
use crate::{
    Error, Result,
    crypto::DirectoryAad,
    format::{
        directory::{DirectoryEntry, DirectoryPage, DirectoryStream, PIECE_PLAIN_MAX},
        list::ChunkLayout,
        meta::{META_BLOCK, Meta},
        slot::{ChildBlock, NODE_CHILDREN, NodeHeader},
    },
    keys::IndexKeys,
    math::{
        Rotation, distance,
        probe::{Calibration, ListStats},
    },
    metric::Metric,
    store::{Action, Block, Clear, NO_BLOCK, PageKind, PageStore, SealedBytes, body},
};

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
    dims: usize,
}

impl Drop for Directory {
    fn drop(&mut self) {
        self.stream.mean.zeroize();
        self.stream.centroids.zeroize();
    }
}

impl Directory {
    /// Makes a directory of a stream.
    pub fn new(epoch: u64, dims: usize, stream: DirectoryStream) -> Self {
        let rotation = Rotation::new(dims, stream.seed);
        let stats = stream.entries.iter().map(|entry| entry.stats).collect();
        Self { epoch, layout: ChunkLayout::new(dims), rotation, stream, stats, dims }
    }

    /// A directory without lists, around the mean of the first rows.
    pub fn first(epoch: u64, dims: usize, mean: Vec<f32>) -> Result<Self> {
        let seed = crate::crypto::nonce::random()?;
        let calibration = Calibration::everything();
        let stream = DirectoryStream { seed, calibration, mean, entries: Vec::new(), centroids: Vec::new() };
        Ok(Self::new(epoch, dims, stream))
    }

    /// The lists.
    pub fn entries(&self) -> &[DirectoryEntry] {
        &self.stream.entries
    }

    /// Centroid of list `index`.
    pub fn centroid(&self, index: usize) -> &[f32] {
        &self.stream.centroids[index * self.dims..][..self.dims]
    }

    /// Score of `query`, in index space, against every centroid.
    pub fn centroid_scores(&self, metric: Metric, query: &[f32]) -> Vec<f32> {
        let mut scores = vec![0.0; self.stream.entries.len()];
        match metric {
            Metric::L2 | Metric::Cosine => distance::l2_squared_many(query, &self.stream.centroids, &mut scores),
            Metric::InnerProduct => {
                distance::dot_many(query, &self.stream.centroids, &mut scores);
                scores.iter_mut().for_each(|score| *score = -*score);
            }
        }
        scores
    }

    /// Score of `query` against the mean, L0's centroid.
    pub fn mean_score(&self, metric: Metric, query: &[f32]) -> f32 {
        match metric {
            Metric::L2 | Metric::Cosine => distance::l2_squared(query, &self.stream.mean),
            Metric::InnerProduct => -distance::dot(query, &self.stream.mean),
        }
    }

    /// Rotates `values - mean`: what rows and centroids are coded as.
    pub fn rotate(&self, values: &[f32], shifted: &mut Vec<f32>, out: &mut [f32]) {
        shifted.clear();
        shifted.extend(values.iter().zip(&self.stream.mean).map(|(value, mean)| value - mean));
        self.rotation.apply(shifted, out);
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
                    dims,
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
fn load<S: PageStore>(store: &S, keys: &IndexKeys, meta: &Meta) -> Result<Result<zeroize::Zeroizing<Vec<u8>>>> {
    let epoch = meta.directory_epoch;
    let blocks = match blocks(store, meta.directory_root, epoch)? {
        Ok(blocks) => blocks,
        Err(moved) => return Ok(Err(moved)),
    };
    let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(blocks.len() * PIECE_PLAIN_MAX));
    for (ordinal, block) in blocks.into_iter().enumerate() {
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
