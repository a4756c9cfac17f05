//! What happens to a path before it is routed: HEAD is no GET, and a trailing slash leads to the path without it.

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use tower::ServiceExt;

use crate::error::ApiError;

/// A method that no route has: the answer tells whether the path exists, 404 or 405.
const PROBE: &[u8] = b"PROBE";

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Front {
    paths: Router,  // the routes alone, to ask about paths
    routes: Router, // with their limits
}

impl Front {
    pub(super) fn new(paths: Router, routes: Router) -> Self {
        Self { paths, routes }
    }

    pub(super) async fn call(self, mut request: Request) -> Response {
        if let Some(place) = self.redirect(request.uri()).await {
            return (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, place)]).into_response();
        }
        if request.method() == Method::HEAD {
            *request.method_mut() = probe(); // a route's GET would answer it otherwise
        }
        let mut response = in_shape(run(self.routes, request).await);
        if let Some(allow) = response.headers_mut().get_mut(header::ALLOW) {
            let without = allow.to_str().map(|methods| methods.replace(",HEAD", ""));
            if let Some(without) = without.ok().and_then(|methods| HeaderValue::from_str(&methods).ok()) {
                *allow = without;
            }
        }
        response
    }

    /// The path without its slash, where that exists. Relative to the host: a `Host` header is the client's word.
    async fn redirect(&self, uri: &Uri) -> Option<HeaderValue> {
        let path = uri.path().strip_suffix('/').filter(|path| path.len() > 1 && !path.starts_with("//"))?;
        let asked = Request::builder().method(probe()).uri(path).body(Body::empty()).ok()?;
        if run(self.paths.clone(), asked).await.status() != StatusCode::METHOD_NOT_ALLOWED {
            return None;
        }
        let place = match uri.query() {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        };
        HeaderValue::from_str(&place).ok()
    }
}

/// What axum's own extractors refuse, such as a path that is no UTF-8, is text; here every error has one form.
fn in_shape(response: Response) -> Response {
    let status = response.status();
    let json = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    if !(status.is_client_error() || status.is_server_error()) || json {
        return response;
    }
    let mut shaped = ApiError::new(status, status.canonical_reason().unwrap_or("error")).into_response();
    shaped.extensions_mut().extend(response.extensions().clone());
    shaped
}

fn probe() -> Method {
    Method::from_bytes(PROBE).expect("letters are a method")
}

async fn run(router: Router, request: Request) -> Response {
    router.oneshot(request).await.unwrap_or_else(|never| match never {})
}
