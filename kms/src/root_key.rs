//! The root key of the `local` provider and the file it lies in.
//!
//! | line | bytes | meaning |
//! |---|---|---|
//! | 1 | `sealvec root key 1` | what this is, and its format version |
//! | 2 | `key ` and 64 hex digits | the root key |
//! | 3 | `id ` and 32 hex digits | its public id, `HKDF(root key, "local root id")[..16]`: a damaged or mistyped key is noticed |
//!
//! Lower-case hex, each line ended by one line feed, nothing before, between or after: 124 bytes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::process::geteuid;
use sealvec_core::crypto::kdf::{Deriver, Label};
use sealvec_core::keys::Kek;
use zeroize::Zeroizing;

use crate::trusted_path;

const HEADER: &[u8] = b"sealvec root key 1\n";
const HEADER_ANY: &[u8] = b"sealvec root key ";
const FILE_LEN: usize = HEADER.len() + "key \n".len() + 64 + "id \n".len() + 32;

/// Why a root-key file was refused. Never holds a byte of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootKeyError {
    /// The path is relative, has a `..`, or names no file.
    #[error("root-key file \"{}\": give an absolute path to a file, without \"..\"", .0.display())]
    Path(PathBuf),
    /// Nothing there.
    #[error("root-key file \"{}\" does not exist", .0.display())]
    Missing(PathBuf),
    /// Creating it would overwrite it.
    #[error("root-key file \"{}\" exists already", .0.display())]
    Exists(PathBuf),
    /// The operating system refused.
    #[error("root-key file \"{}\": could not {action}: {error}", .path.display())]
    Io {
        /// The file or the directory at fault.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// Its real path is inside the data directory or a tablespace, so a base backup would carry it.
    #[error("root-key file \"{}\" lies in \"{}\", which backups copy", .path.display(), .forbidden.display())]
    Forbidden {
        /// Real path of the file.
        path: PathBuf,
        /// The directory it may not lie in.
        forbidden: PathBuf,
    },
    /// The last component is a symbolic link.
    #[error("root-key file \"{}\" is a symbolic link", .0.display())]
    Symlink(PathBuf),
    /// A directory, device, socket or FIFO.
    #[error("root-key file \"{}\" is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// The same file has a second name somewhere.
    #[error("root-key file \"{}\" has {links} hard links, expected 1", .path.display())]
    HardLinks {
        /// The file.
        path: PathBuf,
        /// Its link count.
        links: u64,
    },
    /// Another user could rewrite it.
    #[error("root-key file \"{}\" belongs to user {owner}, expected {expected}, the server's", .path.display())]
    Owner {
        /// The file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who the server runs as.
        expected: u32,
    },
    /// Others can read or write it.
    #[error("root-key file \"{}\" has mode {mode:04o}, expected 0600: others can reach it", .path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Others could exchange it.
    #[error("directory \"{}\", on the way to the root-key file, {why}", .path.display())]
    Directory {
        /// The directory at fault.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Not a root-key file, or a damaged one.
    #[error("root-key file \"{}\" is damaged: {what}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Which part, never its bytes.
        what: &'static str,
    },
    /// A root-key file of a later release.
    #[error("root-key file \"{}\" has a format version that this build does not read; it reads version 1", .0.display())]
    Version(PathBuf),
    /// No random bytes from the kernel.
    #[error("could not draw a root key: {0}")]
    Random(sealvec_core::Error),
}

impl RootKeyError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Path(_) => "Set sealvec.local_root_key_file to such a path.",
            Self::Missing(_) => {
                "Run SELECT sealvec.init_root_key() once as superuser, or restore the file from where you keep it."
            }
            Self::Exists(_) => {
                "It is in use as it is. Never delete it: no key ring of provider \"local\" opens without it."
            }
            Self::Io { .. } => "Check the path, its permissions and the disk.",
            Self::Forbidden { .. } => "Keep it outside, in a directory that only the server's user can write.",
            Self::Symlink(_) => "Name the file itself.",
            Self::NotAFile(_) | Self::HardLinks { .. } => "Keep it as one plain file with one name.",
            Self::Owner { .. } => "chown it to the user that the server runs as.",
            Self::Mode { .. } => "chmod 0600 it. If others may have read it, change to a new root key.",
            Self::Directory { .. } => {
                "Every directory above it must exist, belong to root or the server's user and be writable by no one else."
            }
            Self::Malformed { .. } => "Restore it from where you keep it.",
            Self::Version(_) => "Upgrade sealvec.",
            Self::Random(_) => "Check the kernel's random generator.",
        }
    }
}

impl From<RootKeyError> for sealvec_core::Error {
    fn from(error: RootKeyError) -> Self {
        sealvec_core::Error::Provider(error.to_string())
    }
}

/// 32 random bytes that wrap the KEKs of every `local` ring. Not Clone; wiped on drop.
pub struct RootKey(Kek);

impl RootKey {
    /// The raw key, for the arena that keeps it.
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }

    /// Its public id: 32 hex digits.
    pub fn id(&self) -> String {
        Self::id_of(self.expose())
    }

    /// The public id of `root`.
    pub fn id_of(root: &[u8; 32]) -> String {
        let id = Deriver::new(root).derive(Label::LocalRootId, &[]);
        id[..16].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl std::fmt::Debug for RootKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RootKey({}, [redacted])", self.id())
    }
}

/// The file that holds a [`RootKey`].
pub enum RootKeyFile {}

impl RootKeyFile {
    /// Draws a root key and writes it to `path`: a new file of mode 0600 that is on disk, name and all, when this returns.
    ///
    /// It is refused wherever [`load`](Self::load) would refuse it.
    pub fn create(path: &Path, forbidden_dirs: &[PathBuf]) -> Result<RootKey, RootKeyError> {
        let (dir, name) = trusted_path::parent(path, forbidden_dirs).map_err(|error| match (error, path.parent()) {
            (RootKeyError::Missing(_), Some(dir)) => {
                RootKeyError::Directory { path: dir.to_owned(), why: "does not exist" }
            }
            (error, _) => error,
        })?;
        let root = RootKey(Kek::generate().map_err(RootKeyError::Random)?);
        let real = dir.join(name);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true) // O_CREAT | O_EXCL: follows no link, overwrites nothing
            .mode(0o600)
            .open(&real)
            .map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => RootKeyError::Exists(path.to_owned()),
                _ => io_error(path, "create it", error),
            })?;
        write_synced(&mut file, &encode(&root), &dir).map_err(|error| {
            // Nothing can have been wrapped under it yet; half a key would only stand in the way.
            let _ = fs::remove_file(&real);
            io_error(path, "write it", error)
        })?;
        Ok(root)
    }

    /// Reads the root key at `path`, if nobody but the server's user and root can have put it there or read it.
    ///
    /// The real path may not lie in one of `forbidden_dirs` (data directory, tablespaces). The file is a
    /// regular one, no symbolic link, with one name, of the server's user, mode 0600 or less. Each directory
    /// above it belongs to root or the server's user and is writable by nobody else. A sticky directory such
    /// as `/tmp` may stand further up, if the entry below it is root's or the server's, which nobody else can
    /// then rename; it may not hold the file itself.
    pub fn load(path: &Path, forbidden_dirs: &[PathBuf]) -> Result<RootKey, RootKeyError> {
        let (dir, name) = trusted_path::parent(path, forbidden_dirs)?;
        let real = dir.join(name);
        let link = fs::symlink_metadata(&real).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => RootKeyError::Missing(path.to_owned()),
            _ => io_error(path, "inspect it", error),
        })?;
        if link.is_symlink() {
            return Err(RootKeyError::Symlink(path.to_owned()));
        }
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32) // a FIFO must not hang the server
            .open(&real)
            .map_err(|error| io_error(path, "open it", error))?;
        check_file(path, &file)?;
        let mut bytes = Zeroizing::new([0; FILE_LEN + 1]);
        let len = read_all(&mut file, &mut bytes[..]).map_err(|error| io_error(path, "read it", error))?;
        decode(path, &bytes[..len])
    }
}

/// What is asked of the open file itself, so that nothing can be exchanged between check and use.
fn check_file(path: &Path, file: &File) -> Result<(), RootKeyError> {
    let meta = file.metadata().map_err(|error| io_error(path, "inspect it", error))?;
    let expected = geteuid().as_raw();
    if !meta.is_file() {
        return Err(RootKeyError::NotAFile(path.to_owned()));
    }
    if meta.uid() != expected {
        return Err(RootKeyError::Owner { path: path.to_owned(), owner: meta.uid(), expected });
    }
    if meta.mode() & 0o077 != 0 {
        return Err(RootKeyError::Mode { path: path.to_owned(), mode: meta.mode() & 0o7777 });
    }
    if meta.nlink() != 1 {
        return Err(RootKeyError::HardLinks { path: path.to_owned(), links: meta.nlink() });
    }
    Ok(())
}

fn write_synced(file: &mut File, bytes: &[u8], dir: &Path) -> io::Result<()> {
    file.set_permissions(fs::Permissions::from_mode(0o600))?; // an odd umask may have taken more away
    file.write_all(bytes)?;
    file.sync_all()?;
    File::open(dir)?.sync_all()
}

fn read_all(file: &mut File, out: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < out.len() {
        match file.read(&mut out[len..]) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

fn encode(root: &RootKey) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(FILE_LEN)); // never grows: growing would leave a copy
    out.extend_from_slice(HEADER);
    out.extend_from_slice(b"key ");
    for byte in root.expose() {
        out.extend([byte >> 4, byte & 15].map(hex_digit));
    }
    out.extend_from_slice(b"\nid ");
    out.extend_from_slice(root.id().as_bytes());
    out.push(b'\n');
    debug_assert_eq!(out.len(), FILE_LEN);
    out
}

fn decode(path: &Path, bytes: &[u8]) -> Result<RootKey, RootKeyError> {
    let malformed = |what| RootKeyError::Malformed { path: path.to_owned(), what };
    let Some(rest) = bytes.strip_prefix(HEADER) else {
        let line = bytes.split(|byte| *byte == b'\n').next().and_then(|line| line.strip_prefix(HEADER_ANY));
        let is_version = |number: &[u8]| {
            number != b"1" && number.len() <= 5 && !number.is_empty() && number.iter().all(u8::is_ascii_digit)
        };
        return Err(match line {
            Some(number) if is_version(number) => RootKeyError::Version(path.to_owned()),
            _ => malformed("line 1 is not \"sealvec root key 1\""),
        });
    };
    let digits = rest
        .strip_prefix(b"key ")
        .and_then(|rest| rest.split_at_checked(64))
        .and_then(|(digits, rest)| Some((digits, rest.strip_prefix(b"\n")?)));
    let (digits, rest) = digits.ok_or_else(|| malformed("line 2 is not \"key \" and 64 hex digits"))?;
    let mut key = Zeroizing::new([0; 32]);
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        let (Some(high), Some(low)) = (from_hex(pair[0]), from_hex(pair[1])) else {
            return Err(malformed("line 2 is not \"key \" and 64 hex digits"));
        };
        *byte = high << 4 | low;
    }
    let root = RootKey(Kek::from_slice(&key[..]).expect("32 bytes"));
    let id = rest.strip_prefix(b"id ").and_then(|rest| rest.split_at_checked(32));
    match id {
        None => Err(malformed("line 3 is not \"id \" and 32 hex digits")),
        Some((id, _)) if id != root.id().as_bytes() => {
            Err(malformed("the id in line 3 is not that of the key in line 2"))
        }
        Some((_, b"\n")) => Ok(root),
        Some(_) => Err(malformed("something other than a line feed follows the id")),
    }
}

fn hex_digit(value: u8) -> u8 {
    b"0123456789abcdef"[usize::from(value)]
}

fn from_hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

pub(crate) fn io_error(path: &Path, action: &'static str, error: io::Error) -> RootKeyError {
    RootKeyError::Io { path: path.to_owned(), action, error }
}
