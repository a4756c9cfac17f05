//! Publishing new lists and directories: nothing is seen of a batch before one meta record says so.

use super::{
    Cache, Directory, Keys, directory,
    encode::Chunk,
    lists::{self, Appender, Positions},
    update_meta,
};
use crate::{
    Result,
    format::{
        list::{ChunkLayout, MapEntry, NEVER},
        meta::Meta,
    },
    store::PageStore,
};

/// A batch of changes that one meta record will publish (rule 1).
pub struct Batch {
    /// The meta page as it was when the batch began, plus what growing the map changed.
    pub meta: Meta,
    /// The epoch that publishes the batch.
    pub epoch: u64,
    positions: Option<Positions>,
    dying: Vec<(u32, MapEntry)>,
}

impl Batch {
    /// Announces a batch, so that whoever comes after a crash undoes it first (rule 10).
    pub fn begin<S: PageStore>(store: &S) -> Result<Self> {
        let meta = update_meta(store, |meta| meta.work_epoch = meta.data_epoch + 1)?;
        Ok(Self { meta, epoch: meta.data_epoch + 1, positions: None, dying: Vec::new() })
    }

    /// An empty list that the batch publishes.
    pub fn new_list<S: PageStore>(&mut self, store: &S) -> Result<(u32, MapEntry)> {
        if self.positions.is_none() {
            self.positions = Some(Positions::new(store, &self.meta)?);
        }
        let positions = self.positions.as_mut().expect("read above");
        lists::create(store, &mut self.meta, positions, self.epoch)
    }

    /// Appends chunks to a list; its new entry.
    pub fn append<S: PageStore>(
        &mut self,
        store: &S,
        keys: &mut Keys<'_>,
        layout: &ChunkLayout,
        position: u32,
        entry: MapEntry,
        chunks: &[Chunk],
    ) -> Result<MapEntry> {
        let mut appender = Appender::new(store, keys.index, layout, position, entry);
        for (plain, rows) in chunks {
            appender.append(plain, *rows, self.epoch)?;
        }
        appender.finish(&self.meta)
    }

    /// Ends the list at `position` with this batch.
    pub fn end_list<S: PageStore>(&mut self, store: &S, position: u32, entry: MapEntry) -> Result<()> {
        let dying = MapEntry { died: self.epoch, ..entry };
        lists::set_entry(store, &self.meta, position, &dying)?;
        self.dying.push((position, dying));
        Ok(())
    }

    /// Ends every list that this batch did not make, L0 too, and makes a new L0.
    pub fn replace_all_lists<S: PageStore>(&mut self, store: &S) -> Result<()> {
        for (position, entry) in lists::entries(store, &self.meta)? {
            store.check_interrupts()?;
            if entry.born < self.epoch && entry.died == NEVER {
                self.end_list(store, position, entry)?;
            }
        }
        self.replace_l0(store)
    }

    /// Makes a new empty L0, which [`Batch::publish`] puts in place of the old one.
    pub fn replace_l0<S: PageStore>(&mut self, store: &S) -> Result<()> {
        let (position, entry) = self.new_list(store)?;
        (self.meta.l0_uid, self.meta.l0_position, self.meta.l0_rows) = (entry.uid, position, 0);
        Ok(())
    }

    /// Publishes the batch and a new directory, then frees what died.
    pub fn publish_directory<S: PageStore>(
        self,
        store: &S,
        cache: &mut Cache,
        keys: &mut Keys<'_>,
        directory: Directory,
        change: impl FnOnce(&mut Meta),
    ) -> Result<Meta> {
        let dims = self.meta.identity.dims as usize;
        let root = directory::write(store, keys.index, directory.epoch, dims, &directory.stream)?;
        let (old_root, old_epoch) = (self.meta.directory_root, self.meta.directory_epoch);
        let lists = directory.entries().len() as u32;
        let epoch = directory.epoch;
        let meta = self.publish(store, |meta| {
            (meta.directory_root, meta.directory_epoch, meta.lists) = (root, epoch, lists);
            change(meta);
        })?;
        directory::free(store, old_root, old_epoch)?;
        cache.directory = Some(std::rc::Rc::new(directory));
        Ok(meta)
    }

    /// Publishes the batch in one meta record, then frees the lists that it ended.
    pub fn publish<S: PageStore>(self, store: &S, change: impl FnOnce(&mut Meta)) -> Result<Meta> {
        let ours = self.meta;
        let meta = update_meta(store, |meta| {
            (meta.l0_uid, meta.l0_position, meta.l0_rows) = (ours.l0_uid, ours.l0_position, ours.l0_rows);
            change(meta);
            meta.data_epoch = self.epoch;
            meta.work_epoch = 0;
        })?;
        for (position, entry) in &self.dying {
            store.check_interrupts()?;
            lists::free(store, &meta, *position, entry)?;
        }
        Ok(meta)
    }
}
