//! SoftHSM2: a token in files, with the PKCS#11 module that Debian ships.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::packages::require;
use crate::xtask::must;

/// The module's path in Debian.
pub const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
/// PIN of every token here.
pub const PIN: &str = "1234";

/// A token with its keys, below a directory of its own.
pub struct SoftHsm {
    home: PathBuf,
    label: String,
}

impl SoftHsm {
    /// A fresh token of this label in `home`, with no key.
    pub fn create(home: &Path, label: &str) -> Self {
        require("softhsm2-util", &["softhsm2"]);
        let tokens = home.join("tokens");
        fs::create_dir_all(&tokens).expect("it can be written");
        let configuration = format!("directories.tokendir = {}\nobjectstore.backend = file\n", tokens.display());
        fs::write(home.join("softhsm2.conf"), configuration).expect("written");
        let token = Self { home: home.to_owned(), label: label.to_owned() };
        must(token.util().args(["--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", "56785678"]));
        token
    }

    /// The variable that a process with this token needs.
    pub fn environment(&self) -> (&'static str, String) {
        ("SOFTHSM2_CONF", self.home.join("softhsm2.conf").display().to_string())
    }

    /// A fresh AES-256 key that does not leave the token.
    pub fn create_key(&self, label: &str) {
        let mut key = [0; 32];
        aws_lc_rs::rand::fill(&mut key).expect("the kernel has random bytes");
        // The import skips bytes that are white space.
        self.import_key(label, &key.map(|byte| b'!' + byte % 94));
    }

    /// An AES-256 key of these bytes, which are printed characters.
    pub fn import_key(&self, label: &str, key: &[u8; 32]) {
        let path = self.home.join("key");
        fs::write(&path, key).expect("written");
        let import = ["--aes", "--token", &self.label, "--label", label, "--id", "01", "--pin", PIN];
        must(self.util().arg("--import").arg(&path).args(import));
        fs::remove_file(path).expect("it was there");
    }

    /// Takes every key away, as if an operator had destroyed them, and keeps them for [`restore_keys`](Self::restore_keys).
    pub fn remove_keys(&self) {
        self.keys("object", "gone");
    }

    /// Brings them back.
    pub fn restore_keys(&self) {
        self.keys("gone", "object");
    }

    fn keys(&self, from: &str, to: &str) {
        for token in fs::read_dir(self.home.join("tokens")).expect("it is there") {
            for file in fs::read_dir(token.expect("readable").path()).expect("a directory") {
                let path = file.expect("readable").path();
                let is_key = path.extension().is_some_and(|end| end == from) && !path.ends_with("token.object");
                if is_key {
                    fs::rename(&path, path.with_extension(to)).expect("renamed");
                }
            }
        }
    }

    fn util(&self) -> Command {
        let mut command = Command::new("softhsm2-util");
        let (name, value) = self.environment();
        command.env(name, value);
        command
    }
}
