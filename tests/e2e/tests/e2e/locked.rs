//! Without a key: VACUUM, dump, restore, replication and index builds go on, and nothing is lost or invented. With the
//! key again, a merge makes the index as good as any.

use std::fs;

use postgres::Client;
use sealvec_e2e::answers::{both_ways, nearest};
use sealvec_e2e::xtask::must;
use sealvec_e2e::{Cluster, Matrix, data, error_of, eventually, one, run};

const KEK: &str = "decode(repeat('c1', 32), 'hex')";
const DIMS: usize = 64;

fn create_ring(client: &mut Client) {
    run(client, &format!("DO $$ BEGIN PERFORM sealvec.create_key_ring('vault', kek => {KEK}); END $$"));
}

fn unlock(client: &mut Client) {
    run(client, &format!("SELECT sealvec.unlock('vault', {KEK})"));
}

/// Table `docs` of ring `vault` with two indexes and `rows` rows, in a session that then ends.
fn set_up(cluster: &Cluster, rows: usize) -> Matrix {
    let mut client = cluster.client();
    let vectors = data::vectors().cut(rows, DIMS);
    create_ring(&mut client);
    unlock(&mut client);
    data::table(&mut client, "docs", "vault", &vectors);
    indexes(&mut client);
    vectors
}

fn indexes(client: &mut Client) {
    run(
        client,
        "CREATE INDEX docs_l2 ON docs USING sealed_ivf (embedding);
         CREATE INDEX docs_cosine ON docs USING sealed_ivf (embedding sealvec_cosine_ops) WITH (storage_precision = 'float16')",
    );
}

/// Unlocks in a new session, merges, and compares both indexes with the table. Returns the number of rows.
fn as_good_as_any(client: &mut Client) -> i64 {
    unlock(client);
    let queries = data::queries().cut(10, DIMS);
    let rows: i64 = one(client, "SELECT count(*) FROM docs");
    for merged in [false, true] {
        for (index, operator) in [("docs_l2", "<->"), ("docs_cosine", "<=>")] {
            if merged {
                run(client, &format!("SELECT sealvec.merge('{index}')"));
                let tail: i64 = one(client, &format!("SELECT rows_in_tail FROM sealvec.index_stats('{index}')"));
                assert!(tail < 128, "{index}: {tail} rows left in the tail");
            }
            both_ways(client, "docs", operator, &queries, 40);
            assert_eq!(one::<i64>(client, &format!("SELECT sealvec.verify_index('{index}')")), rows, "{index}");
        }
    }
    rows
}

#[test]
fn vacuum_without_a_key_neither_loses_nor_invents_a_row() {
    let cluster = Cluster::start("vacuum", &["autovacuum_naptime=1s", "autovacuum_vacuum_cost_delay=0"]);
    let vectors = set_up(&cluster, 5_000);
    let mut locked = cluster.client();
    let error = error_of(&mut locked, "SELECT sealvec.open(embedding) FROM docs LIMIT 1");
    assert_eq!(error.code().code(), "55000", "{error:?}");

    // Deletes, moved rows and rows copied in, all without a key, with VACUUM in between and places given again.
    let mut expected = 5_000;
    for round in 0..4i64 {
        run(&mut locked, &format!("DELETE FROM docs WHERE id % 10 = {round} AND id < 5000"));
        expected -= 500;
        run(&mut locked, "VACUUM docs");
        run(
            &mut locked,
            &format!(
                "INSERT INTO docs SELECT id + 10000 * ({round} + 1), embedding FROM docs WHERE id % 10 = 9 AND id < 3000;
                 UPDATE docs SET embedding = embedding WHERE id % 10 = 8 AND id < 1000"
            ),
        );
        expected += 300;
        run(
            &mut locked,
            ["VACUUM docs", "VACUUM (FREEZE) docs", "VACUUM (PARALLEL 2) docs", "VACUUM (INDEX_CLEANUP OFF) docs"]
                [round as usize],
        );
        assert_eq!(one::<i64>(&mut locked, "SELECT count(*) FROM docs"), expected);
    }
    let tail: i64 = one(&mut locked, "SELECT rows_in_tail FROM sealvec.index_stats('docs_l2')");
    assert!(tail > 1_000, "rows came without a key and wait for one: {tail}");

    // Autovacuum comes by itself.
    run(&mut locked, "ALTER TABLE docs SET (autovacuum_vacuum_threshold = 10, autovacuum_vacuum_scale_factor = 0)");
    let before: i64 = one(&mut locked, "SELECT autovacuum_count FROM pg_stat_user_tables WHERE relname = 'docs'");
    run(&mut locked, "DELETE FROM docs WHERE id % 10 = 4 AND id < 5000");
    expected -= 500;
    eventually("autovacuum", 60, || {
        run(&mut locked, "SELECT pg_stat_clear_snapshot()");
        let now: i64 = one(&mut locked, "SELECT autovacuum_count FROM pg_stat_user_tables WHERE relname = 'docs'");
        (now > before).then_some(())
    });
    assert_eq!(as_good_as_any(&mut cluster.client()), expected);

    // A locked session cannot search, and says so.
    let error = locked
        .query("SELECT id FROM docs ORDER BY embedding <-> $1::real[]::sealvec LIMIT 1", &[&vectors.row(1)])
        .expect_err("the ring is locked here");
    assert!(sealvec_e2e::said(&error).contains("55000"), "{}", sealvec_e2e::said(&error));
    cluster.log_is_clean();
}

#[test]
fn an_index_made_without_a_key_serves_after_a_merge() {
    let cluster = Cluster::start("locked-build", &["autovacuum=off"]);
    set_up(&cluster, 5_000);
    let mut locked = cluster.client();
    run(&mut locked, "DROP INDEX docs_l2; DROP INDEX docs_cosine");
    indexes(&mut locked);
    run(&mut locked, "REINDEX INDEX docs_l2");
    run(&mut locked, "REINDEX INDEX CONCURRENTLY docs_cosine");
    run(
        &mut locked,
        "INSERT INTO docs SELECT id + 10000, embedding FROM docs WHERE id < 500; DELETE FROM docs WHERE id % 7 = 0",
    );
    run(&mut locked, "VACUUM docs");
    let error = error_of(&mut locked, "SELECT sealvec.merge('docs_l2')");
    assert_eq!(error.code().code(), "55000", "{error:?}");
    as_good_as_any(&mut cluster.client());
    // Clustered, not one long list.
    let lists: i32 = one(&mut locked, "SELECT lists FROM sealvec.index_stats('docs_l2')");
    assert!(lists > 4, "{lists} lists");
    cluster.log_is_clean();
}

#[test]
fn dump_and_restore_need_no_key() {
    let cluster = Cluster::start("dump", &["autovacuum=off"]);
    let vectors = set_up(&cluster, 1_500);
    let before: Vec<Vec<f32>> = {
        let mut client = cluster.client();
        unlock(&mut client);
        opened(&mut client)
    };
    assert_eq!(before[3], vectors.row(3));
    let other = Cluster::start("dump-other", &["autovacuum=off"]);
    // Roles of the same names have other OIDs there: rights follow the names, at the moment of the restore.
    run(
        &mut cluster.client(),
        "CREATE ROLE keeper; CREATE ROLE reader; CREATE ROLE nobody_there; CREATE ROLE ghost;
         SELECT sealvec.grant_ring('vault', 'ghost'); DROP ROLE ghost; CREATE ROLE ghost;
         SELECT sealvec.set_ring_owner('vault', 'keeper'), sealvec.grant_ring('vault', 'reader'),
                sealvec.grant_ring('vault', 'nobody_there')",
    );
    run(&mut other.client(), "CREATE ROLE first; CREATE ROLE reader; CREATE ROLE keeper; CREATE ROLE ghost");
    let home = cluster.home();
    let dump = |name: &str, options: &[&str]| {
        let file = home.join(name);
        must(cluster.program("pg_dump", "e2e").args(options).arg("-f").arg(&file));
        file
    };
    let plain = dump("plain.sql", &[]);
    let custom = dump("dump.custom", &["--format=custom"]);
    let directory = dump("dump.dir", &["--format=directory", "--jobs=2"]);
    for number in vectors.row(3).iter().take(3) {
        let text = fs::read_to_string(&plain).expect("a dump is text");
        assert!(!text.contains(&number.to_string()), "no element in a dump");
    }

    let cases: [(&Cluster, &str, &str, Vec<&str>); 5] = [
        (&cluster, "again", "psql", vec!["-v", "ON_ERROR_STOP=1", "-q", "-f", plain.to_str().expect("UTF-8")]),
        (
            &other,
            "one_go",
            "psql",
            vec!["-v", "ON_ERROR_STOP=1", "-q", "--single-transaction", "-f", plain.to_str().expect("UTF-8")],
        ),
        (&other, "custom", "pg_restore", vec!["--exit-on-error", custom.to_str().expect("UTF-8")]),
        (&other, "custom_one_go", "pg_restore", vec!["--single-transaction", custom.to_str().expect("UTF-8")]),
        (&other, "parallel", "pg_restore", vec!["--exit-on-error", "--jobs=3", directory.to_str().expect("UTF-8")]),
    ];
    for (target, database, program, arguments) in cases {
        run(&mut target.connect_to("postgres"), &format!("CREATE DATABASE {database}"));
        must(target.program(program, database).args(&arguments));
        let mut client = target.connect_to(database);
        // Before any key: rows are there, sealed, and VACUUM works.
        assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM docs"), 1_500, "{database}");
        run(&mut client, "VACUUM docs");
        assert_eq!(as_good_as_any(&mut client), 1_500, "{database}");
        assert_eq!(opened(&mut client), before, "{database}");
        let near = nearest(&mut client, "docs", "<->", vectors.row(7), 1);
        assert!(near[0].distance < 1e-6, "{database}: {near:?}");
        let grants: String =
            one(&mut client, "SELECT owner || ': ' || array_to_string(granted_to, ' ') FROM sealvec.key_rings");
        let expected = if database == "again" { "keeper: nobody_there reader" } else { "keeper: reader" };
        assert_eq!(grants, expected, "{database}");
        run(&mut client, "SET ROLE keeper; SELECT sealvec.lock('vault', everywhere => true); RESET ROLE");
        // And a second dump equals the first, but for what Postgres draws anew.
        let wrong = error_of(
            &mut target.connect_to(database),
            "SELECT sealvec.unlock('vault', decode(repeat('c2', 32), 'hex'))",
        );
        assert!(!wrong.message().contains("c2c2"), "{wrong:?}");
    }
    other.log_is_clean();
    cluster.log_is_clean();
}

fn opened(client: &mut Client) -> Vec<Vec<f32>> {
    client
        .query("SELECT sealvec.open(embedding) FROM docs ORDER BY id", &[])
        .expect("the ring is open")
        .iter()
        .map(|row| row.get(0))
        .collect()
}

#[test]
fn logical_replication_needs_no_key() {
    let publisher = Cluster::start("publisher", &["wal_level=logical", "autovacuum=off"]);
    let vectors = set_up(&publisher, 1_000);
    let subscriber = Cluster::start("subscriber", &["autovacuum=off"]);
    let mut here = publisher.client();
    let mut there = subscriber.client();
    // The ring first, as bytes that hold wrapped keys only.
    let export: Vec<u8> = one(&mut here, "SELECT sealvec.export_ring('vault')");
    there.execute("SELECT sealvec.import_ring($1)", &[&export]).expect("imported");
    run(&mut there, &format!("CREATE TABLE docs (id int PRIMARY KEY, embedding sealvec({DIMS}, vault))"));
    indexes(&mut there);
    run(&mut here, "CREATE PUBLICATION everything FOR TABLE docs");
    run(
        &mut there,
        &format!(
            "CREATE SUBSCRIPTION everything CONNECTION 'host={} port={} user=postgres dbname=e2e' PUBLICATION everything",
            publisher.path("socket").display(),
            publisher.port()
        ),
    );
    let mut writer = publisher.client();
    unlock(&mut writer);
    let more = data::vectors().cut(2_000, DIMS);
    data::copy(&mut writer, "docs", &more, 1_000..2_000);
    writer.execute("UPDATE docs SET embedding = $1::real[] WHERE id = 3", &[&more.row(1_999)]).expect("updated");
    run(&mut writer, "DELETE FROM docs WHERE id % 9 = 0");
    let expected: i64 = one(&mut writer, "SELECT count(*) FROM docs");
    eventually("the subscriber has every row", 90, || {
        let count: i64 = one(&mut there, "SELECT count(*) FROM docs");
        let row_3: bool = one(&mut there, "SELECT EXISTS (SELECT FROM docs WHERE id = 1999)");
        (count == expected && row_3).then_some(())
    });
    let sent: String = one(&mut here, "SELECT pg_current_wal_lsn()::text");
    eventually("the subscriber has confirmed everything", 60, || {
        here.query_one("SELECT bool_and(replay_lsn >= $1::text::pg_lsn) FROM pg_stat_replication", &[&sent])
            .ok()?
            .get::<_, Option<bool>>(0)
            .filter(|done| *done)
    });
    assert_eq!(as_good_as_any(&mut there), expected);
    let changed: Vec<f32> = one(&mut there, "SELECT sealvec.open(embedding) FROM docs WHERE id = 4");
    assert_eq!(changed, vectors.row(4));
    run(&mut there, "ALTER SUBSCRIPTION everything DISABLE");
    run(&mut there, "ALTER SUBSCRIPTION everything SET (slot_name = NONE)");
    run(&mut there, "DROP SUBSCRIPTION everything");
    subscriber.log_is_clean();
    publisher.log_is_clean();
}
