//! The command line as text: what an earlier run was told, to be told again.

use anyhow::{Context, Result, ensure};
use clap::Parser;

use super::Bench;
use super::engine::Engine;

/// The command line by itself, as an earlier run wrote it down.
#[derive(Parser)]
struct Again {
    #[command(flatten)]
    bench: Bench,
}

/// Reads what [`arguments`] kept.
pub fn again(arguments: &[String]) -> Result<Bench> {
    let again = Again::try_parse_from(std::iter::once(&String::from("bench")).chain(arguments));
    Ok(again.context("the earlier run's arguments are not known any more")?.bench)
}

/// `16/64`: m and ef_construction.
pub fn hnsw(text: &str) -> Result<Engine> {
    let (m, ef) = text.split_once('/').with_context(|| format!("expected M/EF_CONSTRUCTION, not {text:?}"))?;
    let (m, ef_construction) = (m.parse()?, ef.parse()?);
    ensure!(ef_construction >= 2 * m, "pgvector wants ef_construction of at least 2 x m, not {text}");
    Ok(Engine::Hnsw { m, ef_construction })
}

/// The command line without what does not change the measurement.
pub fn arguments(all: impl Iterator<Item = String>) -> Vec<String> {
    let mut kept = Vec::new();
    let mut skip = false;
    for argument in all {
        let name = argument.split('=').next().unwrap_or_default();
        if skip {
            skip = false;
        } else if ["--json", "--compare", "--with"].contains(&name) {
            skip = !argument.contains('=');
        } else if !["--no-build", "--background"].contains(&name) {
            kept.push(argument);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::super::Part;
    use super::*;

    #[test]
    fn arguments_are_kept_that_change_what_is_measured() {
        let line =
            "--data deb --json out.json --compare=old.json --no-build --background --vs pgvector --with new.json";
        assert_eq!(arguments(line.split(' ').map(String::from)), ["--data", "deb", "--vs", "pgvector"]);
        assert!(arguments("--compare old.json".split(' ').map(String::from)).is_empty());
    }

    #[test]
    fn what_was_kept_can_be_run_again() {
        let kept = ["--data", "deb", "--vs", "pgvector", "--hnsw", "16/64,32/200", "--only", "speed,first"];
        let bench = again(&kept.map(String::from)).unwrap();
        assert_eq!(
            bench.hnsw,
            [Engine::Hnsw { m: 16, ef_construction: 64 }, Engine::Hnsw { m: 32, ef_construction: 200 }]
        );
        assert_eq!(bench.only, [Part::Speed, Part::First]);
        for wrong in ["16/20", "16", "16/x"] {
            assert!(again(&["--vs", "pgvector", "--hnsw", wrong].map(String::from)).is_err(), "{wrong}");
        }
    }
}
