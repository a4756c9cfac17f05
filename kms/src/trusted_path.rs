//! Whether a directory can be trusted to hold a key: nobody but root and the server's user may change the way to it.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rustix::process::geteuid;

use crate::root_key::{RootKeyError, io_error};

const STICKY: u32 = 0o1000;
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// The real directory of `path` and the file's name in it, once both ways there have been checked: the one
/// as written (whoever can change it could point elsewhere) and the one with links resolved.
pub(crate) fn parent<'a>(path: &'a Path, forbidden_dirs: &[PathBuf]) -> Result<(PathBuf, &'a OsStr), RootKeyError> {
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    let (Some(dir), Some(name), true) = (path.parent(), path.file_name(), plain && path.is_absolute()) else {
        return Err(RootKeyError::Path(path.to_owned()));
    };
    if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return Err(RootKeyError::Path(path.to_owned()));
    }
    let real = fs::canonicalize(dir).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => RootKeyError::Missing(path.to_owned()),
        _ => io_error(dir, "resolve its directory", error),
    })?;
    check_way(dir)?;
    check_way(&real)?;
    check_forbidden(&real, name, forbidden_dirs)?;
    Ok((real, name))
}

/// Every directory from the root down to `dir`.
fn check_way(dir: &Path) -> Result<(), RootKeyError> {
    let ours = |meta: &Metadata| meta.uid() == 0 || meta.uid() == geteuid().as_raw();
    let mut below: Option<&Path> = None; // the entry of the directory that leads on
    for step in dir.ancestors() {
        let refuse = |why| Err(RootKeyError::Directory { path: step.to_owned(), why });
        let meta = fs::metadata(step).map_err(|error| io_error(step, "inspect a directory above it", error))?;
        if !meta.is_dir() {
            return refuse("is not a directory");
        }
        if !ours(&meta) {
            return refuse("belongs to another user");
        }
        if meta.mode() & WRITABLE_BY_OTHERS != 0 {
            let Some(entry) = below.filter(|_| meta.mode() & STICKY != 0) else {
                return refuse("is writable by others");
            };
            // Sticky: only the owner of an entry, of the directory, and root can rename or remove it.
            let entry =
                fs::symlink_metadata(entry).map_err(|error| io_error(step, "inspect a directory above it", error))?;
            if !ours(&entry) {
                return refuse("is writable by others");
            }
        }
        below = Some(step);
    }
    Ok(())
}

/// By name and by inode, so that a bind mount of the data directory is recognised too.
fn check_forbidden(real: &Path, name: &OsStr, forbidden_dirs: &[PathBuf]) -> Result<(), RootKeyError> {
    for forbidden in forbidden_dirs {
        let refused = || RootKeyError::Forbidden { path: real.join(name), forbidden: forbidden.clone() };
        let resolved = match fs::canonicalize(forbidden) {
            Ok(resolved) => resolved,
            // It holds nothing, so the file is not in it; but it may come back, so its name still counts.
            Err(error) if error.kind() == io::ErrorKind::NotFound => forbidden.clone(),
            Err(error) => return Err(io_error(forbidden, "resolve a directory that it may not lie in", error)),
        };
        if real.starts_with(&resolved) {
            return Err(refused());
        }
        let Ok(inside) = fs::metadata(&resolved) else { continue };
        for step in real.ancestors() {
            let meta = fs::metadata(step).map_err(|error| io_error(step, "inspect a directory above it", error))?;
            if (meta.dev(), meta.ino()) == (inside.dev(), inside.ino()) {
                return Err(refused());
            }
        }
    }
    Ok(())
}
