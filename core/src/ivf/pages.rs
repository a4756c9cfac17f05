//! Reading pages with their kind checked under the lock.

use crate::{
    Error, Result,
    store::{Action, Block, PAGE, PageKind, PageStore, Slot, kind},
};

/// Reads `block`, which must be of `wanted` kind: for pages that never move.
pub fn read<S: PageStore>(store: &S, block: Block, wanted: PageKind) -> Result<S::Page<'_>> {
    let page = store.read(block)?;
    check(&page, block, wanted)?;
    Ok(page)
}

/// Reads `block` if it is of `wanted` kind: for pages that may have been freed and taken again.
pub fn read_if<S: PageStore>(store: &S, block: Block, wanted: PageKind) -> Result<Option<S::Page<'_>>> {
    let page = store.read(block)?;
    Ok((known(&page, block)? == wanted).then_some(page))
}

/// Locks `block` exclusively; it must be of `wanted` kind.
pub fn update<A: Action>(action: &mut A, block: Block, wanted: PageKind) -> Result<Slot> {
    let slot = action.update(block)?;
    check(action.page(slot), block, wanted)?;
    Ok(slot)
}

/// The kind of a page, if any version of this format knows it.
pub fn known(page: &[u8; PAGE], block: Block) -> Result<PageKind> {
    kind(page).ok_or(Error::Corrupt { block, what: "not a page of this index format" })
}

fn check(page: &[u8; PAGE], block: Block, wanted: PageKind) -> Result<()> {
    if known(page, block)? == wanted { Ok(()) } else { Err(Error::Corrupt { block, what: expected(wanted) }) }
}

fn expected(kind: PageKind) -> &'static str {
    match kind {
        PageKind::Free => "expected a free page",
        PageKind::Meta => "expected the meta page",
        PageKind::SlotDirectory => "expected a slot directory node",
        PageKind::SlotLeaf => "expected a slot leaf",
        PageKind::Vector => "expected a vector page",
        PageKind::Overflow => "expected an overflow page",
        PageKind::MapDirectory => "expected the list map's root",
        PageKind::ListMap => "expected a list map page",
        PageKind::List => "expected a list page",
        PageKind::DirectoryIndex => "expected a directory index page",
        PageKind::Directory => "expected a directory page",
    }
}
