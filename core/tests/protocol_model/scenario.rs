//! Small indexes and who works on them at once.

use std::rc::Rc;

use super::{
    insert::Insert,
    maintain::{Maintain, Op, add_chunk},
    scan::Scan,
    vacuum::Vacuum,
    world::{
        Actor, Context, Entry, HeapRow, ListRef, MAP, META, MapEntry, Meta, NEVER, Page, Record, Row, RowState, Sizes,
        Slot, World,
    },
};

/// A start, its actors, and how often the primary may crash.
pub struct Scenario {
    pub name: &'static str,
    pub sizes: Sizes,
    pub start: fn(&Context) -> World,
    pub crashes: u8,
    /// Who comes when the server is up again.
    pub after_crash: fn() -> Vec<Actor>,
}

const SIZES: Sizes = Sizes { leaf: 2, node: 4, vectors: 2, chunks: 1, rows: 1, wide: false };

/// Lays out an index at epoch 1: row `rows[slot]` in each slot, slots below `merged` in `lists` and `l0`.
pub fn lay_out(world: &mut World, context: &Context, rows: &[Row], lists: &[Vec<Slot>], l0: &[Slot], merged: Slot) {
    let sizes = context.sizes;
    world.pages = (0..3).map(|_| Rc::new(Page::Free)).collect();
    let meta = Meta { d: 1, e: 1, merged, root: 2, height: 1, l0_uid: 1, next_uid: 1, ..Meta::default() };
    world.put(META, Page::Meta(meta));
    world.put(MAP, Page::Map(Vec::new()));
    let mut children = Vec::new();
    let mut entries = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let slot = index as Slot;
        let with_room = |page: &Rc<Page>| matches!(&**page, Page::Vector(records) if records.len() < sizes.vectors);
        let block = match world.pages.iter().position(with_room) {
            Some(block) => block as u8,
            None => world.create_late(Page::Vector(Vec::new())),
        };
        super::insert::put_record(world, block, Record { slot, row: *row, next: 0 });
        entries.push(Entry { tid: world.rows[*row as usize].tid, live: true, block, row: *row });
    }
    for (leaf, entries) in entries.chunks(sizes.leaf as usize).enumerate() {
        let page = Page::Leaf { first: leaf as u8 * sizes.leaf, entries: entries.to_vec() };
        children.push(world.create_late(page));
    }
    world.put(2, Page::Node { level: 1, key: 0, children });
    let mut refs = Vec::new();
    for slots in std::iter::once(l0).chain(lists.iter().map(Vec::as_slice)) {
        let uid = world.meta().next_uid;
        world.meta_mut().next_uid += 1;
        let position = world.add_entry(MapEntry { uid, head: 0, tail: 0, born: 1, died: NEVER, chunks: 0 });
        for slots in slots.chunks(sizes.rows) {
            add_chunk(world, context, uid, slots, 0, 1).expect("the list was just made");
            if sizes.wide {
                add_chunk(world, context, uid, &[], 1, 1).expect("the list was just made");
            }
        }
        refs.push(ListRef { uid, head: world.map()[position as usize].head, position });
    }
    if !lists.is_empty() {
        let page = Page::Directory { epoch: 1, uuid: 0, lists: refs.split_off(1) };
        world.meta_mut().directory = world.create_late(page);
    }
}

/// A start with `count` committed rows in slots of the same numbers.
fn start(context: &Context, count: u8, lists: &[Vec<Slot>], l0: &[Slot], merged: Slot) -> World {
    let rows = (0..count).map(|tid| HeapRow { tid, state: RowState::Committed }).collect();
    let mut world = World { pages: Vec::new(), rows, lock: None, crashes: 0, actors: Vec::new() };
    let rows: Vec<Row> = (0..count).collect();
    lay_out(&mut world, context, &rows, lists, l0, merged);
    world
}

fn with(mut world: World, actors: Vec<Actor>) -> World {
    world.actors = actors;
    world
}

fn cached(scan: Scan, world: &World, context: &Context) -> Actor {
    scan.with_caches(world, context).actor()
}

/// More at once than can be explored whole: for random runs.
pub fn crowd() -> Scenario {
    Scenario {
        name: "everybody at once",
        sizes: Sizes { leaf: 2, node: 2, vectors: 2, chunks: 2, rows: 1, wide: false },
        start: |context| {
            let world = start(context, 4, &[vec![0], vec![1]], &[2], 3);
            let merges = [Op::TailToL0, Op::L0ToLists, Op::Replace, Op::TailToL0, Op::Cleanup, Op::Replace];
            let others = [Op::Move(0), Op::Cleanup, Op::Move(2), Op::L0ToLists, Op::Cleanup];
            let scans = [Scan::primary(), Scan::standby(), Scan::primary(), Scan::standby()];
            let mut actors: Vec<Actor> = scans.into_iter().map(|scan| cached(scan, &world, context)).collect();
            actors.extend([Insert::actor(false), Insert::actor(true), Insert::actor(false), Insert::actor(true)]);
            actors.extend([Vacuum::actor(&[0, 1]), Maintain::actor(&merges), Maintain::actor(&others)]);
            with(world, actors)
        },
        crashes: 2,
        after_crash: || {
            vec![
                Scan::standby().actor(),
                Scan::primary().actor(),
                Insert::actor(true),
                Insert::actor(false),
                Vacuum::actor(&[]),
                Maintain::actor(&[Op::L0ToLists, Op::TailToL0, Op::Replace, Op::Cleanup, Op::TailToL0]),
            ]
        },
    }
}

/// Every scenario that is explored whole. Each name says what meets what.
pub fn all() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "tail to L0, insert, scan",
            sizes: SIZES,
            start: |context| {
                let world = start(context, 3, &[vec![0]], &[1], 2);
                let scan = cached(Scan::primary(), &world, context);
                with(world, vec![scan, Maintain::actor(&[Op::TailToL0, Op::TailToL0]), Insert::actor(false)])
            },
            crashes: 1,
            after_crash: || vec![Maintain::actor(&[Op::TailToL0])],
        },
        Scenario {
            name: "tail to L0, standby scan over a crash",
            sizes: SIZES,
            start: |context| {
                let world = start(context, 2, &[], &[0], 1);
                let scan = cached(Scan::standby(), &world, context);
                with(world, vec![scan, Maintain::actor(&[Op::TailToL0])])
            },
            crashes: 1,
            after_crash: || vec![Maintain::actor(&[Op::TailToL0]), Insert::actor(false)],
        },
        Scenario {
            name: "L0 to lists, then tail to L0, scan",
            sizes: SIZES,
            start: |context| {
                let world = start(context, 4, &[vec![0]], &[1, 2], 3);
                let scan = cached(Scan::primary(), &world, context);
                with(world, vec![scan, Maintain::actor(&[Op::L0ToLists, Op::TailToL0])])
            },
            crashes: 1,
            after_crash: || vec![Maintain::actor(&[Op::L0ToLists])],
        },
        Scenario {
            name: "L0 to lists, standby scan over a crash",
            sizes: SIZES,
            start: |context| {
                let world = start(context, 3, &[vec![0]], &[1, 2], 3);
                let scan = cached(Scan::standby(), &world, context);
                with(world, vec![scan, Maintain::actor(&[Op::L0ToLists])])
            },
            crashes: 1,
            after_crash: || vec![Maintain::actor(&[Op::L0ToLists, Op::Replace])],
        },
        Scenario {
            name: "lists replaced twice, scan",
            sizes: SIZES,
            start: |context| {
                let world = start(context, 3, &[vec![0, 1], vec![2]], &[], 3);
                let scan = cached(Scan::primary(), &world, context);
                with(world, vec![scan, Maintain::actor(&[Op::Replace, Op::Replace])])
            },
            crashes: 0,
            after_crash: Vec::new,
        },
        Scenario {
            name: "lists replaced, standby scan over a crash",
            sizes: SIZES,
            start: |context| {
                let world = start(context, 3, &[vec![0, 1], vec![2]], &[], 3);
                let scan = cached(Scan::standby(), &world, context);
                with(world, vec![scan, Maintain::actor(&[Op::Replace])])
            },
            crashes: 1,
            after_crash: || vec![Maintain::actor(&[Op::Replace, Op::Cleanup, Op::Replace])],
        },
        Scenario {
            name: "a row changes its list, scan",
            sizes: SIZES,
            start: |context| {
                let world = start(context, 3, &[vec![0], vec![1, 2]], &[], 3);
                let scan = cached(Scan::primary(), &world, context);
                with(world, vec![scan, Maintain::actor(&[Op::Shift])])
            },
            crashes: 0,
            after_crash: Vec::new,
        },
        Scenario {
            name: "the first lists, scan with an empty directory",
            sizes: SIZES,
            start: |context| {
                let world = start(context, 2, &[], &[0, 1], 2);
                let scan = Scan::primary().with_empty_directory().with_caches(&world, context).actor();
                with(world, vec![scan, Maintain::actor(&[Op::L0ToLists]), Insert::actor(false)])
            },
            crashes: 1,
            after_crash: || vec![Maintain::actor(&[Op::L0ToLists])],
        },
        Scenario {
            name: "a list born empty grows, scan",
            sizes: SIZES,
            start: |context| {
                let world = start(context, 2, &[vec![], vec![0]], &[1], 2);
                let scan = cached(Scan::primary(), &world, context);
                with(world, vec![scan, Maintain::actor(&[Op::L0ToLists])])
            },
            crashes: 1,
            after_crash: || vec![Maintain::actor(&[Op::L0ToLists]), Scan::primary().actor()],
        },
        Scenario {
            name: "chunks in pieces, scan",
            sizes: Sizes { wide: true, ..SIZES },
            start: |context| {
                let world = start(context, 2, &[], &[0], 1);
                with(world, vec![Scan::primary().actor(), Maintain::actor(&[Op::TailToL0])])
            },
            crashes: 1,
            after_crash: || vec![Maintain::actor(&[Op::TailToL0]), Scan::standby().actor()],
        },
        Scenario {
            name: "vacuum frees leaves, inserts take pages and TIDs, scan",
            sizes: Sizes { leaf: 1, vectors: 1, ..SIZES },
            start: |context| {
                let world = start(context, 1, &[], &[0], 1);
                let scan = cached(Scan::primary(), &world, context);
                with(world, vec![scan, Vacuum::actor(&[0]), Insert::actor(false), Insert::actor(false)])
            },
            crashes: 0,
            after_crash: Vec::new,
        },
        Scenario {
            name: "vacuum frees leaves, standby scan over a crash",
            sizes: Sizes { leaf: 1, ..SIZES },
            start: |context| {
                let world = start(context, 2, &[], &[0], 1);
                let scan = cached(Scan::standby(), &world, context);
                with(world, vec![scan, Vacuum::actor(&[0]), Insert::actor(false)])
            },
            crashes: 1,
            after_crash: || vec![Vacuum::actor(&[1])],
        },
        Scenario {
            name: "the open leaf dies, a late append, merge, scan",
            sizes: SIZES,
            start: |context| {
                let world = start(context, 1, &[], &[], 0);
                with(
                    world,
                    vec![
                        Scan::primary().actor(),
                        Vacuum::actor(&[0]),
                        Insert::actor(false),
                        Maintain::actor(&[Op::TailToL0]),
                    ],
                )
            },
            crashes: 0,
            after_crash: Vec::new,
        },
        Scenario {
            name: "a leaf dies under a waiting inserter",
            sizes: Sizes { leaf: 1, ..SIZES },
            start: |context| {
                let world = start(context, 0, &[], &[], 0);
                with(world, vec![Insert::actor(false), Insert::actor(false), Insert::actor(false), Vacuum::actor(&[0])])
            },
            crashes: 0,
            after_crash: || Vec::new(),
        },
        Scenario {
            name: "dead slots and new rows, scan",
            sizes: SIZES,
            start: |context| {
                let world = start(context, 1, &[vec![0]], &[], 1);
                with(
                    world,
                    vec![
                        Scan::primary().actor(),
                        Vacuum::actor(&[0]),
                        Insert::actor(false),
                        Maintain::actor(&[Op::Replace]),
                    ],
                )
            },
            crashes: 0,
            after_crash: Vec::new,
        },
        Scenario {
            name: "records move, vacuum, scan",
            sizes: SIZES,
            start: |context| {
                let world = start(context, 3, &[vec![0, 1]], &[], 2);
                let moves = [Op::Move(0), Op::Move(0), Op::Move(2)];
                with(
                    world,
                    vec![Scan::primary().actor(), Maintain::actor(&moves), Vacuum::actor(&[1]), Insert::actor(false)],
                )
            },
            crashes: 0,
            after_crash: Vec::new,
        },
        Scenario {
            name: "a record moves while its leaf dies",
            sizes: Sizes { leaf: 1, ..SIZES },
            start: |context| {
                let world = start(context, 2, &[], &[0], 1);
                let moves = Maintain::actor(&[Op::Move(0), Op::Move(1)]);
                with(world, vec![Scan::standby().actor(), moves, Vacuum::actor(&[0]), Insert::actor(false)])
            },
            crashes: 0,
            after_crash: Vec::new,
        },
        Scenario {
            name: "records move, standby scan over a crash",
            sizes: SIZES,
            start: |context| {
                let world = start(context, 2, &[], &[0], 1);
                with(world, vec![Scan::standby().actor(), Maintain::actor(&[Op::Move(0), Op::Move(1)])])
            },
            crashes: 1,
            after_crash: || vec![Maintain::actor(&[Op::Move(0), Op::Cleanup]), Vacuum::actor(&[1])],
        },
        Scenario {
            name: "long records, orphans, standby scan over a crash",
            sizes: SIZES,
            start: |context| {
                let world = start(context, 0, &[], &[], 0);
                with(world, vec![Scan::standby().actor(), Insert::actor(true), Maintain::actor(&[Op::Cleanup])])
            },
            crashes: 1,
            after_crash: || vec![Maintain::actor(&[Op::Cleanup]), Insert::actor(true)],
        },
        Scenario {
            name: "long records, vacuum, pages taken again, scan",
            sizes: SIZES,
            start: |context| {
                let world = start(context, 0, &[], &[], 0);
                with(
                    world,
                    vec![Scan::standby().actor(), Insert::actor(true), Vacuum::actor(&[0]), Insert::actor(true)],
                )
            },
            crashes: 0,
            after_crash: Vec::new,
        },
        Scenario {
            name: "long records, vacuum beside cleanup",
            sizes: SIZES,
            start: |context| {
                let world = start(context, 0, &[], &[], 0);
                let cleanup = Maintain::actor(&[Op::Cleanup]);
                with(world, vec![Insert::actor(true), cleanup, Vacuum::actor(&[0]), Insert::actor(true)])
            },
            crashes: 0,
            after_crash: Vec::new,
        },
        Scenario {
            name: "vacuum twice over a crash, standby scan that knows TIDs",
            sizes: Sizes { leaf: 1, ..SIZES },
            start: |context| {
                let world = start(context, 2, &[], &[0, 1], 2);
                let scan = cached(Scan::standby(), &world, context);
                with(world, vec![scan, Vacuum::actor(&[0])])
            },
            crashes: 1,
            after_crash: || vec![Vacuum::actor(&[]), Insert::actor(false)],
        },
        Scenario {
            name: "a record moves there and back, scan",
            sizes: Sizes { vectors: 1, ..SIZES },
            start: |context| {
                let world = start(context, 1, &[], &[], 0);
                with(world, vec![Scan::primary().actor(), Maintain::actor(&[Op::Move(0); 4])])
            },
            crashes: 0,
            after_crash: Vec::new,
        },
        Scenario {
            name: "two extenders, merge, scan",
            sizes: Sizes { leaf: 1, ..SIZES },
            start: |context| {
                let world = start(context, 1, &[], &[0], 1);
                let merge = Maintain::actor(&[Op::TailToL0]);
                with(world, vec![Scan::primary().actor(), Insert::actor(false), Insert::actor(false), merge])
            },
            crashes: 0,
            after_crash: Vec::new,
        },
        Scenario {
            name: "the slot directory grows, merge, scan",
            sizes: Sizes { leaf: 1, node: 2, ..SIZES },
            start: |context| {
                let world = start(context, 2, &[], &[0], 1);
                let merge = Maintain::actor(&[Op::TailToL0]);
                with(world, vec![Scan::primary().actor(), Insert::actor(false), merge])
            },
            crashes: 1,
            after_crash: || vec![Insert::actor(false)],
        },
        Scenario {
            name: "two inserters grow the slot directory, scan",
            sizes: Sizes { leaf: 1, node: 2, ..SIZES },
            start: |context| {
                let world = start(context, 2, &[], &[0], 1);
                with(world, vec![Scan::primary().actor(), Insert::actor(false), Insert::actor(false)])
            },
            crashes: 0,
            after_crash: Vec::new,
        },
        Scenario {
            name: "two maintainers, scan",
            sizes: SIZES,
            start: |context| {
                let world = start(context, 3, &[vec![0], vec![1]], &[2], 3);
                with(
                    world,
                    vec![Scan::primary().actor(), Maintain::actor(&[Op::L0ToLists]), Maintain::actor(&[Op::Replace])],
                )
            },
            crashes: 0,
            after_crash: Vec::new,
        },
        Scenario {
            name: "two tail merges, insert, scan",
            sizes: SIZES,
            start: |context| {
                let world = start(context, 2, &[], &[0], 1);
                with(
                    world,
                    vec![
                        Scan::primary().actor(),
                        Maintain::actor(&[Op::TailToL0]),
                        Maintain::actor(&[Op::TailToL0]),
                        Insert::actor(false),
                    ],
                )
            },
            crashes: 0,
            after_crash: Vec::new,
        },
        Scenario {
            name: "cleanup beside a merge and an insert, scan",
            sizes: SIZES,
            start: |context| {
                let world = start(context, 3, &[vec![0]], &[1], 2);
                with(
                    world,
                    vec![
                        Scan::primary().actor(),
                        Maintain::actor(&[Op::L0ToLists]),
                        Maintain::actor(&[Op::Cleanup]),
                        Insert::actor(false),
                    ],
                )
            },
            crashes: 1,
            after_crash: || vec![Maintain::actor(&[Op::Cleanup, Op::Replace])],
        },
        Scenario {
            name: "a new build, scan with the old directory",
            sizes: SIZES,
            start: |context| {
                let world = start(context, 2, &[vec![0, 1]], &[], 2);
                let scan = cached(Scan::primary(), &world, context);
                with(world, vec![scan, Maintain::actor(&[Op::Rebuild])])
            },
            crashes: 0,
            after_crash: Vec::new,
        },
        Scenario {
            name: "a row dies for the primary, standby scan",
            sizes: SIZES,
            start: |context| {
                let world = start(context, 2, &[vec![0]], &[1], 2);
                with(world, vec![Scan::primary().actor(), Scan::standby().actor(), Vacuum::actor(&[0])])
            },
            crashes: 0,
            after_crash: Vec::new,
        },
        Scenario {
            name: "a private vacuum, TID reused, scan",
            sizes: SIZES,
            start: |context| {
                let world = start(context, 1, &[], &[0], 1);
                with(world, vec![Scan::primary().actor(), Vacuum::actor(&[0]), Vacuum::private(), Insert::actor(false)])
            },
            crashes: 0,
            after_crash: Vec::new,
        },
    ]
}
