//! Lists on pages: the map of lists, chains of chunks, and how both are written and freed.
//!
//! Only the holder of the maintenance lock writes here.

use std::ops::Range;

use super::{
    opened::{OpenedChunk, OpenedPages, PageName},
    pages,
};
use crate::{
    Error, Result,
    crypto::ChunkAad,
    format::{
        list::{
            CHUNK_PREFIX, ChunkHeader, ChunkLayout, ListPage, MAP_ENTRIES, MapEntry, NEVER, PIECE_MAX, Piece, pieces,
        },
        meta::{META_BLOCK, Meta},
        slot::{ChildBlock, NODE_CHILDREN, NodeHeader},
    },
    keys::IndexKeys,
    store::{Action, BODY, Block, Clear, NO_BLOCK, PAGE, PageKind, PageStore, SealedBytes, body},
    wipe::{Plain, wipe},
};

/// The map page that holds `position`.
fn map_page<S: PageStore>(store: &S, meta: &Meta, position: u32) -> Result<Block> {
    let block = meta.map_root;
    let page = pages::read(store, block, PageKind::MapDirectory)?;
    let child = ChildBlock::at(body(&page), ChildBlock::offset(position as usize / MAP_ENTRIES));
    child.map(|child| child.0).ok_or(Error::Corrupt { block, what: "the list map ends before a list" })
}

/// Reads the entry at `position`.
pub fn entry<S: PageStore>(store: &S, meta: &Meta, position: u32) -> Result<MapEntry> {
    if position >= meta.map_len {
        return Err(Error::Corrupt { block: META_BLOCK, what: "a list lies beyond the list map" });
    }
    let block = map_page(store, meta, position)?;
    let page = pages::read(store, block, PageKind::ListMap)?;
    MapEntry::at(body(&page), MapEntry::offset(position))
        .ok_or(Error::Corrupt { block, what: "malformed list map entry" })
}

/// Every entry with its position, free ones left out.
pub fn entries<S: PageStore>(store: &S, meta: &Meta) -> Result<Vec<(u32, MapEntry)>> {
    let mut all = Vec::new();
    for first in (0..meta.map_len).step_by(MAP_ENTRIES) {
        let block = map_page(store, meta, first)?;
        let page = pages::read(store, block, PageKind::ListMap)?;
        for position in first..meta.map_len.min(first + MAP_ENTRIES as u32) {
            let entry = MapEntry::at(body(&page), MapEntry::offset(position));
            let entry = entry.ok_or(Error::Corrupt { block, what: "malformed list map entry" })?;
            if entry.uid != 0 {
                all.push((position, entry));
            }
        }
    }
    Ok(all)
}

/// Writes the entry at `position`: one record.
pub fn set_entry<S: PageStore>(store: &S, meta: &Meta, position: u32, entry: &MapEntry) -> Result<()> {
    let block = map_page(store, meta, position)?;
    let mut action = store.begin()?;
    let slot = pages::update(&mut action, block, PageKind::ListMap)?;
    action.page_mut(slot).write(MapEntry::offset(position), entry);
    action.commit()
}

/// Takes positions of the map for new lists: free ones first.
pub struct Positions {
    free: Vec<u32>,
}

impl Positions {
    /// Reads which positions are free.
    pub fn new<S: PageStore>(store: &S, meta: &Meta) -> Result<Self> {
        let mut free: Vec<u32> = (0..meta.map_len).rev().collect();
        let taken: std::collections::HashSet<u32> =
            entries(store, meta)?.iter().map(|(position, _)| *position).collect();
        free.retain(|position| !taken.contains(position));
        Ok(Self { free })
    }

    /// A position, which the caller writes before it takes the next one. May grow the map and change `meta`.
    pub fn take<S: PageStore>(&mut self, store: &S, meta: &mut Meta) -> Result<u32> {
        if let Some(position) = self.free.pop() {
            return Ok(position);
        }
        let first = meta.map_len;
        *meta = grow_map(store)?;
        self.free.extend((first + 1..meta.map_len).rev());
        Ok(first)
    }
}

/// Adds a page of free positions: {meta, root, page}.
fn grow_map<S: PageStore>(store: &S) -> Result<Meta> {
    let mut action = store.begin()?;
    let meta_slot = pages::update(&mut action, META_BLOCK, PageKind::Meta)?;
    let mut meta = Meta::read(body(action.page(meta_slot)))?;
    let (root, mut node) = if meta.map_root == NO_BLOCK {
        let (root, block) = action.create(PageKind::MapDirectory)?;
        meta.map_root = block;
        (root, NodeHeader { key: 0, count: 0, level: 0, next: NO_BLOCK, bytes: 0 })
    } else {
        let root = pages::update(&mut action, meta.map_root, PageKind::MapDirectory)?;
        let node = NodeHeader::at(body(action.page(root)), 0);
        (root, node.ok_or(Error::Corrupt { block: meta.map_root, what: "malformed root of the list map" })?)
    };
    if node.count as usize >= NODE_CHILDREN {
        return Err(Error::Bug("the list map holds 400,000 lists"));
    }
    let (page, block) = action.create(PageKind::ListMap)?;
    for position in 0..MAP_ENTRIES as u32 {
        action.page_mut(page).write_grow(MapEntry::offset(position), &MapEntry::FREE);
    }
    let mut root = action.page_mut(root);
    root.write_grow(ChildBlock::offset(node.count as usize), &ChildBlock(block));
    node.count += 1;
    root.write_grow(0, &node);
    meta.map_len += MAP_ENTRIES as u32;
    action.page_mut(meta_slot).write(0, &meta);
    action.commit()?;
    Ok(meta)
}

/// Makes an empty list that is born with epoch `born`.
pub fn create<S: PageStore>(
    store: &S,
    meta: &mut Meta,
    positions: &mut Positions,
    born: u64,
) -> Result<(u32, MapEntry)> {
    let position = positions.take(store, meta)?;
    let uid = meta.next_uid;
    // The uid is spent before it is used, so a crash can't hand it out twice.
    *meta = super::update_meta(store, |meta| meta.next_uid = uid + 1)?;
    let entry = MapEntry { uid, born, died: NEVER, ..MapEntry::FREE };
    set_entry(store, meta, position, &entry)?;
    Ok((position, entry))
}

/// Appends chunks to one list; [`Appender::finish`] writes the map entry.
pub struct Appender<'a, S: PageStore> {
    store: &'a S,
    keys: &'a mut IndexKeys,
    layout: &'a ChunkLayout,
    position: u32,
    entry: MapEntry,
    /// Last page of the chain and what it has in use, once known.
    tail: Option<(Block, u32, usize)>,
}

impl<'a, S: PageStore> Appender<'a, S> {
    /// Appends to the list at `position`, whose entry is `entry`.
    pub fn new(store: &'a S, keys: &'a mut IndexKeys, layout: &'a ChunkLayout, position: u32, entry: MapEntry) -> Self {
        Self { store, keys, layout, position, entry, tail: None }
    }

    /// Seals and writes one chunk of `rows` rows, invisible until epoch `born` is published.
    pub fn append(&mut self, plain: &[u8], rows: usize, born: u64) -> Result<()> {
        debug_assert_eq!(plain.len(), self.layout.plain_len(rows));
        let sealed_len = plain.len() + crate::crypto::OVERHEAD;
        let count = sealed_len.div_ceil(PIECE_MAX);
        let mut header = ChunkHeader {
            born,
            ordinal: self.entry.chunks,
            rows: rows as u16,
            piece: 0,
            pieces: count as u8,
            len: sealed_len.min(PIECE_MAX) as u16,
        };
        let (tail, _, used) = self.find_tail()?;
        if tail != NO_BLOCK && used + ChunkHeader::LEN + sealed_len <= BODY {
            // A reader may share this page: seal before locking it.
            let sealed = self.seal(plain, &header, tail)?;
            let mut action = self.store.begin()?;
            let slot = pages::update(&mut action, tail, PageKind::List)?;
            put(&mut action, slot, used, &header, SealedBytes::of(&sealed));
            action.commit()?;
            self.set_tail(used + ChunkHeader::LEN + sealed_len);
        } else {
            // Nobody can reach a page that nothing links: sealing under its lock delays no one.
            let mut sealed = None;
            for piece in 0..count {
                let mut action = self.store.begin()?;
                let (slot, block) = action.create(PageKind::List)?;
                if sealed.is_none() {
                    sealed = Some(self.seal(plain, &header, block)?);
                }
                let bytes = SealedBytes::of(sealed.as_ref().expect("sealed above"));
                let part = bytes.part(piece * PIECE_MAX..sealed_len.min((piece + 1) * PIECE_MAX));
                (header.piece, header.len) = (piece as u8, part.len() as u16);
                self.link(&mut action, slot, block)?;
                put(&mut action, slot, ListPage::LEN, &header, part);
                action.commit()?;
                self.set_tail(ListPage::LEN + ChunkHeader::LEN + part.len());
            }
        }
        self.entry.chunks += 1;
        self.entry.rows += rows as u32;
        Ok(())
    }

    /// Writes the list's counts and tail: one record. Returns the entry.
    pub fn finish(self, meta: &Meta) -> Result<MapEntry> {
        set_entry(self.store, meta, self.position, &self.entry)?;
        Ok(self.entry)
    }

    fn seal(&mut self, plain: &[u8], header: &ChunkHeader, block: Block) -> Result<crate::crypto::Sealed> {
        let aad = chunk_aad(self.keys, self.entry.uid, header, block);
        self.keys.list(self.entry.uid).seal(&aad, plain)
    }

    fn set_tail(&mut self, used: usize) {
        if let Some(tail) = &mut self.tail {
            tail.2 = used;
        }
    }

    /// The last page of the chain, its ordinal and its used bytes; the map's tail may lag behind.
    fn find_tail(&mut self) -> Result<(Block, u32, usize)> {
        if let Some(tail) = self.tail {
            return Ok(tail);
        }
        let mut found = (NO_BLOCK, 0, 0);
        let mut block = self.entry.tail;
        while block != NO_BLOCK {
            let page = pages::read(self.store, block, PageKind::List)?;
            let head = ListPage::at(body(&page), 0).filter(|head| head.uid == self.entry.uid);
            let head = head.ok_or(Error::Corrupt { block, what: "a list's tail belongs to another list" })?;
            found = (block, head.ordinal, body(&page).len());
            block = head.next;
        }
        self.entry.tail = found.0;
        self.tail = Some(found);
        Ok(found)
    }

    /// Formats `slot` as the list's next page and links it: from the page before, or the map.
    fn link(&mut self, action: &mut S::Action<'_>, slot: usize, block: Block) -> Result<()> {
        let (tail, ordinal, _) = self.find_tail()?;
        let ordinal = if tail == NO_BLOCK { 0 } else { ordinal + 1 };
        action.page_mut(slot).write_grow(0, &ListPage { uid: self.entry.uid, ordinal, next: NO_BLOCK });
        if tail == NO_BLOCK {
            // The map is read again: only `head` and `tail` change in this record.
            let meta = super::read_meta(self.store)?;
            let map = map_page(self.store, &meta, self.position)?;
            let map_slot = pages::update(action, map, PageKind::ListMap)?;
            (self.entry.head, self.entry.tail) = (block, block);
            action.page_mut(map_slot).write(MapEntry::offset(self.position), &self.entry);
        } else {
            let before = pages::update(action, tail, PageKind::List)?;
            let head = ListPage::at(body(action.page(before)), 0);
            let mut head = head.ok_or(Error::Corrupt { block: tail, what: "malformed list page" })?;
            head.next = block;
            action.page_mut(before).write(0, &head);
            self.entry.tail = block;
        }
        self.tail = Some((block, ordinal, ListPage::LEN));
        Ok(())
    }
}

fn put<A: Action>(action: &mut A, slot: usize, offset: usize, header: &ChunkHeader, bytes: SealedBytes<'_>) {
    let mut page = action.page_mut(slot);
    page.write_grow(offset, header);
    page.copy_sealed(offset + ChunkHeader::LEN, bytes);
}

fn chunk_aad(keys: &IndexKeys, uid: u64, header: &ChunkHeader, block: Block) -> ChunkAad {
    ChunkAad {
        index: keys.index(),
        dek_version: keys.dek_version(),
        list: uid,
        epoch: header.born,
        ordinal: header.ordinal,
        block,
    }
}

/// How reading a list ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// Every live chunk was given out.
    Whole,
    /// A page was not the list's any more: its map entry tells what became of it.
    Moved(Block),
}

/// Buffers of a page being opened.
#[derive(Default)]
pub struct ChunkBuffer {
    /// Room for the chunks of a page, of which some is in use.
    plain: Plain,
    /// Where in `plain` each chunk lies.
    chunks: Vec<OpenedChunk>,
    sealed: Vec<u8>,
}

impl ChunkBuffer {
    /// Keeps the room and nothing of what was opened in it.
    pub fn wipe(&mut self) {
        wipe(&mut self.plain);
        self.chunks.clear();
    }

    /// Where the next chunk, of `len` bytes, goes.
    fn place(&mut self, len: usize) -> Range<usize> {
        let start = self.chunks.last().map_or(0, |last| last.place.end);
        let end = start + len;
        if self.plain.len() < end {
            // A vector that grows leaves its old bytes behind; this one is wiped when it is replaced.
            let mut larger = Plain::zeroed(end.max(PAGE));
            larger[..start].copy_from_slice(&self.plain[..start]);
            self.plain = larger;
        }
        start..end
    }
}

/// Opens every chunk of list `uid` that is live at `epoch`, from `head` on, a page at a time under its
/// share lock, and gives (plaintext, rows) to `visit` with no lock held. Pages that are in `opened` as they are now need no opening.
#[allow(clippy::too_many_arguments)]
pub fn read<S: PageStore>(
    store: &S,
    keys: &mut IndexKeys,
    layout: &ChunkLayout,
    (uid, head): (u64, Block),
    epoch: u64,
    buffer: &mut ChunkBuffer,
    opened: &mut OpenedPages,
    visit: &mut dyn FnMut(&[u8], usize) -> Result<()>,
) -> Result<Read> {
    let (mut block, mut ordinal) = (head, 0);
    let mut long: Option<(ChunkHeader, Block)> = None;
    while block != NO_BLOCK {
        store.check_interrupts()?; // a list may be as long as the table
        buffer.chunks.clear();
        let page = store.read(block)?;
        let this = pages::known(&page, block)? == PageKind::List;
        let head = ListPage::at(body(&page), 0).filter(|head| this && head.uid == uid && head.ordinal == ordinal);
        let Some(head) = head else { return Ok(Read::Moved(block)) };
        if head.next != NO_BLOCK {
            store.prefetch(head.next, 0);
        }
        let name = store.version(&page).map(|version| PageName { block, list: uid, version });
        if let Some(known) = name.and_then(|name| opened.get(name)) {
            drop(page);
            for (plain, rows) in known.chunks(epoch) {
                visit(plain, rows)?;
            }
            (block, ordinal) = (head.next, ordinal + 1);
            continue;
        }
        let mut all = true;
        for piece in pieces(body(&page)) {
            let piece = piece.ok_or(Error::Corrupt { block, what: "malformed chunk" })?;
            all &= piece.header.born <= epoch && piece.header.pieces == 1;
            // What is appended after this scan began is born later.
            if piece.header.born <= epoch {
                take(keys, layout, uid, block, piece, &mut long, buffer)?;
            }
        }
        drop(page);
        if let Some(name) = name.filter(|_| all) {
            let end = buffer.chunks.last().map_or(0, |last| last.place.end);
            opened.met(name, &buffer.plain[..end], &buffer.chunks);
        }
        for chunk in &buffer.chunks {
            visit(&buffer.plain[chunk.place.clone()], chunk.rows)?;
        }
        (block, ordinal) = (head.next, ordinal + 1);
    }
    if long.is_some() { Ok(Read::Moved(head)) } else { Ok(Read::Whole) }
}

/// As [`read`], once and of a list that nobody moves meanwhile: a page that is not its own is damage.
pub fn read_still<S: PageStore>(
    store: &S,
    keys: &mut IndexKeys,
    layout: &ChunkLayout,
    at: (u64, Block),
    epoch: u64,
    visit: &mut dyn FnMut(&[u8], usize) -> Result<()>,
) -> Result<()> {
    let (mut buffer, mut opened) = (ChunkBuffer::default(), OpenedPages::default());
    match read(store, keys, layout, at, epoch, &mut buffer, &mut opened, visit)? {
        Read::Whole => Ok(()),
        Read::Moved(block) => Err(Error::Corrupt { block, what: "a list's page belongs to another list" }),
    }
}

/// Opens a whole chunk into `buffer`, or gathers a piece.
fn take(
    keys: &mut IndexKeys,
    layout: &ChunkLayout,
    uid: u64,
    block: Block,
    piece: Piece<'_>,
    long: &mut Option<(ChunkHeader, Block)>,
    buffer: &mut ChunkBuffer,
) -> Result<()> {
    let header = piece.header;
    let rows = header.rows as usize;
    let corrupt = |what| Error::Corrupt { block, what };
    let plain_len = layout.plain_len(rows);
    let (at, first) = if header.pieces == 1 {
        (block, header)
    } else {
        if header.piece == 0 {
            buffer.sealed.clear();
            *long = Some((header, block));
        }
        let (first, at) = long.ok_or(corrupt("a chunk begins in the middle"))?;
        if first.ordinal != header.ordinal || first.pieces != header.pieces {
            return Err(corrupt("pieces of different chunks"));
        }
        buffer.sealed.extend_from_slice(piece.sealed);
        if header.piece + 1 < header.pieces {
            return Ok(());
        }
        *long = None;
        (at, first)
    };
    let len = if header.pieces == 1 { piece.sealed.len() } else { buffer.sealed.len() };
    if len != plain_len + crate::crypto::OVERHEAD || plain_len <= CHUNK_PREFIX {
        return Err(corrupt("a chunk has the wrong length"));
    }
    let place = buffer.place(plain_len);
    let sealed = if header.pieces == 1 { piece.sealed } else { &buffer.sealed };
    let aad = chunk_aad(keys, uid, &first, at);
    let opened = keys.list(uid).open_into(&aad, sealed, &mut buffer.plain[place.clone()]);
    opened.map_err(|_| corrupt("could not open a chunk"))?;
    buffer.chunks.push(OpenedChunk { place, rows, born: first.born });
    Ok(())
}

/// Frees the map entry at `position`, then the pages of its list (rule 4): a record each.
pub fn free<S: PageStore>(store: &S, meta: &Meta, position: u32, entry: &MapEntry) -> Result<()> {
    set_entry(store, meta, position, &MapEntry::FREE)?;
    free_chain(store, entry.uid, entry.head)
}

/// Frees the pages of list `uid` from `block` on.
pub fn free_chain<S: PageStore>(store: &S, uid: u64, mut block: Block) -> Result<()> {
    while block != NO_BLOCK {
        store.check_interrupts()?;
        let mut action = store.begin()?;
        let slot = action.update(block)?;
        let this = pages::known(action.page(slot), block)? == PageKind::List;
        let head = ListPage::at(body(action.page(slot)), 0).filter(|head| this && head.uid == uid);
        let Some(head) = head else { return Ok(()) };
        action.page_mut(slot).free();
        action.commit()?;
        block = head.next;
    }
    Ok(())
}
