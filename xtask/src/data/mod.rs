//! Data sets: embeddings of Debian package descriptions with exact answers.

pub mod derive;
pub mod make;
pub mod nearest;
pub mod npy;

use std::fs;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use flate2::read::GzDecoder;

use npy::Npy;

/// Rows of equal length, one after the other.
pub struct Matrix {
    pub dims: usize,
    pub values: Vec<f32>,
}

impl Matrix {
    pub fn read(path: &Path) -> Result<Self> {
        let npy = Npy::read(path)?;
        let [_, dims] = npy.shape[..] else {
            bail!("expected two dimensions in {}, found {}", path.display(), npy.shape.len())
        };
        ensure!(dims > 0, "no columns in {}", path.display());
        Ok(Self { dims, values: npy.floats()? })
    }

    pub fn rows(&self) -> usize {
        self.values.len() / self.dims
    }

    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.dims..][..self.dims]
    }

    pub fn iter(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.dims)
    }
}

/// Text of a file, unpacked when its name ends in .gz.
pub fn read_text(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("could not read {}", path.display()))?;
    let mut text = String::new();
    if path.extension().is_some_and(|extension| extension == "gz") {
        GzDecoder::new(&bytes[..])
            .read_to_string(&mut text)
            .with_context(|| format!("{} is not gzip of UTF-8 text", path.display()))?;
    } else {
        text = String::from_utf8(bytes).with_context(|| format!("{} is not UTF-8", path.display()))?;
    }
    Ok(text)
}

/// Bytes from the kernel, for keys.
pub fn random_bytes(count: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; count];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}
