//! Provider `aws-kms`: a KEK is wrapped by AWS KMS; the context is its encryption context.

use std::collections::HashMap;

use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use sealvec_core::keys::{Kek, KeyContext};
use tokio::sync::OnceCell;
use zeroize::Zeroizing;

use crate::Result;
use crate::aws::{Account, malformed, refusal};
use crate::provider::{Later, Provider, WrappedKey, kek_of, wrong_key};
use crate::registry::{Registry, Settings};

const KEK_LEN: i32 = 32;

/// One key of AWS KMS. Key references are ARNs, as AWS gives them: an alias may point elsewhere tomorrow.
pub struct AwsKms {
    account: Account,
    client: OnceCell<Client>,
}

impl AwsKms {
    /// From a slot's options; asks nobody yet.
    pub fn new(registry: &Registry, settings: &Settings) -> Result<Self> {
        Ok(Self { account: Account::new(registry, settings)?, client: OnceCell::new() })
    }

    async fn client(&self) -> Result<&Client> {
        self.client.get_or_try_init(|| async { Ok(Client::new(&self.account.config().await?)) }).await
    }
}

impl Provider for AwsKms {
    fn wrap<'a>(&'a self, context: &'a KeyContext, kek: &'a Kek) -> Later<'a, WrappedKey> {
        Box::pin(async {
            let request = self.client().await?.encrypt().key_id(self.account.key_id());
            let request = request.set_encryption_context(Some(encryption_context(context)));
            let answer = request.plaintext(Blob::new(kek.expose())).send().await.map_err(refusal)?;
            wrapped_key(answer.key_id, answer.ciphertext_blob)
        })
    }

    fn unwrap<'a>(&'a self, context: &'a KeyContext, key_reference: &'a str, wrapped: &'a [u8]) -> Later<'a, Kek> {
        Box::pin(async move {
            // Without a key id, AWS would open what any key of any account wrapped.
            let request = self.client().await?.decrypt().key_id(key_reference);
            let request = request.set_encryption_context(Some(encryption_context(context)));
            let answer = request.ciphertext_blob(Blob::new(wrapped)).send().await.map_err(refusal)?;
            let opened = Zeroizing::new(answer.plaintext.ok_or_else(malformed)?.into_inner());
            if answer.key_id.as_deref() != Some(key_reference) {
                return Err(wrong_key());
            }
            kek_of(&opened)
        })
    }

    fn generate<'a>(&'a self, context: &'a KeyContext) -> Later<'a, (Kek, WrappedKey)> {
        Box::pin(async {
            let request = self.client().await?.generate_data_key().key_id(self.account.key_id());
            let request = request.set_encryption_context(Some(encryption_context(context)));
            let answer = request.number_of_bytes(KEK_LEN).send().await.map_err(refusal)?;
            let opened = Zeroizing::new(answer.plaintext.ok_or_else(malformed)?.into_inner());
            let kek = Kek::from_slice(&opened).map_err(|_| malformed())?;
            Ok((kek, wrapped_key(answer.key_id, answer.ciphertext_blob)?))
        })
    }

    fn realm(&self) -> Option<String> {
        Some(self.account.realm())
    }

    /// ReEncrypt: the KEK does not leave AWS.
    fn rewrap<'a>(
        &'a self,
        context: &'a KeyContext,
        key_reference: &'a str,
        wrapped: &'a [u8],
    ) -> Later<'a, WrappedKey> {
        Box::pin(async move {
            let request = self.client().await?.re_encrypt().ciphertext_blob(Blob::new(wrapped));
            let answer = request
                .source_key_id(key_reference)
                .set_source_encryption_context(Some(encryption_context(context)))
                .destination_key_id(self.account.key_id())
                .set_destination_encryption_context(Some(encryption_context(context)))
                .send()
                .await
                .map_err(refusal)?;
            wrapped_key(answer.key_id, answer.ciphertext_blob)
        })
    }
}

fn encryption_context(context: &KeyContext) -> HashMap<String, String> {
    context.pairs().into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn wrapped_key(key_id: Option<String>, blob: Option<Blob>) -> Result<WrappedKey> {
    let (Some(key_reference), Some(blob)) = (key_id, blob) else { return Err(malformed()) };
    Ok(WrappedKey { key_reference, wrapped: blob.into_inner() })
}
