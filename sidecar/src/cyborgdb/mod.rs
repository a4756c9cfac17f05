//! CyborgDB's v1 routes: bodies, SQL calls and answers.

use utoipa_axum::router::OpenApiRouter;

use crate::state::AppState;

/// Every route of the prefix `/v1`, with its description. A route takes its caller as [`Caller`](crate::auth::Caller),
/// [`Admin`](crate::auth::Admin) or [`Root`](crate::auth::Root), before its body.
pub fn router(_state: &AppState) -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
}
