//! Where long work runs: threads, memory, progress and the user's cancel.

use std::ffi::c_char;
use std::time::{Duration, Instant};

use pgrx::pg_sys;
use pgrx::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use sealvec_core::ivf::{Phase, Work};

use crate::error::OrRaise;
use crate::keys::Lease;

/// Columns of `pg_stat_progress_create_index`, from commands/progress.h.
const PROGRESS_SUBPHASE: i32 = 10;
const PROGRESS_TUPLES_TOTAL: i32 = 11;
const PROGRESS_TUPLES_DONE: i32 = 12;

/// The longest time without a look at the user's cancel while threads compute.
const TICK: Duration = Duration::from_millis(100);

/// Number of a phase in `pg_stat_progress_create_index`; 1 is Postgres's own "initializing".
fn phase_number(phase: Phase) -> i64 {
    match phase {
        Phase::Loading => 2,
        Phase::Clustering => 3,
        Phase::Assigning => 4,
        Phase::Writing => 5,
    }
}

/// What `pg_stat_progress_create_index` calls a phase.
#[pg_guard]
pub unsafe extern "C-unwind" fn ambuildphasename(phase: i64) -> *mut c_char {
    let name = match phase {
        1 => c"initializing",
        2 => c"sealing rows",
        3 => c"clustering",
        4 => c"assigning rows to lists",
        5 => c"writing lists",
        _ => return std::ptr::null_mut(),
    };
    // SAFETY: the caller copies the name into a Datum; a palloc'ed string serves every version.
    unsafe { pg_sys::pstrdup(name.as_ptr()) }
}

/// Tells `pg_stat_progress_create_index`, if it shows this backend's command.
pub struct Progress {
    phase: i64,
    told: Instant,
}

impl Progress {
    /// Nothing told yet.
    pub fn new() -> Self {
        Self { phase: 0, told: Instant::now() }
    }

    /// Reports a phase, and within a phase at most ten times a second.
    pub fn tell(&mut self, phase: Phase, done: u64, total: u64) {
        let number = phase_number(phase);
        if number == self.phase && self.told.elapsed() < TICK {
            return;
        }
        // SAFETY: plain stores into this backend's status.
        unsafe {
            if number != self.phase {
                pg_sys::pgstat_progress_update_param(PROGRESS_SUBPHASE, number);
            }
            // While rows are loaded the heap scan itself reports blocks.
            if phase != Phase::Loading {
                pg_sys::pgstat_progress_update_param(PROGRESS_TUPLES_TOTAL, total as i64);
                pg_sys::pgstat_progress_update_param(PROGRESS_TUPLES_DONE, done as i64);
            }
        }
        (self.phase, self.told) = (number, Instant::now());
    }
}

/// Reports that the heap scan of a build begins, which itself reports blocks.
pub fn tell_loading() {
    Progress::new().tell(Phase::Loading, 0, 0);
}

/// `maintenance_work_mem` in bytes.
pub fn memory_bytes() -> usize {
    // SAFETY: a GUC of this backend.
    let kilobytes = unsafe { pg_sys::maintenance_work_mem };
    usize::try_from(kilobytes).expect("the GUC's lower bound is positive") << 10
}

/// Runs `f` with threads, progress, cancel and an eye on its key ring: CREATE INDEX, REINDEX, `train`.
pub fn with_threads<R>(lease: &mut Lease, f: impl FnOnce(&mut Work<'_>) -> R) -> R {
    with_pool(|pool| {
        let mut progress = Progress::new();
        let tell = |phase, done, total| {
            lease.renew().or_raise();
            progress.tell(phase, done, total);
        };
        work(pool, tell, f)
    })
}

/// Runs `f` for a command that is no maintenance and shows its own progress: an insert's share of the merge, VACUUM's.
/// With threads only if it is `heavy`: they take longer to start than a small step.
pub fn on_the_way<R>(heavy: bool, f: impl FnOnce(&mut Work<'_>) -> R) -> R {
    match heavy {
        true => with_pool(|pool| work(pool, |_, _, _| {}, f)),
        false => work(None, |_, _, _| {}, f),
    }
}

fn work<R>(pool: Option<&ThreadPool>, mut tell: impl FnMut(Phase, u64, u64), f: impl FnOnce(&mut Work<'_>) -> R) -> R {
    f(&mut Work {
        pool,
        memory_bytes: memory_bytes(),
        tick: &mut |phase, done, total| {
            pgrx::check_for_interrupts!();
            tell(phase, done, total);
            Ok(())
        },
    })
}

/// Runs `f` beside a pool of as many threads as `max_parallel_maintenance_workers` and the machine allow;
/// none if that is one, or if they can't be had.
///
/// Threads are born with every signal blocked, because Postgres's handlers must run on its own thread, and
/// are joined before this returns. They do arithmetic only; pgrx panics if one calls the server.
fn with_pool<R>(f: impl FnOnce(Option<&ThreadPool>) -> R) -> R {
    // SAFETY: a GUC of this backend.
    let allowed = 1 + usize::try_from(unsafe { pg_sys::max_parallel_maintenance_workers }).unwrap_or(0);
    let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(allowed));
    if threads == 1 {
        return f(None);
    }
    let mut f = Some(f);
    let builder = ThreadPoolBuilder::new().num_threads(threads).thread_name(|n| format!("sealvec {n}"));
    let blocked = SignalsBlocked::new();
    let result = builder.build_scoped(
        |thread| thread.run(),
        |pool| {
            drop(blocked);
            f.take().expect("called once")(Some(pool))
        },
    );
    match result {
        Ok(result) => result,
        Err(_) => f.take().expect("the pool was not built")(None),
    }
}

/// Every signal blocked on this thread, until dropped.
struct SignalsBlocked(libc::sigset_t);

impl SignalsBlocked {
    fn new() -> Self {
        // SAFETY: both sets are plain data that the calls fill.
        unsafe {
            let (mut all, mut before) = (std::mem::zeroed(), std::mem::zeroed());
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
            Self(before)
        }
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: the set that was in force before.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
    }
}
