//! aws-lc against RustCrypto, both ways, and what any sealed byte promises, through the public API only.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::aes::Aes256;
use aes_gcm::aes::cipher::BlockCipherEncrypt;
use aes_gcm::{Aes256Gcm, Nonce};
use proptest::prelude::*;
use sealvec_core::Error;
use sealvec_core::crypto::{Aad, AeadKey, ChunkAad, OVERHEAD, OVERHEAD24, ValueAad, XaesKey};
use sealvec_core::keys::Uuid;

fn chunk() -> impl Strategy<Value = ChunkAad> {
    any::<([u8; 16], u32, u64, u64, u32, u32)>().prop_map(|(index, dek_version, list, epoch, ordinal, block)| {
        ChunkAad { index: Uuid::from_bytes(index), dek_version, list, epoch, ordinal, block }
    })
}

fn value() -> impl Strategy<Value = ValueAad> {
    any::<([u8; 16], u32, u16)>().prop_map(|(ring, dek_version, dims)| ValueAad {
        ring: Uuid::from_bytes(ring),
        dek_version,
        dims,
    })
}

fn plain() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![prop::collection::vec(any::<u8>(), 0..70), prop::collection::vec(any::<u8>(), 7_600..8_200)]
}

fn rust_crypto(key: &[u8; 32]) -> Aes256Gcm {
    Aes256Gcm::new(&(*key).into())
}

fn nonce(bytes: &[u8]) -> Nonce<aes_gcm::aead::consts::U12> {
    let bytes: [u8; 12] = bytes.try_into().unwrap();
    bytes.into()
}

/// C2SP's derivation, written a second time over another AES.
fn xaes_subkey(key: &[u8; 32], nonce: &[u8]) -> [u8; 32] {
    let aes = Aes256::new(&(*key).into());
    let encrypt = |block: [u8; 16]| -> [u8; 16] {
        let mut block = block.into();
        aes.encrypt_block(&mut block);
        block.into()
    };
    let l = u128::from_be_bytes(encrypt([0; 16]));
    let k1 = if l >> 127 == 0 { l << 1 } else { (l << 1) ^ 0b1000_0111 };
    let mut out = [0; 32];
    for (counter, half) in [1, 2].into_iter().zip(out.chunks_exact_mut(16)) {
        let mut message = [0, counter, 0x58, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        message[4..].copy_from_slice(&nonce[..12]);
        half.copy_from_slice(&encrypt((u128::from_be_bytes(message) ^ k1).to_be_bytes()));
    }
    out
}

proptest! {
    #[test]
    fn rust_crypto_opens_what_we_sealed(key in any::<[u8; 32]>(), aad in chunk(), plain in plain()) {
        let sealed = AeadKey::new(&key).seal(&aad, &plain).unwrap();
        prop_assert_eq!(sealed.len(), plain.len() + OVERHEAD);
        let encoded = aad.encode();
        let payload = Payload { msg: &sealed.as_bytes()[12..], aad: encoded.as_ref() };
        let opened = rust_crypto(&key).decrypt(&nonce(&sealed.as_bytes()[..12]), payload).unwrap();
        prop_assert_eq!(opened, plain);
    }

    #[test]
    fn we_open_what_rust_crypto_sealed(key in any::<[u8; 32]>(), aad in chunk(), plain in plain(), iv in any::<[u8; 12]>()) {
        let encoded = aad.encode();
        let payload = Payload { msg: &plain, aad: encoded.as_ref() };
        let sealed = [&iv[..], &rust_crypto(&key).encrypt(&nonce(&iv), payload).unwrap()].concat();
        prop_assert_eq!(&AeadKey::new(&key).open(&aad, &sealed).unwrap()[..], &plain[..]);
    }

    #[test]
    fn xaes_is_gcm_under_the_derived_key(key in any::<[u8; 32]>(), aad in value(), plain in plain()) {
        let sealed = XaesKey::new(&key).seal(&aad, &plain).unwrap();
        prop_assert_eq!(sealed.len(), plain.len() + OVERHEAD24);
        let (iv, body) = sealed.as_bytes().split_at(24);
        let encoded = aad.encode();
        let opened = rust_crypto(&xaes_subkey(&key, iv))
            .decrypt(&nonce(&iv[12..]), Payload { msg: body, aad: encoded.as_ref() })
            .unwrap();
        prop_assert_eq!(opened, plain);
    }

    #[test]
    fn any_flipped_bit_opens_nothing_and_leaves_zeros(
        key in any::<[u8; 32]>(), aad in chunk(), plain in plain(), at in any::<prop::sample::Index>(), bit in 0u8..8,
    ) {
        let key = AeadKey::new(&key);
        let mut sealed = key.seal(&aad, &plain).unwrap().as_bytes().to_vec();
        sealed[at.index(plain.len() + OVERHEAD)] ^= 1 << bit;
        let mut out = vec![0xaa; plain.len()];
        prop_assert!(matches!(key.open_into(&aad, &sealed, &mut out), Err(Error::Open)));
        prop_assert!(out.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn another_aad_opens_nothing(key in any::<[u8; 32]>(), aad in chunk(), other in chunk(), plain in plain()) {
        prop_assume!(aad.encode().as_ref() != other.encode().as_ref());
        let key = AeadKey::new(&key);
        let sealed = key.seal(&aad, &plain).unwrap();
        prop_assert!(matches!(key.open(&other, sealed.as_bytes()), Err(Error::Open)));
    }

    #[test]
    fn any_bytes_open_nothing(bytes in prop::collection::vec(any::<u8>(), 0..100), aad in chunk(), value in value(), room in 0usize..80) {
        let mut out = vec![0xaa; room];
        prop_assert!(matches!(AeadKey::new(&[1; 32]).open_into(&aad, &bytes, &mut out), Err(Error::Open)));
        prop_assert!(matches!(AeadKey::new(&[1; 32]).open(&aad, &bytes), Err(Error::Open)));
        prop_assert!(matches!(XaesKey::new(&[1; 32]).open_into(&value, &bytes, &mut out), Err(Error::Open)));
        prop_assert!(matches!(XaesKey::new(&[1; 32]).open(&value, &bytes), Err(Error::Open)));
        prop_assert!(out.iter().all(|byte| *byte == 0));
    }
}

#[test]
fn the_room_must_fit() {
    let aad = ChunkAad { index: Uuid::from_bytes([1; 16]), dek_version: 1, list: 1, epoch: 1, ordinal: 1, block: 1 };
    let key = AeadKey::new(&[1; 32]);
    let sealed = key.seal(&aad, &[5; 100]).unwrap();
    for room in [0, 99, 101, 128] {
        let mut out = vec![0xaa; room];
        assert!(matches!(key.open_into(&aad, sealed.as_bytes(), &mut out), Err(Error::Open)), "{room}");
        assert!(out.iter().all(|byte| *byte == 0));
    }
    let mut out = vec![0; 100];
    key.open_into(&aad, sealed.as_bytes(), &mut out).unwrap();
    assert_eq!(out, [5; 100]);
}

#[test]
fn sealing_twice_shares_no_block() {
    let aad = ChunkAad { index: Uuid::from_bytes([1; 16]), dek_version: 1, list: 1, epoch: 1, ordinal: 1, block: 1 };
    let key = AeadKey::new(&[1; 32]);
    let [one, two] = [(); 2].map(|()| key.seal(&aad, &[0; 8_000]).unwrap());
    let blocks: std::collections::HashSet<_> = one.as_bytes().chunks_exact(16).collect();
    assert!(two.as_bytes().windows(16).all(|window| !blocks.contains(window)));
}
