//! Finds session-sealed constants in stored expressions, for the event trigger.
//!
//! A stored expression outlives the session whose key sealed its constants, so it would fail for ever after.

use pgrx::PgSqlErrorCode::{ERRCODE_INVALID_OBJECT_DEFINITION, ERRCODE_PROGRAM_LIMIT_EXCEEDED};
use pgrx::prelude::*;
use sealvec_core::format::value::{HEADER_LEN, ValueHeader, ValueKind};

use super::opened;
use crate::error::{OrRaise, SqlError};

/// How many places of one expression are opened to see whether they are vectors of this session. Each costs up to 64 kB
/// of decryption, and who writes the expression may make any byte look like a header.
const TRIALS_MAX: usize = 64;
/// Bytes looked at between two looks for a cancel.
const STRIDE: usize = 1 << 16;

/// `sealvec.holds_session_value(pg_node_tree, oid)`: whether the expression holds a constant that only a session can
/// open: of the given type, or inside an array or a row.
#[pg_extern(sql = false)]
fn sealvec_holds_session_value(tree: &[u8], sealvec: pg_sys::Oid) -> bool {
    let mut trials = 0;
    let transport = transport_types();
    for (kind, bytes) in constants(tree) {
        pgrx::check_for_interrupts!();
        if transport.contains(&kind) {
            in_transit().raise();
        }
        let inside = if kind == sealvec.to_u32() { Inside::Itself } else { Inside::Other };
        if holds_session_value(&bytes, inside, &mut trials).or_raise() {
            return true;
        }
    }
    false
}

/// OIDs of the types that only take arguments to functions, and of their arrays.
fn transport_types() -> Vec<u32> {
    // SAFETY: look-ups by name and OID; InvalidOid for what does not exist, as while the extension is being made.
    unsafe {
        let schema = pg_sys::get_namespace_oid(c"sealvec".as_ptr(), true);
        [c"kek", c"_kek", c"payload", c"_payload", c"vectors", c"_vectors"]
            .into_iter()
            .map(|name| {
                pg_sys::GetSysCacheOid(
                    pg_sys::SysCacheIdentifier::TYPENAMENSP as i32,
                    pg_sys::Anum_pg_type_oid as i16,
                    pg_sys::Datum::from(name.as_ptr()),
                    schema.into(),
                    pg_sys::Datum::null(),
                    pg_sys::Datum::null(),
                )
                .to_u32()
            })
            .filter(|oid| *oid != 0)
            .collect()
    }
}

fn in_transit() -> SqlError {
    SqlError::new(
        ERRCODE_INVALID_OBJECT_DEFINITION,
        "a stored expression holds a constant of type sealvec.kek, sealvec.payload or sealvec.vectors",
    )
    .detail("It would lie in the catalog, keys in clear, and a dump prints it as ***.")
    .hint("Pass it as a parameter of the query, or write a function that takes it as an argument.")
}

enum Inside {
    /// The constant is a sealvec.
    Itself,
    /// The constant is of some other type, which may be made of sealvecs.
    Other,
}

/// The type and the bytes, varlena header included, of each constant in Postgres' text form of an expression tree:
/// `{CONST :consttype 16400 … :constvalue 64 [ 0 1 0 … ]}`, in which user text has its braces escaped.
///
/// The text is in the database's encoding, so bytes it is.
pub fn constants(tree: &[u8]) -> impl Iterator<Item = (u32, Vec<u8>)> {
    let mut rest = tree;
    std::iter::from_fn(move || {
        loop {
            rest = after(rest, b"{CONST ")?;
            if let Some(constant) = constant(rest) {
                return Some(constant);
            }
        }
    })
}

/// The constant whose node begins here; `None` if it is a NULL, which has `<>` in place of its bytes.
fn constant(node: &[u8]) -> Option<(u32, Vec<u8>)> {
    let kind = number(after(node, b":consttype ")?)?;
    let value = after(node, b":constvalue ")?;
    let mut words = value.split(|b| *b == b' ');
    let length: usize = number(words.next()?)?;
    // Bytes stand between brackets, printed as the platform's char, signed or not.
    let bytes: Vec<u8> = words.skip(1).map_while(number::<i16>).map(|byte| byte as u8).collect();
    (bytes.len() == length).then_some((kind, bytes))
}

/// What follows the first `mark`.
fn after<'a>(text: &'a [u8], mark: &[u8]) -> Option<&'a [u8]> {
    let mut rest = text;
    loop {
        let at = rest.iter().position(|b| *b == mark[0])?;
        rest = &rest[at..];
        match rest.strip_prefix(mark) {
            Some(found) => return Some(found),
            None => rest = &rest[1..],
        }
    }
}

/// The number that ends at the first space.
fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    let word = text.split(|b| *b == b' ').next()?;
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// Looks for the header of a session value at every place: in an array or row, values stand somewhere in the middle.
///
/// Twelve given bytes might stand in a constant of any type by chance, so there the value must open, too.
fn holds_session_value(bytes: &[u8], inside: Inside, trials: &mut usize) -> Result<bool, SqlError> {
    for (at, front) in bytes.windows(HEADER_LEN).enumerate() {
        if at % STRIDE == 0 {
            pgrx::check_for_interrupts!();
        }
        let Ok(header) = ValueHeader::decode_front(front) else { continue };
        let Some(value) = bytes.get(at..at + header.value_len()) else { continue };
        if !matches!(header.kind(), ValueKind::Session) {
            continue;
        }
        if matches!(inside, Inside::Itself) {
            return Ok(true);
        }
        *trials += 1;
        if *trials > TRIALS_MAX {
            return Err(too_many_trials());
        }
        pgrx::check_for_interrupts!();
        if opened::with_bytes(value, |_| ()).is_ok() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn too_many_trials() -> SqlError {
    SqlError::new(
        ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        format!("a stored expression has more than {TRIALS_MAX} places that look like a vector of a session"),
    )
    .detail("Each is tried with the key of this session, because such a vector could not be opened after its end.")
    .hint("Keep such bytes in a table, not in a default, constraint, view or function body.")
}
