//! `GET /v1/health`: the only route that asks for no key.

use axum::Json;

use super::dto::answers::Health;

/// Version of the original whose contract this is; its SDKs show it.
const VERSION: &str = "0.18.0";

/// Whether the server is there.
#[utoipa::path(get, path = "/health", tag = "health", responses((status = 200, body = Health)))]
pub async fn health() -> Json<Health> {
    Json(Health { status: "healthy", api_version: "v1", version: VERSION })
}
