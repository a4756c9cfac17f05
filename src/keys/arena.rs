//! Memory for key bytes: locked, left out of core dumps, empty in a forked child, wiped slot by slot.
//!
//! A slot holds 32 bytes. Pages are added when all slots are taken and never given back, so a slot's address
//! stays good for the life of the backend; what changes is whether a key is in it.

use std::io;
use std::ptr::NonNull;

use pgrx::PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY;
use zeroize::Zeroize;

use crate::error::SqlError;

/// Bytes of a key.
pub const KEY_LEN: usize = 32;

/// Bytes mapped and locked at a time: 128 keys, one page on most machines.
const CHUNK_LEN: usize = 4096;

/// The place of one key. Not Clone: whoever holds it gives it back with [`Arena::wipe`].
#[derive(Debug)]
pub struct Slot(NonNull<[u8; KEY_LEN]>);

impl Slot {
    /// Where the key lies; readable for the life of the backend, all zero once the slot is wiped.
    pub fn as_ptr(&self) -> *const [u8; KEY_LEN] {
        self.0.as_ptr()
    }
}

/// All key memory of this backend.
pub struct Arena {
    chunks: Vec<NonNull<u8>>,
    free: Vec<NonNull<[u8; KEY_LEN]>>,
}

impl Arena {
    /// An arena that has mapped nothing yet.
    pub const fn new() -> Self {
        Self { chunks: Vec::new(), free: Vec::new() }
    }

    /// Whether the next key needs another page.
    pub fn is_full(&self) -> bool {
        self.free.is_empty()
    }

    /// Copies `key` into a slot of its own.
    ///
    /// # Errors
    /// When the kernel refuses to map, lock or protect another page. Nothing is kept unlocked instead.
    pub fn keep(&mut self, key: &[u8; KEY_LEN]) -> Result<Slot, SqlError> {
        if self.free.is_empty() {
            self.grow()?;
        }
        let place = self.free.pop().expect("grow adds slots or fails");
        // SAFETY: `place` came from the free list, so it lies in a live mapping and nobody else holds it.
        unsafe { place.as_ptr().write(*key) };
        Ok(Slot(place))
    }

    /// Overwrites the slot and takes it back.
    pub fn wipe(&mut self, slot: Slot) {
        // SAFETY: a Slot is the only owner of its place, which is mapped for the life of the backend.
        unsafe { (*slot.0.as_ptr()).zeroize() };
        self.free.push(slot.0);
    }

    /// Overwrites every page, whoever holds slots in it; for process exit.
    pub fn wipe_all(&mut self) {
        for chunk in &self.chunks {
            // SAFETY: each chunk is a live mapping of CHUNK_LEN bytes that only this arena hands out.
            unsafe { std::slice::from_raw_parts_mut(chunk.as_ptr(), CHUNK_LEN) }.zeroize();
        }
    }

    fn grow(&mut self) -> Result<(), SqlError> {
        let chunk = map_locked().map_err(|(what, error)| {
            SqlError::new(ERRCODE_OUT_OF_MEMORY, "could not set aside locked memory for keys")
                .detail(format!("{what} of {CHUNK_LEN} bytes failed: {error}."))
                .hint("Raise the server's limit on locked memory (LimitMEMLOCK= in a systemd unit, ulimit -l) to 64 kB or more.")
        })?;
        self.chunks.push(chunk);
        // Last slot first, so that keys fill a page from its start.
        self.free.extend((0..CHUNK_LEN / KEY_LEN).rev().map(|i| {
            // SAFETY: i * KEY_LEN + KEY_LEN <= CHUNK_LEN, so the place lies in the mapping, which is not null.
            unsafe { chunk.add(i * KEY_LEN).cast() }
        }));
        Ok(())
    }
}

/// An anonymous mapping with every protection on, or the call that failed. All or nothing.
fn map_locked() -> Result<NonNull<u8>, (&'static str, io::Error)> {
    // SAFETY: a fresh anonymous mapping, at an address the kernel chooses, replaces nothing.
    let address = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            CHUNK_LEN,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if address == libc::MAP_FAILED {
        return Err(("mmap", io::Error::last_os_error()));
    }
    // SAFETY: all three calls name exactly the mapping made above.
    let refused = unsafe {
        if libc::mlock(address, CHUNK_LEN) != 0 {
            Some("mlock")
        } else if libc::madvise(address, CHUNK_LEN, libc::MADV_DONTDUMP) != 0 {
            Some("madvise(MADV_DONTDUMP)")
        } else if libc::madvise(address, CHUNK_LEN, libc::MADV_WIPEONFORK) != 0 {
            Some("madvise(MADV_WIPEONFORK)")
        } else {
            None
        }
    };
    if let Some(call) = refused {
        let error = io::Error::last_os_error();
        // SAFETY: the mapping made above, to which nothing points yet.
        unsafe { libc::munmap(address, CHUNK_LEN) };
        return Err((call, error));
    }
    Ok(NonNull::new(address.cast()).expect("mmap does not map page zero"))
}

/// Forbids core dumps and debuggers of the same user from now on; cannot be undone in this process.
pub fn forbid_core_dumps() {
    // SAFETY: changes one flag of this process. It can only fail for an argument the kernel does not know.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
}
