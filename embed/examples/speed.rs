//! Texts per second: `cargo run --release -p sealvec-embed --example speed MODEL_DIR TEXTS.jsonl [THREADS [OUT.f32]]`.
//!
//! Each line of TEXTS is a JSON object with a `text`. OUT gets the vectors, little-endian float32, row by row.

use std::env;
use std::error::Error;
use std::fs;
use std::num::NonZeroUsize;
use std::time::Instant;

use sealvec_embed::Catalog;

const MODEL: &str = "all-MiniLM-L6-v2";

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [dir, texts, rest @ ..] = args.as_slice() else {
        return Err("expected MODEL_DIR TEXTS.jsonl [THREADS [OUT.f32]]".into());
    };
    let mut catalog = Catalog::new(dir.into());
    if let Some(threads) = rest.first() {
        catalog = catalog.with_threads(threads.parse::<NonZeroUsize>()?);
    }
    let texts = fs::read_to_string(texts)?
        .lines()
        .map(|line| Ok(serde_json::from_str::<serde_json::Value>(line)?["text"].as_str().ok_or("no text")?.to_owned()))
        .collect::<Result<Vec<String>, Box<dyn Error>>>()?;
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();

    let start = Instant::now();
    catalog.embed(MODEL, &texts[..1])?;
    println!("load and first text: {:.0} ms", start.elapsed().as_secs_f64() * 1e3);

    let start = Instant::now();
    let vectors = catalog.embed(MODEL, &texts)?;
    println!("{} texts together: {:.1} texts/s", texts.len(), texts.len() as f64 / start.elapsed().as_secs_f64());

    let mut alone: Vec<f64> = Vec::new();
    for text in texts.iter().take(200) {
        let start = Instant::now();
        catalog.embed(MODEL, &[text])?;
        alone.push(start.elapsed().as_secs_f64() * 1e3);
    }
    alone.sort_by(f64::total_cmp);
    println!("one by one: median {:.1} ms", alone[alone.len() / 2]);

    if let Some(out) = rest.get(1) {
        fs::write(out, vectors.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>())?;
    }
    Ok(())
}
