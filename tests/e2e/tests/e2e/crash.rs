//! After kill -9 under load, and on a hot standby, an index answers as a sequential scan does and nothing
//! acknowledged is lost.

use std::fs::OpenOptions;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use postgres::{Client, NoTls};
use sealvec_e2e::ledger::{Ledger, Writer};
use sealvec_e2e::page::{self, PAGE};
use sealvec_e2e::standby::Standby;
use sealvec_e2e::{Cluster, Matrix, both_ways, data, one, run};

const WRITERS: usize = 2;
/// Rows that are there before the writers come: the writers then cross the step from L0 into lists.
const LOADED: usize = 3_600;

/// Both distances, both precisions.
const INDEXES: [(&str, &str); 2] = [("docs_l2", "<->"), ("docs_cosine", "<=>")];

fn set_up(client: &mut Client, vectors: &Matrix) {
    run(client, "DO $$ BEGIN PERFORM sealvec.create_key_ring('notes'); END $$");
    run(
        client,
        &format!(
            "CREATE TABLE docs (id int PRIMARY KEY, embedding sealvec({}, notes));
             CREATE INDEX docs_l2 ON docs USING sealed_ivf (embedding);
             CREATE INDEX docs_cosine ON docs USING sealed_ivf (embedding sealvec_cosine_ops) WITH (storage_precision = 'float16')",
            vectors.dims
        ),
    );
    data::copy(client, "docs", vectors, 0..LOADED); // ids below 1,000,000: nobody changes them
}

/// VACUUM, merge and train over and over, until told to stop or the connection breaks.
fn maintain(config: postgres::Config, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<usize> {
    std::thread::spawn(move || {
        let Ok(mut client) = config.connect(NoTls) else { return 0 };
        let mut done = 0;
        for statement in [
            "VACUUM docs",
            "SELECT sealvec.merge('docs_l2')",
            "SELECT sealvec.merge('docs_cosine')",
            "VACUUM (INDEX_CLEANUP ON) docs",
            "SELECT sealvec.train('docs_cosine')",
            "SELECT sealvec.merge('docs_cosine')",
            "SELECT sealvec.merge('docs_l2')",
            "SELECT sealvec.train('docs_l2')",
        ]
        .iter()
        .cycle()
        {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            match client.batch_execute(statement) {
                Ok(()) => done += 1,
                Err(error)
                    if client.is_closed() || error.as_db_error().is_none_or(|e| e.code().code().starts_with("57P")) =>
                {
                    break;
                }
                Err(error) => panic!("{statement}: {}", sealvec_e2e::said(&error)),
            }
        }
        done
    })
}

/// Index answers equal sequential scans, verify_index passes, the ledgers hold.
fn holds(client: &mut Client, vectors: &Matrix, ledgers: &mut [Ledger]) {
    for (number, ledger) in ledgers.iter_mut().enumerate() {
        ledger.settle(client, number + 1, vectors);
    }
    let loaded: i64 = one(client, "SELECT count(*) FROM docs WHERE id < 1000000");
    assert_eq!(loaded, LOADED as i64);
    let queries = data::queries().cut(12, vectors.dims);
    for (index, operator) in INDEXES {
        both_ways(client, "docs", operator, &queries, 50);
        let rows: i64 = one(client, &format!("SELECT sealvec.verify_index('{index}')"));
        assert_eq!(rows, one::<i64>(client, "SELECT count(*) FROM docs"), "{index}");
    }
}

#[test]
fn kill_under_load_loses_nothing() {
    let mut cluster = Cluster::start(
        "crash",
        &[
            "shared_buffers=4MB", // pages go out and come back
            "max_wal_size=32MB",
            "min_wal_size=32MB",
            "autovacuum_naptime=1s",
            "wal_consistency_checking=generic", // recovery compares each page with what was logged
        ],
    );
    let vectors = Arc::new(data::vectors().cut(8_000, 64));
    set_up(&mut cluster.client(), &vectors);
    let mut ledgers: Vec<Ledger> = (0..WRITERS).map(|_| Ledger::default()).collect();
    for round in 0..5u64 {
        let writers: Vec<Writer> = ledgers
            .drain(..)
            .enumerate()
            .map(|(n, ledger)| {
                Writer::start(cluster.config("e2e"), n + 1, round * 10 + n as u64, vectors.clone(), ledger)
            })
            .collect();
        let stop = Arc::new(AtomicBool::new(false));
        let maintenance = maintain(cluster.config("e2e"), stop.clone());
        std::thread::sleep(Duration::from_millis(2_000 + 370 * round));
        cluster.kill();
        ledgers = writers.into_iter().map(Writer::finish).collect();
        stop.store(true, Ordering::Relaxed);
        let maintained = maintenance.join().expect("maintenance meets no error");
        cluster.start_again();
        let acknowledged: usize = ledgers.iter().map(|ledger| ledger.acknowledged).sum();
        eprintln!("round {round}: {acknowledged} writes so far, {maintained} maintenance statements");
        assert!(acknowledged > 50, "the writers were at work");
        holds(&mut cluster.client(), &vectors, &mut ledgers);
    }
    // And it can be written on.
    run(&mut cluster.client(), "VACUUM docs");
    holds(&mut cluster.client(), &vectors, &mut ledgers);
    cluster.log_is_clean();
}

#[test]
fn a_hot_standby_answers_as_the_primary() {
    let cluster = Cluster::start(
        "standby",
        &[
            "wal_level=replica",
            "max_wal_senders=4",
            "hot_standby=on",
            "wal_consistency_checking=all",
            "shared_buffers=8MB",
            "autovacuum_naptime=1s",
            "wal_keep_size=1GB",
        ],
    );
    let vectors = Arc::new(data::vectors().cut(8_000, 64));
    set_up(&mut cluster.client(), &vectors);
    let standby = Standby::start(&cluster);
    let writers: Vec<Writer> = (0..WRITERS)
        .map(|n| Writer::start(cluster.config("e2e"), n + 1, 77 + n as u64, vectors.clone(), Ledger::default()))
        .collect();
    let stop = Arc::new(AtomicBool::new(false));
    let maintenance = maintain(cluster.config("e2e"), stop.clone());

    // While the primary writes: one snapshot, asked both ways, on both servers.
    let queries = data::queries().cut(4, vectors.dims);
    let mut asked = 0;
    let begun = std::time::Instant::now();
    let (mut here, mut there) = (standby.client(), cluster.client());
    while begun.elapsed() < Duration::from_secs(8) || asked < 4 {
        for client in [&mut here, &mut there] {
            run(client, "BEGIN ISOLATION LEVEL REPEATABLE READ");
            for (_, operator) in INDEXES {
                both_ways(client, "docs", operator, &queries, 30);
            }
            run(client, "COMMIT");
            asked += 1;
        }
    }
    let mut ledgers: Vec<Ledger> = writers.into_iter().map(Writer::finish).collect();
    stop.store(true, Ordering::Relaxed);
    let maintained = maintenance.join().expect("maintenance meets no error");
    eprintln!("{asked} comparisons while writing, {maintained} maintenance statements");
    standby.catch_up();
    for (number, ledger) in ledgers.iter_mut().enumerate() {
        ledger.settle(&mut here, number + 1, &vectors);
    }
    for (_, operator) in INDEXES {
        both_ways(&mut here, "docs", operator, &data::queries().cut(12, vectors.dims), 50);
    }
    drop(here);

    standby.promote();
    let mut here = standby.client();
    sealvec_e2e::eventually("the standby takes writes", 30, || {
        (!one::<bool>(&mut here, "SELECT pg_is_in_recovery()")).then_some(())
    });
    holds(&mut here, &vectors, &mut ledgers);
    let writer = Writer::start(standby.config("e2e"), 1, 99, vectors.clone(), ledgers.remove(0));
    std::thread::sleep(Duration::from_secs(2));
    ledgers.insert(0, writer.finish());
    run(&mut here, "VACUUM docs");
    holds(&mut here, &vectors, &mut ledgers);
    for bad in ["inconsistent page", "PANIC", "was terminated by signal", "refcount leak"] {
        assert!(!standby.log().contains(bad), "the standby logged: {bad}\n{}", standby.log());
    }
    cluster.log_is_clean();
}

/// Pages at the end of a file that a crash left: they were there before anything was logged about them.
const ZERO_PAGES: usize = 6;

#[test]
fn zero_pages_that_a_crash_left_are_found_and_used() {
    let mut cluster = Cluster::start("zero-pages", &["autovacuum=off", "wal_consistency_checking=generic"]);
    let vectors = data::vectors().cut(700, 64);
    let mut client = cluster.client();
    run(&mut client, "DO $$ BEGIN PERFORM sealvec.create_key_ring('notes'); END $$");
    run(&mut client, "CREATE TABLE docs (id int PRIMARY KEY, embedding sealvec(64, notes))");
    run(&mut client, "CREATE INDEX docs_idx ON docs USING sealed_ivf (embedding)");
    data::copy(&mut client, "docs", &vectors, 0..400);
    run(&mut client, "CHECKPOINT");
    let file = cluster.file(&mut client, "docs_idx");
    drop(client);
    cluster.kill();
    let first_zero = page::read(&file).len() / PAGE;
    let mut end = OpenOptions::new().append(true).open(&file).expect("the index's file");
    end.write_all(&[0; ZERO_PAGES * PAGE]).expect("written");
    end.sync_all().expect("on disk");
    cluster.start_again();

    let still_zero = |client: &mut Client| {
        run(client, "CHECKPOINT");
        let pages = page::read(&file);
        let zero = |page: &&[u8]| page.iter().all(|byte| *byte == 0);
        pages[first_zero * PAGE..][..ZERO_PAGES * PAGE].chunks_exact(PAGE).filter(zero).count()
    };
    let right = |client: &mut Client, rows: i64| {
        assert_eq!(one::<i64>(client, "SELECT sealvec.verify_index('docs_idx')"), rows);
        both_ways(client, "docs", "<->", &data::queries().cut(8, 64), 50);
        run(client, "RESET ALL");
    };
    let blocks = |client: &mut Client| one::<i64>(client, "SELECT pg_relation_size('docs_idx') / 8192");
    let mut client = cluster.client();
    right(&mut client, 400);
    // Nobody knows of them yet: what comes goes behind them.
    data::copy(&mut client, "docs", &vectors, 400..520);
    assert!(blocks(&mut client) > (first_zero + ZERO_PAGES) as i64);
    assert_eq!(still_zero(&mut client), ZERO_PAGES);
    right(&mut client, 520);
    // The sweep tells the free space map, and inserts take them before the file grows again.
    run(&mut client, "VACUUM docs");
    let before = blocks(&mut client);
    data::copy(&mut client, "docs", &vectors, 520..600);
    assert_eq!(blocks(&mut client), before, "the file has not grown");
    let left = still_zero(&mut client);
    assert!(left < ZERO_PAGES, "zero pages are used: {left} are left");
    right(&mut client, 600);
    // And what was written to them survives a crash of its own.
    data::copy(&mut client, "docs", &vectors, 600..620);
    drop(client);
    cluster.kill();
    cluster.start_again();
    let mut client = cluster.client();
    right(&mut client, 620);
    data::copy(&mut client, "docs", &vectors, 620..700);
    right(&mut client, 700);
    cluster.log_is_clean();
}
