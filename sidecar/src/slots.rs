//! Makes the slots of the configuration known to the database, at the start.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Provider, Slot};
use crate::db::{DbError, Pool};

const RETRY_PERIOD: Duration = Duration::from_secs(2);
const DUPLICATE: &str = "42710";
const CREATE_SQL: &str = "SELECT sealvec.create_kms($1, $2, $3::text::jsonb)";

/// Creates the missing slots. Tries until the database is there, so that neither has to start first. A slot of that
/// name that exists stays as it is: the key agent goes by its own file anyway.
pub async fn register(pool: Pool, slots: Arc<[Slot]>) {
    for slot in slots.iter() {
        let mut told = false;
        while let Err(error) = create(&pool, slot).await {
            let DbError::Unavailable(reason) = error else {
                tracing::error!(slot = slot.name, "the database does not take the slot: {}", sqlstate(&error));
                break;
            };
            if !std::mem::replace(&mut told, true) {
                tracing::warn!("slots wait: {reason}");
            }
            tokio::time::sleep(RETRY_PERIOD).await;
        }
    }
}

async fn create(pool: &Pool, slot: &Slot) -> Result<(), DbError> {
    let Slot { name, provider, options, .. } = slot;
    let mut conn = pool.get().await?;
    if conn.query_opt("SELECT 1 FROM sealvec.kms_slots WHERE name = $1", &[&name]).await?.is_some() {
        return Ok(());
    }
    let options = match provider {
        Provider::Local => "{}".to_owned(), // whatever else stands there means nothing
        _ => serde_json::to_string(options).expect("a map is JSON"),
    };
    match conn.query(CREATE_SQL, &[&name, &provider.as_str(), &options]).await {
        Err(error) if sqlstate(&error) == DUPLICATE => Ok(()), // another sidecar was faster
        result => result.map(|_| tracing::info!(slot = name, provider = provider.as_str(), "registered")),
    }
}

fn sqlstate(error: &DbError) -> &str {
    match error {
        DbError::Sql(error) => error.code().map_or("connection lost", |code| code.code()),
        DbError::Unavailable(reason) => reason,
    }
}
