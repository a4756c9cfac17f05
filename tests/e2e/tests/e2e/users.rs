//! Users of a key ring: a secret that the server never holds opens it for what its user may do, and whoever is revoked is
//! out within a second, whatever his sessions are doing, here and on a standby.

use std::thread;
use std::time::{Duration, Instant};

use postgres::Client;
use sealvec_core::keys::{Kek, RingRecord, UserPublicKey, UserWrap};
use sealvec_e2e::standby::Standby;
use sealvec_e2e::xtask::must;
use sealvec_e2e::{Cluster, cluster, data, error_of, eventually, memory, one, run, said};

const KEK: &str = "decode(repeat('a7', 32), 'hex')";
const DIMS: usize = 32;
const SECRET: [u8; 32] = [0x5e; 32];
/// What a busy machine may add to the second in which a session hears of a revoke.
const SOON: Duration = Duration::from_secs(2);

/// A server with a ring `vault` that its client holds, rows sealed under it, and a role `app` that may do everything with them.
struct Vault {
    cluster: Cluster,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn grant(client: &mut Client, role: &str, permissions: &str, secret: &[u8; 32]) {
    let public = hex(UserPublicKey::of_secret(secret).as_bytes());
    let sql = format!("SELECT sealvec.grant_user('vault', '{role}', '{permissions}', '\\x{public}', kek => {KEK})");
    run(client, &sql);
}

/// What his client does: opens the wrap with his secret, and shows what was in it.
fn unlock(client: &mut Client, secret: &[u8; 32]) {
    let key = key(client, secret);
    client
        .execute("SELECT sealvec.unlock('vault', user_key => $1::bytea)", &[&key])
        .unwrap_or_else(|error| panic!("{}", said(&error)));
}

fn key(client: &mut Client, secret: &[u8; 32]) -> Vec<u8> {
    let wrap: Vec<u8> = one(client, "SELECT wrap FROM sealvec.my_wraps('vault')");
    UserWrap::decode(&wrap).expect("a wrap").open(secret).expect("of this secret").expose().to_vec()
}

fn count(client: &mut Client) -> i64 {
    one(client, "SELECT count(sealvec.open(embedding)) FROM secrets WHERE id < 10")
}

fn query() -> String {
    data::queries().cut(1, DIMS).text(0)
}

impl Vault {
    fn start(name: &str) -> Self {
        let cluster = Cluster::start(name, &["autovacuum=off"]);
        let mut admin = cluster.client();
        run(&mut admin, "CREATE ROLE app LOGIN; CREATE ROLE other LOGIN; GRANT CREATE ON SCHEMA public TO app");
        run(&mut admin, &format!("DO $$ BEGIN PERFORM sealvec.create_key_ring('vault', kek => {KEK}); END $$"));
        run(&mut admin, &format!("SELECT sealvec.unlock('vault', {KEK})"));
        data::table(&mut admin, "secrets", "vault", &data::vectors().cut(5_000, DIMS));
        run(
            &mut admin,
            "CREATE INDEX secrets_idx ON secrets USING sealed_ivf (embedding);
             GRANT ALL ON secrets TO app, other;
             CREATE TABLE own AS SELECT * FROM secrets; ALTER TABLE own OWNER TO app;
             CREATE FUNCTION slow(id int) RETURNS bool IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.01); RETURN true; END $$",
        );
        Self { cluster }
    }

    fn dek(&self) -> [u8; 32] {
        let record: Vec<u8> = one(&mut self.cluster.client(), "SELECT record FROM sealvec.key_ring");
        let open =
            RingRecord::decode(&record).expect("a record").open(&Kek::from_slice(&[0xa7; 32]).expect("32 bytes"));
        *open.expect("the KEK").deks.last().expect("a DEK").as_dek().expose()
    }

    fn revoke(&self) {
        run(&mut self.cluster.client(), "SELECT sealvec.revoke_user('vault', 'app')");
    }
}

#[test]
fn his_secret_opens_the_ring_and_nobody_elses_does() {
    let vault = Vault::start("users-secret");
    let mut admin = vault.cluster.client();
    let mut app = vault.cluster.connect_as("app", "e2e");
    let mut other = vault.cluster.connect_as("other", "e2e");
    grant(&mut admin, "app", "{read}", &SECRET);
    grant(&mut admin, "other", "{read,write}", &[0x0f; 32]);
    unlock(&mut app, &SECRET);
    assert_eq!(count(&mut app), 10);
    assert_eq!(error_of(&mut app, &format!("INSERT INTO secrets VALUES (9999, '{}')", query())).code().code(), "42501");
    // Another's secret opens no wrap, and another's key no ring. A wrap is shown to its own role only.
    let wrap: Vec<u8> = one(&mut app, "SELECT wrap FROM sealvec.my_wraps('vault')");
    let wrap = UserWrap::decode(&wrap).expect("a wrap");
    assert!(wrap.open(&[0x0f; 32]).is_err());
    assert_eq!((wrap.role(), wrap.dek_version()), ("app", 1));
    let his = key(&mut app, &SECRET);
    let show = |key: &[u8]| format!("SELECT sealvec.unlock('vault', user_key => '\\x{}')", hex(key));
    assert_eq!(error_of(&mut other, &show(&his)).code().code(), "28P01");
    unlock(&mut other, &[0x0f; 32]);
    run(&mut other, &format!("INSERT INTO secrets VALUES (9999, '{}')", query()));

    // A new data key reaches him through his public key; the key from before is nobody's any more.
    run(&mut admin, &format!("SELECT sealvec.revoke_user('vault', 'other', rekey => true, kek => {KEK})"));
    run(
        &mut admin,
        &format!("SELECT sealvec.unlock('vault', {KEK}); UPDATE secrets SET embedding = '{}' WHERE id = 3", query()),
    );
    assert_eq!(error_of(&mut app, "SELECT sealvec.open(embedding) FROM secrets WHERE id = 3").code().code(), "55000");
    assert_eq!(error_of(&mut app, &show(&his)).code().code(), "28P01");
    unlock(&mut app, &SECRET);
    assert_eq!(count(&mut app), 10);
    assert_eq!(one::<i32>(&mut app, "SELECT dek_version FROM sealvec.my_wraps('vault')"), 2);
    let error = error_of(&mut other, "SELECT sealvec.open(embedding) FROM secrets WHERE id = 3");
    assert_eq!(error.code().code(), "55000", "{error}");
    assert!(other.query("SELECT wrap FROM sealvec.my_wraps('vault')", &[]).expect("rows").is_empty());
    vault.cluster.log_is_clean();
}

#[test]
fn a_dump_carries_users_and_no_key() {
    let vault = Vault::start("users-dump");
    let mut admin = vault.cluster.client();
    grant(&mut admin, "app", "{read}", &SECRET);
    grant(&mut admin, "other", "{read}", &[0x0f; 32]);
    run(&mut admin, "DROP INDEX secrets_idx; DROP TABLE own; DROP FUNCTION slow");
    run(&mut admin, "CREATE DATABASE restored");
    let dump = vault.cluster.home().join("dump.sql");
    must(vault.cluster.program("pg_dump", "e2e").arg("-f").arg(&dump));
    let text = std::fs::read_to_string(&dump).expect("a dump");
    let key = key(&mut vault.cluster.connect_as("app", "e2e"), &SECRET);
    for secret in [&key[..], &vault.dek()[..], &SECRET[..]] {
        assert!(!text.contains(&hex(secret)), "a key in a dump");
    }
    must(vault.cluster.program("psql", "restored").args(["-qX", "-v", "ON_ERROR_STOP=1", "-f"]).arg(&dump));
    let mut app = vault.cluster.connect_as("app", "restored");
    unlock(&mut app, &SECRET);
    assert_eq!(count(&mut app), 10);
    // A row of sealvec.ring_user that is put back opens nothing without its grant.
    run(&mut vault.cluster.connect_to("restored"), "SELECT sealvec.revoke_ring('vault', 'app')");
    assert_eq!(error_of(&mut app, "SELECT sealvec.open(embedding) FROM secrets").code().code(), "55000");
    assert!(app.query("SELECT wrap FROM sealvec.my_wraps('vault')", &[]).expect("rows").is_empty());
    let sql = format!("SELECT sealvec.unlock('vault', user_key => '\\x{}')", hex(&key));
    assert_eq!(error_of(&mut app, &sql).code().code(), "42501");
    vault.cluster.log_is_clean();
}

/// Statements that take long, and no lock on the way; each after what it needs.
fn long() -> Vec<(&'static str, &'static str, String)> {
    let query = query();
    vec![
        (
            "many scans of an index",
            "SET enable_seqscan = off",
            format!(
                "SELECT count(*) FROM generate_series(1, 20000) g, generate_series(1, 20000) h, LATERAL (SELECT id FROM secrets WHERE id <> -(g * h) ORDER BY embedding <-> '{query}' LIMIT 1) n"
            ),
        ),
        (
            "one scan of an index",
            "SET enable_seqscan = off",
            format!("SELECT id FROM secrets WHERE pg_sleep(0.01) IS NOT NULL ORDER BY embedding <-> '{query}'"),
        ),
        (
            "distances of a sequential scan",
            "SET enable_indexscan = off",
            format!(
                "SELECT count(*) FROM generate_series(1, 20000) g, generate_series(1, 20000) h, secrets WHERE (embedding <-> '{query}') + g < 0"
            ),
        ),
        (
            "open() of many rows",
            "SELECT 1",
            "SELECT count(sealvec.open(embedding)) FROM generate_series(1, 20000) g, generate_series(1, 20000) h, secrets".into(),
        ),
        (
            "rows that are sealed",
            "CREATE TABLE sink (embedding sealvec(32, vault))",
            format!(
                "INSERT INTO sink SELECT array_fill(g::real, ARRAY[32]) FROM generate_series(1, 20000) g, generate_series(1, 20000) h WHERE '{query}' IS NOT NULL"
            ),
        ),
        ("a build", "SELECT 1", "CREATE INDEX ON own USING sealed_ivf (embedding) WHERE slow(id)".into()),
    ]
}

/// Runs `sql`, which never ends by itself, until `stop` was called: how long it went on, and what it said.
fn stopped(mut client: Client, admin: &mut Client, what: &str, sql: String, stop: impl FnOnce()) -> (Duration, String) {
    run(&mut client, "SET statement_timeout = '30s'"); // should nothing stop it
    let pid: i32 = one(&mut client, "SELECT pg_backend_pid()");
    let running = thread::spawn(move || {
        let error = client.batch_execute(&sql).expect_err("it is stopped");
        (Instant::now(), said(&error))
    });
    eventually(what, 20, || {
        let busy = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND state = 'active' AND clock_timestamp() - query_start > '0.8 s'"
        );
        (one::<i64>(admin, &busy) == 1).then_some(())
    });
    assert!(!running.is_finished(), "{what}: it runs");
    stop();
    let told = Instant::now();
    let (ended, error) = running.join().expect("it ended");
    (ended.saturating_duration_since(told), error)
}

#[test]
fn a_revoked_user_is_out_within_a_second_in_the_middle_of_a_statement() {
    let vault = Vault::start("users-revoke");
    let mut admin = vault.cluster.client();
    for (what, before, sql) in long() {
        grant(&mut admin, "app", "{read,write}", &SECRET);
        let mut app = vault.cluster.connect_as("app", "e2e");
        unlock(&mut app, &SECRET);
        run(&mut app, before);
        let (time, error) = stopped(app, &mut admin, what, sql, || vault.revoke());
        eprintln!("{what}: ended {time:?} after the revoke: {error}");
        assert!(error.starts_with("55000 key ring \"vault\" is locked"), "{what}: {error}");
        assert!(time < SOON, "{what}: {time:?}");
    }
    // What closes a ring for everybody stops whoever has shown its own key, too; and a key service's, who lost his grant.
    let close = |sql: &'static str| move |client: &mut Client| run(client, sql);
    let mut owner = vault.cluster.client();
    run(&mut owner, &format!("SELECT sealvec.unlock('vault', {KEK})"));
    let (what, _, sql) = long().swap_remove(2);
    let (time, error) = stopped(owner, &mut admin, what, sql.clone(), || {
        close("SELECT sealvec.lock('vault', everywhere => true)")(&mut vault.cluster.client())
    });
    assert!(error.starts_with("55000") && time < SOON, "lock: {time:?} {error}");
    run(
        &mut admin,
        "SELECT sealvec.create_key_ring('kept'); CREATE TABLE kept (id int, embedding sealvec(32, kept)); GRANT SELECT ON kept TO app",
    );
    run(
        &mut admin,
        "INSERT INTO kept SELECT i, array_fill(i::real, ARRAY[32]) FROM generate_series(1, 1000) i; SELECT sealvec.grant_ring('kept', 'app')",
    );
    let app = vault.cluster.connect_as("app", "e2e");
    let (time, error) = stopped(app, &mut admin, what, sql.replace("secrets", "kept"), || {
        close("SELECT sealvec.revoke_ring('kept', 'app')")(&mut vault.cluster.client())
    });
    assert!(error.starts_with("42501") && time < SOON, "revoke_ring: {time:?} {error}");
    vault.cluster.log_is_clean();
}

/// The wait is between the unlock's look at his rights, and the ring's being open: what was revoked in it is told once.
#[test]
fn an_unlock_beside_a_revoke_opens_nothing() {
    let vault = Vault::start("users-beside");
    let mut admin = vault.cluster.client();
    grant(&mut admin, "app", "{read}", &SECRET);
    let mut app = vault.cluster.connect_as("app", "e2e");
    let key = key(&mut app, &SECRET); // looks at all there is to look at of this role
    run(&mut admin, "CREATE ROLE zoe");
    grant(&mut admin, "zoe", "{read}", &[0x0f; 32]);
    run(&mut admin, "BEGIN; SELECT sealvec.revoke_user('vault', 'app'); LOCK TABLE pg_authid");
    let pid: i32 = one(&mut app, "SELECT pg_backend_pid()");
    let unlocks = thread::spawn(move || {
        let unlocked = app.execute("SELECT sealvec.unlock('vault', user_key => $1::bytea)", &[&key]);
        unlocked.unwrap_or_else(|error| panic!("he was a user when it began: {}", said(&error)));
        app
    });
    eventually("he waits to look at the next user's role", 10, || {
        let waits = format!(
            "SELECT count(*) FROM pg_locks WHERE pid = {pid} AND relation = 'pg_authid'::regclass AND NOT granted"
        );
        (one::<i64>(&mut admin, &waits) == 1).then_some(())
    });
    run(&mut admin, "COMMIT");
    let mut app = unlocks.join().expect("it ended");
    let error = error_of(&mut app, "SELECT sealvec.open(embedding) FROM secrets LIMIT 1");
    assert_eq!(error.code().code(), "55000", "{error}");
    vault.cluster.log_is_clean();
}

/// Two things refuse it, each by itself: the scan, and the distance that the executor computes for each row.
#[test]
fn a_scan_that_a_reader_began_does_not_go_on_by_a_writers_key() {
    let vault = Vault::start("users-scan");
    let mut admin = vault.cluster.client();
    run(
        &mut admin,
        &format!(
            "CREATE ROLE reads; CREATE ROLE writes; GRANT reads, writes TO app; SELECT sealvec.unlock('vault', {KEK});
             DROP INDEX secrets_idx; CREATE INDEX ON secrets USING sealed_ivf (embedding) WITH (storage_precision = float32)"
        ),
    );
    let mut app = vault.cluster.connect_as("app", "e2e");
    for (role, permissions, secret) in [("reads", "{read}", SECRET), ("writes", "{write}", [0x0f; 32])] {
        grant(&mut admin, role, permissions, &secret);
    }
    let mut key_of = |role: &str, secret: &[u8; 32]| {
        let wrap: Vec<u8> = one(&mut app, &format!("SELECT wrap FROM sealvec.my_wraps('vault') WHERE role = '{role}'"));
        hex(UserWrap::decode(&wrap).expect("a wrap").open(secret).expect("of this secret").expose())
    };
    let (reads, writes) = (key_of("reads", &SECRET), key_of("writes", &[0x0f; 32]));
    let query = query();
    run(&mut app, &format!("SET enable_seqscan = off; SELECT sealvec.unlock('vault', user_key => '\\x{reads}')"));
    let plan =
        app.query(&format!("EXPLAIN SELECT id FROM secrets ORDER BY embedding <-> '{query}'"), &[]).expect("a plan");
    assert!(plan[0].get::<_, &str>(0).starts_with("Index Scan"), "{plan:?}");
    run(
        &mut app,
        &format!(
            "BEGIN; DECLARE near CURSOR FOR SELECT id FROM secrets ORDER BY embedding <-> '{query}'; FETCH 10 FROM near;
             SELECT sealvec.unlock('vault', user_key => '\\x{writes}'); INSERT INTO secrets VALUES (9999, '{query}')"
        ),
    );
    let error = error_of(&mut app, "FETCH 10 FROM near");
    assert_eq!(error.code().code(), "42501", "{error}");
    vault.cluster.log_is_clean();
}

#[test]
fn a_revoked_user_leaves_no_key_in_a_session_that_idles() {
    let vault = Vault::start("users-idle");
    let mut admin = vault.cluster.client();
    grant(&mut admin, "app", "{read,write}", &SECRET);
    grant(&mut admin, "other", "{read}", &[0x0f; 32]);
    let mut idle = vault.cluster.connect_as("app", "e2e");
    let mut stays = vault.cluster.connect_as("other", "e2e");
    run(&mut idle, "SET sealvec.key_ttl = '1h'");
    unlock(&mut idle, &SECRET);
    unlock(&mut stays, &[0x0f; 32]);
    assert_eq!((count(&mut idle), count(&mut stays)), (10, 10));
    let pid: i32 = one(&mut idle, "SELECT pg_backend_pid()");
    let dek = vault.dek();
    let held = || memory::count(pid, &[&dek])[0];
    if cluster::is_root() {
        assert_ne!(held(), 0, "the search finds the key of an open ring");
    }
    run(&mut admin, "BEGIN; SELECT sealvec.revoke_user('vault', 'app'); ROLLBACK");
    assert_eq!(count(&mut idle), 10, "a revoke that is rolled back revokes nobody");
    vault.revoke();
    if cluster::is_root() {
        let begun = Instant::now();
        eventually("the key leaves the memory of a session that idles", 2, || (held() == 0).then_some(()));
        eprintln!("the key was gone {:?} after the revoke", begun.elapsed());
    }
    assert_eq!(error_of(&mut idle, "SELECT sealvec.open(embedding) FROM secrets LIMIT 1").code().code(), "55000");
    assert_eq!(count(&mut stays), 10, "who was not revoked goes on");

    // When its time is up, as any other key.
    run(&mut stays, "SET sealvec.key_ttl = '1s'");
    let pid: i32 = one(&mut stays, "SELECT pg_backend_pid()");
    unlock(&mut stays, &[0x0f; 32]);
    if cluster::is_root() {
        eventually("the key goes with its time", 3, || (memory::count(pid, &[&dek])[0] == 0).then_some(()));
    }
    vault.cluster.log_is_clean();
}

#[test]
fn a_revoked_user_is_out_on_a_standby_too() {
    let vault = Vault::start("users-standby");
    let mut admin = vault.cluster.client();
    grant(&mut admin, "app", "{read}", &SECRET);
    let standby = Standby::start(&vault.cluster);
    standby.catch_up();
    let connect = || {
        let mut client = standby.config("e2e").user("app").connect(postgres::NoTls).expect("a session on the standby");
        unlock(&mut client, &SECRET);
        client
    };
    for (what, before, sql) in long().into_iter().take(3) {
        let (mut app, mut idle) = (connect(), connect());
        run(&mut app, before);
        let pid: i32 = one(&mut idle, "SELECT pg_backend_pid()");
        assert_eq!(count(&mut idle), 10);
        let dek = vault.dek();
        let (time, error) = stopped(app, &mut standby.client(), what, sql, || {
            vault.revoke();
            standby.catch_up();
        });
        eprintln!("{what}: ended {time:?} after the standby had replayed the revoke: {error}");
        assert!(error.starts_with("55000 key ring \"vault\" is locked"), "{what}: {error}");
        assert!(time < SOON, "{what}: {time:?}");
        if cluster::is_root() {
            eventually("no key in an idle session", 3, || (memory::count(pid, &[&dek])[0] == 0).then_some(()));
        }
        assert_eq!(error_of(&mut idle, "SELECT sealvec.open(embedding) FROM secrets LIMIT 1").code().code(), "55000");
        grant(&mut admin, "app", "{read}", &SECRET);
        standby.catch_up();
    }
    vault.cluster.log_is_clean();
}
