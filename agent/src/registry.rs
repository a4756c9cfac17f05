//! What the operator's YAML says of key services: slots, credentials, and where credentials may be sent.
//!
//! ```yaml
//! kms:
//!   registry:                      # slots; they win over what SQL says of a slot of the same name
//!     vendor-default: {provider: aws-kms, key_id: alias/x, region: us-east-1}
//!     on-premises: {provider: vault, key: sealvec, credentials: vault-1}
//!   credentials:                   # named by slots; secrets are in files or variables, never in SQL
//!     vault-1: {address: "https://vault.example:8200", token_file: /run/secrets/vault}
//!     hsm: {module: /usr/lib/softhsm/libsofthsm2.so, token: hsm, pin_file: /run/secrets/pin}
//!     second-account: {profile: backup, file: /etc/sealvec/aws}
//!   endpoints: ["http://127.0.0.1:5555"]   # where slots made by SQL may send AWS requests, beyond AWS itself
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;

use sealvec_kms::agent::{Refusal, Slot};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::Result;
use crate::provider::misconfigured;

/// Most bytes of a slot's name.
const NAME_LEN_MAX: usize = 255;
/// Most bytes of a secret in a file: a Vault token may have several hundred.
const SECRET_LEN_MAX: u64 = 64 * 1024;

/// Slots and credentials. Holds no secret: it knows where they are.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    slots: BTreeMap<String, (ProviderName, Map<String, Value>)>,
    credentials: BTreeMap<String, Credential>,
    endpoints: Vec<String>,
}

/// Providers that the agent has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProviderName {
    /// The database server's own root-key file; the agent has nothing to do with it.
    Local,
    /// AWS KMS.
    AwsKms,
    /// AWS Secrets Manager.
    Aws,
    /// Vault or OpenBao, Transit engine.
    Vault,
    /// A token behind a PKCS#11 module.
    Pkcs11,
}

impl ProviderName {
    /// As envelopes and the catalogue write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::AwsKms => "aws-kms",
            Self::Aws => "aws",
            Self::Vault => "vault",
            Self::Pkcs11 => "pkcs11",
        }
    }
}

/// A slot as it will be used: the registry's word, or SQL's where the registry has none.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The slot's name.
    pub name: String,
    /// Who wraps.
    pub provider: ProviderName,
    /// Options, unread.
    pub options: Map<String, Value>,
    /// Whether the operator wrote them: SQL may not choose where requests go.
    pub from_operator: bool,
}

impl Settings {
    /// Everything that says which service is asked, and how; the name does not.
    pub fn fingerprint(&self) -> String {
        // A map's keys are sorted, so that equal options give equal texts.
        format!("{} {} {}", self.provider.as_str(), self.from_operator, Value::Object(self.options.clone()))
    }

    /// The options as `T` has them.
    ///
    /// # Errors
    /// Misconfigured, if one is missing, unknown or of the wrong kind. `known` lists them for people.
    pub fn options<T: DeserializeOwned>(&self, known: &str) -> Result<T> {
        // serde's own message would quote a bad value.
        serde_json::from_value(Value::Object(self.options.clone()))
            .map_err(|_| misconfigured(format!("the options of provider {} are {known}", self.provider.as_str())))
    }
}

/// What a slot's `credentials` names.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Credential {
    /// A Vault and a token for it.
    Vault(VaultCredential),
    /// A module and the PIN of its token.
    Pkcs11(Pkcs11Credential),
    /// A profile of the AWS configuration files.
    Aws(AwsCredential),
}

/// A Vault and a token for it. The token goes to this address only.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaultCredential {
    /// `https://host:port`; plain HTTP only to this machine itself.
    pub address: String,
    /// File whose first line is the token; read again for each request, since tokens are renewed.
    pub token_file: Option<PathBuf>,
    /// Variable that holds it.
    pub token_env: Option<String>,
    /// Namespace (Vault Enterprise, OpenBao).
    pub namespace: Option<String>,
    /// PEM file of the authority that signed the server's certificate [default: the system's].
    pub ca_file: Option<PathBuf>,
}

/// A PKCS#11 module, one of its tokens and the PIN of that. The PIN goes to this token only: others would lock.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pkcs11Credential {
    /// Path of the vendor's library.
    pub module: PathBuf,
    /// Label of the token.
    pub token: String,
    /// File whose first line is the PIN.
    pub pin_file: Option<PathBuf>,
    /// Variable that holds it.
    pub pin_env: Option<String>,
}

/// A profile of the AWS configuration files.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwsCredential {
    /// Its name.
    pub profile: String,
    /// A credentials file of its own [default: `~/.aws` or what AWS's variables say].
    pub file: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Section {
    registry: Option<BTreeMap<String, Map<String, Value>>>,
    credentials: Option<BTreeMap<String, Value>>,
    endpoints: Option<Vec<String>>,
}

impl Registry {
    /// Reads the YAML's `kms` section.
    ///
    /// # Errors
    /// A text that names the place and no value: a value may be a secret at the wrong place.
    pub fn from_value(kms: Value) -> Result<Self, String> {
        let section: Section = match kms {
            Value::Null => Section::default(),
            kms => serde_json::from_value(kms).map_err(|_| "kms may have registry, credentials and endpoints")?,
        };
        let mut registry = Self { endpoints: section.endpoints.unwrap_or_default(), ..Self::default() };
        for (name, mut options) in section.registry.unwrap_or_default() {
            let provider = options.remove("provider").unwrap_or_default();
            let provider: ProviderName = serde_json::from_value(provider)
                .map_err(|_| format!("kms.registry.{name}.provider must be local, aws, aws-kms, vault or pkcs11"))?;
            options.retain(|_, value| !value.is_null()); // an empty variable is no value
            registry.slots.insert(name, (provider, options));
        }
        for (name, mut fields) in section.credentials.unwrap_or_default() {
            if let Value::Object(fields) = &mut fields {
                fields.retain(|_, value| !value.is_null());
            }
            let credential: Credential = serde_json::from_value(fields).map_err(|_| {
                format!(
                    "kms.credentials.{name} must have address and token_file or token_env (and may have namespace and \
                     ca_file), or module, token and pin_file or pin_env, or profile (and may have file)"
                )
            })?;
            let given = match &credential {
                Credential::Vault(vault) => (vault.token_file.is_some(), vault.token_env.is_some()),
                Credential::Pkcs11(token) => (token.pin_file.is_some(), token.pin_env.is_some()),
                Credential::Aws(_) => (true, false),
            };
            if given.0 == given.1 {
                return Err(format!("kms.credentials.{name} needs its secret in a file or in a variable, one of them"));
            }
            registry.credentials.insert(name, credential);
        }
        Ok(registry)
    }

    /// What is meant by a slot that the database server names.
    ///
    /// # Errors
    /// Misconfigured.
    pub fn resolve(&self, slot: &Slot) -> Result<Settings> {
        let name = slot.name.clone();
        if name.len() > NAME_LEN_MAX || name.chars().any(char::is_control) {
            return Err(misconfigured("a slot's name has at most 255 bytes and no control characters"));
        }
        if let Some((provider, options)) = self.slots.get(&name) {
            return Ok(Settings { name, provider: *provider, options: options.clone(), from_operator: true });
        }
        let provider = serde_json::from_value(Value::String(slot.provider.clone()))
            .map_err(|_| misconfigured("this key agent does not know the slot's provider"))?;
        let options = match serde_json::from_str(&slot.options) {
            Ok(Value::Object(options)) => options,
            _ => return Err(misconfigured("the slot's options are not a JSON object")),
        };
        Ok(Settings { name, provider, options, from_operator: false })
    }

    /// What a slot's `credentials` names.
    ///
    /// # Errors
    /// Misconfigured, if there is none of that name.
    pub fn credential(&self, name: &str) -> Result<&Credential> {
        self.credentials.get(name).ok_or_else(|| {
            misconfigured("the slot's credentials are not in kms.credentials of the key agent's configuration")
        })
    }

    /// Whether a slot made by SQL may send AWS requests to `endpoint`: to the services of AWS that it is for, or where the
    /// operator allows it.
    pub fn allows_endpoint(&self, endpoint: &str) -> bool {
        let host = endpoint.strip_prefix("https://").map(|host| host.strip_suffix('/').unwrap_or(host));
        self.endpoints.iter().any(|allowed| allowed.trim_end_matches('/') == endpoint.trim_end_matches('/'))
            || host.is_some_and(is_aws_key_service)
    }

    /// Names of slots and credentials, for a line in the log.
    pub fn names(&self) -> (Vec<&str>, Vec<&str>) {
        (self.slots.keys().map(String::as_str).collect(), self.credentials.keys().map(String::as_str).collect())
    }
}

/// Whether a host is AWS's KMS, Secrets Manager or STS. Most names below amazonaws.com are its customers' to take: gateways,
/// load balancers, buckets (`kms.s3.amazonaws.com` is one).
fn is_aws_key_service(host: &str) -> bool {
    let Some(host) = [".amazonaws.com", ".amazonaws.com.cn", ".api.aws"].iter().find_map(|end| host.strip_suffix(end))
    else {
        return false;
    };
    let is_service =
        |label: &str| matches!(label.strip_suffix("-fips").unwrap_or(label), "kms" | "secretsmanager" | "sts");
    let labels: Vec<&str> = host.split('.').collect();
    match labels[..] {
        ["sts"] => true,
        [service, region] => is_service(service) && is_aws_region(region),
        [endpoint, service, region, "vpce"] => {
            let id = endpoint.strip_prefix("vpce-").is_some_and(|id| {
                !id.is_empty()
                    && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            });
            id && is_service(service) && is_aws_region(region)
        }
        _ => false,
    }
}

/// Such as eu-west-1 and us-gov-east-1: words and a number. `s3-us-west-2` is none.
fn is_aws_region(label: &str) -> bool {
    let parts: Vec<&str> = label.split('-').collect();
    let Some((number, words)) = parts.split_last() else { return false };
    let is = |part: &str, of: fn(&u8) -> bool| !part.is_empty() && part.as_bytes().iter().all(of);
    words.len() >= 2 && is(number, u8::is_ascii_digit) && words.iter().all(|word| is(word, u8::is_ascii_lowercase))
}

/// A secret from where its credential says: the first line of a file, or a variable.
///
/// # Errors
/// Misconfigured; names the file or the variable.
pub(crate) fn secret(file: Option<&PathBuf>, variable: Option<&String>) -> Result<Zeroizing<String>> {
    if let Some(variable) = variable {
        let value = std::env::var(variable).ok().filter(|value| !value.is_empty());
        return value.map(Zeroizing::new).ok_or_else(|| misconfigured(format!("the variable {variable} is not set")));
    }
    let Some(path) = file else { return Err(misconfigured("the slot's credentials have no secret")) };
    let refuse = |what: &str| -> Refusal { misconfigured(format!("the file {} {what}", path.display())) };
    let len = std::fs::metadata(path).map_err(|_| refuse("cannot be read"))?.len();
    if len > SECRET_LEN_MAX {
        return Err(refuse("is too long for a secret"));
    }
    let text = std::fs::read_to_string(path).map_err(|_| refuse("cannot be read"))?;
    let text = Zeroizing::new(text);
    match text.lines().next().map(str::trim) {
        Some(line) if !line.is_empty() => Ok(Zeroizing::new(line.to_owned())),
        _ => Err(refuse("is empty")),
    }
}

#[cfg(test)]
mod tests {
    use sealvec_kms::agent::Class;
    use serde_json::json;

    use super::*;

    fn slot(name: &str, provider: &str, options: &str) -> Slot {
        Slot { name: name.into(), provider: provider.into(), options: options.into() }
    }

    #[test]
    fn the_operators_word_wins_over_sql() {
        let kms = json!({"registry": {"s": {"provider": "aws-kms", "key_id": "alias/x", "region": null}}});
        let registry = Registry::from_value(kms).unwrap();
        let settings = registry.resolve(&slot("s", "vault", r#"{"key_id": "mine"}"#)).unwrap();
        assert_eq!((settings.provider, settings.from_operator), (ProviderName::AwsKms, true));
        assert_eq!(Value::Object(settings.options), json!({"key_id": "alias/x"}));
        let settings = registry.resolve(&slot("t", "vault", r#"{"key": "mine"}"#)).unwrap();
        assert_eq!((settings.provider, settings.from_operator), (ProviderName::Vault, false));
    }

    #[test]
    fn fingerprints_tell_slots_apart() {
        let registry = Registry::default();
        let print = |provider, options| registry.resolve(&slot("s", provider, options)).unwrap().fingerprint();
        assert_eq!(print("vault", r#"{"a":1,"b":2}"#), print("vault", r#"{ "b": 2, "a": 1 }"#));
        assert_ne!(print("vault", r#"{"a":1}"#), print("vault", r#"{"a":2}"#));
        assert_ne!(print("vault", "{}"), print("aws", "{}"));
    }

    #[test]
    fn what_sql_may_not_say() {
        let registry = Registry::default();
        for bad in [
            slot("s", "gcp", "{}"),
            slot("s", "vault", "[]"),
            slot("s", "vault", "{"),
            slot("s", "vault", ""),
            slot("a\nb", "vault", "{}"),
            slot(&"x".repeat(256), "vault", "{}"),
        ] {
            assert_eq!(registry.resolve(&bad).unwrap_err().class, Class::Misconfigured, "{bad:?}");
        }
    }

    #[test]
    fn what_the_file_may_not_say() {
        const SECRET: &str = "s3cr3t";
        for (kms, expected) in [
            (json!({"slots": {}}), "kms may have"),
            (json!([SECRET]), "kms may have"),
            (json!({"registry": {"a": {"key_id": SECRET}}}), "kms.registry.a.provider"),
            (json!({"registry": {"a": {"provider": SECRET}}}), "kms.registry.a.provider"),
            (json!({"credentials": {"v": {"address": "https://v", "token": SECRET}}}), "kms.credentials.v"),
            (json!({"credentials": {"v": {"address": "https://v"}}}), "one of them"),
            (
                json!({"credentials": {"v": {"address": "https://v", "token_env": "A", "token_file": "/b"}}}),
                "one of them",
            ),
            (json!({"credentials": {"h": {"module": "/m", "token": "t", "pin": SECRET}}}), "kms.credentials.h"),
            (json!({"credentials": {"p": SECRET}}), "kms.credentials.p"),
        ] {
            let error = Registry::from_value(kms).unwrap_err();
            assert!(error.contains(expected) && !error.contains(SECRET), "{error}");
        }
        assert!(Registry::from_value(Value::Null).is_ok());
    }

    #[test]
    fn options_are_known_and_their_values_stay_secret() {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        #[allow(dead_code)]
        struct Options {
            key: String,
        }
        let registry = Registry::default();
        for options in [r#"{"key": 7, "pin": "s3cr3t"}"#, r#"{"key": "k", "pin": "s3cr3t"}"#, r#"{"key": ["s3cr3t"]}"#]
        {
            let error = registry.resolve(&slot("s", "pkcs11", options)).unwrap().options::<Options>("key").unwrap_err();
            assert!(error.text.contains("provider pkcs11 are key") && !error.text.contains("s3cr3t"), "{error}");
        }
    }

    #[test]
    fn sql_sends_requests_to_aws_or_where_the_operator_allows() {
        let registry = Registry::from_value(json!({"endpoints": ["http://127.0.0.1:5555/"]})).unwrap();
        for endpoint in [
            "http://127.0.0.1:5555",
            "https://kms.eu-west-1.amazonaws.com",
            "https://kms-fips.us-gov-east-1.amazonaws.com",
            "https://secretsmanager.cn-north-1.amazonaws.com.cn",
            "https://secretsmanager-fips.us-east-2.amazonaws.com/",
            "https://sts.amazonaws.com",
            "https://sts.eu-central-1.amazonaws.com",
            "https://kms.eu-west-1.api.aws",
            "https://vpce-1-a.kms.us-east-1.vpce.amazonaws.com/",
            "https://vpce-0f-us-east-1a.kms-fips.us-east-1.vpce.amazonaws.com",
            "https://vpce-1-a.sts.us-east-1.vpce.amazonaws.com",
        ] {
            assert!(registry.allows_endpoint(endpoint), "{endpoint}");
        }
        for endpoint in [
            "http://127.0.0.1:5556",
            "http://169.254.169.254",
            "http://kms.eu-west-1.amazonaws.com",
            "https://evil.example/.amazonaws.com",
            "https://evil.example?.amazonaws.com",
            "https://evil.example#.amazonaws.com",
            "https://u@evil.amazonaws.com",
            "https://amazonaws.com.evil.example",
            // What a customer of AWS can have.
            "https://abc123.execute-api.us-east-1.amazonaws.com",
            "https://kms.execute-api.us-east-1.amazonaws.com",
            "https://vpce-1-a.execute-api.us-east-1.vpce.amazonaws.com",
            "https://vpce-1-a.vpce-svc-1.us-east-1.vpce.amazonaws.com",
            "https://kms.s3.amazonaws.com",
            "https://sts.s3-us-west-2.amazonaws.com",
            "https://kms.s3.us-east-1.amazonaws.com",
            "https://kms-1.us-east-1.elb.amazonaws.com",
            "https://kms.us-east-1.elb.amazonaws.com",
            "https://evil.kms.us-east-1.amazonaws.com",
            "https://x.kms.us-east-1.vpce.amazonaws.com",
            "https://kms.amazonaws.com",
            "https://kms.-.amazonaws.com",
            "https://kms.eu-west-1.amazonaws.com//",
            "https://kms.eu-west-1.amazonaws.com:8443",
            "https://kms.eu-west-1.amazonaws.com@evil.amazonaws.com",
        ] {
            assert!(!registry.allows_endpoint(endpoint), "{endpoint}");
        }
    }

    #[test]
    fn secrets_come_from_files_and_variables() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let read = || secret(Some(&path), None);
        assert!(read().unwrap_err().text.contains("cannot be read"));
        std::fs::write(&path, " \n").unwrap();
        assert!(read().unwrap_err().text.contains("is empty"));
        std::fs::write(&path, "first\nsecond\n").unwrap();
        assert_eq!(read().unwrap().as_str(), "first");
        let unset = "SEALVEC_NOT_SET_ANYWHERE".to_owned();
        assert!(secret(None, Some(&unset)).unwrap_err().text.contains(&unset));
    }
}
