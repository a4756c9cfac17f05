//! What must hold between any two records, and when everybody has ended.

use super::{
    maintain::{links, unreachable_pages},
    world::{Actor, Block, Check, Context, Entry, MapEntry, Page, RowState, Slot, World},
};

/// The published index leads to every row once and to no page twice.
pub fn published(world: &World, context: &Context) -> Check {
    let meta = world.meta();
    let entries = entries(world, context)?;
    for (row, heap) in world.rows.iter().enumerate() {
        let there = matches!(heap.state, RowState::Committed | RowState::Deleted);
        let slots = entries.iter().filter(|(_, e)| e.live && e.row as usize == row && e.tid == heap.tid).count();
        if there && slots != 1 {
            return Err(format!("row {row} has {slots} live slots"));
        }
    }
    let mut lists: Vec<MapEntry> = Vec::new();
    let mut named = vec![(meta.l0_uid, meta.l0_position)];
    if meta.directory != 0 {
        let Page::Directory { epoch, lists, .. } = world.page(meta.directory) else {
            return Err("meta leads to no directory".into());
        };
        if *epoch != meta.e {
            return Err(format!("meta of epoch {} leads to a directory of epoch {epoch}", meta.e));
        }
        named.extend(lists.iter().map(|list| (list.uid, list.position)));
    }
    for (uid, position) in named.into_iter().filter(|(uid, _)| *uid != 0) {
        let entry = world.map().get(position as usize).filter(|entry| entry.uid == uid && entry.live_at(meta.d));
        lists.push(*entry.ok_or(format!("list {uid} is not where the directory says"))?);
    }
    let mut seen: Vec<Block> = Vec::new();
    let mut coded: Vec<Slot> = Vec::new();
    for entry in &lists {
        let chain = world.chain(entry);
        let last = chain.last().map_or(entry.head, |page| page.2);
        let unborn_only = chain.last().is_some_and(|page| page.3.iter().any(|chunk| chunk.born > meta.d));
        if last != 0 && !unborn_only {
            return Err(format!("list {} leads to block {last}, which is not its", entry.uid));
        }
        for page in chain {
            if seen.contains(&page.0) {
                return Err(format!("block {} is in two lists", page.0));
            }
            seen.push(page.0);
        }
        coded.extend(world.slots(entry, meta.d));
    }
    for (slot, entry) in entries.iter().filter(|(slot, entry)| entry.live && *slot < meta.merged) {
        let count = coded.iter().filter(|coded| *coded == slot).count();
        if count != 1 {
            return Err(format!("slot {slot} of row {} is in {count} lists", entry.row));
        }
    }
    Ok(())
}

/// Every slot with its entry; each live one has its record, and that its parts.
fn entries(world: &World, context: &Context) -> Check<Vec<(Slot, Entry)>> {
    let mut all = Vec::new();
    for leaf in 0.. {
        let Some(block) = world.leaf_block(context, leaf) else { break };
        if block == 0 {
            continue;
        }
        let Page::Leaf { first, entries } = world.page(block) else {
            return Err(format!("leaf {leaf} is not in block {block}"));
        };
        if *first != leaf * context.sizes.leaf {
            return Err(format!("block {block} is another leaf than {leaf}"));
        }
        all.extend(entries.iter().enumerate().map(|(index, entry)| (first + index as Slot, *entry)));
    }
    for (slot, entry) in all.iter().filter(|(_, entry)| entry.live) {
        let Page::Vector(records) = world.page(entry.block) else {
            return Err(format!("the record of slot {slot} is not in block {}", entry.block));
        };
        let record = records.iter().find(|record| record.slot == *slot);
        let record = record.ok_or(format!("slot {slot} has no record"))?;
        if record.row != entry.row {
            return Err(format!("slot {slot} has the record of row {}", record.row));
        }
        if record.next != 0 && !matches!(world.page(record.next), Page::Overflow { name } if *name == record.row) {
            return Err(format!("slot {slot} has lost a part"));
        }
    }
    Ok(all)
}

/// After a cleanup nothing is left that nothing leads to, and no slot is in two lists, unborn chunks or not.
pub fn settled(world: &World, context: &Context) -> Check {
    let lost = unreachable_pages(world, &Context { rules: super::rules::Rules::all(), ..*context });
    if !lost.is_empty() {
        return Err(format!("leaked pages {lost:?}"));
    }
    let linked = links(world);
    let parts = (0..world.pages.len() as Block).filter(|block| matches!(world.page(*block), Page::Overflow { .. }));
    let orphans: Vec<Block> = parts.filter(|block| !linked.contains(block)).collect();
    if !orphans.is_empty() {
        return Err(format!("leaked parts {orphans:?}"));
    }
    let records = world.pages.iter().filter_map(|page| match &**page {
        Page::Vector(records) => Some(records),
        _ => None,
    });
    for record in records.flatten() {
        if !world.live(context, record.slot) {
            return Err(format!("leaked record of slot {}", record.slot));
        }
    }
    Ok(())
}

/// After recovery and a merge: every list of the map is live, and holds nothing unborn.
pub fn recovered(world: &World) -> Check {
    let meta = world.meta();
    let mut coded = Vec::new();
    for entry in world.map().iter().filter(|entry| entry.live_at(meta.d)) {
        let chunks: Vec<_> = world.chain(entry).iter().flat_map(|page| page.3.clone()).collect();
        if let Some(chunk) = chunks.iter().find(|chunk| chunk.born > meta.d && meta.work == 0) {
            return Err(format!("list {} has a chunk of epoch {} at epoch {}", entry.uid, chunk.born, meta.d));
        }
        coded.extend(world.slots(entry, meta.d));
    }
    coded.sort_unstable();
    if let Some(pair) = coded.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!("slot {} is in two lists of the map", pair[0]));
    }
    Ok(())
}

/// Whether nobody but readers is at work and no batch is open.
pub fn quiet(world: &World) -> bool {
    world.meta().work == 0
        && world.actors.iter().all(|actor| match actor {
            Actor::Maintain(maintain) => !maintain.running(),
            Actor::Insert(insert) => !insert.running(),
            Actor::Vacuum(vacuum) => !vacuum.running(),
            Actor::Scan(_) | Actor::Stepping => true,
        })
}
