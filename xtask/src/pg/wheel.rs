//! Postgres 16 with pgvector, from a wheel on PyPI: no Debian suite has it.

use std::path::PathBuf;

use anyhow::{Result, bail};

pub fn pg_config() -> Result<PathBuf> {
    bail!("Postgres 16 is not wired up yet")
}
