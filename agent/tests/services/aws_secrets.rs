//! Provider `aws`, on moto.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sealvec_e2e::kms::{Fault, FaultProxy};
use sealvec_kms::agent::{Class, Slot};
use serde_json::{Value, json};

use crate::agent::{AWS_SECRET, Agent, context, expect, slot};
use crate::aws_kms::moto;
use crate::contract;

fn agent() -> (Agent, FaultProxy) {
    let proxy = FaultProxy::start(moto().address());
    (Agent::start(json!({"endpoints": [proxy.url()]}), &[]), proxy)
}

fn secret_slot(name: &str, proxy: &FaultProxy, secret: &str) -> Slot {
    slot(name, "aws", json!({"key_id": secret, "endpoint": proxy.url(), "region": "us-east-1"}))
}

fn binary(byte: u8) -> Value {
    json!({"SecretBinary": STANDARD.encode([byte; 32])})
}

#[test]
fn keks_come_back_and_are_bound() {
    let (agent, proxy) = agent();
    for (name, value) in [("binary", binary(7)), ("text", json!({"SecretString": STANDARD.encode([8; 32])}))] {
        let name = format!("kek-{name}");
        moto().create_secret(&name, &value);
        contract::keks_come_back_and_are_bound(&agent, &secret_slot(&name, &proxy, &name), 0);
    }
    contract::log_holds_none_of(&agent, &[AWS_SECRET, &STANDARD.encode([7; 32])], &[]);
}

#[test]
fn trouble_is_told_in_time() {
    let (agent, proxy) = agent();
    moto().create_secret("trouble", &binary(7));
    let mut count = 0;
    contract::trouble_is_told_in_time(&agent, &proxy, || {
        count += 1;
        secret_slot(&format!("s{count}"), &proxy, "trouble")
    });
}

#[test]
fn what_an_older_version_wrapped_still_opens() {
    let (agent, proxy) = agent();
    let arn = moto().create_secret("rotated", &binary(1));
    let (slot, context) = (secret_slot("s", &proxy, "rotated"), context());
    let (kek, old) = agent.generate(&slot, context).unwrap();
    moto().put_secret(&arn, &binary(2));
    let new = agent.wrap(&slot, context, &kek).unwrap();
    assert!(new.key_reference != old.key_reference && new.key_reference.starts_with(&format!("{arn}#")));
    for wrapped in [&old, &new] {
        assert_eq!(agent.unwrap(&slot, context, wrapped).unwrap().expose(), kek.expose());
    }
    let moved = agent.rewrap(&slot, &slot, context, &old).unwrap();
    assert_eq!(moved.key_reference, new.key_reference);
    // The bytes of one version under the name of the other.
    let mixed = sealvec_kms::agent::Wrapped { key_reference: new.key_reference, ..old };
    expect(agent.unwrap(&slot, context, &mixed), Class::WrongKey, "does not open");
}

#[test]
fn a_secret_that_is_no_key_or_gone_is_told() {
    let (agent, proxy) = agent();
    moto().create_secret("short", &json!({"SecretBinary": STANDARD.encode([1; 16])}));
    moto().create_secret("words", &json!({"SecretString": "correct horse battery staple"}));
    for (name, words) in
        [("short", "must be 32 bytes, got 16"), ("words", "not base64"), ("none", "cannot wrap. Provision the secret")]
    {
        let refusal = agent.generate(&secret_slot(name, &proxy, name), context()).map(drop).unwrap_err();
        assert!(!refusal.text.contains("horse"), "{refusal}");
        expect(Err::<(), _>(refusal), Class::Misconfigured, words);
    }
    let arn = moto().create_secret("deleted", &binary(7));
    let (slot, context) = (secret_slot("deleted", &proxy, &arn), context());
    let (_, wrapped) = agent.generate(&slot, context).unwrap();
    moto().delete_secret(&arn);
    expect(agent.unwrap(&slot, context, &wrapped), Class::Denied, "BYOK revocation");
    expect(agent.generate(&slot, context), Class::Misconfigured, "cannot wrap");
    proxy.set(Some(Fault::Aws("AccessDeniedException")));
    expect(agent.unwrap(&slot, context, &wrapped), Class::Denied, "denies access");
}
