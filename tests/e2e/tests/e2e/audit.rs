//! The audit: a line for each event that no name forges, rows that make nobody wait, and failed unlocks that are slow.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};
use sealvec_e2e::kms::moto::REGION;
use sealvec_e2e::kms::{Fault, FaultProxy, KeyAgent, Moto, aws_credentials};
use sealvec_e2e::standby::Standby;
use sealvec_e2e::xtask::must;
use sealvec_e2e::{Cluster, error_of, eventually, one, run, said};
use serde_json::json;

const KEY: &str = "decode(repeat('a7', 32), 'hex')";
const WRONG: &str = "decode(repeat('b8', 32), 'hex')";
/// What any failure may take beside the delay, on a machine that does other things.
const QUICK: Duration = Duration::from_millis(200);

/// A server with two client-held rings, and an encrypted index under the same key; roles app and other.
fn vault(name: &str) -> Cluster {
    let cluster = Cluster::start(name, &["autovacuum=off"]);
    let mut admin = cluster.client();
    run(&mut admin, "CREATE ROLE app LOGIN; CREATE ROLE other LOGIN");
    for ring in ["vault", "second"] {
        run(&mut admin, &format!("SELECT sealvec.create_key_ring('{ring}', kek => {KEY})"));
    }
    run(&mut admin, &format!("SELECT sealvec.create_index('docs', 2, index_key => {KEY})"));
    cluster
}

fn unlock(ring: &str, key: &str) -> String {
    format!("SELECT sealvec.unlock('{ring}', {key})")
}

/// How long a statement that fails with `sqlstate` takes.
fn failure(client: &mut Client, sql: &str, sqlstate: &str) -> Duration {
    let begun = Instant::now();
    let error = error_of(client, sql);
    assert_eq!(error.code().code(), sqlstate, "{sql}: {}", error.message());
    begun.elapsed()
}

fn wrong(client: &mut Client, ring: &str) -> Duration {
    failure(client, &unlock(ring, WRONG), "28P01")
}

fn right(client: &mut Client, ring: &str) -> Duration {
    let begun = Instant::now();
    run(client, &unlock(ring, KEY));
    begun.elapsed()
}

#[test]
fn failed_unlocks_are_slow_for_that_role_and_ring_and_a_right_key_never_waits() {
    let cluster = vault("audit-slow");
    let (mut app, mut other) = (cluster.connect_as("app", "e2e"), cluster.connect_as("other", "e2e"));
    for time in 1..=5 {
        let took = wrong(&mut app, "vault");
        assert!(took < QUICK, "failure {time} took {took:?}");
    }
    let (sixth, seventh) = (wrong(&mut app, "vault"), wrong(&mut app, "vault"));
    assert!(sixth >= Duration::from_millis(250) && seventh >= Duration::from_millis(500), "{sixth:?} {seventh:?}");

    // Another role, another ring; another session of the same role is the same.
    assert!(wrong(&mut other, "vault") < QUICK);
    assert!(right(&mut other, "vault") < QUICK);
    assert!(wrong(&mut app, "second") < QUICK);
    let eighth = wrong(&mut cluster.connect_as("app", "e2e"), "vault");
    assert!(eighth >= Duration::from_millis(1_000), "{eighth:?}");

    // A wait holds nobody up, and ends at once when it is to.
    let token = app.cancel_token();
    let waiting = std::thread::spawn(move || {
        let took = failure(&mut app, &unlock("vault", WRONG), "57014");
        (app, took)
    });
    std::thread::sleep(Duration::from_millis(500));
    assert!(right(&mut other, "vault") < QUICK, "while another waits");
    let mut same = cluster.connect_as("app", "e2e");
    token.cancel_query(NoTls).expect("the server takes the request");
    let (mut app, took) = waiting.join().expect("it ended");
    assert!(took < Duration::from_millis(1_000), "cancelled after 500 ms, it took {took:?} of 2 s");
    run(&mut app, "SET statement_timeout = '300ms'");
    let took = failure(&mut app, &unlock("vault", WRONG), "57014");
    assert!(took < Duration::from_millis(800), "{took:?} of 4 s");
    run(&mut app, "RESET statement_timeout");
    // Who does not wait, because he is cancelled or ended, has failed all the same, and once.
    let mut ended = cluster.connect_as("app", "e2e");
    let pid: i32 = one(&mut ended, "SELECT pg_backend_pid()");
    let waiting = std::thread::spawn(move || ended.batch_execute(&unlock("vault", WRONG)).is_err());
    std::thread::sleep(Duration::from_millis(500));
    assert!(one::<bool>(&mut app, &format!("SELECT pg_terminate_backend({pid}, 5000)")));
    assert!(waiting.join().expect("it ended"));
    let told = "SELECT count(*) FROM sealvec.audit WHERE operation = 'unlock' AND result = 'failed' AND role = 'app' AND ring = 'vault'";
    assert_eq!(one::<i64>(&mut cluster.client(), &format!("{told} AND sqlstate = '28P01'")), 11);
    assert_eq!(one::<i64>(&mut cluster.client(), told), 11);
    let lines = cluster
        .log()
        .matches("operation=\"unlock\" result=\"failed\" sqlstate=\"28P01\" session_user=\"app\" role=\"app\"")
        .count();
    assert_eq!(lines, 12, "eleven, and one at the other ring");

    // The right key is not slow, and forgives.
    assert!(right(&mut same, "vault") < QUICK);
    assert!(wrong(&mut app, "vault") < QUICK);

    // The same for keys that a call on an encrypted index shows, whatever the session has failed at before.
    let mut admin = cluster.client();
    let count = |key: &str| format!("SELECT sealvec.num_vectors('docs', index_key => {key})");
    let mut took = Duration::ZERO;
    for _ in 0..6 {
        took = failure(&mut admin, &count(WRONG), "28P01");
    }
    assert!(took >= Duration::from_millis(250), "{took:?}");
    let begun = Instant::now();
    run(&mut admin, &count(KEY));
    assert!(begun.elapsed() < QUICK);
    assert!(failure(&mut admin, &count(WRONG), "28P01") < QUICK, "forgiven");

    // A superuser sets the bound, and may let none wait.
    run(&mut admin, "SET sealvec.failed_unlock_delay_max = 0");
    for _ in 0..12 {
        assert!(wrong(&mut admin, "vault") < QUICK);
    }
    cluster.log_is_clean();
}

#[test]
fn a_line_of_the_log_is_one_event_and_holds_no_key() {
    let cluster = vault("audit-line");
    let mut admin = cluster.client();
    // Whatever the server logs of statements, the line brings none, nor the context of the function that it was called from.
    run(
        &mut admin,
        "SET sealvec.allow_plain_key = on; SET log_min_error_statement = 'log'; SET log_error_verbosity = 'verbose'",
    );
    let hex = "a7".repeat(32);
    let context = "CREATE FUNCTION unlocks(key text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
                       EXECUTE format('SELECT sealvec.unlock(''vault'', decode(%L, ''hex''))', key); END $$";
    run(&mut admin, context);
    let before = cluster.log().len();
    run(&mut admin, &format!("SELECT unlocks('{hex}')"));
    let logged = cluster.log()[before..].to_owned();
    assert!(logged.contains("sealvec audit: operation=\"unlock\" result=\"ok\""), "{logged}");
    assert!(!logged.contains(&hex) && !logged.contains("STATEMENT") && !logged.contains("CONTEXT"), "{logged}");
    run(&mut admin, "RESET ALL");

    let evil = "x\" result=\"ok\" \\ role=postgres";
    let before = cluster.log().len();
    run(&mut admin, "CREATE ROLE \"app\"\" result=\"\"ok\n LOG:  sealvec audit: role=\" LOGIN");
    let mut forger = cluster
        .config("e2e")
        .user("app\" result=\"ok\n LOG:  sealvec audit: role=")
        .application_name("psql\" ring=\"none\n\u{202e}")
        .connect(NoTls)
        .expect("a role may be called so");
    run(&mut admin, &format!("SELECT sealvec.create_key_ring('{evil}', kek => {KEY})"));
    failure(&mut forger, &unlock(evil, WRONG), "28P01");
    failure(
        &mut forger,
        "SELECT sealvec.unlock(E'none\\n2026 LOG:  sealvec audit: operation=\"shred\"', NULL)",
        "42704",
    );
    // Who may do nothing may do this, and the line is as ours are. But the server says below it where it came from.
    run(
        &mut forger,
        "DO $$ BEGIN RAISE LOG 'sealvec audit: operation=\"unlock\" result=\"ok\" session_user=\"app\" ring=\"vault\"' USING hint = 'none'; END $$",
    );
    let logged = cluster.log()[before..].to_owned();
    // What follows the server's own front of a line; what else it logs of a statement is indented, or has another front.
    let told = |line: &str| line.split_once("] ").map_or(String::new(), |(_, line)| line.to_owned());
    let own = |line: &str| told(line).starts_with("LOG:  sealvec audit: ");
    assert_eq!(logged.lines().filter(|line| own(line)).count(), 4, "{logged}");
    let mut lines: Vec<&str> = logged.lines().collect();
    lines.push("");
    let goes_on = |line: &str| {
        ["HINT", "DETAIL", "CONTEXT", "STATEMENT"].iter().any(|kind| told(line).starts_with(&format!("{kind}:  ")))
    };
    let lines: Vec<&str> =
        lines.windows(2).filter(|pair| own(pair[0]) && !goes_on(pair[1])).map(|pair| pair[0]).collect();
    assert_eq!(lines.len(), 3, "{logged}");
    for line in lines {
        for field in
            ["operation", "result", "session_user", "role", "client", "application", "pid", "ring", "kms", "detail"]
        {
            assert_eq!(line.matches(&format!("{field}=")).count(), 1, "{field}: {line}");
        }
    }
    let rows: i64 = one(&mut admin, "SELECT count(*) FROM sealvec.audit WHERE ring LIKE 'x\"%' AND result = 'failed'");
    assert_eq!(rows, 1, "and the view has the name as it is");
    cluster.log_is_clean();
}

#[test]
fn nobody_waits_or_fails_because_of_the_audit() {
    let cluster = vault("audit-waits");
    let (mut admin, mut app) = (cluster.client(), cluster.connect_as("app", "e2e"));
    run(&mut app, "SET statement_timeout = '3s'");
    // Two who unlock do not wait for each other, nor for one who reads.
    run(&mut admin, &format!("BEGIN; {}; SELECT * FROM sealvec.audit", unlock("vault", KEY)));
    right(&mut app, "vault");
    run(&mut admin, "COMMIT");
    // A table that is locked is left alone.
    run(&mut admin, "BEGIN; LOCK TABLE sealvec.audit_log IN ACCESS EXCLUSIVE MODE");
    right(&mut app, "vault");
    let told =
        "SELECT count(*) FROM sealvec.audit_memory() WHERE operation = 'unlock' AND role = 'app' AND result = 'ok'";
    assert_eq!(one::<i64>(&mut admin, told), 1);
    run(&mut admin, "COMMIT");
    // So is one whose index is.
    run(&mut admin, "BEGIN; ALTER INDEX sealvec.audit_log_time SET TABLESPACE pg_default");
    right(&mut app, "vault");
    assert_eq!(one::<i64>(&mut admin, told), 2);
    run(&mut admin, "COMMIT");
    // So is one of another shape.
    run(&mut admin, "BEGIN; ALTER TABLE sealvec.audit_log ADD COLUMN more text; COMMIT");
    right(&mut app, "vault");
    assert_eq!(one::<i64>(&mut admin, told), 3);

    // Another database's events are its own.
    let mut postgres = cluster.connect_to("postgres");
    run(&mut postgres, "CREATE EXTENSION sealvec");
    assert_eq!(one::<i64>(&mut postgres, "SELECT count(*) FROM sealvec.audit"), 0);

    // On a standby nothing can be written.
    let standby = Standby::start(&cluster);
    standby.catch_up();
    let mut reader = standby.client();
    right(&mut reader, "vault");
    assert_eq!(error_of(&mut reader, &unlock("vault", WRONG)).code().code(), "28P01");
    let told: Vec<String> = reader
        .query("SELECT operation || ' ' || result FROM sealvec.audit WHERE source = 'memory' ORDER BY time", &[])
        .map(|rows| rows.iter().map(|row| row.get(0)).collect())
        .unwrap_or_else(|error| panic!("{}", said(&error)));
    assert_eq!(told, ["unlock ok", "unlock failed"]);

    cluster.log_is_clean();
}

#[test]
fn a_flood_of_successes_pushes_no_failure_out() {
    let cluster = vault("audit-flood");
    let (mut admin, mut app) = (cluster.client(), cluster.connect_as("app", "e2e"));
    wrong(&mut app, "vault");
    run(
        &mut app,
        &format!("DO $$ BEGIN FOR i IN 1..500 LOOP PERFORM sealvec.unlock('second', {KEY}); END LOOP; END $$"),
    );
    run(&mut app, "BEGIN READ ONLY");
    for _ in 0..200 {
        right(&mut app, "second");
    }
    run(&mut app, "COMMIT");
    let failed: i64 = one(&mut admin, "SELECT count(*) FROM sealvec.audit WHERE result = 'failed' AND role = 'app'");
    assert_eq!(failed, 1);
    let rows: i64 =
        one(&mut admin, "SELECT count(*) FROM sealvec.audit_log WHERE operation = 'unlock' AND role = 'app'");
    assert_eq!(rows, 500);
    // Many at once: nothing is lost of what was written, and the memory stays whole.
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let mut client = cluster.connect_as("other", "e2e");
            std::thread::spawn(move || {
                for _ in 0..50 {
                    right(&mut client, "vault");
                    run(&mut client, "BEGIN READ ONLY");
                    right(&mut client, "second");
                    run(&mut client, "ROLLBACK");
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("no unlock fails"));
    let rows: i64 = one(&mut admin, "SELECT count(*) FROM sealvec.audit_log WHERE role = 'other'");
    assert_eq!(rows, 200);
    let odd: i64 = one(
        &mut admin,
        "SELECT count(*) FROM sealvec.audit_memory() WHERE role NOT IN ('app', 'other', 'postgres') OR operation <> 'unlock'",
    );
    assert_eq!(odd, 0);
    cluster.log_is_clean();
}

#[test]
fn requests_to_a_key_service_are_told_with_their_result_and_time() {
    let moto = Moto::start();
    let proxy = FaultProxy::start(moto.address());
    let kms = json!({"endpoints": [proxy.url()]});
    let agent = KeyAgent::start("audit-kms", &kms, &["--agent-cache-seconds", "0"], &aws_credentials());
    let cluster = Cluster::start("audit-kms", &[&agent.setting(), "autovacuum=off"]);
    let mut admin = cluster.client();
    let options = json!({"key_id": moto.create_key(), "region": REGION, "endpoint": proxy.url()});
    run(&mut admin, &format!("SELECT sealvec.create_kms('aws', 'aws-kms', '{options}')"));
    run(&mut admin, "SELECT sealvec.create_key_ring('vault', provider => 'aws')");
    run(&mut admin, "SELECT sealvec.unlock('vault')");
    run(&mut admin, "SELECT sealvec.rotate_kek('vault')");
    let told = |client: &mut Client, source: &str, pid: i32| -> Vec<String> {
        let sql = format!(
            "SELECT concat_ws(' ', operation, result, sqlstate, ring, kms, detail ~ '^ring [0-9a-f-]{{36}}, \\d+ ms$')
             FROM sealvec.audit WHERE source = '{source}' AND pid = {pid} ORDER BY time"
        );
        let rows = client.query(&sql, &[]).unwrap_or_else(|error| panic!("{}", said(&error)));
        rows.iter().map(|row| row.get(0)).collect()
    };
    let pid_of = |client: &mut Client| -> i32 { one(client, "SELECT pg_backend_pid()") };
    let pid = pid_of(&mut admin);
    let rows = told(&mut admin, "table", pid);
    for wanted in [
        "create_kms ok aws",
        "kms_generate ok aws t",
        "create_ring ok vault",
        "kms_unwrap ok aws t",
        "unlock ok vault",
        "kms_rewrap ok aws t",
        "rotate_kek ok vault f",
    ] {
        assert!(rows.iter().any(|row| row.starts_with(wanted)), "{wanted}: {rows:?}");
    }
    assert_eq!(told(&mut admin, "memory", pid), [""; 0]);

    // A statement that opens the ring writes nothing.
    run(&mut admin, "CREATE TABLE docs (v sealvec(2, vault)); INSERT INTO docs VALUES ('[1,2]')");
    let mut reader = cluster.client();
    let wrote: bool = one(
        &mut reader,
        "SELECT count(sealvec.open(v)) = 1 AND pg_current_xact_id_if_assigned() IS NOT NULL FROM docs",
    );
    assert!(!wrote);
    let pid = pid_of(&mut reader);
    assert_eq!(told(&mut admin, "memory", pid), ["kms_unwrap ok aws t", "open ok vault f"]);
    // The service fails, and so does what needed it.
    proxy.set(Some(Fault::Aws("DisabledException")));
    let mut later = cluster.client();
    error_of(&mut later, "SELECT sealvec.unlock('vault')");
    let pid = pid_of(&mut later);
    let memory = told(&mut admin, "memory", pid);
    for wanted in ["kms_unwrap failed 58000 aws t", "unlock failed 58000 vault f"] {
        assert!(memory.iter().any(|row| row == wanted), "{wanted}: {memory:?}");
    }
    cluster.log_is_clean();
}

/// The server's logger, stopped: whoever writes a line waits as soon as the pipe to it is full.
struct StoppedLogger(String);

impl StoppedLogger {
    fn of(cluster: &Cluster) -> Self {
        let postmaster = cluster.path("pid").display().to_string();
        let children = fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children")).expect("a process");
        let is_logger =
            |pid: &&str| fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("logger"));
        let pid = children.split_whitespace().find(is_logger).expect("a logger").to_owned();
        must(Command::new("kill").args(["-STOP", &pid]));
        Self(pid)
    }
}

impl Drop for StoppedLogger {
    fn drop(&mut self) {
        must(Command::new("kill").args(["-CONT", &self.0]));
    }
}

#[test]
fn a_cancel_that_comes_while_an_event_is_written_breaks_nothing() {
    let cluster = Cluster::start("audit-cancel", &["autovacuum=off", "logging_collector=on"]);
    let (mut reader, mut other) = (cluster.client(), cluster.client());
    run(&mut reader, "SELECT sealvec.create_key_ring('notes'); CREATE TABLE docs (id bigint, v sealvec(2, notes))");
    run(
        &mut reader,
        "INSERT INTO docs SELECT i, ARRAY[i, 1]::real[]::sealvec FROM generate_series(1, 100) i;
         CREATE INDEX ON docs USING sealed_ivf (v); SELECT sealvec.lock_all()",
    );
    run(&mut reader, "DISCARD ALL");
    run(&mut reader, "SET sealvec.audit_openings = on; SET enable_seqscan = off");
    let nearest = "SELECT id FROM docs ORDER BY v <-> '[7,1]' LIMIT 1";

    // The line that the scan writes as it opens the ring waits for the logger, and the cancel comes meanwhile.
    let logger = StoppedLogger::of(&cluster);
    let filling = std::thread::spawn(move || {
        run(&mut other, "DO $$ BEGIN FOR i IN 1..5000 LOOP RAISE LOG 'x'; END LOOP; END $$");
    });
    std::thread::sleep(Duration::from_millis(1_000));
    assert!(!filling.is_finished(), "the pipe is full");
    let token = reader.cancel_token();
    let reading = std::thread::spawn(move || {
        let answer = reader.query_one(nearest, &[]).map(drop);
        (reader, answer)
    });
    std::thread::sleep(Duration::from_millis(1_000));
    assert!(!reading.is_finished(), "the line is not written yet");
    token.cancel_query(NoTls).expect("the server takes the request");
    std::thread::sleep(Duration::from_millis(300));
    drop(logger);
    filling.join().expect("it ends");
    let (mut reader, answer) = reading.join().expect("it ends");
    if let Err(error) = answer {
        assert!(said(&error).starts_with("57014"), "{}", said(&error));
    }

    // Nothing is held by a statement that is gone: the index serves, and what it has derived goes with the ring.
    assert_eq!(one::<i64>(&mut reader, nearest), 7);
    run(&mut reader, "SELECT sealvec.unlock('notes'); SELECT sealvec.lock('notes')");
    assert_eq!(error_of(&mut reader, nearest).code().code(), "55000");
    cluster.log_is_clean();
}

#[test]
fn without_shared_memory_to_spare_keys_serve_and_the_log_tells() {
    let free = |client: &mut Client| -> i64 {
        one(client, "SELECT allocated_size::bigint FROM pg_shmem_allocations WHERE name IS NULL")
    };
    let pages = "SELECT count(*) FROM pg_shmem_allocations WHERE name LIKE 'sealvec %'";
    let few = ["autovacuum=off", "max_locks_per_transaction=10", "max_connections=12"];
    let mut cluster = Cluster::start("audit-full", &few);
    cluster.stop();
    cluster.start_again(); // an audited call has made its root key, and CREATE EXTENSION takes many locks
    let mut admin = cluster.client();
    assert_eq!(one::<i64>(&mut admin, pages), 0);
    let to_spare = free(&mut admin);
    // The lock table takes it all, and gives nothing back.
    error_of(&mut admin, "SELECT pg_advisory_lock(i) FROM generate_series(1, 1000000) i");
    run(&mut admin, "SELECT pg_advisory_unlock_all()");
    assert!(free(&mut admin) < 30_000, "{}", free(&mut admin));
    for _ in 0..2 {
        let mut client = cluster.client();
        run(&mut client, "SET statement_timeout = '5s'");
        run(&mut client, &format!("SELECT sealvec.create_key_ring('ring ' || pg_backend_pid(), kek => {KEY})"));
        failure(&mut client, &format!("SELECT sealvec.unlock('ring ' || pg_backend_pid(), {WRONG})"), "28P01");
        run(&mut client, &format!("SELECT sealvec.unlock('ring ' || pg_backend_pid(), {KEY})"));
    }
    let log = cluster.log();
    assert_eq!(log.matches("WARNING:  no shared memory is left for the audit of key rings").count(), 2);
    assert_eq!(log.matches("sealvec audit: operation=\"unlock\" result=\"failed\"").count(), 2);
    assert_eq!(one::<i64>(&mut admin, "SELECT count(*) FROM sealvec.audit WHERE operation = 'unlock'"), 2);
    cluster.log_is_clean();
    drop(cluster);

    // Where the server loads the library as it starts, it has its own.
    let mut settings = few.to_vec();
    settings.push("shared_preload_libraries=sealvec");
    let mut cluster = Cluster::start("audit-preload", &settings);
    cluster.stop();
    cluster.start_again();
    let mut admin = cluster.client();
    assert_eq!(one::<i64>(&mut admin, pages), 2);
    assert!(free(&mut admin) > to_spare - 4_096, "{} of {to_spare}", free(&mut admin));
    run(&mut admin, &format!("SELECT sealvec.create_key_ring('vault', kek => {KEY})"));
    wrong(&mut admin, "vault");
    assert_eq!(one::<i64>(&mut admin, "SELECT count(*) FROM sealvec.audit_memory()"), 1);
    cluster.log_is_clean();

    // After a crash it begins anew, in other memory.
    let pid: i32 = one(&mut admin, "SELECT pg_backend_pid()");
    must(Command::new("kill").args(["-9", &pid.to_string()]));
    eventually("the server has noticed", 30, || cluster.log().contains("reinitializing").then_some(()));
    let mut admin = eventually("the server takes sessions again", 30, || cluster.config("e2e").connect(NoTls).ok());
    assert_eq!(one::<i64>(&mut admin, pages), 2);
    assert_eq!(one::<i64>(&mut admin, "SELECT count(*) FROM sealvec.audit_memory()"), 0);
    run(&mut admin, "SELECT * FROM sealvec.transport_key()");
    wrong(&mut admin, "vault");
    assert_eq!(one::<i64>(&mut admin, "SELECT count(*) FROM sealvec.audit_memory()"), 1);
}

#[test]
fn what_a_prepared_transaction_did_is_not_forgotten_with_it() {
    let cluster = Cluster::start("audit-prepare", &["autovacuum=off", "max_prepared_transactions=2"]);
    let mut admin = cluster.client();
    run(&mut admin, &format!("SELECT sealvec.create_key_ring('vault', kek => {KEY})"));
    for end in ["ROLLBACK", "COMMIT"] {
        run(&mut admin, &format!("BEGIN; SET LOCAL application_name = '{end}'"));
        run(&mut admin, &unlock("vault", KEY));
        run(&mut admin, "PREPARE TRANSACTION 'one'");
        run(&mut cluster.client(), &format!("{end} PREPARED 'one'"));
    }
    let told = "SELECT string_agg(concat_ws(' ', application_name, result, source), ', ' ORDER BY time, source)
        FROM sealvec.audit WHERE operation = 'unlock'";
    assert_eq!(one::<String>(&mut admin, told), "ROLLBACK prepared memory, COMMIT prepared memory, COMMIT ok table");
    cluster.log_is_clean();
}

#[test]
fn nobody_pushes_a_wrong_key_of_another_or_a_denied_right_out() {
    let cluster = vault("audit-places");
    let mut admin = cluster.client();
    run(&mut admin, "ALTER ROLE other SET sealvec.failed_unlock_delay_max = 0");
    let (mut app, mut other) = (cluster.connect_as("app", "e2e"), cluster.connect_as("other", "e2e"));
    wrong(&mut app, "vault");
    failure(&mut app, "SELECT sealvec.rekey('vault')", "42501");
    run(&mut app, "BEGIN READ ONLY");
    right(&mut app, "vault");
    run(&mut app, "ROLLBACK");
    // Of each kind more than there are places: names that are none, wrong keys, denied rights, and what was done.
    let each = |what: &str| {
        format!(
            "DO $$ BEGIN FOR i IN 1..60 LOOP BEGIN PERFORM {what}; EXCEPTION WHEN others THEN NULL; END; END LOOP; END $$"
        )
    };
    let flood = |client: &mut Client| {
        run(client, &each("sealvec.unlock('none' || i)"));
        run(client, &each("sealvec.rekey('second')"));
        run(client, "BEGIN READ ONLY");
        run(client, &each(&format!("sealvec.unlock('second', {KEY})")));
        run(client, "ROLLBACK");
    };
    flood(&mut other);
    run(&mut other, &each(&format!("sealvec.unlock('second', {WRONG})")));
    let mut told = |role: &str| -> Vec<String> {
        let sql = format!(
            "SELECT concat_ws(' ', result, sqlstate, count(*)) FROM sealvec.audit_memory() WHERE role = '{role}' GROUP BY result, sqlstate ORDER BY 1"
        );
        let rows = admin.query(&sql, &[]).unwrap_or_else(|error| panic!("{}", said(&error)));
        rows.iter().map(|row| row.get(0)).collect()
    };
    assert_eq!(told("app"), ["failed 28P01 1", "failed 42501 1", "ok 1"]);
    assert_eq!(told("other"), ["failed 28P01 23", "failed 42501 11", "failed 42704 16", "ok 15"]);
    // Nor does one push his own wrong keys out by what costs nothing.
    flood(&mut app);
    assert!(told("app").contains(&"failed 28P01 1".to_owned()), "{:?}", told("app"));
    cluster.log_is_clean();
}
