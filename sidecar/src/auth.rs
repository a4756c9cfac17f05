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

/// A caller who may administer indexes, or one who shows no key at all. As an argument of a route that a client
/// without a key must be able to call: 401 and 403 for any key that [`Admin`] is not.
#[derive(Clone, Debug)]
pub struct AdminOrStranger(pub Option<Admin>);

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

impl FromRequestParts<AppState> for AdminOrStranger {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        if !matches!(*state.auth, Auth::Open) && !parts.headers.contains_key(HEADER) {
            return Ok(Self(None));
        }
        Admin::from_request_parts(parts, state).await.map(|admin| Self(Some(admin)))
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

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;
    use crate::error::Detail;

    const ROOT: &str = "root key of a test";
    /// As in core's known answer, under the same root key.
    const TOKEN: &str = "cdbk_1_AAECAwQFBgcICQoLDA0OD4CBgoOEhYaHiImKi4yNjo-QkZKTlJWWl5iZmpucnZ6f_jy5s8nENrE";

    fn ask(auth: &Auth, keys: &[&[u8]]) -> Result<Caller, String> {
        let mut headers = HeaderMap::new();
        for key in keys {
            headers.append(HEADER, HeaderValue::from_bytes(key).unwrap());
        }
        auth.caller(&headers).map_err(|error| match error.detail {
            Detail::Text(text) => format!("{} {text}", error.status.as_u16()),
            Detail::List(_) => panic!("a list"),
        })
    }

    fn refused(auth: &Auth, keys: &[&[u8]]) -> String {
        ask(auth, keys).expect_err("a caller without a key")
    }

    #[test]
    fn the_words_of_the_original() {
        let root = Auth::root(ROOT);
        assert!(matches!(ask(&root, &[ROOT.as_bytes()]), Ok(Caller::Root)));
        for keys in [&[][..], &[&b""[..]]] {
            assert_eq!(refused(&root, keys), "401 API Key is required");
        }
        let doubled = format!("{ROOT}{ROOT}");
        for key in ["x", "root key of a tesT", &ROOT[1..], &doubled, "Bearer root key of a test"] {
            assert_eq!(refused(&root, &[key.as_bytes()]), "401 Invalid API Key", "{key}");
        }
        assert_eq!(refused(&root, &["schlüssel".as_bytes()]), "401 Invalid API Key");
        assert_eq!(refused(&root, &[ROOT.as_bytes(), ROOT.as_bytes()]), "401 Invalid API Key"); // which one counts?
    }

    #[test]
    fn tokens_of_this_root_key_only() {
        let caller = ask(&Auth::root(ROOT), &[TOKEN.as_bytes()]).unwrap();
        let user = caller.user().expect("a user");
        assert_eq!(user.user().as_bytes(), &std::array::from_fn::<u8, 16, _>(|i| i as u8));
        assert_eq!(refused(&Auth::root("another root key"), &[TOKEN.as_bytes()]), "401 Invalid user API key");
        for bad in ["cdbk_", "cdbk_1_AAAA", &TOKEN[..TOKEN.len() - 1], &TOKEN.replace("_1_", "_2_")] {
            assert_eq!(refused(&Auth::root(ROOT), &[bad.as_bytes()]), "401 Invalid user API key");
        }
        assert_eq!(refused(&Auth::single("k"), &[TOKEN.as_bytes()]), "401 Invalid API Key");
    }

    #[test]
    fn one_key_is_no_root_key() {
        let single = Auth::single("cyborg_1");
        assert!(matches!(ask(&single, &[b"cyborg_1"]), Ok(Caller::ApiKey)));
        assert_eq!(refused(&single, &[]), "401 API Key is required");
        assert_eq!(refused(&single, &[b"cyborg_2"]), "401 Invalid API Key");
    }

    #[test]
    fn open_takes_anyone() {
        for keys in [&[][..], &[&b"x"[..]], &[TOKEN.as_bytes()]] {
            assert!(matches!(ask(&Auth::Open, keys), Ok(Caller::Open)));
        }
    }

    #[test]
    fn debug_shows_no_key() {
        let caller = ask(&Auth::root(ROOT), &[TOKEN.as_bytes()]).unwrap();
        let shown = format!("{:?} {:?} {caller:?}", Auth::root(ROOT), Auth::single("cyborg_1"));
        assert!(!shown.contains(ROOT) && !shown.contains("cyborg_1") && !shown.contains("128"), "{shown}");
    }
}
