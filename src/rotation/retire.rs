//! `retire_dek`: the end of one version of a data key, once nothing needs it any more.
//!
//! Three steps, each a transaction of its own:
//!
//! 1. *Mark*: refuse if anything is under the version now. Otherwise write down that it is about to go: from then on no value
//!    of it is taken from outside ([`crate::datatype`] asks), and nothing new was sealed under it since the rekey that made a
//!    newer one, except by sessions that have not heard of either.
//! 2. *Wait* for every transaction that was under way when the mark was committed: those are these sessions.
//! 3. *Finish*: count again, under a snapshot that keeps what is counted from being vacuumed meanwhile. A copy can only
//!    be made of what is there, so if nothing is, nothing comes. Then the version leaves the ring; else the mark does.
//!
//! A crash or a cancel between two steps leaves the mark, and the next call goes on. The ring is held while there is counting,
//! which waits for no lock for long ([`super::attempt`]), and by nobody who waits for transactions.
//!
//! By force it is one step, and what needs the version is told and lost.

use std::collections::BTreeSet;

use pgrx::PgSqlErrorCode::*;
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::reseal::in_transaction;
use super::usage::{self, Use};
use crate::audit::{self, Operation};
use crate::collections::call::required;
use crate::error::{OrRaise, SqlError};
use crate::keys::table::prevent_read_only;
use crate::keys::{self, RingInfo};
use crate::tell::{notice, tell};

/// `retire_mark(ring, version, kek)`: the first step.
#[pg_extern(sql = false)]
fn sealvec_retire_mark(ring: Option<&str>, version: Option<i32>, kek: Option<&[u8]>) {
    audit::call(Operation::RetireDek, ring, || {
        prevent_read_only();
        // SAFETY: reads the transaction's state.
        if unsafe { pg_sys::IsTransactionBlock() } {
            return Err(in_transaction("sealvec.retire_dek()"));
        }
        let version = read_version(version)?;
        let ring = keys::hold_for_change(ring)?;
        check_version(&ring, version)?;
        keys::check_kek(&ring.name, kek)?;
        let uses = uses_of(&ring, version)?;
        if !uses.is_empty() {
            if ring.retiring == Some(version) {
                return Ok(()); // what came since will be told when the mark is gone
            }
            return Err(in_use(&ring, version, &uses));
        }
        audit::note(format!("version {version} is about to be retired"));
        keys::set_retiring(ring.number, Some(version))
    })
    .or_raise()
}

/// `retire_wait(ring)`: the second step.
#[pg_extern(sql = false)]
fn sealvec_retire_wait(ring: Option<&str>) {
    (|| {
        let ring = keys::owned_ring(ring)?; // nobody else may make others wait
        // What this transaction has sealed nobody would wait for.
        // SAFETY: reads the transaction's state.
        if unsafe { pg_sys::IsTransactionBlock() } {
            return Err(SqlError::new(
                ERRCODE_ACTIVE_SQL_TRANSACTION,
                "sealvec.retire_wait() cannot run inside a transaction block",
            )
            .detail("What the transaction has sealed so far, others who wait would not wait for.")
            .hint("CALL sealvec.retire_dek(), of which it is a step."));
        }
        let _waiting = Waiting::begin(&ring)?;
        let mut count = 0;
        // SAFETY: an array of as many entries as it says, in the current memory context. Waiting takes a lock that each
        // transaction holds on itself, and may be cancelled. Transactions of VACUUM count, too: it may merge an index.
        unsafe {
            let all = pg_sys::GetCurrentVirtualXIDs(pg_sys::InvalidTransactionId, false, false, 0, &mut count);
            for i in 0..count as usize {
                let of = *all.add(i);
                if !Waiting::is(backend_of(&of)) {
                    pg_sys::VirtualXactLock(of, true);
                }
            }
        }
        Ok::<_, SqlError>(())
    })()
    .or_raise()
}

/// `retire_finish(ring, version, kek) → boolean`: the third step; false if something needs the version after all.
#[pg_extern(sql = false)]
fn sealvec_retire_finish(ring: Option<&str>, version: Option<i32>, kek: Option<&[u8]>) -> bool {
    audit::call(Operation::RetireDek, ring, || {
        let version = read_version(version)?;
        let ring = keys::hold_for_change(ring)?;
        if ring.versions.binary_search(&version).is_err() {
            return Ok(true); // another session was first
        }
        if ring.retiring != Some(version) {
            return Err(SqlError::new(
                ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!(
                    "version {version} of the data key of key ring \"{}\" is no longer about to be retired",
                    ring.name
                ),
            )
            .detail("Another session found it in use.")
            .hint("CALL sealvec.retire_dek() again."));
        }
        if !uses_of(&ring, version)?.is_empty() {
            keys::set_retiring(ring.number, None)?;
            audit::note(format!("version {version} is in use after all"));
            return Ok(false);
        }
        keys::remove_dek(&ring.name, version, kek)?;
        audit::note(format!("version {version} is retired"));
        notice!("version {version} of the data key of key ring \"{}\" is retired", ring.name);
        Ok(true)
    })
    .or_raise()
}

/// `retire_force(ring, version, kek)`: all at once, whatever needs it.
#[pg_extern(sql = false)]
fn sealvec_retire_force(ring: Option<&str>, version: Option<i32>, kek: Option<&[u8]>) {
    audit::call(Operation::RetireDek, ring, || {
        prevent_read_only();
        let version = read_version(version)?;
        let ring = keys::hold_for_change(ring)?;
        check_version(&ring, version)?;
        let mut lost = usage::users(&ring)?;
        keys::remove_dek(&ring.name, version, kek)?;
        lost.extend(usage::sealed(ring.number)?);
        retain(&mut lost, version);
        audit::note(format!("version {version} is retired by force"));
        let message = format!("version {version} of the data key of key ring \"{}\" is retired by force", ring.name);
        match lost.is_empty() {
            true => notice!("{message}; nothing was sealed under it"),
            false => {
                let told = SqlError::new(ERRCODE_WARNING, format!("{message}; what it sealed can no longer be read"))
                    .detail(format!("{}.", usage::told(&lost.iter().collect::<Vec<_>>())));
                tell(PgLogLevel::WARNING, &told);
            }
        }
        Ok(())
    })
    .or_raise()
}

/// `retire_refuse(ring, version)`: says why not, when the mark is gone.
#[pg_extern(sql = false)]
fn sealvec_retire_refuse(ring: Option<&str>, version: Option<i32>) {
    let refused = || -> Result<SqlError, SqlError> {
        let version = read_version(version)?;
        let ring = keys::owned_ring(ring)?;
        Ok(in_use(&ring, version, &uses_of(&ring, version)?))
    };
    refused().unwrap_or_else(|error| error).raise()
}

fn read_version(version: Option<i32>) -> Result<u32, SqlError> {
    let version = required(version, "version")?;
    u32::try_from(version).ok().filter(|version| *version > 0).ok_or_else(|| {
        SqlError::new(ERRCODE_INVALID_PARAMETER_VALUE, format!("versions of a data key count from 1, not {version}"))
    })
}

fn check_version(ring: &RingInfo, version: u32) -> Result<(), SqlError> {
    let name = &ring.name;
    if version == ring.dek_version {
        return Err(SqlError::new(
            ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("version {version} is the newest of the data key of key ring \"{name}\""),
        )
        .detail("What is written is sealed under it.")
        .hint("Start a newer one with sealvec.rekey(), and seal anew what is under this one with sealvec.reseal()."));
    }
    if ring.versions.binary_search(&version).is_err() {
        let versions: Vec<String> = ring.versions.iter().map(u32::to_string).collect();
        return Err(SqlError::new(
            ERRCODE_UNDEFINED_OBJECT,
            format!("key ring \"{name}\" has no version {version} of its data key"),
        )
        .detail(format!("It has {}.", versions.join(", "))));
    }
    match ring.retiring {
        Some(other) if other != version => Err(SqlError::new(
            ERRCODE_OBJECT_IN_USE,
            format!("version {other} of the data key of key ring \"{name}\" is being retired"),
        )
        .hint("CALL sealvec.retire_dek() for that version first: it goes on where it ended.")),
        _ => Ok(()),
    }
}

/// What needs the version, or may do so.
fn uses_of(ring: &RingInfo, version: u32) -> Result<Vec<Use>, SqlError> {
    let mut uses = usage::uses(ring)?;
    retain(&mut uses, version);
    Ok(uses)
}

fn retain(uses: &mut Vec<Use>, version: u32) {
    uses.retain(|found| found.version.is_none_or(|of| of == version));
}

fn in_use(ring: &RingInfo, version: u32, uses: &[Use]) -> SqlError {
    let error = SqlError::new(
        ERRCODE_OBJECT_IN_USE,
        format!("version {version} of the data key of key ring \"{}\" is still in use", ring.name),
    );
    if uses.is_empty() {
        return error
            .detail("Something used it while it was about to be retired, and does no more.")
            .hint("CALL it again.");
    }
    let told = usage::told(&uses.iter().collect::<Vec<_>>());
    let remedies: BTreeSet<&str> = uses.iter().map(Use::remedy).collect();
    let remedies: Vec<&str> = remedies.into_iter().collect();
    error.detail(format!("{told}.")).hint(remedies.join(" "))
}

/// This backend waits for the transactions of all others, for one ring, for which nobody else may. Two who wait for all others
/// would wait for each other, and who waits for ever, as a stranger may for a transaction of his own, is nobody's business: so
/// each passes over those who are at it. They mark themselves first and look then, so of two at least one sees the other.
/// Nothing is lost by it: the transaction of one who waits has begun for that.
struct Waiting {
    tags: [pg_sys::LOCKTAG; 2],
}

/// What the locks are on: numbers of rings, and of backends. 0 is the lock of [`keys::hold_for_change`].
const RINGS: u16 = 1;
const BACKENDS: u16 = 2;

impl Waiting {
    fn begin(ring: &RingInfo) -> Result<Self, SqlError> {
        let tags = [tag(RINGS, ring.number)?, tag(BACKENDS, own_backend())?];
        // SAFETY: a tag as SET_LOCKTAG_OBJECT makes it; the lock goes with the transaction at the latest.
        let ours = unsafe { pg_sys::LockAcquire(&tags[0], pg_sys::ExclusiveLock as pg_sys::LOCKMODE, false, true) };
        if ours == pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL {
            return Err(SqlError::new(
                ERRCODE_OBJECT_IN_USE,
                format!("another session is waiting to retire a data key of key ring \"{}\"", ring.name),
            )
            .hint("CALL sealvec.retire_dek() again when it is done: it goes on where it ended."));
        }
        // SAFETY: as above. Only who looks holds it beside us, and for a moment.
        unsafe { pg_sys::LockAcquire(&tags[1], pg_sys::ExclusiveLock as pg_sys::LOCKMODE, false, false) };
        Ok(Self { tags })
    }

    /// Whether this other backend is at it.
    fn is(backend: u32) -> bool {
        let Ok(tag) = tag(BACKENDS, backend) else { return false };
        let mode = pg_sys::ShareLock as pg_sys::LOCKMODE;
        // SAFETY: as above; taken for a look, and given back.
        unsafe {
            let taken = pg_sys::LockAcquire(&tag, mode, false, true);
            let is = taken == pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL;
            if !is {
                pg_sys::LockRelease(&tag, mode, false);
            }
            is
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            for tag in &self.tags {
                // SAFETY: taken in `begin`, given back once; when an ERROR is under way, abort does it instead.
                unsafe { pg_sys::LockRelease(tag, pg_sys::ExclusiveLock as pg_sys::LOCKMODE, false) };
            }
        }
    }
}

fn tag(of: u16, number: u32) -> Result<pg_sys::LOCKTAG, SqlError> {
    let class = keys::ring_table()?;
    // SAFETY: reads a variable of the backend.
    let database = unsafe { pg_sys::MyDatabaseId };
    Ok(pg_sys::LOCKTAG {
        locktag_field1: database.to_u32(),
        locktag_field2: class.to_u32(),
        locktag_field3: number,
        locktag_field4: of,
        locktag_type: pg_sys::LockTagType::LOCKTAG_OBJECT as u8,
        locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
    })
}

fn own_backend() -> u32 {
    // SAFETY: set once after fork.
    unsafe {
        #[cfg(any(feature = "pg15", feature = "pg16"))]
        let number = pg_sys::MyBackendId;
        #[cfg(not(any(feature = "pg15", feature = "pg16")))]
        let number = pg_sys::MyProcNumber;
        number as u32
    }
}

/// Whose transaction it is, as [`own_backend`] numbers them.
fn backend_of(transaction: &pg_sys::VirtualTransactionId) -> u32 {
    #[cfg(any(feature = "pg15", feature = "pg16"))]
    let number = transaction.backendId;
    #[cfg(not(any(feature = "pg15", feature = "pg16")))]
    let number = transaction.procNumber;
    number as u32
}
