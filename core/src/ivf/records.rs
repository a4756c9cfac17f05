//! Vector records on pages: finding, opening, placing and freeing them.

use zeroize::Zeroizing;

use super::{Keys, Unopened, pages, vector};
use crate::{
    Error, Result,
    crypto::{OVERHEAD, RecordAad, Sealed},
    format::{
        meta::Identity,
        slot::SlotEntry,
        vector::{
            FREE_SLOT, OverflowHeader, OverflowLink, PAGE_HEADER, PART_MAX, PAYLOAD_MAX, RecordHeader, RecordKind,
            VectorPage, find, plain_len, record_at, records,
        },
    },
    keys::{IndexKeys, Uuid},
    store::{
        Action, BODY, Block, Clear, NO_BLOCK, PAGE, PAGES_MAX, PageKind, PageMut, PageStore, SealedBytes, Slot, body,
    },
    wipe::wipe,
};

/// Buffers for one record at a time, wiped when dropped.
#[derive(Default)]
pub struct Scratch {
    /// An indexed record's plaintext.
    pub plain: Zeroizing<Vec<u8>>,
    /// A verbatim record's vector in index space.
    pub values: Zeroizing<Vec<f32>>,
    /// Rows whose column values did not open.
    pub unopened: Unopened,
    sealed: Vec<u8>,
}

/// What [`open`] left in the scratch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// `plain` holds an indexed record.
    Indexed,
    /// `values` holds a column value in index space.
    Verbatim,
    /// The column value does not open, or the metric can't index it.
    Unindexable,
    /// The record is not where the entry says: look the slot up again.
    Moved,
}

impl Scratch {
    /// Keeps the room and nothing of the vector that was opened last.
    pub fn wipe(&mut self) {
        wipe(&mut self.plain);
        wipe(bytemuck::cast_slice_mut(&mut self.values));
    }

    /// The opened vector in index space.
    pub fn decode(&self, opened: Opened, identity: &Identity, out: &mut [f32]) {
        match opened {
            Opened::Indexed => vector::decode(identity, &self.plain, out),
            Opened::Verbatim => out.copy_from_slice(&self.values),
            Opened::Unindexable | Opened::Moved => unreachable!("nothing was opened"),
        }
    }
}

/// Opens the record of `slot` into `scratch`. One page is opened under its share lock (rule 9).
pub fn open<S: PageStore>(
    store: &S,
    keys: &mut Keys<'_>,
    identity: &Identity,
    slot: u64,
    entry: &SlotEntry,
    scratch: &mut Scratch,
) -> Result<Opened> {
    let Some(page) = pages::read_if(store, entry.block, PageKind::Vector)? else {
        return Ok(Opened::Moved);
    };
    let Some(record) = find(body(&page), slot, entry.offset) else {
        return Ok(Opened::Moved);
    };
    match record.header.kind {
        RecordKind::Indexed => {
            open_indexed(keys.index, identity, slot, entry, record.payload, scratch)?;
            Ok(Opened::Indexed)
        }
        RecordKind::Verbatim => {
            scratch.sealed.clear();
            scratch.sealed.extend_from_slice(record.payload);
            drop(page);
            Ok(open_verbatim(keys, identity, entry, scratch))
        }
        kind @ (RecordKind::IndexedHead | RecordKind::VerbatimHead) => {
            let corrupt = Error::Corrupt { block: entry.block, what: "malformed head of a long record" };
            let link = OverflowLink::at(record.payload, 0).ok_or(corrupt)?;
            scratch.sealed.clear();
            scratch.sealed.extend_from_slice(&record.payload[OverflowLink::LEN..]);
            drop(page);
            if kind == RecordKind::IndexedHead {
                open_long(store, keys.index, identity, slot, entry, link, scratch)
            } else if !gather_long(store, link, scratch)? {
                Ok(Opened::Moved)
            } else {
                Ok(open_verbatim(keys, identity, entry, scratch))
            }
        }
    }
}

/// Kind of the record of `slot`, if it is where the entry says.
pub fn kind<S: PageStore>(store: &S, slot: u64, entry: &SlotEntry) -> Result<Option<RecordKind>> {
    let Some(page) = pages::read_if(store, entry.block, PageKind::Vector)? else {
        return Ok(None);
    };
    Ok(find(body(&page), slot, entry.offset).map(|record| record.header.kind))
}

/// Opens a verbatim record as the column has it, not in index space.
pub fn open_column_value<S: PageStore>(
    store: &S,
    keys: &Keys<'_>,
    slot: u64,
    entry: &SlotEntry,
    scratch: &mut Scratch,
    out: &mut [f32],
) -> Result<Opened> {
    let Some(page) = pages::read_if(store, entry.block, PageKind::Vector)? else {
        return Ok(Opened::Moved);
    };
    let Some(record) = find(body(&page), slot, entry.offset) else {
        return Ok(Opened::Moved);
    };
    scratch.sealed.clear();
    match record.header.kind {
        RecordKind::Verbatim => {
            scratch.sealed.extend_from_slice(record.payload);
            drop(page);
        }
        RecordKind::VerbatimHead => {
            let link = OverflowLink::at(record.payload, 0).ok_or(could_not(entry.block))?;
            scratch.sealed.extend_from_slice(&record.payload[OverflowLink::LEN..]);
            drop(page);
            if !gather_long(store, link, scratch)? {
                return Ok(Opened::Moved);
            }
        }
        RecordKind::Indexed | RecordKind::IndexedHead => return Ok(Opened::Moved),
    }
    if keys.values.open(&scratch.sealed, out) {
        return Ok(Opened::Verbatim);
    }
    scratch.unopened.add(entry.tid);
    Ok(Opened::Unindexable)
}

/// Opens the record of `slot` from a copy of its page, if it is there and fits the page whole.
pub fn open_copied(
    keys: &mut IndexKeys,
    identity: &Identity,
    slot: u64,
    entry: &SlotEntry,
    page: &[u8; PAGE],
    scratch: &mut Scratch,
) -> Result<bool> {
    let record = find(body(page), slot, entry.offset).filter(|record| record.header.kind == RecordKind::Indexed);
    let Some(record) = record else { return Ok(false) };
    open_indexed(keys, identity, slot, entry, record.payload, scratch)?;
    Ok(true)
}

fn aad(keys: &IndexKeys, identity: &Identity, slot: u64, entry: &SlotEntry, part: u16) -> RecordAad {
    RecordAad { index: identity.index, dek_version: keys.dek_version(), slot, tid: entry.tid.to_bytes(), part }
}

fn could_not(block: Block) -> Error {
    Error::Corrupt { block, what: "could not open a vector record" }
}

fn open_indexed(
    keys: &mut IndexKeys,
    identity: &Identity,
    slot: u64,
    entry: &SlotEntry,
    sealed: &[u8],
    scratch: &mut Scratch,
) -> Result<()> {
    let expected = plain_len(identity.dims as usize, identity.precision);
    if sealed.len() != expected + OVERHEAD {
        return Err(Error::Corrupt { block: entry.block, what: "a vector record has the wrong length" });
    }
    scratch.plain.resize(expected, 0);
    let aad = aad(keys, identity, slot, entry, 0);
    keys.vectors(slot).open_into(&aad, sealed, &mut scratch.plain).map_err(|_| could_not(entry.block))
}

fn open_verbatim(keys: &Keys<'_>, identity: &Identity, entry: &SlotEntry, scratch: &mut Scratch) -> Opened {
    scratch.values.resize(identity.dims as usize, 0.0);
    if !keys.values.open(&scratch.sealed, &mut scratch.values) {
        // Anybody may have stored it: no damage to the index, and no reason to fail.
        scratch.unopened.add(entry.tid);
        return Opened::Unindexable;
    }
    let indexable = vector::to_index_space(identity.metric, &mut scratch.values);
    if indexable { Opened::Verbatim } else { Opened::Unindexable }
}

/// Whether indexed records go on in overflow pages.
pub fn spans_pages(identity: &Identity) -> bool {
    plain_len(identity.dims as usize, identity.precision) + OVERHEAD > PAYLOAD_MAX
}

/// Bytes of a record's name, with which its sealed front begins.
const RECORD_NAME: usize = 8;

fn open_long<S: PageStore>(
    store: &S,
    keys: &mut IndexKeys,
    identity: &Identity,
    slot: u64,
    entry: &SlotEntry,
    link: OverflowLink,
    scratch: &mut Scratch,
) -> Result<Opened> {
    let head = {
        let aad = aad(keys, identity, slot, entry, 0);
        keys.vectors(slot).open(&aad, &scratch.sealed).map_err(|_| could_not(entry.block))?
    };
    let expected = plain_len(identity.dims as usize, identity.precision);
    if head.get(..RECORD_NAME) != Some(&link.record.to_le_bytes()) {
        return Err(could_not(entry.block));
    }
    scratch.plain.clear();
    scratch.plain.reserve_exact(expected);
    scratch.plain.extend_from_slice(&head[RECORD_NAME..]);
    let mut next = link.next;
    let key = keys.parts(link.record);
    for part in 1..link.parts {
        let Some(page) = pages::read_if(store, next, PageKind::Overflow)? else {
            return Ok(Opened::Moved);
        };
        let Some(header) = part_header(body(&page), link.record, part) else {
            return Ok(Opened::Moved);
        };
        let sealed = body(&page).get(OverflowHeader::LEN..OverflowHeader::LEN + header.len as usize);
        let sealed = sealed.filter(|sealed| sealed.len() >= OVERHEAD).ok_or(could_not(next))?;
        let start = scratch.plain.len();
        let end = (start + sealed.len() - OVERHEAD).min(expected);
        scratch.plain.resize(end, 0);
        let aad = aad(keys, identity, link.record, entry, part);
        key.open_into(&aad, sealed, &mut scratch.plain[start..]).map_err(|_| could_not(next))?;
        next = header.next;
    }
    if scratch.plain.len() != expected {
        return Err(could_not(entry.block));
    }
    Ok(Opened::Indexed)
}

fn part_header(body: &[u8], record: u64, part: u16) -> Option<OverflowHeader> {
    OverflowHeader::at(body, 0).filter(|header| header.record == record && header.part == part)
}

/// Appends the parts of a verbatim record to `scratch.sealed`; `false` if one has moved away.
fn gather_long<S: PageStore>(store: &S, link: OverflowLink, scratch: &mut Scratch) -> Result<bool> {
    let mut next = link.next;
    for part in 1..link.parts {
        let Some(page) = pages::read_if(store, next, PageKind::Overflow)? else {
            return Ok(false);
        };
        let Some(header) = part_header(body(&page), link.record, part) else {
            return Ok(false);
        };
        let bytes = body(&page).get(OverflowHeader::LEN..OverflowHeader::LEN + header.len as usize);
        scratch.sealed.extend_from_slice(bytes.ok_or(could_not(next))?);
        next = header.next;
    }
    Ok(true)
}

/// A record about to be placed.
pub enum Payload<'a> {
    /// Seals `plain` when its slot is known.
    Indexed(&'a [u8]),
    /// A column value as it came.
    Verbatim(SealedBytes<'a>),
}

/// A record whose parts behind the first are written already.
pub struct Prepared<'a> {
    kind: RecordKind,
    link: Option<OverflowLink>,
    first: Payload<'a>,
    head: Zeroizing<Vec<u8>>,
}

impl<'a> Prepared<'a> {
    /// Writes whatever does not fit one page as overflow pages, last part first, which nobody links yet.
    pub fn new<S: PageStore>(
        store: &S,
        keys: Option<&IndexKeys>,
        identity: &Identity,
        tid: [u8; 6],
        payload: Payload<'a>,
    ) -> Result<Self> {
        // A sealed front begins with the record's name.
        let (len, overhead, name_len, kinds) = match &payload {
            Payload::Indexed(plain) => {
                (plain.len(), OVERHEAD, RECORD_NAME, (RecordKind::Indexed, RecordKind::IndexedHead))
            }
            Payload::Verbatim(value) => (value.len(), 0, 0, (RecordKind::Verbatim, RecordKind::VerbatimHead)),
        };
        if len + overhead <= PAYLOAD_MAX {
            return Ok(Self { kind: kinds.0, link: None, first: payload, head: Zeroizing::default() });
        }
        // Full parts behind, the rest in front: the front shares its page with other records.
        let room = PART_MAX - overhead;
        let front_max = PAYLOAD_MAX - OverflowLink::LEN - name_len - overhead;
        // A rest that is too long for the front makes a part of its own, and the front is empty.
        let behind = (len - front_max).div_ceil(room);
        let front = len.saturating_sub(behind * room);
        let name = Uuid::random()?;
        let record = u64::from_le_bytes(name.as_bytes()[..8].try_into().expect("a uuid has 16 bytes"));
        let xid = store.transaction()?;
        let mut next = NO_BLOCK;
        let keys = keys.map(|keys| (keys.dek_version(), keys.parts(record)));
        for part in (1..=behind).rev() {
            let range = front + (part - 1) * room..len.min(front + part * room);
            let mut action = store.begin()?;
            let (page_slot, block) = action.create(PageKind::Overflow)?;
            let sealed_part;
            let bytes = match &payload {
                Payload::Indexed(plain) => {
                    let (dek_version, key) =
                        keys.as_ref().ok_or(Error::Bug("an indexed record needs the index's keys"))?;
                    let (index, dek_version, part) = (identity.index, *dek_version, part as u16);
                    let aad = RecordAad { index, dek_version, slot: record, tid, part };
                    sealed_part = key.seal(&aad, &plain[range])?;
                    SealedBytes::of(&sealed_part)
                }
                Payload::Verbatim(value) => value.part(range),
            };
            let header = OverflowHeader { record, part: part as u16, len: bytes.len() as u16, next, xid };
            let mut page = action.page_mut(page_slot);
            page.write_grow(0, &header);
            page.copy_sealed(OverflowHeader::LEN, bytes);
            action.commit()?;
            next = block;
        }
        let link = OverflowLink { record, next, parts: behind as u16 + 1 };
        let (first, head) = match payload {
            Payload::Indexed(plain) => {
                let mut head = Zeroizing::new(Vec::with_capacity(RECORD_NAME + front));
                head.extend_from_slice(&record.to_le_bytes());
                head.extend_from_slice(&plain[..front]);
                (Payload::Indexed(&[]), head)
            }
            Payload::Verbatim(value) => (Payload::Verbatim(value.part(0..front)), Zeroizing::default()),
        };
        Ok(Self { kind: kinds.1, link: Some(link), first, head })
    }

    /// Bytes of the record on its page, header included.
    pub fn len(&self) -> usize {
        let first = match &self.first {
            Payload::Indexed(_) if self.link.is_some() => self.head.len() + OVERHEAD,
            Payload::Indexed(plain) => plain.len() + OVERHEAD,
            Payload::Verbatim(value) => value.len(),
        };
        RecordHeader::LEN + self.link.map_or(0, |_| OverflowLink::LEN) + first
    }

    /// Seals the first part for `slot`.
    pub fn seal(
        &self,
        keys: Option<&mut IndexKeys>,
        identity: &Identity,
        slot: u64,
        tid: [u8; 6],
    ) -> Result<Placeable<'_>> {
        let sealed = match &self.first {
            Payload::Verbatim(_) => None,
            Payload::Indexed(plain) => {
                let plain = if self.link.is_some() { self.head.as_slice() } else { plain };
                let keys = keys.ok_or(Error::Bug("an indexed record needs the index's keys"))?;
                let aad = RecordAad { index: identity.index, dek_version: keys.dek_version(), slot, tid, part: 0 };
                Some(keys.vectors(slot).seal(&aad, plain)?)
            }
        };
        Ok(Placeable { prepared: self, slot, sealed })
    }
}

/// A record whose every byte is sealed.
pub struct Placeable<'a> {
    prepared: &'a Prepared<'a>,
    slot: u64,
    sealed: Option<Sealed>,
}

impl Placeable<'_> {
    /// Puts the record into `page` and returns its offset, if there is room.
    pub fn place(&self, page: &mut PageMut<'_>) -> Option<u16> {
        let len = self.prepared.len();
        let offset = room(page.body(), len)?;
        let mut live = VectorPage::at(page.body(), 0).unwrap_or(VectorPage { live: 0 });
        live.live += 1;
        page.write_grow(0, &live);
        let payload = (len - RecordHeader::LEN) as u16;
        page.write_grow(offset, &RecordHeader { slot: self.slot, kind: self.prepared.kind, len: payload });
        let mut at = offset + RecordHeader::LEN;
        if let Some(link) = &self.prepared.link {
            page.write_grow(at, link);
            at += OverflowLink::LEN;
        }
        match (&self.sealed, &self.prepared.first) {
            (Some(sealed), _) => page.write_sealed(at, sealed),
            (None, Payload::Verbatim(value)) => page.copy_sealed(at, *value),
            (None, Payload::Indexed(_)) => unreachable!("seal() seals every indexed record"),
        }
        Some(offset as u16)
    }
}

/// Where a record of `len` bytes, header included, fits: a hole of its length, or the end.
fn room(body: &[u8], len: usize) -> Option<usize> {
    let end = body.len().max(PAGE_HEADER);
    if end + len <= BODY {
        return Some(end);
    }
    let hole = |record: &crate::format::vector::Record<'_>| {
        record.header.slot == FREE_SLOT && record.payload.len() + RecordHeader::LEN == len
    };
    records(body).flatten().find(hole).map(|record| record.offset)
}

/// Free room of a vector page, as the free space map keeps it: the end, or the longest hole.
pub fn free_room(body: &[u8]) -> usize {
    let holes = records(body).flatten().filter(|record| record.header.slot == FREE_SLOT);
    let longest = holes.map(|record| record.payload.len() + RecordHeader::LEN).max().unwrap_or(0);
    longest.max(BODY - body.len().max(PAGE_HEADER))
}

/// Where a record was put.
pub struct Put {
    /// Its page in the action.
    page: Slot,
    /// The page's block.
    pub block: Block,
    /// The record's offset there.
    pub offset: u16,
    /// Pages that joined the action.
    joined: usize,
}

/// Puts `record` somewhere: the hinted page, one that the free space map names, or a new one.
/// At most three pages join `action`.
pub fn put<S: PageStore>(store: &S, action: &mut S::Action<'_>, record: &Placeable<'_>, hint: Block) -> Result<Put> {
    let mut joined = 0;
    if hint != NO_BLOCK {
        // The hint may have become any page, even one that is locked in another order: don't wait.
        if let Some(page) = action.try_update(hint)? {
            joined += 1;
            if pages::known(action.page(page), hint)? == PageKind::Vector
                && let Some(offset) = record.place(&mut action.page_mut(page))
            {
                return Ok(Put { page, block: hint, offset, joined });
            }
        }
    }
    if let Some(block) = store.find_space(record.prepared.len())?
        && block != hint
        && let Some(page) = action.try_update(block)?
    {
        joined += 1;
        if pages::known(action.page(page), block)? == PageKind::Vector {
            if let Some(offset) = record.place(&mut action.page_mut(page)) {
                return Ok(Put { page, block, offset, joined });
            }
            store.record_space(block, free_room(body(action.page(page))))?;
        }
    }
    put_new::<S>(action, record, joined)
}

fn put_new<S: PageStore>(action: &mut S::Action<'_>, record: &Placeable<'_>, joined: usize) -> Result<Put> {
    let (page, block) = action.create(PageKind::Vector)?;
    action.page_mut(page).write_grow(0, &VectorPage { live: 0 });
    let offset = record.place(&mut action.page_mut(page)).ok_or(Error::Bug("a record fits an empty page"))?;
    Ok(Put { page, block, offset, joined: joined + 1 })
}

/// Puts `record` behind the `last` one of the same action, or on a new page; `None` if the action, which has one page
/// more, can take no more.
pub fn put_next<S: PageStore>(action: &mut S::Action<'_>, record: &Placeable<'_>, last: &Put) -> Result<Option<Put>> {
    if let Some(offset) = record.place(&mut action.page_mut(last.page)) {
        return Ok(Some(Put { offset, ..*last }));
    }
    match last.joined + 1 < PAGES_MAX {
        true => put_new::<S>(action, record, last.joined).map(Some),
        false => Ok(None),
    }
}

/// Marks the record of `slot` free on `page`; frees the whole page with its last one. Returns the
/// record's overflow link, whose pages the caller frees afterwards.
pub fn remove(page: &mut PageMut<'_>, slot: u64, hint: u16) -> (bool, Option<OverflowLink>) {
    let Some(record) = find(page.body(), slot, hint) else {
        return (false, None);
    };
    let (offset, mut header) = (record.offset, record.header);
    let link = match header.kind {
        RecordKind::IndexedHead | RecordKind::VerbatimHead => OverflowLink::at(record.payload, 0),
        _ => None,
    };
    let live = VectorPage::at(page.body(), 0).map_or(0, |page| page.live).saturating_sub(1);
    if live == 0 {
        page.free();
        return (true, link);
    }
    header.slot = FREE_SLOT;
    page.write(offset, &header);
    page.write(0, &VectorPage { live });
    // Free records at the end give their room back to every length.
    let used = records(page.body()).flatten().filter(|record| record.header.slot != FREE_SLOT);
    let end = used.map(|record| record.offset + RecordHeader::LEN + record.payload.len()).max();
    page.set_used(end.unwrap_or(PAGE_HEADER));
    (true, link)
}

/// Frees the overflow pages behind a record that is gone, one record each.
pub fn free_overflow<S: PageStore>(store: &S, link: OverflowLink) -> Result<u32> {
    let (mut next, mut freed) = (link.next, 0);
    for part in 1..link.parts {
        let mut action = store.begin()?;
        let slot = action.update(next)?;
        let is_it = pages::known(action.page(slot), next)? == PageKind::Overflow;
        let header = part_header(body(action.page(slot)), link.record, part).filter(|_| is_it);
        let Some(header) = header else {
            return Ok(freed);
        }; // freed before
        action.page_mut(slot).free();
        action.commit()?;
        (next, freed) = (header.next, freed + 1);
    }
    Ok(freed)
}

/// Copies one record of `from` to `to` as it is, without a key; its offset there, if it fits.
pub fn copy(from: &[u8], offset: usize, to: &mut PageMut<'_>) -> Option<u16> {
    let record = record_at(from, offset)?;
    let len = RecordHeader::LEN + record.payload.len();
    let at = room(to.body(), len)?;
    let live = VectorPage::at(to.body(), 0).map_or(0, |page| page.live) + 1;
    to.write_grow(0, &VectorPage { live });
    to.write_grow(at, &record.header);
    to.copy_sealed(at + RecordHeader::LEN, SealedBytes::on_page(record.payload));
    Some(at as u16)
}

/// The error for a live slot whose record is not on the page that its entry still names.
pub fn missing<T>(entry: &SlotEntry) -> Result<T> {
    Err(Error::Corrupt { block: entry.block, what: "a live slot has no vector record" })
}
