//! Provider `aws`: a secret of AWS Secrets Manager is the key that wraps KEKs here, in the original's layout.
//!
//! The secret's value is 32 bytes, binary or as base64 text. `wrapped = nonce (12) ‖ ciphertext (32) ‖ tag (16)`,
//! AES-256-GCM under the value itself; the context is the AAD. A key reference is the secret's ARN, `#` and the id of
//! its version, so that what an older version wrapped still opens while AWS keeps that version.

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sealvec_core::crypto::{AeadKey, WrapAad};
use sealvec_core::keys::{Kek, KeyContext};
use tokio::sync::OnceCell;
use zeroize::Zeroizing;

use crate::Result;
use crate::aws::{Account, malformed, refusal};
use crate::provider::{Later, Provider, WrappedKey, denied, kek_of, misconfigured, unavailable, wrong_key};
use crate::registry::{Registry, Settings};

const KEY_LEN: usize = 32;

/// One secret of AWS Secrets Manager.
pub struct AwsSecrets {
    account: Account,
    client: OnceCell<Client>,
}

/// A wrap key and which one it is.
struct WrapKey {
    key: AeadKey,
    key_reference: String,
}

impl AwsSecrets {
    /// From a slot's options; asks nobody yet.
    pub fn new(registry: &Registry, settings: &Settings) -> Result<Self> {
        Ok(Self { account: Account::new(registry, settings)?, client: OnceCell::new() })
    }

    async fn client(&self) -> Result<&Client> {
        self.client.get_or_try_init(|| async { Ok(Client::new(&self.account.config().await?)) }).await
    }

    /// The secret's value, of this version or the current one.
    async fn fetch(&self, secret_id: &str, version: Option<&str>) -> Result<WrapKey> {
        let request = self.client().await?.get_secret_value().secret_id(secret_id);
        let request = request.set_version_id(version.map(str::to_owned));
        let answer = request.send().await.map_err(|error| {
            let gone = match error.as_service_error() {
                Some(GetSecretValueError::ResourceNotFoundException(_)) => true,
                Some(GetSecretValueError::InvalidRequestException(_)) => true, // marked for deletion
                _ => false,
            };
            match (gone, version) {
                (false, _) => refusal(error),
                (true, None) => misconfigured(
                    "wrap key not present in secrets manager; cannot wrap. Provision the secret before using the slot",
                ),
                (true, Some(_)) => denied(
                    "wrap key not present in secrets manager; cannot unwrap. The wrap key may have been deleted (BYOK \
                     revocation)",
                ),
            }
        })?;
        let (Some(arn), Some(found)) = (answer.arn, answer.version_id) else { return Err(malformed()) };
        if version.is_some_and(|version| version != found || arn != secret_id) {
            return Err(wrong_key());
        }
        let value = match (answer.secret_binary, answer.secret_string) {
            (Some(binary), _) => Zeroizing::new(binary.into_inner()),
            (None, Some(text)) => decode(Zeroizing::new(text))?,
            (None, None) => return Err(malformed()),
        };
        let key: &[u8; KEY_LEN] = value.as_slice().try_into().map_err(|_| {
            misconfigured(format!("wrap key must be {KEY_LEN} bytes, got {} from the secret", value.len()))
        })?;
        Ok(WrapKey { key: AeadKey::new(key), key_reference: format!("{arn}#{found}") })
    }
}

impl Provider for AwsSecrets {
    fn wrap<'a>(&'a self, context: &'a KeyContext, kek: &'a Kek) -> Later<'a, WrappedKey> {
        Box::pin(async {
            let WrapKey { key, key_reference } = self.fetch(self.account.key_id(), None).await?;
            Ok(WrappedKey { key_reference, wrapped: wrap_under(&key, context, kek)? })
        })
    }

    fn unwrap<'a>(&'a self, context: &'a KeyContext, key_reference: &'a str, wrapped: &'a [u8]) -> Later<'a, Kek> {
        Box::pin(async move {
            let (arn, version) = key_reference.split_once('#').ok_or_else(wrong_key)?;
            let WrapKey { key, .. } = self.fetch(arn, Some(version)).await?;
            unwrap_under(&key, context, wrapped)
        })
    }
}

fn wrap_under(key: &AeadKey, context: &KeyContext, kek: &Kek) -> Result<Vec<u8>> {
    let sealed = key.seal(&aad(context), kek.expose());
    Ok(sealed.map_err(|_| unavailable("the kernel gave no random bytes"))?.as_bytes().to_vec())
}

fn unwrap_under(key: &AeadKey, context: &KeyContext, wrapped: &[u8]) -> Result<Kek> {
    kek_of(&key.open(&aad(context), wrapped).map_err(|_| wrong_key())?)
}

/// A text value: base64, as the original takes it.
fn decode(text: Zeroizing<String>) -> Result<Zeroizing<Vec<u8>>> {
    let decoded = STANDARD.decode(text.trim());
    decoded.map(Zeroizing::new).map_err(|_| misconfigured("the secret's text is not base64 of a wrap key"))
}

fn aad(context: &KeyContext) -> WrapAad {
    WrapAad { ring: context.ring, dek_version: context.dek_version, purpose: context.purpose as u8 }
}

#[cfg(test)]
mod tests {
    use sealvec_core::keys::Uuid;

    use super::*;

    /// A KEK that was wrapped by the first release: it must unwrap for ever.
    #[test]
    fn golden_kek_unwraps() {
        let golden = "gFZESjskOTUMk+tbgkEiCy5LIb0FRDUn4OPgDFAZJbUqunihf6MYpcrXcETbPh3mRhIPx+MPyRHi/BiE";
        let context = KeyContext::kek(Uuid::from_bytes([0x5a; 16]));
        let key = AeadKey::new(&[7; KEY_LEN]);
        let wrapped = STANDARD.decode(golden).unwrap();
        assert_eq!(wrapped.len(), 60);
        assert_eq!(unwrap_under(&key, &context, &wrapped).unwrap().expose(), &[9; 32]);
        let other = KeyContext::kek(Uuid::from_bytes([0x5b; 16]));
        assert!(unwrap_under(&key, &other, &wrapped).is_err());
    }
}
