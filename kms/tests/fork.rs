//! Two forked children and their parent never draw the same nonce, even if the parent drew some before.
//!
//! Postgres forks a backend per connection; a generator in user space that was touched before would give
//! all of them the same sequence, and with AES-GCM that gives away plaintext.

use std::collections::HashSet;
use std::fs::File;
use std::io::{PipeReader, Read, Write, pipe};

use sealvec_core::crypto::{AeadKey, ChunkAad, ValueAad, XaesKey};
use sealvec_core::keys::Uuid;

const DRAWS: usize = 2_000;
const ID: Uuid = Uuid::from_bytes([1; 16]);

/// Runs `draw` in a forked child and gives back what it drew.
fn in_child(draw: &mut dyn FnMut() -> Vec<u8>) -> Vec<Vec<u8>> {
    let (mut reader, mut writer) = pipe().unwrap();
    // SAFETY: the child goes on in this thread alone; glibc's malloc is usable after fork, it takes no other
    // lock, writes to its pipe and leaves by _exit, so neither destructors nor the test harness run twice.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork");
    if pid == 0 {
        let all: Vec<u8> = (0..DRAWS).flat_map(|_| draw()).collect();
        let code = i32::from(writer.write_all(&all).is_err());
        // SAFETY: ends the child and nothing else.
        unsafe { libc::_exit(code) };
    }
    drop(writer);
    let bytes = read_all(&mut reader);
    // SAFETY: `pid` is our child and not yet waited for.
    let waited = unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
    assert_eq!(waited, pid);
    let len = bytes.len() / DRAWS;
    assert!(len >= 8 && bytes.len() == len * DRAWS, "the child drew {} bytes", bytes.len());
    bytes.chunks_exact(len).map(<[u8]>::to_vec).collect()
}

fn read_all(reader: &mut PipeReader) -> Vec<u8> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    bytes
}

/// How many of the draws of two children and the parent are distinct, after the parent has drawn already.
fn distinct(mut draw: impl FnMut() -> Vec<u8>) -> usize {
    let mut seen: HashSet<Vec<u8>> = (0..10).map(|_| draw()).collect();
    seen.extend(in_child(&mut draw));
    seen.extend(in_child(&mut draw));
    seen.extend((0..DRAWS).map(|_| draw()));
    seen.len()
}

#[test]
fn children_never_share_a_nonce() {
    let aead = AeadKey::new(&[7; 32]);
    let chunk = ChunkAad { index: ID, dek_version: 1, list: 1, epoch: 1, ordinal: 0, block: 0 };
    assert_eq!(distinct(|| aead.seal(&chunk, b"x").unwrap().as_bytes()[..12].to_vec()), 10 + 3 * DRAWS);

    let xaes = XaesKey::new(&[7; 32]);
    let value = ValueAad { ring: ID, dek_version: 1, dims: 1 };
    assert_eq!(distinct(|| xaes.seal(&value, b"x").unwrap().as_bytes()[..24].to_vec()), 10 + 3 * DRAWS);

    assert_eq!(distinct(|| Uuid::random().unwrap().as_bytes().to_vec()), 10 + 3 * DRAWS);
}

/// The control: a generator whose state is in user space does repeat, and this test sees it.
#[test]
fn a_generator_in_user_space_would_repeat() {
    let mut state = 0_u64;
    File::open("/dev/urandom")
        .and_then(|mut seed| {
            let mut bytes = [0; 8];
            seed.read_exact(&mut bytes)?;
            state = u64::from_le_bytes(bytes);
            Ok(())
        })
        .unwrap();
    let draws = distinct(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_le_bytes().to_vec()
    });
    assert_eq!(draws, 10 + DRAWS, "both children and the parent drew the same");
}
