//! Pages of shared memory, each claimed by the first backend that needs it.
//!
//! Out of the slack that Postgres leaves for this in its shared memory, so the extension need not be preloaded; where it is, it
//! asks for its own. A page is gone with the postmaster, and after a crash of a backend, which makes the postmaster begin anew.

use std::ffi::CStr;
use std::mem::size_of;
use std::panic::AssertUnwindSafe;
use std::sync::OnceLock;

use pgrx::pg_sys;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;

/// Place of AddinShmemInitLock in the main array: a macro in `lwlocknames.h`, the same from Postgres 15 to 18.
const ADDIN_SHMEM_INIT_LOCK: usize = 21;

/// Postgres gives shared memory in lines of the cache.
const LINE_LEN: usize = 128;

/// A page: its lock, and what the lock guards.
#[repr(C)]
pub struct Shared<T> {
    lock: pg_sys::LWLock,
    tranche: i32,
    content: T,
}

impl<T> Shared<T> {
    /// Bytes that it takes of the shared memory.
    pub const LEN: usize = size_of::<Self>().next_multiple_of(LINE_LEN);

    /// Lends what the page holds under its lock. `f` must not raise errors; in a shared lock it only reads.
    ///
    /// # Safety
    /// `page` came from [`claim`].
    pub unsafe fn locked<R>(page: *mut Self, mode: pg_sys::LWLockMode::Type, f: impl FnOnce(&mut T) -> R) -> R {
        // SAFETY: the page lives as long as this process, and its lock was initialised. Postgres releases it with the transaction,
        // should anything raise an error. The reference lives under the lock.
        unsafe {
            pg_sys::LWLockAcquire(&raw mut (*page).lock, mode);
            let result = f(&mut (*page).content);
            pg_sys::LWLockRelease(&raw mut (*page).lock);
            result
        }
    }
}

/// The page of that name, all zero if this is the first backend that asks.
///
/// # Errors
/// The ERROR of Postgres if it has no memory left. The lock that all extensions share for this is released before.
///
/// # Safety
/// All-zero bytes are a value of `T`, and each page of this name holds a `T` of this layout.
pub unsafe fn claim<T>(name: &'static CStr, tranche: &'static CStr) -> Result<*mut Shared<T>, Box<CaughtError>> {
    // SAFETY: what the loaders of shared memory do in Postgres's own extensions: under this lock, one backend finds the
    // page not there and makes it whole before it lets go. The caller answers for zeros.
    unsafe {
        let lock = &raw mut (*pg_sys::MainLWLockArray.add(ADDIN_SHMEM_INIT_LOCK)).lock;
        let mut found = false;
        pg_sys::LWLockAcquire(lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
        let init = AssertUnwindSafe(|| {
            Ok(pg_sys::ShmemInitStruct(name.as_ptr(), size_of::<Shared<T>>(), &mut found).cast::<Shared<T>>())
        });
        let page = PgTryBuilder::new(init)
            .catch_others(|error| {
                pg_sys::InterruptHoldoffCount += 1; // the ERROR has set it to 0, and the release counts it down
                Err(Box::new(error))
            })
            .execute();
        if let Ok(page) = page
            && !found
        {
            page.write_bytes(0, 1);
            (*page).tranche = pg_sys::LWLockNewTrancheId();
            pg_sys::LWLockInitialize(&raw mut (*page).lock, (*page).tranche);
        }
        // Whoever tells of the failure may look for a page, too, and one who waits for a lock that he holds waits for ever.
        pg_sys::LWLockRelease(lock);
        let page = page?;
        pg_sys::LWLockRegisterTranche((*page).tranche, tranche.as_ptr()); // each process keeps its own names
        Ok(page)
    }
}

/// What the postmaster is to do where it loads the library.
struct Early {
    len: usize,
    claim: fn(),
    ask_before: pg_sys::shmem_request_hook_type,
    begin_before: pg_sys::shmem_startup_hook_type,
}

static EARLY: OnceLock<Early> = OnceLock::new();

/// Called from `_PG_init`: where the postmaster loads the library, `len` bytes come on top of what Postgres has to spare, and
/// `claim` takes them before anybody else does; again after a crash.
pub fn request(len: usize, claim: fn()) {
    // SAFETY: a flag and two hooks of Postgres, in its one thread; what was there before is called first. The library is never
    // unloaded.
    unsafe {
        if pg_sys::process_shared_preload_libraries_in_progress {
            let (ask_before, begin_before) = (pg_sys::shmem_request_hook, pg_sys::shmem_startup_hook);
            if EARLY.set(Early { len, claim, ask_before, begin_before }).is_ok() {
                pg_sys::shmem_request_hook = Some(ask);
                pg_sys::shmem_startup_hook = Some(begin);
            }
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn ask() {
    let Some(early) = EARLY.get() else { return };
    // SAFETY: called by Postgres when shared memory may be asked for, as the hook before it.
    unsafe {
        if let Some(before) = early.ask_before {
            before();
        }
        pg_sys::RequestAddinShmemSpace(early.len);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn begin() {
    let Some(early) = EARLY.get() else { return };
    if let Some(before) = early.begin_before {
        // SAFETY: called by Postgres when shared memory is there, as the hook before it.
        unsafe { before() };
    }
    (early.claim)();
}
