//! Pinned and locked buffers, one type for each way of holding one.

use std::ops::Deref;

use pgrx::pg_sys;
use sealvec_core::store::PAGE;

use super::recent::read;

const _: () = assert!(pg_sys::BLCKSZ as usize == PAGE, "sealvec is built for pages of 8 kB");

/// A page pinned and share-locked.
pub struct SharedPage(Locked);

/// A page pinned and locked exclusively.
pub struct ExclusiveBuffer(Locked);

/// A pin and a content lock.
struct Locked(pg_sys::Buffer);

/// Pins `block`, which the caller knows to exist, and waits for its share lock.
///
/// # Safety
/// `relation` is open.
pub unsafe fn share(
    relation: pg_sys::Relation,
    fork: pg_sys::ForkNumber::Type,
    block: u32,
    strategy: pg_sys::BufferAccessStrategy,
) -> SharedPage {
    // SAFETY: the caller's duty; the buffer is pinned by the first call and locked by the second.
    unsafe {
        let buffer = read(relation, fork, block, strategy);
        pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as i32);
        SharedPage(Locked(buffer))
    }
}

/// Pins `block`, which the caller knows to exist, and waits for its exclusive lock.
///
/// # Safety
/// `relation` is open.
pub unsafe fn exclusive(
    relation: pg_sys::Relation,
    fork: pg_sys::ForkNumber::Type,
    block: u32,
    strategy: pg_sys::BufferAccessStrategy,
) -> ExclusiveBuffer {
    // SAFETY: as in `share`.
    unsafe {
        let buffer = read(relation, fork, block, strategy);
        pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_EXCLUSIVE as i32);
        ExclusiveBuffer(Locked(buffer))
    }
}

/// The same if nobody holds a lock on it; `None` leaves nothing pinned.
///
/// # Safety
/// `relation` is open.
pub unsafe fn try_exclusive(
    relation: pg_sys::Relation,
    fork: pg_sys::ForkNumber::Type,
    block: u32,
    strategy: pg_sys::BufferAccessStrategy,
) -> Option<ExclusiveBuffer> {
    // SAFETY: as in `share`; a pin without the lock is given back.
    unsafe {
        let buffer = read(relation, fork, block, strategy);
        if pg_sys::ConditionalLockBuffer(buffer) {
            return Some(ExclusiveBuffer(Locked(buffer)));
        }
        pg_sys::ReleaseBuffer(buffer);
        None
    }
}

impl Deref for SharedPage {
    type Target = [u8; PAGE];
    fn deref(&self) -> &[u8; PAGE] {
        // SAFETY: the buffer is pinned, so it keeps its page of BLCKSZ bytes, and share-locked, so
        // nobody changes it but for hints that this access method does not use.
        unsafe { &*self.0.page() }
    }
}

impl ExclusiveBuffer {
    /// Takes over a buffer that the caller has pinned and locked exclusively.
    ///
    /// # Safety
    /// It is, and nothing else releases it.
    pub unsafe fn adopt(buffer: pg_sys::Buffer) -> Self {
        Self(Locked(buffer))
    }

    /// The buffer's number, for the WAL functions.
    pub fn buffer(&self) -> pg_sys::Buffer {
        self.0.0
    }

    /// The block it holds.
    pub fn block(&self) -> u32 {
        // SAFETY: the buffer is pinned.
        unsafe { pg_sys::BufferGetBlockNumber(self.0.0) }
    }

    /// The page as others last saw it.
    pub fn page(&self) -> &[u8; PAGE] {
        // SAFETY: pinned and locked exclusively by this guard; changed only through `page_mut`.
        unsafe { &*self.0.page() }
    }

    /// The page itself, for the copy at the end of an action that needs no WAL.
    pub fn page_mut(&mut self) -> &mut [u8; PAGE] {
        // SAFETY: pinned and locked exclusively by this guard.
        unsafe { &mut *self.0.page() }
    }
}

impl Locked {
    fn page(&self) -> *mut [u8; PAGE] {
        // SAFETY: the buffer is pinned.
        unsafe { pg_sys::BufferGetPage(self.0).cast() }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: pinned and locked by this guard, and by nobody released before.
            unsafe { pg_sys::UnlockReleaseBuffer(self.0) }
        }
    }
}
