//! Wakes an idle backend when the time of its keys is up, so that they go then and not at the next statement.
//!
//! No code of an extension runs in a backend that waits for its client, and a signal handler can't drop memory. But
//! Postgres has an idle backend run an empty transaction when others ask it to catch up with invalidations. The
//! handler asks for the same, and the end of that transaction closes what is due ([`session::at_end`]). A backend that
//! is busy does it after its statement.
//!
//! The timer is the kernel's and not one of Postgres's timeouts: those are all cancelled by any ERROR, and not every
//! ERROR reaches an extension. It repeats until the keys are gone, because a backend that idles inside a transaction
//! block runs no transaction for us.
//!
//! [`session::at_end`]: super::session::at_end

use std::cell::Cell;
use std::{io, mem, ptr};

use pgrx::PgSqlErrorCode::{ERRCODE_FEATURE_NOT_SUPPORTED, ERRCODE_INSUFFICIENT_RESOURCES};
use pgrx::pg_sys;

use super::backend::process_id;
use crate::error::SqlError;

/// How long after the first alarm the next ones come.
const AGAIN_S: i64 = 5;

/// The timer of one process; a forked child has none.
#[derive(Clone, Copy)]
struct Timer {
    id: libc::timer_t,
    pid: i32,
    /// When it goes off, in milliseconds of CLOCK_BOOTTIME; 0 if it is off.
    at_ms: u64,
}

thread_local! {
    static TIMER: Cell<Option<Timer>> = const { Cell::new(None) };
}

/// Sets the alarm to `at_ms` of CLOCK_BOOTTIME and every few seconds from then on, or turns it off.
///
/// # Errors
/// When the kernel refuses a timer.
pub fn set(at_ms: Option<u64>) -> Result<(), SqlError> {
    let at_ms = at_ms.unwrap_or(0);
    let timer = match TIMER.get().filter(|timer| timer.pid == process_id()) {
        Some(timer) => timer,
        None if at_ms == 0 => return Ok(()),
        None => Timer { id: create().map_err(refused)?, pid: process_id(), at_ms: 0 },
    };
    if timer.at_ms != at_ms {
        settime(timer.id, at_ms).map_err(refused)?;
    }
    TIMER.set(Some(Timer { at_ms, ..timer }));
    Ok(())
}

fn refused(error: io::Error) -> SqlError {
    SqlError::new(ERRCODE_INSUFFICIENT_RESOURCES, "could not set a timer for the time to live of keys")
        .detail(format!("The system said: {error}."))
        .hint("Raise the server's limit on pending signals (LimitSIGPENDING= in a systemd unit, ulimit -i).")
}

fn settime(timer: libc::timer_t, at_ms: u64) -> io::Result<()> {
    let seconds = |tv_sec| libc::timespec { tv_sec, tv_nsec: 0 };
    let at = libc::timespec { tv_sec: (at_ms / 1000) as i64, tv_nsec: (at_ms % 1000) as i64 * 1_000_000 };
    let times = libc::itimerspec { it_interval: seconds(if at_ms == 0 { 0 } else { AGAIN_S }), it_value: at };
    // SAFETY: a timer of this process; reads one itimerspec, and writes nothing where null is given.
    match unsafe { libc::timer_settime(timer, libc::TIMER_ABSTIME, &times, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A timer that signals this thread; its handler is in place before.
fn create() -> io::Result<libc::timer_t> {
    let signal = free_signal()?;
    // SAFETY: all-zero is a valid sigaction and sigevent. The handler is async-signal-safe and lives as long as the
    // library, which Postgres never unloads; the signal is one that nobody handles.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = alarm as extern "C" fn(libc::c_int) as usize;
        action.sa_flags = libc::SA_RESTART;
        if libc::sigaction(signal, &action, ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        let mut event: libc::sigevent = mem::zeroed();
        event.sigev_notify = libc::SIGEV_THREAD_ID; // never a thread of an index build
        event.sigev_signo = signal;
        event.sigev_notify_thread_id = libc::gettid();
        let mut timer: libc::timer_t = mem::zeroed();
        match libc::timer_create(libc::CLOCK_BOOTTIME, &mut event, &mut timer) {
            0 => Ok(timer),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// A real-time signal that has no handler in this process, or ours.
fn free_signal() -> io::Result<libc::c_int> {
    let ours = alarm as extern "C" fn(libc::c_int) as usize;
    (libc::SIGRTMIN()..=libc::SIGRTMAX())
        .rev()
        .find(|&signal| {
            // SAFETY: asks for one signal's action and changes nothing.
            unsafe {
                let mut action: libc::sigaction = mem::zeroed();
                libc::sigaction(signal, ptr::null(), &mut action) == 0
                    && [libc::SIG_DFL, ours].contains(&action.sa_sigaction)
            }
        })
        .ok_or_else(|| io::Error::other("every real-time signal is taken"))
}

/// The signal handler: leaves word for the main loop and wakes it. Touches no key and no memory of ours.
extern "C" fn alarm(_signal: libc::c_int) {
    // Without pgrx's guard, which may not run in a signal handler.
    unsafe extern "C" {
        fn HandleCatchupInterrupt();
    }
    // SAFETY: errno is this thread's; the function is what Postgres's own signal handler calls: it sets a flag and a latch.
    unsafe {
        let errno = *libc::__errno_location();
        HandleCatchupInterrupt();
        *libc::__errno_location() = errno;
    }
}

/// Asks every other backend of this database to look at invalidations once this transaction has committed and sent
/// its own: an idle one would see them when it is next used.
pub fn wake_others_after_commit() {
    WAKE.set(true);
    if !IS_REGISTERED.replace(true) {
        // SAFETY: the callback lives as long as the library, which Postgres never unloads.
        unsafe { pg_sys::RegisterResourceReleaseCallback(Some(resources_released), ptr::null_mut()) };
    }
}

/// Reports an error if this transaction would have to wake others at its end: COMMIT PREPARED calls nothing of ours,
/// perhaps in a session that never loaded us.
pub fn refuse_to_prepare() {
    if WAKE.get() {
        SqlError::new(
            ERRCODE_FEATURE_NOT_SUPPORTED,
            "cannot PREPARE a transaction that has changed key rings or grants on them",
        )
        .detail("Sessions that idle would keep their keys after COMMIT PREPARED.")
        .hint("COMMIT the change of key rings by itself.")
        .raise();
    }
}

thread_local! {
    static WAKE: Cell<bool> = const { Cell::new(false) };
    static IS_REGISTERED: Cell<bool> = const { Cell::new(false) };
}

/// The last of these calls at the end of a transaction comes after its invalidations were sent.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn resources_released(
    phase: pg_sys::ResourceReleasePhase::Type,
    is_commit: bool,
    is_top_level: bool,
    _arg: *mut std::ffi::c_void,
) {
    let is_end = phase == pg_sys::ResourceReleasePhase::RESOURCE_RELEASE_AFTER_LOCKS && is_top_level;
    if is_end && WAKE.replace(false) && is_commit {
        wake_others();
    }
}

fn wake_others() {
    // SAFETY: the array of processes is as long as it says and lives as long as the server. Its fields are read without
    // a lock: SendProcSignal finds out whether the process is still there, and a needless wake-up does no harm.
    unsafe {
        let all = &*pg_sys::ProcGlobal;
        for i in 0..all.allProcCount as usize {
            let process = all.allProcs.add(i);
            let (pid, database) = ((*process).pid, (*process).databaseId);
            if pid != 0 && pid != process_id() && database == pg_sys::MyDatabaseId {
                pg_sys::SendProcSignal(pid, pg_sys::ProcSignalReason::PROCSIG_CATCHUP_INTERRUPT, -1);
            }
        }
    }
}
