//! The state of the modelled index: pages, heap, and what must hold between any two records.

use std::rc::Rc;

use super::{insert::Insert, maintain::Maintain, rules::Rules, scan::Scan, vacuum::Vacuum};

pub type Block = u8;
pub type Slot = u8;
pub type Row = u8;
pub type Tid = u8;

pub const META: Block = 0;
pub const MAP: Block = 1;
pub const NEVER: u8 = u8::MAX;
/// What a failed oracle says.
pub type Check<T = ()> = Result<T, String>;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Meta {
    pub uuid: u8,
    pub d: u8,
    pub e: u8,
    pub work: u8,
    pub merged: Slot,
    pub root: Block,
    pub height: u8,
    pub directory: Block,
    pub l0_uid: u8,
    pub l0_position: u8,
    pub next_uid: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    pub tid: Tid,
    pub live: bool,
    pub block: Block,
    /// For the oracle: the row that was inserted.
    pub row: Row,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    pub slot: Slot,
    /// The sealed content.
    pub row: Row,
    /// Overflow page, 0 = none; its name is the row's number, as a random one would be.
    pub next: Block,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MapEntry {
    pub uid: u8,
    pub head: Block,
    pub tail: Block,
    pub born: u8,
    pub died: u8,
    pub chunks: u8,
}

impl MapEntry {
    pub fn live_at(&self, d: u8) -> bool {
        self.uid != 0 && self.born <= d && d < self.died
    }
}

/// A chunk, or one of the two pieces of a chunk that is wider than a page.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Chunk {
    pub born: u8,
    pub slots: Vec<Slot>,
    pub piece: u8,
    pub pieces: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListRef {
    pub uid: u8,
    pub head: Block,
    pub position: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Page {
    Free,
    Meta(Meta),
    Node { level: u8, key: u8, children: Vec<Block> },
    Leaf { first: Slot, entries: Vec<Entry> },
    Vector(Vec<Record>),
    Overflow { name: Row },
    Map(Vec<MapEntry>),
    List { uid: u8, ordinal: u8, next: Block, chunks: Vec<Chunk> },
    Directory { epoch: u8, uuid: u8, lists: Vec<ListRef> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RowState {
    /// Its transaction runs.
    Running,
    Committed,
    /// Deleted by a committed transaction.
    Deleted,
    Aborted,
    /// VACUUM turned its line pointer dead.
    Pruned,
    /// Its TID may be taken again.
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HeapRow {
    pub tid: Tid,
    pub state: RowState,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Actor {
    Insert(Insert),
    Maintain(Maintain),
    Vacuum(Vacuum),
    Scan(Scan),
    /// Stands where the actor that steps was taken from.
    Stepping,
}

/// How big things are in a scenario.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub leaf: u8,
    pub node: u8,
    pub vectors: usize,
    pub chunks: usize,
    /// Rows of one chunk.
    pub rows: usize,
    /// Chunks have two pieces on two pages.
    pub wide: bool,
}

/// What every step may look at.
#[derive(Clone, Copy)]
pub struct Context {
    pub rules: Rules,
    pub sizes: Sizes,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub pages: Vec<Rc<Page>>,
    pub rows: Vec<HeapRow>,
    /// Actor that holds the maintenance lock.
    pub lock: Option<u8>,
    pub crashes: u8,
    pub actors: Vec<Actor>,
}

/// What a step did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Did {
    Step(String),
    /// Waits, or has ended.
    Nothing,
}

impl World {
    pub fn page(&self, block: Block) -> &Page {
        self.pages.get(block as usize).map_or(&Page::Free, |page| page)
    }

    pub fn page_mut(&mut self, block: Block) -> &mut Page {
        Rc::make_mut(&mut self.pages[block as usize])
    }

    pub fn put(&mut self, block: Block, page: Page) {
        self.pages[block as usize] = Rc::new(page);
    }

    /// A free page, recycled at once.
    pub fn create(&mut self, page: Page) -> Block {
        let block = self.free_block();
        self.put(block, page);
        block
    }

    /// A page behind the last.
    pub fn create_late(&mut self, page: Page) -> Block {
        self.pages.push(Rc::new(page));
        self.pages.len() as Block - 1
    }

    /// Where [`World::create`] would put a page; extends if it must.
    pub fn free_block(&mut self) -> Block {
        let free = self.pages.iter().position(|page| **page == Page::Free);
        free.unwrap_or_else(|| {
            self.pages.push(Rc::new(Page::Free));
            self.pages.len() - 1
        }) as Block
    }

    pub fn meta(&self) -> Meta {
        match self.page(META) {
            Page::Meta(meta) => *meta,
            other => unreachable!("block 0 is {other:?}"),
        }
    }

    pub fn meta_mut(&mut self) -> &mut Meta {
        match self.page_mut(META) {
            Page::Meta(meta) => meta,
            other => unreachable!("block 0 is {other:?}"),
        }
    }

    pub fn map(&self) -> &Vec<MapEntry> {
        match self.page(MAP) {
            Page::Map(entries) => entries,
            other => unreachable!("block 1 is {other:?}"),
        }
    }

    pub fn map_mut(&mut self) -> &mut Vec<MapEntry> {
        match self.page_mut(MAP) {
            Page::Map(entries) => entries,
            other => unreachable!("block 1 is {other:?}"),
        }
    }

    pub fn position(&self, uid: u8) -> Option<usize> {
        self.map().iter().position(|entry| entry.uid == uid)
    }

    /// Puts `entry` at a free position of the map.
    pub fn add_entry(&mut self, entry: MapEntry) -> u8 {
        let map = self.map_mut();
        let position = map.iter().position(|entry| entry.uid == 0).unwrap_or(map.len());
        if position == map.len() {
            map.push(entry);
        } else {
            map[position] = entry;
        }
        position as u8
    }

    /// Chain of a list: block and page, as long as headers fit.
    pub fn chain(&self, entry: &MapEntry) -> Vec<(Block, u8, Block, &Vec<Chunk>)> {
        let (mut block, mut at, mut pages) = (entry.head, 0, Vec::new());
        while block != 0 {
            match self.page(block) {
                Page::List { uid, ordinal, next, chunks } if *uid == entry.uid && *ordinal == at => {
                    pages.push((block, at, *next, chunks));
                    (block, at) = (*next, at + 1);
                }
                _ => break,
            }
        }
        pages
    }

    /// Slots that a list holds at epoch `d`.
    pub fn slots(&self, entry: &MapEntry, d: u8) -> Vec<Slot> {
        let chunks = self.chain(entry).into_iter().flat_map(|(.., chunks)| chunks);
        chunks.filter(|chunk| chunk.born <= d && chunk.piece == 0).flat_map(|chunk| chunk.slots.clone()).collect()
    }

    /// Leaf number → block, by the slot directory; `None` beyond its end, 0 if freed.
    pub fn leaf_block(&self, context: &Context, leaf: u8) -> Option<Block> {
        let meta = self.meta();
        let mut block = meta.root;
        for level in (1..=meta.height).rev() {
            let Page::Node { key, children, .. } = self.page(block) else { return None };
            let span = if level == 2 { context.sizes.node } else { 1 };
            block = *children.get(((leaf.checked_sub(*key)?) / span) as usize)?;
        }
        Some(block)
    }

    pub fn entry(&self, context: &Context, slot: Slot) -> Option<Entry> {
        match self.page(self.leaf_block(context, slot / context.sizes.leaf)?) {
            Page::Leaf { first, entries } if *first == slot - slot % context.sizes.leaf => {
                entries.get((slot % context.sizes.leaf) as usize).copied()
            }
            _ => None,
        }
    }

    /// Whether a snapshot on the primary still sees `row`.
    pub fn seen_on_primary(&self, row: Row) -> bool {
        self.actors.iter().any(|actor| matches!(actor, Actor::Scan(s) if !s.standby && s.running() && s.sees(row)))
    }

    pub fn live(&self, context: &Context, slot: Slot) -> bool {
        self.entry(context, slot).is_some_and(|entry| entry.live)
    }

    /// Frees a page, whatever it was.
    pub fn free(&mut self, block: Block) {
        self.put(block, Page::Free);
    }

    /// The heap row that a TID leads to.
    pub fn row_at(&self, tid: Tid) -> Option<Row> {
        let row = self.rows.iter().rposition(|row| row.tid == tid && row.state != RowState::Gone);
        row.map(|row| row as Row)
    }

    /// Kills the server: transactions abort, primary scans and the lock go. Standby scans live on.
    pub fn crash(&mut self) {
        self.lock = None;
        for row in &mut self.rows {
            if row.state == RowState::Running {
                row.state = RowState::Aborted;
            }
        }
        for actor in &mut self.actors {
            match actor {
                Actor::Insert(insert) => insert.kill(),
                Actor::Maintain(maintain) => maintain.kill(),
                Actor::Vacuum(vacuum) => vacuum.kill(),
                Actor::Scan(scan) if !scan.standby => scan.kill(),
                Actor::Scan(_) | Actor::Stepping => {}
            }
        }
    }
}
