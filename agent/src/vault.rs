//! Provider `vault`: a KEK is wrapped by the Transit engine of Vault or OpenBao; the context is its associated data.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::uri::{Authority, Scheme};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sealvec_core::keys::{Kek, KeyContext};
use sealvec_kms::agent::{Class, Refusal};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::Result;
use crate::provider::{Later, Provider, WrappedKey, bound_to, denied, kek_of, misconfigured, unavailable, wrong_key};
use crate::registry::{Credential, Registry, Settings, VaultCredential, secret};

const CONNECT_TIME_MAX: Duration = Duration::from_secs(2);
const IDLE_TIME_MAX: Duration = Duration::from_secs(30);
/// Most bytes of an answer; a wrapped KEK has about a hundred.
const ANSWER_LEN_MAX: usize = 64 * 1024;

const KNOWN: &str = "key, credentials, mount, address, namespace (texts; key and credentials are needed)";

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    #[serde(alias = "key_id")]
    key: String,
    credentials: String,
    mount: Option<String>,
    address: Option<String>,
    namespace: Option<String>,
}

/// One key of one Transit engine. A key reference is `mount/key#version`.
pub struct Vault {
    credential: VaultCredential,
    scheme: Scheme,
    authority: Authority,
    namespace: Option<HeaderValue>,
    mount: String,
    key: String,
    client: Client<HttpsConnector<HttpConnector>, Full<bytes::Bytes>>,
}

/// What Transit is asked; fields that an operation has not are left out. Wiped, for one is the KEK.
#[derive(Default, Serialize)]
struct Ask<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    plaintext: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ciphertext: Option<&'a str>,
    associated_data: &'a str,
}

#[derive(Deserialize)]
struct Answer {
    data: AnswerData,
}

#[derive(Deserialize)]
struct AnswerData {
    ciphertext: Option<String>,
    plaintext: Option<String>,
}

/// A refused request: the status, and enough of the reason to sort it. The reason itself goes nowhere.
struct Refused {
    status: StatusCode,
    reason: String,
    retry_after: Option<Duration>,
}

impl Vault {
    /// From a slot's options; asks nobody yet.
    pub fn new(registry: &Registry, settings: &Settings) -> Result<Self> {
        let options: Options = settings.options(KNOWN)?;
        let Credential::Vault(credential) = registry.credential(&options.credentials)? else {
            return Err(misconfigured("the slot's credentials are not Vault's: they have no address and token"));
        };
        if options
            .address
            .is_some_and(|address| address.trim_end_matches('/') != credential.address.trim_end_matches('/'))
        {
            return Err(misconfigured("the slot's address is not that of its credentials"));
        }
        if options.namespace.is_some() && options.namespace != credential.namespace {
            return Err(misconfigured("the slot's namespace is not that of its credentials"));
        }
        let (scheme, authority) = parse_address(&credential.address)?;
        let mount = options.mount.unwrap_or_else(|| "transit".to_owned());
        if !is_name(&options.key) || !mount.split('/').all(is_name) {
            return Err(misconfigured(
                "key and mount consist of letters, digits, '-', '_' and '.' (mount also of '/')",
            ));
        }
        let namespace = credential.namespace.as_deref().map(HeaderValue::from_str).transpose();
        Ok(Self {
            client: client(credential.ca_file.as_deref())?,
            namespace: namespace.map_err(|_| misconfigured("the namespace of the credentials is no header value"))?,
            credential: credential.clone(),
            scheme,
            authority,
            mount,
            key: options.key,
        })
    }

    /// One request: the answer's body, or how it was refused.
    async fn ask(
        &self,
        operation: &str,
        mount: &str,
        key: &str,
        ask: &Ask<'_>,
    ) -> Result<Result<Zeroizing<Vec<u8>>, Refused>> {
        let uri = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(format!("/v1/{mount}/{operation}/{key}"))
            .build()
            .map_err(|_| misconfigured("the slot's key or mount makes no address"))?;
        let token = secret(self.credential.token_file.as_ref(), self.credential.token_env.as_ref())?;
        let mut token = HeaderValue::from_str(&token).map_err(|_| misconfigured("the token is no header value"))?;
        token.set_sensitive(true);
        let body = serde_json::to_vec(ask).expect("texts only");
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(uri)
            .header(CONTENT_TYPE, "application/json")
            .header("X-Vault-Token", token)
            .header("X-Vault-Request", "true");
        if let Some(namespace) = &self.namespace {
            request = request.header("X-Vault-Namespace", namespace);
        }
        let request = request.body(Full::from(body)).map_err(|_| misconfigured("the request could not be made"))?;
        let answer = self.client.request(request).await.map_err(|error| match (&error, error.is_connect()) {
            (error, _) if is_of_certificate(error) => {
                misconfigured("Vault's certificate is of another name or of an authority that is not known (ca_file)")
            }
            (_, true) => unavailable("Vault cannot be reached"),
            (_, false) => unavailable("Vault broke off the connection"),
        })?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_LEN_MAX).collect().await;
        let body = Zeroizing::new(body.map_err(|_| malformed())?.to_bytes().to_vec());
        if head.status == StatusCode::OK {
            return Ok(Ok(body));
        }
        let wait = head.headers.get(RETRY_AFTER).and_then(|wait| wait.to_str().ok()?.parse().ok());
        Ok(Err(Refused {
            status: head.status,
            reason: String::from_utf8_lossy(&body).into_owned(),
            retry_after: wait.map(Duration::from_secs),
        }))
    }

    fn wrapped_key(&self, body: &[u8]) -> Result<WrappedKey> {
        let answer: Answer = serde_json::from_slice(body).map_err(|_| malformed())?;
        let ciphertext = answer.data.ciphertext.ok_or_else(malformed)?;
        let version = version_of(&ciphertext).ok_or_else(malformed)?;
        Ok(WrappedKey {
            key_reference: format!("{}/{}#{version}", self.mount, self.key),
            wrapped: ciphertext.into_bytes(),
        })
    }
}

impl Provider for Vault {
    fn wrap<'a>(&'a self, context: &'a KeyContext, kek: &'a Kek) -> Later<'a, WrappedKey> {
        Box::pin(async {
            let plain = Zeroizing::new(STANDARD.encode(kek.expose()));
            let bound = STANDARD.encode(bound_to(context));
            let ask = Ask { plaintext: Some(&plain), associated_data: &bound, ..Ask::default() };
            let body =
                self.ask("encrypt", &self.mount, &self.key, &ask).await?.map_err(|refused| refused.class(false))?;
            self.wrapped_key(&body)
        })
    }

    fn unwrap<'a>(&'a self, context: &'a KeyContext, key_reference: &'a str, wrapped: &'a [u8]) -> Later<'a, Kek> {
        Box::pin(async move {
            let (mount, key) = parse_reference(key_reference).ok_or_else(wrong_key)?;
            let ciphertext = ciphertext(wrapped)?;
            let bound = STANDARD.encode(bound_to(context));
            let ask = Ask { ciphertext: Some(ciphertext), associated_data: &bound, ..Ask::default() };
            let body = self.ask("decrypt", mount, key, &ask).await?.map_err(|refused| refused.class(true))?;
            let answer: Answer = serde_json::from_slice(&body).map_err(|_| malformed())?;
            let plain = Zeroizing::new(answer.data.plaintext.ok_or_else(malformed)?);
            kek_of(&Zeroizing::new(STANDARD.decode(plain.as_bytes()).map_err(|_| malformed())?))
        })
    }

    fn realm(&self) -> Option<String> {
        // Transit rewraps to a newer version of the same key only.
        let VaultCredential { address, namespace, .. } = &self.credential;
        Some(format!("{address} {namespace:?} {}/{}", self.mount, self.key))
    }

    /// Inside Vault, where its version can do that: `rewrap` of today's releases knows no associated data, and so
    /// refuses what was bound to some. Then the KEK passes through this process.
    fn rewrap<'a>(
        &'a self,
        context: &'a KeyContext,
        key_reference: &'a str,
        wrapped: &'a [u8],
    ) -> Later<'a, WrappedKey> {
        Box::pin(async move {
            if parse_reference(key_reference) == Some((&self.mount, &self.key)) {
                let bound = STANDARD.encode(bound_to(context));
                let ask = Ask { ciphertext: Some(ciphertext(wrapped)?), associated_data: &bound, ..Ask::default() };
                match self.ask("rewrap", &self.mount, &self.key, &ask).await? {
                    Ok(body) => {
                        let moved = self.wrapped_key(&body)?;
                        // It must still be bound: a release that forgets the context would give it away.
                        self.unwrap(context, &moved.key_reference, &moved.wrapped).await?;
                        return Ok(moved);
                    }
                    Err(refused)
                        if refused.status != StatusCode::BAD_REQUEST && refused.status != StatusCode::FORBIDDEN =>
                    {
                        return Err(refused.class(true));
                    }
                    Err(_) => {}
                }
            }
            let kek = self.unwrap(context, key_reference, wrapped).await?;
            self.wrap(context, &kek).await
        })
    }
}

impl Refused {
    /// `opening`: a wrapped key was sent, which may be at fault.
    fn class(self, opening: bool) -> Refusal {
        let says = |text| self.reason.contains(text);
        let refusal = match self.status.as_u16() {
            400 if says("disallowed by policy") || says("min_decryption_version") => {
                denied("this version of the key may no longer be used (min_decryption_version)")
            }
            400 if says("encryption key not found") => misconfigured("Vault does not know the key"),
            400 if opening => wrong_key(),
            400 => misconfigured("Vault does not take the request: is the key of a type with associated data?"),
            401 | 403 => denied("Vault denies access: the token is not valid, or has no right to this key"),
            404 => misconfigured("Vault has no such engine or key"),
            429 => Refusal::new(Class::Throttled, "Vault asks to slow down (HTTP 429)"),
            503 => unavailable("Vault is sealed or in maintenance (HTTP 503)"),
            status @ 500.. => unavailable(format!("Vault failed (HTTP {status})")),
            status @ 300..400 => {
                misconfigured(format!("Vault points elsewhere (HTTP {status}): set the address of the active node"))
            }
            status => misconfigured(format!("Vault refuses the request (HTTP {status})")),
        };
        Refusal { retry_after: self.retry_after, ..refusal }
    }
}

fn malformed() -> Refusal {
    unavailable("Vault gave a malformed answer")
}

fn ciphertext(wrapped: &[u8]) -> Result<&str> {
    let text = std::str::from_utf8(wrapped).map_err(|_| wrong_key())?;
    version_of(text).map(|_| text).ok_or_else(wrong_key)
}

/// `vault:v3:…` → 3
fn version_of(ciphertext: &str) -> Option<u32> {
    let (version, rest) = ciphertext.strip_prefix("vault:v")?.split_once(':')?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte);
    (!rest.is_empty() && rest.bytes().all(plain)).then(|| version.parse().ok())?
}

/// `mount/key#version` → mount and key, which go into a path.
fn parse_reference(reference: &str) -> Option<(&str, &str)> {
    let (path, version) = reference.split_once('#')?;
    version.parse::<u32>().ok()?;
    let (mount, key) = path.rsplit_once('/')?;
    (is_name(key) && mount.split('/').all(is_name)).then_some((mount, key))
}

/// A part of a path that stays one.
fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !name.is_empty() && name.len() <= 128 && name.bytes().all(plain) && name.bytes().any(|byte| byte != b'.')
}

/// HTTPS anywhere; HTTP to this machine only, for the token and the KEK travel in it.
fn parse_address(address: &str) -> Result<(Scheme, Authority)> {
    let refuse = || misconfigured("the address of the credentials must look like https://host:8200");
    let uri: Uri = address.trim_end_matches('/').parse().map_err(|_| refuse())?;
    let parts = uri.into_parts();
    let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else { return Err(refuse()) };
    if parts.path_and_query.is_some_and(|path| path != "/") || authority.as_str().contains('@') {
        return Err(refuse());
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let near = host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
    match scheme == Scheme::HTTPS || scheme == Scheme::HTTP && near {
        true => Ok((scheme, authority)),
        false => Err(misconfigured("the address of the credentials must begin with https://, or lie on this machine")),
    }
}

/// Follows no redirect and uses no proxy: the token goes to one address.
fn client(ca_file: Option<&Path>) -> Result<Client<HttpsConnector<HttpConnector>, Full<bytes::Bytes>>> {
    let mut roots = rustls::RootCertStore::empty();
    match ca_file {
        Some(path) => {
            let refuse = || misconfigured(format!("the file {} holds no PEM certificate", path.display()));
            for certificate in CertificateDer::pem_file_iter(path).map_err(|_| refuse())? {
                roots.add(certificate.map_err(|_| refuse())?).map_err(|_| refuse())?;
            }
            if roots.is_empty() {
                return Err(refuse());
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut connector = HttpConnector::new();
    connector.enforce_http(false); // HTTPS is made on top of it
    connector.set_connect_timeout(Some(CONNECT_TIME_MAX));
    connector.set_nodelay(true);
    let connector =
        HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(connector);
    Ok(Client::builder(TokioExecutor::new()).pool_idle_timeout(IDLE_TIME_MAX).build(connector))
}

fn is_of_certificate(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if matches!(error.downcast_ref(), Some(rustls::Error::InvalidCertificate(_))) {
            return true;
        }
        // The source of an I/O error is that of what it holds, not what it holds.
        next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(held) => Some(held),
            None => error.source(),
        };
    }
    false
}

#[cfg(test)]
mod tests {
    use sealvec_kms::agent::Slot;
    use serde_json::json;

    use super::*;

    #[test]
    fn names_stay_one_part_of_a_path() {
        for good in ["a", "A-1_b.c", &"x".repeat(128)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "a?b", "a%2e", "é", "a#b", &"x".repeat(129)] {
            assert!(!is_name(bad), "{bad}");
        }
        assert_eq!(parse_reference("a/transit/key#7"), Some(("a/transit", "key")));
        for bad in
            ["transit/key", "key#1", "/key#1", "transit/#1", "transit/key#x", "../sys/key#1", "t//k#1", "t/k#1#2"]
        {
            assert_eq!(parse_reference(bad), None, "{bad}");
        }
    }

    #[test]
    fn versions_of_ciphertexts() {
        assert_eq!(version_of("vault:v12:AAec+/8="), Some(12));
        for bad in
            ["", "vault:v1", "vault:v1:", "vault:vx:AA", "vault:v-1:AA", "other:v1:AA", "vault:v1:A A", "vault:v1:\"}"]
        {
            assert_eq!(version_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn tokens_go_over_tls_or_nowhere_far() {
        for good in ["https://v:8200", "https://v.example/", "http://127.0.0.1:1", "http://[::1]:1", "http://localhost"]
        {
            assert!(parse_address(good).is_ok(), "{good}");
        }
        for bad in ["http://v:8200", "v:8200", "https://", "https://v/path", "https://u:p@v", "ftp://localhost", ""] {
            assert_eq!(parse_address(bad).unwrap_err().class, Class::Misconfigured, "{bad}");
        }
    }

    #[test]
    fn a_slot_cannot_send_a_token_elsewhere() {
        let kms = json!({"credentials": {
            "v": {"address": "https://v:8200", "token_env": "T"},
            "h": {"module": "/m", "token": "t", "pin_env": "P"},
        }});
        let registry = Registry::from_value(kms).unwrap();
        let open = |options: serde_json::Value| {
            let slot = Slot { name: "s".into(), provider: "vault".into(), options: options.to_string() };
            Vault::new(&registry, &registry.resolve(&slot).unwrap()).map(drop)
        };
        assert_eq!(open(json!({"key": "k", "credentials": "v", "address": "https://v:8200/"})), Ok(()));
        for (options, expected) in [
            (json!({"key": "k", "credentials": "v", "address": "https://evil:8200"}), "address"),
            (json!({"key": "k", "credentials": "v", "namespace": "n"}), "namespace"),
            (json!({"key": "../../sys/raw", "credentials": "v"}), "consist of"),
            (json!({"key": "k", "mount": "a/../b", "credentials": "v"}), "consist of"),
            (json!({"key": "k", "credentials": "h"}), "not Vault's"),
            (json!({"key": "k", "credentials": "x"}), "kms.credentials"),
            (json!({"key": "k"}), "key and credentials are needed"),
        ] {
            let refusal = open(options).unwrap_err();
            assert!(refusal.text.contains(expected) && refusal.class == Class::Misconfigured, "{refusal}");
        }
    }

    #[test]
    fn statuses_have_classes() {
        let class = |status: u16, reason: &str, opening| {
            let status = StatusCode::from_u16(status).unwrap();
            let refusal = Refused { status, reason: reason.into(), retry_after: None }.class(opening);
            assert!(reason.is_empty() || !refusal.text.contains(reason));
            refusal.class
        };
        assert_eq!(class(400, "cipher: message authentication failed", true), Class::WrongKey);
        assert_eq!(class(400, "invalid ciphertext: no prefix", true), Class::WrongKey);
        assert_eq!(class(400, "encryption key not found", true), Class::Misconfigured);
        assert_eq!(
            class(400, "ciphertext or signature version is disallowed by policy (too old)", true),
            Class::Denied
        );
        assert_eq!(class(400, "something", false), Class::Misconfigured);
        assert_eq!(class(403, "permission denied", true), Class::Denied);
        assert_eq!(class(404, "no handler for route", false), Class::Misconfigured);
        assert_eq!(class(429, "", true), Class::Throttled);
        assert_eq!(class(503, "sealed by an operator", true), Class::Unavailable);
        assert_eq!(class(500, "", true), Class::Unavailable);
        assert_eq!(class(307, "", true), Class::Misconfigured);
    }
}
