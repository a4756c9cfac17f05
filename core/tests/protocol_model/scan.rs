//! A scan: meta, directory, tail, L0, lists, then slot → TID and vector record; on the primary or a standby.
//!
//! One step reads one page under its lock. A standby replays record by record and nothing it does
//! comes back, so its scan is a scan whose snapshot does not hold VACUUM back, which a prune
//! record cancels, and which lives on when the primary crashes.

use super::{
    rules::Rule::*,
    world::{Actor, Block, Check, Chunk, Context, Did, Entry, ListRef, Page, Row, RowState, Slot, World},
};

/// Restarts before the exact slot scan.
const RESTARTS_MAX: u8 = 2;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum At {
    Start,
    Meta,
    /// Reads `m0`, which `OneMetaRead` should have read with the rest.
    Merged,
    Directory(Block),
    /// Reads a list's map entry: to find its head, or after `misfit`, a page that was not the list's.
    Map {
        uid: u8,
        position: u8,
        misfit: Block,
    },
    Page {
        block: Block,
        ordinal: u8,
    },
    /// Opens the page that `OpenUnderLock` should have opened in the step before.
    Open {
        block: Block,
        ordinal: u8,
    },
    /// Descends to leaf `leaf` of the tail.
    Tail {
        leaf: u8,
        block: Block,
        level: u8,
    },
    Node {
        slot: Slot,
        block: Block,
        level: u8,
    },
    Leaf {
        slot: Slot,
        block: Block,
    },
    Vector {
        slot: Slot,
        entry: Entry,
    },
    Part {
        slot: Slot,
        entry: Entry,
        row: Row,
        block: Block,
    },
    Done,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Directory {
    uuid: u8,
    e: u8,
    lists: Vec<ListRef>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scan {
    pub standby: bool,
    at: At,
    snapshot: u32,
    d: u8,
    m0: Slot,
    root: Block,
    height: u8,
    l0: (u8, u8),
    cache: Option<Directory>,
    /// Build and epoch of the last meta read.
    want: (u8, u8),
    /// Epoch whose directory did not fit.
    bad_epoch: Option<u8>,
    /// Next list: 0 is L0, then the directory's.
    list: u8,
    /// Page that was not what it should be, and how often in a row.
    stuck: (Block, u8),
    /// Pieces of a wide chunk so far.
    pieces: u8,
    /// Slots queued from lists.
    set: u32,
    queue: Vec<Slot>,
    returned: u32,
    restarts: u8,
    /// End of the tail, read before the snapshot (`TailEndAfterSnapshot` off).
    tail_end: Option<Slot>,
    tail_read: bool,
    /// Entry whose record was not there.
    misfit: Option<Entry>,
    /// Slots kept from an earlier scan (`TidAtOutput` off).
    entries: Vec<(Slot, Entry)>,
}

impl Scan {
    pub fn primary() -> Scan {
        Scan {
            standby: false,
            at: At::Start,
            snapshot: 0,
            d: 0,
            m0: 0,
            root: 0,
            height: 0,
            l0: (0, 0),
            cache: None,
            want: (0, 0),
            bad_epoch: None,
            list: 0,
            stuck: (0, 0),
            pieces: 0,
            set: 0,
            queue: Vec::new(),
            returned: 0,
            restarts: 0,
            tail_end: None,
            tail_read: false,
            misfit: None,
            entries: Vec::new(),
        }
    }

    pub fn standby() -> Scan {
        Scan { standby: true, ..Self::primary() }
    }

    /// A backend that knows the index from before its first lists.
    pub fn with_empty_directory(mut self) -> Scan {
        self.cache = Some(Directory { uuid: 0, e: 0, lists: Vec::new() });
        self
    }

    /// What the backend keeps from a scan that saw `world`.
    pub fn with_caches(mut self, world: &World, context: &Context) -> Scan {
        let meta = world.meta();
        if let Page::Directory { lists, .. } = world.page(meta.directory) {
            self.cache = Some(Directory { uuid: meta.uuid, e: meta.e, lists: lists.clone() });
        }
        let slots = (0..32).map_while(|slot| Some((slot, world.entry(context, slot)?)));
        let entries: Vec<_> = slots.collect();
        if context.rules.off(TailEndAfterSnapshot) {
            self.tail_end = Some(entries.len() as Slot);
        }
        if context.rules.off(TidAtOutput) {
            self.entries = entries;
        }
        self
    }

    pub fn actor(self) -> Actor {
        Actor::Scan(self)
    }

    pub fn kill(&mut self) {
        self.at = At::Done;
    }

    /// Whether it has a snapshot.
    pub fn running(&self) -> bool {
        !matches!(self.at, At::Start | At::Done)
    }

    pub fn sees(&self, row: Row) -> bool {
        self.running() && self.snapshot >> row & 1 == 1
    }

    pub fn step(&mut self, world: &mut World, context: &Context) -> Check<Did> {
        if self.at == At::Done {
            return Ok(Did::Nothing);
        }
        let before = format!("{:?}", self.at);
        let what = match self.at.clone() {
            At::Start => {
                for (row, heap) in world.rows.iter().enumerate() {
                    if heap.state == RowState::Committed {
                        self.snapshot |= 1 << row;
                    }
                }
                self.at = At::Meta;
                return Ok(Did::Step(format!("takes a snapshot of rows {:#b}", self.snapshot)));
            }
            At::Meta => self.meta(world, context),
            At::Merged => {
                self.m0 = world.meta().merged;
                self.directory_or_lists(world.meta().directory, context);
                Ok(())
            }
            At::Directory(block) => self.directory(world, context, block),
            At::Map { uid, position, misfit } => self.map(world, context, uid, position, misfit),
            At::Page { block, ordinal } => self.page(world, context, block, ordinal),
            At::Open { block, ordinal } => self.open(world, context, block, ordinal),
            At::Tail { leaf, block, level } => self.tail(world, context, leaf, block, level),
            At::Node { slot, block, level } => self.node(world, context, slot, block, level),
            At::Leaf { slot, block } => self.leaf(world, context, slot, block),
            At::Vector { slot, entry } => self.vector(world, context, slot, entry),
            At::Part { slot, entry, row, block } => self.part(world, context, slot, entry, row, block),
            At::Done => Ok(()),
        };
        what.and_then(|()| self.finish())
            .map_err(|what| format!("{}: {what} at {before}", if self.standby { "standby scan" } else { "scan" }))?;
        Ok(Did::Step(before))
    }

    fn meta(&mut self, world: &World, context: &Context) -> Check {
        let meta = world.meta();
        if self.bad_epoch == Some(meta.e) {
            return Err("false corruption (directory)".into());
        }
        self.d = meta.d;
        self.want = (meta.uuid, meta.e);
        let first = self.restarts == 0 && self.bad_epoch.is_none();
        if first {
            // Kept to the scan's end: rows from here on are the tail, whatever is merged later.
            self.m0 = meta.merged;
        }
        (self.root, self.height) = (meta.root, meta.height);
        self.l0 = (meta.l0_uid, meta.l0_position);
        if self.restarts > RESTARTS_MAX {
            self.start_slots(context, 0);
        } else if context.rules.off(OneMetaRead) && first {
            self.at = At::Merged;
        } else {
            self.directory_or_lists(meta.directory, context);
        }
        Ok(())
    }

    fn directory_or_lists(&mut self, root: Block, context: &Context) {
        let (uuid, e) = self.want;
        let serves = |cache: &Directory| {
            (cache.e == e || context.rules.off(DirectoryByEpoch) && self.restarts == 0)
                && (cache.uuid == uuid || context.rules.off(DirectoryByUuid))
        };
        if self.cache.as_ref().is_some_and(serves) {
            self.first_list(context);
        } else if root != 0 {
            self.at = At::Directory(root);
        } else {
            self.cache = Some(Directory { uuid, e, lists: Vec::new() });
            self.first_list(context);
        }
    }

    fn directory(&mut self, world: &World, context: &Context, block: Block) -> Check {
        let (want_uuid, want_e) = self.want;
        match world.page(block) {
            Page::Directory { epoch, uuid, lists } if (*uuid, *epoch) == (want_uuid, want_e) => {
                self.cache = Some(Directory { uuid: *uuid, e: *epoch, lists: lists.clone() });
                self.bad_epoch = None;
                self.first_list(context);
                Ok(())
            }
            _ if context.rules.off(DirectoryHeader) => Err("false corruption (directory does not open)".into()),
            _ if context.rules.off(LookAgain) => Err("false corruption (directory, not looked up again)".into()),
            _ => {
                self.bad_epoch = Some(want_e);
                self.at = At::Meta;
                Ok(())
            }
        }
    }

    /// The tail comes first; its slots are not in the set, but no list entry below `m0` is one of them.
    fn first_list(&mut self, context: &Context) {
        if !self.tail_read {
            self.start_slots(context, self.m0);
            return;
        }
        if self.restarts == 0 || context.rules.on(FromTheFirst) {
            self.list = 0;
        }
        self.probe(context);
    }

    /// Goes to list `self.list`, or to the tail after the last.
    fn probe(&mut self, context: &Context) {
        let lists = self.cache.as_ref().map_or(&[][..], |cache| &cache.lists);
        if self.list == 0 && self.l0.0 != 0 {
            self.at = At::Map { uid: self.l0.0, position: self.l0.1, misfit: 0 };
            return;
        }
        self.list = self.list.max(1);
        match lists.get(self.list as usize - 1) {
            Some(list) if list.head != 0 => self.at = At::Page { block: list.head, ordinal: 0 },
            Some(list) if context.rules.on(EmptyHeadReadsMap) => {
                self.at = At::Map { uid: list.uid, position: list.position, misfit: 0 };
            }
            Some(_) => {
                self.list += 1;
                self.probe(context);
            }
            None => self.end(),
        }
    }

    fn next_list(&mut self, context: &Context) {
        self.list += 1;
        self.pieces = 0;
        self.probe(context);
    }

    fn place(&self) -> (u8, u8) {
        if self.list == 0 {
            return self.l0;
        }
        let list = &self.cache.as_ref().expect("lists come from the directory").lists[self.list as usize - 1];
        (list.uid, list.position)
    }

    /// Notes that `block` is not what it should be though nothing seems changed; whether that is damage.
    fn is_damage(&mut self, context: &Context, block: Block) -> bool {
        let times = if self.stuck.0 == block { self.stuck.1 + 1 } else { 1 };
        self.stuck = (block, times);
        times >= if context.rules.on(ThriceIsDamage) { 3 } else { 1 }
    }

    fn map(&mut self, world: &World, context: &Context, uid: u8, position: u8, misfit: Block) -> Check {
        let entry = world.map().get(position as usize).copied().filter(|entry| entry.uid == uid);
        self.pieces = 0;
        match entry {
            Some(_) if misfit != 0 && self.is_damage(context, misfit) => {
                return Err("false corruption (list)".into());
            }
            Some(entry) if misfit == 0 && entry.head == 0 => self.next_list(context),
            Some(entry) if misfit == 0 => self.at = At::Page { block: entry.head, ordinal: 0 },
            _ => {
                // The list has changed, or is gone because another epoch was published.
                self.restarts += 1;
                self.bad_epoch = None;
                self.at = At::Meta;
            }
        }
        Ok(())
    }

    fn page(&mut self, world: &World, context: &Context, block: Block, ordinal: u8) -> Check {
        let (uid, position) = self.place();
        match world.page(block) {
            Page::List { uid: found, ordinal: at, next, chunks } if (*found, *at) == (uid, ordinal) => {
                if context.rules.off(OpenUnderLock) {
                    self.at = At::Open { block, ordinal };
                    return Ok(());
                }
                self.take(context, chunks, *next, ordinal)
            }
            _ if context.rules.off(ListHeader) => Err("false corruption (chunk does not open)".into()),
            _ if context.rules.off(LookAgain) => Err("false corruption (list, not looked up again)".into()),
            _ => {
                self.at = At::Map { uid, position, misfit: block };
                Ok(())
            }
        }
    }

    fn open(&mut self, world: &World, context: &Context, block: Block, ordinal: u8) -> Check {
        let (uid, _) = self.place();
        match world.page(block) {
            Page::List { uid: found, ordinal: at, next, chunks } if (*found, *at) == (uid, ordinal) => {
                self.take(context, chunks, *next, ordinal)
            }
            _ => Err("false corruption (page changed while it was opened)".into()),
        }
    }

    /// Queues what a list page holds and goes on.
    fn take(&mut self, context: &Context, chunks: &[Chunk], next: Block, ordinal: u8) -> Check {
        for chunk in chunks {
            if chunk.born > self.d && context.rules.on(UnbornIgnored) {
                continue;
            }
            if chunk.piece != self.pieces {
                return Err("false corruption (piece missing)".into());
            }
            self.pieces = (chunk.piece + 1) % chunk.pieces;
            if chunk.piece > 0 {
                continue;
            }
            for slot in &chunk.slots {
                // Within one epoch a slot is in one list and below `m0`: only after a restart it can come again.
                let again = self.restarts > 0 && context.rules.on(SlotSet) && self.set >> slot & 1 == 1;
                let tail = self.restarts > 0 && context.rules.on(MergedOnly) && *slot >= self.m0;
                if !again && !tail {
                    self.set |= 1 << slot;
                    self.queue.push(*slot);
                }
            }
        }
        if next != 0 {
            self.at = At::Page { block: next, ordinal: ordinal + 1 };
            return Ok(());
        }
        if self.pieces != 0 {
            return Err("false corruption (last piece missing)".into());
        }
        self.next_list(context);
        Ok(())
    }

    /// Reads slots from `from` on: the tail, or every slot of the lists when they won't hold still.
    fn start_slots(&mut self, context: &Context, from: Slot) {
        self.at = At::Tail { leaf: from / context.sizes.leaf, block: self.root, level: self.height };
    }

    fn tail(&mut self, world: &World, context: &Context, leaf: u8, block: Block, level: u8) -> Check {
        let size = context.sizes.leaf;
        match world.page(block) {
            Page::Node { key, children, .. } if level > 0 => {
                let span = if level == 2 { context.sizes.node } else { 1 };
                match children.get(((leaf - key) / span) as usize) {
                    None => self.end_slots(context), // beyond the last leaf of its time
                    Some(0) => self.at = At::Tail { leaf: leaf + 1, block: self.root, level: self.height },
                    Some(child) => self.at = At::Tail { leaf, block: *child, level: level - 1 },
                }
                // A level-1 root ends where its only node ends; the tree may have grown since.
                Ok(())
            }
            Page::Leaf { first, entries } if level == 0 && (*first == leaf * size || context.rules.off(LeafHeader)) => {
                for (index, entry) in entries.iter().enumerate() {
                    let slot = leaf * size + index as u8;
                    let wanted = match self.tail_read {
                        false => slot >= self.m0 && self.tail_end.is_none_or(|end| slot < end),
                        true => slot < self.m0 && self.set >> slot & 1 == 0,
                    };
                    if wanted && entry.live {
                        self.queue.push(slot);
                    }
                }
                self.at = At::Tail { leaf: leaf + 1, block: self.root, level: self.height };
                Ok(())
            }
            _ if level > 0 => Err("false corruption (node)".into()),
            _ => {
                // The leaf was freed: its link is gone by now, and never comes back.
                if self.stuck.0 == block || context.rules.off(LookAgain) {
                    return Err("false corruption (leaf of the tail)".into());
                }
                self.stuck = (block, 1);
                self.at = At::Tail { leaf, block: self.root, level: self.height };
                Ok(())
            }
        }
    }

    fn end_slots(&mut self, context: &Context) {
        if self.tail_read {
            self.end();
        } else {
            self.tail_read = true;
            self.probe(context);
        }
    }

    fn end(&mut self) {
        self.stuck = (0, 0);
        self.queue.sort_unstable();
        self.queue.reverse();
        self.next_slot();
    }

    fn next_slot(&mut self) {
        self.stuck = (0, 0);
        self.at = match self.queue.last().copied() {
            Some(slot) => match self.entries.iter().find(|(cached, _)| *cached == slot) {
                Some((_, entry)) => At::Vector { slot, entry: *entry },
                None => At::Node { slot, block: self.root, level: self.height },
            },
            None => At::Done,
        };
    }

    fn skip(&mut self) -> Check {
        self.queue.pop();
        self.next_slot();
        Ok(())
    }

    fn node(&mut self, world: &World, context: &Context, slot: Slot, block: Block, level: u8) -> Check {
        let Page::Node { key, children, .. } = world.page(block) else {
            return Err("false corruption (node)".into());
        };
        let span = if level == 2 { context.sizes.node } else { 1 };
        let index = (slot / context.sizes.leaf - key) / span;
        match children.get(index as usize) {
            None | Some(0) => return self.skip(), // no leaf: dead
            Some(child) if level > 1 => self.at = At::Node { slot, block: *child, level: level - 1 },
            Some(child) => self.at = At::Leaf { slot, block: *child },
        }
        Ok(())
    }

    fn leaf(&mut self, world: &mut World, context: &Context, slot: Slot, block: Block) -> Check {
        let size = context.sizes.leaf;
        let entry = match world.page(block) {
            Page::Leaf { first, entries } if *first == slot - slot % size || context.rules.off(LeafHeader) => {
                entries.get((slot % size) as usize).copied()
            }
            _ if context.rules.off(LookAgain) => return Err("false corruption (leaf, not looked up again)".into()),
            _ => {
                // A leaf that is freed is never linked again: twice the same block is damage.
                if self.stuck.0 == block {
                    return Err("false corruption (leaf)".into());
                }
                self.stuck = (block, 1);
                self.at = At::Node { slot, block: self.root, level: self.height };
                return Ok(());
            }
        };
        let Some(entry) = entry else { return Err("false corruption (slot beyond its leaf)".into()) };
        if entry.live && self.misfit == Some(entry) && self.is_damage(context, entry.block) {
            return Err("false corruption (record)".into());
        }
        if context.rules.off(NoKillPriorTuple) && !self.standby && entry.live {
            let row = world.row_at(entry.tid);
            let dead = |row: Row| {
                world.rows[row as usize].state == RowState::Deleted && !self.sees(row) && !world.seen_on_primary(row)
            };
            if row.is_some_and(dead) {
                if let Page::Leaf { entries, .. } = world.page_mut(block) {
                    entries[(slot % size) as usize].live = false;
                }
                return self.skip();
            }
        }
        if !entry.live {
            return self.skip();
        }
        self.at = At::Vector { slot, entry };
        Ok(())
    }

    fn vector(&mut self, world: &World, context: &Context, slot: Slot, entry: Entry) -> Check {
        let records = match world.page(entry.block) {
            Page::Vector(records) => &records[..],
            _ => &[],
        };
        match records.iter().find(|record| record.slot == slot) {
            Some(record) if record.next != 0 => {
                self.at = At::Part { slot, entry, row: record.row, block: record.next };
                Ok(())
            }
            Some(record) => self.emit(world, entry, record.row),
            None if context.rules.off(VectorSlot) => Err("false corruption (record does not open)".into()),
            None if context.rules.off(LookAgain) => Err("false corruption (record, not looked up again)".into()),
            None => {
                self.look_again(slot, entry);
                Ok(())
            }
        }
    }

    fn part(&mut self, world: &World, context: &Context, slot: Slot, entry: Entry, row: Row, block: Block) -> Check {
        match world.page(block) {
            Page::Overflow { name } if *name == row => self.emit(world, entry, row),
            _ if context.rules.off(OverflowName) => Err("false corruption (part does not open)".into()),
            _ if context.rules.off(LookAgain) => Err("false corruption (part, not looked up again)".into()),
            _ => {
                self.look_again(slot, entry);
                Ok(())
            }
        }
    }

    /// The record was not where `entry` says: the slot tells where it is now.
    fn look_again(&mut self, slot: Slot, entry: Entry) {
        self.misfit = Some(entry);
        self.at = At::Node { slot, block: self.root, level: self.height };
    }

    fn emit(&mut self, world: &World, entry: Entry, content: Row) -> Check {
        if let Some(row) = world.row_at(entry.tid)
            && self.snapshot >> row & 1 == 1
        {
            if row != content {
                return Err(format!("TID {} of row {row} comes with the distance of row {content}", entry.tid));
            }
            if self.returned >> row & 1 == 1 {
                return Err(format!("row {row} comes twice"));
            }
            self.returned |= 1 << row;
        }
        self.skip()
    }

    fn finish(&mut self) -> Check {
        if self.at == At::Done && self.returned != self.snapshot {
            return Err(format!("lost rows: saw {:#b}, returned {:#b}", self.snapshot, self.returned));
        }
        Ok(())
    }
}
