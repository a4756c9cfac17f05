//! Searches everything that the demo's cluster wrote for the plaintext of what was sealed and for key bytes, beside a
//! control that must be found.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use postgres::Client;

use super::data::{self, Packages};
use super::{SHOWN, rest, run};
use crate::pg::Cluster;
use crate::run::step;
use crate::scan::{Patterns, Report, Searcher, add_key};

/// Sealed vectors that are looked for.
const VECTORS: usize = 300;

pub fn search(cluster: &Cluster, client: &mut Client, packages: &Packages, keys: &[&[u8]]) -> Result<()> {
    control_table(client, packages)?;
    run(client, "CHECKPOINT")?; // so that what is in shared buffers is in files
    // A sort that spills leaves its temp files as long as its cursor is open; they are searched too.
    let mut spilling = client.transaction()?;
    spilling.batch_execute(
        "SET LOCAL work_mem = '64kB'; \
         DECLARE spill CURSOR FOR SELECT embedding FROM packages ORDER BY description; \
         FETCH 1 FROM spill",
    )?;
    let temporary = cluster.data().join("base/pgsql_tmp");
    let spilled = fs::read_dir(&temporary).map_or(0, Iterator::count);
    ensure!(spilled > 0, "expected temp files in {} while a sort is open", temporary.display());

    let secrets = Searcher::new(secrets(cluster, packages, keys)?);
    let control = Searcher::new(control(packages));
    let (data, log) = (cluster.data(), cluster.log());
    let places: [&Path; 2] = [&data, &log];
    let found = step("searching for what was sealed", || secrets.search(&places))?;
    let seen = step("searching for the control", || control.search(&places))?;
    spilling.rollback()?;

    let forms = secrets.patterns().forms.len();
    println!(
        "   {} files, {:.0} MB: data directory, WAL, {spilled} temp files, log",
        found.files,
        found.bytes as f64 / 1e6
    );
    println!(
        "   {} patterns of {VECTORS} sealed vectors, changed rows, contents and metadata of items, and every key, in {forms} forms",
        secrets.patterns().patterns.len()
    );
    println!("   plaintext control table: {} hits ({})", seen.hits.len(), names(&control, &seen).join(", "));
    println!("   sealed vectors and keys: {} hits", found.hits.len());
    for hit in found.hits.iter().take(10) {
        println!("     {} at {} of {}", secrets.patterns().forms[hit.form], hit.offset, hit.file.display());
    }
    for form in ["f32 little-endian", "f64 little-endian", "decimal"] {
        ensure!(
            names(&control, &seen).iter().any(|name| name == form),
            "the control was not found as {form}: this search proves nothing"
        );
    }
    for place in ["base", "pg_wal"] {
        ensure!(
            seen.hits.iter().any(|hit| hit.file.starts_with(cluster.data().join(place))),
            "the control was not found below {place}: this search proves nothing"
        );
    }
    ensure!(found.hits.is_empty(), "plaintext or key bytes are on the disk");
    Ok(())
}

/// The same kind of rows, stored plainly: what the search finds when there is something to find.
fn control_table(client: &mut Client, packages: &Packages) -> Result<()> {
    run(client, "CREATE TABLE control (name text, floats real[], doubles double precision[], digits text)")?;
    for column in ["floats", "doubles", "digits"] {
        run(client, &format!("ALTER TABLE control ALTER {column} SET STORAGE EXTERNAL"))?; // not compressed
    }
    run(client, "CREATE TEMP TABLE arriving (name text, digits text)")?;
    data::copy(client, "COPY arriving FROM STDIN", packages.control().map(|row| packages.short_line(row)))?;
    run(
        client,
        // The digits arrive compressed, and would be stored so; joined to nothing they are not.
        "INSERT INTO control SELECT name, floats, floats::float8[], digits || '' \
         FROM (SELECT name, digits, translate(digits, '[]', '{}')::real[] AS floats FROM arriving) AS parsed",
    )
}

fn secrets(cluster: &Cluster, packages: &Packages, keys: &[&[u8]]) -> Result<Patterns> {
    let mut patterns = Patterns::default();
    let step = packages.sealed().len() / VECTORS;
    for row in packages.sealed().step_by(step).take(VECTORS) {
        patterns.add_vector(row, packages.vectors.row(row));
    }
    for question in SHOWN {
        patterns.add_vector(packages.vectors.rows() + question, packages.questions.row(question)); // queries, and one updated row
    }
    add_key(&mut patterns, usize::MAX, &root_key(&cluster.root_key())?)?;
    for (place, key) in (1..).zip(keys) {
        add_key(&mut patterns, usize::MAX - place, key)?;
    }
    for row in packages.sealed().take(rest::ITEMS) {
        patterns.add_bytes(row, "contents of an item", rest::contents(packages, row).as_bytes());
        patterns.add_bytes(row, "metadata of an item", rest::note(packages, row).as_bytes());
    }
    Ok(patterns)
}

fn control(packages: &Packages) -> Patterns {
    let mut patterns = Patterns::default();
    for row in packages.control() {
        patterns.add_vector(row, packages.vectors.row(row));
    }
    patterns
}

/// The 32 bytes that the file's `key` line gives in hexadecimal.
fn root_key(path: &Path) -> Result<Vec<u8>> {
    let text = fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))?;
    let digits = text
        .lines()
        .find_map(|line| line.strip_prefix("key "))
        .with_context(|| format!("no key line in {}", path.display()))?;
    crate::scan::from_hex(digits.trim())
}

/// Names of the forms found, in order.
fn names(searcher: &Searcher, report: &Report) -> Vec<String> {
    let forms: BTreeSet<usize> = report.hits.iter().map(|hit| hit.form).collect();
    forms.into_iter().map(|form| searcher.patterns().forms[form].clone()).collect()
}
