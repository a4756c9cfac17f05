//! The root-key file has mode 0600 whatever the umask. Alone in its process, because the umask is the process's.

use std::os::unix::fs::MetadataExt;

use rustix::fs::Mode;
use rustix::process::umask;
use sealvec_kms::RootKeyFile;

#[test]
fn mode_is_0600_under_any_umask() {
    let dir = tempfile::tempdir().unwrap();
    for mask in [0o000, 0o022, 0o277, 0o777] {
        let path = dir.path().join(format!("{mask:o}.key"));
        let before = umask(Mode::from_raw_mode(mask));
        let created = RootKeyFile::create(&path, &[]);
        umask(before);
        created.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600, "umask {mask:o}");
        RootKeyFile::load(&path, &[]).unwrap();
    }
}
