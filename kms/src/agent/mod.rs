//! What the database server and the key agent say to each other, version 1: bytes in, bytes out, no I/O.
//!
//! They talk over a Unix stream socket. The server sends a [`Call`], the agent answers it with one [`Reply`] of the
//! same id; calls of one connection are answered in their order. Closing the connection cancels the call. An answer
//! of id 0 is a refusal of the connection itself, which the agent then closes; no call has that id.
//!
//! | offset | size | meaning |
//! |---|---|---|
//! | 0 | 4 | bytes that follow, 10 to 65,536 |
//! | 4 | 1 | version, 1 |
//! | 5 | 1 | kind: of a request below 128, of an answer from 128 |
//! | 6 | 8 | id of the call |
//! | 14 | | fields, as the kind has them |
//!
//! Integers are little-endian. A text (UTF-8) or byte field is its length in 4 bytes, then itself. A context is the
//! ring's UUID (16 bytes), the DEK version (4) and the purpose (1). A slot is three texts: name, provider, options
//! (JSON). A KEK is 32 bytes. Nothing may follow the last field.
//!
//! | kind | request | fields |
//! |---|---|---|
//! | 1 | wrap | time in ms (4 bytes), slot, context, KEK |
//! | 2 | unwrap | time, slot, context, key reference, wrapped key |
//! | 3 | generate | time, slot, context |
//! | 4 | rewrap | time, slot from, slot to, context, key reference, wrapped key |
//! | 5 | check | time, slot |
//!
//! | kind | answer | fields |
//! |---|---|---|
//! | 129 | key | KEK |
//! | 130 | wrapped | provider, key reference, wrapped key |
//! | 131 | generated | KEK, provider, key reference, wrapped key |
//! | 132 | ok | |
//! | 255 | refused | class (1 byte), wait in ms before another try or 0 (4 bytes), text |

mod call;
mod fields;
mod reply;

pub use call::{Call, Request, Slot};
pub use reply::{Answer, Class, Refusal, Reply, Wrapped};

/// Version of every frame.
pub const VERSION: u8 = 1;
/// Bytes of a frame's length.
pub const LENGTH_LEN: usize = 4;
/// Most bytes that may follow a frame's length.
pub const FRAME_LEN_MAX: usize = 64 * 1024;
/// Fewest: version, kind and id.
const FRAME_LEN_MIN: usize = 10;

/// Bytes that are no frame of this protocol. Says where, never what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} is not of version 1 of the key agent's protocol")]
pub struct ProtocolError {
    /// The part at fault.
    pub what: &'static str,
}

/// Bytes that follow a frame's length.
///
/// # Errors
/// If no frame has that length: the connection cannot be read any further.
pub fn frame_len(length: [u8; LENGTH_LEN]) -> Result<usize, ProtocolError> {
    let len = u32::from_le_bytes(length) as usize;
    match (FRAME_LEN_MIN..=FRAME_LEN_MAX).contains(&len) {
        true => Ok(len),
        false => Err(ProtocolError { what: "the length of a frame" }),
    }
}
