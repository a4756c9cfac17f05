//! An index that was made on an empty table and then filled.

use std::time::Instant;

use anyhow::Result;
use serde::Serialize;

use super::engine::Engine;
use super::measure::{self, DATABASE, Ground};
use crate::run::step;

/// Its name among the sweeps, its table and itself.
pub const NAME: &str = "sealed_ivf, filled";
pub const TABLE: &str = "filled";
const INDEX: &str = "filled_index";

#[derive(Serialize)]
pub struct Filled {
    pub seconds: f64,
    pub index_bytes: i64,
}

/// Makes it and fills it by one INSERT … SELECT.
pub fn measure(ground: &Ground) -> Result<Filled> {
    let mut client = ground.cluster.connect(DATABASE)?;
    let column = Engine::Sealed.column(ground.vectors.dims);
    client.batch_execute(&format!("CREATE TABLE {TABLE} (id int PRIMARY KEY, embedding {column})"))?;
    client.batch_execute(&Engine::Sealed.create_index(INDEX, TABLE, ground.metric, ground.precision))?;
    measure::stage(&mut client, ground.vectors, ground.vectors.rows())?;
    let begun = Instant::now();
    step("filling an index that was made empty", || {
        client.batch_execute(&format!("INSERT INTO {TABLE} SELECT id, v FROM staging ORDER BY id")).map_err(Into::into)
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    client.batch_execute("DROP TABLE staging")?;
    client.batch_execute(&format!("VACUUM ANALYZE {TABLE}"))?;
    let index_bytes = measure::relation_bytes(&mut client, INDEX)?;
    measure::check_plan(ground, Engine::Sealed, TABLE, INDEX)?;
    Ok(Filled { seconds, index_bytes })
}
