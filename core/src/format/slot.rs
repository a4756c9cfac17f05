//! The slot map: slot directory nodes and slot leaves, all clear, so that VACUUM needs no key.
//!
//! Slot numbers are 64-bit, grow and are never reused. Every leaf holds [`LEAF_SLOTS`] of them, so
//! leaf `n` starts at slot `n * LEAF_SLOTS` and the directory is a radix tree over `n`.

use super::{Reader, Tid, Writer};
use crate::store::{BODY, Block, Clear, NO_BLOCK};

/// Slots of one leaf.
pub const LEAF_SLOTS: usize = (BODY - LeafHeader::LEN) / SlotEntry::LEN;
/// Children of one directory node (also of the list map's and the directory's block arrays).
pub const NODE_CHILDREN: usize = (BODY - NodeHeader::LEN) / ChildBlock::LEN;

/// Head of a slot leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeafHeader {
    /// Number of the leaf's first slot.
    pub first_slot: u64,
    /// Entries in use; a full leaf is closed.
    pub count: u16,
    /// Vector page that the last insert went to: a hint.
    pub vector_page: Block,
}

impl Clear for LeafHeader {
    const LEN: usize = 16;

    fn encode(&self, out: &mut [u8]) {
        Writer(out).u64(self.first_slot).u16(self.count).u16(0).u32(self.vector_page);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut r = Reader(bytes);
        let (first_slot, count, reserved) = (r.u64(), r.u16(), r.u16());
        let valid = reserved == 0 && count as usize <= LEAF_SLOTS && first_slot.is_multiple_of(LEAF_SLOTS as u64);
        valid.then(|| Self { first_slot, count, vector_page: r.u32() })
    }
}

/// Whether a slot still stands for a heap row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SlotState {
    /// Its heap row may be visible to somebody.
    Live = 1,
    /// VACUUM found its heap row gone. Final.
    Dead = 2,
}

/// One slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotEntry {
    /// The heap row.
    pub tid: Tid,
    /// Live or dead.
    pub state: SlotState,
    /// Page of the vector record; the record itself carries the slot number.
    pub block: Block,
    /// Offset of the record in that page when it was written: a hint.
    pub offset: u16,
}

impl Clear for SlotEntry {
    const LEN: usize = 16;

    fn encode(&self, out: &mut [u8]) {
        Writer(out).bytes(&self.tid.to_bytes()).u8(self.state as u8).u8(0).u32(self.block).u16(self.offset).u16(0);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut r = Reader(bytes);
        let tid = Tid::from_bytes(r.bytes());
        let state = match (r.u8(), r.u8()) {
            (1, 0) => SlotState::Live,
            (2, 0) => SlotState::Dead,
            _ => return None,
        };
        let (block, offset) = (r.u32(), r.u16());
        (r.u16() == 0).then_some(Self { tid, state, block, offset })
    }
}

/// Offset of entry `index` in a leaf's body.
pub fn entry_offset(index: usize) -> usize {
    LeafHeader::LEN + index * SlotEntry::LEN
}

/// Head of a page that is an array of blocks: a slot directory node, the list map's root, a
/// directory index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeHeader {
    /// Slot directory: number of the first leaf below. Directory index: its epoch. List map: 0.
    pub key: u64,
    /// Children in use.
    pub count: u32,
    /// Slot directory: levels between this node and the leaves, from 1. Others: 0.
    pub level: u32,
    /// Directory index: the next index page. Others: 0.
    pub next: Block,
    /// Directory index: bytes of plaintext below this page. Others: 0.
    pub bytes: u32,
}

/// No node has a key from here on: leaves and epochs are counted one by one, and slots of such a leaf would not fit.
const KEY_END: u64 = 1 << 52;

impl Clear for NodeHeader {
    const LEN: usize = 24;

    fn encode(&self, out: &mut [u8]) {
        Writer(out).u64(self.key).u32(self.count).u32(self.level).u32(self.next).u32(self.bytes);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut r = Reader(bytes);
        let header = Self { key: r.u64(), count: r.u32(), level: r.u32(), next: r.u32(), bytes: r.u32() };
        (header.count as usize <= NODE_CHILDREN && header.key < KEY_END).then_some(header)
    }
}

/// One child of a node; [`NO_BLOCK`] where the child was freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChildBlock(pub Block);

impl ChildBlock {
    /// A freed child.
    pub const NONE: Self = Self(NO_BLOCK);

    /// Offset of child `index` in a node's body.
    pub fn offset(index: usize) -> usize {
        NodeHeader::LEN + index * Self::LEN
    }
}

impl Clear for ChildBlock {
    const LEN: usize = 4;

    fn encode(&self, out: &mut [u8]) {
        Writer(out).u32(self.0);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        Some(Self(Reader(bytes).u32()))
    }
}

/// Leaves below one child of a node at `level` (1 = the children are leaves).
pub fn leaves_per_child(level: u32) -> u64 {
    (NODE_CHILDREN as u64).saturating_pow(level.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_round_trip() {
        let entry =
            SlotEntry { tid: Tid { block: 7, offset: 9 }, state: SlotState::Dead, block: 0x01020304, offset: 8148 };
        let mut bytes = [0; SlotEntry::LEN];
        entry.encode(&mut bytes);
        assert_eq!(SlotEntry::decode(&bytes), Some(entry));
        assert_eq!(bytes, [7, 0, 0, 0, 9, 0, 2, 0, 4, 3, 2, 1, 0xd4, 0x1f, 0, 0], "golden bytes of format 1");
        for (at, value) in [(6, 0), (6, 3), (7, 1), (15, 1)] {
            let mut bad = bytes;
            bad[at] = value;
            assert_eq!(SlotEntry::decode(&bad), None, "byte {at} = {value}");
        }
    }

    #[test]
    fn a_leaf_starts_at_a_multiple() {
        let mut bytes = [0; LeafHeader::LEN];
        LeafHeader { first_slot: 2 * LEAF_SLOTS as u64, count: 3, vector_page: 5 }.encode(&mut bytes);
        assert!(LeafHeader::decode(&bytes).is_some());
        bytes[0] ^= 1;
        assert_eq!(LeafHeader::decode(&bytes), None);
    }

    #[test]
    fn pages_hold_what_the_design_says() {
        assert_eq!(LEAF_SLOTS, 509);
        assert_eq!(NODE_CHILDREN, 2034);
        assert_eq!(leaves_per_child(1), 1);
        assert_eq!(leaves_per_child(2), 2034);
    }
}
