//! What every route sees.

use std::sync::Arc;
use std::time::Instant;

use crate::auth::Auth;
use crate::db::Pool;
use crate::embed::Embedder;
use crate::limits::Limits;

/// Cheap to clone: one reference count per request and field.
#[derive(Clone)]
pub struct AppState {
    /// Connections to Postgres.
    pub pool: Pool,
    /// Who may call.
    pub auth: Arc<Auth>,
    /// What a request may ask for.
    pub limits: Limits,
    /// Text to vectors; `None` where no model directory is configured.
    pub embedder: Option<Arc<dyn Embedder>>,
    /// Slots of the configuration, in the order of their names.
    pub slots: Arc<[crate::config::Slot]>,
    /// When the server started.
    pub started: Instant,
}
