//! Two sessions and one key ring: nobody destroys a key that somebody else is about to need, and nobody waits for what
//! is done to another ring.

use std::thread;
use std::time::Duration;

use postgres::Client;
use sealvec_e2e::{Cluster, error_of, eventually, one, run};

const KEK: &str = "decode(repeat('a8', 32), 'hex')";

fn start(name: &str) -> (Cluster, Client, Client) {
    let cluster = Cluster::start(name, &["autovacuum=off", "max_prepared_transactions=2"]);
    let (mut a, b) = (cluster.client(), cluster.client());
    run(&mut a, "SELECT sealvec.create_key_ring('notes'), sealvec.create_key_ring('other')");
    run(&mut a, "SET lock_timeout = '500ms'");
    (cluster, a, b)
}

fn code(client: &mut Client, sql: &str) -> String {
    error_of(client, sql).code().code().to_owned()
}

/// Runs `sql` in a session of its own, which has to wait; what became of it, for whoever joins.
fn waiting(cluster: &Cluster, watcher: &mut Client, sql: &'static str) -> thread::JoinHandle<Result<(), String>> {
    let mut client = cluster.client();
    let pid: i32 = one(&mut client, "SELECT pg_backend_pid()");
    let handle = thread::spawn(move || {
        client.batch_execute(sql).map_err(|error| error.as_db_error().expect("of the server").code().code().to_owned())
    });
    eventually("it waits for a lock", 10, || {
        one::<bool>(
            watcher,
            &format!("SELECT coalesce(wait_event_type = 'Lock', false) FROM pg_stat_activity WHERE pid = {pid}"),
        )
        .then_some(())
    });
    handle
}

const DROP: &str = "SELECT sealvec.drop_key_ring('notes')";

#[test]
fn a_ring_that_a_column_is_about_to_use_is_not_dropped() {
    let (cluster, mut a, mut b) = start("ring-drop");
    let number: i32 = one(&mut a, "SELECT number FROM sealvec.key_rings WHERE name = 'notes'");

    // Each of these names the ring in its own way, and holds it until the transaction ends.
    run(&mut b, "CREATE TABLE plain (id int)");
    for make in [
        "CREATE TABLE t (v sealvec(3, notes))".to_owned(),
        format!("CREATE TABLE t (v sealvec(3, {number}))"),
        "CREATE TABLE t (v sealvec(3, notes)[])".to_owned(),
        "ALTER TABLE plain ADD COLUMN v sealvec(3, notes)".to_owned(),
        "CREATE DOMAIN t AS sealvec(3, notes)".to_owned(),
        "CREATE TYPE t AS (v sealvec(3, notes))".to_owned(),
        "CREATE TABLE t AS SELECT '[1,2,3]'::sealvec(3, notes) AS v".to_owned(),
    ] {
        run(&mut b, &format!("BEGIN; {make}"));
        assert_eq!(code(&mut a, DROP), "55P03", "{make}");
        run(&mut b, "ROLLBACK");
    }
    // A plan from an earlier transaction reads no type modifier.
    run(&mut b, "PREPARE filled AS SELECT '[1,2,3]'::sealvec(3, notes) AS v");
    run(&mut b, "EXECUTE filled; BEGIN; CREATE TABLE t AS EXECUTE filled");
    assert_eq!(code(&mut a, DROP), "55P03", "a cached plan");
    run(&mut b, "ROLLBACK");
    // Nor does a prepared transaction give it back.
    run(&mut b, "BEGIN; CREATE TABLE t (v sealvec(3, notes)); PREPARE TRANSACTION 'made'");
    assert_eq!(code(&mut a, DROP), "55P03", "a prepared transaction");
    run(&mut b, "ROLLBACK PREPARED 'made'");

    // A drop that waits sees what it waited for.
    run(&mut b, "BEGIN; CREATE TABLE t (v sealvec(3, notes)); INSERT INTO t VALUES ('[1,2,3]')");
    let dropped = waiting(&cluster, &mut a, DROP);
    run(&mut b, "COMMIT");
    assert_eq!(dropped.join().expect("no panic"), Err("2BP01".into()));
    assert_eq!(one::<Vec<f32>>(&mut b, "SELECT sealvec.open(v) FROM t"), [1.0, 2.0, 3.0]);
    run(&mut b, "DROP TABLE t");

    // So does one whose snapshot is older than the table.
    run(&mut a, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1");
    run(&mut b, "CREATE TABLE t (v sealvec(3, notes)); INSERT INTO t VALUES ('[1,2,3]')");
    assert_eq!(code(&mut a, DROP), "2BP01");
    run(&mut a, "ROLLBACK");
    run(&mut b, "DISCARD ALL");
    assert_eq!(one::<Vec<f32>>(&mut b, "SELECT sealvec.open(v) FROM t"), [1.0, 2.0, 3.0]);
    // And what the same transaction did.
    run(&mut a, &format!("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1; DROP TABLE t; {DROP}"));

    // The other way round: who names a ring that is being dropped waits, and finds none; or finds the next of the name.
    let made = waiting(&cluster, &mut b, "CREATE TABLE u (v sealvec(3, notes))");
    let filled = waiting(&cluster, &mut b, "CREATE TABLE w AS SELECT '[1,2,3]'::sealvec(3, notes) AS v");
    run(&mut a, "COMMIT");
    assert_eq!(made.join().expect("no panic"), Err("42704".into()));
    assert_eq!(filled.join().expect("no panic"), Err("42704".into()));
    run(&mut a, "SELECT sealvec.create_key_ring('notes')");
    run(&mut a, &format!("BEGIN; {DROP}; SELECT sealvec.create_key_ring('notes')"));
    let made = waiting(&cluster, &mut b, "CREATE TABLE u (v sealvec(3, notes)); INSERT INTO u VALUES ('[4,5,6]')");
    run(&mut a, "COMMIT");
    assert_eq!(made.join().expect("no panic"), Ok(()));
    assert_eq!(one::<Vec<f32>>(&mut a, "SELECT sealvec.open(v) FROM u"), [4.0, 5.0, 6.0]);

    // Nobody can keep a ring from its owner for good.
    run(&mut b, "BEGIN; SELECT NULL::sealvec(3, notes)");
    assert_eq!(code(&mut a, DROP), "55P03");
    run(&mut a, "SELECT sealvec.drop_key_ring('notes', force => true)");
    run(&mut b, "COMMIT");
    assert_eq!(code(&mut b, "SELECT sealvec.open(v) FROM u"), "42704");

    // A plan that outlived its ring fills no table.
    run(&mut b, "PREPARE late AS SELECT NULL::sealvec(3, other) AS v");
    run(&mut b, "EXECUTE late");
    run(&mut a, "SELECT sealvec.drop_key_ring('other')");
    assert_eq!(code(&mut b, "CREATE TABLE late AS EXECUTE late"), "42704");
    cluster.log_is_clean();
}

#[test]
fn nobody_waits_for_a_change_of_another_ring() {
    let (cluster, mut a, mut b) = start("ring-change");
    run(
        &mut a,
        "CREATE ROLE small LOGIN; CREATE ROLE third; SELECT sealvec.create_key_ring('mine');
         SELECT sealvec.set_ring_owner('mine', 'small'); SELECT sealvec.grant_ring('other', 'third')",
    );
    let mut small = cluster.connect_as("small", "e2e");
    for change in [
        "SELECT sealvec.rekey('mine')",
        "SELECT sealvec.rotate_kek('mine')",
        "SELECT sealvec.lock('mine', everywhere => true)",
        "SELECT sealvec.grant_ring('mine', 'third')",
        "SELECT sealvec.drop_key_ring('mine')",
    ] {
        run(&mut small, &format!("BEGIN; {change}"));
        for other in [
            "SELECT sealvec.lock('other', everywhere => true)",
            "SELECT sealvec.create_key_ring('more'); SELECT sealvec.drop_key_ring('more')",
            "SELECT sealvec.revoke_ring('other', 'third'); SELECT sealvec.grant_ring('other', 'third')",
            "SELECT sealvec.rekey('other'); CREATE TEMP TABLE more (v sealvec(3, other)); DROP TABLE more",
        ] {
            run(&mut a, other);
        }
        // The same ring has one change at a time.
        assert_eq!(code(&mut a, "SELECT sealvec.rekey('mine')"), "55P03", "{change}");
        run(&mut small, "ROLLBACK");
    }
    // A column takes no notice of a change.
    run(&mut b, "BEGIN; CREATE TEMP TABLE own (v sealvec(3, mine))");
    run(&mut a, "SELECT sealvec.lock('mine', everywhere => true)");
    run(&mut b, "COMMIT; DROP TABLE own");

    // A grant does not outlive its ring.
    run(&mut a, "CREATE TEMP TABLE kept AS SELECT sealvec.export_ring('mine') AS bytes");
    run(&mut a, "BEGIN; SELECT sealvec.drop_key_ring('mine')");
    let granted = waiting(&cluster, &mut b, "SELECT sealvec.grant_ring('mine', 'third')");
    run(&mut a, "COMMIT");
    assert_eq!(granted.join().expect("no panic"), Err("42704".into()));
    assert_eq!(one::<i64>(&mut a, "SELECT count(*) FROM sealvec.ring_grant WHERE role = 'third'"), 1);
    // Nor is one that was left behind found again.
    run(&mut a, "SELECT sealvec.import_ring(bytes) FROM kept; SELECT sealvec.grant_ring('mine', 'third')");
    run(
        &mut a,
        "CREATE TEMP TABLE left_behind AS SELECT g.number, g.role FROM sealvec.ring_grant g JOIN sealvec.key_ring r USING (number) WHERE r.name = 'mine'",
    );
    run(&mut a, "SELECT sealvec.drop_key_ring('mine'); INSERT INTO sealvec.ring_grant SELECT * FROM left_behind");
    run(&mut a, "SELECT sealvec.import_ring(bytes) FROM kept");
    assert_eq!(one::<i32>(&mut a, "SELECT cardinality(granted_to) FROM sealvec.key_rings WHERE name = 'mine'"), 0);

    // COMMIT PREPARED could wake nobody.
    run(&mut a, "BEGIN; SELECT sealvec.lock('mine', everywhere => true)");
    assert_eq!(code(&mut a, "PREPARE TRANSACTION 'change'"), "0A000");
    run(&mut a, "BEGIN; SELECT sealvec.lock('mine'); PREPARE TRANSACTION 'no_change'");
    run(&mut a, "COMMIT PREPARED 'no_change'");
    cluster.log_is_clean();
}

#[test]
fn a_session_with_an_open_ring_never_waits_between_statements() {
    let (cluster, mut a, mut b) = start("ring-wait");
    for ring in ["vault", "safe"] {
        run(&mut a, &format!("DO $$ BEGIN PERFORM sealvec.create_key_ring('{ring}', kek => {KEK}); END $$"));
    }
    run(&mut b, "SET lock_timeout = '300ms'; CREATE TABLE t (id int); CREATE TABLE s (v sealvec(2, vault))");
    run(&mut b, &format!("SELECT sealvec.unlock('vault', {KEK}); INSERT INTO s VALUES ('[1,2]')"));
    const OPEN: &str = "SELECT sealvec.open(v) FROM s";

    // What makes open rings uncertain, without a lock on their catalog: they are looked at, and stay open.
    run(&mut a, "CREATE ROLE one");
    run(&mut b, "INSERT INTO t VALUES (1)");
    assert_eq!(one::<Vec<f32>>(&mut b, OPEN), [1.0, 2.0]);

    // The catalog can't be looked at: a commit succeeds, and the ring is closed.
    for lock in ["LOCK TABLE sealvec.key_ring IN ACCESS EXCLUSIVE MODE", "REINDEX TABLE sealvec.key_ring"] {
        run(&mut b, &format!("SELECT sealvec.unlock('vault', {KEK})"));
        run(&mut a, &format!("BEGIN; {lock}; CREATE ROLE two"));
        run(&mut cluster.client(), "CREATE ROLE three; DROP ROLE three");
        run(&mut b, "INSERT INTO t VALUES (1)");
        run(&mut b, "BEGIN; INSERT INTO t VALUES (1); COMMIT");
        run(&mut a, "ROLLBACK");
    }
    run(&mut b, &format!("SELECT sealvec.lock_all(); SELECT sealvec.unlock('vault', {KEK})"));
    run(&mut a, "BEGIN; LOCK TABLE sealvec.key_ring IN ACCESS EXCLUSIVE MODE");
    run(&mut cluster.client(), "DROP ROLE one");
    run(&mut b, "INSERT INTO t VALUES (1)");
    run(&mut a, "ROLLBACK");
    assert_eq!(code(&mut b, OPEN), "55000");

    // A session that idles is woken by the time of its first ring, and the second is uncertain: it waits for its client
    // alone, and lives when the extension is gone.
    run(&mut b, &format!("SET sealvec.key_ttl = '2s'; SELECT sealvec.unlock('vault', {KEK})"));
    thread::sleep(Duration::from_millis(1_000));
    run(&mut b, &format!("SELECT sealvec.unlock('safe', {KEK})"));
    let pid: i32 = one(&mut b, "SELECT pg_backend_pid()");
    run(&mut a, "BEGIN; DROP EXTENSION sealvec CASCADE");
    let mut watcher = cluster.client();
    run(&mut watcher, "CREATE ROLE four");
    for _ in 0..15 {
        thread::sleep(Duration::from_millis(100));
        let waits: Option<String> =
            one(&mut watcher, &format!("SELECT wait_event_type FROM pg_stat_activity WHERE pid = {pid}"));
        assert_ne!(waits.as_deref(), Some("Lock"), "it waits for a lock");
    }
    run(&mut a, "COMMIT");
    thread::sleep(Duration::from_millis(300));
    run(&mut b, "INSERT INTO t VALUES (2)");
    cluster.log_is_clean();
}
