//! A request's body, from bytes to a request type or a 422.

use axum::extract::{FromRequest, Request};
use axum::http::header::CONTENT_TYPE;
use bytes::Bytes;
use sealvec_core::json::Json;

use super::dto::Body;
use super::failure::Failure;
use super::python::{self, Verdict};
use super::validate::Refusal;
use crate::error::ApiError;
use crate::extract::RawBody;
use crate::state::AppState;

/// A body that should be JSON.
pub struct JsonBody {
    bytes: Bytes,
    /// Said to be JSON, or nothing said.
    declared: bool,
}

/// A body that is JSON.
pub struct Text<'a> {
    json: Option<Json<'a>>,
    /// A text whose numbers that are none were replaced.
    replaced: Option<String>,
}

/// Longer bodies are parsed where they don't keep a worker from other requests.
const SHORT: usize = 256 << 10;

/// FastAPI's words for what it can't even decode.
const UNREADABLE: &str = "There was an error parsing the body";

impl FromRequest<AppState> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let declared = request.headers().get(CONTENT_TYPE).is_none_or(|value| is_json(value.as_bytes()));
        let RawBody(bytes) = RawBody::from_request(request, state).await?;
        Ok(Self { bytes, declared })
    }
}

/// `application/json`, or anything of `application/` that ends in `+json`.
fn is_json(content_type: &[u8]) -> bool {
    let text = String::from_utf8_lossy(content_type).to_ascii_lowercase();
    let essence = text.split(';').next().unwrap_or_default().trim();
    essence.is_empty()
        || essence.strip_prefix("application/").is_some_and(|kind| kind == "json" || kind.ends_with("+json"))
}

impl JsonBody {
    /// Its text, checked.
    ///
    /// # Errors
    /// 422, or 400 for what is no text at all.
    pub fn text(&self) -> Result<Text<'_>, Failure> {
        aside(self.bytes.len(), || check(&self.bytes, self.declared))
    }
}

fn check(bytes: &[u8], declared: bool) -> Result<Text<'_>, Failure> {
    if bytes.is_empty() {
        return Err(Refusal::missing_body().into());
    }
    let text = std::str::from_utf8(bytes).map_err(|_| ApiError::bad_request(UNREADABLE))?;
    if !declared {
        return Err(Refusal::other_type(text).into());
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Ok(json) = Json::parse(text) {
        return Ok(Text { json: Some(json), replaced: None });
    }
    match python::judge(text) {
        Verdict::Refused { place, words } => Err(Refusal::syntax(place, words).into()),
        Verdict::NotFinite(replaced) => Ok(Text { json: None, replaced: Some(replaced) }),
        Verdict::Unreadable => Err(ApiError::bad_request(UNREADABLE).into()),
    }
}

/// A body from its bytes, without a request around it.
#[cfg(test)]
pub fn read_bytes<'t>(
    bytes: &'t [u8],
    content_type: &[u8],
    read: impl for<'a> FnOnce(Json<'a>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let text = check(bytes, is_json(content_type))?;
    read(text.json()?)
}

impl Text<'_> {
    /// Reads a request.
    ///
    /// # Errors
    /// 422.
    pub fn read<'t, T: Body<'t>>(&'t self) -> Result<T, Failure> {
        let json = self.json()?;
        aside(json.text().len(), || T::parse(json).map_err(Failure::from))
    }

    fn json(&self) -> Result<Json<'_>, Failure> {
        match (&self.replaced, self.json) {
            (Some(text), _) => Json::parse(text).map_err(|_| ApiError::bad_request(UNREADABLE).into()),
            (None, Some(json)) => Ok(json),
            (None, None) => unreachable!("a text is one or the other"),
        }
    }

    /// Whether every number in it was one.
    pub fn is_finite(&self) -> bool {
        self.replaced.is_none()
    }
}

/// Runs `work` on `length` bytes, away from other requests if it may take long.
fn aside<T>(length: usize, work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    let threads = Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
    if length > SHORT && threads { tokio::task::block_in_place(work) } else { work() }
}
