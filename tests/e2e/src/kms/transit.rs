//! The contract of Vault's Transit engine, as far as a key agent meets it, written from the API documentation: keys with
//! versions, AEAD with associated data, policies, tokens. `rewrap` knows no associated data, as in the releases of today
//! (hashicorp/vault issue 31791).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use serde_json::{Value, json};

use super::http_server::{HttpServer, Request, Response};

const NONCE_LEN: usize = 12;

#[derive(Default)]
struct State {
    mounts: Vec<String>,
    keys: BTreeMap<String, Key>, // mount/name
    policies: BTreeMap<String, Vec<String>>,
    tokens: BTreeMap<String, Vec<String>>, // token: its paths
}

struct Key {
    versions: Vec<[u8; 32]>,
    version_min: usize,
    deletion_allowed: bool,
}

/// Starts a server with one root token.
pub fn start(root: &str) -> HttpServer {
    let (root, state) = (root.to_owned(), Mutex::new(State::default()));
    HttpServer::start(move |request| {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        match answer(&mut state, &root, &request) {
            Ok(Value::Null) => Response::Answer { status: 204, headers: Vec::new(), body: Vec::new() },
            Ok(body) => Response::json(200, &body),
            Err((status, text)) => Response::json(status, &json!({"errors": [text]})),
        }
    })
}

type Result<T> = std::result::Result<T, (u16, &'static str)>;

fn answer(state: &mut State, root: &str, request: &Request) -> Result<Value> {
    let path = request.path.strip_prefix("/v1/").ok_or((404, "no handler for route"))?;
    let token = request.header("x-vault-token").ok_or((400, "missing client token"))?;
    let allowed = token == root || state.tokens.get(token).is_some_and(|paths| paths.iter().any(|known| known == path));
    if !allowed {
        return Err((403, "1 error occurred:\n\t* permission denied\n\n"));
    }
    let body: Value = match &request.body[..] {
        [] => json!({}),
        body => serde_json::from_slice(body).map_err(|_| (400, "failed to parse JSON input"))?,
    };
    let parts: Vec<&str> = path.split('/').collect();
    match (request.method.as_str(), &parts[..]) {
        ("POST", ["sys", "mounts", mount]) => {
            state.mounts.push((*mount).to_owned());
            Ok(Value::Null)
        }
        ("PUT" | "POST", ["sys", "policies", "acl", name]) => {
            let text = body["policy"].as_str().ok_or((400, "'policy' parameter not supplied or empty"))?;
            let paths = text.lines().filter_map(|line| line.trim().strip_prefix("path \"")?.split_once('"'));
            let paths = paths.map(|(path, _)| path.to_owned()).collect();
            state.policies.insert((*name).to_owned(), paths);
            Ok(Value::Null)
        }
        ("POST", ["auth", "token", "create"]) => {
            let names = body["policies"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let paths = names.flat_map(|name| state.policies.get(name).cloned().unwrap_or_default()).collect();
            let token = format!("hvs.{}", hex(&random::<16>()));
            state.tokens.insert(token.clone(), paths);
            Ok(json!({"auth": {"client_token": token, "renewable": true}}))
        }
        ("POST", ["auth", "token", "revoke"]) => {
            state.tokens.remove(body["token"].as_str().unwrap_or_default());
            Ok(Value::Null)
        }
        (method, [mount, rest @ ..]) if state.mounts.iter().any(|known| known == mount) => {
            transit(state, mount, method, rest, &body, token == root)
        }
        _ => Err((404, "no handler for route")),
    }
}

fn transit(
    state: &mut State,
    mount: &str,
    method: &str,
    rest: &[&str],
    body: &Value,
    may_create: bool,
) -> Result<Value> {
    const UNKNOWN: (u16, &str) = (400, "encryption key not found");
    let [operation, name, rest @ ..] = rest else { return Err((404, "unsupported path")) };
    let id = format!("{mount}/{name}");
    let fresh = || Key { versions: vec![random()], version_min: 1, deletion_allowed: false };
    match (method, *operation, rest) {
        ("POST" | "PUT", "keys", []) => {
            state.keys.entry(id).or_insert_with(fresh);
            Ok(Value::Null)
        }
        ("POST" | "PUT", "keys", ["rotate"]) => {
            state.keys.get_mut(&id).ok_or((404, "key not found"))?.versions.push(random());
            Ok(Value::Null)
        }
        ("POST" | "PUT", "keys", ["config"]) => {
            let key = state.keys.get_mut(&id).ok_or((400, "no existing key named"))?;
            if let Some(version) = body["min_decryption_version"].as_u64() {
                key.version_min = version as usize;
            }
            key.deletion_allowed |= body["deletion_allowed"].as_bool().unwrap_or(false);
            Ok(Value::Null)
        }
        ("DELETE", "keys", []) => match state.keys.get(&id) {
            Some(Key { deletion_allowed: true, .. }) => {
                state.keys.remove(&id);
                Ok(Value::Null)
            }
            _ => Err((400, "error deleting policy: deletion is not allowed for this key")),
        },
        // A key that is not there is created, if the token may.
        ("POST" | "PUT", "encrypt", []) if may_create || state.keys.contains_key(&id) => {
            let key = state.keys.entry(id).or_insert_with(fresh);
            let plain = base64_of(body, "plaintext").ok_or((400, "failed to base64-decode plaintext"))?;
            Ok(encrypted(key, &plain, &associated_data(body)?))
        }
        ("POST" | "PUT", "encrypt", []) => Err((403, "1 error occurred:\n\t* permission denied\n\n")),
        ("POST" | "PUT", "decrypt", []) => {
            let plain = decrypted(state.keys.get(&id).ok_or(UNKNOWN)?, body, &associated_data(body)?)?;
            Ok(json!({"data": {"plaintext": base64(&plain)}}))
        }
        ("POST" | "PUT", "rewrap", []) => {
            let key = state.keys.get(&id).ok_or(UNKNOWN)?;
            let plain = decrypted(key, body, &[])?;
            Ok(encrypted(key, &plain, &[]))
        }
        _ => Err((404, "unsupported path")),
    }
}

fn encrypted(key: &Key, plain: &[u8], aad: &[u8]) -> Value {
    let nonce: [u8; NONCE_LEN] = random();
    let mut sealed = plain.to_vec();
    cipher(key.versions.last().expect("a key has a version"))
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut sealed)
        .expect("it is short");
    let version = key.versions.len();
    let text = format!("vault:v{version}:{}", base64(&[&nonce[..], &sealed].concat()));
    json!({"request_id": "made by a test", "data": {"ciphertext": text, "key_version": version}, "warnings": null})
}

fn decrypted(key: &Key, body: &Value, aad: &[u8]) -> Result<Vec<u8>> {
    let text = body["ciphertext"].as_str().ok_or((400, "missing ciphertext to decrypt"))?;
    let (version, rest) = text
        .strip_prefix("vault:v")
        .ok_or((400, "invalid ciphertext: no prefix"))?
        .split_once(':')
        .ok_or((400, "invalid ciphertext: wrong number of fields"))?;
    let version: usize =
        version.parse().map_err(|_| (400, "invalid ciphertext: version number could not be decoded"))?;
    if version < key.version_min {
        return Err((400, "ciphertext or signature version is disallowed by policy (too old)"));
    }
    let key = version
        .checked_sub(1)
        .and_then(|at| key.versions.get(at))
        .ok_or((400, "invalid ciphertext: version is too new"))?;
    let mut sealed = unbase64(rest).ok_or((400, "invalid ciphertext: could not decode base64"))?;
    if sealed.len() < NONCE_LEN {
        return Err((400, "invalid ciphertext length"));
    }
    let nonce: [u8; NONCE_LEN] = sealed[..NONCE_LEN].try_into().expect("12 bytes");
    sealed.drain(..NONCE_LEN);
    let opened = cipher(key).open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut sealed);
    opened.map(|plain| plain.to_vec()).map_err(|_| (400, "cipher: message authentication failed"))
}

fn cipher(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("32 bytes"))
}

fn associated_data(body: &Value) -> Result<Vec<u8>> {
    match &body["associated_data"] {
        Value::Null => Ok(Vec::new()),
        _ => base64_of(body, "associated_data").ok_or((400, "failed to base64-decode associated_data")),
    }
}

fn base64_of(body: &Value, name: &str) -> Option<Vec<u8>> {
    unbase64(body[name].as_str()?)
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn unbase64(text: &str) -> Option<Vec<u8>> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the kernel has random bytes");
    bytes
}
