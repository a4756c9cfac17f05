//! Pages of lists as a backend opened them, kept while they stay as they are: opening is a third of a search.
//!
//! A page has one seat, by its number, so nothing is ever looked for or sorted. Whose page it is, and its version, is read from
//! the page itself each time, under its lock: what is kept only spares the decryption. A page is kept from the second time
//! on that its seat meets it, so that searches over more pages than there are seats do not copy for nothing.

use std::ops::Range;

use crate::{
    store::{Block, NO_BLOCK, PAGE},
    wipe::Plain,
};

/// A chunk among the opened bytes of a page.
#[derive(Clone, Debug)]
pub struct OpenedChunk {
    /// Where its plaintext lies.
    pub place: Range<usize>,
    /// Its rows.
    pub rows: usize,
    /// The epoch from which on it is seen.
    pub born: u64,
}

/// Which page, in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageName {
    /// Its block.
    pub block: Block,
    /// The list that it says it is of.
    pub list: u64,
    /// What its store says of its state.
    pub version: u64,
}

/// What a page holds, opened. Wiped on drop.
pub struct OpenedPage {
    plain: Plain,
    chunks: Box<[OpenedChunk]>,
}

impl OpenedPage {
    /// Plaintext and rows of each chunk that a reader of `epoch` sees.
    pub fn chunks(&self, epoch: u64) -> impl Iterator<Item = (&[u8], usize)> {
        let seen = self.chunks.iter().filter(move |chunk| chunk.born <= epoch);
        seen.map(|chunk| (&self.plain[chunk.place.clone()], chunk.rows))
    }
}

#[derive(Default)]
struct Seat {
    name: PageName,
    page: Option<OpenedPage>,
}

/// Opened pages of one index.
#[derive(Default)]
pub struct OpenedPages {
    seats: Vec<Seat>,
}

impl OpenedPages {
    /// Keeps at most `bytes` from now on, as whole pages; what was kept goes if that is another number of them.
    pub fn set_room(&mut self, bytes: usize) {
        let seats = bytes / PAGE;
        if seats != self.seats.len() {
            self.seats = Vec::new();
            // Without memory nothing is kept; to abort would take the server's other sessions along.
            if self.seats.try_reserve_exact(seats).is_ok() {
                self.seats.resize_with(seats, Seat::default);
            }
        }
    }

    /// This very page, if it is kept.
    pub fn get(&self, name: PageName) -> Option<&OpenedPage> {
        let seat = &self.seats.get(self.place(name.block)?)?;
        seat.page.as_ref().filter(|_| seat.name == name)
    }

    /// This page was opened: these bytes and chunks are all that it holds. Kept if it was met here before.
    pub fn met(&mut self, name: PageName, plain: &[u8], chunks: &[OpenedChunk]) {
        let Some(place) = self.place(name.block) else { return };
        let seat = &mut self.seats[place];
        if seat.name != name {
            *seat = Seat { name, page: None };
            return;
        }
        let Some(mut kept) = Plain::try_with_capacity(plain.len()) else { return };
        kept.push(plain);
        seat.page = Some(OpenedPage { plain: kept, chunks: chunks.into() });
    }

    fn place(&self, block: Block) -> Option<usize> {
        (block != NO_BLOCK).then(|| (block as usize).checked_rem(self.seats.len()))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(place: Range<usize>, born: u64) -> OpenedChunk {
        OpenedChunk { rows: place.len(), place, born }
    }

    fn meet(pages: &mut OpenedPages, block: Block, version: u64, byte: u8) {
        pages.met(PageName { block, list: 1, version }, &[byte; 10], &[chunk(0..4, 1), chunk(4..10, 5)]);
    }

    fn seen(pages: &OpenedPages, block: Block, version: u64, epoch: u64) -> Option<Vec<(u8, usize)>> {
        Some(
            pages
                .get(PageName { block, list: 1, version })?
                .chunks(epoch)
                .map(|(plain, rows)| (plain[0], rows))
                .collect(),
        )
    }

    #[test]
    fn a_page_is_kept_from_the_second_time_on_and_while_it_is_the_same() {
        let mut pages = OpenedPages::default();
        meet(&mut pages, 7, 1, 3);
        assert_eq!(seen(&pages, 7, 1, 9), None, "no room yet");
        pages.set_room(4 * PAGE + 5);
        meet(&mut pages, 7, 1, 3);
        assert_eq!(seen(&pages, 7, 1, 9), None);
        meet(&mut pages, 7, 1, 3);
        assert_eq!(seen(&pages, 7, 1, 9), Some(vec![(3, 4), (3, 6)]));
        assert_eq!(seen(&pages, 7, 1, 4), Some(vec![(3, 4)]), "what was born later is not seen");
        assert_eq!(seen(&pages, 7, 2, 9), None, "another version");
        assert!(pages.get(PageName { block: 7, list: 2, version: 1 }).is_none(), "another list");
        assert_eq!(seen(&pages, 3, 1, 9), None, "another page of the same seat");
        meet(&mut pages, 7, 2, 4);
        assert_eq!(seen(&pages, 7, 1, 9), None);
        meet(&mut pages, 7, 2, 4);
        meet(&mut pages, 11, 2, 5); // the same seat
        assert_eq!(seen(&pages, 7, 2, 9), None);
        pages.set_room(4 * PAGE);
        meet(&mut pages, 11, 2, 5);
        assert_eq!(seen(&pages, 11, 2, 1), Some(vec![(5, 4)]));
        pages.set_room(0);
        assert_eq!(seen(&pages, 11, 2, 1), None);
    }
}
