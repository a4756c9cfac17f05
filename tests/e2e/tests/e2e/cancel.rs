//! A cancelled build, scan, merge or check ends within a second and leaves everything as it was.

use std::time::{Duration, Instant};

use postgres::{Client, NoTls};
use sealvec_e2e::{Cluster, both_ways, data, one, run, said};

/// Runs `sql`, cancels it after `after`, and returns how long it took to end, or nothing if it was done before.
fn cancelled(client: &mut Client, sql: &str, after: Duration) -> Option<Duration> {
    let token = client.cancel_token();
    let canceller = std::thread::spawn(move || {
        std::thread::sleep(after);
        let asked = Instant::now();
        token.cancel_query(NoTls).expect("the server takes the request");
        asked
    });
    let result = client.batch_execute(sql);
    let ended = Instant::now();
    let asked = canceller.join().expect("asked");
    match result {
        Ok(()) => {
            // The request came too late for its statement; let it not hit the next one.
            while client.batch_execute("SELECT pg_sleep(0.3)").is_err() {}
            None
        }
        Err(error) => {
            assert!(said(&error).starts_with("57014"), "{sql}: {}", said(&error));
            assert!(ended >= asked, "{sql}: ended before it was cancelled");
            Some(ended - asked)
        }
    }
}

#[test]
fn a_cancel_is_obeyed_within_a_second() {
    let cluster = Cluster::start("cancel", &["autovacuum=off", "max_wal_size=2GB"]);
    let mut client = cluster.client();
    run(&mut client, "DO $$ BEGIN PERFORM sealvec.create_key_ring('notes'); END $$");
    let vectors = data::vectors();
    data::table(&mut client, "docs", "notes", &vectors);

    // CREATE INDEX in each of its phases: the moments go on until one comes too late.
    let files =
        |client: &mut Client| -> i64 { one(client, "SELECT count(*) FROM pg_class WHERE relname LIKE 'docs_l2%'") };
    let mut stopped = 0;
    for step in 0.. {
        let after = Duration::from_millis(10 + 60 * step);
        match cancelled(&mut client, "CREATE INDEX docs_l2 ON docs USING sealed_ivf (embedding)", after) {
            Some(time) => {
                eprintln!("CREATE INDEX cancelled after {after:?} ended in {time:?}");
                assert!(time < Duration::from_secs(1), "CREATE INDEX cancelled after {after:?} took {time:?} to end");
                assert_eq!(files(&mut client), 0, "no index is left");
                stopped += 1;
            }
            None => break,
        }
        assert!(step < 200, "a build of 10,000 rows ends");
    }
    assert!(stopped >= 2, "{stopped} builds were cancelled");

    // What changes an index leaves it whole.
    for sql in [
        "SELECT sealvec.train('docs_l2')",
        "SELECT sealvec.verify_index('docs_l2')",
        "REINDEX INDEX docs_l2",
        "INSERT INTO docs SELECT id + 100000, embedding FROM docs",
    ] {
        for after in [20, 150, 600] {
            let after = Duration::from_millis(after);
            if let Some(time) = cancelled(&mut client, sql, after) {
                eprintln!("{sql} cancelled after {after:?} ended in {time:?}");
                assert!(time < Duration::from_secs(1), "{sql} cancelled after {after:?} took {time:?} to end");
            }
        }
        run(&mut client, "DELETE FROM docs WHERE id >= 100000");
        run(&mut client, "VACUUM docs");
        assert_eq!(one::<i64>(&mut client, "SELECT sealvec.verify_index('docs_l2')"), 10_000, "{sql}");
    }

    // Long scans: many, and one over every row; in a transaction that goes on from a savepoint.
    run(&mut client, "SET enable_seqscan = off; SET enable_sort = off");
    for sql in [
        "SELECT count(*) FROM docs q, LATERAL (SELECT d.id FROM docs d ORDER BY d.embedding <-> q.embedding LIMIT 10) n",
        "SELECT count(*) FROM docs q, LATERAL (SELECT d.id FROM docs d ORDER BY d.embedding <-> q.embedding OFFSET 9990) n",
    ] {
        for after in [30, 400] {
            run(&mut client, "BEGIN; CREATE TABLE made (x int); SAVEPOINT before");
            let after = Duration::from_millis(after);
            let time = cancelled(&mut client, sql, after).expect("10,000 searches take longer");
            eprintln!("a scan cancelled after {after:?} ended in {time:?}");
            assert!(time < Duration::from_secs(1), "{sql} cancelled after {after:?} took {time:?} to end");
            run(&mut client, "ROLLBACK TO before; INSERT INTO made VALUES (1); COMMIT; DROP TABLE made");
        }
    }
    run(&mut client, "RESET ALL");
    assert_eq!(both_ways(&mut client, "docs", "<->", &data::queries().cut(5, 384), 20), 100);
    // statement_timeout goes the same way.
    run(&mut client, "SET statement_timeout = 30");
    let begun = Instant::now();
    client.batch_execute("REINDEX INDEX docs_l2").expect_err("takes longer");
    assert!(begun.elapsed() < Duration::from_millis(1_030), "{:?}", begun.elapsed());
    run(&mut client, "RESET statement_timeout");
    assert_eq!(one::<i64>(&mut client, "SELECT sealvec.verify_index('docs_l2')"), 10_000);
    cluster.log_is_clean();
}
