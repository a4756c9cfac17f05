//! Vector pages: sealed records found by slot number, one a row, movable without a key.
//!
//! A record page is a [`VectorPage`] header and records back to back: [`RecordHeader`], payload.
//! A freed record keeps its length with slot [`FREE_SLOT`], so that the next one of that length
//! (nearly always) takes its place without moving a byte.
//!
//! An indexed record opens to: rounding error f32, inverse norm f32 (0 = not normalised), elements.
//! Rows too long for one page spill into [`OverflowHeader`] pages.

use super::{Precision, Reader, Writer};
use crate::store::{BODY, Block, Clear};

/// Slot number of a freed record.
pub const FREE_SLOT: u64 = u64::MAX;
/// Bytes before the first record.
pub const PAGE_HEADER: usize = VectorPage::LEN;
/// Longest payload of a record that shares no page.
pub const PAYLOAD_MAX: usize = BODY - PAGE_HEADER - RecordHeader::LEN;
/// Longest part in an overflow page.
pub const PART_MAX: usize = BODY - OverflowHeader::LEN;

/// Head of a vector page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VectorPage {
    /// Records that are not free.
    pub live: u16,
}

impl Clear for VectorPage {
    const LEN: usize = 8;

    fn encode(&self, out: &mut [u8]) {
        Writer(out).u16(self.live).bytes(&[0; 6]);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut r = Reader(bytes);
        let live = r.u16();
        (r.bytes::<6>() == [0; 6]).then_some(Self { live })
    }
}

/// What a record's payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RecordKind {
    /// Sealed in index precision under the index's keys.
    Indexed = 1,
    /// The column's sealed value as it came, because the ring was locked.
    Verbatim = 2,
    /// The first part of an `Indexed` record that spans pages, behind an [`OverflowLink`].
    IndexedHead = 3,
    /// The first part of a `Verbatim` one.
    VerbatimHead = 4,
}

/// Head of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// Its slot, or [`FREE_SLOT`].
    pub slot: u64,
    /// What the payload is.
    pub kind: RecordKind,
    /// Payload bytes.
    pub len: u16,
}

impl Clear for RecordHeader {
    const LEN: usize = 10;

    fn encode(&self, out: &mut [u8]) {
        Writer(out).u64(self.slot).u16(self.len | (self.kind as u16) << 13);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut r = Reader(bytes);
        let (slot, packed) = (r.u64(), r.u16());
        let kind = match packed >> 13 {
            1 => RecordKind::Indexed,
            2 => RecordKind::Verbatim,
            3 => RecordKind::IndexedHead,
            4 => RecordKind::VerbatimHead,
            _ => return None,
        };
        Some(Self { slot, kind, len: packed & 0x1fff })
    }
}

/// Head of a payload that goes on in overflow pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverflowLink {
    /// Random name of the record, in each of its pages.
    pub record: u64,
    /// The next part.
    pub next: Block,
    /// Parts, this one included.
    pub parts: u16,
}

impl Clear for OverflowLink {
    const LEN: usize = 14;

    fn encode(&self, out: &mut [u8]) {
        Writer(out).u64(self.record).u32(self.next).u16(self.parts);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut r = Reader(bytes);
        Some(Self { record: r.u64(), next: r.u32(), parts: r.u16() })
    }
}

/// Head of an overflow page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverflowHeader {
    /// The record that it belongs to.
    pub record: u64,
    /// Number of the part, from 1 (0 is in the vector page).
    pub part: u16,
    /// Sealed bytes that follow.
    pub len: u16,
    /// The next part; 0 after the last.
    pub next: Block,
    /// The inserting transaction: a page that no record links to is an orphan once it ended.
    pub xid: u32,
}

impl Clear for OverflowHeader {
    const LEN: usize = 20;

    fn encode(&self, out: &mut [u8]) {
        Writer(out).u64(self.record).u16(self.part).u16(self.len).u32(self.next).u32(self.xid);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut r = Reader(bytes);
        let header = Self { record: r.u64(), part: r.u16(), len: r.u16(), next: r.u32(), xid: r.u32() };
        (header.len as usize <= PART_MAX && header.part > 0).then_some(header)
    }
}

/// A record on a vector page.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Offset of its header in the body.
    pub offset: usize,
    /// Its header.
    pub header: RecordHeader,
    /// Its payload.
    pub payload: &'a [u8],
}

/// Every record of a page body, freed ones too; `None` stands for a malformed rest.
pub fn records(body: &[u8]) -> impl Iterator<Item = Option<Record<'_>>> {
    let mut offset = PAGE_HEADER;
    let mut broken = VectorPage::at(body, 0).is_none();
    std::iter::from_fn(move || {
        if std::mem::take(&mut broken) {
            offset = body.len();
            return Some(None);
        }
        if offset >= body.len() {
            return None;
        }
        let record = record_at(body, offset);
        match record {
            Some(record) => offset += RecordHeader::LEN + record.payload.len(),
            None => offset = body.len(),
        }
        Some(record)
    })
}

/// The record whose header lies at `offset`.
pub fn record_at(body: &[u8], offset: usize) -> Option<Record<'_>> {
    let header = RecordHeader::at(body, offset)?;
    let start = offset + RecordHeader::LEN;
    let payload = body.get(start..start + header.len as usize)?;
    Some(Record { offset, header, payload })
}

/// The record of `slot`: at the hinted offset, else wherever it has moved in this page.
pub fn find(body: &[u8], slot: u64, hint: u16) -> Option<Record<'_>> {
    let hinted = record_at(body, hint as usize).filter(|r| r.header.slot == slot && hint as usize >= PAGE_HEADER);
    hinted.or_else(|| records(body).flatten().find(|record| record.header.slot == slot))
}

/// Plaintext bytes of an indexed record.
pub fn plain_len(dims: usize, precision: Precision) -> usize {
    PLAIN_HEADER + dims * precision.element_bytes()
}

/// Bytes of an indexed record's plaintext before the elements.
pub const PLAIN_HEADER: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::OVERHEAD;

    #[test]
    fn ten_rows_a_page_at_384_float16() {
        let record = RecordHeader::LEN + plain_len(384, Precision::Float16) + OVERHEAD;
        assert!(record <= 816, "the design's budget, got {record}");
        assert_eq!((BODY - PAGE_HEADER) / record, 10);
    }

    #[test]
    fn headers_round_trip() {
        let header = RecordHeader { slot: 77, kind: RecordKind::VerbatimHead, len: PAYLOAD_MAX as u16 };
        let mut bytes = [0; RecordHeader::LEN];
        header.encode(&mut bytes);
        assert_eq!(RecordHeader::decode(&bytes), Some(header));
        bytes[9] &= 0x1f;
        assert_eq!(RecordHeader::decode(&bytes), None, "kind 0 was never written");
    }

    #[test]
    fn a_malformed_rest_is_told() {
        let mut body = vec![0u8; PAGE_HEADER + 20];
        assert!(matches!(records(&body).last(), Some(None)));
        body[0..8].copy_from_slice(&[1, 0, 1, 0, 0, 0, 0, 0]);
        assert!(matches!(records(&body).last(), Some(None)), "reserved bytes are zero");
    }
}
