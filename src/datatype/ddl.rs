//! Finds session-sealed constants in stored expressions, for the event trigger.
//!
//! A stored expression outlives the session whose key sealed its constants, so it would fail for ever after.

use pgrx::prelude::*;
use sealvec_core::format::value::{HEADER_LEN, ValueHeader, ValueKind};

use super::opened;

/// `sealvec.holds_session_value(pg_node_tree, oid)`: whether the expression holds a constant that only a session can
/// open: of the given type, or inside an array or a row.
#[pg_extern(sql = false)]
fn sealvec_holds_session_value(tree: &str, sealvec: pg_sys::Oid) -> bool {
    constants(tree).any(|(kind, bytes)| {
        let inside = if kind == sealvec.to_u32() { Inside::Itself } else { Inside::Other };
        holds_session_value(&bytes, inside)
    })
}

enum Inside {
    /// The constant is a sealvec.
    Itself,
    /// The constant is of some other type, which may be made of sealvecs.
    Other,
}

/// The type and the bytes, varlena header included, of each constant in Postgres' text form of an expression tree:
/// `{CONST :consttype 16400 … :constvalue 64 [ 0 1 0 … ]}`, in which user text has its braces escaped.
fn constants(tree: &str) -> impl Iterator<Item = (u32, Vec<u8>)> {
    tree.split("{CONST ").skip(1).filter_map(|node| {
        let field = |name: &str| node.split_once(name).map(|(_, rest)| rest);
        let kind = field(":consttype ")?.split(' ').next()?.parse().ok()?;
        // "<>" in place of the length is a NULL. Bytes are printed as the platform's char, signed or not.
        let (_, bytes) = field(":constvalue ")?.split_once(" [ ")?;
        let bytes = bytes.split(' ').map_while(|byte| byte.parse::<i16>().ok()).map(|byte| byte as u8).collect();
        Some((kind, bytes))
    })
}

/// Looks for the header of a session value at every place: in an array or row, values stand somewhere in the middle.
///
/// Twelve given bytes might stand in a constant of any type by chance, so there the value must open, too.
fn holds_session_value(bytes: &[u8], inside: Inside) -> bool {
    bytes.windows(HEADER_LEN).enumerate().any(|(at, front)| {
        let Ok(header) = ValueHeader::decode_front(front) else { return false };
        let Some(value) = bytes.get(at..at + header.value_len()) else { return false };
        matches!(header.kind(), ValueKind::Session)
            && match inside {
                Inside::Itself => true,
                Inside::Other => opened::with_bytes(value, |_| ()).is_ok(),
            }
    })
}
