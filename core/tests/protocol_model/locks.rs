//! Rule 12, the order of buffer locks: nobody waits in a ring.
//!
//! A second, smaller model: each writer is the sequence of pages that one action of it locks and
//! keeps, in the order of the code; redo locks the same pages in the same order and keeps them;
//! a reader holds one page at a time. Every interleaving runs to its end.

use std::collections::HashSet;

/// Pages of the model, in the order of the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Page {
    Meta,
    Map,
    List(u8),
    Node(u8),
    Leaf(u8),
    Vector(u8),
}
use Page::{Leaf, List, Map, Meta, Node, Vector};

/// One lock of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Take {
    /// Waits for the page.
    Wait(Page),
    /// Takes it if nobody has it, else goes without.
    Try(Page),
}
use Take::{Try, Wait};

/// What one process locks, action after action; all of an action's locks are released at its end.
type Process = &'static [&'static [Take]];

/// Every action of the code that locks more than one page (`core/src/ivf`).
const ACTIONS: &[(&str, Process)] = &[
    ("insert", &[&[Wait(Leaf(1)), Try(Vector(0)), Try(Vector(1))]]),
    ("add a leaf", &[&[Wait(Node(1)), Wait(Leaf(1))]]),
    ("add a node", &[&[Wait(Node(0))]]),
    ("grow the tree", &[&[Wait(Meta)]]),
    ("free a leaf", &[&[Wait(Node(1)), Wait(Leaf(0))]]),
    ("mark dead, free records", &[&[Wait(Leaf(0))], &[Wait(Vector(0))], &[Wait(Vector(1))]]),
    ("move a record", &[&[Wait(Leaf(0)), Wait(Vector(0)), Try(Vector(1))]]),
    ("convert a record", &[&[Wait(Leaf(0)), Wait(Vector(1)), Try(Vector(0))]]),
    // The new page is taken first: nobody can reach it but a reader that was led there before.
    ("append to a list", &[&[Try(List(1)), Wait(List(0))], &[Try(List(0)), Wait(Meta), Wait(Map)], &[Wait(Map)]]),
    ("grow the list map", &[&[Wait(Meta), Wait(Map)]]),
    ("free a list", &[&[Wait(Map)], &[Wait(List(0))], &[Wait(List(1))]]),
    ("publish", &[&[Wait(Meta)]]),
    ("scan", &[&[Wait(Meta)], &[Wait(Map)], &[Wait(List(0))], &[Wait(Leaf(0))], &[Wait(Vector(0))]]),
];

/// Whether some interleaving of the processes ends with everybody waiting: who waits for what.
fn deadlock(processes: &[Process]) -> Option<String> {
    #[derive(Clone, PartialEq, Eq, Hash)]
    struct State {
        /// Action and lock that each process takes next.
        at: Vec<(usize, usize)>,
        held: Vec<Vec<Page>>,
    }
    let start = State { at: vec![(0, 0); processes.len()], held: vec![Vec::new(); processes.len()] };
    let mut seen = HashSet::from([start.clone()]);
    let mut open = vec![start];
    while let Some(state) = open.pop() {
        let (mut stuck, mut ended) = (true, true);
        for (index, process) in processes.iter().enumerate() {
            let (action, lock) = state.at[index];
            let Some(locks) = process.get(action) else { continue };
            ended = false;
            let mut next = state.clone();
            match locks.get(lock) {
                None => {
                    next.held[index].clear();
                    next.at[index] = (action + 1, 0);
                }
                Some(take) => {
                    let (Wait(page) | Try(page)) = *take;
                    let taken = state.held.iter().any(|held| held.contains(&page));
                    match take {
                        Wait(_) if taken => continue,
                        Try(_) if taken => {}
                        _ => next.held[index].push(page),
                    }
                    next.at[index] = (action, lock + 1);
                }
            }
            stuck = false;
            if seen.insert(next.clone()) {
                open.push(next);
            }
        }
        if stuck && !ended {
            let waits = (0..processes.len()).filter_map(|index| {
                let (action, lock) = state.at[index];
                let take = processes[index].get(action)?.get(lock)?;
                Some(format!("process {index} holds {:?} and takes {take:?}", state.held[index]))
            });
            return Some(waits.collect::<Vec<_>>().join("; "));
        }
    }
    None
}

#[test]
fn no_three_actions_wait_in_a_ring() {
    for (first, (a, one)) in ACTIONS.iter().enumerate() {
        for (second, (b, two)) in ACTIONS.iter().enumerate().skip(first) {
            for (c, three) in ACTIONS.iter().skip(second) {
                if let Some(waits) = deadlock(&[one, two, three]) {
                    panic!("{a}, {b} and {c}: {waits}");
                }
            }
        }
    }
}

#[test]
fn every_wait_follows_the_order() {
    for (name, process) in ACTIONS {
        for action in *process {
            let waits = action.iter().enumerate().filter_map(|(index, take)| match take {
                Wait(page) => Some((index, *page)),
                Try(_) => None,
            });
            for (index, page) in waits {
                let before = action[..index].iter().filter_map(|take| match take {
                    Wait(page) => Some(*page),
                    Try(_) => None,
                });
                let before: Vec<Page> = before.collect();
                assert!(before.iter().all(|held| *held < page), "{name} waits for {page:?} behind {before:?}");
            }
        }
    }
}

/// The order switched off: each of these pairs can wait for ever.
#[test]
fn another_order_hangs() {
    let insert: Process = &[&[Wait(Leaf(1)), Wait(Vector(0))]];
    let vector_first: Process = &[&[Wait(Vector(0)), Wait(Leaf(1))]];
    assert!(deadlock(&[insert, vector_first]).is_some(), "vector page before leaf");
    let move_up: Process = &[&[Wait(Leaf(0)), Wait(Vector(1)), Wait(Vector(0))]];
    let move_down: Process = &[&[Wait(Leaf(1)), Wait(Vector(0)), Wait(Vector(1))]];
    assert!(deadlock(&[move_up, move_down]).is_some(), "a second vector page that is waited for");
    let free_leaf: Process = &[&[Wait(Leaf(0)), Wait(Node(1))]];
    let add_leaf: Process = &[&[Wait(Node(1)), Wait(Leaf(0))]];
    assert!(deadlock(&[free_leaf, add_leaf]).is_some(), "leaf before node");
    // Appending registers the new page before the one that links it, and redo locks in that order:
    // a reader that kept the page before while it locks the next would hang replay.
    let redo: Process = &[&[Wait(List(1)), Wait(List(0))]];
    let coupling: Process = &[&[Wait(List(0)), Wait(List(1))]];
    assert!(deadlock(&[redo, coupling]).is_some(), "a reader that couples list pages");
    let reader: Process = &[&[Wait(List(0))], &[Wait(List(1))]];
    assert!(deadlock(&[redo, reader]).is_none(), "a reader holds one page");
}
