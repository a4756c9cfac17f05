//! Known answers: RFC 9180's for the suite, and sealed keys that another implementation made (`tests/vectors`).

use ::hpke::{Deserializable, Kem, OpModeR, Serializable, setup_receiver};
use serde_json::Value;

use super::{Argument, Binding, KeyId, SealedKey, TransportKey};
use crate::crypto::hpke::{Aead, Dhkem, Kdf};

const RFC_9180: &str = include_str!("../../../tests/vectors/hpke_base_x25519_aes256gcm.json");
const SEALED: &str = include_str!("../../../tests/vectors/sealed_key_v1.json");

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().expect("hexadecimal")).expect("hexadecimal")
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().expect("of that length")
}

#[test]
fn rfc_9180_base_mode() {
    let case: Value = serde_json::from_str(RFC_9180).unwrap();
    let suite = ["mode", "kem_id", "kdf_id", "aead_id"].map(|name| case[name].as_u64().unwrap());
    assert_eq!(suite, [0, 0x20, 1, 2], "the suite that is ours");
    let secret = <Dhkem as Kem>::PrivateKey::from_bytes(&bytes(&case["skRm"])).unwrap();
    assert_eq!(Dhkem::sk_to_pk(&secret).to_bytes()[..], bytes(&case["pkRm"]));
    let enc = <Dhkem as Kem>::EncappedKey::from_bytes(&bytes(&case["enc"])).unwrap();
    let mut context = setup_receiver::<Aead, Kdf, Dhkem>(&OpModeR::Base, &secret, &enc, &bytes(&case["info"])).unwrap();
    let messages = case["encryptions"].as_array().unwrap();
    assert_eq!(messages.len(), 3);
    for message in messages {
        let plain = context.open(&bytes(&message["ct"]), &bytes(&message["aad"])).unwrap();
        assert_eq!(plain, bytes(&message["pt"]));
    }
}

#[test]
fn sealed_by_another_implementation() {
    let file: Value = serde_json::from_str(SEALED).unwrap();
    let id = KeyId::from_bytes(array(&file["key_id"]));
    let key = TransportKey::of_parts(id, &array(&file["secret_key"]), array(&file["public_key"]));
    let cases = file["cases"].as_array().unwrap();
    assert_eq!(cases.len(), Argument::ALL.len());
    for (case, argument) in cases.iter().zip(Argument::ALL) {
        let text = |name: &str| case[name].as_str().unwrap();
        let object = if argument.is_of_ring() { "ring" } else { "index" };
        assert_eq!((text("argument"), text("of")), (argument.name(), object));
        let binding = Binding { database: text("database"), role: text("role"), name: text("name"), argument };
        assert_eq!(binding.info(id).unwrap(), bytes(&case["info"]));
        let sealed = SealedKey::read(text("sealed").as_bytes()).expect("is one").expect("of this version");
        assert_eq!(**key.open(&binding, &sealed).unwrap(), bytes(&case["secret"]), "{argument:?}");
    }
}
