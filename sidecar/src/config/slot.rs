//! A slot of the key registry: who wraps the KEKs of the indexes that name it.

use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::ApiError;

/// As the YAML says it; other keys are an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// What `kms_name` names.
    pub name: String,
    /// Who wraps.
    pub provider: Provider,
    /// Key or secret of the provider.
    pub key_id: Option<String>,
    /// AWS region.
    pub region: Option<String>,
    /// Role to assume.
    pub role_arn: Option<String>,
    /// What the role's owner asks for.
    pub external_id: Option<String>,
    /// Name of the role's session.
    pub role_session_name: Option<String>,
    /// All of it but the provider, as the catalogue and the key agent take it; no secret is among it.
    pub options: Map<String, Value>,
}

/// Who wraps the KEKs of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Provider {
    /// The root-key file of the database server.
    Local,
    /// AWS Secrets Manager.
    Aws,
    /// AWS KMS.
    AwsKms,
    /// Vault or OpenBao, Transit engine.
    Vault,
    /// A token behind a PKCS#11 module.
    Pkcs11,
}

impl Provider {
    /// As the catalogue writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Aws => "aws",
            Self::AwsKms => "aws-kms",
            Self::Vault => "vault",
            Self::Pkcs11 => "pkcs11",
        }
    }
}

/// The YAML's form of a slot.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SlotFields {
    provider: Provider,
    key_id: Option<String>,
    region: Option<String>,
    role_arn: Option<String>,
    external_id: Option<String>,
    role_session_name: Option<String>,
    // Known, and the key agent's to read.
    #[serde(rename = "endpoint")]
    _endpoint: Option<String>,
    #[serde(rename = "sts_endpoint")]
    _sts_endpoint: Option<String>,
    #[serde(rename = "credentials")]
    _credentials: Option<String>,
    #[serde(rename = "key")]
    _key: Option<String>,
    #[serde(rename = "mount")]
    _mount: Option<String>,
    #[serde(rename = "address")]
    _address: Option<String>,
    #[serde(rename = "namespace")]
    _namespace: Option<String>,
    #[serde(rename = "token")]
    _token: Option<String>,
}

impl Slot {
    pub(super) fn new(name: String, fields: SlotFields, mut options: Map<String, Value>) -> Self {
        let SlotFields { provider, key_id, region, role_arn, external_id, role_session_name, .. } = fields;
        options.retain(|name, value| name != "provider" && !value.is_null());
        Self { name, provider, key_id, region, role_arn, external_id, role_session_name, options }
    }

    /// Whether an index can be made on the slot.
    ///
    /// # Errors
    /// 502 for a slot that lacks something.
    pub fn check(&self) -> Result<(), ApiError> {
        let provider = self.provider.as_str();
        let what = match self {
            Self { key_id: None, provider: Provider::AwsKms, .. } => "requires key_id (KMS key id / ARN / alias)",
            Self { key_id: None, provider: Provider::Aws, .. } => "requires key_id (secret name / ARN)",
            Self { external_id: Some(_), role_arn: None, .. } => {
                return Err(kms_error(format!(
                    "provider={provider}: external_id is only meaningful with role_arn; specify both for BYOK \
                     cross-account access, or neither for same-account access."
                )));
            }
            _ => return Ok(()),
        };
        Err(kms_error(format!("provider={provider} {what}")))
    }
}

fn kms_error(message: String) -> ApiError {
    ApiError::new(StatusCode::BAD_GATEWAY, format!("KMS error: {message}"))
}
