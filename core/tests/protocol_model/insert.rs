//! An inserter: finds the open leaf, extends, writes slot and vector record, commits.

use super::{
    rules::Rule::*,
    world::{Actor, Block, Check, Context, Did, Entry, HeapRow, META, Page, Record, Row, RowState, World},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum At {
    Begin,
    /// Writes the overflow page; its head is there already if `PartsFirst` is off.
    Part,
    Meta,
    /// Reads a directory node.
    Node {
        block: Block,
        level: u8,
        root: Block,
    },
    /// Appends to `leaf`, which was at `block` when the directory was read.
    Append {
        leaf: u8,
        block: Block,
    },
    /// The vector record that `InsertOnce` should have written with the slot.
    Record {
        slot: u8,
        block: Block,
    },
    /// Adds a leaf below `node`, which had `seen` children.
    Extend {
        node: Block,
        seen: usize,
        root: Block,
    },
    /// The new leaf that `ExtendOnce` should have formatted with its link.
    NewLeaf {
        block: Block,
        first: u8,
    },
    Commit,
    Done,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Insert {
    at: At,
    /// The record has a part in an overflow page.
    long: bool,
    row: Row,
    part: Block,
    /// A free page as the free space map named it.
    hint: Block,
}

impl Insert {
    pub fn actor(long: bool) -> Actor {
        Actor::Insert(Self { at: At::Begin, long, row: 0, part: 0, hint: 0 })
    }

    pub fn kill(&mut self) {
        self.at = At::Done;
    }

    pub fn running(&self) -> bool {
        self.at != At::Done
    }

    pub fn step(&mut self, world: &mut World, context: &Context) -> Check<Did> {
        let did = match self.at {
            At::Begin => {
                let tid = (0..).find(|tid| world.row_at(*tid).is_none()).expect("TIDs do not end");
                self.row = world.rows.len() as Row;
                world.rows.push(HeapRow { tid, state: RowState::Running });
                self.at = if self.long && context.rules.on(PartsFirst) { At::Part } else { At::Meta };
                if context.rules.off(FreeRechecked) {
                    self.hint = world.free_block();
                }
                format!("puts row {} into the heap at TID {tid}", self.row)
            }
            At::Part => {
                let page = Page::Overflow { name: self.row };
                if self.part == 0 {
                    self.part = world.create(page);
                } else {
                    world.put(self.part, page);
                }
                self.at = if context.rules.on(PartsFirst) { At::Meta } else { At::Commit };
                format!("writes overflow page {}", self.part)
            }
            At::Meta => {
                let meta = world.meta();
                self.at = At::Node { block: meta.root, level: meta.height, root: meta.root };
                "reads meta".into()
            }
            At::Node { block, level, root } => {
                let Page::Node { key, children, .. } = world.page(block) else {
                    return Err(format!("inserter: block {block} is no directory node"));
                };
                self.at = match children.last() {
                    Some(child) if level > 1 => At::Node { block: *child, level: level - 1, root },
                    Some(child) if *child != 0 => At::Append { leaf: key + children.len() as u8 - 1, block: *child },
                    _ => At::Extend { node: block, seen: children.len(), root },
                };
                format!("reads node {block}")
            }
            At::Append { leaf, block } => self.append(world, context, leaf, block),
            At::Record { slot, block } => {
                put_record(world, block, Record { slot, row: self.row, next: self.part });
                self.at = At::Commit;
                format!("writes the vector record of slot {slot}")
            }
            At::Extend { node, seen, root } => self.extend(world, context, node, seen, root),
            At::NewLeaf { block, first } => {
                world.put(block, Page::Leaf { first, entries: Vec::new() });
                self.at = At::Meta;
                format!("formats leaf {block}")
            }
            At::Commit => {
                world.rows[self.row as usize].state = RowState::Committed;
                self.at = At::Done;
                format!("commits row {}", self.row)
            }
            At::Done => return Ok(Did::Nothing),
        };
        Ok(Did::Step(did))
    }

    fn append(&mut self, world: &mut World, context: &Context, leaf: u8, block: Block) -> String {
        let size = context.sizes.leaf;
        let Page::Leaf { first, entries } = world.page(block) else {
            self.at = At::Meta;
            return format!("block {block} is no leaf now");
        };
        // Whatever leaf this has become: one with room is the open one.
        let mut entries = entries.clone();
        let first = *first;
        let leaf = if context.rules.on(LeafDecidesNumber) { first / size } else { leaf };
        let reused = entries.iter().position(|entry| !entry.live && context.rules.off(SlotsNeverReused));
        if entries.len() == size as usize && reused.is_none() {
            let meta = world.meta();
            self.at = At::Extend { node: 0, seen: leaf as usize + 1, root: meta.root };
            return self.extend(world, context, 0, leaf as usize + 1, meta.root);
        }
        let index = reused.unwrap_or(entries.len());
        let slot = leaf * size + index as u8;
        let vectors = self.vector_page(world, context);
        if self.long && self.part == 0 {
            // The wrong order: the head names a page that is not written yet.
            self.part = world.free_block();
            if self.part == vectors {
                world.pages.push(Page::Free.into());
                self.part = world.pages.len() as Block - 1;
            }
        }
        let tid = world.rows[self.row as usize].tid;
        let entry = Entry { tid, live: true, block: vectors, row: self.row };
        if index == entries.len() {
            entries.push(entry);
        } else {
            entries[index] = entry;
        }
        world.put(block, Page::Leaf { first, entries });
        self.at = if self.long && context.rules.off(PartsFirst) { At::Part } else { At::Commit };
        if context.rules.on(InsertOnce) {
            put_record(world, vectors, Record { slot, row: self.row, next: self.part });
            format!("writes slot {slot} to leaf {block}, record to {vectors}, one record")
        } else {
            if matches!(world.page(vectors), Page::Free) {
                world.put(vectors, Page::Vector(Vec::new()));
            }
            self.at = At::Record { slot, block: vectors };
            format!("writes slot {slot} to leaf {block}, alone")
        }
    }

    /// A vector page with room, else a free page.
    fn vector_page(&self, world: &mut World, context: &Context) -> Block {
        if context.rules.off(FreeRechecked) {
            world.put(self.hint, Page::Vector(Vec::new())); // whatever it has become
            return self.hint;
        }
        let room = |page: &Page| matches!(page, Page::Vector(records) if records.len() < context.sizes.vectors);
        match world.pages.iter().position(|page| room(page)) {
            Some(block) => block as Block,
            None => world.free_block(),
        }
    }

    /// One step towards a leaf after the last: a leaf, a node, or a new root.
    fn extend(&mut self, world: &mut World, context: &Context, node: Block, seen: usize, root: Block) -> String {
        if node == 0 {
            // The leaf was full: its lock is released and the directory taken, from the root.
            let Page::Node { level, .. } = world.page(root) else { unreachable!("roots are nodes") };
            let mut block = root;
            if *level == 2 {
                let Page::Node { children, .. } = world.page(root) else { unreachable!() };
                block = *children.last().expect("a root has children");
            }
            let Page::Node { key, children, .. } = world.page(block) else { unreachable!("nodes are never freed") };
            let last_leaf = *key as usize + children.len();
            self.at = if last_leaf == seen || context.rules.off(ExtendRechecks) {
                At::Extend { node: block, seen: children.len(), root }
            } else {
                At::Meta
            };
            return "finds the leaf full".into();
        }
        let meta = world.meta();
        let Page::Node { key, children, level } = world.page(node).clone() else {
            unreachable!("nodes are never freed")
        };
        self.at = At::Meta;
        if context.rules.on(ExtendRechecks) && children.len() != seen {
            return format!("finds node {node} extended by another");
        }
        if children.len() < context.sizes.node as usize {
            let first = (key + children.len() as u8) * context.sizes.leaf;
            let new = world.create(Page::Leaf { first, entries: Vec::new() });
            let mut children = children;
            children.push(new);
            world.put(node, Page::Node { key, children, level });
            if context.rules.off(ExtendOnce) {
                world.free(new);
                self.at = At::NewLeaf { block: new, first };
            }
            return format!("adds leaf {new} from slot {first}");
        }
        if meta.root != root {
            return "finds the tree grown by another".into();
        }
        if meta.height == 1 {
            let new = world.create(Page::Node { level: 2, key: 0, children: vec![root] });
            let meta = world.meta_mut();
            (meta.root, meta.height) = (new, 2);
            return format!("grows the tree: root {new}, meta block {META}");
        }
        let Page::Node { children: top, .. } = world.page(root) else { unreachable!("roots are nodes") };
        if top.last() != Some(&node) {
            return "finds a node added by another".into();
        }
        let new = world.create(Page::Node { level: 1, key: key + context.sizes.node, children: Vec::new() });
        if let Page::Node { children, .. } = world.page_mut(root) {
            children.push(new);
        }
        format!("adds node {new}")
    }
}

/// Puts a record on a vector page, formatting it if it is free.
pub fn put_record(world: &mut World, block: Block, record: Record) {
    match world.page_mut(block) {
        Page::Vector(records) => records.push(record),
        other => *other = Page::Vector(vec![record]),
    }
}
