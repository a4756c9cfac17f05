//! docs/FORMAT.md and docs/THREAT_MODEL.md against the source: sizes, kinds, capacities, and the list of what is clear.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sealvec_core::format::{directory, list, meta, slot, vector};
use sealvec_core::store::{BODY, Clear, PAGE, PageKind};
use sealvec_core::{item, json};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("core lies in the repository").to_owned()
}

fn document(name: &str) -> String {
    std::fs::read_to_string(root().join("docs").join(name)).unwrap()
}

/// Every clear structure with its length, in the order of the document.
fn structures() -> Vec<(&'static str, usize)> {
    vec![
        ("Meta", meta::Meta::LEN),
        ("NodeHeader", slot::NodeHeader::LEN),
        ("ChildBlock", slot::ChildBlock::LEN),
        ("LeafHeader", slot::LeafHeader::LEN),
        ("SlotEntry", slot::SlotEntry::LEN),
        ("VectorPage", vector::VectorPage::LEN),
        ("RecordHeader", vector::RecordHeader::LEN),
        ("OverflowLink", vector::OverflowLink::LEN),
        ("OverflowHeader", vector::OverflowHeader::LEN),
        ("MapEntry", list::MapEntry::LEN),
        ("ListPage", list::ListPage::LEN),
        ("ChunkHeader", list::ChunkHeader::LEN),
        ("DirectoryPage", directory::DirectoryPage::LEN),
    ]
}

/// Cells of the first table behind `heading` whose first two columns are numbers.
fn rows(document: &str, heading: &str) -> Vec<(usize, usize)> {
    let section = document.split(&format!("\n{heading}\n")).nth(1).unwrap_or_else(|| panic!("no heading {heading:?}"));
    let lines = section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let number = |cell: &str| cell.trim().replace(',', "").parse::<usize>().ok();
    lines
        .filter_map(|line| line.split('|').skip(1).map(number).take(2).collect::<Option<Vec<_>>>())
        .map(|row| (row[0], row[1]))
        .collect()
}

fn adjoin(rows: &[(usize, usize)], what: &str) -> usize {
    assert!(!rows.is_empty(), "{what}: no rows");
    rows.iter().fold(0, |end, (offset, size)| {
        assert_eq!(*offset, end, "{what}: a gap or overlap before offset {offset}");
        offset + size
    })
}

#[test]
fn every_table_of_a_structure_adds_up_to_its_length() {
    let format = document("FORMAT.md");
    for (name, len) in structures() {
        let heading = format!("### `{name}`, {len} bytes");
        assert_eq!(adjoin(&rows(&format, &heading), name), len, "{name}");
    }
    assert_eq!(adjoin(&rows(&format, "## Index page"), "page"), PAGE);
}

/// Up to where lengths start to depend on content.
#[test]
fn fixed_fronts_of_items_and_users_add_up() {
    let format = document("FORMAT.md");
    assert_eq!(adjoin(&rows(&format, "## Item"), "item"), item::HEADER_LEN + 24);
    assert_eq!(adjoin(&rows(&format, "## User's record"), "user's record"), 72);
    assert_eq!(adjoin(&rows(&format, "## User token"), "user token"), 56);
    let empty = item::sealed_len(&item::Item::new("", None, None).unwrap()).unwrap();
    assert!(format.contains(&format!("{empty} + a + b + c bytes")), "an empty item has {empty} bytes");
    assert!(format.contains("At most 512 MiB sealed") && item::ITEM_LEN_MAX == 512 << 20);
    assert!(format.contains("at most 1,000 levels") && json::DEPTH_MAX == 1_000);
}

#[test]
fn page_kinds_have_their_numbers() {
    let format = document("FORMAT.md");
    let kinds = format.split("| kind | page | body |").nth(1).expect("the table of page kinds");
    let found: BTreeMap<usize, String> = kinds
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.split('|').map(str::trim).collect::<Vec<_>>())
        .map(|cells| (cells[1].parse().unwrap(), cells[2].to_owned()))
        .collect();
    use PageKind::*;
    let kinds =
        [Free, Meta, SlotDirectory, SlotLeaf, Vector, Overflow, MapDirectory, ListMap, List, DirectoryIndex, Directory];
    let expected: BTreeMap<usize, String> = kinds.iter().map(|kind| (*kind as usize, format!("{kind:?}"))).collect();
    assert_eq!(found, expected);
}

#[test]
fn capacities_are_those_of_the_source() {
    let format = document("FORMAT.md");
    let thousands = |number: usize| match number {
        0..1000 => number.to_string(),
        _ => format!("{},{:03}", number / 1000, number % 1000),
    };
    let body = rows(&format, "## Index page").into_iter().any(|row| row.1 == BODY);
    assert!(body, "the body of a page has {BODY} bytes");
    for text in [
        format!("up to {} `SlotEntry`", thousands(slot::LEAF_SLOTS)),
        format!("up to {} `ChildBlock`", thousands(slot::NODE_CHILDREN)),
        format!("{} `MapEntry`", thousands(list::MAP_ENTRIES)),
        format!("{} positions", thousands(slot::NODE_CHILDREN * list::MAP_ENTRIES)),
        format!("bytes that follow, at most {}", thousands(vector::PART_MAX)),
        format!("sealed bytes that follow, at most {}", thousands(list::PIECE_MAX)),
        format!("At most {} bytes of the stream", thousands(directory::PIECE_PLAIN_MAX)),
        format!("rows, 1 to {}", list::BLOCK_ROWS * list::CHUNK_BLOCKS_MAX),
        format!("index format version, {} |", meta::VERSION),
    ] {
        assert!(format.contains(&text), "FORMAT.md does not say: {text}");
    }
}

#[test]
fn a_chunk_opens_to_what_the_table_says() {
    for dims in [1, 64, 384, 1920, 1921, 16_000usize] {
        let layout = list::ChunkLayout::new(dims);
        let padded = dims.next_multiple_of(64);
        let short = |rows| rows * (padded / 8 + 12) + 4;
        assert_eq!(layout.plain_len(17), 8 + (4 * padded + 388), "{dims}");
        assert_eq!(layout.plain_len(48), 8 + (4 * padded + 388) + short(16), "{dims}");
        let one_page = layout.plain_len(32) + sealvec_core::crypto::OVERHEAD <= list::PIECE_MAX;
        assert_eq!(one_page, dims <= 1920, "{dims}");
    }
}

/// What is clear on a page is what implements `Clear`; each is in both documents, and nothing else is.
#[test]
fn everything_clear_is_listed() {
    let mut found: Vec<String> = Vec::new();
    for file in std::fs::read_dir(root().join("core/src/format")).unwrap() {
        let source = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let names = source.lines().filter_map(|line| line.strip_prefix("impl Clear for ")?.strip_suffix(" {"));
        found.extend(names.map(str::to_owned));
    }
    let mut known: Vec<String> = structures().iter().map(|(name, _)| name.to_string()).collect();
    found.sort();
    known.sort();
    assert_eq!(found, known);
    let threats = document("THREAT_MODEL.md");
    for name in known {
        assert!(threats.contains(&format!("| `{name}` |")), "THREAT_MODEL.md does not list {name}");
    }
}

#[test]
fn a_later_part_of_a_long_record_opens_as_the_document_says() {
    use sealvec_core::crypto::{AeadKey, RecordAad, kdf};
    use sealvec_core::format::{Precision, Tid, meta::Identity};
    use sealvec_core::ivf::{self, Cache, insert};
    use sealvec_core::keys::{Dek, IndexKeys, Uuid};
    use sealvec_core::{metric::Metric, store, store::memory::MemoryStore};

    let (dek, index) = ([7; 32], Uuid::from_bytes([3; 16]));
    let (pages, mut cache) = (MemoryStore::new(), Cache::new(index));
    let mut keys = IndexKeys::new(&Dek::new(1, &dek), index);
    let (metric, precision) = (Metric::L2, Precision::Float32);
    ivf::create(&pages, Identity { index, ring: 5, dims: 5_000, metric, precision, lists: 0 }).unwrap();
    let tid = Tid { block: 1, offset: 2 };
    let values: Vec<f32> = (0..5_000).map(|element| element as f32).collect();
    insert::insert(&pages, &mut cache, insert::Row::Plain { tid, values: &values, keys: &mut keys }).unwrap();

    let mut tail = Vec::new();
    let images = pages.images();
    let overflow = images.iter().filter(|page| store::kind(page) == Some(PageKind::Overflow));
    let mut parts: Vec<(vector::OverflowHeader, &[u8])> = overflow
        .map(|page| {
            let header = vector::OverflowHeader::at(store::body(page), 0).unwrap();
            (header, &store::body(page)[vector::OverflowHeader::LEN..])
        })
        .collect();
    parts.sort_by_key(|(header, _)| header.part);
    for (header, sealed) in &parts {
        let info: [&[u8]; 2] = [index.as_bytes(), &header.record.to_le_bytes()];
        let key = AeadKey::new(&kdf::Deriver::new(&dek).derive(kdf::Label::IndexParts, &info));
        let (slot, part) = (header.record, header.part);
        let aad = RecordAad { index, dek_version: 1, slot, tid: tid.to_bytes(), part };
        tail.extend_from_slice(&key.open(&aad, sealed).unwrap());
    }
    let expected: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    assert!(parts.len() == 2 && tail.len() > 16_000 && expected.ends_with(&tail));
}
