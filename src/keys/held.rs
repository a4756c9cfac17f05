//! The table of open rings: keys by ring number, who opened them, and when they have to go.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use pgrx::pg_sys;
use sealvec_core::keys::{Permission, UserId};

use super::arena::{Arena, Slot};
use super::backend::{Users, process_id, statement};
use super::catalog::RingInfo;
use super::ring_user::Opener;
use crate::clock::now_ms;
use crate::guc;

static GENERATION: AtomicU64 = AtomicU64::new(1);
/// Keys lent at this moment: none is wiped until the last is back.
static IN_USE: AtomicU32 = AtomicU32::new(0);
/// Keys of closed rings that wait for it.
static DYING: AtomicU32 = AtomicU32::new(0);

thread_local! {
    static FORGET: RefCell<Vec<fn()>> = const { RefCell::new(Vec::new()) };
}

/// Changes whenever a ring was closed.
pub fn generation() -> u64 {
    GENERATION.load(Relaxed)
}

/// What was derived from keys goes, and is derived again by whoever is still allowed to.
pub fn derived_is_stale() {
    GENERATION.fetch_add(1, Relaxed);
    forget_derived();
}

/// Calls `forget` from now on whenever a ring was closed, so that what was derived from its keys goes at once and
/// not only when somebody next looks at [`generation`](super::generation).
///
/// It runs in the middle of anything, aborts included: it may drop memory and nothing else, may not come back to
/// this module, and has to leave alone what is borrowed at that moment.
pub fn on_close(forget: fn()) {
    FORGET.with_borrow_mut(|all| all.push(forget));
}

/// Drops what was derived from keys, or opened with them.
pub fn forget_derived() {
    FORGET.with_borrow(|all| all.iter().for_each(|forget| forget()));
}

/// Counts a key as in use.
pub fn begin_use() {
    IN_USE.fetch_add(1, Relaxed);
}

/// Counts it as back; true if keys of closed rings waited for just that.
pub fn end_use() -> bool {
    IN_USE.fetch_sub(1, Relaxed) == 1 && DYING.load(Relaxed) > 0
}

/// An open ring.
pub struct Held {
    /// Tells this opening from any other in this backend.
    pub serial: u64,
    pub info: Rc<RingInfo>,
    /// Ascending versions; never empty.
    pub deks: Vec<(u32, Slot)>,
    /// What makes tokens of ids; gone only when the ring is closed.
    pub id_key: Option<Slot>,
    /// Set if a credential opened it for single calls: then it serves only while one of them runs.
    pub scope: Option<Scoped>,
    /// The row's epoch when it was opened.
    pub epoch: i64,
    pub opened_ms: u64,
    /// Where its KEK comes from.
    pub origin: Origin,
    /// How deep in savepoints its KEK was shown in a transaction that has not ended; 0 once it has, or if no KEK was.
    pub level: i32,
    /// The user who opened it with a key of his own, which may not open it for all.
    pub user: Option<Rc<Opener>>,
    /// The role that opened it: with its KEK, or by its grant.
    pub opener: pg_sys::Oid,
    /// The role that last passed the check of owner and grants; at first the opener.
    pub allowed: pg_sys::Oid,
}

/// What a key is asked for. Any DEK seals and opens: this is what tells readers from writers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// What it opens is shown, or compared with what somebody shows.
    Read,
    /// It seals what is stored.
    Write,
    /// What shows and stores nothing by itself.
    Either,
    /// What takes the ring's own key: a copy of its keys for somebody else.
    Own,
}

/// Where the KEK of an open ring came from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Its client showed it.
    Client,
    /// The root key of this server: asked again at any time.
    Local,
    /// A key service, which may be away.
    Service,
}

/// The credential that a call showed last, and how many calls that showed one run now.
pub struct Scoped {
    /// Of the credential, under a key of this process: equal for the same credential only.
    pub digest: [u8; 32],
    /// The user of the collection whose it is; none if it is the collection's own.
    pub user: Option<UserId>,
    /// Of the sealed bytes that it came in, and of their place; none for one that came plain.
    pub sealed: Option<[u8; 32]>,
    /// Calls under way.
    pub calls: u32,
}

impl Held {
    /// Whether it is there for others than calls that have not shown their credential yet.
    pub fn is_shown(&self) -> bool {
        self.scope.as_ref().is_none_or(|scope| scope.calls > 0)
    }

    /// The user of the collection whose call is under way.
    pub fn caller(&self) -> Option<UserId> {
        self.scope.as_ref().filter(|scope| scope.calls > 0)?.user
    }

    /// Whether `user` is known to be allowed. Not the session, but who acts at this moment: a function of somebody
    /// else, or what Postgres runs as a table's owner, gets nothing by the opener's key.
    pub fn serves(&self, user: pg_sys::Oid) -> bool {
        user == self.opener || user == self.allowed
    }

    /// Whether it may be used for this: one that a user opened, for what he may do.
    pub fn gives(&self, right: Right) -> bool {
        let Some(user) = &self.user else { return true };
        match right {
            Right::Read => user.permissions.has(Permission::Read),
            Right::Write => user.permissions.has(Permission::Write),
            Right::Either => true,
            Right::Own => false,
        }
    }
}

/// Open rings, what they were opened under, and the memory of their keys.
pub struct OpenRings {
    pub arena: Arena,
    pub rings: HashMap<u32, Held, BuildHasherDefault<ByNumber>>,
    /// Keys of closed rings that may still be in use.
    dying: Vec<Slot>,
    pub users: Users,
    pub pid: i32,
    /// When the ring that is open longest was opened.
    pub oldest_ms: u64,
    /// The statement in which time was last looked at.
    timed: pg_sys::TimestampTz,
    /// Whether rings are locked by hand, except those in `except`.
    all_shut: bool,
    except: HashSet<u32>,
}

impl OpenRings {
    /// None open.
    pub fn new() -> Self {
        Self {
            arena: Arena::new(),
            rings: HashMap::default(),
            dying: Vec::new(),
            users: Users::NONE,
            pid: 0,
            oldest_ms: u64::MAX,
            timed: 0,
            all_shut: false,
            except: HashSet::new(),
        }
    }

    /// Whether every open ring may stay open, as far as user, process and time go. Time is looked at once a
    /// statement: a key does not go in the middle of one.
    pub fn is_current(&mut self) -> bool {
        self.rings.is_empty() || self.users == Users::now() && self.pid == process_id() && self.is_in_time()
    }

    fn is_in_time(&mut self) -> bool {
        let statement = statement();
        if statement == self.timed {
            return true;
        }
        let ttl_ms = u64::from(guc::key_ttl_s()) * 1000;
        let in_time = ttl_ms == 0 || now_ms().saturating_sub(self.oldest_ms) < ttl_ms;
        if in_time {
            self.timed = statement;
        }
        in_time
    }

    /// Whether every ring was in time when this statement first looked.
    pub fn was_in_time(&self) -> bool {
        statement() == self.timed
    }

    /// When the next ring is to close, in milliseconds as [`now_ms`] has them.
    pub fn due_ms(&self) -> Option<u64> {
        let ttl_ms = u64::from(guc::key_ttl_s()) * 1000;
        (ttl_ms != 0 && !self.rings.is_empty()).then(|| self.oldest_ms + ttl_ms)
    }

    /// Whether the ring was locked by hand.
    pub fn is_shut(&self, ring: u32) -> bool {
        self.all_shut != self.except.contains(&ring)
    }

    /// Locks the ring by hand, or takes that back.
    pub fn set_shut(&mut self, ring: u32, shut: bool) {
        if shut == self.all_shut {
            self.except.remove(&ring);
        } else {
            self.except.insert(ring);
        }
    }

    /// Locks all rings by hand, or takes all of that back.
    pub fn set_all_shut(&mut self, shut: bool) {
        (self.all_shut, self.except) = (shut, HashSet::new());
    }

    /// Closes every ring that `goes` names.
    pub fn close(&mut self, goes: impl Fn(&Held) -> bool) {
        let dying = &mut self.dying;
        let before = self.rings.len();
        self.rings.retain(|_, held| {
            let goes = goes(held);
            if goes {
                dying.extend(held.deks.drain(..).map(|(_, slot)| slot));
                dying.extend(held.id_key.take());
            }
            !goes
        });
        if self.rings.len() < before {
            GENERATION.fetch_add(1, Relaxed);
            self.oldest_ms = self.rings.values().map(|held| held.opened_ms).min().unwrap_or(u64::MAX);
            forget_derived();
        }
        self.bury();
    }

    /// What was unlocked at `level` or deeper was not: closes it.
    pub fn undo(&mut self, level: i32) {
        self.close(|held| held.level >= level);
    }

    /// The ring, if it is open for more than calls that have yet to show their credential.
    pub fn shown(&self, ring: u32) -> Option<&Held> {
        self.rings.get(&ring).filter(|held| held.is_shown())
    }

    /// No call outlives its transaction, whatever became of its guard.
    pub fn end_calls(&mut self) {
        self.rings.values_mut().filter_map(|held| held.scope.as_mut()).for_each(|scope| scope.calls = 0);
    }

    /// What was unlocked deeper than `level` counts as unlocked there.
    pub fn settle_at(&mut self, level: i32) {
        self.rings.values_mut().for_each(|held| held.level = held.level.min(level));
    }

    /// Wipes the keys of closed rings, unless one may be in use.
    pub fn bury(&mut self) {
        if IN_USE.load(Relaxed) == 0 {
            for slot in self.dying.drain(..) {
                self.arena.wipe(slot);
            }
        }
        DYING.store(self.dying.len() as u32, Relaxed);
    }
}

/// Ring numbers are drawn at random: they are their own hash, once spread to the bits that the map looks at.
#[derive(Default)]
pub struct ByNumber(u64);

impl Hasher for ByNumber {
    fn write(&mut self, _: &[u8]) {
        unreachable!("a ring number is a u32")
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
