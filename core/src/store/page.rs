//! The image of one page: 24 bytes that belong to Postgres, a body that grows as a prefix, 8 bytes of tail.
//!
//! | offset | size | meaning |
//! | --- | --- | --- |
//! | 0 | 24 | Postgres page header; `pd_lower` at 12 ends the used part of the body |
//! | 24 | 8,160 | body: only the first `used` bytes mean anything |
//! | 8,184 | 1 | page kind |
//! | 8,185 | 1 | page format version |
//! | 8,186 | 4 | reserved, zero |
//! | 8,190 | 2 | page id 0x5EA1, "for the convenience of pg_filedump" |
//!
//! Bytes behind `used` are a hole: neither logged nor kept. Only [`Clear`] headers and
//! [`Sealed`] bytes can be written, so plaintext on a page is a compile error.

use crate::{
    crypto::Sealed,
    format::value::{ValueHeader, ValueKind},
};

/// Bytes of a page image (`BLCKSZ`).
pub const PAGE: usize = 8192;
/// Bytes of a page body.
pub const BODY: usize = PAGE - HEADER - TAIL;
const HEADER: usize = 24;
const TAIL: usize = 8;
const LOWER: usize = 12;
const KIND: usize = PAGE - TAIL;
const VERSION: usize = KIND + 1;
const PAGE_ID: usize = PAGE - 2;
const PAGE_ID_VALUE: u16 = 0x5EA1;
/// Format version of every page kind.
pub const PAGE_VERSION: u8 = 1;

/// What a page is. Numbers are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PageKind {
    /// Nothing; also what a zero page, left by a crash while the relation grew, counts as.
    Free = 0,
    /// Block 0.
    Meta = 1,
    /// Blocks of children of the slot directory.
    SlotDirectory = 2,
    /// Slot entries.
    SlotLeaf = 3,
    /// Sealed vector records.
    Vector = 4,
    /// One part of a record that spans pages.
    Overflow = 5,
    /// Blocks of the list map.
    MapDirectory = 6,
    /// Entries of the list map.
    ListMap = 7,
    /// Chunks of one list.
    List = 8,
    /// Blocks of the centroid directory.
    DirectoryIndex = 9,
    /// A sealed piece of the centroid directory.
    Directory = 10,
}

impl PageKind {
    fn from_byte(byte: u8) -> Option<Self> {
        use PageKind::*;
        [Free, Meta, SlotDirectory, SlotLeaf, Vector, Overflow, MapDirectory, ListMap, List, DirectoryIndex, Directory]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// What `page` is; `None` if it is no page of this format version.
pub fn kind(page: &[u8; PAGE]) -> Option<PageKind> {
    let lower = u16::from_ne_bytes([page[LOWER], page[LOWER + 1]]);
    if lower == 0 && page[KIND..].iter().all(|byte| *byte == 0) {
        return Some(PageKind::Free); // a zero page
    }
    let id = u16::from_le_bytes([page[PAGE_ID], page[PAGE_ID + 1]]);
    if id != PAGE_ID_VALUE || page[VERSION] != PAGE_VERSION || page[PAGE_ID - 4..PAGE_ID] != [0; 4] {
        return None;
    }
    PageKind::from_byte(page[KIND])
}

/// The used part of the body.
pub fn body(page: &[u8; PAGE]) -> &[u8] {
    &page[HEADER..HEADER + used(page)]
}

fn used(page: &[u8; PAGE]) -> usize {
    let lower = u16::from_ne_bytes([page[LOWER], page[LOWER + 1]]) as usize;
    lower.clamp(HEADER, HEADER + BODY) - HEADER
}

/// Formats `page` as an empty page of `kind`, leaving what Postgres keeps in its header alone
/// but for `pd_lower`. Postgres has run `PageInit` with 8 bytes of special space before.
pub fn init(page: &mut [u8; PAGE], kind: PageKind) {
    page[HEADER..].fill(0);
    page[LOWER..LOWER + 2].copy_from_slice(&(HEADER as u16).to_ne_bytes());
    page[KIND] = kind as u8;
    page[VERSION] = PAGE_VERSION;
    page[PAGE_ID..].copy_from_slice(&PAGE_ID_VALUE.to_le_bytes());
}

/// A clear header or entry: the only bytes besides [`Sealed`] that a page takes.
///
/// Everything that implements this is listed in `docs/THREAT_MODEL.md`.
pub trait Clear: Sized {
    /// Encoded length.
    const LEN: usize;
    /// Writes exactly [`Clear::LEN`] bytes.
    fn encode(&self, out: &mut [u8]);
    /// Reads them back; `None` for bytes that no version wrote.
    fn decode(bytes: &[u8]) -> Option<Self>;

    /// Decodes the value at `offset` of a page body.
    fn at(body: &[u8], offset: usize) -> Option<Self> {
        Self::decode(body.get(offset..offset.checked_add(Self::LEN)?)?)
    }
}

/// A page image that may be changed.
pub struct PageMut<'a>(&'a mut [u8; PAGE]);

impl<'a> PageMut<'a> {
    /// Wraps a private copy.
    pub fn new(page: &'a mut [u8; PAGE]) -> Self {
        Self(page)
    }

    /// What the page is.
    pub fn kind(&self) -> Option<PageKind> {
        kind(self.0)
    }

    /// The used part of the body.
    pub fn body(&self) -> &[u8] {
        body(self.0)
    }

    /// Bytes of the body in use.
    pub fn used(&self) -> usize {
        used(self.0)
    }

    /// Grows or cuts the used part; what comes in reads as zero.
    pub fn set_used(&mut self, bytes: usize) {
        assert!(bytes <= BODY, "a page body has {BODY} bytes");
        let before = self.used();
        if bytes > before {
            self.0[HEADER + before..HEADER + bytes].fill(0);
        } else {
            self.0[HEADER + bytes..HEADER + before].fill(0);
        }
        self.0[LOWER..LOWER + 2].copy_from_slice(&((HEADER + bytes) as u16).to_ne_bytes());
    }

    /// Formats the page anew as an empty page of `kind`.
    pub fn reformat(&mut self, kind: PageKind) {
        init(self.0, kind);
    }

    /// Empties the page; on commit it is remembered as free.
    pub fn free(&mut self) {
        self.reformat(PageKind::Free);
    }

    /// Writes a clear header or entry inside the used part.
    pub fn write<T: Clear>(&mut self, offset: usize, value: &T) {
        value.encode(self.room(offset, T::LEN));
    }

    /// Writes a clear entry, growing the used part to hold it.
    pub fn write_grow<T: Clear>(&mut self, offset: usize, value: &T) {
        self.grow(offset + T::LEN);
        self.write(offset, value);
    }

    /// Writes sealed bytes, growing the used part to hold them.
    pub fn write_sealed(&mut self, offset: usize, sealed: &Sealed) {
        self.copy_sealed(offset, SealedBytes(sealed.as_bytes()));
    }

    /// Copies bytes that are already sealed, growing the used part to hold them.
    pub fn copy_sealed(&mut self, offset: usize, sealed: SealedBytes<'_>) {
        self.grow(offset + sealed.0.len());
        self.room(offset, sealed.0.len()).copy_from_slice(sealed.0);
    }

    fn grow(&mut self, bytes: usize) {
        if bytes > self.used() {
            self.set_used(bytes);
        }
    }

    fn room(&mut self, offset: usize, len: usize) -> &mut [u8] {
        assert!(offset + len <= self.used(), "written inside the used part");
        &mut self.0[HEADER + offset..HEADER + offset + len]
    }
}

/// Borrowed bytes that are known to be sealed: a part of a [`Sealed`], a record that lies on a
/// page already, or a column value. The constructors are the proof; there is no other way in.
#[derive(Clone, Copy)]
pub struct SealedBytes<'a>(&'a [u8]);

impl<'a> SealedBytes<'a> {
    /// The whole of `sealed`.
    pub fn of(sealed: &'a Sealed) -> Self {
        Self(sealed.as_bytes())
    }

    /// A record as it lies on a page: what is on a page was sealed when it came there.
    pub(crate) fn on_page(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// A column value, whose header says that it is sealed for a ring.
    pub fn column_value(bytes: &'a [u8]) -> Option<Self> {
        let header = ValueHeader::decode(bytes).ok()?;
        (header.kind() == ValueKind::Column).then_some(Self(bytes))
    }

    /// Bytes `range` of these.
    pub fn part(self, range: std::ops::Range<usize>) -> Self {
        Self(&self.0[range])
    }

    /// Length in bytes.
    pub fn len(self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }
}
