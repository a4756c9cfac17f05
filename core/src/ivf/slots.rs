//! The slot map: finding the leaf of a slot, walking leaves in order, extending by one leaf.
//!
//! Directory nodes are never freed and a leaf never changes its range, so a remembered block is
//! only a hint that the leaf's own `first_slot` confirms or refutes (rule 3).

use std::collections::HashMap;

use super::{pages, read_meta};
use crate::{
    Error, Result,
    format::{
        meta::{META_BLOCK, Meta},
        slot::{
            ChildBlock, LEAF_SLOTS, LeafHeader, NODE_CHILDREN, NodeHeader, SlotEntry, SlotState, entry_offset,
            leaves_per_child,
        },
    },
    store::{Action, Block, Clear, NO_BLOCK, PageKind, PageStore, body},
};

/// Blocks where leaves were last seen.
#[derive(Default)]
pub struct LeafHints {
    leaves: HashMap<u64, Block>,
    open: Option<Block>,
}

impl LeafHints {
    /// Bound on remembered leaves: 16 bytes each, 2 million slots per 64 kB.
    const MOST: usize = 1 << 16;

    fn remember(&mut self, leaf: u64, block: Block) {
        if self.leaves.len() >= Self::MOST {
            self.leaves.clear();
        }
        self.leaves.insert(leaf, block);
    }
}

/// Where a leaf is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaf {
    /// In this block, unless it was freed since.
    At(Block),
    /// Freed: every slot of it was dead.
    Freed,
    /// Not there yet: so is every later one.
    Beyond,
}

/// Looks leaf number `leaf` up in the directory of `meta`, which may be an older reading of it.
pub fn find_leaf<S: PageStore>(store: &S, meta: &Meta, leaf: u64) -> Result<Leaf> {
    let (mut block, mut level) = (meta.slot_root, meta.slot_height);
    if block == NO_BLOCK {
        return Ok(Leaf::Beyond);
    }
    loop {
        let page = pages::read(store, block, PageKind::SlotDirectory)?;
        let node = NodeHeader::at(body(&page), 0).filter(|node| node.level == level);
        let node = node.ok_or(Error::Corrupt { block, what: "malformed slot directory node" })?;
        let index = (leaf - node.key.min(leaf)) / leaves_per_child(level);
        if index >= u64::from(node.count) {
            return Ok(Leaf::Beyond);
        }
        let child = child(&page, block, index as usize)?;
        match (child, level) {
            (NO_BLOCK, _) => return Ok(Leaf::Freed),
            (child, 1) => return Ok(Leaf::At(child)),
            (child, _) => (block, level) = (child, level - 1),
        }
    }
}

fn child(page: &[u8; crate::store::PAGE], block: Block, index: usize) -> Result<Block> {
    let child = ChildBlock::at(body(page), ChildBlock::offset(index));
    Ok(child.ok_or(Error::Corrupt { block, what: "slot directory node is cut short" })?.0)
}

/// Tries of a look-up that keeps finding what another backend has just moved.
const TRIES: usize = 100;

/// Share-locks leaf number `leaf`; `None` if it was freed or does not exist.
pub fn read_leaf<'s, S: PageStore>(
    store: &'s S,
    hints: &mut LeafHints,
    leaf: u64,
) -> Result<Option<(S::Page<'s>, LeafHeader)>> {
    let is_it = |page: &S::Page<'_>| header(page).filter(|header| header.first_slot == leaf * LEAF_SLOTS as u64);
    if let Some(block) = hints.leaves.get(&leaf).copied() {
        if let Some(page) = pages::read_if(store, block, PageKind::SlotLeaf)?
            && let Some(header) = is_it(&page)
        {
            return Ok(Some((page, header)));
        }
        hints.leaves.remove(&leaf);
    }
    let mut last = NO_BLOCK;
    for _ in 0..TRIES {
        let Leaf::At(block) = find_leaf(store, &read_meta(store)?, leaf)? else {
            return Ok(None);
        };
        if let Some(page) = pages::read_if(store, block, PageKind::SlotLeaf)?
            && let Some(header) = is_it(&page)
        {
            hints.remember(leaf, block);
            return Ok(Some((page, header)));
        }
        if last == block {
            // The directory names a page that is not that leaf, twice: nothing moved.
            return Err(Error::Corrupt { block, what: "not the slot leaf that the directory says" });
        }
        last = block;
    }
    Err(Error::Corrupt { block: last, what: "the slot directory does not settle" })
}

/// Head of a leaf page.
pub fn header(page: &[u8; crate::store::PAGE]) -> Option<LeafHeader> {
    LeafHeader::at(body(page), 0)
}

/// Entry `index` of a leaf page.
pub fn entry(page: &[u8; crate::store::PAGE], block: Block, index: usize) -> Result<SlotEntry> {
    SlotEntry::at(body(page), entry_offset(index)).ok_or(Error::Corrupt { block, what: "malformed slot entry" })
}

/// The entry of `slot`; `None` if it is dead, which a missing leaf or an unwritten slot means too.
pub fn live_entry<S: PageStore>(store: &S, hints: &mut LeafHints, slot: u64) -> Result<Option<SlotEntry>> {
    let leaf = slot / LEAF_SLOTS as u64;
    let Some((page, header)) = read_leaf(store, hints, leaf)? else {
        return Ok(None);
    };
    let index = (slot % LEAF_SLOTS as u64) as usize;
    if index >= header.count as usize {
        return Ok(None);
    }
    let entry = entry(&page, block_of(hints, leaf), index)?;
    Ok((entry.state == SlotState::Live).then_some(entry))
}

/// [`live_entry`] will be asked for this slot.
pub fn prefetch<S: PageStore>(store: &S, hints: &LeafHints, slot: u64) {
    if let Some(block) = leaf_block(hints, slot) {
        store.prefetch(block, entry_offset((slot % LEAF_SLOTS as u64) as usize));
    }
}

/// Entries of slots that are asked for in ascending order: each leaf is read once, and an entry is as it was then. Whoever
/// finds no record where it says looks again by [`live_entry`].
#[derive(Default)]
pub struct Ascending {
    leaf: Option<u64>,
    entries: Vec<SlotEntry>,
}

impl Ascending {
    /// The entry of `slot`; `None` if it was dead.
    pub fn live_entry<S: PageStore>(
        &mut self,
        store: &S,
        hints: &mut LeafHints,
        slot: u64,
    ) -> Result<Option<SlotEntry>> {
        let leaf = slot / LEAF_SLOTS as u64;
        if self.leaf != Some(leaf) {
            self.entries.clear();
            if let Some((page, header)) = read_leaf(store, hints, leaf)? {
                let block = block_of(hints, leaf);
                for index in 0..header.count as usize {
                    self.entries.push(entry(&page, block, index)?);
                }
            }
            self.leaf = Some(leaf);
        }
        let entry = self.entries.get((slot % LEAF_SLOTS as u64) as usize).copied();
        Ok(entry.filter(|entry| entry.state == SlotState::Live))
    }
}

/// Block where the leaf of `slot` was just read.
pub fn leaf_block(hints: &LeafHints, slot: u64) -> Option<Block> {
    hints.leaves.get(&(slot / LEAF_SLOTS as u64)).copied()
}

fn block_of(hints: &LeafHints, leaf: u64) -> Block {
    hints.leaves.get(&leaf).copied().unwrap_or(NO_BLOCK)
}

/// A copy of one leaf's entries.
pub struct LeafCopy {
    /// Number of the first slot.
    pub first_slot: u64,
    /// Where it lay.
    pub block: Block,
    /// Every entry, dead ones too.
    pub entries: Vec<SlotEntry>,
}

/// Walks the leaves that exist, from the one of `slot` on, a copy of one at a time.
pub struct Walk {
    from: u64,
    next_leaf: u64,
}

impl Walk {
    /// Starts at `slot`: of the leaf that holds it, the copy leaves out the slots before.
    pub fn from(slot: u64) -> Self {
        Self { from: slot, next_leaf: slot / LEAF_SLOTS as u64 }
    }

    /// The next leaf that is not freed.
    pub fn next<S: PageStore>(&mut self, store: &S, hints: &mut LeafHints) -> Result<Option<LeafCopy>> {
        loop {
            let leaf = self.next_leaf;
            if let Some((page, header)) = read_leaf(store, hints, leaf)? {
                let block = block_of(hints, leaf);
                let first_slot = header.first_slot.max(self.from);
                let first = (first_slot - header.first_slot) as usize;
                let entries = (first..header.count as usize).map(|index| entry(&page, block, index));
                let copy = LeafCopy { first_slot, block, entries: entries.collect::<Result<_>>()? };
                self.next_leaf += 1;
                return Ok(Some(copy));
            }
            // Freed, or the end: a fresh reading of the directory tells.
            match find_leaf(store, &read_meta(store)?, leaf)? {
                Leaf::Beyond => return Ok(None),
                Leaf::Freed => self.next_leaf += 1,
                Leaf::At(_) => {} // it appeared in between
            }
        }
    }
}

/// The slot that the next insert will get at the earliest: the end of the slots.
pub fn end<S: PageStore>(store: &S) -> Result<u64> {
    let mut last = NO_BLOCK;
    for _ in 0..TRIES {
        let meta = read_meta(store)?;
        let Some(path) = rightmost(store, &meta)? else {
            return Ok(0);
        };
        let node = path.last().expect("a path has a node");
        if node.header.level != 1 {
            return Ok(node.header.key * LEAF_SLOTS as u64); // a new node without leaves yet
        }
        let leaves = node.header.key + u64::from(node.header.count);
        if node.header.count == 0 || node.last_child == NO_BLOCK {
            return Ok(leaves * LEAF_SLOTS as u64);
        }
        if let Some(page) = pages::read_if(store, node.last_child, PageKind::SlotLeaf)?
            && let Some(header) = header(&page)
            && header.first_slot == (leaves - 1) * LEAF_SLOTS as u64
        {
            return Ok(header.first_slot + u64::from(header.count));
        }
        last = node.last_child; // freed since, or damaged
    }
    Err(Error::Corrupt { block: last, what: "not the slot leaf that the directory says" })
}

/// A node on the way to the open leaf.
struct PathNode {
    block: Block,
    header: NodeHeader,
    last_child: Block,
}

/// The rightmost path from the root: down to level 1, or to a node without children.
fn rightmost<S: PageStore>(store: &S, meta: &Meta) -> Result<Option<Vec<PathNode>>> {
    let mut path: Vec<PathNode> = Vec::new();
    let mut block = meta.slot_root;
    if block == NO_BLOCK {
        return Ok(None);
    }
    loop {
        let page = pages::read(store, block, PageKind::SlotDirectory)?;
        let header =
            NodeHeader::at(body(&page), 0).ok_or(Error::Corrupt { block, what: "malformed slot directory node" })?;
        if path.last().is_some_and(|parent| parent.header.level <= header.level) {
            return Err(Error::Corrupt { block, what: "slot directory nodes go round in a circle" });
        }
        let last_child = match header.count {
            0 => NO_BLOCK,
            count => child(&page, block, count as usize - 1)?,
        };
        path.push(PathNode { block, header, last_child });
        if header.level == 1 || header.count == 0 {
            return Ok(Some(path));
        }
        block = last_child;
    }
}

/// A block that is probably the open leaf, made if there is none. The caller checks it under its lock.
pub fn open_leaf<S: PageStore>(store: &S, hints: &mut LeafHints) -> Result<Block> {
    if let Some(block) = hints.open {
        return Ok(block);
    }
    loop {
        let meta = read_meta(store)?;
        if let Some(path) = rightmost(store, &meta)?
            && let Some(node) = path.last().filter(|node| node.header.level == 1 && node.last_child != NO_BLOCK)
            && let Some(page) = pages::read_if(store, node.last_child, PageKind::SlotLeaf)?
            && header(&page).is_some_and(|header| (header.count as usize) < LEAF_SLOTS)
        {
            hints.open = Some(node.last_child);
            return Ok(node.last_child);
        }
        extend(store, &meta)?;
    }
}

/// Forgets the open leaf, which turned out full or gone.
pub fn forget_open(hints: &mut LeafHints) {
    hints.open = None;
}

/// Makes room for another leaf, or the leaf itself: one record. Does nothing if another backend did.
fn extend<S: PageStore>(store: &S, meta: &Meta) -> Result<()> {
    let Some(path) = rightmost(store, meta)? else {
        return plant(store);
    };
    let last = path.last().expect("a path has a node");
    if last.header.level == 1 && (last.header.count as usize) < NODE_CHILDREN {
        return add_leaf(store, last);
    }
    match path.iter().rev().find(|node| node.header.level > 1 && (node.header.count as usize) < NODE_CHILDREN) {
        Some(parent) => add_node(store, parent),
        None => grow(store, meta),
    }
}

/// The first node: {meta, node}.
fn plant<S: PageStore>(store: &S) -> Result<()> {
    let mut action = store.begin()?;
    let meta_slot = pages::update(&mut action, META_BLOCK, PageKind::Meta)?;
    let mut meta = Meta::read(body(action.page(meta_slot)))?;
    if meta.slot_root != NO_BLOCK {
        return Ok(());
    }
    let (node, block) = action.create(PageKind::SlotDirectory)?;
    action.page_mut(node).write_grow(0, &NodeHeader { key: 0, count: 0, level: 1, next: NO_BLOCK, bytes: 0 });
    (meta.slot_root, meta.slot_height) = (block, 1);
    action.page_mut(meta_slot).write(0, &meta);
    action.commit()
}

/// A new root above the old one: {meta, root}.
fn grow<S: PageStore>(store: &S, seen: &Meta) -> Result<()> {
    let mut action = store.begin()?;
    let meta_slot = pages::update(&mut action, META_BLOCK, PageKind::Meta)?;
    let mut meta = Meta::read(body(action.page(meta_slot)))?;
    if meta.slot_root != seen.slot_root {
        return Ok(());
    }
    let (root, block) = action.create(PageKind::SlotDirectory)?;
    let mut page = action.page_mut(root);
    page.write_grow(0, &NodeHeader { key: 0, count: 1, level: meta.slot_height + 1, next: NO_BLOCK, bytes: 0 });
    page.write_grow(ChildBlock::offset(0), &ChildBlock(meta.slot_root));
    (meta.slot_root, meta.slot_height) = (block, meta.slot_height + 1);
    action.page_mut(meta_slot).write(0, &meta);
    action.commit()
}

/// A new empty node below `parent`: {parent, node}.
fn add_node<S: PageStore>(store: &S, parent: &PathNode) -> Result<()> {
    let mut action = store.begin()?;
    let slot = pages::update(&mut action, parent.block, PageKind::SlotDirectory)?;
    if NodeHeader::at(body(action.page(slot)), 0) != Some(parent.header) {
        return Ok(());
    }
    let mut header = parent.header;
    let (node, block) = action.create(PageKind::SlotDirectory)?;
    let key = header.key + u64::from(header.count) * leaves_per_child(header.level);
    let level = header.level - 1;
    action.page_mut(node).write_grow(0, &NodeHeader { key, count: 0, level, next: NO_BLOCK, bytes: 0 });
    append_child(&mut action, slot, &mut header, block);
    action.commit()
}

/// A new leaf below `parent`, if its last leaf is really full: {node, old leaf, new leaf} (rule 5).
fn add_leaf<S: PageStore>(store: &S, parent: &PathNode) -> Result<()> {
    let mut action = store.begin()?;
    let slot = pages::update(&mut action, parent.block, PageKind::SlotDirectory)?;
    if NodeHeader::at(body(action.page(slot)), 0) != Some(parent.header) {
        return Ok(());
    }
    let mut header = parent.header;
    if parent.last_child != NO_BLOCK {
        // Under the node's lock the last leaf can't be freed: that needs the node too.
        let current = child(action.page(slot), parent.block, header.count as usize - 1)?;
        if current != NO_BLOCK {
            let old = pages::update(&mut action, current, PageKind::SlotLeaf)?;
            let old =
                self::header(action.page(old)).ok_or(Error::Corrupt { block: current, what: "malformed slot leaf" })?;
            if (old.count as usize) < LEAF_SLOTS {
                return Ok(());
            }
        }
    }
    let first_slot = (header.key + u64::from(header.count)) * LEAF_SLOTS as u64;
    let (leaf, block) = action.create(PageKind::SlotLeaf)?;
    action.page_mut(leaf).write_grow(0, &LeafHeader { first_slot, count: 0, vector_page: NO_BLOCK });
    append_child(&mut action, slot, &mut header, block);
    action.commit()
}

fn append_child<A: Action>(action: &mut A, slot: usize, header: &mut NodeHeader, block: Block) {
    let mut page = action.page_mut(slot);
    page.write_grow(ChildBlock::offset(header.count as usize), &ChildBlock(block));
    header.count += 1;
    page.write(0, header);
}

/// Frees a leaf whose slots are all dead: {node, leaf}. `false` if it may not or need not be freed.
pub fn free_leaf<S: PageStore>(store: &S, leaf: u64) -> Result<bool> {
    let meta = read_meta(store)?;
    let (mut block, mut level) = (meta.slot_root, meta.slot_height);
    while level > 1 {
        let page = pages::read(store, block, PageKind::SlotDirectory)?;
        let node =
            NodeHeader::at(body(&page), 0).ok_or(Error::Corrupt { block, what: "malformed slot directory node" })?;
        let index = ((leaf - node.key) / leaves_per_child(level)) as usize;
        (block, level) = (child(&page, block, index)?, level - 1);
    }
    let mut action = store.begin()?;
    let slot = pages::update(&mut action, block, PageKind::SlotDirectory)?;
    let node = NodeHeader::at(body(action.page(slot)), 0)
        .ok_or(Error::Corrupt { block, what: "malformed slot directory node" })?;
    let index = (leaf - node.key) as usize;
    let leaf_block = child(action.page(slot), block, index)?;
    if leaf_block == NO_BLOCK {
        return Ok(false);
    }
    let leaf_slot = pages::update(&mut action, leaf_block, PageKind::SlotLeaf)?;
    let header = self::header(action.page(leaf_slot));
    let header = header.ok_or(Error::Corrupt { block: leaf_block, what: "malformed slot leaf" })?;
    for entry_index in 0..header.count as usize {
        if entry(action.page(leaf_slot), leaf_block, entry_index)?.state == SlotState::Live {
            return Ok(false);
        }
    }
    if (header.count as usize) < LEAF_SLOTS {
        return Ok(false); // the open leaf
    }
    action.page_mut(slot).write(ChildBlock::offset(index), &ChildBlock::NONE);
    action.page_mut(leaf_slot).free();
    action.commit()?;
    Ok(true)
}
