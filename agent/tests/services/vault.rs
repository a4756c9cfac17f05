//! Provider `vault`, on OpenBao where there is one, else on Transit's contract.

use std::fs;
use std::path::PathBuf;

use sealvec_e2e::kms::{Fault, FaultProxy, Vault};
use sealvec_kms::agent::{Class, Slot};
use serde_json::json;

use crate::agent::{Agent, context, expect, slot};
use crate::{contract, tls};

const ALL: [&str; 3] = ["encrypt", "decrypt", "rewrap"];

/// A key, a token in a file, and an agent that reaches the Vault through a proxy.
struct Setting {
    vault: Vault,
    proxy: FaultProxy,
    agent: Agent,
    token: String,
    token_file: PathBuf,
    _home: tempfile::TempDir,
}

impl Setting {
    fn new(operations: &[&str]) -> Self {
        let vault = Vault::start();
        vault.create_key("k");
        let token = vault.create_token("k", operations);
        let proxy = FaultProxy::start(vault.address());
        let home = tempfile::tempdir().unwrap();
        let token_file = home.path().join("token");
        fs::write(&token_file, format!("{token}\n")).unwrap();
        let credential = json!({"address": proxy.url(), "token_file": token_file});
        let agent = Agent::start(json!({"credentials": {"v": credential}}), &[]);
        Self { vault, proxy, agent, token, token_file, _home: home }
    }

    fn slot(&self, name: &str) -> Slot {
        slot(name, "vault", json!({"key": "k", "mount": self.vault.mount(), "credentials": "v"}))
    }
}

#[test]
fn keks_come_back_and_are_bound() {
    let setting = Setting::new(&ALL);
    contract::keks_come_back_and_are_bound(&setting.agent, &setting.slot("s"), 0);
    for request in setting.proxy.take_seen() {
        assert!(String::from_utf8_lossy(&request.body).contains("associated_data"), "{request:?}");
    }
    contract::log_holds_none_of(&setting.agent, &[&setting.token], &[]);
}

#[test]
fn trouble_is_told_in_time() {
    let setting = Setting::new(&ALL);
    let mut count = 0;
    contract::trouble_is_told_in_time(&setting.agent, &setting.proxy, || {
        count += 1;
        setting.slot(&format!("s{count}"))
    });
}

#[test]
fn a_kek_moves_to_a_newer_version_of_its_key() {
    let setting = Setting::new(&ALL);
    let (Setting { vault, agent, .. }, slot, context) = (&setting, setting.slot("s"), context());
    let (kek, old) = agent.generate(&slot, context).unwrap();
    assert_eq!(old.key_reference, format!("{}/k#1", vault.mount()));
    vault.rotate_key("k");
    let moved = agent.rewrap(&slot, &slot, context, &old).unwrap();
    assert_eq!(moved.key_reference, format!("{}/k#2", vault.mount()));
    for wrapped in [&old, &moved] {
        assert_eq!(agent.unwrap(&slot, context, wrapped).unwrap().expose(), kek.expose());
    }
    // It is still bound: the way through `rewrap` would have lost that.
    expect(agent.unwrap(&slot, crate::agent::context(), &moved), Class::WrongKey, "does not open");
    expect(agent.rewrap(&slot, &slot, crate::agent::context(), &old), Class::WrongKey, "does not open");
    vault.retire_before("k", 2);
    expect(agent.unwrap(&slot, context, &old), Class::Denied, "min_decryption_version");
    assert_eq!(agent.unwrap(&slot, context, &moved).unwrap().expose(), kek.expose());
}

#[test]
fn a_token_or_key_that_was_taken_away_is_told() {
    let setting = Setting::new(&ALL);
    let (Setting { vault, agent, token, .. }, slot, context) = (&setting, setting.slot("s"), context());
    let (kek, wrapped) = agent.generate(&slot, context).unwrap();
    vault.revoke_token(token);
    expect(agent.unwrap(&slot, context, &wrapped), Class::Denied, "denies access");
    expect(agent.wrap(&slot, context, &kek), Class::Denied, "denies access");
    // A new token in the file is enough.
    let renewed = vault.create_token("k", &ALL);
    fs::write(&setting.token_file, &renewed).unwrap();
    assert_eq!(agent.unwrap(&slot, context, &wrapped).unwrap().expose(), kek.expose());
    vault.delete_key("k");
    expect(agent.unwrap(&slot, context, &wrapped), Class::Misconfigured, "does not know the key");
    fs::remove_file(&setting.token_file).unwrap();
    expect(agent.unwrap(&slot, context, &wrapped), Class::Misconfigured, "cannot be read");
    contract::log_holds_none_of(agent, &[token, &renewed], &[&kek]);
}

#[test]
fn a_token_needs_no_more_than_encrypt_and_decrypt() {
    let setting = Setting::new(&["encrypt", "decrypt"]);
    let (agent, slot, context) = (&setting.agent, setting.slot("s"), context());
    let (kek, wrapped) = agent.generate(&slot, context).unwrap();
    setting.vault.rotate_key("k");
    let moved = agent.rewrap(&slot, &slot, context, &wrapped).unwrap();
    assert_eq!(agent.unwrap(&slot, context, &moved).unwrap().expose(), kek.expose());
    let weaker = Setting::new(&["encrypt"]);
    expect(weaker.agent.check(&weaker.slot("s")), Class::Denied, "denies access");
}

#[test]
fn another_key_or_engine_is_told() {
    let setting = Setting::new(&ALL);
    let (agent, context) = (&setting.agent, context());
    let (_, wrapped) = agent.generate(&setting.slot("s"), context).unwrap();
    let elsewhere = slot("t", "vault", json!({"key": "k", "mount": "nowhere", "credentials": "v"}));
    let refusal = agent.generate(&elsewhere, context).map(drop).unwrap_err();
    assert!(matches!(refusal.class, Class::Denied | Class::Misconfigured), "{refusal}"); // Vault does not say which
    for reference in ["", "k", "transit/k", "transit/../sys/raw#1", "x#1"] {
        let forged = sealvec_kms::agent::Wrapped { key_reference: reference.into(), ..wrapped.clone() };
        setting.proxy.take_seen();
        expect(agent.unwrap(&setting.slot("s"), context, &forged), Class::WrongKey, "does not open");
        assert!(setting.proxy.take_seen().is_empty(), "{reference} is sent nowhere");
    }
}

#[test]
fn a_redirect_is_not_followed() {
    let setting = Setting::new(&ALL);
    setting.proxy.set(Some(Fault::Status(307, None)));
    expect(setting.agent.check(&setting.slot("s")), Class::Misconfigured, "points elsewhere");
    assert_eq!(setting.proxy.take_seen().len(), 1);
}

#[test]
fn a_certificate_is_checked_against_its_authority_and_name() {
    let vault = Vault::start();
    vault.create_key("k");
    let token = vault.create_token("k", &["encrypt", "decrypt"]);
    let port = tls::start(vault.address().to_owned());
    let credential = |host: &str, ca: Option<String>| json!({"address": format!("https://{host}:{port}"), "token_env": "TOKEN", "ca_file": ca});
    let kms = json!({"credentials": {
        "right": credential("localhost", Some(tls::ca_file())),
        "unknown": credential("localhost", None),
        "other-name": credential("127.0.0.1", Some(tls::ca_file())),
        "no-file": credential("localhost", Some("/nowhere/ca.pem".into())),
    }});
    let agent = Agent::start(kms, &[("TOKEN", token)]);
    let with = |name: &str| slot(name, "vault", json!({"key": "k", "mount": vault.mount(), "credentials": name}));
    agent.check(&with("right")).unwrap();
    expect(agent.check(&with("unknown")), Class::Misconfigured, "authority that is not known");
    expect(agent.check(&with("other-name")), Class::Misconfigured, "of another name");
    expect(agent.check(&with("no-file")), Class::Misconfigured, "no PEM certificate");
}
