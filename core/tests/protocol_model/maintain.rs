//! The holder of the maintenance lock: merges, replacing lists, recovery, cleanup. One step, one record.
//!
//! Under the lock nobody else changes lists, map or directory, so what the holder reads of them
//! needs no step of its own. With `MaintenanceLock` off two plans may cross.

use std::collections::VecDeque;

use super::{
    insert::put_record,
    rules::Rule::*,
    vacuum::remove_record,
    world::{
        Actor, Block, Check, Chunk, Context, Did, Entry, ListRef, MAP, META, MapEntry, Meta, NEVER, Page, Row,
        RowState, Slot, World,
    },
};

/// One thing to do under the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    TailToL0,
    L0ToLists,
    /// Every list becomes new lists: split, fold, purge and clustering from scratch are this.
    Replace,
    /// Moves a row of the second list to the first in place, which `NewUid` forbids; else `Replace`.
    Shift,
    /// Moves the record of this slot to another page.
    Move(Slot),
    /// Recovery, sweep, orphans, records of dead slots: no key.
    Cleanup,
    /// REINDEX: a new index with the same counters.
    Rebuild,
}

/// A record of a plan, or a reading that others can get between.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Do {
    Work,
    /// Reads where the slots end, in the last leaf.
    End,
    /// Reads leaf after leaf of the tail.
    Collect {
        leaf: u8,
        end: Slot,
        slots: Vec<Slot>,
    },
    Append {
        uid: u8,
        slots: Vec<Slot>,
        piece: u8,
    },
    NewList {
        slots: Vec<Slot>,
        l0: bool,
    },
    Die(u8),
    Shrink {
        uid: u8,
        slot: Slot,
    },
    WriteDirectory,
    Publish(Change),
    FreeEntry(u8),
    FreePages {
        uid: u8,
        block: Block,
    },
    FreeDirectory(Block),
    Sweep(Vec<Block>),
    Orphans,
    Linked(Vec<(Block, Row)>),
    FreeParts(Vec<(Block, Row)>),
    States(Vec<Slot>),
    Records(Block),
    Lookup {
        block: Block,
        slots: Vec<Slot>,
    },
    FreeRecords {
        block: Block,
        slots: Vec<Slot>,
    },
    Move(Slot),
    /// Moves the record as `leaf` and `entry` were when they were read.
    MoveAs {
        slot: Slot,
        leaf: Block,
        entry: Entry,
    },
    PutMoved {
        slot: Slot,
        row: Row,
        next: Block,
    },
    KeylessUpto,
}

/// What publishing sets in the meta page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Change {
    epoch: bool,
    merged: Option<Slot>,
    l0: bool,
    directory: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum At {
    Lock,
    Recover,
    Plan,
    Do,
    Done,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Maintain {
    at: At,
    ops: VecDeque<Op>,
    plan: VecDeque<Do>,
    /// As read after the lock was taken.
    meta: Meta,
    /// What the batch has made: lists, L0, directory.
    made: Vec<u8>,
    l0: u8,
    directory: Block,
}

impl Maintain {
    pub fn actor(ops: &[Op]) -> Actor {
        Actor::Maintain(Self {
            at: At::Lock,
            ops: ops.iter().copied().collect(),
            plan: VecDeque::new(),
            meta: Meta::default(),
            made: Vec::new(),
            l0: 0,
            directory: 0,
        })
    }

    pub fn kill(&mut self) {
        self.at = At::Done;
        self.plan.clear();
        self.ops.clear();
    }

    pub fn running(&self) -> bool {
        self.at != At::Done
    }

    fn locks(&self, context: &Context) -> bool {
        let sweeps = self.ops.front() == Some(&Op::Cleanup) && context.rules.off(SweepLocked);
        context.rules.on(MaintenanceLock) && !sweeps
    }

    pub fn step(&mut self, me: u8, world: &mut World, context: &Context) -> Check<Did> {
        match self.at {
            At::Done => Ok(Did::Nothing),
            At::Lock => {
                if self.ops.is_empty() {
                    self.at = At::Done;
                    return Ok(Did::Nothing);
                }
                if context.rules.off(MetaAfterLock) && self.meta == Meta::default() {
                    self.meta = world.meta();
                    return Ok(Did::Step("reads meta before it has the lock".into()));
                }
                if self.ops.front() == Some(&Op::Rebuild)
                    && world.actors.iter().any(|a| matches!(a, Actor::Scan(s) if s.running()))
                {
                    return Ok(Did::Nothing); // REINDEX waits for them, and they for it
                }
                if self.ops.front() == Some(&Op::Rebuild) {
                    rebuild(world, context);
                    self.end(me, world);
                    return Ok(Did::Step("builds the index anew".into()));
                }
                if self.locks(context) {
                    if world.lock.is_some() {
                        return Ok(Did::Nothing);
                    }
                    world.lock = Some(me);
                }
                if context.rules.on(MetaAfterLock) {
                    self.meta = world.meta();
                }
                let work = self.meta.work > self.meta.d;
                self.at = if work && context.rules.on(RecoverFirst) { At::Recover } else { At::Plan };
                Ok(Did::Step(format!("takes the maintenance lock for {:?}", self.ops[0])))
            }
            At::Recover => {
                if let Some(what) = self.plan.pop_front() {
                    let text = format!("recovery: {what:?}");
                    self.record(what, world, context)?;
                    return Ok(Did::Step(text));
                }
                let did = recover(world, context);
                if let Some((text, uid, block)) = did {
                    if block != 0 {
                        self.plan.push_back(Do::FreePages { uid, block });
                    }
                    return Ok(Did::Step(text));
                }
                world.meta_mut().work = 0;
                self.meta = world.meta();
                self.at = At::Plan;
                Ok(Did::Step("recovery: nothing is unpublished".into()))
            }
            At::Plan => {
                let op = *self.ops.front().expect("an operation took the lock");
                self.plan(op, world, context);
                self.at = At::Do;
                self.step(me, world, context)
            }
            At::Do => match self.plan.pop_front() {
                Some(what) => {
                    let text = format!("{what:?}");
                    self.record(what, world, context)?;
                    if self.plan.is_empty() {
                        self.end(me, world);
                    }
                    Ok(Did::Step(text))
                }
                None => {
                    self.end(me, world);
                    Ok(Did::Step("has nothing to do".into()))
                }
            },
        }
    }

    fn end(&mut self, me: u8, world: &mut World) {
        if world.lock == Some(me) {
            world.lock = None;
        }
        self.ops.pop_front();
        (self.meta, self.l0, self.directory) = (Meta::default(), 0, 0);
        self.made.clear();
        self.at = if self.ops.is_empty() { At::Done } else { At::Lock };
    }

    fn plan(&mut self, op: Op, world: &World, context: &Context) {
        let rules = context.rules;
        let meta = self.meta;
        let mut plan = VecDeque::new();
        if !matches!(op, Op::Move(_) | Op::Cleanup | Op::Rebuild) && rules.on(WorkEpochFirst) {
            plan.push_back(Do::Work);
        }
        let live: Vec<MapEntry> = world.map().iter().filter(|entry| entry.live_at(meta.d)).copied().collect();
        let lists: Vec<MapEntry> = live.iter().filter(|entry| entry.uid != meta.l0_uid).copied().collect();
        let l0 = live.iter().find(|entry| entry.uid == meta.l0_uid).copied();
        let pages = |entry: &MapEntry| Do::FreePages { uid: entry.uid, block: entry.head };
        let free = |plan: &mut VecDeque<Do>, entry: &MapEntry| {
            let (map, chain) = (Do::FreeEntry(entry.uid), pages(entry));
            let order = if rules.on(MapBeforePages) { [map, chain] } else { [chain, map] };
            plan.extend(order.into_iter().filter(|what| !matches!(what, Do::FreePages { block: 0, .. })));
        };
        // A batch that is redone need not assign as the one before did.
        let turn = world.crashes as usize;
        match op {
            Op::TailToL0 => {
                plan.push_back(Do::End);
            }
            Op::L0ToLists => {
                let Some(l0) = l0 else { return };
                let slots = live_only(world, context, world.slots(&l0, meta.d));
                let mut groups = vec![Vec::new(); lists.len().max(1)];
                let count = groups.len();
                slots.iter().for_each(|slot| groups[(*slot as usize + turn) % count].push(*slot));
                for (list, group) in lists.iter().zip(&groups) {
                    append(&mut plan, context, list.uid, group);
                }
                let first = lists.is_empty();
                if first {
                    plan.push_back(Do::NewList { slots, l0: false });
                    plan.push_back(Do::WriteDirectory);
                }
                plan.push_back(Do::NewList { slots: Vec::new(), l0: true });
                plan.push_back(Do::Die(l0.uid));
                let change = Change { epoch: true, l0: true, directory: first, ..Change::default() };
                plan.push_back(Do::Publish(change));
                free(&mut plan, &l0);
            }
            Op::Shift if rules.off(NewUid) && lists.len() >= 2 => {
                let from = world.slots(&lists[1], meta.d);
                let Some(slot) = from.first().copied() else { return };
                append(&mut plan, context, lists[0].uid, &[slot]);
                plan.push_back(Do::Publish(Change { epoch: true, ..Change::default() }));
                plan.push_back(Do::Shrink { uid: lists[1].uid, slot });
            }
            Op::Replace | Op::Shift => {
                let mut groups = [Vec::new(), Vec::new()];
                for entry in &lists {
                    for slot in live_only(world, context, world.slots(entry, meta.d)) {
                        groups[(slot as usize + turn + 1) % 2].push(slot);
                    }
                }
                plan.extend(groups.map(|slots| Do::NewList { slots, l0: false }));
                plan.extend(lists.iter().map(|entry| Do::Die(entry.uid)));
                plan.push_back(Do::WriteDirectory);
                plan.push_back(Do::Publish(Change { epoch: true, directory: true, ..Change::default() }));
                lists.iter().for_each(|entry| free(&mut plan, entry));
                if meta.directory != 0 {
                    plan.push_back(Do::FreeDirectory(meta.directory));
                }
            }
            Op::Move(slot) => plan.push_back(Do::Move(slot)),
            Op::Cleanup => {
                if rules.off(CleanupKeepsTail) {
                    plan.push_back(Do::KeylessUpto);
                }
                plan.push_back(Do::Sweep(unreachable_pages(world, context)));
                plan.push_back(if rules.on(CollectThenWalk) { Do::Orphans } else { Do::Linked(Vec::new()) });
                let vectors = (0..world.pages.len() as Block).filter(|b| matches!(world.page(*b), Page::Vector(_)));
                if rules.on(RecordsThenStates) {
                    plan.extend(vectors.map(Do::Records));
                } else {
                    plan.push_back(Do::States(Vec::new()));
                }
            }
            Op::Rebuild => unreachable!("done at once"),
        }
        self.plan = plan;
    }

    fn record(&mut self, what: Do, world: &mut World, context: &Context) -> Check {
        let born = self.meta.d + 1;
        let rules = context.rules;
        match what {
            Do::Work => world.meta_mut().work = born,
            Do::End => {
                let leaves = (0..).take_while(|leaf| world.leaf_block(context, *leaf).is_some()).count() as u8;
                let last = leaves.saturating_sub(1);
                let end = match world.leaf_block(context, last).map(|block| world.page(block)) {
                    Some(Page::Leaf { first, entries }) => first + entries.len() as u8,
                    _ => leaves * context.sizes.leaf,
                };
                let leaf = self.meta.merged / context.sizes.leaf;
                self.plan.push_front(Do::Collect { leaf, end, slots: Vec::new() });
            }
            Do::Collect { leaf, end, mut slots } => {
                if let Some(block) = world.leaf_block(context, leaf)
                    && let Page::Leaf { first, entries } = world.page(block)
                {
                    let wanted =
                        |slot: &Slot| *slot >= self.meta.merged && *slot < end && entries[(slot - first) as usize].live;
                    slots.extend((*first..first + entries.len() as u8).filter(wanted));
                }
                if (leaf + 1) * context.sizes.leaf < end {
                    self.plan.push_front(Do::Collect { leaf: leaf + 1, end, slots });
                } else {
                    self.plan_tail(end, slots, context);
                }
            }
            Do::Append { uid, slots, piece } => add_chunk(world, context, uid, &slots, piece, born)?,
            Do::NewList { slots, l0 } => {
                let uid = world.meta().next_uid;
                world.meta_mut().next_uid += 1;
                let entry = MapEntry { uid, head: 0, tail: 0, born, died: NEVER, chunks: 0 };
                world.add_entry(entry);
                if l0 {
                    self.l0 = uid;
                } else {
                    self.made.push(uid);
                }
                let mut later = VecDeque::new();
                append(&mut later, context, uid, &slots);
                later.into_iter().rev().for_each(|what| self.plan.push_front(what));
            }
            Do::Die(uid) => {
                if let Some(position) = world.position(uid) {
                    world.map_mut()[position].died = born;
                }
            }
            Do::Shrink { uid, slot } => {
                let position = world.position(uid).ok_or("the list to shrink is gone")?;
                let blocks: Vec<Block> = world.chain(&world.map()[position]).iter().map(|page| page.0).collect();
                for block in blocks {
                    if let Page::List { chunks, .. } = world.page_mut(block) {
                        chunks.iter_mut().for_each(|chunk| chunk.slots.retain(|s| *s != slot));
                    }
                }
            }
            Do::WriteDirectory => {
                let lists = self.made.iter().map(|uid| {
                    let position = world.position(*uid).ok_or("a new list is gone")?;
                    Ok(ListRef { uid: *uid, head: world.map()[position].head, position: position as u8 })
                });
                let lists = lists.collect::<Check<Vec<_>>>()?;
                self.directory = world.create(Page::Directory { epoch: self.meta.e + 1, uuid: self.meta.uuid, lists });
            }
            Do::Publish(change) => self.publish(world, context, change)?,
            Do::FreeEntry(uid) => {
                if let Some(position) = world.position(uid) {
                    world.map_mut()[position].uid = 0;
                }
            }
            Do::FreePages { uid, block } => {
                if let Page::List { uid: found, next, .. } = world.page(block)
                    && *found == uid
                {
                    let next = *next;
                    world.free(block);
                    if next != 0 {
                        self.plan.push_front(Do::FreePages { uid, block: next });
                    }
                }
            }
            Do::FreeDirectory(block) => {
                if matches!(world.page(block), Page::Directory { epoch, .. } if *epoch == self.meta.e) {
                    world.free(block);
                }
            }
            Do::Sweep(mut blocks) => {
                if let Some(block) = blocks.pop() {
                    if matches!(world.page(block), Page::List { .. } | Page::Directory { .. }) {
                        world.free(block);
                    }
                    self.plan.push_front(Do::Sweep(blocks));
                }
            }
            Do::Orphans => {
                let parts = orphans(world, context);
                self.plan.push_front(Do::Linked(parts));
            }
            Do::Linked(parts) => {
                let linked = links(world);
                if rules.on(CollectThenWalk) {
                    let dead = parts.into_iter().filter(|(block, _)| !linked.contains(block)).collect();
                    self.plan.push_front(Do::FreeParts(dead));
                } else {
                    // The wrong order: what is linked, then what is there.
                    self.plan.push_front(Do::FreeParts(linked.into_iter().map(|block| (block, 0)).collect()));
                }
            }
            Do::FreeParts(mut parts) => {
                if rules.off(CollectThenWalk) {
                    let linked = |block| parts.iter().any(|part| part.0 == block);
                    parts = orphans(world, context).into_iter().filter(|part| !linked(part.0)).collect();
                }
                for (block, name) in parts {
                    let same = matches!(world.page(block), Page::Overflow { name: found } if *found == name);
                    if same || context.rules.off(FreeRechecksName) {
                        world.free(block);
                    }
                }
            }
            Do::States(_) => {
                let all = 0..64;
                let live: Vec<Slot> = all.filter(|slot| world.live(context, *slot)).collect();
                for block in 0..world.pages.len() as Block {
                    self.plan.push_back(Do::Lookup { block, slots: live.clone() });
                }
            }
            Do::Records(block) => {
                if let Page::Vector(records) = world.page(block) {
                    let slots = records.iter().map(|record| record.slot).collect();
                    self.plan.push_front(Do::Lookup { block, slots });
                }
            }
            Do::Lookup { block, slots } => {
                let dead: Vec<Slot> = if rules.on(RecordsThenStates) {
                    slots.into_iter().filter(|slot| !world.live(context, *slot)).collect()
                } else {
                    let Page::Vector(records) = world.page(block) else { return Ok(()) };
                    records.iter().map(|record| record.slot).filter(|slot| !slots.contains(slot)).collect()
                };
                if !dead.is_empty() {
                    self.plan.push_front(Do::FreeRecords { block, slots: dead });
                }
            }
            Do::FreeRecords { block, slots } => slots.iter().for_each(|slot| {
                remove_record(world, block, *slot);
            }),
            Do::Move(slot) => {
                if let Some(entry) = world.entry(context, slot).filter(|entry| entry.live) {
                    let leaf = world.leaf_block(context, slot / context.sizes.leaf).expect("it has an entry");
                    self.plan.push_front(Do::MoveAs { slot, leaf, entry });
                }
            }
            Do::MoveAs { slot, leaf, entry } => {
                let index = slot % context.sizes.leaf;
                match world.page(leaf) {
                    Page::Leaf { first, entries }
                        if *first == slot - index && entries.get(index as usize) == Some(&entry) =>
                    {
                        self.move_record(world, context, slot, entry);
                    }
                    Page::Leaf { .. } => {}
                    _ if rules.on(MoveRechecks) => {}
                    _ => return Err("false corruption (a mover expected a leaf)".into()),
                }
            }
            Do::PutMoved { slot, row, next } => {
                let block = world.free_block();
                put_record(world, block, super::world::Record { slot, row, next });
                set_block(world, context, slot, block);
            }
            Do::KeylessUpto => {
                let end = (0..64).take_while(|slot| world.entry(context, *slot).is_some()).count();
                let meta = world.meta_mut();
                meta.merged = meta.merged.max(end as Slot);
            }
        }
        Ok(())
    }

    fn plan_tail(&mut self, end: Slot, slots: Vec<Slot>, context: &Context) {
        append(&mut self.plan, context, self.meta.l0_uid, &slots);
        let merged = Some(end.max(self.meta.merged));
        let whole = Change { epoch: true, merged, ..Change::default() };
        if context.rules.on(PublishOnce) {
            self.plan.push_back(Do::Publish(whole));
        } else {
            self.plan.push_back(Do::Publish(Change { epoch: false, ..whole }));
            self.plan.push_back(Do::Publish(Change { merged: None, ..whole }));
        }
    }

    fn publish(&mut self, world: &mut World, context: &Context, change: Change) -> Check {
        let l0 = world.position(self.l0);
        let mut meta = if context.rules.on(PublishInPlace) { world.meta() } else { self.meta };
        meta.next_uid = world.meta().next_uid;
        if change.epoch {
            (meta.d, meta.work) = (self.meta.d + 1, 0);
        }
        if let Some(merged) = change.merged {
            meta.merged = merged;
        }
        if change.l0 {
            (meta.l0_uid, meta.l0_position) = (self.l0, l0.ok_or("the new L0 is gone")? as u8);
        }
        if change.directory {
            (meta.e, meta.directory) = (self.meta.e + 1, self.directory);
        }
        *world.meta_mut() = meta;
        Ok(())
    }

    fn move_record(&mut self, world: &mut World, context: &Context, slot: Slot, entry: Entry) {
        let Page::Vector(records) = world.page(entry.block) else { return };
        let Some(record) = records.iter().find(|record| record.slot == slot).copied() else { return };
        if context.rules.off(MoveOnce) {
            remove_record(world, entry.block, slot);
            self.plan.push_front(Do::PutMoved { slot, row: record.row, next: record.next });
            return;
        }
        let block = world.free_block();
        remove_record(world, entry.block, slot);
        put_record(world, block, record);
        set_block(world, context, slot, block);
    }
}

fn set_block(world: &mut World, context: &Context, slot: Slot, to: Block) {
    let Some(leaf) = world.leaf_block(context, slot / context.sizes.leaf) else { return };
    if let Page::Leaf { first, entries } = world.page_mut(leaf) {
        let index = (slot - *first) as usize;
        entries[index] = Entry { block: to, ..entries[index] };
    }
}

fn live_only(world: &World, context: &Context, slots: Vec<Slot>) -> Vec<Slot> {
    slots.into_iter().filter(|slot| world.live(context, *slot)).collect()
}

/// Plans the records that append `slots` to a list.
fn append(plan: &mut VecDeque<Do>, context: &Context, uid: u8, slots: &[Slot]) {
    for slots in slots.chunks(context.sizes.rows) {
        plan.push_back(Do::Append { uid, slots: slots.to_vec(), piece: 0 });
        if context.sizes.wide {
            plan.push_back(Do::Append { uid, slots: Vec::new(), piece: 1 });
        }
    }
}

/// Appends a chunk or a piece: {page}, or {map or page before, new page}, with the map's tail.
pub fn add_chunk(world: &mut World, context: &Context, uid: u8, slots: &[Slot], piece: u8, born: u8) -> Check {
    let position = world.position(uid).ok_or("the list to append to is gone")?;
    let mut entry = world.map()[position];
    let chunk = Chunk { born, slots: slots.to_vec(), piece, pieces: 1 + u8::from(context.sizes.wide) };
    entry.chunks += 1;
    let last = world.chain(&entry).last().map(|page| (page.0, page.1, page.3.len()));
    match last {
        Some((block, _, count)) if count < context.sizes.chunks && !context.sizes.wide => {
            if let Page::List { chunks, .. } = world.page_mut(block) {
                chunks.push(chunk);
            }
        }
        _ => {
            let ordinal = last.map_or(0, |(_, ordinal, _)| ordinal + 1);
            let block = world.create(Page::List { uid, ordinal, next: 0, chunks: vec![chunk] });
            match last {
                Some((before, ..)) => {
                    if let Page::List { next, .. } = world.page_mut(before) {
                        *next = block;
                    }
                }
                None => entry.head = block,
            }
            entry.tail = block;
        }
    }
    world.map_mut()[position] = entry;
    Ok(())
}

/// One record of recovery, and the chain that is to be freed behind it; `None` when nothing
/// unpublished is left. Keyless, idempotent.
fn recover(world: &mut World, context: &Context) -> Option<(String, u8, Block)> {
    let d = world.meta().d;
    let rules = context.rules;
    for position in 0..world.map().len() {
        let entry = world.map()[position];
        if entry.uid == 0 {
            continue;
        }
        if entry.born > d || entry.died <= d {
            world.map_mut()[position].uid = 0;
            return Some((format!("recovery: drops list {}", entry.uid), entry.uid, entry.head));
        }
        if entry.died != NEVER && rules.on(ResetDied) {
            world.map_mut()[position].died = NEVER;
            return Some((format!("recovery: list {} lives", entry.uid), entry.uid, 0));
        }
        let pages: Vec<(Block, bool, Block)> = (world.chain(&entry).iter())
            .map(|(block, _, next, chunks)| (*block, chunks.iter().any(|chunk| chunk.born > d), *next))
            .collect();
        if let Some((block, _, next)) = pages.iter().find(|page| page.1) {
            let behind = *next;
            if behind != 0 && rules.off(UnlinkBeforeFree) {
                world.free(behind);
            }
            if let Page::List { next, chunks, .. } = world.page_mut(*block) {
                chunks.retain(|chunk| chunk.born <= d);
                if rules.on(UnlinkBeforeFree) || *next == 0 {
                    *next = 0;
                }
            }
            if rules.on(UnlinkBeforeFree) {
                world.map_mut()[position].tail = *block;
            }
            let behind = if rules.on(UnlinkBeforeFree) { behind } else { 0 };
            return Some((format!("recovery: trims page {block} of list {}", entry.uid), entry.uid, behind));
        }
        if let Some((last, _, next)) = pages.last()
            && *next != 0
        {
            // Only where the unlinking came late.
            if let Page::List { next, .. } = world.page_mut(*last) {
                *next = 0;
            }
            return Some((format!("recovery: unlinks behind page {last}"), entry.uid, 0));
        }
    }
    None
}

/// List and directory pages that nothing leads to.
pub fn unreachable_pages(world: &World, context: &Context) -> Vec<Block> {
    let meta = world.meta();
    let mut reached = vec![META, MAP, meta.directory];
    for entry in world.map().iter().filter(|entry| entry.uid != 0) {
        reached.extend(world.chain(entry).iter().map(|page| page.0));
    }
    let lost = |block: &Block| match world.page(*block) {
        _ if reached.contains(block) => false,
        Page::List { uid, .. } if context.rules.off(SweepByReach) => world.position(*uid).is_none(),
        Page::Directory { epoch, .. } if context.rules.off(SweepByReach) => *epoch < meta.e,
        Page::List { .. } | Page::Directory { .. } => true,
        _ => false,
    };
    (0..world.pages.len() as Block).filter(lost).collect()
}

/// Overflow pages of transactions that have ended.
pub fn orphans(world: &World, context: &Context) -> Vec<(Block, Row)> {
    let ended = |block: Block| match world.page(block) {
        Page::Overflow { name } => {
            let running = world.rows[*name as usize].state == RowState::Running;
            (!running || context.rules.off(OrphanXid)).then_some((block, *name))
        }
        _ => None,
    };
    (0..world.pages.len() as Block).filter_map(ended).collect()
}

/// Overflow pages that a record links to.
pub fn links(world: &World) -> Vec<Block> {
    let records = world.pages.iter().filter_map(|page| match &**page {
        Page::Vector(records) => Some(records),
        _ => None,
    });
    records.flatten().map(|record| record.next).filter(|next| *next != 0).collect()
}

/// A new build: every committed row in one of two lists, counters as a fresh index has them.
fn rebuild(world: &mut World, context: &Context) {
    let live: Vec<(Slot, Entry)> = (0..64)
        .filter_map(|slot| world.entry(context, slot).filter(|entry| entry.live).map(|entry| (slot, entry)))
        .collect();
    let uuid = world.meta().uuid + 1;
    let rows: Vec<_> = live.iter().map(|(_, entry)| entry.row).collect();
    let old = std::mem::take(&mut world.pages);
    drop(old);
    let lists: Vec<Vec<Slot>> = vec![vec![], (0..rows.len() as Slot).collect()];
    super::scenario::lay_out(world, context, &rows, &lists, &[], rows.len() as Slot);
    world.meta_mut().uuid = uuid;
    let directory = world.meta().directory;
    if let Page::Directory { uuid: page, .. } = world.page_mut(directory) {
        *page = uuid;
    }
}
