//! The router, and what every request passes before and after its route.

use axum::Router;
use axum::http::StatusCode;
use utoipa_axum::router::OpenApiRouter;

use crate::cyborgdb;
use crate::error::ApiError;
use crate::state::AppState;

/// The whole service; tests call it without a socket.
pub fn router(state: AppState) -> Router {
    let (routes, _openapi) = OpenApiRouter::new().nest("/v1", cyborgdb::router(&state)).split_for_parts();
    routes
        .fallback(|| async { ApiError::not_found("Not Found") })
        .method_not_allowed_fallback(|| async { ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed") })
        .with_state(state)
}
