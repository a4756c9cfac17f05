//! Who can open what: wrong keys, locked rings, roles without a grant, pooled connections, other sessions.

use std::thread;
use std::time::Duration;

use postgres::Client;
use sealvec_e2e::answers::{both_ways, nearest, try_nearest};
use sealvec_e2e::{Cluster, Matrix, data, error_of, one, run, said};

const KEK: &str = "decode(repeat('a7', 32), 'hex')";
const DIMS: usize = 32;
/// What a locked ring and a missing grant say.
const LOCKED: &str = "55000";
const DENIED: &str = "42501";

fn set_up(name: &str) -> (Cluster, Matrix) {
    let cluster = Cluster::start(name, &["autovacuum=off"]);
    let mut client = cluster.client();
    run(&mut client, "CREATE ROLE owner LOGIN; CREATE ROLE app LOGIN; CREATE ROLE stranger LOGIN");
    run(&mut client, "GRANT CREATE ON SCHEMA public TO owner, stranger, app");
    run(&mut client, "DO $$ BEGIN PERFORM sealvec.create_key_ring('notes'); END $$");
    run(&mut client, &format!("DO $$ BEGIN PERFORM sealvec.create_key_ring('vault', kek => {KEK}); END $$"));
    run(&mut client, "SELECT sealvec.set_ring_owner('notes', 'owner'), sealvec.set_ring_owner('vault', 'owner')");
    run(&mut client, "SELECT sealvec.grant_ring('notes', 'app')");
    let mut owner = cluster.connect_as("owner", "e2e");
    let vectors = data::vectors().cut(2_500, DIMS);
    run(&mut owner, &format!("SELECT sealvec.unlock('vault', {KEK})"));
    for (table, ring) in [("docs", "notes"), ("secrets", "vault")] {
        data::table(&mut owner, table, ring, &vectors);
        run(
            &mut owner,
            &format!(
                "CREATE INDEX {table}_idx ON {table} USING sealed_ivf (embedding);
                 GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO app, stranger"
            ),
        );
    }
    (cluster, vectors)
}

/// The SQLSTATE with which a search by index fails.
fn refused(client: &mut Client, table: &str, vectors: &Matrix) -> String {
    run(client, "SET enable_seqscan = off");
    match try_nearest(client, table, "<->", vectors.row(0), 3) {
        Ok(rows) => panic!("expected a refusal, got {rows:?}"),
        Err(error) => {
            let text = said(&error);
            for value in vectors.row(0) {
                assert!(!text.contains(&value.to_string()), "no element in an error: {text}");
            }
            text[..5].to_owned()
        }
    }
}

fn finds(client: &mut Client, table: &str, vectors: &Matrix) {
    run(client, "SET enable_seqscan = off");
    let rows = nearest(client, table, "<->", vectors.row(9), 3);
    assert!(rows[0].distance < 1e-5, "{rows:?}");
}

#[test]
fn a_wrong_key_opens_nothing_and_says_only_that() {
    let (cluster, vectors) = set_up("wrong-key");
    let mut client = cluster.connect_as("owner", "e2e");
    let mut texts = Vec::new();
    for wrong in [
        "decode(repeat('a6', 32), 'hex')",
        "decode(repeat('00', 32), 'hex')",
        "decode('a6' || repeat('a7', 31), 'hex')",
    ] {
        let error = error_of(&mut client, &format!("SELECT sealvec.unlock('vault', {wrong})"));
        texts.push((error.code().clone(), error.message().to_owned(), error.detail().map(str::to_owned)));
        assert_eq!(refused(&mut client, "secrets", &vectors), LOCKED);
    }
    texts.dedup();
    assert_eq!(texts.len(), 1, "the same words whatever is wrong: {texts:?}");
    for wrong in ["''::bytea", "decode(repeat('a7', 31), 'hex')", "decode(repeat('a7', 33), 'hex')"] {
        let error = error_of(&mut client, &format!("SELECT sealvec.unlock('vault', {wrong})"));
        assert!(!error.message().contains("a7a7"), "{error:?}");
    }
    run(&mut client, &format!("SELECT sealvec.unlock('vault', {KEK})"));
    finds(&mut client, "secrets", &vectors);
    // A wrong key on an open ring does not close it in half.
    error_of(&mut client, "SELECT sealvec.unlock('vault', decode(repeat('a6', 32), 'hex'))");
    let state: String = one(&mut client, "SELECT state FROM sealvec.key_rings WHERE name = 'vault'");
    match &*state {
        "open" => finds(&mut client, "secrets", &vectors),
        _ => assert_eq!(refused(&mut client, "secrets", &vectors), LOCKED),
    }
    cluster.log_is_clean();
}

#[test]
fn a_role_without_a_grant_opens_nothing() {
    let (cluster, vectors) = set_up("no-grant");
    let mut stranger = cluster.connect_as("stranger", "e2e");
    assert_eq!(refused(&mut stranger, "docs", &vectors), DENIED);
    assert_eq!(error_of(&mut stranger, "SELECT sealvec.open(embedding) FROM docs").code().code(), DENIED);
    // Nor by pasting what a dump or a SELECT shows, in a table and an index of its own.
    let sealed: String = one(&mut stranger, "SELECT embedding::text FROM docs WHERE id = 1");
    assert_eq!(error_of(&mut stranger, &format!("SELECT sealvec.open('{sealed}'::sealvec)")).code().code(), DENIED);
    assert_eq!(
        error_of(&mut stranger, &format!("SELECT '{sealed}'::sealvec <-> '{sealed}'::sealvec")).code().code(),
        DENIED
    );
    run(&mut stranger, &format!("CREATE TABLE mine (id int, embedding sealvec({DIMS}, notes))"));
    run(
        &mut stranger,
        &format!("INSERT INTO mine SELECT id, embedding FROM docs; INSERT INTO mine VALUES (-1, '{sealed}')"),
    );
    run(&mut stranger, "CREATE INDEX mine_idx ON mine USING sealed_ivf (embedding)");
    assert_eq!(refused(&mut stranger, "mine", &vectors), DENIED);
    for function in ["merge", "train", "verify_index"] {
        assert_eq!(
            error_of(&mut stranger, &format!("SELECT sealvec.{function}('mine_idx')")).code().code(),
            DENIED,
            "{function}"
        );
        assert_eq!(
            error_of(&mut stranger, &format!("SELECT sealvec.{function}('docs_idx')")).code().code(),
            DENIED,
            "{function}"
        );
    }
    // Rows that it put in are as good as others for those who may.
    run(&mut stranger, "INSERT INTO docs SELECT id + 10000, embedding FROM docs WHERE id < 300");
    let mut owner = cluster.connect_as("owner", "e2e");
    both_ways(&mut owner, "docs", "<->", &data::queries().cut(5, DIMS), 30);
    assert_eq!(one::<i64>(&mut owner, "SELECT sealvec.verify_index('docs_idx')"), 2_800);

    // A function of the owner lets through what it does, and nothing afterwards.
    run(
        &mut owner,
        "CREATE FUNCTION nearest_id(real[]) RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_catalog
             AS $$ SELECT id FROM docs ORDER BY embedding <-> $1 LIMIT 1 $$",
    );
    run(&mut stranger, "SET enable_seqscan = off");
    let id: i32 =
        stranger.query_one("SELECT nearest_id($1)", &[&vectors.row(42)]).expect("the owner's function").get(0);
    assert_eq!(id % 10_000, 42);
    assert_eq!(
        refused(&mut stranger, "docs", &vectors),
        DENIED,
        "the directory that the function opened is not for others"
    );
    assert_eq!(error_of(&mut stranger, &format!("SELECT sealvec.open('{sealed}'::sealvec)")).code().code(), DENIED);

    // Grant and revoke reach sessions that are open.
    run(&mut owner, "SELECT sealvec.grant_ring('notes', 'stranger')");
    finds(&mut stranger, "docs", &vectors);
    run(&mut owner, "SELECT sealvec.revoke_ring('notes', 'stranger')");
    assert_eq!(refused(&mut stranger, "docs", &vectors), DENIED);
    cluster.log_is_clean();
}

#[test]
fn a_pooled_connection_hands_no_key_on() {
    let (cluster, vectors) = set_up("pooled");
    let unlock = format!("SELECT sealvec.unlock('vault', {KEK})");
    let mut app = cluster.connect_as("app", "e2e");
    for statement in ["DISCARD ALL", "RESET ALL", "SELECT sealvec.lock('vault')", "SELECT sealvec.lock_all()"] {
        run(&mut app, &unlock);
        finds(&mut app, "secrets", &vectors);
        run(&mut app, statement);
        assert_eq!(refused(&mut app, "secrets", &vectors), LOCKED, "{statement}");
        // The open directory does not serve a plan that was made before either.
        run(&mut app, &unlock);
        let search =
            app.prepare("SELECT id FROM secrets ORDER BY embedding <-> $1::real[]::sealvec LIMIT 1").expect("prepared");
        app.query(&search, &[&vectors.row(3)]).expect("unlocked");
        if statement != "DISCARD ALL" {
            run(&mut app, statement);
            app.query(&search, &[&vectors.row(3)]).expect_err("locked again");
        }
    }
    // A cursor that is open while the ring is locked gives no further row.
    run(&mut app, &unlock);
    let mut transaction = app.transaction().expect("begins");
    transaction
        .batch_execute(
            "DECLARE near CURSOR FOR SELECT id FROM secrets ORDER BY embedding <-> (SELECT embedding FROM secrets WHERE id = 1);
             FETCH 5 FROM near; SELECT sealvec.lock('vault')",
        )
        .expect("a cursor");
    let error = transaction.batch_execute("FETCH 100 FROM near").expect_err("locked");
    assert!(said(&error).starts_with(LOCKED), "{}", said(&error));
    drop(transaction);

    // Another role on the same connection.
    let mut admin = cluster.client();
    run(&mut admin, "SET SESSION AUTHORIZATION app");
    run(&mut admin, &unlock);
    finds(&mut admin, "secrets", &vectors);
    for (change, back) in [
        ("SET SESSION AUTHORIZATION stranger", "SET SESSION AUTHORIZATION app"),
        ("RESET SESSION AUTHORIZATION; SET ROLE stranger", "RESET ROLE; SET SESSION AUTHORIZATION app"),
    ] {
        run(&mut admin, change);
        let state = refused(&mut admin, "secrets", &vectors);
        assert!([LOCKED, DENIED].contains(&&*state), "{change}: {state}");
        run(&mut admin, back);
        run(&mut admin, &unlock);
    }
    cluster.log_is_clean();
}

#[test]
fn locking_everywhere_reaches_every_session() {
    let (cluster, vectors) = set_up("everywhere");
    let unlock = format!("SELECT sealvec.unlock('vault', {KEK})");
    let mut sessions: Vec<Client> = (0..3).map(|_| cluster.connect_as("app", "e2e")).collect();
    for session in &mut sessions {
        run(session, &unlock);
        finds(session, "secrets", &vectors);
    }
    // In one session: its own affair.
    run(&mut sessions[0], "SELECT sealvec.lock('vault')");
    assert_eq!(refused(&mut sessions[0], "secrets", &vectors), LOCKED);
    finds(&mut sessions[1], "secrets", &vectors);
    // Everywhere: by the owner, also for a session that is in the middle of a long statement.
    let mut busy = cluster.connect_as("app", "e2e");
    run(&mut busy, &unlock);
    let long = thread::spawn(move || {
        busy.batch_execute(
            "SELECT count(*) FROM (SELECT id FROM secrets ORDER BY embedding <-> (SELECT embedding FROM secrets WHERE id = 5)) x, pg_sleep(0.7)",
        )
        .map(|()| busy)
    });
    thread::sleep(Duration::from_millis(200));
    let mut owner = cluster.connect_as("owner", "e2e");
    run(&mut owner, "SELECT sealvec.lock('vault', everywhere => true)");
    for session in &mut sessions {
        assert_eq!(refused(session, "secrets", &vectors), LOCKED);
    }
    if let Ok(mut busy) = long.join().expect("no panic") {
        assert_eq!(refused(&mut busy, "secrets", &vectors), LOCKED, "locked at its next statement at the latest");
    }
    // The app cannot lock for others.
    assert_eq!(error_of(&mut sessions[0], "SELECT sealvec.lock('vault', everywhere => true)").code().code(), DENIED);
    // Time is up.
    run(&mut sessions[1], "SET sealvec.key_ttl = '1s'");
    run(&mut sessions[1], &unlock);
    finds(&mut sessions[1], "secrets", &vectors);
    thread::sleep(Duration::from_millis(1_300));
    assert_eq!(refused(&mut sessions[1], "secrets", &vectors), LOCKED);
    cluster.log_is_clean();
}

#[test]
fn a_root_key_that_is_gone_or_open_to_others_opens_nothing() {
    let (cluster, vectors) = set_up("root-key");
    let key = cluster.path("root_key").to_owned();
    let away = key.with_extension("away");
    std::fs::rename(&key, &away).expect("renamed");
    let mut owner = cluster.connect_as("owner", "e2e");
    refused(&mut owner, "docs", &vectors);
    std::fs::rename(&away, &key).expect("renamed");
    finds(&mut cluster.connect_as("owner", "e2e"), "docs", &vectors);
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("changed");
    let mut owner = cluster.connect_as("owner", "e2e");
    refused(&mut owner, "docs", &vectors);
    let digits = std::fs::read_to_string(&key).expect("read by its owner or root");
    let digits = digits.lines().find_map(|line| line.strip_prefix("key ")).expect("a key line");
    assert!(!cluster.log().contains(&digits[..16]), "no key in the log");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("changed");
    finds(&mut cluster.connect_as("owner", "e2e"), "docs", &vectors);
    cluster.log_is_clean();
}
