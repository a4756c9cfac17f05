//! VACUUM: prunes the heap, marks slots dead, frees records and leaves, gives TIDs back. No key.

use super::{
    rules::Rule::*,
    world::{Actor, Block, Check, Context, Did, Page, Row, RowState, Slot, Tid, World},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum At {
    Delete,
    Prune,
    Leaf(u8),
    FreeLeaf(u8),
    /// The leaf whose link `FreeLeafOnce` should have cut in the same record.
    Unlink(u8),
    Reclaim,
    Done,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Vacuum {
    at: At,
    /// Rows that somebody deletes first.
    delete: Vec<Row>,
    /// Collects TIDs by itself and does not keep them from being reused.
    private: bool,
    dead: Vec<Tid>,
    /// Records of dead slots: (page, slot), then overflow pages: (page, name).
    records: Vec<(Block, Slot)>,
    parts: Vec<(Block, Row)>,
    /// Leaves when it began.
    end: u8,
}

impl Vacuum {
    pub fn actor(delete: &[Row]) -> Actor {
        Actor::Vacuum(Self::with(delete, false))
    }

    /// A second function that kills slots: what rule 7 forbids.
    pub fn private() -> Actor {
        Actor::Vacuum(Self::with(&[], true))
    }

    fn with(delete: &[Row], private: bool) -> Self {
        Self {
            at: if private { At::Prune } else { At::Delete },
            delete: delete.to_vec(),
            private,
            dead: Vec::new(),
            records: Vec::new(),
            parts: Vec::new(),
            end: 0,
        }
    }

    pub fn kill(&mut self) {
        self.at = At::Done;
    }

    pub fn running(&self) -> bool {
        self.at != At::Done
    }

    pub fn step(&mut self, world: &mut World, context: &Context) -> Check<Did> {
        let did = match self.at {
            At::Delete => {
                let committed =
                    |row: &Row| world.rows.get(*row as usize).is_some_and(|r| r.state == RowState::Committed);
                if !self.delete.iter().all(committed) {
                    return Ok(Did::Nothing); // the rows are not there yet
                }
                for row in &self.delete {
                    world.rows[*row as usize].state = RowState::Deleted;
                }
                self.at = At::Prune;
                format!("rows {:?} are deleted", self.delete)
            }
            At::Prune => return Ok(self.prune(world, context)),
            At::Leaf(leaf) => return Ok(Did::Step(self.leaf(world, context, leaf))),
            At::FreeLeaf(leaf) => self.free_leaf(world, context, leaf),
            At::Unlink(leaf) => {
                unlink(world, context, leaf);
                self.at = At::Leaf(leaf + 1);
                format!("unlinks leaf {leaf}")
            }
            At::Reclaim => {
                for row in &mut world.rows {
                    if row.state == RowState::Pruned && self.dead.contains(&row.tid) {
                        row.state = RowState::Gone;
                    }
                }
                self.at = At::Done;
                format!("gives TIDs {:?} back", self.dead)
            }
            At::Done => return Ok(Did::Nothing),
        };
        Ok(Did::Step(did))
    }

    fn prune(&mut self, world: &mut World, context: &Context) -> Did {
        if self.private && context.rules.on(NoPrivateVacuum) {
            self.at = At::Done;
            return Did::Nothing;
        }
        let dead = |row: Row| match world.rows[row as usize].state {
            RowState::Aborted => true,
            RowState::Deleted => !world.seen_on_primary(row),
            RowState::Pruned => true, // an earlier VACUUM did not get this far
            _ => false,
        };
        let rows: Vec<Row> = (0..world.rows.len() as Row).filter(|row| dead(*row)).collect();
        if rows.is_empty() {
            return Did::Nothing;
        }
        for row in &rows {
            self.dead.push(world.rows[*row as usize].tid);
            if self.private {
                continue;
            }
            world.rows[*row as usize].state = RowState::Pruned;
            for actor in &mut world.actors {
                // The prune record conflicts with older snapshots of a standby.
                if let Actor::Scan(scan) = actor
                    && scan.standby
                    && scan.sees(*row)
                {
                    scan.kill();
                }
            }
        }
        self.end = (0..).take_while(|leaf| world.leaf_block(context, *leaf).is_some()).count() as u8;
        self.at = At::Leaf(0);
        Did::Step(format!("prunes the heap: TIDs {:?} are dead", self.dead))
    }

    /// Marks the next leaf that has something to mark, or frees a record that it has marked.
    fn leaf(&mut self, world: &mut World, context: &Context, from: u8) -> String {
        if let Some((block, slot)) = self.records.pop() {
            if let Some((next, name)) = remove_record(world, block, slot) {
                self.parts.push((next, name));
            }
            return format!("frees the record of slot {slot} in page {block}");
        }
        if let Some((block, name)) = self.parts.pop() {
            let same = matches!(world.page(block), Page::Overflow { name: found } if *found == name);
            if same || context.rules.off(FreeRechecksName) {
                world.free(block);
            }
            return format!("frees overflow page {block}");
        }
        for leaf in from..self.end {
            let Some(block) = world.leaf_block(context, leaf).filter(|block| *block != 0) else { continue };
            let Page::Leaf { first, entries } = world.page(block).clone() else { continue };
            let mut entries = entries;
            let mut marked = Vec::new();
            for (index, entry) in entries.iter_mut().enumerate() {
                if entry.live && self.dead.contains(&entry.tid) {
                    entry.live = false;
                    marked.push((entry.block, first + index as u8));
                }
            }
            let full = entries.len() == context.sizes.leaf as usize || context.rules.off(FreeFullLeaf);
            let free = full && !entries.is_empty() && entries.iter().all(|entry| !entry.live);
            if marked.is_empty() && !free {
                continue;
            }
            self.at = if free { At::FreeLeaf(leaf) } else { At::Leaf(leaf + 1) };
            if !marked.is_empty() {
                world.put(block, Page::Leaf { first, entries });
                let text = format!("marks slots dead in leaf {block}: {marked:?}");
                self.records = marked;
                return text;
            }
            return self.free_leaf(world, context, leaf);
        }
        self.at = if self.private { At::Done } else { At::Reclaim };
        "has walked every leaf".into()
    }

    fn free_leaf(&mut self, world: &mut World, context: &Context, leaf: u8) -> String {
        if !self.records.is_empty() || !self.parts.is_empty() {
            return self.leaf(world, context, leaf);
        }
        let block = world.leaf_block(context, leaf).expect("leaves are freed by VACUUM alone");
        world.free(block);
        if context.rules.on(FreeLeafOnce) {
            unlink(world, context, leaf);
            self.at = At::Leaf(leaf + 1);
        } else {
            self.at = At::Unlink(leaf);
        }
        format!("frees leaf {leaf}, block {block}")
    }
}

fn unlink(world: &mut World, context: &Context, leaf: u8) {
    let meta = world.meta();
    let mut node = meta.root;
    if meta.height == 2
        && let Page::Node { children, .. } = world.page(node)
    {
        node = children[(leaf / context.sizes.node) as usize];
    }
    if let Page::Node { key, children, .. } = world.page_mut(node) {
        children[(leaf - *key) as usize] = 0;
    }
}

/// Takes the record of `slot` off `block`, freeing the page if it was the last. Its part's page and name, if any.
pub fn remove_record(world: &mut World, block: Block, slot: Slot) -> Option<(Block, Row)> {
    let Page::Vector(records) = world.page(block) else { return None };
    let at = records.iter().position(|record| record.slot == slot)?;
    let mut records = records.clone();
    let record = records.remove(at);
    let page = if records.is_empty() { Page::Free } else { Page::Vector(records) };
    world.put(block, page);
    (record.next != 0).then_some((record.next, record.row))
}
