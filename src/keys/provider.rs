//! Who keeps the KEK of a KMS-backed ring: finds the provider of a slot, so that the caller can ask it.
//!
//! Only `local` runs in the server. Any other is asked through the key agent: a backend never speaks to a key
//! service itself.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use pgrx::PgSqlErrorCode::*;
use pgrx::pg_sys;
use sealvec_core::Error;
use sealvec_core::keys::{KekProvider, RingRecord};
use sealvec_kms::{LocalProvider, RootKeyError, RootKeyFile};

use super::agent::AgentProvider;
use super::kms_slot::KmsSlot;
use crate::error::SqlError;
use crate::guc;

/// Lends the provider of `slot` to `ask`. May wait for a network, unless the slot is local.
///
/// # Errors
/// For `local`, whatever is wrong with the root-key file; else what the key agent reports: 58030 if the service is
/// not there, 58000 if it refuses, F0000 if something is not set up.
pub fn with<R>(slot: &KmsSlot, ask: impl FnOnce(&dyn KekProvider) -> R) -> Result<R, SqlError> {
    if slot.is_local() {
        let root = RootKeyFile::load(&root_key_file()?, &forbidden_dirs())?;
        return Ok(ask(&LocalProvider::new(root.expose())));
    }
    let provider = AgentProvider::new(slot);
    let asked = ask(&provider);
    provider.into_failure().map_or(Ok(asked), Err)
}

/// Moves the KEK of `ring` from one key service to another, or to the newest version of its key, without making another:
/// the service does it inside where it can. It is unwrapped once from where it went.
///
/// # Errors
/// As [`with`]; the ring is unchanged then.
pub fn move_kek(ring: &mut RingRecord, from: &KmsSlot, to: &KmsSlot) -> Result<sealvec_core::Result<()>, SqlError> {
    let provider = AgentProvider::new(to);
    let moved = ring
        .kek_envelope()
        .ok_or(Error::Bug("a client-held key ring has no envelope to move"))
        .and_then(|kek| provider.rewrap(from, kek.context(), kek.key_reference(), kek.wrapped()));
    let moved = moved.and_then(|(key_reference, wrapped)| ring.move_kek(&provider, &key_reference, wrapped));
    provider.into_failure().map_or(Ok(moved), Err)
}

/// Whether the root key can be read; says why not.
pub fn has_root_key() -> Result<(), SqlError> {
    RootKeyFile::load(&root_key_file()?, &forbidden_dirs())?;
    Ok(())
}

/// Makes the root key if there is none yet. Returns its file, and whether it was made.
pub fn init_root_key() -> Result<(PathBuf, bool), SqlError> {
    let path = root_key_file()?;
    if guc::local_root_key_file().is_empty() {
        // The default's own directory; any other is the administrator's to make.
        let dir = path.parent().expect("the default path has a directory");
        match fs::DirBuilder::new().mode(0o700).create(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(SqlError::new(
                    ERRCODE_IO_ERROR,
                    format!("could not make directory \"{}\": {error}", dir.display()),
                )
                .hint(
                    "Set sealvec.local_root_key_file to a file in a directory that only the server's user can write.",
                ));
            }
            _ => {}
        }
    }
    match RootKeyFile::create(&path, &forbidden_dirs()) {
        Ok(_) => Ok((path, true)),
        Err(RootKeyError::Exists(_)) => {
            RootKeyFile::load(&path, &forbidden_dirs())?;
            Ok((path, false))
        }
        Err(error) => Err(error.into()),
    }
}

/// `sealvec.local_root_key_file`, or `.sealvec/root.key` in the home directory of the user that the server runs as.
fn root_key_file() -> Result<PathBuf, SqlError> {
    let set = guc::local_root_key_file();
    if !set.is_empty() {
        return Ok(path_of(&set).to_owned());
    }
    home().map(|home| home.join(".sealvec/root.key")).ok_or_else(|| {
        SqlError::new(
            ERRCODE_CONFIG_FILE_ERROR,
            "the server's operating-system user has no home directory for the root key",
        )
        .hint("Set sealvec.local_root_key_file in postgresql.conf.")
    })
}

/// From the user database, not from HOME, which whoever starts the server sets.
fn home() -> Option<PathBuf> {
    // SAFETY: getpwuid returns null or a record that stays valid until the next such call in this one thread.
    unsafe {
        let user = libc::getpwuid(libc::geteuid());
        let home = (!user.is_null()).then(|| path_of(CStr::from_ptr((*user).pw_dir)).to_owned())?;
        home.is_absolute().then_some(home)
    }
}

/// What a base backup copies: the data directory, WAL kept elsewhere, tablespaces.
fn forbidden_dirs() -> Vec<PathBuf> {
    // SAFETY: set once at server start, before any backend runs.
    let data = path_of(unsafe { CStr::from_ptr(pg_sys::DataDir) }).to_owned();
    let tablespaces = fs::read_dir(data.join("pg_tblspc")).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut dirs: Vec<PathBuf> = tablespaces.collect();
    dirs.extend([data.join("pg_wal"), data]);
    dirs
}

fn path_of(path: &CStr) -> &Path {
    Path::new(OsStr::from_bytes(path.to_bytes()))
}
