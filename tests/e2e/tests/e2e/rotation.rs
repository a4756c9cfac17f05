//! Rotation of data keys on whole servers: beside writers, through kill -9 at every step, against transactions under way,
//! on standbys and subscribers.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};
use sealvec_e2e::ledger::{Ledger, Writer};
use sealvec_e2e::standby::Standby;
use sealvec_e2e::{Cluster, Matrix, Random, both_ways, data, error_of, eventually, one, run};

const RING: &str = "DO $$ BEGIN PERFORM sealvec.create_key_ring('notes'); END $$";
const INDEX: &str = "CREATE INDEX docs_l2 ON docs USING sealed_ivf (embedding)";
const REKEY: &str = "DO $$ BEGIN PERFORM sealvec.rekey('notes'); END $$";

/// Table `docs` of ring `notes` with `rows` rows and an index.
fn fill(client: &mut Client, vectors: &Matrix, rows: usize) {
    run(client, RING);
    run(client, &format!("CREATE TABLE docs (id int PRIMARY KEY, embedding sealvec({}, notes))", vectors.dims));
    data::copy(client, "docs", vectors, 0..rows);
    run(client, INDEX);
}

/// How much of a kind of place versions before the newest still seal.
fn old_uses(client: &mut Client, kind: &str) -> i64 {
    one(
        client,
        &format!(
            "SELECT coalesce(sum(uses), 0)::bigint FROM sealvec.dek_usage('notes') WHERE kind LIKE '{kind}' \
             AND version < (SELECT dek_version FROM sealvec.key_rings WHERE name = 'notes')"
        ),
    )
}

fn code(client: &mut Client, sql: &str) -> String {
    error_of(client, sql).code().code().to_owned()
}

/// Every loaded row is what was loaded.
fn loaded(client: &mut Client, vectors: &Matrix, rows: usize) {
    let found = client.query("SELECT id, sealvec.open(embedding) FROM docs WHERE id < 1000000 ORDER BY id", &[]);
    let found = found.unwrap_or_else(|error| panic!("reading every row: {}", sealvec_e2e::said(&error)));
    assert_eq!(found.len(), rows);
    for (place, row) in found.iter().enumerate() {
        let (id, vector): (i32, Vec<f32>) = (row.get(0), row.get(1));
        assert_eq!((id as usize, &vector[..]), (place, vectors.row(place)));
    }
}

/// The index answers as the table does, and holds it.
fn index_holds(client: &mut Client, vectors: &Matrix) {
    both_ways(client, "docs", "<->", &data::queries().cut(6, vectors.dims), 50);
    let rows: i64 = one(client, "SELECT sealvec.verify_index('docs_l2')");
    assert_eq!(rows, one::<i64>(client, "SELECT count(*) FROM docs"));
}

/// Starts `sql` in a session of its own; what became of it, for whoever joins.
fn start(cluster: &Cluster, sql: &str) -> (i32, JoinHandle<Result<(), String>>) {
    let mut client = cluster.client();
    let pid = one(&mut client, "SELECT pg_backend_pid()");
    let sql = sql.to_owned();
    (pid, thread::spawn(move || client.batch_execute(&sql).map_err(|error| sealvec_e2e::said(&error))))
}

fn waits_for_lock(watcher: &mut Client, pid: i32) {
    eventually("it waits for a lock", 30, || {
        one::<bool>(
            watcher,
            &format!("SELECT coalesce(wait_event_type = 'Lock', false) FROM pg_stat_activity WHERE pid = {pid}"),
        )
        .then_some(())
    });
}

#[test]
fn reseal_beside_writers_loses_nothing() {
    const ROWS: usize = 3_000;
    let cluster = Cluster::start("reseal", &["autovacuum_naptime=1s"]);
    let vectors = Arc::new(data::vectors().cut(6_000, 64));
    let mut client = cluster.client();
    fill(&mut client, &vectors, ROWS);
    let mut ledgers: Vec<Ledger> = (0..2).map(|_| Ledger::default()).collect();
    for round in 0..2u64 {
        let before: usize = ledgers.iter().map(|ledger| ledger.acknowledged).sum();
        let writers: Vec<Writer> = ledgers
            .drain(..)
            .enumerate()
            .map(|(n, ledger)| {
                Writer::start(cluster.config("e2e"), n + 1, round * 10 + n as u64, vectors.clone(), ledger)
            })
            .collect();
        thread::sleep(Duration::from_secs(1));
        run(&mut client, REKEY);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(4) {
            run(&mut client, "CALL sealvec.reseal('docs', 'embedding', 50)");
        }
        ledgers = writers.into_iter().map(Writer::finish).collect();
        let acknowledged: usize = ledgers.iter().map(|ledger| ledger.acknowledged).sum();
        assert!(acknowledged > before + 50, "the writers were at work: {acknowledged}");
        run(&mut client, "CALL sealvec.reseal('docs')");
        loaded(&mut client, &vectors, ROWS);
        for (number, ledger) in ledgers.iter_mut().enumerate() {
            ledger.settle(&mut client, number + 1, &vectors);
        }
        index_holds(&mut client, &vectors);
        eventually("nothing is under an older key", 30, || (old_uses(&mut client, "value") == 0).then_some(()));
        run(&mut client, "REINDEX INDEX CONCURRENTLY docs_l2");
        assert_eq!(old_uses(&mut client, "%"), 0);
        run(&mut client, &format!("CALL sealvec.retire_dek('notes', {})", round + 1));
        loaded(&mut client, &vectors, ROWS);
        index_holds(&mut client, &vectors);
    }
    cluster.log_is_clean();
}

#[test]
fn rows_that_others_hold_are_waited_for_at_the_end() {
    const ROWS: usize = 600;
    let cluster = Cluster::start("reseal-held", &["autovacuum=off", "max_prepared_transactions=2"]);
    let vectors = data::vectors().cut(ROWS + 10, 64);
    let (mut client, mut other) = (cluster.client(), cluster.client());
    fill(&mut client, &vectors, ROWS);

    // What was written under the old key and is not committed yet; a change, a delete, a lock; a prepared transaction.
    let text = |row: usize| vectors.text(row);
    run(
        &mut other,
        &format!(
            "BEGIN; INSERT INTO docs VALUES ({ROWS}, '{}'); UPDATE docs SET embedding = '{}' WHERE id = 1; \
             DELETE FROM docs WHERE id = 2; SELECT * FROM docs WHERE id = 3 FOR UPDATE",
            text(ROWS),
            text(ROWS + 1)
        ),
    );
    let mut third = cluster.client();
    run(&mut third, "BEGIN; SELECT * FROM docs WHERE id = 599 FOR SHARE; PREPARE TRANSACTION 'held'");
    run(&mut client, REKEY);
    let (pid, resealing) = start(&cluster, "CALL sealvec.reseal('docs', 'embedding', 10)");
    waits_for_lock(&mut client, pid);
    // All others are done and committed, and everybody may see it.
    let progress = "SELECT rows_resealed FROM sealvec.reseal_progress WHERE \"table\" = 'docs'::regclass AND pass = 2";
    let done: i64 =
        eventually("its progress is seen", 10, || client.query_opt(progress, &[]).unwrap().map(|row| row.get(0)));
    assert!(done >= ROWS as i64 - 5, "{done}");
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM docs"), ROWS as i64);
    // It can be cancelled while it waits, and the next call goes on.
    let begun = Instant::now();
    run(&mut client, &format!("SELECT pg_cancel_backend({pid})"));
    let said = resealing.join().expect("no panic").expect_err("cancelled");
    assert!(said.starts_with("57014") && begun.elapsed() < Duration::from_secs(1), "{said} {:?}", begun.elapsed());
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM sealvec.reseal_progress"), 0);
    let (pid, resealing) = start(&cluster, "CALL sealvec.reseal('docs', 'embedding', 10)");
    waits_for_lock(&mut client, pid);
    run(&mut client, "COMMIT PREPARED 'held'");
    thread::sleep(Duration::from_millis(300));
    assert!(!resealing.is_finished());
    run(&mut other, "COMMIT");
    resealing.join().expect("no panic").unwrap_or_else(|said| panic!("{said}"));
    assert_eq!(old_uses(&mut client, "value"), 0, "skipped nothing");
    let mut expected = vectors.clone();
    expected.values.copy_within((ROWS + 1) * 64..(ROWS + 2) * 64, 64);
    let found = client.query("SELECT id, sealvec.open(embedding) FROM docs ORDER BY id", &[]).unwrap();
    assert_eq!(found.len(), ROWS);
    for row in found {
        let (id, vector): (i32, Vec<f32>) = (row.get(0), row.get(1));
        assert!(id != 2 && vector == expected.row(id as usize), "row {id}");
    }
    cluster.log_is_clean();
}

#[test]
fn a_version_is_retired_when_nothing_under_way_needs_it() {
    const ROWS: usize = 400;
    let cluster = Cluster::start("retire", &["autovacuum=off", "max_prepared_transactions=2"]);
    let vectors = data::vectors().cut(ROWS + 10, 64);
    let (mut client, mut other) = (cluster.client(), cluster.client());
    fill(&mut client, &vectors, ROWS);
    const RETIRE: &str = "CALL sealvec.retire_dek('notes', 1)";
    let renew = |client: &mut Client| {
        run(client, "CALL sealvec.reseal('docs')");
        run(client, "REINDEX INDEX CONCURRENTLY docs_l2");
    };

    // An old snapshot still sees the rows as they were.
    run(&mut other, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM docs");
    run(&mut client, REKEY);
    run(&mut client, "CALL sealvec.reseal('docs')");
    assert_eq!(old_uses(&mut client, "value"), ROWS as i64, "dead rows that it sees");
    assert_eq!(code(&mut client, RETIRE), "55006");
    loaded(&mut other, &vectors, ROWS);
    run(&mut other, "COMMIT");
    renew(&mut client);
    assert_eq!(old_uses(&mut client, "%"), 0);

    // A prepared transaction has a row that nobody sees yet.
    let mut stale = cluster.client();
    run(&mut stale, "SELECT sealvec.open(embedding) FROM docs LIMIT 1");
    run(&mut client, REKEY); // to version 3: rows under 2 are the old ones now
    run(&mut client, "CALL sealvec.retire_dek('notes', 1)");
    renew(&mut client);
    let sealed: String = one(&mut client, "SELECT embedding::text FROM docs WHERE id = 1");
    run(&mut client, REKEY); // 4; `sealed` is of 3
    run(&mut other, &format!("BEGIN; INSERT INTO docs VALUES ({ROWS}, '{sealed}'); PREPARE TRANSACTION 'late'"));
    assert_eq!(old_uses(&mut client, "value"), ROWS as i64 + 1, "the row that nobody sees, too");
    assert_eq!(code(&mut client, "CALL sealvec.retire_dek('notes', 3)"), "55006");
    run(&mut client, "COMMIT PREPARED 'late'");
    renew(&mut client);
    run(&mut client, "DELETE FROM docs WHERE id = 400");

    // A transaction under way that may not have heard is waited for, and nobody else waits meanwhile.
    run(&mut other, "BEGIN; SELECT 1");
    let (pid, retiring) = start(&cluster, "CALL sealvec.retire_dek('notes', 3)");
    waits_for_lock(&mut client, pid);
    assert_eq!(one::<i32>(&mut client, "SELECT retiring FROM sealvec.key_rings WHERE name = 'notes'"), 3);
    run(&mut client, "SET statement_timeout = '5s'");
    loaded(&mut client, &vectors, ROWS);
    run(&mut client, &format!("INSERT INTO docs VALUES (1000000, '{}')", vectors.text(0)));
    index_holds(&mut client, &vectors);
    // What comes from outside under the version that goes is told off, and not stored.
    assert_eq!(code(&mut client, &format!("INSERT INTO docs VALUES (1000001, '{sealed}')")), "55000");
    assert_eq!(code(&mut client, "CALL sealvec.retire_dek('notes', 3)"), "55006", "one at a time");
    run(&mut client, "RESET statement_timeout");
    // Cancelled, it goes on with the next call.
    let begun = Instant::now();
    run(&mut client, &format!("SELECT pg_cancel_backend({pid})"));
    let said = retiring.join().expect("no panic").expect_err("cancelled");
    assert!(said.starts_with("57014") && begun.elapsed() < Duration::from_secs(1), "{said}");
    let (pid, retiring) = start(&cluster, "CALL sealvec.retire_dek('notes', 3)");
    waits_for_lock(&mut client, pid);
    run(&mut other, "COMMIT");
    retiring.join().expect("no panic").unwrap_or_else(|said| panic!("{said}"));
    let versions: Vec<i32> =
        one(&mut client, "SELECT array_agg(DISTINCT version ORDER BY version) FROM sealvec.dek_usage('notes')");
    assert_eq!(versions, [2, 4]);
    loaded(&mut client, &vectors, ROWS);
    index_holds(&mut client, &vectors);
    // A session that had the ring open all the time reads on.
    assert_eq!(one::<i64>(&mut stale, "SELECT count(sealvec.open(embedding)) FROM docs"), ROWS as i64 + 1);

    // A temporary table of another session can't be looked into: it stands in the way until it goes.
    run(&mut other, "CREATE TEMP TABLE mine (v sealvec(64, notes))");
    let said = error_of(&mut client, "CALL sealvec.retire_dek('notes', 2)");
    assert!(said.code().code() == "55006" && said.detail().is_some_and(|detail| detail.contains("mine")), "{said:?}");
    run(&mut other, "DROP TABLE mine");
    run(&mut client, "CALL sealvec.retire_dek('notes', 2)");
    cluster.log_is_clean();
}

#[test]
fn kill_at_any_step_leaves_every_row_readable() {
    const ROWS: usize = 2_500;
    let mut cluster = Cluster::start("rotate-crash", &["autovacuum=off", "shared_buffers=4MB"]);
    let vectors = data::vectors().cut(ROWS, 64);
    fill(&mut cluster.client(), &vectors, ROWS);
    let mut random = Random::new(4);
    // Each step is killed several times on its way, then done, so that the next is killed in its turn.
    let steps = [
        ("SELECT sealvec.rekey('notes')", 2, 8),
        ("CALL sealvec.reseal('docs', 'embedding', 20)", 4, 500),
        ("REINDEX INDEX CONCURRENTLY docs_l2", 3, 700),
        ("CALL sealvec.retire_dek('notes', %)", 3, 60),
    ];
    for round in 0..2 {
        for (sql, kills, longest_ms) in steps {
            let oldest: i32 = one(&mut cluster.client(), "SELECT min(version) FROM sealvec.dek_usage('notes')");
            let sql = sql.replace('%', &oldest.to_string());
            for _ in 0..kills {
                let (_, running) = start(&cluster, &sql);
                thread::sleep(Duration::from_millis(random.below(longest_ms) as u64));
                cluster.kill();
                let outcome = running.join().expect("no panic");
                cluster.start_again();
                let mut client = cluster.client();
                loaded(&mut client, &vectors, ROWS);
                let indexes: i64 = one(
                    &mut client,
                    "SELECT count(*) FROM pg_index WHERE indrelid = 'docs'::regclass AND NOT indisvalid",
                );
                eprintln!("round {round}: {sql}: {outcome:?}, {indexes} unfinished indexes");
                index_holds(&mut client, &vectors);
                drop_unfinished(&mut client);
            }
            let mut client = cluster.client();
            let versions: i64 = one(&mut client, "SELECT count(DISTINCT version) FROM sealvec.dek_usage('notes')");
            if sql.contains("rekey") && versions > 1 || sql.contains("retire") && versions == 1 {
                continue; // it was done before the kill
            }
            if sql.contains("retire") {
                // More than one rekey may have been done.
                let newest: i32 = one(&mut client, "SELECT dek_version FROM sealvec.key_rings WHERE name = 'notes'");
                let old = client.query(
                    "SELECT DISTINCT version FROM sealvec.dek_usage('notes') WHERE version < $1 ORDER BY 1",
                    &[&newest],
                );
                for row in old.unwrap() {
                    run(&mut client, &format!("CALL sealvec.retire_dek('notes', {})", row.get::<_, i32>(0)));
                }
            } else {
                run(&mut client, &sql);
            }
            loaded(&mut client, &vectors, ROWS);
            index_holds(&mut client, &vectors);
        }
        let mut client = cluster.client();
        assert_eq!(one::<i64>(&mut client, "SELECT count(DISTINCT version) FROM sealvec.dek_usage('notes')"), 1);
    }
    cluster.log_is_clean();
}

/// What a REINDEX CONCURRENTLY that was killed leaves behind.
fn drop_unfinished(client: &mut Client) {
    let left = client
        .query(
            "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'docs'::regclass AND NOT indisvalid",
            &[],
        )
        .unwrap();
    for row in left {
        run(client, &format!("DROP INDEX {}", row.get::<_, String>(0)));
    }
}

#[test]
fn shred_closes_the_ring_everywhere_at_once() {
    let cluster =
        Cluster::start("shred", &["wal_level=replica", "max_wal_senders=4", "hot_standby=on", "wal_keep_size=1GB"]);
    let vectors = data::vectors().cut(300, 64);
    let mut client = cluster.client();
    fill(&mut client, &vectors, 300);
    let standby = Standby::start(&cluster);
    standby.catch_up();
    let (mut idle, mut there) = (cluster.client(), standby.client());
    const READ: &str = "SELECT count(sealvec.open(embedding)) FROM docs";
    for session in [&mut idle, &mut there] {
        assert_eq!(one::<i64>(session, READ), 300);
    }
    let rows = client
        .query("SELECT kind, object, uses FROM sealvec.shred('notes', confirm => 'notes') ORDER BY 1, 2", &[])
        .unwrap();
    let told: Vec<(String, String, i64)> = rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    let expected = [("index", "public.docs_l2", 1), ("value", "public.docs", 300)];
    assert_eq!(told, expected.map(|(kind, object, uses)| (kind.to_owned(), object.to_owned(), uses)));
    for session in [&mut client, &mut idle] {
        assert_eq!(code(session, READ), "42704");
    }
    eventually("the standby follows within a second", 2, || {
        there
            .batch_execute(READ)
            .is_err_and(|error| error.code().is_some_and(|code| code.code() == "42704"))
            .then_some(())
    });
    cluster.log_is_clean();
}

/// Anybody may name a ring in a column, and lock that table or have it damaged.
#[test]
fn strangers_neither_stop_nor_hang_the_end_of_a_key() {
    const AT_ONCE: Duration = Duration::from_secs(3);
    let mut cluster = Cluster::start("strangers", &["autovacuum=off"]);
    let vectors = data::vectors().cut(300, 64);
    let mut client = cluster.client();
    fill(&mut client, &vectors, 300);
    let wide = format!("[{}]", ["0.5"; 1_000].join(","));
    run(
        &mut client,
        "CREATE ROLE stranger; CREATE SCHEMA s AUTHORIZATION stranger; SET ROLE stranger; \
         CREATE TABLE s.locked (v sealvec(64, notes)); CREATE TABLE s.wide (v sealvec(1000, notes)); \
         CREATE TABLE s.damaged (v sealvec(64, notes)); \
         RESET ROLE; DO $$ BEGIN PERFORM sealvec.create_key_ring('mine'); PERFORM sealvec.rekey('mine'); END $$; \
         SELECT sealvec.set_ring_owner('mine', 'stranger')",
    );
    run(&mut client, "ALTER TABLE s.wide ALTER v SET STORAGE EXTERNAL");
    run(&mut client, &format!("INSERT INTO s.wide SELECT '{wide}' FROM generate_series(1, 3)"));
    run(&mut client, "INSERT INTO s.damaged SELECT embedding FROM docs WHERE id < 5");
    run(&mut client, REKEY);
    run(&mut client, "CALL sealvec.reseal('docs')");
    run(&mut client, "CALL sealvec.reseal('s.wide')");
    run(&mut client, "REINDEX INDEX CONCURRENTLY docs_l2");
    let file = cluster.file(&mut client, "s.damaged");
    drop(client);
    cluster.stop();
    sealvec_e2e::page::flip(&file, 13, 7); // more is used of the page than a page has
    cluster.start_again();

    let (mut client, mut other, mut third) = (cluster.client(), cluster.client(), cluster.client());
    run(&mut other, "SET ROLE stranger; BEGIN; LOCK TABLE s.locked");
    // A lock that is met where a value lies out of line.
    run(&mut third, "BEGIN; LOCK TABLE s.wide IN ACCESS SHARE MODE");
    let toast: String = one(
        &mut client,
        "SELECT indexrelid::regclass::text FROM pg_index JOIN pg_class c ON indrelid = reltoastrelid WHERE c.oid = 's.wide'::regclass",
    );
    run(&mut third, &format!("REINDEX INDEX {toast}"));
    let quick = |client: &mut Client, sql: &str| {
        let begun = Instant::now();
        let result = client.query(sql, &[]);
        assert!(begun.elapsed() < AT_ONCE, "{sql}: {:?}", begun.elapsed());
        result
    };
    let told = "SELECT object FROM sealvec.dek_usage('notes') WHERE kind = 'not countable' ORDER BY 1";
    let unknown: Vec<String> = quick(&mut client, told).unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(unknown, ["s.damaged", "s.locked", "s.wide"]);
    let refused = quick(&mut client, "CALL sealvec.retire_dek('notes', 1)").expect_err("nobody can tell");
    let refused = refused.as_db_error().expect("of the server");
    assert_eq!(refused.code().code(), "55006");
    let detail = refused.detail().unwrap_or_default();
    assert!(detail.contains("s.locked (locked by another session)"), "{detail}");
    assert!(detail.contains("s.damaged (cannot be read)"), "{detail}");
    assert!(refused.hint().is_some_and(|hint| hint.contains("force => true")), "{refused:?}");
    assert_eq!(one::<Option<i32>>(&mut client, "SELECT retiring FROM sealvec.key_rings WHERE name = 'notes'"), None);

    // Who waits is in nobody's way, with his own ring or in a transaction that he leaves open.
    run(&mut client, "SET ROLE stranger");
    assert_eq!(code(&mut client, "BEGIN; SELECT sealvec.retire_wait('mine')"), "25001");
    run(&mut client, "ROLLBACK; RESET ROLE");
    let (waiter, waiting) = start(&cluster, "CALL sealvec.retire_dek('mine', 1)");
    waits_for_lock(&mut client, waiter);
    run(&mut client, "DO $$ BEGIN PERFORM sealvec.create_key_ring('third'); PERFORM sealvec.rekey('third'); END $$");
    let (pid, retiring) = start(&cluster, "CALL sealvec.retire_dek('third', 1)");
    waits_for_lock(&mut client, pid);
    thread::sleep(Duration::from_millis(1_500)); // longer than a deadlock takes to be found
    assert!(!waiting.is_finished() && !retiring.is_finished());
    for session in [&mut other, &mut third] {
        run(session, "COMMIT");
    }
    for ended in [waiting, retiring] {
        ended.join().expect("no panic").unwrap_or_else(|said| panic!("{said}"));
    }

    // By force, beside the lock: what is given up is told, everything else stays.
    run(&mut other, "BEGIN; LOCK TABLE s.locked");
    quick(&mut client, "CALL sealvec.retire_dek('notes', 1, force => true)").expect("nobody is asked");
    loaded(&mut client, &vectors, 300);
    assert_eq!(code(&mut client, "CALL sealvec.retire_dek('notes', 1)"), "42704");
    assert_eq!(code(&mut client, "CALL sealvec.retire_dek('notes', 2, force => true)"), "55000");

    let rows =
        quick(&mut client, "SELECT kind, object, uses FROM sealvec.shred('notes', confirm => 'notes') ORDER BY 1, 2");
    let told: Vec<(String, String, Option<i64>)> =
        rows.expect("it goes").iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    let expected = [
        ("index", "public.docs_l2", Some(1)),
        ("not countable", "s.damaged", None),
        ("not countable", "s.locked", None),
        ("value", "public.docs", Some(300)),
        ("value", "s.wide", Some(3)),
    ];
    assert_eq!(told, expected.map(|(kind, object, uses)| (kind.to_owned(), object.to_owned(), uses)));
    assert_eq!(code(&mut client, "SELECT sealvec.open(embedding) FROM docs"), "42704");
    run(&mut other, "COMMIT");
    cluster.log_is_clean();
}

#[test]
fn a_subscriber_follows_with_the_ring_imported_anew() {
    let cluster = Cluster::start("rotate-logical", &["wal_level=logical", "max_wal_senders=4", "autovacuum=off"]);
    let vectors = data::vectors().cut(200, 64);
    let mut here = cluster.client();
    fill(&mut here, &vectors, 200);
    run(&mut here, "CREATE TABLE fired (id int)");
    run(
        &mut here,
        "CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO fired VALUES (1); RETURN NEW; END $$; \
         CREATE TRIGGER fire BEFORE UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION fire(); CREATE PUBLICATION docs FOR TABLE docs",
    );
    run(&mut here, "SELECT pg_create_logical_replication_slot('docs', 'pgoutput')");
    run(&mut cluster.connect_to("postgres"), "CREATE DATABASE there");
    let mut there = cluster.connect_to("there");
    run(&mut there, "CREATE EXTENSION sealvec");
    let bring = |here: &mut Client, there: &mut Client| {
        let exported: Vec<u8> = one(here, "SELECT sealvec.export_ring('notes')");
        there.execute("SELECT sealvec.import_ring($1)", &[&exported]).unwrap();
    };
    bring(&mut here, &mut there);
    run(&mut there, "CREATE TABLE docs (id int PRIMARY KEY, embedding sealvec(64, notes))");
    let (socket, port) = (cluster.path("socket").display().to_string(), cluster.port());
    run(
        &mut there,
        &format!(
            "CREATE SUBSCRIPTION docs CONNECTION 'host={socket} port={port} user=postgres dbname=e2e' PUBLICATION docs WITH (create_slot = false, slot_name = 'docs')"
        ),
    );
    let arrived = |there: &mut Client, rows: i64| {
        eventually("the rows arrive", 60, || (one::<i64>(there, "SELECT count(*) FROM docs") == rows).then_some(()));
    };
    arrived(&mut there, 200);
    loaded(&mut there, &vectors, 200);

    run(&mut here, REKEY);
    run(&mut here, "CALL sealvec.reseal('docs')");
    assert_eq!(one::<i64>(&mut here, "SELECT count(*) FROM fired"), 0, "a reader sees no change, so no trigger does");
    run(&mut here, &format!("INSERT INTO docs VALUES (1000000, '{}')", vectors.text(0)));
    arrived(&mut there, 201);
    // The new values are here and closed, until the ring is brought again. Nothing is lost meanwhile.
    assert_eq!(code(&mut there, "SELECT sealvec.open(embedding) FROM docs"), "55000");
    run(&mut there, "SELECT sealvec.drop_key_ring('notes', force => true)");
    bring(&mut here, &mut there);
    loaded(&mut there, &vectors, 200);
    run(
        &mut there,
        "ALTER SUBSCRIPTION docs DISABLE; ALTER SUBSCRIPTION docs SET (slot_name = NONE); DROP SUBSCRIPTION docs",
    );
    run(&mut here, "SELECT pg_drop_replication_slot('docs')");
    cluster.log_is_clean();
}

#[test]
fn a_long_reseal_is_cancelled_at_once() {
    let cluster = Cluster::start("reseal-cancel", &["autovacuum=off"]);
    let vectors = data::vectors().cut(6_000, 384);
    let mut client = cluster.client();
    run(&mut client, RING);
    data::table(&mut client, "docs", "notes", &vectors);
    run(&mut client, REKEY);
    let mut long = cluster.client();
    let token = long.cancel_token();
    let canceller = thread::spawn(move || {
        thread::sleep(Duration::from_millis(60));
        token.cancel_query(NoTls).expect("the server takes the request");
        Instant::now()
    });
    let result = long.batch_execute("CALL sealvec.reseal('docs', 'embedding', 1000000)");
    let after = canceller.join().unwrap().elapsed();
    if let Err(error) = result {
        assert_eq!(error.code().unwrap().code(), "57014");
        assert!(after < Duration::from_secs(1), "{after:?}");
        assert!(old_uses(&mut client, "value") > 0);
    }
    run(&mut client, "CALL sealvec.reseal('docs')");
    loaded(&mut client, &vectors, 6_000);
    cluster.log_is_clean();
}
