//! The safetensors container: `u64 LE header length | JSON header | tensors`, read as float32 only.
//!
//! Each header entry is `name: {dtype, shape, data_offsets: [begin, end)}`, offsets counted from the header's end.
//! Format: <https://github.com/huggingface/safetensors#format>.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::EmbedError;
use crate::files;

/// As the reference implementation: a header is small, whatever the file claims.
const HEADER_BYTES_MAX: u64 = 100_000_000;

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

/// A file of weights in memory.
pub(crate) struct Weights {
    path: PathBuf,
    bytes: Vec<u8>,
    data_start: usize,
    entries: HashMap<String, Entry>,
}

impl Weights {
    /// Reads `path`. Offsets are checked when a tensor is taken.
    pub fn open(path: &Path) -> Result<Self, EmbedError> {
        Self::decode(path, files::read(path)?)
    }

    fn decode(path: &Path, bytes: Vec<u8>) -> Result<Self, EmbedError> {
        let corrupt = |why: &str| EmbedError::corrupt(path, why);

        let len =
            bytes.first_chunk().map(|b| u64::from_le_bytes(*b)).ok_or_else(|| corrupt("too short for a header"))?;
        if len > HEADER_BYTES_MAX {
            return Err(corrupt("not a safetensors file: the header would be over 100 MB"));
        }
        let data_start = 8 + len as usize;
        let header = bytes.get(8..data_start).ok_or_else(|| corrupt("cut off inside the header"))?;
        let mut json: HashMap<String, serde_json::Value> = serde_json::from_slice(header)
            .map_err(|_| corrupt("not a safetensors file: the header is no JSON object"))?;
        json.remove("__metadata__");
        let entries = json
            .into_iter()
            .map(|(name, value)| Ok((name, serde_json::from_value(value)?)))
            .collect::<Result<_, serde_json::Error>>()
            .map_err(|_| corrupt("a header entry has no dtype, shape and data_offsets"))?;

        Ok(Weights { path: path.to_owned(), bytes, data_start, entries })
    }

    /// The tensor `name`, or `bert.name` as some exports call it, in row-major order; it must have this shape.
    pub fn take(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, EmbedError> {
        let corrupt = |why: String| EmbedError::corrupt(&self.path, why);

        let entry = (self.entries.get(name))
            .or_else(|| self.entries.get(&format!("bert.{name}")))
            .ok_or_else(|| corrupt(format!("no tensor {name}")))?;
        if entry.dtype != "F32" {
            return Err(corrupt(format!("expected F32 in {name}, not {}", entry.dtype)));
        }
        if entry.shape != shape {
            return Err(corrupt(format!("expected shape {shape:?} in {name}, not {:?}", entry.shape)));
        }
        let (begin, end) = entry.data_offsets;
        let size = shape.iter().try_fold(size_of::<f32>(), |size, n| size.checked_mul(*n));
        let bytes = (self.bytes[self.data_start..].get(begin..end))
            .filter(|b| Some(b.len()) == size)
            .ok_or_else(|| corrupt(format!("cut off: {name} is not all there")))?;

        let values: Vec<f32> = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        if values.iter().any(|v| !v.is_finite()) {
            return Err(corrupt(format!("{name} holds a value that is not finite")));
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
    }

    fn take(bytes: Vec<u8>) -> Result<Vec<f32>, String> {
        Weights::decode(Path::new("w"), bytes).and_then(|w| w.take("a", &[2])).map_err(|e| e.to_string())
    }

    const GOOD: &str = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#;

    #[test]
    fn a_tensor_is_read_at_its_offsets() {
        let data: Vec<u8> = [9.0f32, 1.5, -2.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(take(file(GOOD, &data)).unwrap(), [1.5, -2.0]);
        assert_eq!(take(file(&GOOD.replace("\"a\"", "\"bert.a\""), &data)).unwrap(), [1.5, -2.0]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let data = [0u8; 12];
        let nan = [[0u8; 4], [0; 4], f32::NAN.to_le_bytes()].concat();
        let rows = [
            (vec![1, 2, 3], "too short for a header"),
            (u64::MAX.to_le_bytes().to_vec(), "over 100 MB"),
            (file(GOOD, &data)[..40].to_vec(), "cut off inside the header"),
            (file("[1]", &data), "no JSON object"),
            (file(r#"{"a":{"dtype":"F32"}}"#, &data), "no dtype, shape"),
            (file(&GOOD.replace("\"a\"", "\"b\""), &data), "no tensor a"),
            (file(&GOOD.replace("F32", "F16"), &data), "expected F32 in a, not F16"),
            (file(&GOOD.replace("[2]", "[1,2]"), &data), "expected shape [2] in a, not [1, 2]"),
            (file(&GOOD.replace("4,12", "4,8"), &data), "not all there"),
            (file(&GOOD.replace("4,12", "12,4"), &data), "not all there"),
            (file(GOOD, &data[..11]), "not all there"),
            (file(GOOD, &nan), "not finite"),
        ];
        for (bytes, expected) in rows {
            let error = take(bytes).unwrap_err();
            assert!(error.contains(expected), "{error:?} lacks {expected:?}");
        }
    }
}
