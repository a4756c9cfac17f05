//! Lists: the clear list map, list pages and the clear heads of their sealed chunks.
//!
//! A chunk opens to a base slot (u64) and blocks of 32 rows: the block of `math::code`, then 32
//! slot deltas (u32, `u32::MAX` behind the last row). The last block is short if it has at most 16
//! rows, and then has as many deltas. A chunk that is longer than a page lies in
//! pieces on consecutive pages of its list.

use super::{Reader, Writer};
use crate::{
    math::code::{BlockLayout, SHORT_ROWS},
    store::{BODY, Block, Clear},
};

/// Rows of one block.
pub const BLOCK_ROWS: usize = 32;
/// Most blocks of one chunk.
pub const CHUNK_BLOCKS_MAX: usize = 4;
/// A `died` that has not come.
pub const NEVER: u64 = u64::MAX;
/// Entries of a list map page.
pub const MAP_ENTRIES: usize = BODY / MapEntry::LEN;

/// One list: where it is and when it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapEntry {
    /// The list; 0 = a free position.
    pub uid: u64,
    /// First page; 0 = no rows yet.
    pub head: Block,
    /// Last page.
    pub tail: Block,
    /// Data epoch that published it.
    pub born: u64,
    /// Data epoch that ended it, or [`NEVER`].
    pub died: u64,
    /// Rows ever appended, dead ones too.
    pub rows: u32,
    /// Chunks ever appended.
    pub chunks: u32,
}

impl MapEntry {
    /// A free position.
    pub const FREE: Self = Self { uid: 0, head: 0, tail: 0, born: 0, died: 0, rows: 0, chunks: 0 };

    /// Whether a scan that read data epoch `epoch` uses this list.
    pub fn live_at(&self, epoch: u64) -> bool {
        self.uid != 0 && self.born <= epoch && epoch < self.died
    }

    /// Offset of position `position` in its map page's body.
    pub fn offset(position: u32) -> usize {
        position as usize % MAP_ENTRIES * Self::LEN
    }
}

impl Clear for MapEntry {
    const LEN: usize = 40;

    fn encode(&self, out: &mut [u8]) {
        Writer(out)
            .u64(self.uid)
            .u32(self.head)
            .u32(self.tail)
            .u64(self.born)
            .u64(self.died)
            .u32(self.rows)
            .u32(self.chunks);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut r = Reader(bytes);
        let entry = Self {
            uid: r.u64(),
            head: r.u32(),
            tail: r.u32(),
            born: r.u64(),
            died: r.u64(),
            rows: r.u32(),
            chunks: r.u32(),
        };
        ((entry.head == 0) == (entry.tail == 0)).then_some(entry)
    }
}

/// Head of a list page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListPage {
    /// The list.
    pub uid: u64,
    /// Number of the page in its list, from 0.
    pub ordinal: u32,
    /// The next page; 0 after the last.
    pub next: Block,
}

impl Clear for ListPage {
    const LEN: usize = 16;

    fn encode(&self, out: &mut [u8]) {
        Writer(out).u64(self.uid).u32(self.ordinal).u32(self.next);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut r = Reader(bytes);
        let page = Self { uid: r.u64(), ordinal: r.u32(), next: r.u32() };
        (page.uid != 0).then_some(page)
    }
}

/// Head of a chunk, or of a piece of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkHeader {
    /// Data epoch that published it.
    pub born: u64,
    /// Number of the chunk in its list, from 0.
    pub ordinal: u32,
    /// Rows, 1 to 128.
    pub rows: u16,
    /// Number of this piece, from 0.
    pub piece: u8,
    /// Pieces of the chunk.
    pub pieces: u8,
    /// Sealed bytes of this piece.
    pub len: u16,
}

impl Clear for ChunkHeader {
    const LEN: usize = 20;

    fn encode(&self, out: &mut [u8]) {
        Writer(out).u64(self.born).u32(self.ordinal).u16(self.rows).u8(self.piece).u8(self.pieces).u16(self.len).u16(0);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut r = Reader(bytes);
        let header =
            Self { born: r.u64(), ordinal: r.u32(), rows: r.u16(), piece: r.u8(), pieces: r.u8(), len: r.u16() };
        let rows = 1..=(BLOCK_ROWS * CHUNK_BLOCKS_MAX) as u16;
        (rows.contains(&header.rows) && header.piece < header.pieces && r.u16() == 0).then_some(header)
    }
}

/// A chunk, or a piece of one, on a list page.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// Offset of its header in the body.
    pub offset: usize,
    /// Its head.
    pub header: ChunkHeader,
    /// Its sealed bytes.
    pub sealed: &'a [u8],
}

/// The piece whose header lies at `offset`.
pub fn piece_at(body: &[u8], offset: usize) -> Option<Piece<'_>> {
    let header = ChunkHeader::at(body, offset)?;
    let start = offset + ChunkHeader::LEN;
    Some(Piece { offset, header, sealed: body.get(start..start + header.len as usize)? })
}

/// Every piece of a page body; `None` stands for a malformed rest.
pub fn pieces(body: &[u8]) -> impl Iterator<Item = Option<Piece<'_>>> {
    let mut offset = ListPage::LEN;
    std::iter::from_fn(move || {
        if offset >= body.len() {
            return None;
        }
        let piece = piece_at(body, offset);
        offset = piece.map_or(body.len(), |piece| offset + ChunkHeader::LEN + piece.sealed.len());
        Some(piece)
    })
}

/// How chunks of an index of some dimension lie.
#[derive(Clone, Copy, Debug)]
pub struct ChunkLayout {
    /// The columnar block of 32 codes.
    pub block: BlockLayout,
    /// Blocks that one chunk may have.
    pub blocks_max: usize,
}

/// Bytes of a chunk's plaintext before its blocks: the base slot.
pub const CHUNK_PREFIX: usize = 8;
/// Longest piece.
pub const PIECE_MAX: usize = BODY - ListPage::LEN - ChunkHeader::LEN;

impl ChunkLayout {
    /// The layout for vectors of `dims` elements: as many blocks as fit one page, at least one.
    pub fn new(dims: usize) -> Self {
        let block = BlockLayout::new(dims);
        let room = PIECE_MAX - crate::crypto::OVERHEAD - CHUNK_PREFIX;
        let fit = room / Self { block, blocks_max: 1 }.block_bytes(BLOCK_ROWS);
        Self { block, blocks_max: fit.clamp(1, CHUNK_BLOCKS_MAX) }
    }

    /// Bytes of a block of `rows` rows with its slot deltas.
    fn block_bytes(&self, rows: usize) -> usize {
        let deltas = if rows > SHORT_ROWS { BLOCK_ROWS } else { rows };
        self.block.block_bytes(rows) + deltas * 4
    }

    /// Bytes of the plaintext of a chunk of `rows` rows.
    pub fn plain_len(&self, rows: usize) -> usize {
        let last = if rows.is_multiple_of(BLOCK_ROWS) { 0 } else { self.block_bytes(rows % BLOCK_ROWS) };
        CHUNK_PREFIX + rows / BLOCK_ROWS * self.block_bytes(BLOCK_ROWS) + last
    }

    /// Rows that one chunk may have.
    pub fn rows_max(&self) -> usize {
        self.blocks_max * BLOCK_ROWS
    }

    /// Where block `index` of a chunk of `rows` rows lies in its plaintext, and where its slot deltas begin in it.
    pub fn block_at(&self, rows: usize, index: usize) -> (std::ops::Range<usize>, usize) {
        let start = CHUNK_PREFIX + index * self.block_bytes(BLOCK_ROWS);
        let rows = (rows - index * BLOCK_ROWS).min(BLOCK_ROWS);
        (start..start + self.block_bytes(rows), self.block.block_bytes(rows))
    }

    /// Codes and slot deltas of block `index` of an opened chunk of `rows` rows.
    pub fn split<'a>(&self, plain: &'a [u8], rows: usize, index: usize) -> (&'a [u8], &'a [u8]) {
        let (range, deltas) = self.block_at(rows, index);
        plain[range].split_at(deltas)
    }
}

/// The slots of the first `rows` rows of a block, from the chunk's base and the block's deltas.
pub fn slots_of(base: u64, deltas: &[u8], rows: usize) -> impl ExactSizeIterator<Item = u64> {
    let (deltas, _) = deltas[..rows * 4].as_chunks();
    deltas.iter().map(move |delta| base + u64::from(u32::from_le_bytes(*delta)))
}

/// The base slot of an opened chunk.
pub fn base_slot(plain: &[u8]) -> u64 {
    u64::from_le_bytes(plain[..8].try_into().expect("eight bytes"))
}
