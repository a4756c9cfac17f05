//! Rows that a clustering keeps as it opened them, while there is room: to open one again costs a page and a decryption.

use super::{Cache, Keys, Phase, Work, open::open_entry, records::Opened, slots, vector};
use crate::{
    Result,
    format::{meta::Identity, vector::plain_len},
    store::PageStore,
    wipe::Plain,
};

/// Rows of a part, and between two chances to cancel.
const PART_ROWS: usize = 4096;

/// The first of the rows to cluster, as plaintexts of their records: half as long as decoded where float16 is stored.
pub(super) struct Kept {
    /// Bytes of a row.
    width: usize,
    /// The rows, in parts of [`PART_ROWS`] that never grow: no copy is left behind.
    parts: Vec<Plain>,
    rows: usize,
}

impl Kept {
    /// No rows yet.
    pub fn new(identity: &Identity) -> Self {
        Self { width: plain_len(identity.dims.into(), identity.precision), parts: Vec::new(), rows: 0 }
    }

    /// How many of the first rows are kept.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Opens and keeps rows of `live` from where it left off, as many as `bytes` hold of all that are kept; takes out of
    /// `live` what does not open. Ends at a row whose record is in no index form.
    #[allow(clippy::too_many_arguments)]
    pub fn fill<S: PageStore>(
        &mut self,
        store: &S,
        cache: &mut Cache,
        keys: &mut Keys<'_>,
        identity: &Identity,
        live: &mut Vec<u64>,
        bytes: usize,
        work: &mut Work<'_>,
    ) -> Result<()> {
        let (mut next, mut entries) = (self.rows, slots::Ascending::default());
        while next < live.len() && self.rows < bytes / self.width {
            if next.is_multiple_of(PART_ROWS) {
                store.check_interrupts()?;
                (work.tick)(Phase::Clustering, next as u64, live.len() as u64)?;
            }
            let slot = live[next];
            if let Some(entry) = entries.live_entry(store, &mut cache.leaves, slot)? {
                match open_entry(store, cache, keys, identity, slot, entry)? {
                    Some(Opened::Indexed) => {
                        live[self.rows] = slot;
                        self.push(&cache.records.plain);
                    }
                    Some(_) => break,
                    None => {}
                }
            }
            next += 1;
        }
        live.drain(self.rows..next);
        Ok(())
    }

    fn push(&mut self, plain: &[u8]) {
        assert_eq!(plain.len(), self.width);
        if self.rows.is_multiple_of(PART_ROWS) {
            self.parts.push(Plain::with_capacity(PART_ROWS * self.width));
        }
        self.parts.last_mut().expect("pushed above").push(plain);
        self.rows += 1;
    }

    /// Decodes the row at `place` of `live` into index space; `false` if it is not kept.
    pub fn decode(&self, identity: &Identity, place: usize, out: &mut [f32]) -> bool {
        if place >= self.rows {
            return false;
        }
        let plain = &self.parts[place / PART_ROWS][place % PART_ROWS * self.width..][..self.width];
        vector::decode(identity, plain, out);
        true
    }
}
