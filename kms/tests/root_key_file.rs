//! The root-key file is written once, read strictly, and refused wherever somebody else could have had a hand in it.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use sealvec_kms::{RootKey, RootKeyError, RootKeyFile};

/// A private directory and a path in it.
fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
    let path = dir.path().join("root.key");
    (dir, path)
}

fn load(path: &Path) -> Result<RootKey, RootKeyError> {
    RootKeyFile::load(path, &[])
}

fn write(path: &Path, bytes: &[u8]) {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path).unwrap();
    file.set_permissions(Permissions::from_mode(0o600)).unwrap();
    file.write_all(bytes).unwrap();
}

/// A file of format version 1; the id was computed with another implementation of HKDF.
const GOLDEN: &str = "sealvec root key 1\n\
    key 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n\
    id bb42930118ac70d41eeb30768ea1153f\n";

#[test]
fn created_key_loads_again() {
    let (_dir, path) = place();
    let created = RootKeyFile::create(&path, &[]).unwrap();
    let loaded = load(&path).unwrap();
    assert_eq!(created.expose(), loaded.expose());
    assert_ne!(loaded.expose(), &[0; 32]);
    let meta = fs::metadata(&path).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.len()), (0o600, 124));
}

#[test]
fn nothing_is_overwritten() {
    let (dir, path) = place();
    write(&path, b"precious");
    assert!(matches!(RootKeyFile::create(&path, &[]), Err(RootKeyError::Exists(_))));
    assert_eq!(fs::read(&path).unwrap(), b"precious");

    // Nor is a file made through a dangling link.
    let link = dir.path().join("link");
    symlink(dir.path().join("elsewhere"), &link).unwrap();
    assert!(matches!(RootKeyFile::create(&link, &[]), Err(RootKeyError::Exists(_))));
    assert!(!dir.path().join("elsewhere").exists());
}

#[test]
fn golden_file_loads() {
    let (_dir, path) = place();
    write(&path, GOLDEN.as_bytes());
    let expected: Vec<u8> = (0..32).collect();
    assert_eq!(load(&path).unwrap().expose()[..], expected);
}

#[test]
fn damaged_files_are_refused_without_showing_them() {
    let (_dir, path) = place();
    let flip = |at: usize| {
        let mut bytes = GOLDEN.as_bytes().to_vec();
        bytes[at] ^= 1;
        bytes
    };
    let mut rows: Vec<(Vec<u8>, &str)> = vec![
        (b"".to_vec(), "line 1"),
        (b"\n".to_vec(), "line 1"),
        (vec![0; 32], "line 1"),
        (vec![0xff; 200], "line 1"),
        (GOLDEN.replace('\n', "\r\n").into_bytes(), "line 1"),
        (GOLDEN.replace("root key 1", "root key one").into_bytes(), "line 1"),
        (GOLDEN.replace("key 0001", "key  001").into_bytes(), "line 2"),
        (GOLDEN.replace("key 00", "key 0").into_bytes(), "line 2"),
        (GOLDEN.replace("key 00", "key 000").into_bytes(), "line 2"),
        (GOLDEN.replace("0a0b", "0A0B").into_bytes(), "line 2"),
        (GOLDEN.replace("1e1f\nid", "1e1f id").into_bytes(), "line 2"),
        (flip(23), "line 3"), // a digit of the key
        (flip(96), "line 3"), // a digit of the id
        (format!("{GOLDEN}\n").into_bytes(), "follows the id"),
        (format!("{GOLDEN}# comment").into_bytes(), "follows the id"),
        (GOLDEN.trim_end().as_bytes().to_vec(), "follows the id"),
    ];
    rows.extend((0..GOLDEN.len()).map(|len| (GOLDEN.as_bytes()[..len].to_vec(), "damaged")));
    for (bytes, part) in rows {
        write(&path, &bytes);
        let error = load(&path).unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(matches!(error, RootKeyError::Malformed { .. }) && text.contains(part), "{text}");
        assert!(!text.contains("0001") && !text.contains("1e1f"), "{text}");
    }
    write(&path, GOLDEN.replace("key 1\n", "key 2\n").as_bytes());
    assert!(matches!(load(&path), Err(RootKeyError::Version(_))));
}

#[test]
fn others_may_not_reach_it() {
    let (_dir, path) = place();
    RootKeyFile::create(&path, &[]).unwrap();
    for mode in [0o640, 0o604, 0o620, 0o602, 0o610, 0o644, 0o666, 0o777] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        assert!(matches!(load(&path), Err(RootKeyError::Mode { mode: found, .. }) if found == mode), "{mode:o}");
    }
    for mode in [0o600, 0o400] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        assert!(load(&path).is_ok(), "{mode:o}");
    }
}

#[test]
fn links_are_refused() {
    let (dir, path) = place();
    RootKeyFile::create(&path, &[]).unwrap();
    let link = dir.path().join("link");
    symlink(&path, &link).unwrap();
    assert!(matches!(load(&link), Err(RootKeyError::Symlink(_))));
    let second = dir.path().join("second");
    fs::hard_link(&path, &second).unwrap();
    assert!(matches!(load(&path), Err(RootKeyError::HardLinks { links: 2, .. })));
    fs::remove_file(&second).unwrap();
    assert!(load(&path).is_ok());
}

#[test]
fn only_a_regular_file_will_do() {
    let (dir, path) = place();
    assert!(matches!(load(&path), Err(RootKeyError::Missing(_))));
    // Named is the file, which is missed, and when one is to be made the directory, which nobody else makes.
    let nowhere = dir.path().join("none/root.key");
    assert!(matches!(load(&nowhere), Err(RootKeyError::Missing(path)) if path == nowhere));
    let made = RootKeyFile::create(&nowhere, &[]);
    assert!(matches!(made, Err(RootKeyError::Directory { path, .. }) if path == dir.path().join("none")));
    fs::create_dir(&path).unwrap();
    assert!(matches!(load(&path), Err(RootKeyError::NotAFile(_))));
    let fifo = dir.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    assert!(matches!(load(&fifo), Err(RootKeyError::NotAFile(_))), "and it does not hang");
}

#[test]
fn paths_are_absolute_and_plain() {
    for path in ["root.key", "./root.key", "/", "", "/tmp/../tmp/root.key", "/tmp/root.key/", "/tmp/.."] {
        assert!(matches!(load(Path::new(path)), Err(RootKeyError::Path(_))), "{path}");
        assert!(matches!(RootKeyFile::create(Path::new(path), &[]), Err(RootKeyError::Path(_))), "{path}");
    }
}

#[test]
fn directories_that_others_can_write_are_refused() {
    let (dir, _) = place();
    let inner = dir.path().join("a/b");
    fs::create_dir_all(&inner).unwrap();
    let path = inner.join("root.key");
    RootKeyFile::create(&path, &[]).unwrap();
    for (at, mode, allowed) in [
        ("a/b", 0o755, true),
        ("a/b", 0o770, false),
        ("a/b", 0o777, false),
        ("a/b", 0o1777, false), // sticky, but it holds the file itself
        ("a", 0o775, false),
        ("a", 0o777, false),
        ("a", 0o1777, true), // sticky, and `b` is ours: nobody else can rename it
    ] {
        let at = dir.path().join(at);
        fs::set_permissions(&at, Permissions::from_mode(mode)).unwrap();
        let loaded = load(&path);
        let created = RootKeyFile::create(&inner.join("other.key"), &[]);
        fs::set_permissions(&at, Permissions::from_mode(0o755)).unwrap();
        let _ = fs::remove_file(inner.join("other.key"));
        assert_eq!(loaded.is_ok(), allowed, "{} {mode:o}", at.display());
        assert_eq!(created.is_ok(), allowed, "{} {mode:o}", at.display());
        assert!(allowed || matches!(loaded, Err(RootKeyError::Directory { .. })));
    }
}

#[test]
fn the_way_as_written_counts_too() {
    let (dir, path) = place();
    RootKeyFile::create(&path, &[]).unwrap();
    let open_dir = dir.path().join("open");
    fs::create_dir(&open_dir).unwrap();
    symlink(dir.path(), open_dir.join("link")).unwrap();
    let through = open_dir.join("link/root.key");
    assert!(load(&through).is_ok());
    fs::set_permissions(&open_dir, Permissions::from_mode(0o777)).unwrap();
    assert!(matches!(load(&through), Err(RootKeyError::Directory { .. })), "anyone could repoint the link");
}

#[test]
fn data_directory_and_tablespaces_are_refused() {
    let (dir, _) = place();
    let data = dir.path().join("data");
    fs::create_dir_all(data.join("base")).unwrap();
    let inside = data.join("base/root.key");
    let forbidden = [dir.path().join("gone"), data.clone()];
    assert!(matches!(RootKeyFile::create(&inside, &forbidden), Err(RootKeyError::Forbidden { .. })));
    assert!(!inside.exists());
    RootKeyFile::create(&inside, &[]).unwrap();
    assert!(matches!(RootKeyFile::load(&inside, &forbidden), Err(RootKeyError::Forbidden { .. })));

    // Through a link that hides where it lies, and with the directory named through a link.
    let link = dir.path().join("keys");
    symlink(data.join("base"), &link).unwrap();
    assert!(matches!(RootKeyFile::load(&link.join("root.key"), &forbidden), Err(RootKeyError::Forbidden { .. })));
    let alias = dir.path().join("alias");
    symlink(&data, &alias).unwrap();
    assert!(matches!(RootKeyFile::load(&inside, &[alias]), Err(RootKeyError::Forbidden { .. })));

    // A name that only starts alike is another directory.
    let beside = dir.path().join("data2");
    fs::create_dir(&beside).unwrap();
    RootKeyFile::create(&beside.join("root.key"), &forbidden).unwrap();
    assert!(RootKeyFile::load(&beside.join("root.key"), &forbidden).is_ok());
}

/// Needs root to give a file away; says so where it can't.
#[test]
fn another_users_file_or_directory_is_refused() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can chown");
        return;
    }
    let (dir, _) = place();
    let inner = dir.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let path = inner.join("root.key");
    RootKeyFile::create(&path, &[]).unwrap();
    std::os::unix::fs::chown(&path, Some(12_345), None).unwrap();
    assert!(matches!(load(&path), Err(RootKeyError::Owner { owner: 12_345, expected: 0, .. })));
    std::os::unix::fs::chown(&path, Some(0), None).unwrap();
    std::os::unix::fs::chown(&inner, Some(12_345), None).unwrap();
    assert!(matches!(load(&path), Err(RootKeyError::Directory { .. })));
}

#[test]
fn every_error_says_what_to_do() {
    let (_dir, path) = place();
    let error = load(&path).unwrap_err();
    assert!(error.to_string().contains("root.key") && error.hint().contains("init_root_key"));
    assert!(sealvec_core::Error::from(error).to_string().contains("does not exist"));
}
