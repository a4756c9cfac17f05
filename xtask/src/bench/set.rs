//! The vectors, queries and exact answers that a run works on.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use super::truth::{Metric, Truth};
use crate::data::{Matrix, derive};
use crate::run::step;

pub struct Set {
    pub directory: PathBuf,
    pub vectors: Matrix,
    pub queries: Matrix,
    pub truth: Truth,
}

impl Set {
    /// Reads a directory; `rows` takes only so many of its vectors and computes exact answers for them.
    pub fn read(directory: &Path, metric: Metric, rows: Option<usize>) -> Result<Self> {
        let mut vectors = Matrix::read(&directory.join("vectors_f16.npy"))?;
        let queries = Matrix::read(&directory.join("queries_f16.npy"))?;
        ensure!(vectors.dims == queries.dims, "vectors have {} dimensions, queries {}", vectors.dims, queries.dims);
        let truth = match rows {
            Some(rows) if rows < vectors.rows() => {
                ensure!(rows >= 100, "expected 100 rows or more, not {rows}");
                vectors.values.truncate(rows * vectors.dims);
                step("computing exact answers", || Ok(Truth::compute(metric, &vectors, &queries)))?
            }
            _ => Truth::read(&directory.join("gt.npy"), metric, &vectors, &queries)?,
        };
        Ok(Self { directory: directory.to_owned(), vectors, queries, truth })
    }

    pub fn name(&self) -> String {
        self.directory.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }

    pub fn intrinsic_dimension(&self) -> Result<f64> {
        derive::intrinsic_dimension(&self.directory, &self.vectors, &self.queries)
    }
}
