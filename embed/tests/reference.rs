//! The real model against the reference: vectors of deb_10k's queries, token numbers of the reference tokenizer.

mod support;

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use half::f16;
use sealvec_embed::Catalog;
use serde_json::Value;
use support::{FILES, MODEL, MODEL_DIR, laid_out};

static CATALOG: LazyLock<Catalog> = LazyLock::new(|| Catalog::new(MODEL_DIR.clone()));

fn data(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn json_lines(name: &str) -> Vec<Value> {
    let text = String::from_utf8(data(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Half the distance to the next float16, and what float32 sums may differ by in another order.
fn rounding(of: f16) -> f32 {
    const SUM_ORDER: f32 = 1e-6;
    let exponent = of.to_f32().abs().max(f16::MIN_POSITIVE.to_f32()).log2().floor();
    (exponent - 10.0).exp2() / 2.0 + SUM_ORDER
}

#[test]
fn vectors_are_the_reference_s_within_float16_rounding() {
    let queries = json_lines("tests/data/queries.jsonl");
    let texts: Vec<&str> = queries.iter().map(|query| query["text"].as_str().unwrap()).collect();
    let npy = data("../tests/data/deb_10k/queries_f16.npy");
    let expected: Vec<f16> = npy[128..].as_chunks().0.iter().map(|b| f16::from_le_bytes(*b)).collect();
    assert_eq!((texts.len(), expected.len()), (250, 250 * 384));

    // deb_10k was made with texts cut at 128 tokens.
    let root = laid_out(MODEL, &FILES);
    fs::write(root.path().join(MODEL).join("sentence_bert_config.json"), r#"{"max_seq_length": 128}"#).unwrap();
    let vectors = Catalog::new(root.path().into()).embed(MODEL, &texts).unwrap();

    assert_eq!(vectors.len(), expected.len());
    for (i, (v, e)) in vectors.iter().zip(&expected).enumerate() {
        let (query, element) = (i / 384, i % 384);
        assert!((v - e.to_f32()).abs() <= rounding(*e), "query {query}, element {element}: expected {e}, not {v}");
    }
}

#[test]
fn token_numbers_are_the_reference_tokenizer_s() {
    for row in json_lines("tests/data/tokens.jsonl") {
        let text = row["text"].as_str().unwrap();
        let expected: Vec<u32> = serde_json::from_value(row["ids"].clone()).unwrap();
        assert_eq!(CATALOG.tokens(MODEL, text).unwrap(), expected, "{text:?}");
    }
}

/// FNV-1a over little-endian numbers, as `tests/data/make_tokens.py` has it.
fn fnv(numbers: &[u32], state: u64) -> u64 {
    let bytes = numbers.iter().flat_map(|n| n.to_le_bytes());
    bytes.fold(state, |state, byte| (state ^ u64::from(byte)).wrapping_mul(0x100000001b3))
}

#[test]
fn every_character_is_read_as_the_reference_tokenizer_reads_it() {
    let sweep = String::from_utf8(data("tests/data/sweep.txt")).unwrap();
    assert_eq!(sweep.lines().count(), 0x110000 / 4096);
    let wrong: Vec<&str> = sweep
        .lines()
        .filter(|line| {
            let (block, expected) = line.split_once(' ').unwrap();
            let block = u32::from_str_radix(block, 16).unwrap();
            let characters = (block..block + 4096).filter_map(char::from_u32);
            let found = characters
                .fold(0xcbf29ce484222325, |state, c| fnv(&CATALOG.tokens(MODEL, &format!("a{c}b")).unwrap(), state));
            found != u64::from_str_radix(expected, 16).unwrap()
        })
        .collect();
    assert!(wrong.is_empty(), "blocks that are read otherwise: {wrong:?}");
}
