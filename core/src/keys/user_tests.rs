//! What a user's record promises: his KEK opens it for what he may do, nothing else does, and every byte is checked.

use proptest::prelude::*;

use super::*;
use crate::keys::KekSource;

const USER: UserId = UserId::from_bytes([0x77; 16]);
const RING_HEX: &str = include_str!("../../../tests/vectors/key_ring_v2.hex");
const USER_HEX: &str = include_str!("../../../tests/vectors/user_record_v1.hex");

fn bytes_of(text: &str) -> Vec<u8> {
    hex::decode(text.split_whitespace().collect::<String>()).unwrap()
}

fn kek(byte: u8) -> Kek {
    Kek::from_slice(&[byte; 32]).unwrap()
}

fn ring(versions: u32) -> (RingRecord, OpenRing) {
    let mut ring = RingRecord::create(KekSource::Client(&kek(1)), |_| false).unwrap();
    for _ in 1..versions {
        ring.add_dek(&kek(1)).unwrap();
    }
    let open = ring.open(&kek(1)).unwrap();
    (ring, open)
}

fn user(ring: &(RingRecord, OpenRing), permissions: Permissions) -> UserRecord {
    UserRecord::create(&ring.0, &ring.1, USER, permissions, &kek(9)).unwrap()
}

fn secrets(deks: &[DekBytes], id_key: &IdKey) -> Vec<[u8; 32]> {
    deks.iter().map(|dek| *dek.as_dek().expose()).chain([*id_key.expose()]).collect()
}

/// The record, changed and then given a code by somebody who knows the user's KEK.
fn recoded(mut body: Vec<u8>, kek: &Kek) -> UserRecord {
    let at = body.len() - MAC_LEN;
    let mut record = UserRecord::decode(&body).unwrap();
    let code = mac::authenticate(&record.code_key(kek), &body[..at]);
    body[at..].copy_from_slice(&code);
    record = UserRecord::decode(&body).unwrap();
    record
}

#[test]
fn a_user_opens_the_rings_own_keys() {
    let ring = ring(3);
    let expected = secrets(&ring.1.deks, &ring.1.id_key);
    let record = user(&ring, Permissions::READ_WRITE);
    for permission in Permission::ALL {
        let open = record.open(&ring.0, &kek(9), permission).unwrap();
        assert_eq!(secrets(&open.deks, &open.id_key), expected);
        assert_eq!(open.dek(3).unwrap().expose(), &expected[2]);
    }
    assert_eq!((record.versions(), record.user(), record.ring()), (&[1, 2, 3][..], USER, ring.0.uuid()));
}

#[test]
fn a_permission_that_was_not_given_is_denied() {
    let ring = ring(1);
    for (given, read, write) in
        [(Permissions::READ, true, false), (Permissions::WRITE, false, true), (Permissions::READ_WRITE, true, true)]
    {
        let record = user(&ring, given);
        assert_eq!(Permissions::new(read, write), Some(given));
        for (permission, allowed) in [(Permission::Read, read), (Permission::Write, write)] {
            let opened = record.open(&ring.0, &kek(9), permission);
            assert!(match opened {
                Ok(_) => allowed,
                Err(Error::PermissionDenied) => !allowed,
                Err(_) => false,
            });
        }
    }
    assert_eq!(Permissions::new(false, false), None);
}

#[test]
fn a_wrong_key_says_only_that_whatever_is_asked() {
    let ring = ring(1);
    let record = user(&ring, Permissions::READ);
    for bit in 0..256 {
        let mut other = [9; 32];
        other[bit / 8] ^= 1 << (bit % 8);
        let other = Kek::from_slice(&other).unwrap();
        // also for the permission that he has not: who has no key learns of no permission
        for permission in Permission::ALL {
            assert!(matches!(record.open(&ring.0, &other, permission), Err(Error::WrongKey)));
        }
    }
    assert!(
        matches!(record.open(&ring.0, &kek(1), Permission::Read), Err(Error::WrongKey)),
        "the ring's KEK is not his"
    );
}

#[test]
fn another_ring_is_a_wrong_key() {
    let (mine, other) = (ring(1), ring(1));
    let record = user(&mine, Permissions::READ);
    assert!(matches!(record.open(&other.0, &kek(9), Permission::Read), Err(Error::WrongKey)));
    assert!(UserRecord::create(&mine.0, &other.1, USER, Permissions::READ, &kek(9)).is_err());
}

#[test]
fn the_rings_own_key_makes_no_user() {
    let (ring, open) = ring(1);
    let made = UserRecord::create(&ring, &open, USER, Permissions::READ, &kek(1));
    assert!(matches!(made, Err(Error::NotHisOwn)));
}

#[test]
fn a_user_of_before_reads_the_old_and_seals_nothing() {
    let mut ring = ring(1);
    let mut record = user(&ring, Permissions::READ_WRITE);
    ring.0.add_dek(&kek(1)).unwrap();
    ring.1 = ring.0.open(&kek(1)).unwrap();

    let open = record.open(&ring.0, &kek(9), Permission::Write).unwrap();
    assert!(open.dek(1).is_ok());
    assert!(matches!(open.dek(ring.0.current_version()), Err(Error::NotShared(2))));

    assert!(record.extend(&ring.0, &ring.1, &kek(8)).is_err());
    assert_eq!(record.versions(), [1], "a failed extension changes nothing");
    record.extend(&ring.0, &ring.1, &kek(9)).unwrap();
    let open = record.open(&ring.0, &kek(9), Permission::Write).unwrap();
    assert_eq!(open.dek(2).unwrap().expose(), ring.1.deks[1].as_dek().expose());
}

#[test]
fn an_altered_record_is_not_made_good() {
    let ring = ring(1);
    let mut bytes = user(&ring, Permissions::READ).encode();
    bytes[5] = Permissions::WRITE.0;
    let mut altered = UserRecord::decode(&bytes).unwrap();
    assert!(matches!(altered.extend(&ring.0, &ring.1, &kek(9)), Err(Error::Altered { .. })));
    assert!(matches!(altered.open(&ring.0, &kek(9), Permission::Write), Err(Error::Altered { .. })));
}

#[test]
fn copies_of_a_removed_dek_are_passed_over() {
    let mut ring = ring(2);
    let both = user(&ring, Permissions::READ_WRITE);
    let old = {
        let deks = vec![DekBytes::from_slice(1, ring.1.deks[0].as_dek().expose()).unwrap()];
        let id_key = IdKey::from_slice(ring.1.id_key.expose()).unwrap();
        UserRecord::create(&ring.0, &OpenRing { deks, id_key }, USER, Permissions::READ, &kek(9)).unwrap()
    };
    ring.0.remove_dek(&kek(1), 1).unwrap();
    let open = both.open(&ring.0, &kek(9), Permission::Write).unwrap();
    assert_eq!(open.deks.iter().map(|dek| dek.as_dek().version()).collect::<Vec<_>>(), [2]);
    assert!(matches!(old.open(&ring.0, &kek(9), Permission::Read), Err(Error::NotShared(2))));
}

#[test]
fn rewrapping_the_ring_leaves_its_users() {
    let mut ring = ring(2);
    let record = user(&ring, Permissions::READ);
    ring.0.rewrap(&kek(1), KekSource::Client(&kek(2))).unwrap();
    assert!(record.open(&ring.0, &kek(9), Permission::Read).is_ok());
}

#[test]
fn bytes_round_trip() {
    let ring = ring(2);
    for permissions in [Permissions::READ, Permissions::WRITE, Permissions::READ_WRITE] {
        let record = user(&ring, permissions);
        let bytes = record.encode();
        assert_eq!(bytes.len(), record.encoded_len());
        let read = UserRecord::decode(&bytes).unwrap();
        assert_eq!((read.encode(), read.permissions(), read.versions()), (bytes, permissions, &[1, 2][..]));
    }
}

/// A record of format version 1, made by `cryptography` (Python) for the ring of `key_ring_v2.hex`.
#[test]
fn golden_record_opens() {
    let ring = RingRecord::decode(&bytes_of(RING_HEX)).unwrap();
    let expected = ring.open(&kek(1)).unwrap();
    let bytes = bytes_of(USER_HEX);
    let record = UserRecord::decode(&bytes).unwrap();
    assert_eq!((record.encode(), record.permissions()), (bytes, Permissions::READ_WRITE));
    for permission in Permission::ALL {
        let open = record.open(&ring, &kek(9), permission).unwrap();
        assert_eq!(secrets(&open.deks, &open.id_key), secrets(&expected.deks, &expected.id_key));
    }
}

#[test]
fn every_changed_bit_and_every_cut_is_noticed() {
    let ring = ring(1);
    let bytes = user(&ring, Permissions::READ_WRITE).encode();
    let refused = |bytes: &[u8]| match UserRecord::decode(bytes) {
        Ok(record) => record.open(&ring.0, &kek(9), Permission::Read).is_err(),
        Err(_) => true,
    };
    assert!(!refused(&bytes));
    for bit in 0..8 * bytes.len() {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(refused(&bad), "bit {bit}");
    }
    for len in 0..bytes.len() {
        assert!(refused(&bytes[..len]), "{len} bytes");
    }
    assert!(refused(&[&bytes[..], &[0]].concat()));
}

#[test]
fn a_later_version_is_not_guessed_at() {
    let mut bytes = user(&ring(1), Permissions::READ).encode();
    bytes[4] = 2;
    assert!(matches!(UserRecord::decode(&bytes), Err(Error::Version { found: 2, known: 1, .. })));
}

/// Also with a code that fits, a copy is what it was made as, and holds a key of the ring.
#[test]
fn a_relabelled_or_made_up_key_is_refused() {
    let ring = ring(1);
    let record = user(&ring, Permissions::READ);
    let mut promoted = record.encode();
    promoted[5] = Permissions::WRITE.0;
    let promoted = recoded(promoted, &kek(9));
    assert!(matches!(promoted.open(&ring.0, &kek(9), Permission::Write), Err(Error::WrongKey)));

    // He can wrap any bytes, but not such that others would seal under them.
    let mut forged = record.clone();
    let made_up = forged.wrap_key(&kek(9)).seal(&forged.aad(Permission::Read, Purpose::Dek, 1), &[3; 32]).unwrap();
    forged.copies[0].deks[0] = made_up.as_bytes().try_into().unwrap();
    let forged = recoded(forged.encode(), &kek(9));
    assert!(matches!(forged.open(&ring.0, &kek(9), Permission::Read), Err(Error::WrongKey)));
}

/// The limit of the above, as the threat model states it: the user's KEK and the right to write the catalogue are
/// enough to make a "write" copy of a "read" one. They are enough for the DEK itself, so no record could prevent it.
#[test]
fn who_has_the_kek_and_writes_the_catalogue_holds_the_dek() {
    let ring = ring(1);
    let mut record = user(&ring, Permissions::READ);
    let open = record.open(&ring.0, &kek(9), Permission::Read).unwrap();
    record.permissions = Permissions::WRITE;
    let wrap = |purpose, version, secret: &[u8; KEY_LEN]| -> [u8; COPY_LEN] {
        let sealed = record.wrap_key(&kek(9)).seal(&record.aad(Permission::Write, purpose, version), secret).unwrap();
        sealed.as_bytes().try_into().unwrap()
    };
    let id_key = wrap(Purpose::IdKey, 0, open.id_key.expose());
    let deks = vec![wrap(Purpose::Dek, 1, open.deks[0].as_dek().expose())];
    record.copies = vec![Copies { id_key, deks }];
    let promoted = recoded(record.encode(), &kek(9));
    assert!(promoted.open(&ring.0, &kek(9), Permission::Write).is_ok());
}

#[test]
fn copies_of_one_permission_do_not_serve_another() {
    let ring = ring(2);
    let mut record = user(&ring, Permissions::READ_WRITE);
    record.copies.swap(0, 1);
    let swapped = recoded(record.encode(), &kek(9));
    for permission in Permission::ALL {
        assert!(matches!(swapped.open(&ring.0, &kek(9), permission), Err(Error::WrongKey)));
    }
}

#[test]
fn malformed_bodies_are_refused() {
    let bytes = user(&ring(1), Permissions::READ).encode();
    let with = |place: usize, byte: u8| {
        let mut bad = bytes.clone();
        bad[place] = byte;
        matches!(UserRecord::decode(&bad), Err(Error::Malformed { .. }))
    };
    assert!(with(0, b'X') && with(5, 0) && with(5, 4) && with(6, 0) && with(6, 2) && with(7, 0xff));
    assert!(with(72, 0), "a DEK version of 0");
    let mut no_number = bytes.clone();
    no_number[8..11].fill(0);
    assert!(matches!(UserRecord::decode(&no_number), Err(Error::Malformed { .. })));
}

#[test]
fn debug_shows_no_key() {
    let ring = ring(1);
    let open = user(&ring, Permissions::READ).open(&ring.0, &kek(9), Permission::Read).unwrap();
    let shown = format!("{open:?}");
    assert!(shown.contains("[redacted]") && !shown.contains("DekBytes {"), "{shown}");
    assert_eq!(ring.1.deks[0].as_dek().expose(), open.deks[0].as_dek().expose());
}

proptest! {
    #[test]
    fn no_bytes_make_decoding_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), front in 0usize..80) {
        let _ = UserRecord::decode(&bytes);
        let whole = bytes_of(USER_HEX);
        let _ = UserRecord::decode(&[&whole[..front], &bytes].concat());
    }
}
