//! Provider `pkcs11`, on SoftHSM2.

use std::fs;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::Attribute;
use cryptoki::session::UserType;
use cryptoki::types::AuthPin;
use sealvec_core::keys::{KeyContext, Uuid};
use sealvec_e2e::kms::SoftHsm;
use sealvec_e2e::kms::softhsm::{MODULE, PIN};
use sealvec_kms::agent::{Class, Slot, Wrapped};
use serde_json::{Value, json};

use crate::agent::{Agent, context, expect, slot};
use crate::contract;

struct Setting {
    token: SoftHsm,
    agent: Agent,
    pin_file: PathBuf,
    _home: tempfile::TempDir,
}

impl Setting {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let token = SoftHsm::create(home.path(), "hsm 1");
        token.create_key("kek");
        let pin_file = home.path().join("pin");
        fs::write(&pin_file, PIN).unwrap();
        let credential = |module: &str, token: &str| json!({"module": module, "token": token, "pin_file": pin_file});
        let kms = json!({"credentials": {
            "hsm": credential(MODULE, "hsm 1"),
            "none": credential(MODULE, "none"),
            "broken": credential("/nowhere/module.so", "hsm 1"),
        }});
        let agent = Agent::start(kms, &[token.environment()]);
        Self { token, agent, pin_file, _home: home }
    }
}

fn key_slot(key: &str) -> Slot {
    slot("s", "pkcs11", json!({"key": key, "credentials": "hsm"}))
}

#[test]
fn keks_come_back_and_are_bound() {
    let setting = Setting::new();
    contract::keks_come_back_and_are_bound(&setting.agent, &key_slot("kek"), 0);
    let (kek, wrapped) = setting.agent.generate(&key_slot("kek"), context()).unwrap();
    assert_eq!((wrapped.key_reference.as_str(), wrapped.wrapped.len()), ("pkcs11:token=hsm%201;object=kek", 61));
    contract::log_holds_none_of(&setting.agent, &[], &[&kek]);
}

/// A KEK that was wrapped by the first release: it must unwrap for ever.
#[test]
fn golden_kek_unwraps() {
    let setting = Setting::new();
    setting.token.import_key("golden", b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef");
    let context = KeyContext::kek(Uuid::from_bytes([0x5a; 16]));
    let golden = Wrapped {
        provider: "pkcs11".into(),
        key_reference: "pkcs11:token=hsm%201;object=golden".into(),
        wrapped: STANDARD
            .decode("AcdKB/SGaOp0ZpsdBjMKltx2EMjoS00fyHwbF02PJ1MbA0N7GSEGkvq7fUXUxGRik5QIyhAW0IwR2k+qsg==")
            .unwrap(),
    };
    assert_eq!(setting.agent.unwrap(&key_slot("kek"), context, &golden).unwrap().expose(), &[9; 32]);
}

#[test]
fn a_kek_moves_to_another_key_of_the_token() {
    let setting = Setting::new();
    setting.token.create_key("second");
    let (agent, context) = (&setting.agent, context());
    let (kek, wrapped) = agent.generate(&key_slot("kek"), context).unwrap();
    let moved = agent.rewrap(&key_slot("kek"), &key_slot("second"), context, &wrapped).unwrap();
    assert_eq!(moved.key_reference, "pkcs11:token=hsm%201;object=second");
    // The old one opens by its reference, whatever the slot's key is now.
    for wrapped in [&wrapped, &moved] {
        assert_eq!(agent.unwrap(&key_slot("second"), context, wrapped).unwrap().expose(), kek.expose());
    }
}

#[test]
fn keys_and_tokens_that_are_not_there_are_told() {
    let mut setting = Setting::new();
    let (agent, context) = (&setting.agent, context());
    let (kek, wrapped) = agent.generate(&key_slot("kek"), context).unwrap();
    expect(agent.generate(&key_slot("other"), context), Class::Misconfigured, "no AES key of this label");
    let with = |credentials: &str| slot(credentials, "pkcs11", json!({"key": "kek", "credentials": credentials}));
    expect(agent.check(&with("none")), Class::Unavailable, "not there");
    expect(agent.check(&with("broken")), Class::Misconfigured, "no PKCS#11 module");
    setting.token.create_key("twice");
    setting.token.create_key("twice");
    expect(agent.generate(&key_slot("twice"), context), Class::Misconfigured, "more than one");
    setting.token.remove_keys();
    expect(agent.unwrap(&key_slot("kek"), context, &wrapped), Class::Misconfigured, "no AES key of this label");
    setting.token.restore_keys();
    setting.agent.kill(); // SoftHSM does not look again at what it has seen go
    setting.agent.start_again();
    assert_eq!(setting.agent.unwrap(&key_slot("kek"), context, &wrapped).unwrap().expose(), kek.expose());
}

#[test]
fn a_wrong_pin_is_told_and_not_tried_again() {
    let mut setting = Setting::new();
    let context = context();
    let (kek, wrapped) = setting.agent.generate(&key_slot("kek"), context).unwrap();
    setting.agent.kill(); // its session is logged in
    fs::write(&setting.pin_file, "9999").unwrap();
    setting.agent.start_again();
    for _ in 0..5 {
        expect(setting.agent.unwrap(&key_slot("kek"), context, &wrapped), Class::Misconfigured, "refuses the PIN");
    }
    fs::write(&setting.pin_file, PIN).unwrap();
    assert_eq!(setting.agent.unwrap(&key_slot("kek"), context, &wrapped).unwrap().expose(), kek.expose());
    assert!(!setting.agent.log().contains("9999"));
}

#[test]
fn a_key_that_could_leave_its_token_is_refused() {
    let setting = Setting::new();
    let (name, value) = setting.token.environment();
    let made = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["pkcs11::extractable_key", "--exact", "--ignored"])
        .env(name, value)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    expect(setting.agent.check(&key_slot("loose")), Class::Misconfigured, "CKA_EXTRACTABLE");
}

/// Not a test: makes such a key, in a process of its own, for the module reads its variable once.
#[test]
#[ignore = "a process that another test starts"]
fn extractable_key() {
    let module = Pkcs11::new(MODULE).unwrap();
    module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
    let session = module.open_rw_session(module.get_slots_with_initialized_token().unwrap()[0]).unwrap();
    session.login(UserType::User, Some(&AuthPin::new(PIN.into()))).unwrap();
    let template = [
        Attribute::Token(true),
        Attribute::Label(b"loose".to_vec()),
        Attribute::ValueLen(32.into()),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
        Attribute::Extractable(true),
        Attribute::Sensitive(false),
    ];
    session.generate_key(&Mechanism::AesKeyGen, &template).unwrap();
}

#[test]
fn sql_names_neither_module_nor_pin() {
    let setting = Setting::new();
    let options: [Value; 3] = [
        json!({"key": "kek", "credentials": "hsm", "module": "/evil.so"}),
        json!({"key": "kek", "credentials": "hsm", "pin": "1234"}),
        json!({"key": "kek", "module": "/evil.so"}),
    ];
    for options in options {
        expect(setting.agent.check(&slot("t", "pkcs11", options)), Class::Misconfigured, "options of provider pkcs11");
    }
}
