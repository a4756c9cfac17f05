//! Provider `aws-kms`, on moto.

use std::sync::OnceLock;

use sealvec_e2e::kms::{Fault, FaultProxy, Moto};
use sealvec_kms::agent::{Class, Slot};
use serde_json::{Value, json};

use crate::agent::{AWS_SECRET, Agent, context, expect, slot};
use crate::contract;

/// moto puts the key's id in front of what it encrypts, and calls an id that it does not know a lack of rights.
const KEY_ID_LEN: usize = 36;

/// One for all tests of AWS: it takes seconds to start.
pub fn moto() -> &'static Moto {
    static MOTO: OnceLock<Moto> = OnceLock::new();
    MOTO.get_or_init(Moto::start)
}

/// An agent whose requests all go through a proxy in front of moto.
fn agent() -> (Agent, FaultProxy) {
    let proxy = FaultProxy::start(moto().address());
    let kms = json!({"endpoints": [proxy.url()]});
    (Agent::start(kms, &[]), proxy)
}

fn kms_slot(name: &str, proxy: &FaultProxy, key_id: &str, more: Value) -> Slot {
    let mut options =
        json!({"key_id": key_id, "endpoint": proxy.url(), "sts_endpoint": proxy.url(), "region": "us-east-1"});
    options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    slot(name, "aws-kms", options)
}

/// Operation and body of what a proxy has seen.
fn seen(proxy: &FaultProxy) -> Vec<(String, Value)> {
    let requests = proxy.take_seen().into_iter();
    requests
        .map(|request| {
            let target = request.header("x-amz-target").unwrap_or("TrentService.-").to_owned();
            let operation = target.split_once('.').unwrap().1.to_owned();
            (operation, serde_json::from_slice(&request.body).unwrap_or_default())
        })
        .collect()
}

#[test]
fn keks_come_back_and_are_bound() {
    let (agent, proxy) = agent();
    let slot = kms_slot("s", &proxy, &moto().create_key(), json!({}));
    contract::keks_come_back_and_are_bound(&agent, &slot, KEY_ID_LEN);
    contract::log_holds_none_of(&agent, &[AWS_SECRET], &[]);
}

#[test]
fn trouble_is_told_in_time() {
    let (agent, proxy) = agent();
    let key = moto().create_key();
    let mut count = 0;
    contract::trouble_is_told_in_time(&agent, &proxy, || {
        count += 1;
        kms_slot(&format!("s{count}"), &proxy, &key, json!({}))
    });
}

#[test]
fn every_request_names_key_and_context() {
    let (agent, proxy) = agent();
    let key = moto().create_key();
    let slot = kms_slot("s", &proxy, &key, json!({}));
    let context = context();
    let (kek, wrapped) = agent.generate(&slot, context).unwrap();
    agent.wrap(&slot, context, &kek).unwrap();
    agent.unwrap(&slot, context, &wrapped).unwrap();
    assert_eq!(wrapped.key_reference, key);
    let expected: Value = context.pairs().into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
    let seen = seen(&proxy);
    assert_eq!(
        seen.iter().map(|(operation, _)| operation.as_str()).collect::<Vec<_>>(),
        ["GenerateDataKey", "Decrypt", "Encrypt", "Decrypt", "Decrypt"]
    );
    for (operation, body) in seen {
        assert_eq!((&body["KeyId"], &body["EncryptionContext"]), (&json!(key), &expected), "{operation}");
    }
    contract::log_holds_none_of(&agent, &[AWS_SECRET], &[&kek]);
}

#[test]
fn another_key_opens_nothing() {
    let (agent, proxy) = agent();
    let context = context();
    let slot = kms_slot("s", &proxy, &moto().create_key(), json!({}));
    let (_, wrapped) = agent.generate(&slot, context).unwrap();
    for (fault, class) in [
        (Fault::Aws("IncorrectKeyException"), Class::WrongKey),
        (Fault::OtherKeyId, Class::WrongKey),
        (Fault::Aws("InvalidCiphertextException"), Class::WrongKey),
    ] {
        proxy.set(Some(fault));
        expect(agent.unwrap(&slot, context, &wrapped), class, "does not open");
        proxy.set(None);
    }
    let unknown = "arn:aws:kms:us-east-1:123456789012:key/00000000-0000-0000-0000-000000000000";
    expect(
        agent.generate(&kms_slot("u", &proxy, unknown, json!({})), context),
        Class::Misconfigured,
        "does not know the key",
    );
}

#[test]
fn a_key_that_was_taken_away_is_denied() {
    let (agent, proxy) = agent();
    let context = context();
    let slot = kms_slot("s", &proxy, &moto().create_key(), json!({}));
    let (kek, wrapped) = agent.generate(&slot, context).unwrap();
    for (name, words) in [
        ("DisabledException", "disabled"),
        ("KMSInvalidStateException", "pending deletion"),
        ("AccessDeniedException", "denies access"),
        ("ExpiredTokenException", "denies access"),
    ] {
        proxy.set(Some(Fault::Aws(name)));
        expect(agent.unwrap(&slot, context, &wrapped), Class::Denied, words);
        expect(agent.wrap(&slot, context, &kek), Class::Denied, words);
    }
    proxy.set(Some(Fault::Aws("ThrottlingException")));
    expect(agent.unwrap(&slot, context, &wrapped), Class::Throttled, "slow down");
    proxy.set(None);
    assert!(agent.unwrap(&slot, context, &wrapped).is_ok()); // and back
}

#[test]
fn a_kek_moves_between_keys_inside_aws() {
    let (agent, proxy) = agent();
    let (one, two) = (moto().create_key(), moto().create_key());
    let from = kms_slot("from", &proxy, &one, json!({}));
    let to = kms_slot("to", &proxy, &two, json!({}));
    let context = context();
    let (kek, wrapped) = agent.generate(&from, context).unwrap();
    proxy.take_seen();
    let moved = agent.rewrap(&from, &to, context, &wrapped).unwrap();
    let seen = seen(&proxy);
    assert_eq!(seen.iter().map(|(operation, _)| operation.as_str()).collect::<Vec<_>>(), ["ReEncrypt"]);
    assert_eq!(seen[0].1["SourceKeyId"], json!(one));
    assert_eq!(moved.key_reference, two);
    assert_eq!(agent.unwrap(&to, context, &moved).unwrap().expose(), kek.expose());
    let other = crate::agent::context();
    expect(agent.rewrap(&from, &to, other, &wrapped), Class::WrongKey, "does not open");
    expect(agent.unwrap(&to, other, &moved), Class::WrongKey, "does not open");
    // Another identity cannot be asked to do it inside: the agent carries it over.
    let role = json!({"role_arn": "arn:aws:iam::123456789012:role/other", "external_id": "x"});
    let elsewhere = kms_slot("role", &proxy, &one, role);
    proxy.take_seen();
    let carried = agent.rewrap(&to, &elsewhere, context, &moved).unwrap();
    assert_eq!(agent.unwrap(&elsewhere, context, &carried).unwrap().expose(), kek.expose());
    contract::log_holds_none_of(&agent, &[AWS_SECRET], &[&kek]);
}

#[test]
fn a_role_is_assumed_with_its_external_id() {
    let (agent, proxy) = agent();
    let role =
        json!({"role_arn": "arn:aws:iam::123456789012:role/r", "external_id": "e-1", "role_session_name": "n-1"});
    let slot = kms_slot("s", &proxy, &moto().create_key(), role.clone());
    contract::keks_come_back_and_are_bound(&agent, &slot, KEY_ID_LEN);
    let bodies: Vec<String> =
        proxy.take_seen().iter().map(|request| String::from_utf8_lossy(&request.body).into_owned()).collect();
    let assumed: Vec<_> = bodies.iter().filter(|body| body.contains("Action=AssumeRole")).collect();
    assert_eq!(assumed.len(), 1, "its credentials are kept");
    assert!(assumed[0].contains("ExternalId=e-1") && assumed[0].contains("RoleSessionName=n-1"), "{}", assumed[0]);
    // STS says no.
    let refused = kms_slot("t", &proxy, "alias/x", role);
    proxy.set(Some(Fault::Status(403, None)));
    expect(agent.check(&refused), Class::Denied, "role cannot be assumed");
    proxy.set(Some(Fault::Status(503, None)));
    expect(agent.check(&refused), Class::Unavailable, "role cannot be assumed");
}

#[test]
fn without_credentials_or_region_it_says_so() {
    let proxy = FaultProxy::start(moto().address());
    let none = [("AWS_ACCESS_KEY_ID", String::new()), ("AWS_SECRET_ACCESS_KEY", String::new())];
    let agent = Agent::start(json!({"endpoints": [proxy.url()]}), &none);
    expect(agent.check(&kms_slot("s", &proxy, "alias/x", json!({}))), Class::Misconfigured, "no AWS credentials");
    let nowhere = slot("t", "aws-kms", json!({"key_id": "alias/x"}));
    expect(agent.check(&nowhere), Class::Misconfigured, "no AWS region");
}

#[test]
fn a_profile_of_the_credentials_is_used() {
    let (_, proxy) = agent();
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("credentials");
    std::fs::write(&file, format!("[backup]\naws_access_key_id = AKIDBACKUP\naws_secret_access_key = {AWS_SECRET}\n"))
        .unwrap();
    let kms = json!({"endpoints": [proxy.url()], "credentials": {"second": {"profile": "backup", "file": file}}});
    let agent = Agent::start(kms, &[]);
    let slot = kms_slot("s", &proxy, &moto().create_key(), json!({"credentials": "second"}));
    proxy.take_seen();
    agent.check(&slot).unwrap();
    for request in proxy.take_seen() {
        assert!(request.header("authorization").unwrap().contains("Credential=AKIDBACKUP/"), "{request:?}");
    }
}

#[test]
fn a_slot_made_by_sql_cannot_send_requests_anywhere() {
    let (agent, proxy) = agent();
    let elsewhere = FaultProxy::start(moto().address());
    let slot = kms_slot("s", &elsewhere, "alias/x", json!({}));
    expect(agent.check(&slot), Class::Misconfigured, "kms.endpoints");
    assert!(elsewhere.take_seen().is_empty() && proxy.take_seen().is_empty());
}
