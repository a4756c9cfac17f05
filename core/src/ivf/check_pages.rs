//! Check, page by page: what the clear heads of every page must say of the page itself, reachable or not.
//!
//! Nothing reads most of these fields on the way to a row, so damage to them would wait until VACUUM or a merge
//! believes it.

use super::pages;
use crate::{
    Error, Result,
    format::{
        directory::PIECE_PLAIN_MAX,
        list::{MAP_ENTRIES, MapEntry},
        meta::Meta,
        slot::{ChildBlock, LeafHeader, NodeHeader, SlotEntry},
        vector::{FREE_SLOT, VectorPage, records},
    },
    store::{Block, Clear, NO_BLOCK, PageKind, PageStore, body},
};

/// Checks each block by itself. Inserts and VACUUM may go on: each leaves every page valid.
pub fn check_pages<S: PageStore>(store: &S) -> Result<()> {
    for block in 0..store.blocks()? {
        store.check_interrupts()?;
        let page = store.read(block)?;
        let kind = pages::known(&page, block)?;
        if let Err(what) = check_page(kind, block, body(&page)) {
            return Err(Error::Corrupt { block, what });
        }
    }
    Ok(())
}

fn check_page(kind: PageKind, block: Block, body: &[u8]) -> Result<(), &'static str> {
    if (kind == PageKind::Meta) != (block == 0) {
        return Err("the meta page lies elsewhere than in block 0");
    }
    match kind {
        PageKind::SlotDirectory => {
            let node = node(body)?;
            expect(node.level > 0 && node.next == NO_BLOCK && node.bytes == 0, "malformed slot directory node")
        }
        PageKind::MapDirectory => {
            let node = NodeHeader { count: 0, ..node(body)? };
            let plain = NodeHeader { key: 0, count: 0, level: 0, next: NO_BLOCK, bytes: 0 };
            expect(node == plain, "malformed root of the list map")
        }
        PageKind::DirectoryIndex => {
            let node = node(body)?;
            let bytes = node.count as usize * PIECE_PLAIN_MAX;
            expect(node.level == 0 && node.bytes as usize == bytes, "malformed index page of the centroid directory")
        }
        PageKind::SlotLeaf => slot_leaf(body),
        PageKind::ListMap => list_map(body),
        PageKind::Vector => vector_page(body),
        PageKind::Meta => expect(Meta::read(body).is_ok(), "malformed index meta page"),
        // Free pages hold nothing; what the others hold is sealed, or checked where they are read.
        PageKind::Free | PageKind::Overflow | PageKind::List | PageKind::Directory => Ok(()),
    }
}

fn expect(valid: bool, what: &'static str) -> Result<(), &'static str> {
    if valid { Ok(()) } else { Err(what) }
}

/// A node whose page ends with its last child.
fn node(body: &[u8]) -> Result<NodeHeader, &'static str> {
    let node = NodeHeader::at(body, 0).ok_or("malformed node")?;
    expect(body.len() == ChildBlock::offset(node.count as usize), "a node ends elsewhere than its count says")?;
    Ok(node)
}

fn slot_leaf(body: &[u8]) -> Result<(), &'static str> {
    let leaf = LeafHeader::at(body, 0).ok_or("malformed slot leaf")?;
    let end = LeafHeader::LEN + usize::from(leaf.count) * SlotEntry::LEN;
    expect(body.len() == end, "a slot leaf ends elsewhere than its count says")?;
    let mut offsets = (LeafHeader::LEN..end).step_by(SlotEntry::LEN);
    expect(offsets.all(|offset| SlotEntry::at(body, offset).is_some()), "malformed slot entry")
}

fn list_map(body: &[u8]) -> Result<(), &'static str> {
    expect(body.len() == MAP_ENTRIES * MapEntry::LEN, "a page of the list map is cut short")?;
    let valid = |position: u32| {
        let entry = MapEntry::at(body, MapEntry::offset(position));
        entry.is_some_and(|entry| entry.uid != 0 || entry == MapEntry::FREE)
    };
    expect((0..MAP_ENTRIES as u32).all(valid), "malformed list map entry")
}

fn vector_page(body: &[u8]) -> Result<(), &'static str> {
    let page = VectorPage::at(body, 0).ok_or("malformed vector page")?;
    let mut live = 0;
    for record in records(body) {
        let record = record.ok_or("malformed vector record")?;
        live += u16::from(record.header.slot != FREE_SLOT);
    }
    expect(live == page.live, "a vector page has another number of records than it says")
}
