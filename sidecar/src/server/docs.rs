//! `/v1/openapi.json`, and the pages that show it. Everything they load comes from here.

use axum::Router;
use axum::extract::Path;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityScheme};
use utoipa::{Modify, OpenApi};

use crate::error::ApiError;
use crate::state::AppState;

/// The frame that the routes' own descriptions are put into.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "sealvec",
        description = "Encrypted vector search on PostgreSQL, by CyborgDB's v1 routes.",
        version = env!("CARGO_PKG_VERSION"),
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
        contact()
    ),
    modifiers(&Key)
)]
pub(super) struct Description;

struct Key;

impl Modify for Key {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let key = ApiKeyValue::with_description("X-API-Key", "The root key, or a user's token");
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("ApiKey", SecurityScheme::ApiKey(ApiKey::Header(key)));
    }
}

/// Files of Swagger UI that the page loads; the archive has more.
const FILES: [&str; 5] =
    ["swagger-ui.css", "swagger-ui-bundle.js", "favicon-16x16.png", "favicon-32x32.png", "index.css"];
/// Ours, beside them: a page without inline scripts can forbid all others.
const START: &str = "start.js";

/// A browser loads nothing from elsewhere and runs no script but these, whatever a description holds.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) fn routes(openapi: &utoipa::openapi::OpenApi) -> Router<AppState> {
    let json = Bytes::from(openapi.to_json().expect("a description is JSON"));
    Router::new()
        .route("/v1/openapi.json", get(|| async { ([(header::CONTENT_TYPE, "application/json")], json) }))
        .route("/v1/docs", get(|| page("openapi.json")))
        .route("/docs", get(|| page("v1/openapi.json")))
        .route("/v1/docs/{file}", get(file))
        .route("/docs/{file}", get(file))
}

/// Addresses are relative, so that the pages also work behind a proxy's prefix.
async fn page(openapi: &'static str) -> Response {
    let html = format!(
        r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>sealvec REST API</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
<link rel="icon" type="image/png" href="docs/favicon-32x32.png" sizes="32x32">
</head>
<body>
<div id="swagger-ui" data-openapi="{openapi}"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/{START}"></script>
</body>
</html>
"#
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, html).into_response()
}

/// Without `validatorUrl: null` the page would ask validator.swagger.io about the description.
const START_JS: &str = r##"const place = document.getElementById("swagger-ui");
SwaggerUIBundle({
  url: place.dataset.openapi,
  dom_id: "#swagger-ui",
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  deepLinking: true,
  queryConfigEnabled: false,
  validatorUrl: null,
});
"##;

async fn file(Path(name): Path<String>) -> Result<Response, ApiError> {
    if name == START {
        return Ok(([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], START_JS).into_response());
    }
    let not_found = || ApiError::not_found("Not Found");
    let name = FILES.iter().find(|file| **file == name).ok_or_else(not_found)?;
    let found = utoipa_swagger_ui::serve(name, Default::default());
    let found = found.ok().flatten().ok_or_else(not_found)?;
    let headers = [(header::CONTENT_TYPE, found.content_type), (header::CACHE_CONTROL, "max-age=86400".to_owned())];
    Ok((headers, found.bytes.into_owned()).into_response())
}
