//! Private memory of a server process, as root sees it: where a test looks for key bytes, and how much it is.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

/// Where each of `needles` lies in the memory that the process alone can write: how often, in their order.
///
/// Needs root: a backend that opened a key lets nobody else look.
pub fn count(pid: i32, needles: &[&[u8]]) -> Vec<usize> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_else(|error| panic!("backend {pid}: {error}"));
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap_or_else(|error| panic!("needs root: {error}"));
    let mut found = vec![0; needles.len()];
    let mut bytes = Vec::new();
    for line in maps.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (Some(range), Some("rw-p")) = (fields.next(), fields.next()) else { continue };
        let (start, end) = range.split_once('-').expect("start-end");
        let at = |hex| u64::from_str_radix(hex, 16).expect("an address");
        bytes.resize((at(end) - at(start)) as usize, 0);
        if memory.read_exact_at(&mut bytes, at(start)).is_err() {
            continue; // a guard page
        }
        for (found, needle) in found.iter_mut().zip(needles) {
            *found += bytes.windows(needle.len()).filter(|window| window == needle).count();
        }
    }
    found
}

/// Bytes that the process has to itself: shared buffers are left out. None if it has ended.
pub fn private_bytes(pid: i32) -> Option<usize> {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = smaps.lines().find_map(|line| line.strip_prefix("Anonymous:"))?;
    let kilobytes: usize = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1024)
}
