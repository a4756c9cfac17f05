//! Bodies that the recording cut, made anew: as many items of as many dimensions, of other numbers. What the
//! original answered to them is compared as far as it does not depend on the numbers.

use sealvec_e2e::Random;
use serde_json::{Value, json};

/// Bytes before the cut of a body of 20 MB that holds one text: what it was filled up with.
const BIG_CONTENTS: usize = 20_000_000;

/// The body of a cut request; `None` where it was recorded whole.
pub fn body(mode: &str, name: &str, key: &str) -> Option<String> {
    let upsert = |index: &str, from: usize, to: usize, dimension: usize| upsert(index, key, from, to, dimension);
    let body = match (mode, name) {
        ("noauth", "up_longid") => {
            json!({"index_name": "a", "index_key": key, "items": [{"id": "q".repeat(5_000), "vector": [1, 1, 1, 1]}]})
        }
        ("noauth", "lim_contents_big") => {
            let contents = "y".repeat(BIG_CONTENTS);
            json!({"index_name": "g", "index_key": key, "items": [{"id": "bigc", "vector": [1, 1], "contents": contents}]})
        }
        ("noauth", "lim_batch_10001") => {
            let items: Vec<Value> = (0..10_001).map(|id| json!({"id": id.to_string(), "vector": [1, 1]})).collect();
            json!({"index_name": "g", "index_key": key, "items": items})
        }
        (_, "at_up_500") => upsert("t", 0, 500, 8),
        (_, "at_up_more") => upsert("t", 501, 3_000, 8),
        (_, "mt_up_4096") => upsert("t", 0, 4_096, 8),
        (_, "mt_up_5000") => upsert("t", 4_096, 5_000, 8),
        (_, "mt_up_9999") => upsert("t", 8_192, 9_999, 8),
        (_, "mt_del_all_ish") => {
            let ids: Vec<String> = (0..19_990).map(|id| id.to_string()).collect();
            json!({"index_name": "t", "index_key": key, "ids": ids})
        }
        _ => return None,
    };
    Some(body.to_string())
}

/// An `upsert_binary` of ids `from..to`, the same for the same arguments.
pub fn upsert(index: &str, key: &str, from: usize, to: usize, dimension: usize) -> Value {
    let mut random = Random::new(from as u64 + 1);
    let mut bytes = Vec::with_capacity((to - from) * dimension * 4);
    for _ in 0..(to - from) * dimension {
        let number = (random.below(2_000_001) as f32 - 1_000_000.0) / 250_000.0;
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    let ids: Vec<String> = (from..to).map(|id| id.to_string()).collect();
    let vectors = base64(&bytes);
    json!({
        "index_name": index, "index_key": key,
        "batch": {"ids": ids, "vectors_b64": vectors, "dimension": dimension},
    })
}

/// RFC 4648, section 4.
pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let word = (0..3).fold(0, |word, at| word << 8 | u32::from(three.get(at).copied().unwrap_or(0)));
        for at in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * at)) as usize & 63];
            out.push(if at <= three.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

#[test]
fn base64_is_rfc_4648() {
    for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
        assert_eq!(base64(bytes.as_bytes()), text);
    }
    assert_eq!(base64(&[0xff, 0xfe]), "//4=");
}
