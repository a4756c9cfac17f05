//! Makes `tests/data/` from the full `deb_10k` data set: the test set without its texts, and the demo's set.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};

use super::npy::{Npy, write_f16};
use super::{Matrix, read_text};
use crate::run::step;
use crate::tree;

/// Rows of the demo's set, and how many neighbours of each question are surely among them.
const PACKAGES: usize = 5_000;
const NEIGHBOURS: usize = 20;
/// Longest description in the demo's set, in characters.
const TEXT: usize = 160;

#[derive(Deserialize)]
struct Item {
    id: String,
    text: String,
    metadata: Metadata,
}

/// The fields that the 14 filters of filters.json use.
#[derive(Deserialize, Serialize)]
struct Metadata {
    section: String,
    priority: String,
    architecture: String,
    installed_size_kib: Option<i64>,
    maintainer_domain: Option<String>,
    n_depends: Option<i64>,
    homepage_host: Option<String>,
    tags: Vec<String>,
}

#[derive(Serialize)]
struct Row<'a> {
    id: &'a str,
    #[serde(flatten)]
    metadata: &'a Metadata,
}

#[derive(Serialize)]
struct Package<'a> {
    name: &'a str,
    text: String,
}

#[derive(Deserialize)]
struct Query {
    text: String,
    kind: String,
}

/// Reads `source` (laid out like deb_10k) and writes both directories.
pub fn make(source: &Path) -> Result<()> {
    let items: Vec<Item> = lines(&source.join("items.jsonl"))?;
    let queries: Vec<Query> = lines(&source.join("queries.jsonl"))?;
    step("tests/data/deb_10k", || test_set(source, &items))?;
    step("tests/data/packages", || demo_set(source, &items, &queries))
}

fn test_set(source: &Path, items: &[Item]) -> Result<()> {
    let target = tree::root().join("tests/data/deb_10k");
    fs::create_dir_all(&target)?;
    for name in ["vectors_f16.npy", "queries_f16.npy", "gt.npy", "filters.json", "filter_gt.npy"] {
        fs::write(target.join(name), fs::read(source.join(name)).with_context(|| format!("could not read {name}"))?)?;
    }
    let rows = items.iter().map(|item| Row { id: &item.id, metadata: &item.metadata });
    write_lines(&target.join("items.jsonl.gz"), rows)
}

fn demo_set(source: &Path, items: &[Item], queries: &[Query]) -> Result<()> {
    let target = tree::root().join("tests/data/packages");
    fs::create_dir_all(&target)?;
    let vectors = Matrix::read(&source.join("vectors_f16.npy"))?;
    let asked = Matrix::read(&source.join("queries_f16.npy"))?;
    ensure!(vectors.rows() == items.len() && asked.rows() == queries.len(), "vectors and texts differ in number");
    let truth = Npy::read(&source.join("gt.npy"))?;
    let depth = *truth.shape.last().context("gt.npy has no shape")?;
    let nearest = truth.integers()?; // [0] = L2 comes first

    let questions: Vec<usize> = (0..queries.len()).filter(|&query| queries[query].kind == "nl").collect();
    let mut chosen = BTreeSet::new();
    for &question in &questions {
        chosen.extend(nearest[question * depth..][..NEIGHBOURS].iter().map(|&row| row as usize));
    }
    let more: Vec<usize> =
        (0..items.len()).filter(|row| !chosen.contains(row)).take(PACKAGES.saturating_sub(chosen.len())).collect();
    chosen.extend(more);

    write_lines(
        &target.join("packages.jsonl.gz"),
        chosen.iter().map(|&row| Package { name: &items[row].id, text: summary(&items[row].id, &items[row].text) }),
    )?;
    write_f16(
        &target.join("vectors_f16.npy"),
        vectors.dims,
        &chosen.iter().map(|&row| vectors.row(row)).collect::<Vec<_>>(),
    )?;
    let texts: Vec<&str> = questions.iter().map(|&question| queries[question].text.as_str()).collect();
    fs::write(target.join("questions.json"), serde_json::to_string_pretty(&texts)? + "\n")?;
    write_f16(
        &target.join("questions_f16.npy"),
        asked.dims,
        &questions.iter().map(|&question| asked.row(question)).collect::<Vec<_>>(),
    )
}

/// The description without the name in front, cut at a word.
fn summary(name: &str, text: &str) -> String {
    let text = text.strip_prefix(name).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(text);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.chars().count() <= TEXT {
        return text;
    }
    let cut: String = text.chars().take(TEXT).collect();
    match cut.rfind(' ') {
        Some(end) => format!("{} …", &cut[..end]),
        None => cut,
    }
}

fn lines<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Vec<T>> {
    read_text(path)?
        .lines()
        .enumerate()
        .map(|(number, line)| {
            serde_json::from_str(line).with_context(|| format!("{}, line {}", path.display(), number + 1))
        })
        .collect()
}

fn write_lines<T: Serialize>(path: &Path, rows: impl Iterator<Item = T>) -> Result<()> {
    // A GzEncoder writes no time stamp and no name: the same rows give the same file.
    let mut out = GzEncoder::new(File::create(path)?, Compression::best());
    for row in rows {
        serde_json::to_writer(&mut out, &row)?;
        out.write_all(b"\n")?;
    }
    out.finish()?;
    Ok(())
}
