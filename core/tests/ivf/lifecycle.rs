//! Insert, merge, split, vacuum, crash: every live row is found once, and the check agrees.

use sealvec_core::{
    Error,
    format::{Precision, Tid},
    ivf::{self, insert::Row, merge::Effort, scan::ScanOptions},
    keys::{Dek, IndexKeys},
    metric::Metric,
    store::PageStore,
};

use crate::support::{Index, clustered, identity};

#[test]
fn every_row_is_found_at_every_size() {
    for metric in [Metric::L2, Metric::Cosine, Metric::InnerProduct] {
        for precision in [Precision::Float32, Precision::Float16] {
            let mut index = Index::new(identity(24, metric, precision));
            let rows = clustered(700, 24, 1);
            for (count, row) in rows.iter().enumerate() {
                index.insert(row);
                if [0, 1, 62, 63, 64, 65, 126, 127, 508, 509, 510, 699].contains(&count) {
                    index.assert_complete(&rows[count / 2]);
                    index.check();
                }
            }
        }
    }
}

#[test]
fn many_rows_at_a_time_are_as_single_ones() {
    // Short records, some to a page, one to a page, and one over pages.
    for dims in [3, 24, 500, 1900, 2500] {
        for metric in [Metric::L2, Metric::Cosine] {
            let mut index = Index::new(identity(dims, metric, Precision::Float32));
            let mut rows = clustered(400, dims.into(), 1);
            rows[7].fill(0.0);
            rows[39].fill(0.0);
            let mut rest = &rows[..];
            for count in [1, 0, 2, 31, 32, 33, 64, 200] {
                let (these, behind) = rest.split_at(count);
                index.insert_many(these);
                index.insert(&behind[0]);
                rest = &behind[1..];
                // Under cosine a zero vector, which is in no index, is no question either.
                index.assert_complete(&rows[count / 2 + 1]);
                index.check();
            }
            // Freed room is found again.
            index.delete(|tid| tid.offset % 2 == 0);
            ivf::vacuum::cleanup(&index.store, &mut index.cache).unwrap();
            index.insert_many(rest);
            index.assert_complete(&rows[5]);
            index.check();
        }
    }
}

#[test]
fn many_rows_at_a_time_cost_few_records() {
    let rows = clustered(1000, 384, 9);
    let records = |many: bool| {
        let store = sealvec_core::store::memory::MemoryStore::logged();
        let mut index = Index::on(store, identity(384, Metric::L2, Precision::Float32));
        let before = index.store.log_len();
        match many {
            true => {
                let rows: Vec<(Tid, &[f32])> =
                    rows.iter().map(|row| (Tid { block: 1, offset: 1 }, row.as_slice())).collect();
                ivf::insert::insert_many(&index.store, &mut index.cache, &mut index.keys, &rows).unwrap();
            }
            false => rows.iter().for_each(|values| {
                let row = Row::Plain { tid: Tid { block: 1, offset: 1 }, values, keys: &mut index.keys };
                ivf::insert::insert(&index.store, &mut index.cache, row).unwrap();
            }),
        }
        index.store.log_len() - before
    };
    // Five records to a page, three pages to a record of the log; and a record for each leaf.
    assert!(records(false) >= 1000);
    assert!(records(true) < 90, "{}", records(true));
}

#[test]
fn growth_makes_lists_and_splits_them() {
    let mut index = Index::new(identity(16, Metric::L2, Precision::Float16));
    let rows = clustered(14_000, 16, 2);
    for row in &rows {
        index.insert(row);
    }
    let report = index.check();
    assert_eq!(report.rows, 14_000);
    assert!(report.lists > 40, "{report:?}");
    index.assert_complete(&rows[77]);
    let recall: f64 = rows.iter().step_by(281).map(|q| index.recall(q, 10, ScanOptions::default())).sum::<f64>() / 50.0;
    assert!(recall > 0.95, "recall {recall} with nothing set");
}

#[test]
fn locked_inserts_are_merged_later() {
    let mut index = Index::new(identity(20, Metric::Cosine, Precision::Float16));
    let rows = clustered(600, 20, 3);
    for row in &rows {
        index.insert_locked(row);
    }
    index.assert_complete(&rows[5]);
    let merged = index.merge(Effort::All);
    assert_eq!(merged.to_l0, 600);
    index.assert_complete(&rows[5]);
    let report = index.check();
    assert_eq!((report.rows, report.tail), (600, 0));
}

#[test]
fn vacuum_forgets_the_dead_and_their_pages() {
    let mut index = Index::new(identity(32, Metric::L2, Precision::Float32));
    let rows = clustered(6000, 32, 4);
    rows.iter().for_each(|row| {
        index.insert(row);
    });
    let deleted = index.delete(|tid| tid.block < 60);
    assert_eq!(deleted.dead, 2999);
    index.assert_complete(&rows[4000]);
    index.check();
    let pages = index.store.images().len();
    let cleaned = sealvec_core::ivf::vacuum::cleanup(&index.store, &mut index.cache).unwrap();
    assert!(cleaned.swept && cleaned.pages_free > 50, "{cleaned:?}");
    rows[..2500].iter().for_each(|row| {
        index.insert(row);
    });
    assert!(index.store.images().len() <= pages + 40, "freed pages are used again");
    index.assert_complete(&rows[4000]);
    index.check();
}

#[test]
fn long_vectors_span_pages() {
    for (dims, metric, precision) in [
        (2000, Metric::L2, Precision::Float32),
        (5000, Metric::Cosine, Precision::Float16),
        (16_000, Metric::L2, Precision::Float32),
        (16_000, Metric::InnerProduct, Precision::Float16),
    ] {
        let mut index = Index::new(identity(dims, metric, precision));
        let rows = clustered(150, dims as usize, 5);
        for row in &rows[..140] {
            index.insert(row);
        }
        for row in &rows[140..] {
            index.insert_locked(row);
        }
        index.merge(Effort::All);
        index.assert_complete(&rows[3]);
        index.delete(|tid| tid.offset % 2 == 0);
        sealvec_core::ivf::vacuum::cleanup(&index.store, &mut index.cache).unwrap();
        index.train();
        index.assert_complete(&rows[3]);
        index.check();
    }
}

/// Around each length at which a record takes one part more, where the front is longest, empty, or shortest.
#[test]
fn every_length_of_long_vectors_fits() {
    let around = |dims: [u16; 3], each: u16| {
        dims.into_iter().flat_map(move |from| (0..3).flat_map(move |part| from + part * each..from + part * each + 24))
    };
    let singles = around([2014, 4040, 6066], 2028).map(|dims| (dims, Precision::Float32));
    let halves = around([4040, 8090, 11_000], 1).map(|dims| (dims, Precision::Float16));
    for (dims, precision) in singles.chain(halves) {
        let mut index = Index::new(identity(dims, Metric::L2, precision));
        let rows = clustered(2, dims as usize, u64::from(dims));
        index.insert(&rows[0]);
        index.insert_locked(&rows[1]);
        index.assert_complete(&rows[1]);
        index.merge(Effort::All);
        index.assert_complete(&rows[0]);
        index.check();
    }
}

#[test]
fn training_replaces_every_list() {
    let mut index = Index::new(identity(16, Metric::L2, Precision::Float16));
    let rows = clustered(5000, 16, 6);
    rows.iter().for_each(|row| {
        index.insert(row);
    });
    index.train();
    let report = index.check();
    assert_eq!((report.rows, report.tail, report.coded), (5000, 0, 5000));
    index.assert_complete(&rows[9]);
}

#[test]
fn lists_forget_rows_that_died_together() {
    let mut index = Index::new(identity(16, Metric::L2, Precision::Float16));
    let rows = clustered(9000, 16, 8);
    for row in &rows {
        index.insert(row);
    }
    index.train();
    // Whole neighbourhoods die: what is near 10 of the rows.
    let near: Vec<_> = (0..10).flat_map(|row| index.exact(&rows[row * 700])[..172].to_vec()).collect();
    let dead: std::collections::HashSet<_> = near.into_iter().map(|(_, tid)| tid).collect();
    index.delete(|tid| dead.contains(&tid));
    let coded_in_vain = |report: sealvec_core::ivf::check::Report| report.coded + report.tail - report.rows;
    let before = coded_in_vain(index.check());
    assert!(
        (1310..1800).contains(&before),
        "more than a tenth of what there will be, less than a fifth of what is: {before}"
    );
    for row in &rows[..4300] {
        index.insert(row);
    }
    let after = coded_in_vain(index.check());
    assert!(after < before / 2, "{after} dead rows of {before} are still in lists");
    index.assert_complete(&rows[9]);
}

/// What nothing reads on the way to a row is checked as well: counts, unused fields, where a page ends.
#[test]
fn check_sees_damage_to_clear_heads() {
    let mut index = Index::new(identity(16, Metric::L2, Precision::Float32));
    for row in &clustered(5_000, 16, 3) {
        index.insert(row);
    }
    index.delete(|tid| tid.offset == 2);
    index.merge(Effort::All);
    index.check();
    // Offsets in the page (24 is the first of the body): pd_lower, vector page's live count, a node's unused fields,
    // the meta page's row counts, an unused entry of the list map.
    let damage: [(u8, &[usize]); 7] = [
        (1, &[24, 32, 24 + 128, 24 + 136]),
        (2, &[12, 24 + 16, 24 + 20]),
        (3, &[12, 24 + 8, 24 + 10]),
        (4, &[12, 24, 24 + 3]),
        (6, &[12, 24, 24 + 12, 24 + 16]),
        (7, &[12, 8183]),
        (9, &[12, 24 + 12, 24 + 20]),
    ];
    for (kind, offsets) in damage {
        let pages = index.store.images();
        let block =
            pages.iter().position(|page| page[8184] == kind).unwrap_or_else(|| panic!("no page of kind {kind}"));
        for &offset in offsets {
            let flip = |index: &Index| index.store.corrupt(block as u32, |page| page[offset] ^= 8);
            flip(&index);
            assert!(index.try_check().is_err(), "kind {kind}, block {block}, byte {offset}");
            flip(&index);
            index.check();
        }
    }
}

#[test]
fn a_transaction_has_its_number_before_the_maintenance_lock() {
    let mut index = Index::new(identity(2500, Metric::L2, Precision::Float32));
    let rows = clustered(20, 2500, 5);
    for train in [false, true] {
        rows[..10].iter().for_each(|row| {
            index.insert_locked(row);
        });
        index.store.end_transaction();
        if train {
            index.train();
        } else {
            index.merge(Effort::All);
        }
        index.assert_complete(&rows[3]);
    }
}

/// Values in the shape of column values that do not open: damaged, of a DEK that is not here, of another ring.
fn forgeries(index: &Index, values: &[f32]) -> Vec<Vec<u8>> {
    let good = index.column.seal(values);
    let with = |at: usize, byte: u8| {
        let mut forged = good.clone();
        forged[at] ^= byte;
        forged
    };
    vec![with(40, 1), with(8, 6), with(4, 1), with(12, 128), with(good.len() - 1, 1), with(4, 255)]
}

#[test]
fn forged_values_are_left_out_and_deny_the_index_to_nobody() {
    for dims in [16, 2500] {
        let mut index = Index::new(identity(dims, Metric::Cosine, Precision::Float32));
        let rows = clustered(300, dims.into(), 5);
        let forgeries = forgeries(&index, &rows[0]);
        let mut forged: Vec<_> = forgeries.iter().map(|value| index.insert_forged(value)).collect();
        // Before anything good, so that a merge meets them alone; then among rows that came locked and keyed.
        index.merge(Effort::All);
        assert_eq!(index.cache.take_unopened().tids().collect::<Vec<_>>(), forged);
        for (number, row) in rows.iter().enumerate() {
            match number % 3 {
                0 => index.insert_locked(row),
                _ => index.insert(row),
            };
            if number % 50 == 0 {
                forged.push(index.insert_forged(&forgeries[number / 50]));
                index.assert_complete(row);
                assert!(index.cache.take_unopened().tids().any(|tid| tid == *forged.last().unwrap()), "a scan tells");
            }
        }
        index.merge(Effort::All);
        let meta = ivf::read_meta(&index.store).unwrap();
        assert_eq!(meta.merged_upto, 312, "the tail is merged past them");
        index.cache.take_unopened();
        index.merge(Effort::All);
        assert!(index.cache.take_unopened().is_empty(), "and no merge tries them again");
        index.assert_complete(&rows[7]);
        index.train();
        index.assert_complete(&rows[7]);
        let unopened = index.cache.take_unopened();
        assert_eq!((unopened.first(), unopened.len(), unopened.has_more()), (Some(forged[0]), 12, false));
        assert_eq!(index.check().rows, 300);
        // Their heap rows go, and so do they.
        assert_eq!(index.delete(|tid| forged.contains(&tid)).dead, 12);
        index.cache.take_unopened();
        index.train();
        assert!(index.cache.take_unopened().is_empty());
        index.check();
    }
}

#[test]
fn a_tail_of_forged_values_is_merged_once_and_hides_no_row() {
    let mut index = Index::new(identity(8, Metric::L2, Precision::Float32));
    let rows = clustered(40, 8, 5);
    let forged = forgeries(&index, &rows[0]).remove(0);
    // More than two batches for L0, so that a merge clusters at once: of the many, hardly one opens.
    for number in 0..9_000 {
        index.insert_forged(&forged);
        if number % 450 == 449 {
            index.insert_locked(&rows[number / 450]);
        }
    }
    index.merge(Effort::Step);
    assert_eq!(ivf::read_meta(&index.store).unwrap().merged_upto, 9_020);
    index.assert_complete(&rows[3]);
    for _ in 0..9_000 {
        index.insert_forged(&forged);
    }
    index.merge(Effort::Step);
    index.cache.take_unopened();
    rows[20..].iter().for_each(|row| {
        index.insert(row);
    });
    index.merge(Effort::Step);
    assert!(index.cache.take_unopened().is_empty(), "merged past, though nothing of it opens");
    index.assert_complete(&rows[30]);
    index.check();
}

#[test]
fn a_newer_data_key_brings_its_rows_in_at_the_next_clustering() {
    let mut index = Index::new(identity(8, Metric::L2, Precision::Float32));
    let rows = clustered(20, 8, 5);
    let newer = sealvec_core::keys::Dek::new(2, &[11; 32]);
    rows[..10].iter().for_each(|row| {
        index.insert(row);
    });
    let tid = index.insert_forged(&index.column.seal_under(&newer, &rows[10]));
    index.merge(Effort::All);
    index.assert_complete(&rows[3]);
    assert_eq!(index.cache.take_unopened().first(), Some(tid));
    index.column.keys.add(&newer);
    index.train();
    index.rows.insert(tid, rows[10].clone());
    index.assert_complete(&rows[3]);
    assert_eq!(index.check().rows, 11);
}

#[test]
fn a_meta_page_that_denies_its_key_is_damage() {
    let rows = clustered(300, 16, 3);
    let sealed = |rows: &[Vec<f32>]| {
        let mut index = Index::new(identity(16, Metric::L2, Precision::Float32));
        rows.iter().for_each(|row| {
            index.insert(row);
        });
        index
    };
    // Offsets in the page, of which 24 is the first of the body.
    let (metric, precision, dek_version) = (24 + 12, 24 + 13, 24 + 40);
    let body = |page: &mut [u8; 8192]| (page[12], page[13]) = (24 + 200, 0);
    // What an index that was never bound says, of one with this identity and these slots.
    let pristine = |page: &mut [u8; 8192]| {
        page[dek_version] = 0;
        page[24 + 48..24 + 56].copy_from_slice(&1u64.to_le_bytes());
        page[24 + 56..24 + 80].fill(0); // directory epoch, work epoch, merged_upto
        page[24 + 88..24 + 200].fill(0);
        page[24 + 120..24 + 128].copy_from_slice(&1u64.to_le_bytes()); // next uid
        body(page);
    };
    type Damage<'a> = &'a dyn Fn(&mut [u8; 8192]);
    let damages: [(&str, Damage<'_>); 5] = [
        ("no DEK version", &|page| page[dek_version] = 0),
        ("no DEK version and no tag", &|page| (page[dek_version], page[12], page[13]) = (0, 24 + 200, 0)),
        ("another distance", &|page| page[metric] = 3),
        ("another precision", &|page| page[precision] = 2),
        ("as if never bound, and another distance", &|page| {
            pristine(page);
            page[metric] = 3;
        }),
    ];
    for count in [3, 300] {
        for (what, damage) in &damages {
            let mut index = sealed(&rows[..count]);
            index.store.corrupt(0, |page| damage(page));
            let keys = ivf::check_keys(&index.store, &index.keys);
            assert!(matches!(keys, Err(Error::Corrupt { block: 0, .. })), "{what}, {count} rows: {keys:?}");
            let by_records = matches!(keys, Err(Error::Corrupt { what, .. }) if what.contains("has sealed records"));
            assert_eq!(by_records, what.starts_with("as if"), "{what}: {keys:?}");
            assert!(index.try_check().is_err(), "{what}");
            let merged =
                index.with(|store, cache, keys, work| ivf::merge::merge(store, cache, keys, Effort::All, work));
            assert!(matches!(merged, Err(Error::Corrupt { block: 0, .. })), "{what}: {merged:?}");
            let row = Row::Plain { tid: Tid { block: 9, offset: 9 }, values: &rows[0], keys: &mut index.keys };
            let inserted = ivf::insert::insert(&index.store, &mut index.cache, row);
            assert!(matches!(inserted, Err(Error::Corrupt { block: 0, .. })), "{what}: {inserted:?}");
        }
    }
    // An index that was never bound is whole, with rows and without, and dead ones.
    let mut index = Index::new(identity(16, Metric::L2, Precision::Float32));
    ivf::check_keys(&index.store, &index.keys).unwrap();
    rows.iter().for_each(|row| {
        index.insert_locked(row);
    });
    index.delete(|tid| tid.block == 0);
    ivf::check_keys(&index.store, &index.keys).unwrap();
    index.merge(Effort::All);
    ivf::check_keys(&index.store, &index.keys).unwrap();
    let other = IndexKeys::new(&Dek::new(1, &[8; 32]), index.identity.index);
    assert!(matches!(ivf::check_keys(&index.store, &other), Err(Error::WrongKey)));
}

/// VACUUM sleeps between pages for as long as its cost limit says; mergers must not wait for that.
#[test]
fn a_sweep_rests_without_the_maintenance_lock() {
    let mut index = Index::new(identity(64, Metric::L2, Precision::Float32));
    clustered(5_000, 64, 5).iter().for_each(|row| {
        index.insert(row);
    });
    let (pages, before) = (u64::from(index.store.blocks().unwrap()), index.store.rests());
    assert!(pages > 200, "{pages}");
    let cleaned = index.with(|store, cache, _, _| sealvec_core::ivf::vacuum::cleanup(store, cache)).unwrap();
    assert!(cleaned.swept);
    let rests = index.store.rests() - before;
    assert!(rests >= pages / 64, "{rests} rests in {pages} pages");
}

#[test]
fn values_that_wait_for_a_merge_are_counted_by_version() {
    // 24 dimensions share a page; 2,100 span two, so that only the first part of a record has the value's front.
    for dims in [24, 2_100] {
        let mut index = Index::new(identity(dims, Metric::L2, Precision::Float32));
        let rows = clustered(9, dims.into(), 5);
        let count =
            |index: &Index| ivf::stats::verbatim_versions(&index.store).unwrap().into_iter().collect::<Vec<_>>();
        assert_eq!(count(&index), []);
        index.insert(&rows[0]);
        for row in &rows[1..4] {
            index.insert_locked(row);
        }
        for row in &rows[4..9] {
            let newer = index.column.seal_under(&Dek::new(2, &[8; 32]), row);
            index.insert_forged(&newer);
        }
        assert_eq!(count(&index), [(1, 3), (2, 5)], "{dims}");
        // What opens is sealed by the index itself from then on; what does not stays.
        index.merge(Effort::All);
        assert_eq!(count(&index), [(2, 5)], "{dims}");
    }
}
