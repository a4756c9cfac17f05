//! Real vectors from `tests/data/deb_10k`, and how they come into a table.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use postgres::Client;

use crate::xtask::{must, root};

/// Rows of equal length.
#[derive(Clone)]
pub struct Matrix {
    pub dims: usize,
    pub values: Vec<f32>,
}

impl Matrix {
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.dims..][..self.dims]
    }

    pub fn rows(&self) -> usize {
        self.values.len() / self.dims
    }

    /// The first `rows` rows, cut to `dims` elements.
    pub fn cut(&self, rows: usize, dims: usize) -> Self {
        let values = (0..rows).flat_map(|row| self.row(row)[..dims].iter().copied()).collect();
        Self { dims, values }
    }

    /// Every element times `factor`: no longer of length one.
    pub fn scaled(mut self, factor: f32) -> Self {
        self.values.iter_mut().for_each(|value| *value *= factor);
        self
    }

    /// `[0.1,0.2,…]`
    pub fn text(&self, row: usize) -> String {
        text(self.row(row))
    }
}

/// `[0.1,0.2,…]`
pub fn text(vector: &[f32]) -> String {
    let mut text = String::from("[");
    for (i, value) in vector.iter().enumerate() {
        write!(text, "{}{value}", if i > 0 { "," } else { "" }).expect("a string takes all");
    }
    text + "]"
}

/// 10,000 package descriptions, 384 dimensions.
pub fn vectors() -> Matrix {
    floats("vectors_f16.npy")
}

/// 250 queries.
pub fn queries() -> Matrix {
    floats("queries_f16.npy")
}

/// What is known of each row, one JSON object a line.
pub fn items() -> Vec<String> {
    must(Command::new("gzip").arg("-dc").arg(path("items.jsonl.gz"))).lines().map(str::to_owned).collect()
}

/// The filters, as JSON.
pub fn filters() -> String {
    fs::read_to_string(path("filters.json")).expect("the data set is in the tree")
}

/// `filter_gt.npy`: [filter][query][10] rows, -1 where fewer match.
pub fn filter_answers() -> Vec<i64> {
    let (kind, bytes) = npy("filter_gt.npy");
    assert_eq!(kind, "<i2");
    bytes.chunks_exact(2).map(|b| i64::from(i16::from_le_bytes([b[0], b[1]]))).collect()
}

fn path(name: &str) -> PathBuf {
    root().join("tests/data/deb_10k").join(name)
}

fn floats(name: &str) -> Matrix {
    let (kind, bytes) = npy(name);
    assert_eq!(kind, "<f2", "{name}");
    let values = bytes.chunks_exact(2).map(|b| widen(u16::from_le_bytes([b[0], b[1]]))).collect();
    Matrix { dims: 384, values }
}

/// Type and elements of a .npy file, version 1.
fn npy(name: &str) -> (String, Vec<u8>) {
    let file = fs::read(path(name)).unwrap_or_else(|error| panic!("{}: {error}", path(name).display()));
    assert_eq!(&file[..7], b"\x93NUMPY\x01", "{name}");
    let header = usize::from(u16::from_le_bytes([file[8], file[9]]));
    let text = String::from_utf8_lossy(&file[10..10 + header]).into_owned();
    let kind = text.split("'descr': '").nth(1).and_then(|rest| rest.split('\'').next()).expect("a descr").to_owned();
    (kind, file[10 + header..].to_vec())
}

/// float16 to float32.
pub fn widen(half: u16) -> f32 {
    let sign = if half & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(half >> 10 & 31), f32::from(half & 0x3ff));
    sign * match exponent {
        0 => fraction * 2f32.powi(-24),
        31 => panic!("no infinity in the data set"),
        _ => (1.0 + fraction / 1024.0) * 2f32.powi(exponent - 15),
    }
}

/// float32 to float16, to nearest, for values that float16 holds as normal numbers.
pub fn narrow(value: f32) -> u16 {
    let bits = value.to_bits();
    let exponent = (bits >> 23 & 0xff) as i32 - 127 + 15;
    if exponent <= 0 {
        return ((bits >> 16) & 0x8000) as u16;
    }
    let magnitude = (exponent as u32) << 10 | (bits >> 13 & 0x3ff);
    let rest = bits & 0x1fff;
    let up = rest > 0x1000 || rest == 0x1000 && magnitude & 1 == 1;
    ((bits >> 16) & 0x8000) as u16 | (magnitude + u32::from(up)) as u16
}

/// `COPY table (id, embedding)`: row `order[i]` of `matrix` gets id `order[i]`, in this order.
pub fn copy(client: &mut Client, table: &str, matrix: &Matrix, order: impl IntoIterator<Item = usize>) {
    let mut writer = client.copy_in(&format!("COPY {table} (id, embedding) FROM STDIN")).expect("COPY begins");
    for row in order {
        writeln!(writer, "{row}\t{}", matrix.text(row)).expect("COPY takes a row");
    }
    writer.finish().unwrap_or_else(|error| panic!("COPY {table}: {}", crate::said(&error)));
}

/// A table `(id int primary key, embedding sealvec(dims, ring))` with every row of `matrix`.
pub fn table(client: &mut Client, table: &str, ring: &str, matrix: &Matrix) {
    crate::run(
        client,
        &format!("CREATE TABLE {table} (id int PRIMARY KEY, embedding sealvec({}, {ring}))", matrix.dims),
    );
    copy(client, table, matrix, 0..matrix.rows());
}
