//! The keys of one index, derived from a DEK as they are asked for.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use crate::crypto::AeadKey;
use crate::crypto::kdf::{Deriver, Label};

use super::{Dek, Uuid};

/// Derived keys held at most per kind (list groups, vector groups); about 0.7 kB each.
const CACHED_MAX: usize = 8_192;
/// Lists, by uid, that share a key. A key of its own for each costs a search more than to open the list does: it is 0.7 kB
/// that no cache of the processor holds.
const LISTS_PER_KEY: u64 = 256;
/// Slots that share a vector key.
const SLOTS_PER_KEY: u64 = 65_536;

/// What one index needs, each key for one thing, so that no key seals more than 2^32 messages.
///
/// Those of list and vector groups are derived on first use (about 2 µs) and cached, bounded. All wiped on drop.
pub struct IndexKeys {
    dek_version: u32,
    index: Uuid,
    deriver: Deriver,
    commitment: [u8; 32],
    directory: AeadKey,
    meta: AeadKey,
    lists: Cache,
    vectors: Cache,
}

impl IndexKeys {
    /// The keys of the index build `index` under `dek`.
    pub fn new(dek: &Dek<'_>, index: Uuid) -> Self {
        let deriver = Deriver::new(dek.expose());
        let context: [&[u8]; 2] = [index.as_bytes(), &dek.version().to_le_bytes()];
        Self {
            dek_version: dek.version(),
            index,
            commitment: *deriver.derive(Label::IndexCommitment, &context),
            directory: AeadKey::new(&deriver.subkey(Label::IndexDirectory, &index)),
            meta: AeadKey::new(&deriver.subkey(Label::IndexMeta, &index)),
            lists: Cache::default(),
            vectors: Cache::default(),
            deriver,
        }
    }

    /// Version of the DEK behind these keys.
    pub fn dek_version(&self) -> u32 {
        self.dek_version
    }

    /// UUID of the index build they belong to.
    pub fn index(&self) -> Uuid {
        self.index
    }

    /// The key of list `uid`: one per 256 lists.
    pub fn list(&mut self, uid: u64) -> &AeadKey {
        let group = uid / LISTS_PER_KEY;
        self.lists.entry(group, || numbered(&self.deriver, Label::IndexList, &self.index, group))
    }

    /// The key of the directory.
    pub fn directory(&self) -> &AeadKey {
        &self.directory
    }

    /// The key of the meta page's sealed part.
    pub fn meta(&self) -> &AeadKey {
        &self.meta
    }

    /// The key of the vector record of `slot`: one per 65,536 slots.
    pub fn vectors(&mut self, slot: u64) -> &AeadKey {
        let group = slot / SLOTS_PER_KEY;
        self.vectors.entry(group, || numbered(&self.deriver, Label::IndexVectors, &self.index, group))
    }

    /// The key of the parts behind the first of the long record called `name`: they are sealed before the slot is known.
    /// Derived anew each time, since a record has few parts and each is a page.
    pub fn parts(&self, name: u64) -> AeadKey {
        numbered(&self.deriver, Label::IndexParts, &self.index, name)
    }

    /// What the meta page stores: no other DEK, version or index has it. Compare in constant time, before any open.
    pub fn commitment(&self) -> [u8; 32] {
        self.commitment
    }

    /// Compares `stored`, from the meta page, with [`commitment`](Self::commitment) in constant time.
    pub fn check_commitment(&self, stored: &[u8; 32]) -> crate::Result<()> {
        use crate::crypto::commit::Commitment;
        Commitment::from_bytes(*stored).check(&Commitment::from_bytes(self.commitment))
    }
}

impl std::fmt::Debug for IndexKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IndexKeys({}, version {}, [redacted])", self.index, self.dek_version)
    }
}

fn numbered(deriver: &Deriver, label: Label, index: &Uuid, number: u64) -> AeadKey {
    AeadKey::new(&deriver.derive(label, &[index.as_bytes(), &number.to_le_bytes()]))
}

/// A bounded map in two generations: when the young one is full it becomes the old one, whose keys go.
/// What is used between two such moments stays, at no bookkeeping per hit.
#[derive(Default)]
struct Cache {
    young: Numbered<AeadKey>,
    old: Numbered<AeadKey>,
}

type Numbered<T> = HashMap<u64, T, BuildHasherDefault<ByNumber>>;

/// Spreads numbers that we gave out ourselves: nobody can choose them to collide.
#[derive(Default)]
struct ByNumber(u64);

impl Hasher for ByNumber {
    fn write_u64(&mut self, number: u64) {
        self.0 = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("a number hashes as a number");
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Cache {
    fn entry(&mut self, number: u64, derive: impl FnOnce() -> AeadKey) -> &AeadKey {
        if !self.young.contains_key(&number) {
            if self.young.len() >= CACHED_MAX / 2 {
                self.old = std::mem::take(&mut self.young);
            }
            let key = self.old.remove(&number).unwrap_or_else(derive);
            self.young.insert(number, key);
        }
        &self.young[&number]
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{ChunkAad, RecordAad};

    const INDEX: Uuid = Uuid::from_bytes([9; 16]);
    const CHUNK: ChunkAad = ChunkAad { index: INDEX, dek_version: 1, list: 1, epoch: 1, ordinal: 0, block: 7 };

    fn keys(version: u32, byte: u8, index: Uuid) -> IndexKeys {
        IndexKeys::new(&Dek::new(version, &[byte; 32]), index)
    }

    #[test]
    fn lists_directory_and_meta_have_keys_of_their_own() {
        let mut keys = keys(1, 1, INDEX);
        let sealed = keys.list(1).seal(&CHUNK, b"codes").unwrap();
        assert_eq!(*keys.list(255).open(&CHUNK, sealed.as_bytes()).unwrap(), b"codes");
        assert!(keys.list(256).open(&CHUNK, sealed.as_bytes()).is_err());
        assert!(keys.directory().open(&CHUNK, sealed.as_bytes()).is_err());
        assert!(keys.meta().open(&CHUNK, sealed.as_bytes()).is_err());
        assert!(keys.vectors(1 << 16).open(&CHUNK, sealed.as_bytes()).is_err());
    }

    #[test]
    fn slots_share_a_key_by_65536() {
        let aad = RecordAad { index: INDEX, dek_version: 1, slot: 5, tid: [0; 6], part: 0 };
        let mut keys = keys(1, 1, INDEX);
        let sealed = keys.vectors(0).seal(&aad, b"vector").unwrap();
        assert!(keys.vectors(65_535).open(&aad, sealed.as_bytes()).is_ok());
        assert!(keys.vectors(65_536).open(&aad, sealed.as_bytes()).is_err());
    }

    #[test]
    fn each_long_record_has_a_key_for_its_parts() {
        let aad = RecordAad { index: INDEX, dek_version: 1, slot: 5, tid: [0; 6], part: 1 };
        let mut keys = keys(1, 1, INDEX);
        let sealed = keys.parts(5).seal(&aad, b"part").unwrap();
        assert!(keys.parts(5).open(&aad, sealed.as_bytes()).is_ok());
        assert!(keys.parts(6).open(&aad, sealed.as_bytes()).is_err());
        assert!(keys.vectors(5).open(&aad, sealed.as_bytes()).is_err());
        assert!(keys.vectors(u64::MAX).open(&aad, sealed.as_bytes()).is_err());
    }

    #[test]
    fn commitment_names_dek_version_and_index() {
        let base = keys(1, 1, INDEX);
        assert!(base.check_commitment(&keys(1, 1, INDEX).commitment()).is_ok());
        for other in [keys(1, 2, INDEX), keys(2, 1, INDEX), keys(1, 1, Uuid::from_bytes([8; 16]))] {
            assert!(matches!(base.check_commitment(&other.commitment()), Err(crate::Error::WrongKey)));
        }
    }

    #[test]
    fn cache_is_bounded_and_stays_right() {
        let mut keys = keys(1, 1, INDEX);
        let sealed = keys.list(0).seal(&CHUNK, b"first").unwrap();
        for group in 1..20_000 {
            keys.list(group * LISTS_PER_KEY);
            assert!(keys.lists.len() <= CACHED_MAX);
        }
        assert_eq!(*keys.list(0).open(&CHUNK, sealed.as_bytes()).unwrap(), b"first");
    }
}
