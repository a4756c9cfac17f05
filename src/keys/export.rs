//! A key ring outside its database: what `export_ring` gives and `import_ring` takes. Nothing in it is secret.
//!
//! | offset | size | meaning |
//! |---|---|---|
//! | 0 | 4 | magic, `SVRX` |
//! | 4 | 1 | format version, 1 |
//! | 5 | 1 | length n of the ring's name, 1 to 63 |
//! | 6 | n | name, UTF-8 |
//! | 6 + n | | the record, as `sealvec_core::keys::ring` lays it out, to the end |

use sealvec_core::keys::RingRecord;
use sealvec_core::{Error, Result};

const MAGIC: &[u8; 4] = b"SVRX";
const VERSION: u8 = 1;
const WHAT: &str = "key ring export";

/// The ring as bytes.
pub fn encode(name: &str, record: &RingRecord) -> Vec<u8> {
    let length = u8::try_from(name.len()).expect("a name has at most 63 bytes");
    [&MAGIC[..], &[VERSION, length], name.as_bytes(), &record.encode()].concat()
}

/// Name and record of an exported ring.
///
/// # Errors
/// [`Error::Version`] for another format version, [`Error::Malformed`] for anything else that no build writes.
pub fn decode(bytes: &[u8]) -> Result<(&str, RingRecord)> {
    const MALFORMED: Error = Error::Malformed { what: WHAT };
    let rest = bytes.strip_prefix(MAGIC).ok_or(MALFORMED)?;
    let (&[version, length], rest) = rest.split_first_chunk().ok_or(MALFORMED)?;
    if version != VERSION {
        return Err(Error::Version { what: WHAT, found: version.into(), known: VERSION.into() });
    }
    let (name, record) = rest.split_at_checked(length.into()).ok_or(MALFORMED)?;
    let name = std::str::from_utf8(name).map_err(|_| MALFORMED)?;
    Ok((name, RingRecord::decode(record)?))
}
