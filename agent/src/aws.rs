//! What both AWS providers share: options, credentials, and what AWS's errors mean.

use std::error::Error;
use std::time::Duration;

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_credential_types::provider::error::CredentialsError;
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_sdk_sts::operation::assume_role::AssumeRoleError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use sealvec_kms::agent::{Class, Refusal};
use serde::Deserialize;

use crate::Result;
use crate::provider::{denied, misconfigured, unavailable};
use crate::registry::{AwsCredential, Credential, Registry, Settings};

/// For the connection alone; the rest of the time is the service's to give.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(2);
/// AWS's limit on the name of a role's session.
const SESSION_NAME_LEN_MAX: usize = 64;

const KNOWN: &str = "key_id, region, role_arn, external_id, role_session_name, endpoint, sts_endpoint, credentials \
                     (texts; key_id is needed)";

/// Options of a slot; the first five are the original's.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    key_id: String,
    region: Option<String>,
    role_arn: Option<String>,
    external_id: Option<String>,
    role_session_name: Option<String>,
    endpoint: Option<String>,
    sts_endpoint: Option<String>,
    credentials: Option<String>,
}

/// One identity at one endpoint, and the key or secret that it uses.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    options: Options,
    credential: Option<AwsCredential>,
}

impl Account {
    /// Reads a slot's options.
    pub fn new(registry: &Registry, settings: &Settings) -> Result<Self> {
        let options: Options = settings.options(KNOWN)?;
        if options.external_id.is_some() && options.role_arn.is_none() {
            return Err(misconfigured(
                "external_id is only meaningful with role_arn; specify both for BYOK cross-account access, or neither \
                 for same-account access",
            ));
        }
        for endpoint in [&options.endpoint, &options.sts_endpoint].into_iter().flatten() {
            if !settings.from_operator && !registry.allows_endpoint(endpoint) {
                return Err(misconfigured(
                    "the slot's endpoint is neither AWS's nor in kms.endpoints of the key agent's configuration",
                ));
            }
        }
        let credential = match options.credentials.as_deref().map(|name| registry.credential(name)).transpose()? {
            None => None,
            Some(Credential::Aws(credential)) => Some(credential.clone()),
            Some(_) => return Err(misconfigured("the slot's credentials are not AWS's: they have no profile")),
        };
        Ok(Self { options, credential })
    }

    /// The slot's key or secret.
    pub fn key_id(&self) -> &str {
        &self.options.key_id
    }

    /// Region, endpoint and identity.
    pub fn realm(&self) -> String {
        let Options { region, role_arn, external_id, endpoint, credentials, .. } = &self.options;
        let region = region.as_deref().or_else(|| region_of(&self.options.key_id));
        format!("{region:?} {endpoint:?} {role_arn:?} {external_id:?} {credentials:?}")
    }

    /// Settings of a client: the standard credential chain or the credential's profile, and the role on top.
    pub async fn config(&self) -> Result<SdkConfig> {
        let Options { key_id, region, role_arn, external_id, role_session_name, endpoint, sts_endpoint, .. } =
            &self.options;
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .retry_config(RetryConfig::disabled()) // ours see the breaker and the caller's deadline
            .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT_TIME_MAX).build());
        if let Some(region) = region.as_deref().or_else(|| region_of(key_id)) {
            loader = loader.region(Region::new(region.to_owned()));
        }
        if let Some(AwsCredential { profile, file }) = &self.credential {
            let mut files = EnvConfigFiles::builder();
            files = match file {
                Some(path) => files.with_file(EnvConfigFileKind::Credentials, path),
                None => files.include_default_config_file(true).include_default_credentials_file(true),
            };
            let files = files.build();
            // Not left to the chain, where variables would win over the profile that the operator names.
            let provider = ProfileFileCredentialsProvider::builder().profile_name(profile).profile_files(files.clone());
            loader = loader.profile_name(profile).profile_files(files).credentials_provider(provider.build());
        }
        let base = loader.load().await;
        if base.region().is_none() {
            return Err(misconfigured("no AWS region: set the slot's option region, or AWS_REGION for the key agent"));
        }
        let mut config = base.to_builder();
        if let Some(role_arn) = role_arn {
            let mut sts = base.to_builder();
            if let Some(endpoint) = sts_endpoint {
                sts.set_endpoint_url(Some(endpoint.clone()));
            }
            let name = role_session_name.clone().unwrap_or_else(|| session_name(key_id));
            let mut role = AssumeRoleProvider::builder(role_arn).session_name(name).configure(&sts.build());
            if let Some(external_id) = external_id {
                role = role.external_id(external_id);
            }
            config.set_credentials_provider(Some(SharedCredentialsProvider::new(role.build().await)));
        }
        if let Some(endpoint) = endpoint {
            config.set_endpoint_url(Some(endpoint.clone()));
        }
        Ok(config.build())
    }
}

/// `sealvec-` and the key's name, in the characters that AWS takes.
fn session_name(key_id: &str) -> String {
    let key_id = key_id.chars().map(|c| if c.is_ascii_alphanumeric() || "+=,.@-_".contains(c) { c } else { '-' });
    "sealvec-".chars().chain(key_id).take(SESSION_NAME_LEN_MAX).collect()
}

/// `arn:partition:service:region:account:…`
fn region_of(arn: &str) -> Option<&str> {
    let mut parts = arn.split(':');
    (parts.next() == Some("arn")).then_some(())?;
    parts.nth(2).filter(|region| !region.is_empty())
}

/// What an error of the SDK means. Its own text stays here: it may hold what the service said.
pub(crate) fn refusal<E>(error: SdkError<E, HttpResponse>) -> Refusal
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    if let Some(credentials) = cause::<CredentialsError>(&error) {
        return of_credentials(credentials);
    }
    match &error {
        SdkError::ServiceError(context) => {
            let wait = context.raw().headers().get("retry-after").and_then(|wait| wait.parse().ok());
            let refusal = of_code(context.err().code().unwrap_or_default(), context.raw().status().as_u16());
            Refusal { retry_after: wait.map(Duration::from_secs), ..refusal }
        }
        SdkError::TimeoutError(_) => unavailable("AWS did not answer in time"),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => unavailable("AWS did not answer in time"),
        SdkError::DispatchFailure(failure) if failure.is_io() => unavailable("AWS cannot be reached"),
        SdkError::DispatchFailure(_) => unavailable("the request to AWS could not be sent"),
        SdkError::ResponseError(_) => malformed(),
        _ => misconfigured("the request to AWS could not be made from the slot's options"),
    }
}

/// An answer that is not what AWS answers.
pub(crate) fn malformed() -> Refusal {
    unavailable("AWS gave a malformed answer")
}

fn of_credentials(error: &CredentialsError) -> Refusal {
    if let Some(refused) = cause::<SdkError<AssumeRoleError, HttpResponse>>(error) {
        let refusal = match refused {
            SdkError::ServiceError(context) => {
                of_code(context.err().code().unwrap_or_default(), context.raw().status().as_u16())
            }
            _ => unavailable("AWS STS cannot be reached"),
        };
        return Refusal { text: format!("the slot's role cannot be assumed: {}", refusal.text), ..refusal };
    }
    match error {
        CredentialsError::ProviderTimedOut(_) => {
            unavailable("the source of the AWS credentials did not answer in time")
        }
        CredentialsError::ProviderError(_) => unavailable("the source of the AWS credentials failed"),
        CredentialsError::InvalidConfiguration(_) => {
            misconfigured("the key agent's AWS credentials are not properly configured")
        }
        _ => misconfigured("the key agent has no AWS credentials"),
    }
}

/// AWS's name for an error, and the HTTP status where it has a name that is not known.
fn of_code(code: &str, status: u16) -> Refusal {
    // "AccessDeniedException" in JSON is "AccessDenied" in STS's XML.
    let name = code.trim_end_matches("Exception");
    match name {
        "Throttling"
        | "ThrottledRequest"
        | "RequestThrottled"
        | "TooManyRequests"
        | "RequestLimitExceeded"
        | "SlowDown"
        | "LimitExceeded" => Refusal::new(Class::Throttled, format!("AWS asks to slow down ({name})")),
        "AccessDenied"
        | "UnrecognizedClient"
        | "InvalidClientTokenId"
        | "ExpiredToken"
        | "InvalidSignature"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "MissingAuthenticationToken"
        | "OptInRequired"
        | "RegionDisabled" => denied(format!("AWS denies access ({name})")),
        "Disabled" => denied("the key is disabled (Disabled)"),
        "KMSInvalidState" => denied("the key is pending deletion or not usable in its state (KMSInvalidState)"),
        "InvalidCiphertext" | "IncorrectKey" => crate::provider::wrong_key(),
        "NotFound" | "ResourceNotFound" => misconfigured(format!("AWS does not know the key ({name})")),
        "InvalidKeyUsage" => misconfigured("the key is not one for encryption (InvalidKeyUsage)"),
        "InvalidArn" | "Validation" | "ValidationError" | "InvalidParameter" => {
            misconfigured(format!("AWS does not take the slot's options ({name})"))
        }
        "KMSInternal"
        | "DependencyTimeout"
        | "KeyUnavailable"
        | "InternalFailure"
        | "InternalServiceError"
        | "ServiceUnavailable" => unavailable(format!("AWS failed ({name})")),
        _ => match status {
            429 => Refusal::new(Class::Throttled, "AWS asks to slow down (HTTP 429)"),
            401 | 403 => denied(format!("AWS denies access (HTTP {status})")),
            400..500 => misconfigured(format!("AWS refuses the request (HTTP {status})")),
            500.. => unavailable(format!("AWS failed (HTTP {status})")),
            _ => malformed(),
        },
    }
}

/// The error of type `T` in a chain of errors, itself included.
fn cause<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use sealvec_kms::agent::Slot;
    use serde_json::json;

    use super::*;

    fn account(registry: &Registry, options: serde_json::Value) -> Result<Account> {
        let slot = Slot { name: "s".into(), provider: "aws-kms".into(), options: options.to_string() };
        Account::new(registry, &registry.resolve(&slot).unwrap())
    }

    #[test]
    fn options_are_the_originals_and_a_few_more() {
        let registry = Registry::from_value(json!({
            "credentials": {"p": {"profile": "x"}, "v": {"address": "https://v", "token_env": "T"}},
        }));
        let registry = registry.unwrap();
        let arn = "arn:aws:kms:eu-west-1:1:key/2";
        assert!(account(&registry, json!({"key_id": arn, "credentials": "p"})).is_ok());
        for (options, expected) in [
            (json!({}), "key_id is needed"),
            (json!({"key_id": "k", "secret": "s3cr3t"}), "the options of provider aws-kms"),
            (json!({"key_id": "k", "external_id": "e"}), "external_id is only meaningful with role_arn"),
            (json!({"key_id": "k", "endpoint": "http://127.0.0.1:1"}), "kms.endpoints"),
            (json!({"key_id": "k", "sts_endpoint": "https://evil.example"}), "kms.endpoints"),
            (json!({"key_id": "k", "credentials": "none"}), "kms.credentials"),
            (json!({"key_id": "k", "credentials": "v"}), "no profile"),
        ] {
            let refusal = account(&registry, options).unwrap_err();
            assert!(refusal.text.contains(expected) && !refusal.text.contains("s3cr3t"), "{refusal}");
            assert_eq!(refusal.class, Class::Misconfigured);
        }
    }

    #[test]
    fn realms_are_accounts_and_regions_not_keys() {
        let realm = |options| account(&Registry::default(), options).unwrap().realm();
        let one = realm(json!({"key_id": "arn:aws:kms:eu-west-1:1:key/2"}));
        assert_eq!(one, realm(json!({"key_id": "alias/x", "region": "eu-west-1"})));
        assert_ne!(one, realm(json!({"key_id": "alias/x", "region": "eu-west-2"})));
        assert_ne!(one, realm(json!({"key_id": "arn:aws:kms:eu-west-1:1:key/2", "role_arn": "r"})));
    }

    #[test]
    fn names_of_errors_have_classes() {
        for (code, status, class) in [
            ("ThrottlingException", 400, Class::Throttled),
            ("AccessDeniedException", 400, Class::Denied),
            ("AccessDenied", 403, Class::Denied),
            ("DisabledException", 400, Class::Denied),
            ("KMSInvalidStateException", 400, Class::Denied),
            ("InvalidCiphertextException", 400, Class::WrongKey),
            ("IncorrectKeyException", 400, Class::WrongKey),
            ("NotFoundException", 400, Class::Misconfigured),
            ("KMSInternalException", 500, Class::Unavailable),
            ("DependencyTimeoutException", 503, Class::Unavailable),
            ("", 200, Class::Unavailable),
            ("", 429, Class::Throttled),
            ("SomethingNew", 400, Class::Misconfigured),
            ("SomethingNew", 502, Class::Unavailable),
        ] {
            assert_eq!(of_code(code, status).class, class, "{code} {status}");
        }
        assert!(!of_code("p4ssw0rd=x", 400).text.contains("p4ss"));
    }

    #[test]
    fn session_names_are_what_aws_takes() {
        assert_eq!(session_name("alias/x y"), "sealvec-alias-x-y");
        assert_eq!(session_name(&"k".repeat(100)).len(), SESSION_NAME_LEN_MAX);
    }
}
