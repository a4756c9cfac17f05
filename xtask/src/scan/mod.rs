//! `cargo xtask scan`: searches files for the plaintext of known vectors and texts and for key bytes.

pub mod pattern;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::data::Matrix;
pub use pattern::Patterns;

/// Bytes at a pattern's head that decide whether it is compared in full.
pub const FINGERPRINT: usize = 8;
/// Files are read in pieces of this size, so memory stays bounded.
const PIECE: usize = 8 << 20;
/// log2 of the bits in the filter before the table: 1 MB, which stays in a core's cache.
const FILTER_LOG2: u32 = 23;

/// Where a pattern was found.
#[derive(Clone)]
pub struct Hit {
    pub file: PathBuf,
    pub offset: u64,
    pub form: usize,
    pub source: usize,
}

/// What a search read and found.
#[derive(Default)]
pub struct Report {
    pub files: usize,
    pub bytes: u64,
    pub hits: Vec<Hit>,
}

/// Many patterns, ready to be searched for in one pass: a bit filter over 8-byte heads, then a table, then a compare.
///
/// An Aho-Corasick automaton over the 100,000 patterns that a few hundred vectors make is hundreds of megabytes and
/// misses the cache at each byte; the filter does not.
pub struct Searcher {
    patterns: Patterns,
    filter: Vec<u64>,
    heads: HashMap<u64, Vec<usize>>,
    longest: usize,
}

impl Searcher {
    pub fn new(patterns: Patterns) -> Self {
        let mut filter = vec![0u64; 1 << (FILTER_LOG2 - 6)];
        let mut heads: HashMap<u64, Vec<usize>> = HashMap::new();
        let mut longest = FINGERPRINT;
        for (number, pattern) in patterns.patterns.iter().enumerate() {
            let head = head(&pattern.bytes);
            let (word, bit) = place(head);
            filter[word] |= bit;
            heads.entry(head).or_default().push(number);
            longest = longest.max(pattern.bytes.len());
        }
        Self { patterns, filter, heads, longest }
    }

    pub fn patterns(&self) -> &Patterns {
        &self.patterns
    }

    /// Searches files and, through directories, every file below. What vanishes meanwhile (a live cluster removes temp
    /// files and recycles WAL) is skipped; what cannot be read is an error.
    pub fn search(&self, paths: &[&Path]) -> Result<Report> {
        let mut report = Report::default();
        for path in paths {
            ensure!(path.exists(), "nothing to search at {}", path.display());
            self.search_path(path, &mut report)?;
        }
        Ok(report)
    }

    fn search_path(&self, path: &Path, report: &mut Report) -> Result<()> {
        let meta = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            other => other.with_context(|| format!("could not look at {}", path.display()))?,
        };
        // pg_wal and pg_tblspc may hold links to where the data really is.
        let kind = if meta.is_symlink() { fs::metadata(path)?.file_type() } else { meta.file_type() };
        if kind.is_dir() {
            let mut entries: Vec<PathBuf> = match fs::read_dir(path) {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                other => other
                    .with_context(|| format!("could not read {}", path.display()))?
                    .map(|entry| Ok(entry?.path()))
                    .collect::<Result<_>>()?,
            };
            entries.sort();
            return entries.iter().try_for_each(|entry| self.search_path(entry, report));
        }
        if kind.is_file() {
            self.search_file(path, report)?;
        }
        Ok(())
    }

    fn search_file(&self, path: &Path, report: &mut Report) -> Result<()> {
        let mut file = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            other => other.with_context(|| format!("could not open {}", path.display()))?,
        };
        report.files += 1;
        let mut buffer = Vec::with_capacity(PIECE + self.longest);
        let mut base = 0u64; // offset in the file of buffer[0]
        loop {
            let read = (&mut file)
                .take(PIECE as u64)
                .read_to_end(&mut buffer)
                .with_context(|| format!("could not read {}", path.display()))?;
            report.bytes += read as u64;
            let last = read == 0;
            // Without the last piece's end, a pattern may go on in the next one: begin no match within that reach.
            let stop = if last { buffer.len() } else { buffer.len().saturating_sub(self.longest) };
            self.search_bytes(&buffer, stop, |offset, form, source| {
                report.hits.push(Hit { file: path.to_path_buf(), offset: base + offset as u64, form, source });
            });
            if last {
                return Ok(());
            }
            buffer.drain(..stop);
            base += stop as u64;
        }
    }

    /// Calls `found(offset, form, source)` for each match that begins before `stop`.
    fn search_bytes(&self, bytes: &[u8], stop: usize, mut found: impl FnMut(usize, usize, usize)) {
        for (offset, window) in bytes.windows(FINGERPRINT).enumerate().take(stop) {
            let head = u64::from_le_bytes(window.try_into().expect("windows of eight bytes"));
            let (word, bit) = place(head);
            if self.filter[word] & bit == 0 {
                continue;
            }
            for &number in self.heads.get(&head).into_iter().flatten() {
                let pattern = &self.patterns.patterns[number];
                if bytes[offset..].starts_with(&pattern.bytes) {
                    found(offset, pattern.form, pattern.source);
                }
            }
        }
    }
}

fn head(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..FINGERPRINT].try_into().expect("no pattern is shorter"))
}

/// The filter's word and bit of a head.
fn place(head: u64) -> (usize, u64) {
    let hash = head.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - FILTER_LOG2);
    ((hash >> 6) as usize, 1 << (hash & 63))
}

/// Search files for the plaintext of known vectors and texts and for key bytes.
///
/// Looks for each vector as float32, float16 and float64 in both byte orders, as decimal text, and for the hexadecimal
/// and base64 of the binary forms; as given and scaled to length one. Directories are searched whole. Exit code 0 when
/// nothing was found, 1 when something was (turned round by --expect-found).
#[derive(Args)]
pub struct Scan {
    /// Files and directories to search.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// A .npy file of float16 or float32 rows whose vectors are looked for.
    #[arg(long, value_name = "FILE")]
    vectors_npy: Option<PathBuf>,
    /// How many of its rows, evenly spread, are looked for.
    #[arg(long, value_name = "N", default_value_t = 200)]
    rows: usize,
    /// A text file with one vector a line, as [0.1,0.2,…] or 0.1,0.2,….
    #[arg(long, value_name = "FILE")]
    vectors_text: Option<PathBuf>,
    /// A text file whose lines are looked for as they are, in hexadecimal and in base64; eight bytes a line at least.
    #[arg(long, value_name = "FILE")]
    text_file: Option<PathBuf>,
    /// A file whose bytes are a key: every 16 bytes of it are looked for.
    #[arg(long, value_name = "FILE")]
    key_file: Vec<PathBuf>,
    /// A key in hexadecimal, at least 16 bytes.
    #[arg(long, value_name = "HEX")]
    key_hex: Vec<String>,
    /// Succeed only if every one of these forms is found (names as printed; may be given several times).
    #[arg(long, value_name = "FORM")]
    expect_found: Vec<String>,
}

impl Scan {
    pub fn run(self) -> Result<()> {
        let mut patterns = Patterns::default();
        let mut source = 0;
        if let Some(path) = &self.vectors_npy {
            let matrix = Matrix::read(path)?;
            let step = matrix.rows().div_ceil(self.rows.max(1)).max(1);
            for row in matrix.iter().step_by(step) {
                patterns.add_vector(source, row);
                source += 1;
            }
        }
        if let Some(path) = &self.vectors_text {
            let text = fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))?;
            for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
                let vector: Vec<f32> = line
                    .trim()
                    .trim_matches(|edge| "[]{}".contains(edge))
                    .split(',')
                    .map(|element| element.trim().parse())
                    .collect::<Result<_, _>>()
                    .with_context(|| {
                        format!("{}, line {}: expected numbers between commas", path.display(), number + 1)
                    })?;
                patterns.add_vector(source, &vector);
                source += 1;
            }
        }
        if let Some(path) = &self.text_file {
            let text = fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))?;
            for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
                ensure!(
                    line.len() >= FINGERPRINT,
                    "{}, line {}: shorter than {FINGERPRINT} bytes, and so found anywhere",
                    path.display(),
                    number + 1
                );
                patterns.add_bytes(source, "text", line.as_bytes());
                source += 1;
            }
        }
        for path in &self.key_file {
            add_key(
                &mut patterns,
                source,
                &fs::read(path).with_context(|| format!("could not read {}", path.display()))?,
            )?;
            source += 1;
        }
        for text in &self.key_hex {
            add_key(&mut patterns, source, &from_hex(text)?)?;
            source += 1;
        }
        ensure!(
            source > 0,
            "nothing to look for: give --vectors-npy, --vectors-text, --text-file, --key-file or --key-hex"
        );

        let searcher = Searcher::new(patterns);
        let paths: Vec<&Path> = self.paths.iter().map(PathBuf::as_path).collect();
        let report = crate::run::step("searching", || searcher.search(&paths))?;
        for hit in report.hits.iter().take(20) {
            println!(
                "{} at {} of {} (number {})",
                searcher.patterns().forms[hit.form],
                hit.offset,
                hit.file.display(),
                hit.source
            );
        }
        if report.hits.len() > 20 {
            println!("… and {} more", report.hits.len() - 20);
        }
        println!(
            "{} hits in {} files, {} bytes; {} patterns in {} forms",
            report.hits.len(),
            report.files,
            report.bytes,
            searcher.patterns().patterns.len(),
            searcher.patterns().forms.len()
        );
        if self.expect_found.is_empty() {
            ensure!(report.hits.is_empty(), "plaintext found");
        }
        for wanted in &self.expect_found {
            ensure!(
                report.hits.iter().any(|hit| searcher.patterns().forms[hit.form] == *wanted),
                "expected to find the form {wanted:?}"
            );
        }
        Ok(())
    }
}

/// Looks for a key by each 16 bytes of it, so that half a key is found too.
pub fn add_key(patterns: &mut Patterns, source: usize, key: &[u8]) -> Result<()> {
    ensure!(key.len() >= 16, "expected a key of 16 bytes or more, not {}", key.len());
    for window in key.windows(16).step_by(8) {
        patterns.add_bytes(source, "key", window);
    }
    Ok(())
}

/// Bytes from hexadecimal digits.
pub fn from_hex(text: &str) -> Result<Vec<u8>> {
    ensure!(text.len().is_multiple_of(2) && text.is_ascii(), "expected an even number of hexadecimal digits");
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).context("expected hexadecimal digits"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector() -> Vec<f32> {
        (0..96).map(|i| ((i * 37 % 101) as f32 - 50.2) / 64.0).collect()
    }

    /// Every form that a vector is searched in is found when a file holds it, at any alignment, once per form.
    #[test]
    fn each_form_is_found() {
        let mut patterns = Patterns::default();
        patterns.add_vector(7, &vector());
        let searcher = Searcher::new(patterns);
        assert_eq!(searcher.patterns().forms.len(), 2 * (6 * 3 + 2));
        for form in 0..searcher.patterns().forms.len() {
            for shift in 0..4 {
                let mut file = vec![b'x'; shift];
                for pattern in searcher.patterns().patterns.iter().filter(|pattern| pattern.form == form) {
                    file.extend(&pattern.bytes);
                    file.push(b'-');
                }
                let mut seen = false;
                searcher.search_bytes(&file, file.len(), |_, found, source| seen |= found == form && source == 7);
                assert!(seen, "{}", searcher.patterns().forms[form]);
            }
        }
    }

    #[test]
    fn a_match_across_pieces_is_found_once() {
        let mut patterns = Patterns::default();
        add_key(&mut patterns, 0, b"0123456789abcdef").unwrap();
        let searcher = Searcher::new(patterns);
        let path = std::env::temp_dir().join(format!("sealvec-scan-{}", std::process::id()));
        for at in [0, PIECE - 40, PIECE - 17, PIECE - 9, PIECE - 1, PIECE, 2 * PIECE - 3] {
            let mut file = vec![0u8; 2 * PIECE + 100];
            file[at..at + 16].copy_from_slice(b"0123456789abcdef");
            fs::write(&path, &file).unwrap();
            let report = searcher.search(&[&path]).unwrap();
            assert_eq!(report.hits.iter().map(|hit| hit.offset).collect::<Vec<_>>(), [at as u64]);
            assert_eq!(report.bytes, file.len() as u64);
        }
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn random_bytes_hold_no_vector() {
        let mut patterns = Patterns::default();
        patterns.add_vector(0, &vector());
        let searcher = Searcher::new(patterns);
        let mut state = 1u64;
        let bytes: Vec<u8> = (0..1 << 20)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .collect();
        searcher.search_bytes(&bytes, bytes.len(), |offset, form, _| panic!("form {form} at {offset}"));
    }
}
