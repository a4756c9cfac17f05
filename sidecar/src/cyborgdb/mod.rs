//! CyborgDB's v1 routes: bodies, SQL calls and answers. One of our own stands beside them: [`audit`].
//!
//! A body is read by hand ([`body`], [`validate`], [`dto`]) because its clients know the original by its 422s, and
//! because metadata and numbers must come through as they were written. Then one statement ([`target`]), and rows
//! written straight into the answer ([`rows`]).

mod audit;
mod body;
mod dto;
mod echo;
mod embedding;
mod failure;
mod health;
mod indexes;
mod models;
mod python;
mod rows;
mod target;
mod text;
mod users;
mod validate;
mod vectors;
mod words;

use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::state::AppState;

/// What [`failure::Failures`] refers to: the router collects the types of bodies, but not those of shared answers.
#[derive(OpenApi)]
#[openapi(components(schemas(dto::answers::ErrorResponse, dto::answers::ValidationErrorResponse)))]
struct Failed;

/// Every route of the prefix `/v1`, with its description. A route takes its caller as [`Caller`](crate::auth::Caller),
/// [`Admin`](crate::auth::Admin) or [`Root`](crate::auth::Root), before its body.
pub fn router(_state: &AppState) -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(Failed::openapi())
        .routes(routes!(health::health))
        .routes(routes!(indexes::list))
        .routes(routes!(indexes::create))
        .routes(routes!(indexes::describe))
        .routes(routes!(indexes::delete))
        .routes(routes!(indexes::train))
        .routes(routes!(indexes::training_status))
        .routes(routes!(users::create_user, users::list_users))
        .routes(routes!(users::delete_user))
        .routes(routes!(vectors::upsert::upsert))
        .routes(routes!(vectors::upsert::upsert_binary))
        .routes(routes!(vectors::query::query))
        .routes(routes!(vectors::query::query_binary))
        .routes(routes!(vectors::get::get))
        .routes(routes!(vectors::delete::delete))
        .routes(routes!(vectors::ids::list_ids))
        .routes(routes!(vectors::ids::num_vectors))
        .routes(routes!(vectors::query_metadata::query_metadata))
        .routes(routes!(models::embedding_models))
        .routes(routes!(audit::audit))
}
