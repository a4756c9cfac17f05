//! One line of the table: what was measured, what was wanted of it, and what it was before.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// Which way a figure should go.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    Higher,
    Lower,
}

/// Something measured.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Figure {
    /// The same in every run; figures of two runs are compared by it.
    pub name: String,
    pub value: f64,
    pub unit: String,
    pub better: Better,
    /// What is wanted of it: at least or at most this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<f64>,
    /// How it came about: the settings, and the figures behind a ratio.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

impl Figure {
    pub fn higher(name: impl Into<String>, value: f64, unit: &str) -> Self {
        Self::new(name, value, unit, Better::Higher)
    }

    pub fn lower(name: impl Into<String>, value: f64, unit: &str) -> Self {
        Self::new(name, value, unit, Better::Lower)
    }

    fn new(name: impl Into<String>, value: f64, unit: &str, better: Better) -> Self {
        Self { name: name.into(), value, unit: unit.to_owned(), better, wanted: None, note: String::new() }
    }

    pub fn wanted(self, limit: f64) -> Self {
        Self { wanted: Some(limit), ..self }
    }

    pub fn note(self, note: impl Into<String>) -> Self {
        Self { note: note.into(), ..self }
    }

    /// Whether it is as wanted, if anything was.
    pub fn met(&self) -> Option<bool> {
        self.wanted.map(|limit| match self.better {
            Better::Higher => self.value >= limit,
            Better::Lower => self.value <= limit,
        })
    }

    /// By how much worse than `before` it is, as a share of that; negative when it is better.
    pub fn worse_by(&self, before: &Figure) -> f64 {
        let change = (self.value - before.value) / before.value.abs().max(f64::MIN_POSITIVE);
        match self.better {
            Better::Higher => -change,
            Better::Lower => change,
        }
    }
}

/// A line for each figure: value, what was wanted, whether it was met, how it came about.
pub fn table(figures: &[Figure]) -> String {
    let mut text = format!("{:54} {:>12} {:9} {:>14}\n", "", "measured", "", "wanted");
    for figure in figures {
        let wanted = figure.wanted.map_or_else(String::new, |limit| {
            let sign = if figure.better == Better::Higher { "≥" } else { "≤" };
            format!("{sign} {}", number(limit))
        });
        let verdict = match figure.met() {
            Some(true) => "met",
            Some(false) => "NOT MET",
            None => "",
        };
        let line = format!(
            "{:54} {:>12} {:9} {wanted:>14} {verdict:8} {}",
            figure.name,
            number(figure.value),
            figure.unit,
            figure.note
        );
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// Four digits or so.
pub fn number(value: f64) -> String {
    let digits = match value.abs() {
        0.0 => 0,
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 4,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn met_goes_by_direction_and_the_limit_itself_is_met() {
        for (figure, met) in [
            (Figure::higher("qps", 2.0, "x").wanted(1.6), Some(true)),
            (Figure::higher("qps", 1.6, "x").wanted(1.6), Some(true)),
            (Figure::higher("qps", 1.5, "x").wanted(1.6), Some(false)),
            (Figure::lower("build", 2.1, "s").wanted(2.0), Some(false)),
            (Figure::lower("build", 2.0, "s").wanted(2.0), Some(true)),
            (Figure::lower("build", 2.0, "s"), None),
        ] {
            assert_eq!(figure.met(), met, "{figure:?}");
        }
    }

    #[test]
    fn the_table_says_what_is_not_met() {
        let text =
            table(&[Figure::lower("build", 2.5, "s").wanted(2.0).note("lists 356"), Figure::higher("QPS", 4512.3, "")]);
        assert!(text.contains("≤ 2.00 NOT MET  lists 356\n"), "{text}");
        assert!(text.contains("4512"), "{text}");
    }
}
