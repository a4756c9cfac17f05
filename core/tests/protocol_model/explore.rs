//! Explores every interleaving of a scenario's actors, breadth first, or random ones by seed.

use std::{
    collections::{HashSet, VecDeque},
    hash::{Hash, Hasher},
    rc::Rc,
};

use super::{
    check,
    maintain::{Maintain, Op},
    rules::Rules,
    scenario::Scenario,
    world::{Actor, Check, Context, Did, World},
};

/// A way to a wrong answer.
#[derive(Debug)]
pub struct Failure {
    pub what: String,
    /// One line a step.
    pub trace: Vec<String>,
}

/// What an exploration found.
#[derive(Debug)]
pub struct Explored {
    pub states: usize,
    /// Whether the states ended before the bound did.
    pub complete: bool,
    pub failure: Option<Failure>,
}

/// Folded multiplication: the default hasher takes longer than the steps.
struct Fold(u64);

impl Fold {
    fn add(&mut self, value: u64) {
        let product = u128::from(self.0 ^ value) * u128::from(0x9E37_79B9_7F4A_7C15_u64);
        self.0 = (product as u64 ^ (product >> 64) as u64).rotate_left(23).wrapping_add(0x2545_F491_4F6C_DD1D);
    }
}

impl Hasher for Fold {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.add(u64::from_le_bytes(word));
        }
        self.add(bytes.len() as u64);
    }
    fn write_u8(&mut self, value: u8) {
        self.add(value.into());
    }
    fn write_u32(&mut self, value: u32) {
        self.add(value.into());
    }
    fn write_u64(&mut self, value: u64) {
        self.add(value);
    }
    fn write_usize(&mut self, value: usize) {
        self.add(value as u64);
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

fn hash(world: &World) -> u64 {
    let mut hasher = Fold(0);
    world.hash(&mut hasher);
    hasher.finish()
}

/// Lets choice `choice` happen: an actor's step, or, behind the last actor, a crash.
fn choose(world: &mut World, choice: usize, scenario: &Scenario, context: &Context) -> Check<Did> {
    if choice == world.actors.len() {
        if world.crashes >= scenario.crashes {
            return Ok(Did::Nothing);
        }
        world.crashes += 1;
        world.crash();
        world.actors.extend((scenario.after_crash)());
        return Ok(Did::Step("*** crash ***".into()));
    }
    let mut actor = std::mem::replace(&mut world.actors[choice], Actor::Stepping);
    let did = match &mut actor {
        Actor::Insert(insert) => insert.step(world, context),
        Actor::Maintain(maintain) => maintain.step(choice as u8, world, context),
        Actor::Vacuum(vacuum) => vacuum.step(world, context),
        Actor::Scan(scan) => scan.step(world, context),
        Actor::Stepping => unreachable!("one actor steps at a time"),
    };
    let name = match &actor {
        Actor::Insert(_) => "insert",
        Actor::Maintain(_) => "maintain",
        Actor::Vacuum(_) => "vacuum",
        Actor::Scan(scan) if scan.standby => "standby scan",
        Actor::Scan(_) => "scan",
        Actor::Stepping => unreachable!("one actor steps at a time"),
    };
    world.actors[choice] = actor;
    Ok(match did? {
        Did::Step(text) => Did::Step(format!("{name} {choice}: {text}")),
        Did::Nothing => Did::Nothing,
    })
}

/// Judges the state behind a step; a step that wrote nothing leaves it as it was.
fn oracle(before: &World, world: &World, context: &Context, invariants: bool) -> Check {
    let pages = before.pages.iter().zip(&world.pages);
    if pages.clone().all(|(old, new)| Rc::ptr_eq(old, new)) && before.rows == world.rows && before.lock == world.lock {
        return Ok(());
    }
    if invariants {
        check::published(world, context)?;
    }
    if check::quiet(world) && world.lock.is_none() {
        check::recovered(world)?;
    }
    Ok(())
}

/// When everybody has ended, one more cleanup must find nothing lost and leave nothing over.
fn end(world: &World, context: &Context, invariants: bool) -> Check {
    let mut world = world.clone();
    world.actors.push(Maintain::actor(&[Op::Cleanup]));
    let last = world.actors.len() - 1;
    loop {
        let mut actor = std::mem::replace(&mut world.actors[last], Actor::Stepping);
        let Actor::Maintain(maintain) = &mut actor else { unreachable!("pushed above") };
        let did = maintain.step(last as u8, &mut world, context)?;
        world.actors[last] = actor;
        if did == Did::Nothing {
            break;
        }
    }
    check::recovered(&world)?;
    if invariants { check::published(&world, context).and_then(|()| check::settled(&world, context)) } else { Ok(()) }
}

/// Breadth first, so that the trace of a failure is as short as any.
pub fn explore(scenario: &Scenario, rules: Rules, invariants: bool, states_max: usize) -> Explored {
    let context = Context { rules, sizes: scenario.sizes };
    let start = (scenario.start)(&context);
    let mut seen = HashSet::from([hash(&start)]);
    let mut parents: Vec<(u32, u8)> = vec![(0, 0)];
    let mut queue = VecDeque::from([(start, 0u32)]);
    let fail = |what: String, parents: &[(u32, u8)], at: u32, last: u8| {
        let mut choices = vec![last];
        let mut at = at;
        while at != 0 {
            choices.push(parents[at as usize].1);
            at = parents[at as usize].0;
        }
        choices.reverse();
        Failure { what, trace: replay(scenario, &context, &choices) }
    };
    while let Some((world, id)) = queue.pop_front() {
        let mut ended = true;
        for choice in 0..=world.actors.len() {
            let mut next = world.clone();
            let did = choose(&mut next, choice, scenario, &context);
            let failed = match did {
                Ok(Did::Nothing) if next == world => continue,
                Ok(_) => oracle(&world, &next, &context, invariants).err(),
                Err(what) => Some(what),
            };
            if let Some(what) = failed {
                let failure = fail(what, &parents, id, choice as u8);
                return Explored { states: seen.len(), complete: false, failure: Some(failure) };
            }
            ended &= choice == world.actors.len();
            if seen.insert(hash(&next)) {
                parents.push((id, choice as u8));
                queue.push_back((next, parents.len() as u32 - 1));
            }
        }
        if ended && let Err(what) = end(&world, &context, invariants) {
            let last = parents[id as usize];
            let failure = fail(what, &parents, last.0, last.1);
            return Explored { states: seen.len(), complete: false, failure: Some(failure) };
        }
        if seen.len() > states_max {
            return Explored { states: seen.len(), complete: false, failure: None };
        }
    }
    Explored { states: seen.len(), complete: true, failure: None }
}

fn replay(scenario: &Scenario, context: &Context, choices: &[u8]) -> Vec<String> {
    let mut world = (scenario.start)(context);
    let mut trace = Vec::new();
    for choice in choices {
        match choose(&mut world, *choice as usize, scenario, context) {
            Ok(Did::Step(text)) => trace.push(text),
            Ok(Did::Nothing) => {}
            Err(what) => trace.push(format!("→ {what}")),
        }
    }
    trace
}

/// A small generator (xorshift64*), so that a seed tells the whole run.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound as u64) as usize
    }
}

/// One random run to its end; the steps taken.
pub fn run(scenario: &Scenario, rules: Rules, seed: u64) -> Result<usize, Failure> {
    let context = Context { rules, sizes: scenario.sizes };
    let mut world = (scenario.start)(&context);
    let mut random = Random::new(seed);
    let mut choices = Vec::new();
    loop {
        let count = world.actors.len() + 1;
        // A crash is one choice in fifty.
        let crash = random.below(50) == 0;
        let first = random.below(count);
        let mut moved = false;
        for offset in 0..count {
            let choice = if crash { count - 1 - offset } else { (first + offset) % count };
            if choice == count - 1 && !crash {
                continue;
            }
            let before = world.clone();
            let did = choose(&mut world, choice, scenario, &context);
            let failed = match &did {
                Ok(_) => oracle(&before, &world, &context, true).err(),
                Err(what) => Some(what.clone()),
            };
            if did == Ok(Did::Nothing) && world == before {
                continue;
            }
            choices.push(choice as u8);
            if let Some(what) = failed {
                return Err(Failure { what, trace: replay(scenario, &context, &choices) });
            }
            moved = true;
            break;
        }
        if !moved {
            return match end(&world, &context, true) {
                Err(what) => Err(Failure { what, trace: replay(scenario, &context, &choices) }),
                Ok(()) => Ok(choices.len()),
            };
        }
    }
}
