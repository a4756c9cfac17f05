//! What a sealed item promises: it comes back as it went in, under its key, ring, version and token alone.

use proptest::prelude::*;

use super::*;
use crate::format::value::ValueHeader;
use crate::item::TokenKey;
use crate::keys::{Dek, IdKey};

const RING: Uuid = Uuid::from_bytes([0x5a; 16]);
const TOKEN: IdToken = [0x33; 32];
const GOLDEN: &str = include_str!("../../../tests/vectors/item_v1.hex");

fn key(byte: u8) -> XaesKey {
    Dek::new(1, &[byte; 32]).item_key(&RING)
}

fn header() -> ItemHeader {
    ItemHeader::new(&RING, 1)
}

fn sealed(item: &Item<'_>) -> Vec<u8> {
    seal_item(&key(7), &header(), &RING, &TOKEN, item).unwrap()
}

/// What goes in comes out, absent apart from empty.
fn check(id: &str, contents: Option<&str>, metadata: Option<&str>) {
    let item = Item::new(id, contents, metadata).unwrap();
    let bytes = sealed(&item);
    assert_eq!(bytes.len(), sealed_len(&item).unwrap());
    assert_eq!(ItemHeader::decode(&bytes).unwrap(), header());
    let open = open_item(&key(7), &RING, &TOKEN, &bytes).unwrap();
    let trimmed = metadata.map(|text| text.trim_matches([' ', '\t', '\n', '\r']));
    assert_eq!((open.id(), open.contents(), open.metadata().map(Json::text)), (id, contents, trimmed));
}

#[test]
fn items_come_back_as_they_went_in() {
    let long = "x".repeat(300_000);
    for id in ["", "item_1", "naïve 🦀", "a\0b\n", &long] {
        for contents in [None, Some(""), Some("text"), Some(long.as_str())] {
            for metadata in [None, Some("{}"), Some(" {\"b\": 1.0, \"a\": 12345678901234567890}\n")] {
                check(id, contents, metadata);
            }
        }
    }
}

#[test]
fn an_item_moves_to_a_newer_key_and_nothing_in_it_changes() {
    let item = Item::new("id", Some("contents"), Some("{\"n\": 1.0}")).unwrap();
    let (old, newer) = (sealed(&item), ItemHeader::new(&RING, 2));
    let to = Dek::new(2, &[8; 32]).item_key(&RING);
    let moved = reseal_item(&key(7), &to, &newer, &RING, &TOKEN, &old).unwrap();
    assert_eq!((moved.len(), ItemHeader::decode(&moved).unwrap()), (old.len(), newer));
    let open = open_item(&to, &RING, &TOKEN, &moved).unwrap();
    assert_eq!(
        (open.id(), open.contents(), open.metadata().map(Json::text)),
        ("id", Some("contents"), Some("{\"n\": 1.0}"))
    );
    assert!(matches!(open_item(&key(7), &RING, &TOKEN, &moved), Err(Error::Open)));
    // Not by another key, for another row or ring, nor once a bit is changed.
    let other = Uuid::from_bytes([0x5b; 16]);
    let mut damaged = old.clone();
    *damaged.last_mut().unwrap() ^= 1;
    for result in [
        reseal_item(&key(9), &to, &newer, &RING, &TOKEN, &old),
        reseal_item(&key(7), &to, &newer, &RING, &[0x34; 32], &old),
        reseal_item(&key(7), &to, &ItemHeader::new(&other, 2), &other, &TOKEN, &old),
        reseal_item(&key(7), &to, &newer, &RING, &TOKEN, &damaged),
    ] {
        assert!(matches!(result, Err(Error::Open)));
    }
    assert!(reseal_item(&key(7), &to, &newer, &RING, &TOKEN, &old[..HEADER_LEN]).is_err());
}

#[test]
fn metadata_is_kept_to_the_last_byte() {
    for text in [
        r#"{"z":1,"a":1.0,"m":1e2,"big":123456789012345678901234567890,"tiny":1E-400}"#,
        r#"{"dup":1,"dup":2,"\u0041":"\/","$k":null,"a.b":[ ]}"#,
        r#"{"nested":{"deep":[[{"x":[]}]]},"s":"\ud83d\ude00"}"#,
    ] {
        check("1", None, Some(text));
    }
    check("1", None, Some(&format!("{}1{}", r#"{"a":"#.repeat(150), "}".repeat(150))));
}

#[test]
fn metadata_that_is_no_object_is_refused() {
    for text in ["", "null", "[]", "1", "\"{}\"", "{", "{}{}", "{\"a\":1,}", "{'a':1}", "{\"a\":\"\\ud800\"}"] {
        assert!(matches!(Item::new("1", None, Some(text)), Err(Error::Malformed { .. })), "{text}");
    }
}

/// Format version 1, sealed by XAES from Python's `cryptography`: it must open for ever.
#[test]
fn golden_item_opens() {
    let bytes = hex::decode(GOLDEN.split_whitespace().collect::<String>()).unwrap();
    let open = open_item(&key(7), &RING, &TOKEN, &bytes).unwrap();
    assert_eq!((open.id(), open.contents()), ("item_1", Some("naïve 🦀")));
    assert_eq!(open.metadata().unwrap().text(), r#"{"b": 1.0, "a": 12345678901234567890}"#);
}

#[test]
fn only_its_own_key_ring_version_and_token_open_it() {
    let bytes = sealed(&Item::new("1", Some("c"), None).unwrap());
    let refused = |key: &XaesKey, ring: &Uuid, token: &IdToken, bytes: &[u8]| {
        assert!(matches!(open_item(key, ring, token, bytes), Err(Error::Open)));
    };
    refused(&key(8), &RING, &TOKEN, &bytes);
    refused(&Dek::new(1, &[7; 32]).value_key(&RING), &RING, &TOKEN, &bytes);
    let mut other = *RING.as_bytes();
    other[15] ^= 1; // the same number
    refused(&key(7), &Uuid::from_bytes(other), &TOKEN, &bytes);
    refused(&key(7), &Uuid::from_bytes([0x11; 16]), &TOKEN, &bytes);
    let mut versioned = bytes.clone();
    versioned[8] = 2;
    refused(&key(7), &RING, &TOKEN, &versioned);
    for bit in 0..256 {
        let mut token = TOKEN;
        token[bit / 8] ^= 1 << (bit % 8);
        refused(&key(7), &RING, &token, &bytes);
    }
}

#[test]
fn items_cannot_trade_rows() {
    let tokens = TokenKey::new(&IdKey::from_slice(&[3; 32]).unwrap(), &RING);
    let rows = ["a", "b"].map(|id| {
        let token = tokens.token(id);
        (token, seal_item(&key(7), &header(), &RING, &token, &Item::new(id, None, None).unwrap()).unwrap())
    });
    assert!(open_item(&key(7), &RING, &rows[0].0, &rows[0].1).is_ok());
    assert!(matches!(open_item(&key(7), &RING, &rows[0].0, &rows[1].1), Err(Error::Open)));
}

#[test]
fn every_changed_bit_and_every_cut_is_noticed() {
    let bytes = sealed(&Item::new("item", Some("contents"), Some("{\"a\":1}")).unwrap());
    for bit in 0..8 * bytes.len() {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(open_item(&key(7), &RING, &TOKEN, &bad).is_err(), "bit {bit}");
    }
    for len in 0..bytes.len() {
        assert!(open_item(&key(7), &RING, &TOKEN, &bytes[..len]).is_err(), "{len} bytes");
    }
    assert!(open_item(&key(7), &RING, &TOKEN, &[&bytes[..], &[0]].concat()).is_err());
}

#[test]
fn headers_that_no_build_writes_are_refused() {
    let bytes = header().encode();
    assert!(ItemHeader::decode(&bytes).is_ok());
    let with = |changes: &[(usize, u8)]| {
        let mut bad = bytes;
        changes.iter().for_each(|(place, byte)| bad[*place] = *byte);
        ItemHeader::decode(&bad)
    };
    assert!(matches!(with(&[(0, 2)]), Err(Error::Version { found: 2, known: 1, .. })));
    let bad: [&[(usize, u8)]; 7] =
        [&[(1, 1)], &[(1, 4)], &[(2, 1)], &[(3, 1)], &[(4, 0), (5, 0), (6, 0)], &[(7, 1)], &[(8, 0)]];
    for changes in bad {
        assert!(matches!(with(changes), Err(Error::Malformed { .. })), "{changes:?}");
    }
    // a column value is no item, nor the other way round
    assert!(ItemHeader::decode(&ValueHeader::column(&RING, 1, 4).unwrap().encode()).is_err());
    assert!(ValueHeader::decode_front(&bytes).is_err());
}

/// Right key, wrong inside: what no build of ours seals is an error, never a panic.
#[test]
fn malformed_insides_are_refused() {
    let lens = |a: u32, b: u32, c: u32| [a, b, c].iter().flat_map(|len| len.to_le_bytes()).collect::<Vec<_>>();
    let with = |front: Vec<u8>, text: &[u8]| [&front[..], text].concat();
    for plain in [
        vec![],
        vec![0; 11],
        lens(NONE, NONE, NONE),
        with(lens(2, NONE, NONE), b"x"),
        with(lens(1, NONE, NONE), b"xy"),
        with(lens(1, 1, NONE), b"x"),
        with(lens(u32::MAX - 1, 1, 1), b"xyz"),
        with(lens(1, NONE, NONE), b"\xff"),
        with(lens(1, 1, NONE), "é".as_bytes()),
    ] {
        let aad = aad(&header(), &RING, &TOKEN);
        let bytes = [&header().encode()[..], key(7).seal(&aad, &plain).unwrap().as_bytes()].concat();
        assert!(matches!(open_item(&key(7), &RING, &TOKEN, &bytes), Err(Error::Malformed { .. })), "{plain:?}");
    }
}

#[test]
fn sealing_twice_shares_no_block() {
    let item = Item::new("item", Some("contents"), None).unwrap();
    let (a, b) = (sealed(&item), sealed(&item));
    assert_ne!(a[HEADER_LEN..HEADER_LEN + 24], b[HEADER_LEN..HEADER_LEN + 24]);
    assert!(a[HEADER_LEN..].windows(16).all(|window| !b[HEADER_LEN..].windows(16).any(|other| other == window)));
}

#[test]
fn debug_shows_no_content() {
    let item = Item::new("secret", Some("text"), Some("{}")).unwrap();
    let open = open_item(&key(7), &RING, &TOKEN, &sealed(&item)).unwrap();
    assert_eq!(format!("{item:?} {open:?}"), "Item(24 bytes) OpenItem([redacted])");
}

proptest! {
    #[test]
    fn any_text_round_trips(id in any::<String>(), contents in any::<Option<String>>(), field in any::<String>()) {
        let metadata = serde_json::json!({ field.as_str(): field.as_str() }).to_string();
        check(&id, contents.as_deref(), None);
        check(&id, contents.as_deref(), Some(&metadata));
    }

    #[test]
    fn no_bytes_make_opening_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        let _ = open_item(&key(7), &RING, &TOKEN, &bytes);
        let _ = open_item(&key(7), &RING, &TOKEN, &[&header().encode()[..], &bytes].concat());
        let _ = OpenItem::decode(Zeroizing::new(bytes));
    }
}
