//! Who calls: the `X-API-Key` header, looked at before the body.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use sealvec_core::keys::{ServerKey, UserToken};
use subtle::ConstantTimeEq;

use crate::error::ApiError;
use crate::state::AppState;

const HEADER: &str = "x-api-key";
const TOKEN_PREFIX: &str = "cdbk_";

/// Which keys the server knows. Holds digests of them, and what tags user tokens; no key itself.
#[derive(Debug)]
pub enum Auth {
    /// No key is asked for.
    Open,
    /// One key for everything but the user routes.
    Single(KeyDigest),
    /// A root key, and users' tokens that were made under it.
    Root(KeyDigest, ServerKey),
}

/// SHA-256 of a key: of one length, so that a comparison tells nothing of the key's.
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// Of a key as it is shown in the header.
    pub fn of(key: &str) -> Self {
        Self(UserToken::fingerprint(key))
    }

    fn is(&self, shown: &str) -> bool {
        self.0.ct_eq(&UserToken::fingerprint(shown)).into()
    }
}

impl std::fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyDigest([redacted])")
    }
}

/// Who calls. As an argument of a route: any valid key.
#[derive(Clone, Debug)]
pub enum Caller {
    /// The root key.
    Root,
    /// The only key of the single-key mode.
    ApiKey,
    /// A user of one index; the token's tag fits this server's root key.
    User(Arc<UserToken>),
    /// Anyone: the server asks for no key.
    Open,
}

/// A caller who may administer indexes. As an argument of a route: 403 for users' tokens.
#[derive(Clone, Debug)]
pub struct Admin(pub Caller);

/// The root key itself, with what tags new users' tokens. As an argument of a route: 403 for everyone else,
/// also when no key is asked for.
#[derive(Clone, Debug)]
pub struct Root(Arc<Auth>);

impl Auth {
    /// With a root key.
    pub fn root(key: &str) -> Self {
        Self::Root(KeyDigest::of(key), ServerKey::from_root_key(key.as_bytes()))
    }

    /// With one key that is no root key.
    pub fn single(key: &str) -> Self {
        Self::Single(KeyDigest::of(key))
    }

    /// Who shows these headers.
    ///
    /// # Errors
    /// 401.
    pub fn caller(&self, headers: &HeaderMap) -> Result<Caller, ApiError> {
        if matches!(self, Self::Open) {
            return Ok(Caller::Open);
        }
        let mut shown = headers.get_all(HEADER).iter();
        let (key, second) = (shown.next(), shown.next());
        let key = key.filter(|key| !key.is_empty()).ok_or_else(|| ApiError::unauthorized("API Key is required"))?;
        let invalid = || ApiError::unauthorized("Invalid API Key");
        let key = key.to_str().ok().filter(|_| second.is_none()).ok_or_else(invalid)?;
        match self {
            Self::Root(_, server) if key.starts_with(TOKEN_PREFIX) => UserToken::decode(key, server)
                .map(|token| Caller::User(Arc::new(token)))
                .map_err(|_| ApiError::unauthorized("Invalid user API key")),
            Self::Root(digest, _) if digest.is(key) => Ok(Caller::Root),
            Self::Single(digest) if digest.is(key) => Ok(Caller::ApiKey),
            _ => Err(invalid()),
        }
    }
}

impl Caller {
    /// The token, where the caller shows one.
    pub fn user(&self) -> Option<&UserToken> {
        match self {
            Self::User(token) => Some(token),
            _ => None,
        }
    }
}

impl Root {
    /// What new users' tokens are tagged with.
    pub fn server_key(&self) -> &ServerKey {
        match &*self.0 {
            Auth::Root(_, server) => server,
            _ => unreachable!("made only by a root key"),
        }
    }
}

impl FromRequestParts<AppState> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        state.auth.caller(&parts.headers)
    }
}

impl FromRequestParts<AppState> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        match state.auth.caller(&parts.headers)? {
            Caller::User(_) => Err(ApiError::forbidden("This operation requires an admin (root) API key")),
            caller => Ok(Self(caller)),
        }
    }
}

impl FromRequestParts<AppState> for Root {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        match state.auth.caller(&parts.headers)? {
            Caller::Root => Ok(Self(Arc::clone(&state.auth))),
            _ => Err(ApiError::forbidden("User management requires the root API key")),
        }
    }
}
