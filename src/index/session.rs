//! What this backend remembers of the indexes it used: derived keys and core's cache, dropped with the DEK.

use std::cell::{RefCell, RefMut};
use std::rc::{Rc, Weak};

use pgrx::PgSqlErrorCode::ERRCODE_INDEX_CORRUPTED;
use sealvec_core::format::meta::{Identity, Meta};
use sealvec_core::ivf::{self, Cache, ColumnKeys, Keys};
use sealvec_core::keys::{IndexKeys, Uuid};
use sealvec_core::store::PageStore;

use super::index_error;
use crate::error::SqlError;
use crate::keys::{self, Right};

/// Indexes remembered at a time; the one unused for longest goes first.
const SESSIONS_MAX: usize = 32;

/// One index in this backend. Cheap to clone; a scan keeps one from row to row.
#[derive(Clone)]
pub struct Session(Rc<Inner>);

struct Inner {
    index: Uuid,
    state: RefCell<State>,
}

struct State {
    cache: Cache,
    keys: Option<Opened>,
    /// [`keys::generation`] under which `keys` and what `cache` holds were opened.
    generation: u64,
}

/// Every key that a call into core may need, so that none is looked for while it holds a lock.
struct Opened {
    index: IndexKeys,
    values: ColumnKeys,
}

/// The state while a call into core uses it.
pub struct InUse<'a> {
    state: RefMut<'a, State>,
}

thread_local! {
    static SESSIONS: RefCell<Sessions> = const { RefCell::new(Sessions { known: Vec::new(), left: Vec::new() }) };
}

struct Sessions {
    /// Last used last.
    known: Vec<Session>,
    /// Those that had to go while a scan still used them.
    left: Vec<Weak<Inner>>,
}

/// The session of the index with this uuid. A rebuilt index has a new uuid, so nothing here can be stale
/// but by key.
pub fn session(index: Uuid) -> Session {
    SESSIONS.with_borrow_mut(|Sessions { known, left }| {
        let session = match known.iter().position(|session| session.0.index == index) {
            Some(place) => known.remove(place),
            None => Session(Rc::new(Inner { index, state: RefCell::new(State::new(index)) })),
        };
        if known.len() == SESSIONS_MAX {
            left.retain(|session| session.strong_count() > 0);
            left.push(Rc::downgrade(&known.remove(0).0));
        }
        known.push(session.clone());
        session
    })
}

/// Forgets what was opened in every index, derived keys included: a key ring was closed. What is in use at this moment
/// is forgotten when that ends.
pub fn forget_all() {
    SESSIONS.with(|sessions| {
        let Ok(sessions) = sessions.try_borrow() else { return };
        let left = sessions.left.iter().filter_map(Weak::upgrade);
        for session in sessions.known.iter().map(|session| session.0.clone()).chain(left) {
            if let Ok(mut state) = session.state.try_borrow_mut() {
                *state = State::new(session.index);
            }
        }
    });
}

impl Session {
    /// Borrows the state for one call into core.
    ///
    /// Core runs no user code, so no second call can meet the first one's borrow.
    pub fn using(&self) -> InUse<'_> {
        let mut state = self.0.state.borrow_mut();
        let generation = keys::generation();
        if state.generation != generation {
            *state = State { generation, ..State::new(self.0.index) };
        }
        InUse { state }
    }
}

impl Session {
    /// Runs `f` on the cache if the keys under which it was filled are still open. Waits for nobody and asks nobody: a scan ends
    /// in the middle of a commit, too.
    pub fn leave(&self, f: impl FnOnce(&mut Cache)) {
        let Ok(mut state) = self.0.state.try_borrow_mut() else { return };
        if state.keys.is_some() && state.generation == keys::closings() {
            f(&mut state.cache);
        }
    }
}

impl State {
    /// Nothing opened, under no generation.
    fn new(index: Uuid) -> Self {
        Self { cache: Cache::new(index), keys: None, generation: 0 }
    }
}

impl InUse<'_> {
    /// Core's cache, for calls that need no key.
    pub fn cache(&mut self) -> &mut Cache {
        &mut self.state.cache
    }

    /// Makes sure that the current user may open the ring now for what `right` says, and that the keys of the index are at hand.
    ///
    /// The DEK is the one that the index is sealed with, or the ring's newest lasting one if nothing in it is sealed yet.
    /// What the meta page says in clear is checked against what was sealed each time.
    pub fn open<S: PageStore>(&mut self, store: &S, meta: &Meta, right: Right) -> Result<(), SqlError> {
        // An index without a seal may have been bound since, to a newer DEK than the one that we took for it.
        let fits = |keys: &Opened| meta.dek_version == 0 || keys.index.dek_version() == meta.dek_version;
        let new = !self.state.keys.as_ref().is_some_and(fits);
        // What this call may bind the index to, and a rollback does not unbind it.
        let version = match meta.dek_version {
            0 if new => Some(keys::lasting_dek_version(meta.identity.ring)?),
            0 => None,
            bound => Some(bound),
        };
        let derived = keys::with_dek(meta.identity.ring, version, right, |dek, _| {
            new.then(|| IndexKeys::new(dek, meta.identity.index))
        })?;
        if let Some(index) = derived {
            let keys = Opened { index, values: column_keys(meta.identity.ring, right)? };
            // Asking may have unlocked the ring, or dropped another: what was opened before is gone then.
            let generation = keys::generation();
            *self.state = State { keys: Some(keys), generation, ..State::new(meta.identity.index) };
        }
        let keys = self.state.keys.as_ref().expect("made above, or before");
        match ivf::check_keys(store, &keys.index) {
            Ok(_) => Ok(()),
            Err(error) => {
                *self.state = State::new(meta.identity.index);
                Err(index_error(error))
            }
        }
    }

    /// As [`InUse::open`], for who can do without: whether it opened.
    ///
    /// # Errors
    /// `XX002`: nobody should write to a damaged index.
    pub fn try_open<S: PageStore>(&mut self, store: &S, meta: &Meta, right: Right) -> Result<bool, SqlError> {
        match self.open(store, meta, right) {
            Err(error) if error.sqlstate == ERRCODE_INDEX_CORRUPTED => Err(error),
            opened => Ok(opened.is_ok()),
        }
    }

    /// Whether [`InUse::open`] succeeded and nothing was dropped since.
    pub fn is_open(&self) -> bool {
        self.state.keys.is_some()
    }

    /// Core's cache, and the keys that [`InUse::open`] got.
    pub fn keyed(&mut self) -> (&mut Cache, Keys<'_>) {
        let State { cache, keys, .. } = &mut *self.state;
        let Opened { index, values } = keys.as_mut().expect("open() came first");
        (cache, Keys { index, values })
    }
}

impl Drop for InUse<'_> {
    /// What an ERROR may have left half-made is forgotten, and what was opened if a ring was closed meanwhile, which
    /// did not find it.
    fn drop(&mut self) {
        if std::thread::panicking() || self.state.generation != keys::closings() {
            *self.state = State::new(self.state.cache.index());
        }
    }
}

/// Subkeys of an index under DEK `version`; 0 is the ring's current one.
pub fn open_keys(identity: &Identity, version: u32, right: Right) -> Result<IndexKeys, SqlError> {
    let version = (version != 0).then_some(version);
    keys::with_dek(identity.ring, version, right, |dek, _| IndexKeys::new(dek, identity.index))
}

/// The keys of a ring's column values, under every DEK that the ring has.
///
/// # Errors
/// Those of [`keys::with_dek`]: the ring is locked, or the user may not open it. A value that these keys don't open
/// is no such error.
pub fn column_keys(ring: u32, right: Right) -> Result<ColumnKeys, SqlError> {
    let (mut values, newest) =
        keys::with_dek(ring, None, right, |dek, ring| (ColumnKeys::new(ring.uuid), dek.version()))?;
    let generation = keys::generation();
    for version in 1..=newest {
        let added = keys::with_dek(ring, Some(version), right, |dek, _| values.add(dek));
        // While nothing was dropped, the one reason is that the ring has no DEK of that version.
        if added.is_err() && keys::generation() != generation {
            added?;
        }
    }
    Ok(values)
}
