//! An action: up to four pages changed together, as one generic WAL record or, in a bulk build, none.

use pgrx::pg_sys;
use sealvec_core::Result;
use sealvec_core::store::{Action, BODY, Block, PAGE, PAGES_MAX, PageKind, PageMut, PageStore, Slot, init, kind};

use super::buffer::{self, ExclusiveBuffer};
use super::extend::extend;
use super::relation::RelationStore;
use super::space;

const _: () = assert!(PAGES_MAX == pg_sys::MAX_GENERIC_XLOG_PAGES as usize);
/// Special space of our pages: kind, version, page id.
const SPECIAL: usize = 8;

/// How an action is published.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Writes {
    /// Generic WAL, which itself leaves out temporary and unlogged relations.
    Logged,
    /// Dirty buffers only: the fork is logged whole when the build is done.
    Bulk,
}

/// Pages locked exclusively and changed on private copies; dropped without commit it changes nothing.
pub struct RelationAction<'a> {
    store: &'a RelationStore,
    writes: Writes,
    /// Started with the first page; null before and after.
    state: *mut pg_sys::GenericXLogState,
    pages: Vec<Taken>,
}

struct Taken {
    buffer: ExclusiveBuffer,
    block: Block,
    image: Image,
}

enum Image {
    /// Lies in the action's `GenericXLogState`.
    Registered(*mut [u8; PAGE]),
    Own(Box<[u8; PAGE]>),
}

impl<'a> RelationAction<'a> {
    pub(super) fn new(store: &'a RelationStore, writes: Writes) -> Self {
        Self { store, writes, state: std::ptr::null_mut(), pages: Vec::with_capacity(PAGES_MAX) }
    }

    /// Makes a private copy of a page that is now locked.
    fn add(&mut self, buffer: ExclusiveBuffer, created: bool) -> Slot {
        assert!(self.pages.len() < PAGES_MAX, "an action has at most {PAGES_MAX} pages");
        let image = match self.writes {
            Writes::Bulk => Image::Own(Box::new(*buffer.page())),
            Writes::Logged => {
                let flags = if created { pg_sys::GENERIC_XLOG_FULL_IMAGE as i32 } else { 0 };
                // SAFETY: the relation is open; the buffer is locked exclusively until after commit or abort,
                // because `self` keeps it; no more buffers are registered than a record takes.
                unsafe {
                    if self.state.is_null() {
                        self.state = pg_sys::GenericXLogStart(self.store.relation());
                    }
                    Image::Registered(pg_sys::GenericXLogRegisterBuffer(self.state, buffer.buffer(), flags).cast())
                }
            }
        };
        let block = buffer.block();
        self.pages.push(Taken { buffer, block, image });
        self.pages.len() - 1
    }

    fn holds(&self, block: Block) -> bool {
        self.pages.iter().any(|page| page.block == block)
    }

    /// A free page that nobody uses, if the free-space map knows one.
    fn recycle(&self) -> Result<Option<ExclusiveBuffer>> {
        while let Some(block) = self.store.find_space(BODY)? {
            // Nobody else shall try it in vain, nor this loop twice.
            // SAFETY: the relation is open.
            unsafe { space::forget(self.store.relation(), block) };
            if self.holds(block) {
                continue; // a local buffer would let itself be locked again
            }
            // SAFETY: the relation is open, and find_space checked that the block exists.
            let taken = unsafe {
                buffer::try_exclusive(self.store.relation(), self.store.fork(), block, self.store.strategy())
            };
            if let Some(buffer) = taken.filter(|buffer| kind(buffer.page()) == Some(PageKind::Free)) {
                return Ok(Some(buffer));
            }
        }
        Ok(None)
    }
}

impl Action for RelationAction<'_> {
    fn update(&mut self, block: Block) -> Result<Slot> {
        assert!(!self.holds(block), "page {block} is taken twice");
        self.store.must_have(block)?;
        // SAFETY: the relation is open and has the block.
        let buffer =
            unsafe { buffer::exclusive(self.store.relation(), self.store.fork(), block, self.store.strategy()) };
        Ok(self.add(buffer, false))
    }

    fn try_update(&mut self, block: Block) -> Result<Option<Slot>> {
        if self.holds(block) {
            return Ok(None); // a hint may name a page of this very action
        }
        self.store.must_have(block)?;
        // SAFETY: the relation is open and has the block.
        let buffer =
            unsafe { buffer::try_exclusive(self.store.relation(), self.store.fork(), block, self.store.strategy()) };
        // A free page is create()'s to take. Registered here and left as it is, a zero page would get an LSN, which
        // no reader accepts on it afterwards and no replay without its image.
        let buffer = buffer.filter(|buffer| kind(buffer.page()) != Some(PageKind::Free));
        Ok(buffer.map(|buffer| self.add(buffer, false)))
    }

    fn create(&mut self, kind: PageKind) -> Result<(Slot, Block)> {
        let buffer = match self.recycle()? {
            Some(buffer) => buffer,
            // SAFETY: the relation is open.
            None => unsafe { extend(self.store.relation(), self.store.fork()) },
        };
        let slot = self.add(buffer, true);
        let image = self.image_mut(slot);
        // SAFETY: the image has BLCKSZ bytes.
        unsafe { pg_sys::PageInit(image.as_mut_ptr().cast(), PAGE, SPECIAL) };
        init(image, kind);
        Ok((slot, self.pages[slot].block))
    }

    fn page(&self, slot: Slot) -> &[u8; PAGE] {
        match &self.pages[slot].image {
            // SAFETY: the state lives as long as the action and nobody else knows the image.
            Image::Registered(image) => unsafe { &**image },
            Image::Own(image) => image,
        }
    }

    fn page_mut(&mut self, slot: Slot) -> PageMut<'_> {
        PageMut::new(self.image_mut(slot))
    }

    fn commit(mut self) -> Result<()> {
        let freed: Vec<Block> = (0..self.pages.len())
            .filter(|slot| kind(self.page(*slot)) == Some(PageKind::Free))
            .map(|slot| self.pages[slot].block)
            .collect();
        match self.writes {
            Writes::Logged if !self.state.is_null() => {
                let state = std::mem::replace(&mut self.state, std::ptr::null_mut());
                // SAFETY: started by this action, whose buffers are all still locked exclusively. Marks them
                // dirty, logs and stamps them in one critical section, and frees the state.
                unsafe { pg_sys::GenericXLogFinish(state) };
            }
            Writes::Logged => {}
            Writes::Bulk => self.pages.iter_mut().for_each(Taken::publish),
        }
        self.pages.clear(); // unlocks, before the free-space map is touched
        freed.into_iter().try_for_each(|block| self.store.record_space(block, BODY))
    }
}

impl RelationAction<'_> {
    fn image_mut(&mut self, slot: Slot) -> &mut [u8; PAGE] {
        match &mut self.pages[slot].image {
            // SAFETY: as in `page`, and `self` is borrowed for change.
            Image::Registered(image) => unsafe { &mut **image },
            Image::Own(image) => image,
        }
    }
}

impl Taken {
    fn publish(&mut self) {
        if let Image::Own(image) = &self.image {
            self.buffer.page_mut().copy_from_slice(&image[..]);
            // SAFETY: the buffer is pinned and locked exclusively.
            unsafe { pg_sys::MarkBufferDirty(self.buffer.buffer()) }
        }
    }
}

impl Drop for RelationAction<'_> {
    fn drop(&mut self) {
        if !self.state.is_null() && !std::thread::panicking() {
            // SAFETY: started by this action and neither finished nor aborted; only frees memory.
            unsafe { pg_sys::GenericXLogAbort(self.state) }
        }
    }
}
