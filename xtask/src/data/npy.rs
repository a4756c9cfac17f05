//! NumPy's .npy files, version 1, little-endian, C order: all that the data sets use.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use half::f16;

/// An array's shape and raw little-endian bytes.
pub struct Npy {
    pub shape: Vec<usize>,
    kind: String,
    bytes: Vec<u8>,
}

impl Npy {
    pub fn read(path: &Path) -> Result<Self> {
        let file = fs::read(path).with_context(|| format!("could not read {}", path.display()))?;
        Self::parse(&file).with_context(|| format!("{} is not a .npy file that this reads", path.display()))
    }

    fn parse(file: &[u8]) -> Result<Self> {
        ensure!(file.len() > 10 && &file[..6] == b"\x93NUMPY", "no .npy magic");
        ensure!(file[6] == 1, "expected .npy version 1, not {}", file[6]);
        let length = usize::from(u16::from_le_bytes([file[8], file[9]]));
        ensure!(file.len() >= 10 + length, "cut off in its header");
        let header = std::str::from_utf8(&file[10..10 + length])?;
        let kind = between(header, "'descr': '", "'").context("no descr")?.to_owned();
        ensure!(header.contains("'fortran_order': False"), "expected C order");
        let shape: Vec<usize> = between(header, "'shape': (", ")")
            .context("no shape")?
            .split(',')
            .map(str::trim)
            .filter(|number| !number.is_empty())
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        let width: usize = kind.get(2..).context("no width")?.parse()?;
        let bytes = file[10 + length..].to_vec();
        let wanted = shape.iter().product::<usize>() * width;
        ensure!(bytes.len() == wanted, "expected {wanted} bytes of elements, found {}", bytes.len());
        Ok(Self { shape, kind, bytes })
    }

    /// float16 or float32 elements, widened.
    pub fn floats(&self) -> Result<Vec<f32>> {
        match self.kind.as_str() {
            "<f2" => Ok(self.chunks::<2>().map(|bytes| f16::from_le_bytes(bytes).to_f32()).collect()),
            "<f4" => Ok(self.chunks::<4>().map(f32::from_le_bytes).collect()),
            other => bail!("expected '<f2' or '<f4' elements, not {other:?}"),
        }
    }

    /// Integers of any width up to 32 bits.
    pub fn integers(&self) -> Result<Vec<i64>> {
        match self.kind.as_str() {
            "<u2" => Ok(self.chunks::<2>().map(|bytes| u16::from_le_bytes(bytes).into()).collect()),
            "<i2" => Ok(self.chunks::<2>().map(|bytes| i16::from_le_bytes(bytes).into()).collect()),
            "<u4" => Ok(self.chunks::<4>().map(|bytes| u32::from_le_bytes(bytes).into()).collect()),
            "<i4" => Ok(self.chunks::<4>().map(|bytes| i32::from_le_bytes(bytes).into()).collect()),
            other => bail!("expected integers, not {other:?}"),
        }
    }

    fn chunks<const N: usize>(&self) -> impl Iterator<Item = [u8; N]> + '_ {
        self.bytes.chunks_exact(N).map(|chunk| chunk.try_into().expect("chunks_exact gives N bytes"))
    }
}

/// Writes float16 rows; every value must be a float16 already (nothing is rounded).
pub fn write_f16(path: &Path, dims: usize, rows: &[&[f32]]) -> Result<()> {
    let mut file = head("<f2", &[rows.len(), dims])?;
    file.reserve(2 * dims * rows.len());
    for row in rows {
        ensure!(row.len() == dims, "expected rows of {dims}, found one of {}", row.len());
        for &value in *row {
            let short = f16::from_f32(value);
            ensure!(short.to_f32() == value, "{value} is no float16");
            file.extend(short.to_le_bytes());
        }
    }
    fs::write(path, file).with_context(|| format!("could not write {}", path.display()))
}

/// Writes unsigned integers.
pub fn write_u32(path: &Path, shape: &[usize], values: &[u32]) -> Result<()> {
    let wanted: usize = shape.iter().product();
    ensure!(wanted == values.len(), "expected {wanted} values, found {}", values.len());
    let mut file = head("<u4", shape)?;
    file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    fs::write(path, file).with_context(|| format!("could not write {}", path.display()))
}

/// Magic, version and header, padded so that elements begin at a multiple of 64.
fn head(kind: &str, shape: &[usize]) -> Result<Vec<u8>> {
    let lengths: Vec<String> = shape.iter().map(usize::to_string).collect();
    let lengths = lengths.join(", ") + if shape.len() == 1 { "," } else { "" }; // a tuple of one in Python
    let shape = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({lengths}), }}");
    let padding = (64 - (10 + shape.len() + 1) % 64) % 64;
    let header = format!("{shape}{}\n", " ".repeat(padding));
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend(u16::try_from(header.len())?.to_le_bytes());
    file.extend(header.as_bytes());
    Ok(file)
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let rest = &text[text.find(before)? + before.len()..];
    Some(&rest[..rest.find(after)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let path = std::env::temp_dir().join(format!("sealvec-npy-{}", std::process::id()));
        write_f16(&path, 3, &[&[1.0, -0.5, 0.25], &[0.0, 2.0, 4.0]]).unwrap();
        let read = Npy::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(read.shape, [2, 3]);
        assert_eq!(read.floats().unwrap(), [1.0, -0.5, 0.25, 0.0, 2.0, 4.0]);
    }

    #[test]
    fn integers_that_were_written_are_read() {
        let path = std::env::temp_dir().join(format!("sealvec-npy-u32-{}", std::process::id()));
        write_u32(&path, &[2, 1, 2], &[1, 0, 70_000, u32::MAX]).unwrap();
        let read = Npy::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(read.shape, [2, 1, 2]);
        assert_eq!(read.integers().unwrap(), [1, 0, 70_000, u32::MAX.into()]);
        assert!(write_u32(&path, &[3], &[1]).is_err());
    }

    #[test]
    fn a_value_that_float16_would_round_is_refused() {
        let path = std::env::temp_dir().join(format!("sealvec-npy-bad-{}", std::process::id()));
        assert!(write_f16(&path, 1, &[&[0.1]]).is_err());
    }

    #[test]
    fn bad_files_are_refused() {
        for bad in [
            &b""[..],
            b"\x93NUMPY\x01\x00",
            b"\x93NUMPX\x01\x00\x10\x00                ",
            b"\x93NUMPY\x02\x00\x10\x00                ",
        ] {
            assert!(Npy::parse(bad).is_err());
        }
    }
}
