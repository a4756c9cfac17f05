//! `bench --compare`: what fell since an earlier run.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::figure::{Figure, number};

/// A change larger than this is told; smaller ones are noise on most machines.
const NOISE: f64 = 0.05;

/// What a run leaves in its JSON file for a later one.
#[derive(Deserialize)]
pub struct Earlier {
    pub machine: String,
    #[serde(flatten)]
    pub subject: Subject,
    /// The command line, without --json and the like: what to run to measure the same again.
    pub arguments: Vec<String>,
    pub figures: Vec<Figure>,
}

/// What was measured: figures of two runs mean the same only if these are equal.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Subject {
    pub data: String,
    pub rows: usize,
    pub dims: usize,
    pub queries: usize,
    pub metric: String,
    pub precision: String,
}

impl Subject {
    /// Refuses to compare runs on different things.
    pub fn same_as(&self, new: &Subject) -> Result<()> {
        ensure!(
            self == new,
            "expected a run on {} rows of {} ({}, {}), as the earlier one; this one was on {} rows of {} ({}, {})",
            self.rows,
            self.data,
            self.metric,
            self.precision,
            new.rows,
            new.data,
            new.metric,
            new.precision
        );
        Ok(())
    }
}

impl Earlier {
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))?;
        serde_json::from_str(&text)
            .with_context(|| format!("{} is not what `cargo xtask bench --json` writes", path.display()))
    }
}

/// How the figures of two runs differ.
#[derive(Debug, Default, PartialEq)]
pub struct Changes {
    /// Lines about what got worse by more than noise, worst first; then what got better, and what only one run has.
    pub fell: Vec<String>,
    pub rose: Vec<String>,
    pub missing: Vec<String>,
    pub same: usize,
}

pub fn changes(old: &[Figure], new: &[Figure]) -> Changes {
    let mut changes = Changes::default();
    let (mut fell, mut rose) = (Vec::new(), Vec::new());
    for figure in new {
        let Some(before) = old.iter().find(|before| before.name == figure.name) else {
            changes.missing.push(format!("{} (only in the new run)", figure.name));
            continue;
        };
        let worse = figure.worse_by(before);
        let line = format!(
            "{:54} {:>10} → {:<10} {:9} {:+.0} %",
            figure.name,
            number(before.value),
            number(figure.value),
            figure.unit,
            100.0 * (figure.value - before.value) / before.value.abs().max(f64::MIN_POSITIVE)
        );
        match worse {
            worse if worse > NOISE => fell.push((worse, line)),
            worse if worse < -NOISE => rose.push((-worse, line)),
            _ => changes.same += 1,
        }
    }
    for list in [&mut fell, &mut rose] {
        list.sort_by(|a, b| b.0.total_cmp(&a.0));
    }
    changes.fell = fell.into_iter().map(|(_, line)| line).collect();
    changes.rose = rose.into_iter().map(|(_, line)| line).collect();
    let gone = old.iter().filter(|before| new.iter().all(|figure| figure.name != before.name));
    changes.missing.extend(gone.map(|before| format!("{} (only in the old run)", before.name)));
    changes
}

/// Prints the changes. An error, so that a script sees it, if anything fell.
pub fn tell(old: &Earlier, new: &[Figure], machine: &str) -> Result<()> {
    let changes = changes(&old.figures, new);
    println!("\ncompared with the earlier run on {}; this one: {machine}", old.machine);
    for (title, lines) in [
        ("fell by more than 5 %", &changes.fell),
        ("better by more than 5 %", &changes.rose),
        ("not compared", &changes.missing),
    ] {
        if !lines.is_empty() {
            println!("  {title}:");
            lines.iter().for_each(|line| println!("    {line}"));
        }
    }
    println!("  within 5 %: {} figures", changes.same);
    ensure!(changes.fell.is_empty(), "{} figures fell by more than 5 %", changes.fell.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fell_is_told_worst_first_by_its_own_direction() {
        let old = [
            Figure::higher("qps", 1000.0, ""),
            Figure::lower("build", 2.0, "s"),
            Figure::lower("bytes", 60.0, "MiB"),
            Figure::higher("inserts", 100.0, "rows/s"),
            Figure::higher("gone", 1.0, ""),
        ];
        let new = [
            Figure::higher("qps", 940.0, ""),
            Figure::lower("build", 4.0, "s"),
            Figure::lower("bytes", 62.0, "MiB"),
            Figure::higher("inserts", 150.0, "rows/s"),
            Figure::lower("fresh", 1.0, ""),
        ];
        let changes = changes(&old, &new);
        assert_eq!(changes.fell.len(), 2);
        assert!(changes.fell[0].starts_with("build") && changes.fell[0].ends_with("+100 %"), "{:?}", changes.fell);
        assert!(changes.fell[1].starts_with("qps") && changes.fell[1].ends_with("-6 %"), "{:?}", changes.fell);
        assert!(changes.rose[0].starts_with("inserts"));
        assert_eq!(changes.same, 1);
        assert_eq!(changes.missing, ["fresh (only in the new run)", "gone (only in the old run)"]);
    }

    #[test]
    fn a_run_is_as_good_as_itself() {
        let figures = [Figure::higher("qps", 3.0, "x"), Figure::lower("zero", 0.0, "ms")];
        assert_eq!(changes(&figures, &figures), Changes { same: 2, ..Changes::default() });
    }
}
