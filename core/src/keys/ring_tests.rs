//! What a key ring promises: the right KEK opens it, nothing else does, and every byte of it is checked.

use std::cell::Cell;

use proptest::prelude::*;

use super::*;
use crate::crypto::kdf::{Deriver, Label};
use crate::crypto::{AeadKey, OVERHEAD, WrapAad};

/// A provider whose wrapping is the KEK masked: enough to see what the ring asks of it.
struct Mask {
    byte: u8,
    unwraps: Cell<u32>,
}

impl Mask {
    fn new(byte: u8) -> Self {
        Self { byte, unwraps: Cell::new(0) }
    }
}

impl KekProvider for Mask {
    fn name(&self) -> &str {
        "mask"
    }

    fn key_reference(&self) -> &str {
        "mask:1"
    }

    fn wrap(&self, _: &KeyContext, kek: &Kek) -> Result<Vec<u8>> {
        Ok(kek.expose().iter().map(|byte| byte ^ self.byte).collect())
    }

    fn unwrap(&self, context: &KeyContext, key_reference: &str, wrapped: &[u8]) -> Result<Kek> {
        assert_eq!((context.purpose, context.dek_version, key_reference), (Purpose::Kek, 0, "mask:1"));
        self.unwraps.set(self.unwraps.get() + 1);
        Kek::from_slice(&wrapped.iter().map(|byte| byte ^ self.byte).collect::<Vec<_>>())
    }
}

fn kek(byte: u8) -> Kek {
    Kek::from_slice(&[byte; 32]).unwrap()
}

fn client_ring(kek: &Kek) -> RingRecord {
    RingRecord::create(KekSource::Client(kek), |_| false).unwrap()
}

/// Raw DEKs and id key, in order.
fn keys_of(ring: &RingRecord, kek: &Kek) -> Vec<[u8; 32]> {
    let open = ring.open(kek).unwrap();
    open.deks.iter().map(|dek| *dek.as_dek().expose()).chain([*open.id_key.expose()]).collect()
}

#[test]
fn a_client_held_ring_opens_with_its_kek_only() {
    let ring = client_ring(&kek(1));
    assert!(ring.is_client_held());
    assert_eq!((ring.provider(), ring.current_version()), ("client", 1));
    assert_eq!(ring.open(&kek(1)).unwrap().deks.len(), 1);
    for bit in 0..256 {
        let mut other = [1; 32];
        other[bit / 8] ^= 1 << (bit % 8);
        assert!(matches!(ring.open(&Kek::from_slice(&other).unwrap()), Err(Error::WrongKey)));
    }
}

#[test]
fn wrong_key_says_only_that() {
    let text = client_ring(&kek(1)).open(&kek(2)).unwrap_err().to_string();
    assert_eq!(text, "the key does not open this key ring");
}

#[test]
fn a_providers_ring_opens_through_it() {
    let ring = RingRecord::create(KekSource::Provider(&Mask::new(0x5a)), |_| false).unwrap();
    assert_eq!((ring.provider(), ring.is_client_held()), ("mask", false));
    let provider = Mask::new(0x5a);
    let kek = ring.unwrap_kek(&provider).unwrap();
    assert_eq!(provider.unwraps.get(), 1);
    ring.open(&kek).unwrap();
    // A service that gives back another key is found out before that key is used.
    assert!(matches!(ring.unwrap_kek(&Mask::new(0x5b)), Err(Error::WrongKey)));
}

#[test]
fn each_ring_has_keys_of_its_own() {
    let (one, two) = (client_ring(&kek(1)), client_ring(&kek(1)));
    assert_ne!(keys_of(&one, &kek(1))[0], keys_of(&two, &kek(1))[0]);
    assert_ne!(keys_of(&one, &kek(1))[1], keys_of(&two, &kek(1))[1]);
}

#[test]
fn added_deks_leave_the_old_ones() {
    let mut ring = client_ring(&kek(1));
    let before = keys_of(&ring, &kek(1));
    assert!(matches!(ring.add_dek(&kek(2)), Err(Error::WrongKey)));
    assert_eq!(ring.current_version(), 1);
    assert_eq!((ring.add_dek(&kek(1)).unwrap(), ring.add_dek(&kek(1)).unwrap()), (2, 3));
    let after = keys_of(&ring, &kek(1));
    assert_eq!(ring.versions().collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!((after[0], after[3]), (before[0], before[1]), "old DEK and id key stay");
    assert!(after[1] != after[0] && after[2] != after[1]);
    let versions: Vec<_> = ring.open(&kek(1)).unwrap().deks.iter().map(|dek| dek.as_dek().version()).collect();
    assert_eq!(versions, [1, 2, 3]);
}

#[test]
fn a_removed_dek_is_gone_and_the_others_stay() {
    let mut ring = client_ring(&kek(1));
    ring.add_dek(&kek(1)).unwrap();
    ring.add_dek(&kek(1)).unwrap();
    let (before, bytes) = (keys_of(&ring, &kek(1)), ring.encode());
    assert!(matches!(ring.remove_dek(&kek(2), 1), Err(Error::WrongKey)));
    assert!(matches!(ring.remove_dek(&kek(1), 3), Err(Error::Bug(_))), "new data is sealed under it");
    assert!(matches!(ring.remove_dek(&kek(1), 4), Err(Error::UnknownDekVersion(4))));
    assert_eq!(ring.encode(), bytes, "untouched on an error");
    ring.remove_dek(&kek(1), 2).unwrap();
    assert_eq!(ring.versions().collect::<Vec<_>>(), [1, 3]);
    assert_eq!(keys_of(&ring, &kek(1)), [before[0], before[2], before[3]]);
    let read = RingRecord::decode(&ring.encode()).unwrap();
    assert_eq!(keys_of(&read, &kek(1)), [before[0], before[2], before[3]]);
    assert_eq!(ring.add_dek(&kek(1)).unwrap(), 4, "a version is never given twice");
    assert!(matches!(ring.remove_dek(&kek(1), 2), Err(Error::UnknownDekVersion(2))));
}

#[test]
fn a_kek_moves_to_another_envelope_only_if_it_comes_back() {
    let mut ring = RingRecord::create(KekSource::Provider(&Mask::new(0x5a)), |_| false).unwrap();
    let kek = ring.unwrap_kek(&Mask::new(0x5a)).unwrap();
    let (keys, bytes) = (keys_of(&ring, &kek), ring.encode());
    let to = Mask::new(0x33);
    let wrapped = to.wrap(ring.kek_envelope().unwrap().context(), &kek).unwrap();
    let mut damaged = wrapped.clone();
    damaged[0] ^= 1;
    assert!(matches!(ring.move_kek(&to, to.key_reference(), damaged), Err(Error::WrongKey)));
    assert!(matches!(ring.move_kek(&to, to.key_reference(), Vec::new()), Err(Error::Provider(_))));
    assert_eq!(ring.encode(), bytes, "untouched on an error");
    ring.move_kek(&to, to.key_reference(), wrapped).unwrap();
    assert!(matches!(ring.unwrap_kek(&Mask::new(0x5a)), Err(Error::WrongKey)));
    let same = ring.unwrap_kek(&to).unwrap();
    assert_eq!(same.expose(), kek.expose());
    assert_eq!(keys_of(&ring, &same), keys);
    assert!(matches!(client_ring(&same).move_kek(&to, to.key_reference(), vec![1]), Err(Error::Bug(_))));
}

#[test]
fn rewrapping_changes_the_kek_and_nothing_inside() {
    let mut ring = client_ring(&kek(1));
    ring.add_dek(&kek(1)).unwrap();
    let (uuid, keys) = (ring.uuid(), keys_of(&ring, &kek(1)));

    let before = ring.encode();
    assert!(matches!(ring.rewrap(&kek(9), KekSource::Client(&kek(2))), Err(Error::WrongKey)));
    assert_eq!(ring.encode(), before, "untouched on an error");

    ring.rewrap(&kek(1), KekSource::Client(&kek(2))).unwrap();
    assert!(matches!(ring.open(&kek(1)), Err(Error::WrongKey)));
    assert_eq!((ring.uuid(), keys_of(&ring, &kek(2))), (uuid, keys.clone()));

    let provider = Mask::new(3);
    ring.rewrap(&kek(2), KekSource::Provider(&provider)).unwrap();
    assert!(!ring.is_client_held());
    let kek = ring.unwrap_kek(&provider).unwrap();
    assert_eq!(keys_of(&ring, &kek), keys);

    ring.rewrap(&kek, KekSource::Client(&Kek::from_slice(&[4; 32]).unwrap())).unwrap();
    assert!(ring.is_client_held() && ring.kek_envelope().is_none());
}

#[test]
fn a_taken_number_is_drawn_again() {
    let asked = Cell::new(Vec::new());
    let ring = RingRecord::create(KekSource::Client(&kek(1)), |number| {
        let mut seen = asked.take();
        seen.push(number);
        let taken = seen.len() <= 3;
        asked.set(seen);
        taken
    })
    .unwrap();
    let asked = asked.take();
    assert_eq!(asked.len(), 4);
    assert_eq!(ring.number(), asked[3]);
}

#[test]
fn number_zero_is_never_given() {
    let mut draws = [[0; 16], [0; 16], [0xff; 16]].map(Uuid::from_bytes).into_iter();
    let uuid = draw_uuid(|| Ok(draws.next().unwrap()), &mut |number| {
        assert_ne!(number, 0, "not even asked for");
        false
    });
    assert_eq!(uuid.unwrap().number(), (1 << 17) - 1);
}

#[test]
fn a_full_database_is_an_error_not_a_hang() {
    assert!(matches!(RingRecord::create(KekSource::Client(&kek(1)), |_| true), Err(Error::Bug(_))));
}

#[test]
fn bytes_round_trip() {
    let mut ring = RingRecord::create(KekSource::Provider(&Mask::new(7)), |_| false).unwrap();
    let kek = ring.unwrap_kek(&Mask::new(7)).unwrap();
    ring.add_dek(&kek).unwrap();
    let back = RingRecord::decode(&ring.encode()).unwrap();
    assert_eq!(back.encode(), ring.encode());
    assert_eq!(keys_of(&back, &kek), keys_of(&ring, &kek));
    assert_eq!(back.unwrap_kek(&Mask::new(7)).unwrap().expose(), kek.expose());
}

/// A ring of format version 2 under the KEK 01 01 …: it must open, to these keys, for ever. Its code comes from
/// Python's hmac, not from here.
#[test]
fn golden_ring_opens() {
    let text: String = include_str!("../../../tests/vectors/key_ring_v2.hex").split_whitespace().collect();
    let bytes = hex::decode(text).unwrap();
    let ring = RingRecord::decode(&bytes).unwrap();
    assert_eq!(ring.encode(), bytes);
    let found: Vec<_> = keys_of(&ring, &kek(1)).iter().map(hex::encode).collect();
    assert_eq!(
        found,
        [
            "dd0ae07784380e3cf8c13f1abbab5b3787571c8a86d00c77388e47741698c511", // DEK 1
            "cc5e5b436624e5309b3e05c4abb12200277d8a3470bf875ad54e494cbc6f2c8a", // DEK 2
            "e737a3d5a0b6eb760b8b371dcef12556cd8013bddd36d5fead214a549569b9a8", // id key
        ]
    );
}

#[test]
fn every_flipped_bit_of_an_export_is_noticed() {
    let mut ring = client_ring(&kek(1));
    ring.add_dek(&kek(1)).unwrap();
    let bytes = ring.encode();
    for bit in 0..bytes.len() * 8 {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let opened = RingRecord::decode(&bad).and_then(|ring| ring.open(&kek(1)).map(drop));
        assert!(opened.is_err(), "bit {bit}");
    }
}

#[test]
fn truncated_or_longer_exports_are_refused() {
    let bytes = client_ring(&kek(1)).encode();
    for len in 0..bytes.len() {
        assert!(matches!(RingRecord::decode(&bytes[..len]), Err(Error::Malformed { .. })), "{len} bytes");
    }
    assert!(RingRecord::decode(&[&bytes[..], &[0]].concat()).is_err());
}

#[test]
fn parts_of_other_rings_are_refused() {
    let mut ring = client_ring(&kek(1));
    ring.add_dek(&kek(1)).unwrap();
    let other = client_ring(&kek(1));

    let check = |change: &dyn Fn(&mut RingRecord), why: &str| {
        let mut bad = ring.clone();
        change(&mut bad);
        assert!(RingRecord::decode(&bad.encode()).is_err(), "{why}");
    };
    check(&|bad| bad.deks[0] = other.deks[0].clone(), "a DEK of another ring");
    check(&|bad| bad.id_key = other.id_key.clone(), "an id key of another ring");
    check(&|bad| bad.deks.reverse(), "versions descend");
    check(&|bad| bad.deks[0] = bad.deks[1].clone(), "a version twice");
    check(&|bad| bad.deks[0] = bad.id_key.clone(), "an id key as a DEK");
    check(&|bad| bad.id_key = bad.deks[0].clone(), "a DEK as the id key");
    check(&|bad| bad.deks.clear(), "no DEK");
    check(&|bad| bad.uuid = other.uuid, "another UUID");
    check(&|bad| bad.kek = Some(bad.deks[0].clone()), "a DEK as the KEK");
}

/// Each envelope is sound by itself; the list of them is, too, or the ring does not open.
#[test]
fn a_list_of_keys_that_was_changed_is_refused() {
    let mut ring = RingRecord::create(KekSource::Provider(&Mask::new(7)), |_| false).unwrap();
    let kek = ring.unwrap_kek(&Mask::new(7)).unwrap();
    let mut fork = ring.clone();
    let first = ring.clone();
    for _ in 0..2 {
        ring.add_dek(&kek).unwrap();
        fork.add_dek(&kek).unwrap();
    }
    ring.open(&kek).unwrap();

    let check = |change: &dyn Fn(&mut RingRecord), why: &str| {
        let mut bad = ring.clone();
        change(&mut bad);
        let mut bad = RingRecord::decode(&bad.encode()).expect(why);
        let before = bad.encode();
        assert!(matches!(bad.open(&kek), Err(Error::Altered { .. })), "{why}");
        // And nothing that writes the record makes it good.
        assert!(matches!(bad.add_dek(&kek), Err(Error::Altered { .. })), "{why}");
        assert!(matches!(bad.rewrap(&kek, KekSource::Provider(&Mask::new(8))), Err(Error::Altered { .. })), "{why}");
        assert_eq!(bad.encode(), before, "{why}");
        let other = Kek::from_slice(&[9; 32]).unwrap();
        assert!(matches!(bad.open(&other), Err(Error::WrongKey)), "{why}: nothing but that to a wrong key");
    };
    check(&|bad| drop(bad.deks.pop()), "the newest cut off");
    check(&|bad| drop(bad.deks.remove(0)), "the oldest cut off");
    check(&|bad| drop(bad.deks.remove(1)), "one in the middle cut off");
    check(&|bad| bad.deks.truncate(1), "back to the first");
    check(&|bad| bad.deks[2] = fork.deks[2].clone(), "the same version of another copy");
    check(
        &|bad| bad.id_key = Envelope::wrap_under_kek(&kek, KeyContext::id_key(bad.uuid), &[5; 32]).unwrap(),
        "an id key",
    );
    check(&|bad| bad.kek = None, "the KEK's envelope cut off");
    check(&|bad| bad.code = first.code, "an older code");
}

/// The same envelopes under another version or purpose do not unwrap, even with the right KEK.
#[test]
fn relabelled_envelopes_do_not_open() {
    let mut ring = client_ring(&kek(1));
    ring.add_dek(&kek(1)).unwrap();
    let relabel = |envelope: &Envelope, at: usize, byte: u8| {
        let mut bytes = envelope.encode();
        bytes[at] = byte;
        Envelope::decode(&bytes).unwrap()
    };
    let swapped = relabel(&ring.deks[1], 24, 3); // version 2 passed off as 3
    assert!(matches!(swapped.unwrap_dek(&kek(1)), Err(Error::WrongKey)));
    let mut bytes = ring.id_key.encode();
    (bytes[6], bytes[24]) = (Purpose::Dek as u8, 1); // the id key passed off as a DEK
    assert!(matches!(Envelope::decode(&bytes).unwrap().unwrap_dek(&kek(1)), Err(Error::WrongKey)));
}

proptest! {
    #[test]
    fn any_bytes_decode_or_fail(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(RingRecord::decode(&bytes).is_err());
    }

    #[test]
    fn any_damage_decodes_or_fails(at in 0usize..400, byte in any::<u8>(), cut in 0usize..400) {
        let mut bytes = client_ring(&kek(1)).encode();
        let len = bytes.len();
        bytes[at % len] = byte;
        bytes.truncate(len - cut % len);
        if let Ok(ring) = RingRecord::decode(&bytes) {
            prop_assert_eq!(ring.encode(), bytes);
        }
    }
}

// ---- a ciphertext that two keys open -------------------------------------------------------------------

/// AES-GCM does not commit to its key: this wrapped DEK opens under two KEKs, to two keys. Neither the
/// ring nor the envelope lets the second KEK have anything.
#[test]
fn a_two_key_ciphertext_is_rejected() {
    let (ours, theirs) = (kek(1), kek(2));
    let ring = client_ring(&ours);
    let aad = WrapAad { ring: ring.uuid(), dek_version: 1, purpose: Purpose::Dek as u8 };
    let keys = [&ours, &theirs].map(|kek| *Deriver::new(kek.expose()).subkey(Label::Wrap, &ring.uuid()));
    let wrapped = two_key_ciphertext(keys, &aad);

    // It is what it claims to be: both keys open it, each to a DEK of its own.
    let opened = keys.map(|key| AeadKey::new(&key).open(&aad, &wrapped).unwrap());
    assert_ne!(opened[0], opened[1]);

    let with = |dek: &[u8]| {
        let mut envelope = ring.deks[0].encode();
        let len = envelope.len();
        envelope[len - 32 - (32 + OVERHEAD)..len - 32].copy_from_slice(&wrapped);
        let commitment = Commitment::of_wrapped(dek.try_into().unwrap(), &ring.uuid(), Purpose::Dek as u8, 1);
        envelope[len - 32..].copy_from_slice(commitment.as_bytes());
        Envelope::decode(&envelope).unwrap()
    };
    // Committed to one of the two keys, the envelope opens to that one only.
    assert_eq!(with(&opened[0]).unwrap_dek(&ours).unwrap().as_dek().expose()[..], opened[0][..]);
    assert!(matches!(with(&opened[0]).unwrap_dek(&theirs), Err(Error::WrongKey)));
    assert!(matches!(with(&opened[1]).unwrap_dek(&ours), Err(Error::WrongKey)));

    // And the ring does not even come to it.
    let mut forged = ring.clone();
    forged.deks[0] = with(&opened[1]);
    assert!(matches!(forged.open(&theirs), Err(Error::WrongKey)));
    forged.commitment = Commitment::of_kek(theirs.expose(), &ring.uuid()); // unless the forger rewrites that too,
    assert!(matches!(forged.open(&ours), Err(Error::WrongKey))); // and then the other key is out.
}

/// nonce ‖ 32 bytes ‖ tag that opens under both `keys`.
///
/// The tag is `A1·H⁵ + A2·H⁴ + C1·H³ + C2·H² + L·H + E(J0)` in GF(2^128). Any C1 will do; setting the tags of
/// both keys equal leaves one linear equation for C2.
fn two_key_ciphertext(keys: [[u8; 32]; 2], aad: &WrapAad) -> Vec<u8> {
    use crate::crypto::Aad;

    let nonce = [0x24; 12];
    let aad = aad.encode();
    let aad = aad.as_ref();
    assert!(aad.len() > 16 && aad.len() <= 32);
    let mut padded = [0; 32];
    padded[..aad.len()].copy_from_slice(aad);
    let word = |bytes: &[u8]| u128::from_be_bytes(bytes.try_into().unwrap());
    let (a1, a2) = (word(&padded[..16]), word(&padded[16..]));
    let lengths = ((aad.len() as u128 * 8) << 64) | (32 * 8);
    let c1 = 0x1234_5678_9abc_def0_u128;

    let sides = keys.map(|key| {
        let h = encrypt_block(&key, 0);
        let mut j0 = [0; 16];
        j0[..12].copy_from_slice(&nonce);
        j0[15] = 1;
        let powers: Vec<u128> = std::iter::successors(Some(h), |power| Some(times(*power, h))).take(5).collect();
        let fixed = times(a1, powers[4])
            ^ times(a2, powers[3])
            ^ times(c1, powers[2])
            ^ times(lengths, h)
            ^ encrypt_block(&key, word(&j0));
        (fixed, powers[1])
    });
    let c2 = times(sides[0].0 ^ sides[1].0, inverse(sides[0].1 ^ sides[1].1));
    let tag = sides[0].0 ^ times(c2, sides[0].1);
    [&nonce[..], &c1.to_be_bytes(), &c2.to_be_bytes(), &tag.to_be_bytes()].concat()
}

fn encrypt_block(key: &[u8; 32], block: u128) -> u128 {
    use aes_gcm::aes::Aes256;
    use aes_gcm::aes::cipher::{BlockCipherEncrypt, KeyInit};

    let mut bytes = block.to_be_bytes().into();
    Aes256::new(&(*key).into()).encrypt_block(&mut bytes);
    u128::from_be_bytes(bytes.into())
}

/// Multiplication in GCM's field (SP 800-38D 6.3): the first bit of a block is the coefficient of x⁰.
fn times(x: u128, y: u128) -> u128 {
    let (mut product, mut power) = (0, y);
    for bit in (0..128).rev() {
        if x >> bit & 1 == 1 {
            product ^= power;
        }
        power = (power >> 1) ^ ((0xe1 << 120) * (power & 1));
    }
    product
}

/// `x^(2^128 - 2)`.
fn inverse(x: u128) -> u128 {
    let (mut result, mut power) = (1 << 127, x);
    for _ in 1..128 {
        power = times(power, power);
        result = times(result, power);
    }
    assert_eq!(times(result, x), 1 << 127, "x is not zero");
    result
}
