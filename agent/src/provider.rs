//! The seam between the service and its providers: one key of one key service.

use std::pin::Pin;

use sealvec_core::keys::{Kek, KeyContext};
use sealvec_kms::agent::{Class, Refusal};

use crate::Result;

/// What a provider gives, some time later. Dropping it gives up.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// A wrapped KEK and which key wrapped it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKey {
    /// What [`Provider::unwrap`] needs to find the key again: an ARN, a path. At most 2,048 bytes, no secret.
    pub key_reference: String,
    /// The wrapped KEK; at most 4,096 bytes.
    pub wrapped: Vec<u8>,
}

/// One slot's key service. One attempt a call: deadlines, retries and the breaker are the service's.
///
/// # Errors
/// A [`Refusal`] whose text says what happened, and not where: the service puts the slot in front.
pub trait Provider: Send + Sync {
    /// Wraps `kek` under the slot's key, bound to `context`.
    fn wrap<'a>(&'a self, context: &'a KeyContext, kek: &'a Kek) -> Later<'a, WrappedKey>;

    /// Unwraps what [`wrap`](Self::wrap) gave for the same context.
    fn unwrap<'a>(&'a self, context: &'a KeyContext, key_reference: &'a str, wrapped: &'a [u8]) -> Later<'a, Kek>;

    /// A fresh KEK, wrapped. A service with a call of its own for this overrides it.
    fn generate<'a>(&'a self, context: &'a KeyContext) -> Later<'a, (Kek, WrappedKey)> {
        Box::pin(async move {
            let kek = random_kek()?;
            let wrapped = self.wrap(context, &kek).await?;
            Ok((kek, wrapped))
        })
    }

    /// Names the service and the account in it. A KEK moves inside the service between two slots of the same realm.
    fn realm(&self) -> Option<String> {
        None
    }

    /// Moves a wrapped KEK of the same realm under this slot's key. A service that can do it inside overrides it.
    fn rewrap<'a>(
        &'a self,
        context: &'a KeyContext,
        key_reference: &'a str,
        wrapped: &'a [u8],
    ) -> Later<'a, WrappedKey> {
        Box::pin(async move {
            let kek = self.unwrap(context, key_reference, wrapped).await?;
            self.wrap(context, &kek).await
        })
    }
}

/// What a wrapped KEK is bound to, for a service that takes bytes: `name=value` and a line feed, thrice.
pub fn bound_to(context: &KeyContext) -> Vec<u8> {
    context.pairs().iter().flat_map(|(name, value)| format!("{name}={value}\n").into_bytes()).collect()
}

pub(crate) fn random_kek() -> Result<Kek> {
    Kek::generate().map_err(|_| unavailable("the kernel gave no random bytes"))
}

/// The KEK in what a service opened.
pub(crate) fn kek_of(opened: &[u8]) -> Result<Kek> {
    Kek::from_slice(opened).map_err(|_| wrong_key())
}

pub(crate) fn wrong_key() -> Refusal {
    Refusal::new(Class::WrongKey, "the wrapped key does not open: altered, of another key ring, or under another key")
}

pub(crate) fn unavailable(text: impl Into<String>) -> Refusal {
    Refusal::new(Class::Unavailable, text)
}

pub(crate) fn misconfigured(text: impl Into<String>) -> Refusal {
    Refusal::new(Class::Misconfigured, text)
}

pub(crate) fn denied(text: impl Into<String>) -> Refusal {
    Refusal::new(Class::Denied, text)
}

#[cfg(test)]
mod tests {
    use sealvec_core::keys::Uuid;

    use super::*;

    /// What this gives is bound into wrapped keys at rest.
    #[test]
    fn golden_binding() {
        let context = KeyContext::kek(Uuid::from_bytes([0x5a; 16]));
        let expected =
            "sealvec:ring=5a5a5a5a-5a5a-5a5a-5a5a-5a5a5a5a5a5a\nsealvec:dek-version=0\nsealvec:purpose=kek\n";
        assert_eq!(bound_to(&context), expected.as_bytes());
    }
}
