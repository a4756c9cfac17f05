//! Dropped keys and opened vectors are gone from the process: its whole memory is searched, stacks and aws-lc's heap included.
//!
//! The needle is kept masked, so that the search does not find itself. Every search runs while the key is
//! alive too and must find it then: a scanner that finds nothing proves nothing.
#![cfg(target_os = "linux")]

use std::fs::{self, File};
use std::hint::black_box;
use std::os::unix::fs::FileExt;

use sealvec_core::crypto::kdf::{Deriver, Label};
use sealvec_core::crypto::{ChunkAad, ValueAad, XaesKey};
use sealvec_core::item::{Item, ItemHeader, TokenKey, open_item, seal_item};
use sealvec_core::keys::{
    DekBytes, IdKey, IndexKeys, Kek, KekSource, Permission, Permissions, RingRecord, ServerKey, UserRecord, UserToken,
    Uuid,
};
use zeroize::Zeroizing;

const MASK: u8 = 0xc3;
const INDEX: Uuid = Uuid::from_bytes([9; 16]);

/// A key, or a stretch of a vector, as this test may keep it.
struct Needle([u8; 32]);

impl Needle {
    #[inline(never)]
    fn new(key: &[u8; 32]) -> Self {
        let mut masked = [0; 32];
        for (out, byte) in masked.iter_mut().zip(key) {
            *out = black_box(*byte) ^ MASK; // byte by byte: a vector register would be spilled whole
        }
        Self(masked)
    }

    fn starts(&self, window: &[u8]) -> bool {
        window.iter().zip(&self.0).all(|(byte, masked)| byte ^ MASK == *masked)
    }

    /// Places in this process's writable memory that hold the key.
    fn count(&self) -> usize {
        let memory = File::open("/proc/self/mem").unwrap();
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let mut page = vec![0; 1 << 16];
        let mut found = 0;
        for line in maps.lines().filter(|line| line.contains(" rw")) {
            let (start, end) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
            let (mut at, end) = (u64::from_str_radix(start, 16).unwrap(), u64::from_str_radix(end, 16).unwrap());
            let own = page.as_ptr() as u64;
            while at < end {
                let len = page.len().min((end - at) as usize);
                let Ok(read) = memory.read_at(&mut page[..len], at) else { break };
                for offset in 0..read.saturating_sub(31) {
                    let here = at + offset as u64;
                    if self.starts(&page[offset..offset + 32]) && !(own..own + (1 << 16)).contains(&here) {
                        found += 1;
                    }
                }
                page.fill(0);
                if read <= 31 {
                    break;
                }
                at += read as u64 - 31; // windows that cross the seam
            }
        }
        found
    }
}

/// `make` builds what holds keys and names them, the first `living` of which it still holds: those must be
/// found while it lives, and none when it is dropped.
#[inline(never)]
fn check<T>(what: &str, living: usize, make: impl FnOnce() -> (T, Vec<Needle>)) {
    let (holder, needles) = make();
    for needle in &needles[..living] {
        assert!(needle.count() > 0, "{what}: a living key is found");
    }
    drop(holder);
    for (place, needle) in needles.iter().enumerate() {
        assert_eq!(needle.count(), 0, "{what}: key {place} outlives its owner");
    }
}

/// Random text to seal.
fn hex(random: &DekBytes) -> String {
    let mut text = String::with_capacity(64);
    random.as_dek().expose().iter().for_each(|byte| {
        text.extend([byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16).unwrap()));
    });
    text
}

/// One test, because threads of others would share the memory that is searched.
#[test]
fn what_is_dropped_leaves_no_copy() {
    dropped_keys_leave_no_copy();
    vectors_of_merges_and_clustering_leave_no_copy();
}

/// Rows are inserted sealed and keyed, merged, split and clustered; none of some rows' elements stays behind.
fn vectors_of_merges_and_clustering_leave_no_copy() {
    use sealvec_core::format::value::{ValueHeader, seal_value};
    use sealvec_core::format::{Precision, Tid, meta::Identity};
    use sealvec_core::ivf::{self, Cache, ColumnKeys, Keys, Work, insert, merge};
    use sealvec_core::math::random::Random;
    use sealvec_core::{metric::Metric, store::memory::MemoryStore};

    const DIMS: usize = 16;
    let dek = DekBytes::generate(1).unwrap();
    let mut column = ColumnKeys::new(INDEX);
    column.add(&dek.as_dek());
    let value_key = dek.as_dek().value_key(&INDEX);
    let mut index_keys = IndexKeys::new(&dek.as_dek(), INDEX);
    let store = MemoryStore::new();
    let (metric, precision) = (Metric::L2, Precision::Float32);
    ivf::create(&store, Identity { index: INDEX, ring: 5, dims: DIMS as u16, metric, precision, lists: 0 }).unwrap();
    let mut cache = Cache::new(INDEX);
    let mut random = Random::from_number(7);
    let mut needles = Vec::new();
    let mut tick = |_: ivf::Phase, _: u64, _: u64| Ok(());
    let mut row = Zeroizing::new(vec![0.0f32; DIMS]);
    for number in 0..20_000u32 {
        row.iter_mut().for_each(|element| *element = random.normal());
        let tid = Tid { block: number / 50, offset: (number % 50 + 1) as u16 };
        if number % 499 == 50 {
            let bytes: Zeroizing<Vec<u8>> =
                Zeroizing::new(row[4..12].iter().flat_map(|element| element.to_le_bytes()).collect());
            needles.push(Needle::new(bytes[..].try_into().unwrap()));
        }
        let mut keys = Keys { index: &mut index_keys, values: &column };
        let value;
        let inserted = if number % 2 == 0 {
            insert::Row::Plain { tid, values: &row, keys: keys.index }
        } else {
            let header = ValueHeader::column(&INDEX, 1, DIMS).unwrap();
            value = seal_value(&value_key, &header, &INDEX, &row).unwrap();
            insert::Row::Sealed { tid, value: &value }
        };
        if insert::insert(&store, &mut cache, inserted).unwrap().tail >= 1_000 {
            let mut work = Work { pool: None, memory_bytes: 16 << 20, tick: &mut tick };
            merge::merge(&store, &mut cache, &mut keys, merge::Effort::Step, &mut work).unwrap();
        }
    }
    let mut keys = Keys { index: &mut index_keys, values: &column };
    let mut work = Work { pool: None, memory_bytes: 16 << 20, tick: &mut tick };
    merge::train(&store, &mut cache, &mut keys, &mut work).unwrap();
    drop(cache);

    // The mean of one row is that row, and so is the centroid of its list: both stand in the directory. The second
    // time overwrites what the first left in the stack.
    for time in 0..2 {
        let index = Uuid::random().unwrap();
        let mut index_keys = IndexKeys::new(&dek.as_dek(), index);
        let (store, mut cache) = (MemoryStore::new(), Cache::new(index));
        ivf::create(&store, Identity { index, ring: 5, dims: DIMS as u16, metric, precision, lists: 1 }).unwrap();
        row.iter_mut().for_each(|element| *element = random.normal());
        if time == 0 {
            let bytes: Zeroizing<Vec<u8>> =
                Zeroizing::new(row[4..12].iter().flat_map(|element| element.to_le_bytes()).collect());
            needles.push(Needle::new(bytes[..].try_into().unwrap()));
        }
        let alone = insert::Row::Plain { tid: Tid { block: 0, offset: 1 }, values: &row, keys: &mut index_keys };
        insert::insert(&store, &mut cache, alone).unwrap();
        let mut keys = Keys { index: &mut index_keys, values: &column };
        let mut work = Work { pool: None, memory_bytes: 16 << 20, tick: &mut tick };
        merge::train(&store, &mut cache, &mut keys, &mut work).unwrap();
    }
    drop(row);
    let left: Vec<usize> = needles.iter().map(Needle::count).collect();
    assert!(left.iter().all(|left| *left == 0), "copies of {} rows: {left:?}", needles.len());
}

fn dropped_keys_leave_no_copy() {
    // The control: a plain Box is not wiped, and the scanner sees that.
    let (plain, needle) = {
        let dek = DekBytes::generate(1).unwrap();
        (Box::new(*dek.as_dek().expose()), Needle::new(dek.as_dek().expose()))
    };
    let copies = needle.count();
    assert!(copies > 0, "the scanner works");
    drop(black_box(plain));

    check("DEK", 1, || {
        let dek = DekBytes::generate(1).unwrap();
        let needle = Needle::new(dek.as_dek().expose());
        (dek, vec![needle])
    });

    check("index keys", 3, || {
        let dek = DekBytes::generate(1).unwrap();
        let mut keys = IndexKeys::new(&dek.as_dek(), INDEX);
        let aad = ChunkAad { index: INDEX, dek_version: 1, list: 5, epoch: 1, ordinal: 0, block: 0 };
        let sealed = keys.list(5).seal(&aad, &[1; 100]).unwrap();
        keys.list(5).open(&aad, sealed.as_bytes()).unwrap();
        // AES-256's schedule starts with the key itself, so a schedule that survives is found. List 5 is of the first 256.
        let deriver = Deriver::new(dek.as_dek().expose());
        let list = Needle::new(&deriver.derive(Label::IndexList, &[INDEX.as_bytes(), &0u64.to_le_bytes()]));
        let meta = Needle::new(&deriver.subkey(Label::IndexMeta, &INDEX));
        let dek_needle = Needle::new(dek.as_dek().expose());
        ((dek, keys, deriver), vec![dek_needle, list, meta])
    });

    check("value key", 2, || {
        let dek = DekBytes::generate(1).unwrap();
        let key: XaesKey = dek.as_dek().value_key(&INDEX);
        let aad = ValueAad { ring: INDEX, dek_version: 1, dims: 3 };
        let sealed = key.seal(&aad, &[1; 12]).unwrap();
        key.open(&aad, sealed.as_bytes()).unwrap();
        let needle = Needle::new(&Deriver::new(dek.as_dek().expose()).subkey(Label::ColumnValue, &INDEX));
        let dek_needle = Needle::new(dek.as_dek().expose());
        ((key, dek.as_dek().value_key(&INDEX), dek), vec![needle, dek_needle])
    });

    check("open ring", 4, || {
        let kek = Kek::generate().unwrap();
        let mut ring = RingRecord::create(KekSource::Client(&kek), |_| false).unwrap();
        ring.add_dek(&kek).unwrap();
        let open = ring.open(&kek).unwrap();
        let mut needles: Vec<_> = open.deks.iter().map(|dek| Needle::new(dek.as_dek().expose())).collect();
        needles.push(Needle::new(open.id_key.expose()));
        needles.push(Needle::new(kek.expose()));
        // Not held by anyone: it lived for the length of each unwrapping.
        needles.push(Needle::new(&Deriver::new(kek.expose()).subkey(Label::Wrap, &ring.uuid())));
        ((kek, open), needles)
    });

    check("user", 3, || {
        let kek = Kek::generate().unwrap();
        let ring = RingRecord::create(KekSource::Client(&kek), |_| false).unwrap();
        let (server, token) = (ServerKey::from_root_key(b"root"), UserToken::generate().unwrap());
        let ring_keys = ring.open(&kek).unwrap();
        let record = UserRecord::create(&ring, &ring_keys, token.user(), Permissions::READ, token.kek()).unwrap();
        let text = token.encode(&server);
        let shown = UserToken::decode(&text, &server).unwrap();
        let open = record.open(&ring, shown.kek(), Permission::Read).unwrap();
        let mut needles: Vec<_> = open.deks.iter().map(|dek| Needle::new(dek.as_dek().expose())).collect();
        needles.push(Needle::new(open.id_key.expose()));
        needles.push(Needle::new(shown.kek().expose()));
        // Gone already: the token's text, and the key that wraps the copies.
        needles.push(Needle::new(text.as_bytes()[40..72].try_into().unwrap()));
        let (ring, user) = (ring.uuid(), shown.user());
        let context: [&[u8]; 2] = [ring.as_bytes(), user.as_bytes()];
        needles.push(Needle::new(&Deriver::new(shown.kek().expose()).derive(Label::UserWrap, &context)));
        ((shown, open), needles)
    });

    check("item", 2, || {
        let dek = DekBytes::generate(1).unwrap();
        let contents: Zeroizing<String> = Zeroizing::new(DekBytes::generate(1).map(|random| hex(&random)).unwrap());
        let key = dek.as_dek().item_key(&INDEX);
        let id_key = IdKey::from_slice(dek.as_dek().expose()).unwrap();
        let tokens = TokenKey::new(&id_key, &INDEX);
        let token = tokens.token("id");
        let item = Item::new("id", Some(&contents), None).unwrap();
        let sealed = seal_item(&key, &ItemHeader::new(&INDEX, 1), &INDEX, &token, &item).unwrap();
        let open = open_item(&key, &INDEX, &token, &sealed).unwrap();
        let needles = vec![
            Needle::new(contents.as_bytes()[..32].try_into().unwrap()),
            Needle::new(&Deriver::new(id_key.expose()).subkey(Label::IdToken, &INDEX)),
            Needle::new(&Deriver::new(dek.as_dek().expose()).subkey(Label::Item, &INDEX)),
        ];
        ((open, tokens), needles)
    });
}
