//! The bytes of an item, sealed and open.
//!
//! | offset | size | meaning |
//! |---|---|---|
//! | 0 | 1 | format version, 1 |
//! | 1 | 1 | kind, 3: item (1 and 2 are column values) |
//! | 2 | 2 | zero |
//! | 4 | 4 | number of the ring |
//! | 8 | 4 | DEK version, from 1 |
//! | 12 | 24 | nonce |
//! | 36 | n | ciphertext |
//! | 36 + n | 16 | tag |
//!
//! It opens to:
//!
//! | offset | size | meaning |
//! |---|---|---|
//! | 0 | 4 | bytes a of the id |
//! | 4 | 4 | bytes b of the contents; 2^32 - 1 = none, and b = 0 below |
//! | 8 | 4 | bytes c of the metadata; 2^32 - 1 = none, and c = 0 below |
//! | 12 | a | id, UTF-8 |
//! | 12 + a | b | contents, UTF-8 |
//! | 12 + a + b | c | metadata: the text of a JSON object as it came |
//!
//! XAES-256-GCM under the subkey `item`, so one key serves a collection for life. The header is authenticated
//! like a column value's: the DEK version by [`ItemAad`], the ring's number by the UUID it heads, kind and
//! version by the label and AAD kind that no other structure shares. The AAD holds the token, so an item that
//! is moved to another row does not open.

use std::ops::Range;

use zeroize::Zeroizing;

use super::token::IdToken;
use crate::crypto::{ItemAad, OVERHEAD24, XaesKey};
use crate::json::{Json, Kind};
use crate::keys::Uuid;
use crate::keys::uuid::RING_NUMBER_BITS;
use crate::{Error, Result};

/// Bytes in front of the nonce.
pub const HEADER_LEN: usize = 12;
/// Most bytes of a sealed item: half of what Postgres stores in one value, so that text forms fit, too.
pub const ITEM_LEN_MAX: usize = 512 << 20;

const VERSION: u8 = 1;
const KIND: u8 = 3;
const WHAT: &str = "sealed item";
const MALFORMED: Error = Error::Malformed { what: WHAT };
const LENGTHS_LEN: usize = 12;
const NONE: u32 = u32::MAX;

/// The clear front of an item: which key opens it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ItemHeader {
    ring: u32,
    dek_version: u32,
}

impl ItemHeader {
    /// For an item of `ring` under its DEK of `dek_version`.
    pub fn new(ring: &Uuid, dek_version: u32) -> Self {
        assert!(dek_version >= 1 && ring.number() != 0, "a ring has a number and its DEKs count from 1");
        Self { ring: ring.number(), dek_version }
    }

    /// Number of its ring.
    pub fn ring(&self) -> u32 {
        self.ring
    }

    /// Version of the DEK.
    pub fn dek_version(&self) -> u32 {
        self.dek_version
    }

    /// Reads the header of a sealed item, or of its first bytes.
    ///
    /// # Errors
    /// [`Error::Version`] for another format version, [`Error::Malformed`] for anything else that no build writes.
    pub fn decode(front: &[u8]) -> Result<Self> {
        let (front, _) = front.split_first_chunk::<HEADER_LEN>().ok_or(MALFORMED)?;
        let [version, kind, z0, z1, r0, r1, r2, r3, v0, v1, v2, v3] = *front;
        if version != VERSION {
            return Err(Error::Version { what: WHAT, found: version.into(), known: VERSION.into() });
        }
        let (ring, dek_version) = (u32::from_le_bytes([r0, r1, r2, r3]), u32::from_le_bytes([v0, v1, v2, v3]));
        let fits = kind == KIND && [z0, z1] == [0, 0] && ring != 0 && ring >> RING_NUMBER_BITS == 0 && dek_version != 0;
        if fits { Ok(Self { ring, dek_version }) } else { Err(MALFORMED) }
    }

    fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [VERSION, KIND, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes[4..8].copy_from_slice(&self.ring.to_le_bytes());
        bytes[8..].copy_from_slice(&self.dek_version.to_le_bytes());
        bytes
    }
}

/// What is sealed: borrowed from the caller, checked.
#[derive(Clone, Copy)]
pub struct Item<'a> {
    id: &'a str,
    contents: Option<&'a str>,
    metadata: Option<Json<'a>>,
}

impl<'a> Item<'a> {
    /// An item; `metadata` is the text of a JSON object and is kept to the last byte.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the metadata is no JSON object.
    pub fn new(id: &'a str, contents: Option<&'a str>, metadata: Option<&'a str>) -> Result<Self> {
        let metadata = match metadata.map(Json::parse).transpose()? {
            Some(json) if json.kind() != Kind::Object => {
                return Err(Error::Malformed { what: "metadata: expected a JSON object" });
            }
            checked => checked,
        };
        Ok(Self { id, contents, metadata })
    }

    /// An item whose metadata was found to be an object.
    pub(super) fn of_checked(id: &'a str, contents: Option<&'a str>, metadata: Option<Json<'a>>) -> Self {
        Self { id, contents, metadata }
    }

    /// Its fields in the order of the format, absent ones as `None`.
    fn fields(&self) -> [Option<&'a str>; 3] {
        [Some(self.id), self.contents, self.metadata.map(Json::text)]
    }

    fn plain_len(&self) -> usize {
        LENGTHS_LEN + self.fields().into_iter().flatten().map(str::len).sum::<usize>()
    }

    fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut plain = Zeroizing::new(Vec::with_capacity(self.plain_len())); // never regrown: no copy is left behind
        for field in self.fields() {
            let len = field.map_or(NONE, |text| text.len() as u32); // below 2^29: sealed_len has checked the sum
            plain.extend_from_slice(&len.to_le_bytes());
        }
        self.fields().into_iter().flatten().for_each(|text| plain.extend_from_slice(text.as_bytes()));
        plain
    }
}

/// Lengths only: none of its text belongs in a log.
impl std::fmt::Debug for Item<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Item({} bytes)", self.plain_len())
    }
}

/// Bytes of `item` when it is sealed.
///
/// # Errors
/// [`Error::TooLong`] above [`ITEM_LEN_MAX`].
pub fn sealed_len(item: &Item<'_>) -> Result<usize> {
    let len = HEADER_LEN + OVERHEAD24 + item.plain_len();
    match len <= ITEM_LEN_MAX {
        true => Ok(len),
        false => Err(Error::TooLong { what: "an item with its contents and metadata", max: ITEM_LEN_MAX, found: len }),
    }
}

/// Seals `item` under `token`, the token of its id; `key` is the ring's [`item_key`](crate::keys::Dek::item_key).
///
/// # Errors
/// [`Error::TooLong`] above [`ITEM_LEN_MAX`].
pub fn seal_item(key: &XaesKey, header: &ItemHeader, ring: &Uuid, token: &IdToken, item: &Item<'_>) -> Result<Vec<u8>> {
    let mut out = vec![0; sealed_len(item)?];
    seal_item_into(key, header, ring, token, item, &mut out)?;
    Ok(out)
}

/// As [`seal_item`], into `out` of [`sealed_len`] bytes (in Postgres: a palloc'd varlena).
///
/// # Errors
/// As [`seal_item`].
pub fn seal_item_into(
    key: &XaesKey,
    header: &ItemHeader,
    ring: &Uuid,
    token: &IdToken,
    item: &Item<'_>,
    out: &mut [u8],
) -> Result<()> {
    assert_eq!(out.len(), sealed_len(item)?, "room for exactly one item");
    assert_eq!(header.ring, ring.number(), "header of another ring");
    let (front, sealed) = out.split_at_mut(HEADER_LEN);
    front.copy_from_slice(&header.encode());
    key.seal_into(&aad(header, ring, token), &item.encode(), sealed)
}

/// Opens the item of the row whose primary key is `token`.
///
/// # Errors
/// [`Error::Malformed`] or [`Error::Version`] for bytes that are no item; [`Error::Open`] for another key, ring
/// or token, or if a bit was changed.
pub fn open_item(key: &XaesKey, ring: &Uuid, token: &IdToken, sealed: &[u8]) -> Result<OpenItem> {
    let header = ItemHeader::decode(sealed)?;
    if header.ring != ring.number() {
        return Err(Error::Open);
    }
    OpenItem::decode(key.open(&aad(&header, ring, token), &sealed[HEADER_LEN..])?)
}

/// The same item sealed anew as `header` says: `from` opens it, `to` is the item key of the header's DEK. What is in it
/// is not read.
///
/// # Errors
/// As [`open_item`].
pub fn reseal_item(
    from: &XaesKey,
    to: &XaesKey,
    header: &ItemHeader,
    ring: &Uuid,
    token: &IdToken,
    sealed: &[u8],
) -> Result<Vec<u8>> {
    let old = ItemHeader::decode(sealed)?;
    if old.ring != ring.number() || header.ring != old.ring {
        return Err(Error::Open);
    }
    let plain = from.open(&aad(&old, ring, token), &sealed[HEADER_LEN..])?;
    let mut out = vec![0; sealed.len()];
    let (front, room) = out.split_at_mut(HEADER_LEN);
    front.copy_from_slice(&header.encode());
    to.seal_into(&aad(header, ring, token), &plain, room)?;
    Ok(out)
}

fn aad(header: &ItemHeader, ring: &Uuid, token: &IdToken) -> ItemAad {
    ItemAad { ring: *ring, dek_version: header.dek_version, token: *token }
}

/// An item that was opened. Wiped on drop; Debug shows nothing of it.
pub struct OpenItem {
    plain: Zeroizing<Vec<u8>>,
    id: Range<usize>,
    contents: Option<Range<usize>>,
    metadata: Option<Range<usize>>,
}

impl OpenItem {
    fn decode(plain: Zeroizing<Vec<u8>>) -> Result<Self> {
        let (lengths, _) = plain.as_chunks::<4>();
        let [id, contents, metadata, ..] = lengths else { return Err(MALFORMED) };
        let mut end = LENGTHS_LEN;
        let mut take = |len: &[u8; 4]| -> Result<Option<Range<usize>>> {
            let len = u32::from_le_bytes(*len);
            if len == NONE {
                return Ok(None);
            }
            let start = end;
            end = start.checked_add(len as usize).filter(|end| *end <= plain.len()).ok_or(MALFORMED)?;
            std::str::from_utf8(&plain[start..end]).map_err(|_| MALFORMED)?;
            Ok(Some(start..end))
        };
        let (id, contents, metadata) = (take(id)?.ok_or(MALFORMED)?, take(contents)?, take(metadata)?);
        if end == plain.len() { Ok(Self { id, contents, metadata, plain }) } else { Err(MALFORMED) }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        self.text(&self.id)
    }

    /// Its contents.
    pub fn contents(&self) -> Option<&str> {
        self.contents.as_ref().map(|range| self.text(range))
    }

    /// Its metadata, an object, as it came.
    pub fn metadata(&self) -> Option<Json<'_>> {
        self.metadata.as_ref().map(|range| Json::checked_before(self.text(range)))
    }

    fn text(&self, range: &Range<usize>) -> &str {
        std::str::from_utf8(&self.plain[range.clone()]).expect("decode has checked it")
    }
}

impl std::fmt::Debug for OpenItem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OpenItem([redacted])")
    }
}

#[cfg(test)]
#[path = "sealed_tests.rs"]
mod tests;
