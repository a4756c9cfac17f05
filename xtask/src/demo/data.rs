//! The demo's data set: packages with embeddings, and questions in words.

use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::io::Write;
use std::ops::Range;

use anyhow::{Context, Result, ensure};
use postgres::Client;
use postgres::types::private::BytesMut;
use postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use serde::Deserialize;

use crate::data::{Matrix, read_text};
use crate::tree;

/// Rows that go into the plaintext control table instead of the sealed one.
const CONTROL: usize = 50;

#[derive(Deserialize)]
struct Package {
    name: String,
    text: String,
}

pub struct Packages {
    packages: Vec<Package>,
    rows: HashMap<String, usize>,
    pub vectors: Matrix,
    pub questions: Matrix,
    pub question_texts: Vec<String>,
}

impl Packages {
    pub fn read() -> Result<Self> {
        let dir = tree::root().join("tests/data/packages");
        let packages: Vec<Package> =
            read_text(&dir.join("packages.jsonl.gz"))?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        let vectors = Matrix::read(&dir.join("vectors_f16.npy"))?;
        let questions = Matrix::read(&dir.join("questions_f16.npy"))?;
        let texts = fs::read_to_string(dir.join("questions.json")).context("could not read questions.json")?;
        let question_texts: Vec<String> = serde_json::from_str(&texts)?;
        ensure!(
            packages.len() == vectors.rows() && question_texts.len() == questions.rows(),
            "{} is not whole",
            dir.display()
        );
        let rows = packages.iter().enumerate().map(|(row, package)| (package.name.clone(), row)).collect();
        Ok(Self { packages, rows, vectors, questions, question_texts })
    }

    /// Rows of the sealed table.
    pub fn sealed(&self) -> Range<usize> {
        0..self.packages.len() - CONTROL
    }

    /// Rows of the plaintext control table: of the same kind, but none that is sealed.
    pub fn control(&self) -> Range<usize> {
        self.packages.len() - CONTROL..self.packages.len()
    }

    pub fn row_of(&self, name: &str) -> Option<usize> {
        self.rows.get(name).copied().filter(|row| self.sealed().contains(row))
    }

    pub fn name(&self, row: usize) -> &str {
        &self.packages[row].name
    }

    pub fn description(&self, row: usize) -> &str {
        &self.packages[row].text
    }

    /// A line of COPY's text form: name, description, embedding.
    pub fn line(&self, row: usize) -> String {
        format!(
            "{}\t{}\t{}\n",
            escaped(&self.packages[row].name),
            escaped(&self.packages[row].text),
            literal(self.vectors.row(row))
        )
    }

    /// Name and embedding only.
    pub fn short_line(&self, row: usize) -> String {
        format!("{}\t{}\n", escaped(&self.packages[row].name), literal(self.vectors.row(row)))
    }

    /// One minus the cosine, in float64.
    pub fn distance(&self, row: usize, query: &[f32]) -> f64 {
        let (mut dot, mut xx, mut yy) = (0.0, 0.0, 0.0);
        for (&x, &y) in self.vectors.row(row).iter().zip(query) {
            let (x, y) = (f64::from(x), f64::from(y));
            dot += x * y;
            xx += x * x;
            yy += y * y;
        }
        1.0 - dot / (xx * yy).sqrt()
    }

    /// The exact nearest sealed rows with their distances.
    pub fn nearest(&self, query: &[f32], k: usize) -> Vec<(usize, f64)> {
        let mut all: Vec<(usize, f64)> = self.sealed().map(|row| (row, self.distance(row, query))).collect();
        all.sort_by(|a, b| a.1.total_cmp(&b.1));
        all.truncate(k);
        all
    }
}

/// A vector as a person writes it.
fn literal(vector: &[f32]) -> String {
    format!("[{}]", vector.iter().map(f32::to_string).collect::<Vec<_>>().join(","))
}

/// Text for COPY's text form.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r")
}

pub fn copy(client: &mut Client, sql: &str, lines: impl Iterator<Item = String>) -> Result<()> {
    let mut sink = client.copy_in(sql).with_context(|| format!("in: {sql}"))?;
    for line in lines {
        sink.write_all(line.as_bytes())?;
    }
    sink.finish().with_context(|| format!("in: {sql}"))?;
    Ok(())
}

/// A KEK bound as `sealvec.kek`, which the server never prints; as bytea it could reach a log of parameters.
#[derive(Debug)]
pub struct Kek(pub Vec<u8>);

impl ToSql for Kek {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(kind: &Type) -> bool {
        kind.name() == "kek"
    }

    to_sql_checked!();
}
