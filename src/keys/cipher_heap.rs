//! The heap of the cryptography library: its key schedules begin with the keys themselves.
//!
//! Left out of core dumps, locked into memory up to half of the system's limit, cleansed piece by piece when it is freed. Beyond
//! that a schedule may reach swap: there can be thousands of them, and a server whose limit is low shall not stop. The other half is
//! for keys that must not (`arena`); a limit of some 64 kB is theirs alone.
//! Not emptied in a forked child, as the arena is: the library keeps more here than keys. No server process forks while it
//! has a key.

use std::cell::RefCell;
use std::ffi::{c_char, c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::tell::warning;

/// Bytes mapped at a time.
const CHUNK_LEN: usize = 64 * 1024;
/// A limit on locked memory up to which none of it is taken here.
const LOW_LIMIT: usize = 128 * 1024;
/// In front of each piece: its size, whether it is locked if it has a mapping of its own, and the alignment that malloc gives.
const FRONT_LEN: usize = 16;
/// Pieces are of 64 bytes, 128, … up to this, front included; a larger one has a mapping of its own.
const SMALL_MAX: usize = 64 << (CLASSES - 1);
const CLASSES: usize = 8;

/// Free pieces by size, and what of the last chunk was never given out.
struct Heap {
    free: [*mut c_void; CLASSES],
    rest: *mut u8,
    rest_len: usize,
    /// Bytes that may still be locked; `None` until the system is asked.
    lockable: Option<usize>,
}

// SAFETY: the pointers are to mappings that live as long as the process, and whoever uses them holds the lock.
unsafe impl Send for Heap {}

static HEAP: Mutex<Heap> =
    Mutex::new(Heap { free: [ptr::null_mut(); CLASSES], rest: ptr::null_mut(), rest_len: 0, lockable: None });

/// Pieces of a size that a thread keeps at hand: threads of an index build would wait for each other at the lock.
const NEAR: usize = 8;

/// Free pieces of one thread, by size.
struct Near([(usize, [*mut u8; NEAR]); CLASSES]);

thread_local! {
    static NEAR_PIECES: RefCell<Near> = const { RefCell::new(Near([(0, [ptr::null_mut(); NEAR]); CLASSES])) };
}

impl Near {
    fn pop(&mut self, class: usize) -> Option<*mut u8> {
        let (count, pieces) = &mut self.0[class];
        *count = count.checked_sub(1)?;
        Some(pieces[*count])
    }

    /// False if there are enough.
    fn push(&mut self, class: usize, place: *mut u8) -> bool {
        let (count, pieces) = &mut self.0[class];
        let Some(free) = pieces.get_mut(*count) else { return false };
        *free = place;
        *count += 1;
        true
    }
}

impl Drop for Near {
    fn drop(&mut self) {
        let mut heap = heap();
        for class in 0..CLASSES {
            while let Some(place) = self.pop(class) {
                heap.give_back(class, place);
            }
        }
    }
}

/// What `f` does with the thread's pieces; `None` when the thread ends.
fn near<R>(f: impl FnOnce(&mut Near) -> R) -> Option<R> {
    NEAR_PIECES.try_with(|near| f(&mut near.borrow_mut())).ok()
}

/// Gives the library this heap, before it has used any other. A server process calls it once, as the library is loaded.
pub fn install() {
    // SAFETY: three functions that allocate, grow and free as the library expects; they live as long as the process.
    // It takes them once, and from then on for all that it allocates, which is nothing so far.
    let taken = unsafe { aws_lc_sys::CRYPTO_set_mem_functions(Some(allocate), Some(reallocate), Some(release)) };
    if taken != 1 {
        warning!("the cryptography library keeps its own heap: key schedules may reach swap and core dumps");
    }
}

unsafe extern "C" fn allocate(len: usize, _file: *const c_char, _line: c_int) -> *mut c_void {
    take(len).map_or(ptr::null_mut(), |piece| piece.as_ptr().cast())
}

unsafe extern "C" fn reallocate(old: *mut c_void, len: usize, file: *const c_char, line: c_int) -> *mut c_void {
    let Some(piece) = NonNull::new(old.cast::<u8>()) else {
        // SAFETY: no memory is read or written.
        return unsafe { allocate(len, file, line) };
    };
    let Some(new) = take(len) else { return ptr::null_mut() };
    // SAFETY: both are pieces of this heap, apart from each other, and as long as their fronts say.
    unsafe {
        ptr::copy_nonoverlapping(piece.as_ptr(), new.as_ptr(), room(piece).min(len));
        give_back(piece);
    }
    new.as_ptr().cast()
}

unsafe extern "C" fn release(old: *mut c_void, _file: *const c_char, _line: c_int) {
    if let Some(piece) = NonNull::new(old.cast::<u8>()) {
        // SAFETY: the library frees what `allocate` gave it, once.
        unsafe { give_back(piece) };
    }
}

fn heap() -> MutexGuard<'static, Heap> {
    HEAP.lock().unwrap_or_else(PoisonError::into_inner) // nothing in here panics
}

/// The size class of a piece of `size` bytes, front included.
fn class_of(size: usize) -> usize {
    (size.max(64).next_power_of_two() / 64).trailing_zeros() as usize
}

/// A piece of at least `len` bytes behind its front.
fn take(len: usize) -> Option<NonNull<u8>> {
    let size = len.checked_add(FRONT_LEN)?;
    let (place, size) = match size <= SMALL_MAX {
        true => {
            let class = class_of(size);
            let place = near(|near| near.pop(class)).flatten();
            (place.or_else(|| heap().take(class))?, 64 << class)
        }
        false => {
            let size = size.checked_next_multiple_of(4096)?;
            let (place, is_locked) = heap().map(size)?;
            // SAFETY: a fresh mapping, longer than the front.
            unsafe { place.cast::<usize>().add(1).write(is_locked.into()) };
            (place, size)
        }
    };
    // SAFETY: `size` bytes that nobody else has, at least as long as the front.
    unsafe {
        place.cast::<usize>().write(size);
        NonNull::new(place.add(FRONT_LEN))
    }
}

/// Bytes of a piece behind its front.
///
/// # Safety
/// `piece` came from [`take`] and was not given back.
unsafe fn room(piece: NonNull<u8>) -> usize {
    // SAFETY: the front lies there.
    unsafe { piece.as_ptr().sub(FRONT_LEN).cast::<usize>().read() - FRONT_LEN }
}

/// Cleanses a piece and takes it back.
///
/// # Safety
/// As [`room`]; nobody uses it any more.
unsafe fn give_back(piece: NonNull<u8>) {
    // SAFETY: the whole piece, front included, is nobody's else. No compiler leaves the zeros out: the memory goes to the
    // kernel, or stays within reach of whoever takes it next.
    unsafe {
        let size = room(piece) + FRONT_LEN;
        let place = piece.as_ptr().sub(FRONT_LEN);
        let is_locked = place.cast::<usize>().add(1).read() != 0;
        place.write_bytes(0, size);
        match size <= SMALL_MAX {
            true => {
                let class = class_of(size);
                if near(|near| near.push(class, place)) != Some(true) {
                    heap().give_back(class, place);
                }
            }
            false => {
                libc::munmap(place.cast(), size);
                if is_locked && let Some(left) = &mut heap().lockable {
                    *left += size;
                }
            }
        }
    }
}

/// Bytes of locked memory that this heap may take of what the system lets the process have.
fn lockable() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: fills the value that it is given.
    match unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) } {
        0 if limit.rlim_cur == libc::RLIM_INFINITY => usize::MAX,
        0 => Some(limit.rlim_cur as usize).filter(|&limit| limit > LOW_LIMIT).map_or(0, |limit| limit / 2),
        _ => 0,
    }
}

impl Heap {
    fn take(&mut self, class: usize) -> Option<*mut u8> {
        let size = 64 << class;
        let free = self.free[class];
        if !free.is_null() {
            // SAFETY: a free piece begins with the address of the next one; it is given out clean.
            unsafe {
                self.free[class] = free.cast::<*mut c_void>().read();
                free.cast::<*mut c_void>().write(ptr::null_mut());
            }
            return Some(free.cast());
        }
        if self.rest_len < size {
            (self.rest, _) = self.map(CHUNK_LEN)?; // what is left of the last chunk is left for good
            self.rest_len = CHUNK_LEN;
        }
        let place = self.rest;
        // SAFETY: at least `size` bytes are left from there.
        self.rest = unsafe { place.add(size) };
        self.rest_len -= size;
        Some(place)
    }

    fn give_back(&mut self, class: usize, place: *mut u8) {
        // SAFETY: a piece of at least 64 bytes that nobody else has.
        unsafe { place.cast::<*mut c_void>().write(self.free[class]) };
        self.free[class] = place.cast();
    }

    /// Fresh memory that no core dump has, and whether it is locked.
    fn map(&mut self, len: usize) -> Option<(*mut u8, bool)> {
        // SAFETY: a fresh anonymous mapping, at an address the kernel chooses, replaces nothing; the other calls name
        // exactly it.
        unsafe {
            let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            let address = libc::mmap(ptr::null_mut(), len, access, kind, -1, 0);
            if address == libc::MAP_FAILED {
                return None;
            }
            if libc::madvise(address, len, libc::MADV_DONTDUMP) != 0 {
                libc::munmap(address, len);
                return None;
            }
            let left = self.lockable.get_or_insert_with(lockable);
            let mut is_locked = false;
            if len <= *left {
                is_locked = libc::mlock(address, len) == 0;
                // Refused, it is not asked again.
                *left = if is_locked { *left - len } else { 0 };
            }
            Some((address.cast(), is_locked))
        }
    }
}
