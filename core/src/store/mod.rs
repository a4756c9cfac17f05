//! The seam between the index and whatever keeps its pages.
//!
//! The index asks a [`PageStore`] for pages under a share lock and changes them through an
//! [`Action`]: at most [`PAGES_MAX`] pages locked exclusively, changed on private copies and
//! published together, as one WAL record. `src/storage` of the extension implements it on
//! shared buffers and generic WAL, [`memory`] on a vector of page images.
//!
//! Locks are taken in the order of `src/index/README.md`: meta, list map, directory, lists from
//! head to tail, slot directory from root to leaf, slot leaves ascending, vector page, new page.

pub mod memory;
mod page;

use crate::Result;

pub use page::{BODY, Clear, PAGE, PageKind, PageMut, SealedBytes, body, init, kind};

/// Number of a page in its relation.
pub type Block = u32;

/// "No block": block 0 is the meta page, which nothing points to.
pub const NO_BLOCK: Block = 0;

/// Pages that one action may touch: what one generic WAL record registers.
pub const PAGES_MAX: usize = 4;

/// Keeps the pages of one index.
pub trait PageStore {
    /// A page under a share lock; dropping it releases the lock and the pin.
    type Page<'a>: std::ops::Deref<Target = [u8; PAGE]>
    where
        Self: 'a;
    /// An open action.
    type Action<'a>: Action
    where
        Self: 'a;

    /// Pins and share-locks `block`. A block beyond the end is [`crate::Error::Corrupt`].
    fn read(&self, block: Block) -> Result<Self::Page<'_>>;

    /// Says that `block` is about to be read, from `offset` of its body on, so that the processor can fetch it meanwhile. A
    /// hint: nothing need be known of the block.
    fn prefetch(&self, block: Block, offset: usize) {
        let _ = (block, offset);
    }

    /// A number that is another one whenever the page has changed; none if the store can't tell.
    fn version(&self, page: &[u8; PAGE]) -> Option<u64> {
        let _ = page;
        None
    }

    /// Blocks that the relation has now.
    fn blocks(&self) -> Result<Block>;

    /// Starts an action. The caller holds no page.
    fn begin(&self) -> Result<Self::Action<'_>>;

    /// A page that may have `bytes` of free room: a hint, to be checked under the lock.
    fn find_space(&self, bytes: usize) -> Result<Option<Block>>;

    /// Remembers that `block` has `bytes` of free room; [`BODY`] means wholly free.
    fn record_space(&self, block: Block, bytes: usize) -> Result<()>;

    /// Takes the maintenance lock of rule 11; `false` only if `wait` is false and another holds it.
    fn lock_maintenance(&self, wait: bool) -> Result<bool>;

    /// Releases the maintenance lock.
    fn unlock_maintenance(&self);

    /// Lets the caller cancel. Called with no page held, never inside an action.
    fn check_interrupts(&self) -> Result<()>;

    /// Identifies the running transaction, for bodies of records that span pages.
    fn transaction(&self) -> Result<u32>;

    /// Whether that transaction has ended, either way.
    fn transaction_ended(&self, xid: u32) -> Result<bool>;
}

/// Handle of a page within its action, in the order of taking.
pub type Slot = usize;

/// A change of at most [`PAGES_MAX`] pages that happens wholly or not at all.
///
/// Dropping an action without [`Action::commit`] leaves every page as it was.
pub trait Action: Sized {
    /// Locks `block` exclusively, waiting for it.
    fn update(&mut self, block: Block) -> Result<Slot>;

    /// Locks `block` exclusively if nobody holds it and it is in use: a free page is [`Action::create`]'s to take.
    fn try_update(&mut self, block: Block) -> Result<Option<Slot>>;

    /// Takes a free page, or a new one at the end, and formats it as `kind`.
    fn create(&mut self, kind: PageKind) -> Result<(Slot, Block)>;

    /// The private copy as it stands.
    fn page(&self, slot: Slot) -> &[u8; PAGE];

    /// The private copy, to change.
    fn page_mut(&mut self, slot: Slot) -> PageMut<'_>;

    /// Publishes every change as one WAL record. Pages whose kind became [`PageKind::Free`]
    /// are then remembered as free.
    fn commit(self) -> Result<()>;
}

/// The maintenance lock while it is held; dropping it releases it.
pub struct Maintenance<'a, S: PageStore>(&'a S);

impl<'a, S: PageStore> Maintenance<'a, S> {
    /// Takes the lock; `None` if it is not to be had and `wait` is false.
    pub fn take(store: &'a S, wait: bool) -> Result<Option<Self>> {
        // Not `then_some`: its argument would be made and dropped, and so unlock, even where there is no lock.
        Ok(store.lock_maintenance(wait)?.then(|| Self(store)))
    }
}

impl<S: PageStore> Drop for Maintenance<'_, S> {
    fn drop(&mut self) {
        // While a Postgres ERROR unwinds, transaction abort releases the lock; calling the
        // server from here could raise a second error.
        if !std::thread::panicking() {
            self.0.unlock_maintenance();
        }
    }
}
