//! Connections to Postgres: a pool that says "not now" instead of waiting without end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use deadpool_postgres::{Manager, ManagerConfig, Object, PoolError, QueueMode, RecyclingMethod, Runtime, TimeoutType};
use tokio_postgres::types::ToSql;
use tokio_postgres::{CancelToken, NoTls, Row};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::sealer::Sealer;
use crate::sql::ShownKey;

/// Without an acknowledgement for so long, a connection is dead.
const UNHEARD_MAX: Duration = Duration::from_secs(30);

/// Why a statement gave no result.
#[derive(Debug)]
pub enum DbError {
    /// No connection: all are busy, or the database does not answer.
    Unavailable(&'static str),
    /// The database's own report, or a connection that broke.
    Sql(tokio_postgres::Error),
}

/// How connections are made and kept.
#[derive(Clone, Debug)]
pub struct PoolSettings {
    /// Most connections at once.
    pub connections_max: usize,
    /// Wait for a free connection before 503.
    pub wait_max: Duration,
    /// Wait for a new connection before 503.
    pub connect_max: Duration,
    /// The database's own limit on a statement, should this process die while it runs.
    pub statement_max: Duration,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            connections_max: 16,
            wait_max: Duration::from_secs(5),
            connect_max: Duration::from_secs(5),
            statement_max: Duration::from_secs(3600),
        }
    }
}

/// The pool. Cheap to clone.
#[derive(Clone)]
pub struct Pool {
    inner: deadpool_postgres::Pool,
    tls: Option<MakeRustlsConnect>,
    complaint: Arc<Complaint>,
    sealer: Arc<Sealer>,
}

/// Tells the operator why there is no connection, now and then: every request fails for the same reason.
struct Complaint {
    since: Instant,
    next_ms: AtomicU64,
}

impl Complaint {
    const PERIOD: Duration = Duration::from_secs(5);

    fn tell(&self, error: &PoolError) {
        let now = self.since.elapsed().as_millis() as u64;
        let next = self.next_ms.load(Ordering::Relaxed);
        let later = now + Self::PERIOD.as_millis() as u64;
        if now < next || self.next_ms.compare_exchange(next, later, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        match error {
            PoolError::Backend(error) => {
                let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
                tracing::warn!(cause, "no connection: {error}");
            }
            error => tracing::warn!("no connection: {error}"),
        }
    }
}

/// A connection that is lent for some statements, each in a transaction of its own.
pub struct Conn {
    object: Option<Object>, // None once it broke
    tls: Option<MakeRustlsConnect>,
    busy: bool,
}

impl Pool {
    /// A pool that connects when it is first asked.
    pub fn new(mut config: tokio_postgres::Config, tls: Option<MakeRustlsConnect>, settings: &PoolSettings) -> Self {
        config.application_name("sealvec-sidecar");
        config.connect_timeout(settings.connect_max);
        // A database whose host vanished without a word is noticed in half a minute, busy or idle.
        config.keepalives_idle(UNHEARD_MAX / 2).keepalives_interval(UNHEARD_MAX / 6).keepalives_retries(3);
        config.tcp_user_timeout(UNHEARD_MAX);
        let own = format!("-c jit=off -c statement_timeout={}", settings.statement_max.as_millis());
        let options = config.get_options().map_or(own.clone(), |given| format!("{own} {given}"));
        config.options(options);
        let how = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = match &tls {
            Some(tls) => Manager::from_config(config, tls.clone(), how),
            None => Manager::from_config(config, NoTls, how),
        };
        let inner = deadpool_postgres::Pool::builder(manager)
            .max_size(settings.connections_max)
            .wait_timeout(Some(settings.wait_max))
            .create_timeout(Some(settings.connect_max))
            .recycle_timeout(Some(settings.connect_max))
            // The connection that was used last: its backend has keys derived and the index's directory opened.
            .queue_mode(QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .build()
            .expect("a pool with time limits has a runtime");
        let complaint = Arc::new(Complaint { since: Instant::now(), next_ms: AtomicU64::new(0) });
        Self { inner, tls, complaint, sealer: Arc::default() }
    }

    /// A connection, within the limits.
    ///
    /// # Errors
    /// [`DbError::Unavailable`].
    pub async fn get(&self) -> Result<Conn, DbError> {
        match self.inner.get().await {
            Ok(object) => Ok(Conn { object: Some(object), tls: self.tls.clone(), busy: false }),
            Err(error) => {
                self.complaint.tell(&error);
                Err(DbError::Unavailable(match error {
                    PoolError::Timeout(TimeoutType::Wait) => "All connections to the database are busy",
                    PoolError::Closed => "The server is shutting down",
                    _ => "The database is not available",
                }))
            }
        }
    }

    /// One statement on a connection of its own. `sql` is prepared once per connection.
    ///
    /// # Errors
    /// See [`DbError`].
    pub async fn query(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, DbError> {
        self.get().await?.query(sql, params).await
    }

    /// As [`Pool::query`], for a statement of exactly one row.
    ///
    /// # Errors
    /// See [`DbError`].
    pub async fn query_one(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Row, DbError> {
        self.get().await?.query_one(sql, params).await
    }

    /// As [`Pool::query`], for a statement of at most one row.
    ///
    /// # Errors
    /// See [`DbError`].
    pub async fn query_opt(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>, DbError> {
        self.get().await?.query_opt(sql, params).await
    }

    /// As [`Pool::query`], for a statement that shows keys: `keys` are among `params`, and are sealed here.
    ///
    /// The server's key comes on the connection that the statement goes over, and once more if the server has made
    /// another meanwhile: that is told before anything else is done, so the statement can be sent again.
    ///
    /// # Errors
    /// See [`DbError`].
    pub async fn query_keyed(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
        keys: &[&ShownKey<'_>],
    ) -> Result<Vec<Row>, DbError> {
        let mut conn = self.get().await?;
        if !keys.iter().any(|key| key.has_key()) {
            return conn.query(sql, params).await;
        }
        let known = match self.sealer.receiver() {
            Some(known) => known,
            None => self.sealer.ask(&mut conn).await?,
        };
        keys.iter().for_each(|key| key.seal(&self.sealer, &known));
        match conn.query(sql, params).await {
            Err(DbError::Sql(error)) if is_stale_key(&error) => {
                let fresh = self.sealer.ask(&mut conn).await?;
                keys.iter().for_each(|key| key.seal(&self.sealer, &fresh));
                conn.query(sql, params).await
            }
            result => result,
        }
    }

    /// Connections: made, idle, requests that wait for one.
    pub fn status(&self) -> (usize, usize, usize) {
        let status = self.inner.status();
        (status.size, status.available, status.waiting)
    }

    /// Lets nobody in any more; lent connections end when they are given back.
    pub fn close(&self) {
        self.inner.close();
    }
}

impl Conn {
    /// Rows of one statement.
    ///
    /// # Errors
    /// [`DbError::Sql`].
    pub async fn query(&mut self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, DbError> {
        let Some(object) = &self.object else {
            return Err(DbError::Unavailable("The connection to the database was lost"));
        };
        self.busy = true;
        let result = async {
            let statement = object.prepare_cached(sql).await?;
            object.query(&statement, params).await
        };
        let result = result.await;
        self.busy = false;
        result.map_err(|error| {
            if spoils_connection(&error) {
                self.discard();
            }
            DbError::Sql(error)
        })
    }

    /// As [`Conn::query`], for a statement of exactly one row.
    ///
    /// # Errors
    /// As [`Conn::query`].
    pub async fn query_one(&mut self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Row, DbError> {
        let row = self.query_opt(sql, params).await?;
        row.ok_or(DbError::Unavailable("The database gave no answer"))
    }

    /// As [`Conn::query`], for a statement of at most one row.
    ///
    /// # Errors
    /// As [`Conn::query`].
    pub async fn query_opt(&mut self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>, DbError> {
        Ok(self.query(sql, params).await?.pop())
    }

    fn discard(&mut self) -> Option<CancelToken> {
        let client = Object::take(self.object.take()?);
        Some(client.cancel_token())
    }
}

impl Drop for Conn {
    /// A statement that nobody waits for any more (the client left, or the time was up) is cancelled: given back
    /// as it is, the connection would make the next request wait for it.
    fn drop(&mut self) {
        if !self.busy {
            return;
        }
        let tls = self.tls.take();
        if let (Some(token), Ok(runtime)) = (self.discard(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                let _ = match tls {
                    Some(tls) => token.cancel_query(tls).await,
                    None => token.cancel_query(NoTls).await,
                };
            });
        }
    }
}

/// Whether a key was sealed to a transport key that the server does not have any more.
fn is_stale_key(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| code.code() == "SV001")
}

/// Whether what was prepared here gives other columns since the extension changed.
pub fn is_stale_plan(report: &tokio_postgres::error::DbError) -> bool {
    report.code().code() == "0A000" && report.routine() == Some("RevalidateCachedQuery")
}

/// Whether a connection is of no use after this error: it broke, or what it prepared no longer fits the database
/// (the extension was dropped and made anew, so types and functions have other OIDs).
fn spoils_connection(error: &tokio_postgres::Error) -> bool {
    match error.as_db_error() {
        Some(report) if is_stale_plan(report) => true,
        Some(report) => matches!(report.code().code(), "26000" | "42883" | "57P01" | "57P02" | "XX000"),
        None => true,
    }
}
