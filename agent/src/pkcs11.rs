//! Provider `pkcs11`: a KEK is wrapped by an AES-256 key that never leaves a token; the context is the AAD.
//!
//! `wrapped = 1 (version) ‖ nonce (12) ‖ ciphertext (32) ‖ tag (16)`, CKM_AES_GCM on the token, which also draws the
//! nonce. A key reference is an RFC 7512 URI of token and key. A token's module is a library of its vendor and may
//! block, so all of it happens on threads for that, one call of a slot at a time.

use std::sync::Arc;

use cryptoki::context::Function;
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use sealvec_core::keys::{Kek, KeyContext};
use sealvec_kms::agent::Refusal;
use serde::Deserialize;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use crate::Result;
use crate::module;
use crate::provider::{Later, Provider, WrappedKey, bound_to, denied, kek_of, misconfigured, unavailable, wrong_key};
use crate::registry::{Credential, Pkcs11Credential, Registry, Settings};

const VERSION: u8 = 1;
const NONCE_LEN: usize = 12;
const TAG_LEN: usize = 16;
const KEK_LEN: usize = 32;
const WRAPPED_LEN: usize = 1 + NONCE_LEN + KEK_LEN + TAG_LEN;

const KNOWN: &str = "key, credentials, token (texts; key and credentials are needed)";

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    #[serde(alias = "key_id")]
    key: String,
    credentials: String,
    token: Option<String>,
}

/// One key of one token.
pub struct Pkcs11 {
    credential: Pkcs11Credential,
    key: String,
    session: Arc<Mutex<Option<Session>>>,
}

/// What went wrong on the token.
enum Failure {
    /// Said as it is.
    Refused(Refusal),
    /// As the token says it.
    Token(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Token(error)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Pkcs11 {
    /// From a slot's options; loads nothing yet.
    pub fn new(registry: &Registry, settings: &Settings) -> Result<Self> {
        let options: Options = settings.options(KNOWN)?;
        let Credential::Pkcs11(credential) = registry.credential(&options.credentials)? else {
            return Err(misconfigured("the slot's credentials are not a token's: they have no module and PIN"));
        };
        if options.token.is_some_and(|token| token != credential.token) {
            return Err(misconfigured("the slot's token is not that of its credentials"));
        }
        if options.key.is_empty() {
            return Err(misconfigured("the slot's key has no label"));
        }
        Ok(Self { credential: credential.clone(), key: options.key, session: Arc::default() })
    }

    /// Runs `work` on a thread that may block, with a session that is logged in. A session that failed is not kept.
    async fn with_session<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Session) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        let mut held = Arc::clone(&self.session).lock_owned().await;
        let credential = self.credential.clone();
        let done = tokio::task::spawn_blocking(move || {
            let session = match held.take() {
                Some(session) => session,
                None => module::session(&credential)?,
            };
            let result = work(&session);
            match result {
                Err(Failure::Token(error)) => Err(refusal(&error)), // and the session goes
                Err(Failure::Refused(refusal)) => {
                    *held = Some(session);
                    Err(refusal)
                }
                Ok(done) => {
                    *held = Some(session);
                    Ok(done)
                }
            }
        });
        done.await.map_err(|_| unavailable("the token's module failed"))?
    }

    fn key_reference(&self) -> String {
        format!("pkcs11:token={};object={}", escape(&self.credential.token), escape(&self.key))
    }

    /// The key that a reference names, if it is of this slot's token.
    fn label_of(&self, key_reference: &str) -> Option<String> {
        let token = format!("pkcs11:token={};object=", escape(&self.credential.token));
        unescape(key_reference.strip_prefix(&token)?)
    }
}

impl Provider for Pkcs11 {
    fn wrap<'a>(&'a self, context: &'a KeyContext, kek: &'a Kek) -> Later<'a, WrappedKey> {
        Box::pin(async {
            let plain = Zeroizing::new(*kek.expose());
            let (label, aad) = (self.key.clone(), bound_to(context));
            let wrapped = self.with_session(move |session| {
                let key = find(session, &label)?;
                seal(session, key, &aad, &plain[..])
            });
            Ok(WrappedKey { key_reference: self.key_reference(), wrapped: wrapped.await? })
        })
    }

    fn unwrap<'a>(&'a self, context: &'a KeyContext, key_reference: &'a str, wrapped: &'a [u8]) -> Later<'a, Kek> {
        Box::pin(async move {
            let label = self.label_of(key_reference).ok_or_else(wrong_key)?;
            if wrapped.len() != WRAPPED_LEN || wrapped[0] != VERSION {
                return Err(wrong_key());
            }
            let (aad, wrapped) = (bound_to(context), wrapped.to_vec());
            let opened = self.with_session(move |session| {
                let key = find(session, &label)?;
                open(session, key, &aad, &wrapped)
            });
            kek_of(&opened.await?)
        })
    }
}

/// The only secret key of that label. One that could be taken out of the token is refused.
fn find(session: &Session, label: &str) -> Result<ObjectHandle, Failure> {
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Token(true),
        Attribute::Label(label.as_bytes().to_vec()),
    ];
    let found = session.find_objects(&template)?;
    let key = match found[..] {
        [key] => key,
        [] => return Err(misconfigured("the token has no AES key of this label").into()),
        _ => return Err(misconfigured("the token has more than one AES key of this label").into()),
    };
    let attributes = session.get_attributes(key, &[AttributeType::Extractable, AttributeType::Sensitive])?;
    let kept = attributes.contains(&Attribute::Extractable(false)) && attributes.contains(&Attribute::Sensitive(true));
    match kept {
        true => Ok(key),
        false => Err(misconfigured(
            "the key could be taken out of the token: make one with CKA_EXTRACTABLE false and CKA_SENSITIVE true",
        )
        .into()),
    }
}

fn seal(session: &Session, key: ObjectHandle, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut nonce = [0; NONCE_LEN];
    session.generate_random_slice(&mut nonce)?;
    // Some tokens put a nonce of their own in its place.
    let sealed = session.encrypt(&gcm(&mut nonce, aad)?, key, plain)?;
    let wrapped = [&[VERSION][..], &nonce, &sealed].concat();
    match wrapped.len() == 1 + NONCE_LEN + plain.len() + TAG_LEN {
        true => Ok(wrapped),
        false => Err(unavailable("the token gave a malformed answer").into()),
    }
}

fn open(session: &Session, key: ObjectHandle, aad: &[u8], wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let (nonce, sealed) = wrapped[1..].split_at(NONCE_LEN);
    let mut nonce: [u8; NONCE_LEN] = nonce.try_into().expect("split there");
    match session.decrypt(&gcm(&mut nonce, aad)?, key, sealed) {
        Ok(opened) => Ok(Zeroizing::new(opened)),
        Err(Error::Pkcs11(RvError::EncryptedDataInvalid | RvError::EncryptedDataLenRange, _)) => {
            Err(wrong_key().into())
        }
        // Tokens have no common word for a tag that does not fit. If the key still works, it was that.
        Err(Error::Pkcs11(_, Function::Decrypt)) if works(session, key) => Err(wrong_key().into()),
        Err(error) => Err(error.into()),
    }
}

/// Whether the key opens what it seals.
fn works(session: &Session, key: ObjectHandle) -> bool {
    let probe = || {
        let sealed = seal(session, key, b"probe", &[0; KEK_LEN])?;
        let (nonce, sealed) = sealed[1..].split_at(NONCE_LEN);
        let mut nonce: [u8; NONCE_LEN] = nonce.try_into().expect("split there");
        Ok::<_, Failure>(session.decrypt(&gcm(&mut nonce, b"probe")?, key, sealed)?)
    };
    probe().is_ok()
}

fn gcm<'a>(nonce: &'a mut [u8; NONCE_LEN], aad: &'a [u8]) -> Result<Mechanism<'a>, Error> {
    Ok(Mechanism::AesGcm(GcmParams::new(nonce, aad, (TAG_LEN * 8).try_into()?)?))
}

/// What an error of the token means. Names PKCS#11's own words only.
pub(crate) fn refusal(error: &Error) -> Refusal {
    let Error::Pkcs11(code, _) = error else {
        return unavailable("the token's module does not do what PKCS#11 says");
    };
    match code {
        RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange => {
            misconfigured("the token refuses the PIN of the credentials; it is not tried again until it changes")
        }
        RvError::PinLocked | RvError::PinExpired | RvError::UserPinNotInitialized => {
            denied("the token's PIN is locked, expired or not set")
        }
        RvError::KeyFunctionNotPermitted | RvError::ActionProhibited | RvError::FunctionRejected => {
            denied("the token does not permit this use of the key")
        }
        RvError::MechanismInvalid
        | RvError::MechanismParamInvalid
        | RvError::KeyTypeInconsistent
        | RvError::KeySizeRange => misconfigured("the key or the token does not do AES-256-GCM (CKM_AES_GCM)"),
        RvError::TokenNotPresent | RvError::DeviceRemoved | RvError::TokenNotRecognized => {
            unavailable("the token is not there")
        }
        _ => unavailable("the token failed"),
    }
}

/// RFC 7512: all but unreserved characters as %XX.
fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// Only what [`escape`] writes.
fn unescape(escaped: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = escaped.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first == b'%' {
            let (digits, after) = rest.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = after;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok().filter(|text| escape(text) == escaped)
}

#[cfg(test)]
mod tests {
    use sealvec_kms::agent::{Class, Slot};
    use serde_json::json;

    use super::*;

    fn open_slot(options: serde_json::Value) -> Result<Pkcs11> {
        let kms = json!({"credentials": {
            "h": {"module": "/m", "token": "hsm 1;é", "pin_env": "P"},
            "v": {"address": "https://v", "token_env": "T"},
        }});
        let registry = Registry::from_value(kms).unwrap();
        let slot = Slot { name: "s".into(), provider: "pkcs11".into(), options: options.to_string() };
        Pkcs11::new(&registry, &registry.resolve(&slot).unwrap())
    }

    #[test]
    fn references_name_this_token_only() {
        let slot = open_slot(json!({"key": "a/b%", "credentials": "h"})).unwrap();
        let reference = slot.key_reference();
        assert_eq!(reference, "pkcs11:token=hsm%201%3B%C3%A9;object=a%2Fb%25");
        assert_eq!(slot.label_of(&reference).as_deref(), Some("a/b%"));
        for bad in ["", "pkcs11:token=other;object=k", "pkcs11:token=hsm%201%3B%C3%A9;object=%zz", "a/b%"] {
            assert_eq!(slot.label_of(bad), None, "{bad}");
        }
        assert_eq!((unescape("%2"), unescape("%2f"), unescape("a b"), unescape("%FF")), (None, None, None, None));
    }

    #[test]
    fn options_name_a_key_of_the_credentials_token() {
        for (options, expected) in [
            (json!({"key": "k", "credentials": "v"}), "not a token's"),
            (json!({"key": "k", "credentials": "h", "token": "other"}), "token is not that"),
            (json!({"key": "", "credentials": "h"}), "no label"),
            (json!({"key": "k", "credentials": "h", "module": "/evil.so"}), "options of provider pkcs11"),
            (json!({"key": "k", "credentials": "h", "pin": "1234"}), "options of provider pkcs11"),
        ] {
            let refusal = open_slot(options).map(drop).unwrap_err();
            assert!(refusal.text.contains(expected) && refusal.class == Class::Misconfigured, "{refusal}");
        }
    }
}
