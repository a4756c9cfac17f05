//! A changed bit, a moved page, a missing entry: an error that names the block, never a wrong row, never a crash.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use sealvec_e2e::answers::{self, Near, by_index, try_nearest};
use sealvec_e2e::page::{self, KIND, KINDS, PAGE};
use sealvec_e2e::xtask::must;
use sealvec_e2e::{Cluster, Matrix, Random, data, error_of, one, run};

const INDEX_CORRUPTED: &str = "XX002";
const DATA_CORRUPTED: &str = "XX001";
/// Postgres 18 makes clusters with checksums, which an attacker computes anew; what is asked here is what finds him then.
const BLIND: &str = "ignore_checksum_failure=on";

/// What is done to an index file.
enum Fault {
    Flip {
        block: usize,
        offset: usize,
        bit: u32,
    },
    Zero {
        block: usize,
    },
    Swap {
        left: usize,
        right: usize,
    },
    Foreign {
        block: usize,
        from: Vec<u8>,
    },
    Cut {
        blocks: usize,
    },
    /// Bytes of the meta page.
    Meta {
        bytes: Vec<(usize, u8)>,
        lower: usize,
    },
}

impl Fault {
    fn apply(&self, file: &Path) {
        let mut pages = page::read(file);
        match self {
            Fault::Flip { block, offset, bit } => pages[block * PAGE + offset] ^= 1 << bit,
            Fault::Zero { block } => pages[block * PAGE..][..PAGE].fill(0),
            Fault::Swap { left, right } => {
                let copy = pages[left * PAGE..][..PAGE].to_vec();
                pages.copy_within(right * PAGE..(right + 1) * PAGE, left * PAGE);
                pages[right * PAGE..][..PAGE].copy_from_slice(&copy);
            }
            Fault::Foreign { block, from } => pages[block * PAGE..][..PAGE].copy_from_slice(from),
            Fault::Cut { blocks } => pages.truncate(blocks * PAGE),
            Fault::Meta { bytes, lower } => {
                bytes.iter().for_each(|(offset, byte)| pages[24 + offset] = *byte);
                pages[12..14].copy_from_slice(&(*lower as u16).to_le_bytes());
            }
        }
        fs::write(file, pages).expect("written");
    }
}

/// One database with one fault.
struct Case {
    what: String,
    table: &'static str,
    fault: Fault,
}

/// Rows longer than a page, so that their records span pages.
fn long_rows() -> Matrix {
    let short = data::vectors();
    Matrix { dims: 2_500, values: short.values[..2_500 * 60].to_vec() }
}

#[test]
fn a_flipped_bit_or_moved_page_is_an_error_and_never_a_wrong_row() {
    let mut cluster = Cluster::start("tamper", &["fsync=off", "full_page_writes=off", "autovacuum=off", BLIND]);
    let mut admin = cluster.connect_to("postgres");
    run(&mut admin, "CREATE DATABASE model");
    let mut client = cluster.connect_to("model");
    run(&mut client, "CREATE EXTENSION sealvec");
    run(&mut client, "DO $$ BEGIN PERFORM sealvec.create_key_ring('notes'); END $$");
    let short = data::vectors().cut(1_500, 48);
    data::table(&mut client, "short", "notes", &short);
    data::table(&mut client, "long", "notes", &long_rows());
    data::table(&mut client, "other", "notes", &short);
    run(
        &mut client,
        "CREATE INDEX short_idx ON short USING sealed_ivf (embedding) WITH (lists = 6);
         CREATE INDEX other_idx ON other USING sealed_ivf (embedding) WITH (lists = 6);
         CREATE INDEX long_idx ON long USING sealed_ivf (embedding)",
    );
    // Some rows in L0, some in the tail, some dead.
    run(&mut client, "INSERT INTO short SELECT id + 10000, embedding FROM short WHERE id < 150");
    run(&mut client, "DELETE FROM short WHERE id % 50 = 3");
    for command in ["VACUUM short", "CHECKPOINT"] {
        run(&mut client, command);
    }
    let queries = data::queries().cut(6, 48);
    let mut expected: Vec<Vec<Near>> = Vec::new();
    by_index(&mut client, "short", "<->");
    for query in 0..queries.rows() {
        expected.push(answers::nearest(&mut client, "short", "<->", queries.row(query), 40));
    }
    by_index(&mut client, "long", "<->");
    let long = long_rows();
    let expected_long = answers::nearest(&mut client, "long", "<->", long.row(5), 40);
    for index in ["short_idx", "long_idx"] {
        run(&mut client, &format!("SELECT sealvec.verify_index('{index}')"));
    }

    let file = |client: &mut postgres::Client, cluster: &Cluster, index: &str| -> PathBuf {
        let path: String = one(client, &format!("SELECT pg_relation_filepath('{index}')"));
        cluster.path("data").join(path)
    };
    let short_pages = page::read(&file(&mut client, &cluster, "short_idx"));
    let long_pages = page::read(&file(&mut client, &cluster, "long_idx"));
    let other_pages = page::read(&file(&mut client, &cluster, "other_idx"));
    drop(client);
    let cases = cases(&short_pages, &long_pages, &other_pages);

    let mut files = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        run(&mut admin, &format!("CREATE DATABASE fault_{number} TEMPLATE model STRATEGY file_copy"));
        let mut client = cluster.connect_to(&format!("fault_{number}"));
        files.push(file(&mut client, &cluster, &format!("{}_idx", case.table)));
    }
    drop(admin);
    cluster.stop();
    for (case, file) in cases.iter().zip(&files) {
        case.fault.apply(file);
    }
    cluster.start_again();

    let mut missed = Vec::new();
    let all = short;
    for (number, case) in cases.iter().enumerate() {
        let mut client = cluster.connect_to(&format!("fault_{number}"));
        let watch = Watch::on(&mut client, 30);
        run(&mut client, "SET enable_seqscan = off; SET sealvec.probes = 32768");
        let asked: Vec<(&[f32], &Vec<Near>)> = match case.table {
            "short" => (0..queries.rows()).map(|query| (queries.row(query), &expected[query])).collect(),
            _ => vec![(long.row(5), &expected_long)],
        };
        for (query, expected) in asked {
            match try_nearest(&mut client, case.table, "<->", query, 40) {
                Ok(rows) => {
                    // Whoever can put another index's clear pages here may hide rows until verify_index is asked
                    // (docs/THREAT_MODEL.md), but makes no row of another.
                    let hidden = matches!(case.fault, Fault::Foreign { .. });
                    let right =
                        if hidden { true_rows(&rows, &all, query, case.table) } else { answers::same(&rows, expected) };
                    if let Err(what) = right {
                        missed.push(format!("{}: a wrong answer: {what}", case.what));
                        break;
                    }
                }
                Err(error) => {
                    if let Err(what) = names_the_block(&error) {
                        missed.push(format!("{}: scan: {what}", case.what));
                    }
                    break;
                }
            }
        }
        match client.batch_execute(&format!("SELECT sealvec.verify_index('{}_idx')", case.table)) {
            Ok(()) => missed.push(format!("{}: verify_index saw nothing", case.what)),
            Err(error) => {
                if let Err(what) = names_the_block(&error) {
                    missed.push(format!("{}: verify_index: {what}", case.what));
                }
            }
        }
        if watch.done() {
            missed.push(format!("{}: did not end within 30 s", case.what));
            cluster.start_again();
            continue;
        }
        // The table is as it was, and a new index heals.
        run(&mut client, &format!("REINDEX INDEX {}_idx", case.table));
        run(&mut client, &format!("SELECT sealvec.verify_index('{}_idx')", case.table));
    }
    assert!(missed.is_empty(), "{} of {} faults:\n{}", missed.len(), cases.len(), missed.join("\n"));
    cluster.log_is_clean();
}

/// Whether each row is in the table at that distance.
fn true_rows(rows: &[Near], vectors: &Matrix, query: &[f32], table: &str) -> Result<(), String> {
    for near in rows {
        let truly = answers::l2(vectors.row(near.id as usize % 10_000), query);
        if table == "short" && (truly - near.distance).abs() > 1e-5 {
            return Err(format!("{near:?} is truly at {truly}"));
        }
    }
    Ok(())
}

/// Kills the cluster's server process behind a connection that does not end in time, cancelled or not.
struct Watch {
    ended: Sender<()>,
    thread: JoinHandle<bool>,
}

impl Watch {
    fn on(client: &mut postgres::Client, seconds: u64) -> Self {
        let pid: i32 = one(client, "SELECT pg_backend_pid()");
        let (ended, waiting) = channel();
        let thread = std::thread::spawn(move || {
            let late = waiting.recv_timeout(Duration::from_secs(seconds)).is_err();
            if late {
                must(Command::new("kill").args(["-9", &pid.to_string()]));
            }
            late
        });
        Self { ended, thread }
    }

    /// Whether it had to.
    fn done(self) -> bool {
        let _ = self.ended.send(());
        self.thread.join().expect("the watch does not panic")
    }
}

/// An error of class "corrupted" that says where.
fn names_the_block(error: &postgres::Error) -> Result<(), String> {
    let Some(error) = error.as_db_error() else { return Err(format!("the connection broke: {error}")) };
    let text = format!("{} {} {}", error.code().code(), error.message(), error.detail().unwrap_or_default());
    let corrupted = [INDEX_CORRUPTED, DATA_CORRUPTED].contains(&error.code().code());
    let named =
        error.message().contains("block ") || error.detail().is_some_and(|detail| detail.contains("The row at ("));
    if corrupted && named { Ok(()) } else { Err(format!("expected XX002 and a block, got {text}")) }
}

/// Several bits in each kind of page, and pages that are gone, moved or another index's.
fn cases(short: &[u8], long: &[u8], other: &[u8]) -> Vec<Case> {
    let mut random = Random::new(3);
    let mut cases = Vec::new();
    for (kind, name) in KINDS {
        let (table, pages) = if kind == 5 { ("long", long) } else { ("short", short) };
        let blocks = page::blocks_of_kind(pages, kind);
        assert!(!blocks.is_empty(), "the index of table {table} has no {name} page");
        let block = blocks[random.below(blocks.len())];
        let lower = page::lower(&pages[block * PAGE..][..PAGE]);
        let mut flip = |offset: usize, bit: u32| {
            let what = format!("{name} page, block {block}, bit {bit} of byte {offset} (used to {lower})");
            cases.push(Case { what, table, fault: Fault::Flip { block, offset, bit } });
        };
        flip(24, 0);
        flip(lower - 1, 7);
        flip(24 + random.below(lower - 24), random.below(8) as u32);
        flip(24 + random.below(lower - 24), random.below(8) as u32);
        flip(page::KIND, 1);
        flip(12, 3); // pd_lower
        cases.push(Case { what: format!("{name} page, block {block}, zeroed"), table, fault: Fault::Zero { block } });
        if let [left, .., right] = blocks[..] {
            cases.push(Case {
                what: format!("{name} pages, blocks {left} and {right}, swapped"),
                table,
                fault: Fault::Swap { left, right },
            });
        }
        if let Some(foreign) = page::blocks_of_kind(other, kind).first().filter(|_| kind != 5) {
            let from = other[foreign * PAGE..][..PAGE].to_vec();
            if from[24..] == pages[block * PAGE + 24..(block + 1) * PAGE] {
                continue; // says the same: nothing is wrong with it
            }
            let what = format!("{name} page, block {block}, from another index");
            cases.push(Case { what, table, fault: Fault::Foreign { block, from } });
        }
    }
    // Offsets in the body, docs/FORMAT.md: 12 distance, 40 DEK version, 200 the sealed tag behind it all.
    let lower = page::lower(&short[..PAGE]);
    cases.push(Case {
        what: "the meta page denies its key".to_owned(),
        table: "short",
        fault: Fault::Meta { bytes: vec![(40, 0)], lower },
    });
    let as_new = (48..80).chain(88..192).map(|at| (at, u8::from(at == 48 || at == 120)));
    cases.push(Case {
        what: "the meta page is as new, and of another distance".to_owned(),
        table: "short",
        fault: Fault::Meta { bytes: as_new.chain([(40, 0), (12, 3)]).collect(), lower: 24 + 200 },
    });
    // Of an entry of the list map, 32 bytes on 24: its last epoch. As it stands, it never ends.
    let map = page::blocks_of_kind(short, 7)[0];
    cases.push(Case {
        what: "a list that will end".to_owned(),
        table: "short",
        fault: Fault::Flip { block: map, offset: 24 + 24, bit: 0 },
    });
    let blocks = short.len() / PAGE;
    cases.push(Case {
        what: format!("the last of {blocks} blocks cut off"),
        table: "short",
        fault: Fault::Cut { blocks: blocks - 1 },
    });
    cases
}

/// Who can write the files can also put back what lay in them before, tags and all.
#[test]
fn a_page_rolled_back_is_seen_or_changes_no_answer() {
    let mut cluster = Cluster::start("tamper-back", &["fsync=off", "full_page_writes=off", "autovacuum=off", BLIND]);
    let mut admin = cluster.connect_to("postgres");
    run(&mut admin, "CREATE DATABASE model");
    let mut client = cluster.connect_to("model");
    run(&mut client, "CREATE EXTENSION sealvec");
    run(&mut client, "DO $$ BEGIN PERFORM sealvec.create_key_ring('notes'); END $$");
    let vectors = data::vectors().cut(1_500, 48);
    data::table(&mut client, "short", "notes", &vectors);
    run(
        &mut client,
        "CREATE TABLE spare AS SELECT * FROM short;
         CREATE INDEX short_idx ON short USING sealed_ivf (embedding) WITH (lists = 6);
         INSERT INTO short SELECT id + 10000, embedding FROM spare WHERE id < 150;
         DELETE FROM short WHERE id % 50 = 3",
    );
    for command in ["VACUUM short", "CHECKPOINT"] {
        run(&mut client, command);
    }
    let path: String = one(&mut client, "SELECT pg_relation_filepath('short_idx')");
    let before = page::read(&cluster.path("data").join(&path));
    // Every seventh row gives its place in the heap to a row with another vector (of a fifth, VACUUM would make all lists
    // anew); then they are made anew.
    run(&mut client, "DELETE FROM short WHERE id % 7 = 1");
    run(&mut client, "VACUUM short");
    run(&mut client, "INSERT INTO short SELECT id + 20000, embedding FROM spare WHERE id % 3 = 2");
    for command in ["SELECT sealvec.merge('short_idx')", "SELECT sealvec.train('short_idx')", "CHECKPOINT"] {
        run(&mut client, command);
    }
    run(&mut client, "INSERT INTO short SELECT id + 30000, embedding FROM spare WHERE id % 3 = 0");
    for command in ["VACUUM short", "CHECKPOINT", "SELECT sealvec.verify_index('short_idx')"] {
        run(&mut client, command);
    }
    let after = page::read(&cluster.path("data").join(&path));
    let queries = data::queries().cut(3, 48);
    by_index(&mut client, "short", "<->");
    let expected: Vec<Vec<Near>> = (0..queries.rows())
        .map(|query| answers::nearest(&mut client, "short", "<->", queries.row(query), 40))
        .collect();
    drop(client);

    let kind = |pages: &[u8], block: usize| pages[block * PAGE + KIND];
    let mut cases: Vec<(String, Vec<usize>)> = Vec::new();
    for block in 0..before.len() / PAGE {
        let range = block * PAGE + 8..(block + 1) * PAGE; // what lies in front of it is the LSN
        if before[range.clone()] != after[range] {
            let what = format!("block {block}, of kind {} back to {}", kind(&after, block), kind(&before, block));
            cases.push((what, vec![block]));
        }
    }
    // Slots come alive again, with their records.
    let rows = |block: &usize| [3, 4].contains(&kind(&before, *block)) && kind(&before, *block) == kind(&after, *block);
    cases.push(("slots and records".to_owned(), (0..before.len() / PAGE).filter(rows).collect()));
    cases.push(("all that was".to_owned(), (0..before.len() / PAGE).collect()));
    for changed in [1, 3, 4, 7, 8] {
        let seen = cases.iter().any(|(_, blocks)| blocks.len() == 1 && kind(&after, blocks[0]) == changed);
        assert!(seen, "no page of kind {changed} changed");
    }
    for number in 0..cases.len() {
        run(&mut admin, &format!("CREATE DATABASE fault_{number} TEMPLATE model STRATEGY file_copy"));
    }
    let files: Vec<PathBuf> = (0..cases.len())
        .map(|number| {
            let mut client = cluster.connect_to(&format!("fault_{number}"));
            let path: String = one(&mut client, "SELECT pg_relation_filepath('short_idx')");
            cluster.path("data").join(path)
        })
        .collect();
    drop(admin);
    cluster.stop();
    for ((_, blocks), file) in cases.iter().zip(&files) {
        for block in blocks {
            Fault::Foreign { block: *block, from: before[block * PAGE..][..PAGE].to_vec() }.apply(file);
        }
    }
    cluster.start_again();

    let mut missed = Vec::new();
    for (number, (what, _)) in cases.iter().enumerate() {
        let mut client = cluster.connect_to(&format!("fault_{number}"));
        run(&mut client, "SET enable_seqscan = off; SET sealvec.probes = 32768");
        let mut same = true;
        for (query, expected) in expected.iter().enumerate() {
            let query = queries.row(query);
            let checked = match try_nearest(&mut client, "short", "<->", query, 40) {
                Ok(rows) => {
                    same &= answers::same(&rows, expected).is_ok();
                    true_rows(&rows, &vectors, query, "short")
                }
                Err(error) => {
                    same = false;
                    names_the_block(&error)
                }
            };
            missed.extend(checked.err().map(|wrong| format!("{what}: scan: {wrong}")));
        }
        match client.batch_execute("SELECT sealvec.verify_index('short_idx')") {
            Ok(()) if same => {}
            Ok(()) => missed.push(format!("{what}: verify_index saw nothing")),
            Err(error) => missed.extend(names_the_block(&error).err().map(|wrong| format!("{what}: verify: {wrong}"))),
        }
        run(&mut client, "REINDEX INDEX short_idx");
        run(&mut client, "SELECT sealvec.verify_index('short_idx')");
    }
    assert!(missed.is_empty(), "{} of {} faults:\n{}", missed.len(), cases.len(), missed.join("\n"));
    cluster.log_is_clean();
}

#[test]
fn a_flipped_bit_in_a_value_does_not_open() {
    let mut cluster = Cluster::start("tamper-heap", &["fsync=off", "autovacuum=off", BLIND]);
    let mut client = cluster.client();
    run(&mut client, "DO $$ BEGIN PERFORM sealvec.create_key_ring('notes'); END $$");
    let vectors = data::vectors().cut(20, 96);
    data::table(&mut client, "docs", "notes", &vectors);
    data::table(&mut client, "long", "notes", &long_rows()); // out of line
    let mut faults = Vec::new();
    // Version, kind, dimensions, ring, DEK version, nonce, ciphertext, tag: docs/FORMAT.md.
    for (id, offset) in
        [(0i32, 0usize), (1, 1), (2, 2), (3, 4), (4, 8), (5, 12), (6, 35), (7, 36), (8, 200), (9, 52 + 4 * 96 - 1)]
    {
        let value: Vec<u8> =
            one(&mut client, &format!("SELECT sealvec.type_send(embedding) FROM docs WHERE id = {id}"));
        assert_eq!(value.len(), 52 + 4 * 96);
        faults.push(("docs", id, value, offset));
    }
    let value: Vec<u8> = one(&mut client, "SELECT sealvec.type_send(embedding) FROM long WHERE id = 7");
    faults.push(("long", 7, value[..1_900].to_vec(), 1_000)); // a chunk of TOAST has 1,996 bytes
    run(&mut client, "CHECKPOINT");
    let heap = cluster.file(&mut client, "docs");
    let toast: String =
        one(&mut client, "SELECT pg_relation_filepath(reltoastrelid) FROM pg_class WHERE relname = 'long'");
    let toast = cluster.path("data").join(toast);
    drop(client);
    cluster.stop();
    for (table, id, value, offset) in &faults {
        let file = if *table == "docs" { &heap } else { &toast };
        let bytes = page::read(file);
        let at = bytes.windows(value.len()).position(|window| window == &value[..]);
        let at = at.unwrap_or_else(|| panic!("the value of row {id} lies in {}", file.display()));
        page::flip(file, (at + offset) as u64, 4);
    }
    cluster.start_again();

    let mut client = cluster.client();
    for (table, id, _, offset) in &faults {
        for expression in ["sealvec.open(embedding)", "embedding <-> (SELECT embedding FROM docs WHERE id = 15)"] {
            let error = error_of(&mut client, &format!("SELECT {expression} FROM {table} WHERE id = {id}"));
            if *table == "long" && expression.contains("<->") {
                continue; // the dimensions differ, which is an error as well
            }
            // A header that names another ring, another version or other dimensions gives the error for that.
            let code = error.code().code().to_owned();
            assert!(
                ["XX001", "22000", "22P03", "42704", "55000", "0A000"].contains(&&*code),
                "row {id}, byte {offset}: {code} {}",
                error.message()
            );
            let floats = vectors.row(*id as usize)[0].to_string();
            assert!(!format!("{error:?}").contains(&floats), "no element in an error");
        }
        assert_eq!(one::<i32>(&mut client, "SELECT 1"), 1, "the session lives on");
    }
    // The other rows are whole, and an index is built without the damaged ones, whatever is damaged about them.
    let whole: Vec<f32> = one(&mut client, "SELECT sealvec.open(embedding) FROM docs WHERE id = 15");
    assert_eq!(whole, vectors.row(15));
    run(&mut client, "CREATE INDEX docs_idx ON docs USING sealed_ivf (embedding)");
    assert_eq!(one::<i64>(&mut client, "SELECT sealvec.verify_index('docs_idx')"), 10);
    by_index(&mut client, "docs", "<->");
    let found = answers::nearest(&mut client, "docs", "<->", vectors.row(15), 40);
    assert!(found.len() == 10 && found.iter().all(|near| near.id >= 10), "{found:?}");
    cluster.log_is_clean();
}

#[test]
fn verify_index_sees_rows_that_the_index_lacks_or_has_otherwise() {
    let cluster = Cluster::start("tamper-rows", &["autovacuum=off"]);
    let mut client = cluster.client();
    run(&mut client, "DO $$ BEGIN PERFORM sealvec.create_key_ring('notes'); END $$");
    let vectors = data::vectors().cut(400, 48);
    let behind_its_back = |client: &mut postgres::Client, work: &[&str]| {
        run(
            client,
            "UPDATE pg_index SET indisready = false, indisvalid = false WHERE indexrelid = 'docs_idx'::regclass",
        );
        for statement in work {
            run(client, statement);
        }
        run(client, "UPDATE pg_index SET indisready = true, indisvalid = true WHERE indexrelid = 'docs_idx'::regclass");
    };
    let faults: [(&str, &[&str], &str); 3] = [
        ("missing", &["INSERT INTO docs SELECT 1000, embedding FROM docs WHERE id = 1"], "has no entry in the index"),
        (
            "updated",
            &["UPDATE docs SET embedding = (SELECT embedding FROM docs WHERE id = 2) WHERE id = 1"],
            "has no entry in the index",
        ),
        // The place of a row in the heap, given to another row while the index does not look.
        (
            "replaced",
            &[
                "DELETE FROM docs WHERE id = 399",
                "VACUUM docs",
                "INSERT INTO docs SELECT 399, embedding FROM docs WHERE id = 5",
            ],
            "has another vector in the index",
        ),
    ];
    for precision in ["float32", "float16"] {
        for (what, work, expected) in &faults {
            data::table(&mut client, "docs", "notes", &vectors);
            run(
                &mut client,
                &format!(
                    "CREATE INDEX docs_idx ON docs USING sealed_ivf (embedding) WITH (storage_precision = '{precision}')"
                ),
            );
            assert_eq!(one::<i64>(&mut client, "SELECT sealvec.verify_index('docs_idx')"), 400);
            behind_its_back(&mut client, work);
            let error = error_of(&mut client, "SELECT sealvec.verify_index('docs_idx')");
            assert_eq!(error.code().code(), INDEX_CORRUPTED, "{what}");
            assert!(error.detail().is_some_and(|detail| detail.contains(expected)), "{what}: {error:?}");
            run(&mut client, "DROP TABLE docs");
        }
    }
}

#[test]
fn an_index_of_another_format_version_says_so() {
    let mut cluster = Cluster::start("tamper-version", &["fsync=off", "autovacuum=off", BLIND]);
    let mut client = cluster.client();
    run(&mut client, "DO $$ BEGIN PERFORM sealvec.create_key_ring('notes'); END $$");
    let vectors = data::vectors().cut(100, 16);
    data::table(&mut client, "docs", "notes", &vectors);
    run(&mut client, "CREATE INDEX docs_idx ON docs USING sealed_ivf (embedding)");
    run(&mut client, "CHECKPOINT");
    let file = cluster.file(&mut client, "docs_idx");
    drop(client);
    cluster.stop();
    page::flip(&file, 24 + 8, 1); // version 1 becomes 3
    cluster.start_again();

    let mut client = cluster.client();
    run(&mut client, "SET enable_seqscan = off");
    let scan = try_nearest(&mut client, "docs", "<->", vectors.row(3), 2).expect_err("an unknown version");
    let others =
        ["SELECT sealvec.verify_index('docs_idx')", "INSERT INTO docs SELECT 1000, embedding FROM docs WHERE id = 1"];
    let mut errors = vec![scan.as_db_error().expect("an error of the server").clone()];
    errors.extend(others.map(|sql| error_of(&mut client, sql)));
    for error in &errors {
        assert!(error.message().contains("format version 3"), "{error:?}");
        assert!(error.hint().is_some_and(|hint| hint.contains("REINDEX")), "what to do: {error:?}");
    }
    run(&mut client, "REINDEX INDEX docs_idx");
    assert_eq!(one::<i64>(&mut client, "SELECT sealvec.verify_index('docs_idx')"), 100);
    cluster.log_is_clean();
}

#[test]
fn a_meta_page_that_contradicts_the_catalog_is_refused() {
    let mut cluster = Cluster::start("tamper-meta", &["fsync=off", "autovacuum=off", BLIND]);
    let mut client = cluster.client();
    run(&mut client, "DO $$ BEGIN PERFORM sealvec.create_key_ring('notes'); END $$");
    let vectors = data::vectors().cut(100, 16);
    // What the page says is not sealed yet: the indexes are made without the key. Offsets as docs/FORMAT.md has them.
    let faults = [("distance", 12, 3), ("dimensions", 10, 8), ("ring", 33, 0xff)];
    let mut files = Vec::new();
    for (what, ..) in faults {
        data::table(&mut client, what, "notes", &vectors);
        run(&mut client, "SELECT sealvec.lock('notes')");
        run(&mut client, &format!("CREATE INDEX {what}_idx ON {what} USING sealed_ivf (embedding)"));
        run(&mut client, "SELECT sealvec.unlock('notes')");
        files.push(cluster.file(&mut client, &format!("{what}_idx")));
    }
    run(&mut client, "CHECKPOINT");
    drop(client);
    cluster.stop();
    for ((_, offset, byte), file) in faults.iter().zip(&files) {
        Fault::Meta { bytes: vec![(*offset, *byte)], lower: 24 + 200 }.apply(file);
    }
    cluster.start_again();
    let mut client = cluster.client();
    run(&mut client, "SET enable_seqscan = off; SET enable_sort = off");
    for (what, ..) in faults {
        for locked in [false, true] {
            run(&mut client, &format!("SELECT sealvec.{}('notes')", if locked { "lock" } else { "unlock" }));
            for sql in [
                format!("INSERT INTO {what} SELECT 1000, embedding FROM {what} WHERE id = 1"),
                format!(
                    "SELECT id FROM {what} ORDER BY embedding <-> (SELECT embedding FROM {what} WHERE id = 5) LIMIT 1"
                ),
                format!("SELECT sealvec.merge('{what}_idx')"),
            ] {
                let error = error_of(&mut client, &sql);
                assert_eq!(error.code().code(), INDEX_CORRUPTED, "{what}: {error:?}");
                assert!(error.message().contains("block 0: the meta page does not agree"), "{what}: {error:?}");
            }
        }
        run(&mut client, "SELECT sealvec.unlock('notes')");
        run(&mut client, &format!("VACUUM {what}"));
        run(&mut client, &format!("REINDEX INDEX {what}_idx"));
        assert_eq!(one::<i64>(&mut client, &format!("SELECT sealvec.verify_index('{what}_idx')")), 100);
    }
    cluster.log_is_clean();
}
