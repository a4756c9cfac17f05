//! Files of relations as bytes: pages of an index by kind, a flipped bit, blocks that two files share.

use std::collections::HashSet;
use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Bytes of a page.
pub const PAGE: usize = 8192;
/// Kinds of index pages, by their number at [`KIND`]; docs/FORMAT.md.
pub const KINDS: [(u8, &str); 10] = [
    (1, "meta"),
    (2, "slot directory"),
    (3, "slot leaf"),
    (4, "vector"),
    (5, "overflow"),
    (6, "map directory"),
    (7, "list map"),
    (8, "list"),
    (9, "directory index"),
    (10, "directory"),
];
/// Offset of the kind in a page of a sealed index.
pub const KIND: usize = 8184;

/// A whole relation file.
pub fn read(file: &Path) -> Vec<u8> {
    fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Blocks of each kind.
pub fn blocks_of_kind(pages: &[u8], kind: u8) -> Vec<usize> {
    pages.chunks_exact(PAGE).enumerate().filter(|(_, page)| page[KIND] == kind).map(|(block, _)| block).collect()
}

/// End of the used part of a page (`pd_lower`).
pub fn lower(page: &[u8]) -> usize {
    usize::from(u16::from_le_bytes([page[12], page[13]]))
}

/// Flips one bit of a file.
pub fn flip(file: &Path, offset: u64, bit: u32) {
    let mut file = fs::OpenOptions::new().read(true).write(true).open(file).expect("the relation's file");
    let mut byte = [0];
    file.seek(SeekFrom::Start(offset)).expect("inside the file");
    file.read_exact(&mut byte).expect("inside the file");
    byte[0] ^= 1 << bit;
    file.seek(SeekFrom::Start(offset)).expect("inside the file");
    file.write_all(&byte).expect("written");
}

/// The pages of an index that hold sealed bytes: vectors, overflow, lists, directory.
pub fn sealed_pages(pages: &[u8]) -> Vec<u8> {
    pages.chunks_exact(PAGE).filter(|page| [4, 5, 8, 10].contains(&page[KIND])).flatten().copied().collect()
}

/// How many of the 16-byte blocks of `a`, taken every 16 bytes, are anywhere in `b`. Blocks with fewer than 12
/// different bytes are headers, numbers and padding: a sealed block has as few once in 10,000.
pub fn shared_blocks(a: &[u8], b: &[u8]) -> usize {
    let sealed = |block: &[u8]| {
        let mut seen = [false; 256];
        block.iter().for_each(|byte| seen[usize::from(*byte)] = true);
        seen.iter().filter(|seen| **seen).count() >= 12
    };
    let wanted: HashSet<&[u8]> = a.chunks_exact(16).filter(|block| sealed(block)).collect();
    let mut found: HashSet<&[u8]> = HashSet::new();
    for window in b.windows(16) {
        if let Some(block) = wanted.get(window) {
            found.insert(block);
        }
    }
    found.len()
}
