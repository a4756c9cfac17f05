//! A page store in memory, with a log of every action and faults on demand, for tests.
//!
//! The log makes "a crash after any WAL record" a loop: [`MemoryStore::replay`] builds the store
//! that recovery would find.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use super::{Action, BODY, Block, PAGE, PAGES_MAX, PageKind, PageMut, PageStore, Slot, init, kind};
use crate::{Error, Result};

type Image = Rc<[u8; PAGE]>;

/// Bytes of a page's stamp, its first.
const STAMP: usize = 8;

/// Pages in memory. Not for threads: one backend at a time, as steps of a test interleave them.
#[derive(Default)]
pub struct MemoryStore {
    pages: RefCell<Vec<Image>>,
    space: RefCell<BTreeMap<Block, usize>>,
    log: RefCell<Vec<Vec<(Block, Image)>>>,
    keep_log: bool,
    locked: Cell<bool>,
    /// Whether the transaction has its number, which it gets when it is first asked for.
    numbered: Cell<bool>,
    /// Commits left before the store fails; `None` never fails.
    budget: Cell<Option<usize>>,
    /// Actions committed; each stamps its pages, as Postgres does with the position of the record.
    commits: Cell<u64>,
    reads: Cell<u64>,
    rests: Cell<u64>,
}

impl MemoryStore {
    /// An empty store that forgets its log.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store that keeps every committed action.
    pub fn logged() -> Self {
        Self { keep_log: true, ..Self::default() }
    }

    /// Lets `commits` more actions through and fails every later one, as a crash would.
    pub fn fail_after(&self, commits: usize) {
        self.budget.set(Some(commits));
    }

    /// Committed actions in the log.
    pub fn log_len(&self) -> usize {
        self.log.borrow().len()
    }

    /// The store as recovery finds it after the first `records` actions of this store's log.
    pub fn replay(&self, records: usize) -> MemoryStore {
        let store = MemoryStore::new();
        store.commits.set(self.commits.get());
        {
            let mut pages = store.pages.borrow_mut();
            for record in &self.log.borrow()[..records] {
                for (block, image) in record {
                    while pages.len() <= *block as usize {
                        pages.push(Rc::new([0; PAGE])); // a hole of zero pages, as redo leaves
                    }
                    pages[*block as usize] = image.clone();
                }
            }
        }
        store
    }

    /// Changes raw bytes behind the index's back: a bit flip, a swapped page.
    pub fn corrupt(&self, block: Block, change: impl FnOnce(&mut [u8; PAGE])) {
        let mut pages = self.pages.borrow_mut();
        let mut image = *pages[block as usize];
        change(&mut image);
        pages[block as usize] = Rc::new(image);
    }

    /// Every page, by block.
    pub fn images(&self) -> Vec<Box<[u8; PAGE]>> {
        self.pages.borrow().iter().map(|image| Box::new(**image)).collect()
    }

    /// Ends the transaction; the next one has no number yet.
    pub fn end_transaction(&self) {
        self.numbered.set(false);
    }

    /// Looks at interrupts so far without the maintenance lock: where VACUUM may sleep.
    pub fn rests(&self) -> u64 {
        self.rests.get()
    }

    /// Pages read so far.
    pub fn reads(&self) -> u64 {
        self.reads.get()
    }
}

/// A page of a [`MemoryStore`].
pub struct MemoryPage(Image);

impl std::ops::Deref for MemoryPage {
    type Target = [u8; PAGE];
    fn deref(&self) -> &[u8; PAGE] {
        &self.0
    }
}

impl PageStore for MemoryStore {
    type Page<'a> = MemoryPage;
    type Action<'a> = MemoryAction<'a>;

    fn read(&self, block: Block) -> Result<MemoryPage> {
        self.reads.set(self.reads.get() + 1);
        let pages = self.pages.borrow();
        pages.get(block as usize).cloned().map(MemoryPage).ok_or(Error::Corrupt { block, what: "beyond the end" })
    }

    fn version(&self, page: &[u8; PAGE]) -> Option<u64> {
        Some(u64::from_ne_bytes(page[..STAMP].try_into().expect("eight bytes")))
    }

    fn blocks(&self) -> Result<Block> {
        Ok(self.pages.borrow().len() as Block)
    }

    fn begin(&self) -> Result<MemoryAction<'_>> {
        Ok(MemoryAction { store: self, pages: Vec::new() })
    }

    fn find_space(&self, bytes: usize) -> Result<Option<Block>> {
        Ok(self.space.borrow().iter().find(|(_, free)| **free >= bytes).map(|(block, _)| *block))
    }

    fn record_space(&self, block: Block, bytes: usize) -> Result<()> {
        self.space.borrow_mut().insert(block, bytes);
        Ok(())
    }

    fn lock_maintenance(&self, wait: bool) -> Result<bool> {
        if self.locked.get() {
            assert!(!wait, "a single-threaded wait would never end");
            return Ok(false);
        }
        self.locked.set(true);
        Ok(true)
    }

    fn unlock_maintenance(&self) {
        self.locked.set(false);
    }

    fn check_interrupts(&self) -> Result<()> {
        self.rests.set(self.rests.get() + u64::from(!self.locked.get()));
        Ok(())
    }

    fn transaction(&self) -> Result<u32> {
        assert!(self.numbered.get() || !self.locked.get(), "a number is taken before the maintenance lock");
        self.numbered.set(true);
        Ok(1)
    }

    fn transaction_ended(&self, _xid: u32) -> Result<bool> {
        Ok(true)
    }
}

/// An action on a [`MemoryStore`].
pub struct MemoryAction<'a> {
    store: &'a MemoryStore,
    pages: Vec<(Block, Box<[u8; PAGE]>)>,
}

impl MemoryAction<'_> {
    fn add(&mut self, block: Block, image: Box<[u8; PAGE]>) -> Slot {
        assert!(self.pages.len() < PAGES_MAX, "an action has at most {PAGES_MAX} pages");
        assert!(self.pages.iter().all(|(taken, _)| *taken != block), "page {block} is taken twice");
        self.pages.push((block, image));
        self.pages.len() - 1
    }
}

impl Action for MemoryAction<'_> {
    fn update(&mut self, block: Block) -> Result<Slot> {
        let image = self.store.read(block)?;
        Ok(self.add(block, Box::new(*image)))
    }

    fn try_update(&mut self, block: Block) -> Result<Option<Slot>> {
        if self.pages.iter().any(|(taken, _)| *taken == block) {
            return Ok(None); // as a buffer that this backend has locked already
        }
        if kind(&*self.store.read(block)?) == Some(PageKind::Free) {
            return Ok(None);
        }
        self.update(block).map(Some)
    }

    fn create(&mut self, kind_wanted: PageKind) -> Result<(Slot, Block)> {
        let mut free = None;
        while let Some(block) = self.store.find_space(BODY)? {
            self.store.space.borrow_mut().remove(&block);
            let taken = self.pages.iter().any(|(taken, _)| *taken == block);
            if !taken && kind(&*self.store.read(block)?) == Some(PageKind::Free) {
                free = Some(block);
                break;
            }
        }
        let block = free.unwrap_or_else(|| {
            let mut pages = self.store.pages.borrow_mut();
            pages.push(Rc::new([0; PAGE]));
            pages.len() as Block - 1
        });
        let mut image = Box::new([0; PAGE]);
        init(&mut image, kind_wanted);
        Ok((self.add(block, image), block))
    }

    fn page(&self, slot: Slot) -> &[u8; PAGE] {
        &self.pages[slot].1
    }

    fn page_mut(&mut self, slot: Slot) -> PageMut<'_> {
        PageMut::new(&mut self.pages[slot].1)
    }

    fn commit(self) -> Result<()> {
        if let Some(left) = self.store.budget.get() {
            if left == 0 {
                return Err(Error::Store);
            }
            self.store.budget.set(Some(left - 1));
        }
        let stamp = self.store.commits.get() + 1;
        self.store.commits.set(stamp);
        let mut record = Vec::new();
        for (block, mut image) in self.pages {
            image[..STAMP].copy_from_slice(&stamp.to_ne_bytes());
            let image: Image = Rc::new(*image);
            self.store.pages.borrow_mut()[block as usize] = image.clone();
            if kind(&image) == Some(PageKind::Free) {
                self.store.record_space(block, BODY)?;
            }
            record.push((block, image));
        }
        if self.store.keep_log {
            self.store.log.borrow_mut().push(record);
        }
        Ok(())
    }
}
