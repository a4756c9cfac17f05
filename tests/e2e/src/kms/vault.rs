//! A Vault for tests: OpenBao or Vault itself where `SEALVEC_OPENBAO` names one (`http://TOKEN@host:port`, a root token of a
//! server in dev mode), otherwise [the contract](super::transit). All that is done to it is done over its API.

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use super::http_server::HttpServer;
use super::transit;
use crate::http::{Answer, send_once};

/// A server with one Transit engine of its own, and a root token.
pub struct Vault {
    _contract: Option<HttpServer>,
    address: String,
    root: String,
    mount: String,
}

impl Vault {
    /// Starts the contract server, or goes to the real one.
    pub fn start() -> Self {
        static MOUNTS: AtomicU32 = AtomicU32::new(0);
        let mount = format!("sealvec-{}-{}", std::process::id(), MOUNTS.fetch_add(1, Ordering::SeqCst));
        let vault = match std::env::var("SEALVEC_OPENBAO") {
            Ok(url) => {
                let rest = url.strip_prefix("http://").and_then(|rest| rest.trim_end_matches('/').split_once('@'));
                let (root, address) = rest.expect("SEALVEC_OPENBAO=http://TOKEN@host:port");
                Self { _contract: None, address: address.to_owned(), root: root.to_owned(), mount }
            }
            Err(_) => {
                let root = "hvs.root-token-of-a-test".to_owned();
                let server = transit::start(&root);
                Self { address: server.address(), _contract: Some(server), root, mount }
            }
        };
        vault.must("POST", &format!("sys/mounts/{}", vault.mount), &json!({"type": "transit"}));
        vault
    }

    /// `127.0.0.1:port`
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where its Transit engine is.
    pub fn mount(&self) -> &str {
        &self.mount
    }

    /// A fresh key.
    pub fn create_key(&self, name: &str) {
        self.must("POST", &format!("{}/keys/{name}", self.mount), &json!({"type": "aes256-gcm96"}));
    }

    /// A new version, which wraps from now on.
    pub fn rotate_key(&self, name: &str) {
        self.must("POST", &format!("{}/keys/{name}/rotate", self.mount), &json!({}));
    }

    /// Older versions do not open any more.
    pub fn retire_before(&self, name: &str, version: u32) {
        let path = format!("{}/keys/{name}/config", self.mount);
        self.must("POST", &path, &json!({"min_decryption_version": version}));
    }

    /// Gone for ever.
    pub fn delete_key(&self, name: &str) {
        self.must("POST", &format!("{}/keys/{name}/config", self.mount), &json!({"deletion_allowed": true}));
        self.must("DELETE", &format!("{}/keys/{name}", self.mount), &json!({}));
    }

    /// A token that may do this much with a key, such as `encrypt`.
    pub fn create_token(&self, key: &str, operations: &[&str]) -> String {
        let policy: String = operations
            .iter()
            .map(|operation| format!("path \"{}/{operation}/{key}\" {{ capabilities = [\"update\"] }}\n", self.mount))
            .collect();
        let name = format!("{}-{key}-{}", self.mount, operations.join("-"));
        self.must("PUT", &format!("sys/policies/acl/{name}"), &json!({"policy": policy}));
        let made = self.must("POST", "auth/token/create", &json!({"policies": [name], "no_default_policy": true}));
        made["auth"]["client_token"].as_str().expect("a token").to_owned()
    }

    /// It is worth nothing from now on.
    pub fn revoke_token(&self, token: &str) {
        self.must("POST", "auth/token/revoke", &json!({"token": token}));
    }

    /// A request with a token.
    pub fn request(&self, token: &str, method: &str, path: &str, body: &Value) -> Answer {
        let headers = [("X-Vault-Token".to_owned(), token.to_owned())];
        let answer = send_once(&self.address, method, &format!("/v1/{path}"), &headers, Some(&body.to_string()));
        answer.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn must(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.request(&self.root, method, path, body);
        assert!(matches!(answer.status, 200 | 204), "{path}: {} {}", answer.status, answer.text());
        serde_json::from_slice(&answer.body).unwrap_or_default()
    }
}
