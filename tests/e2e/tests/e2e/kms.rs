//! Key rings on a real key service, moto's KMS, through a real key agent: in use, restarted, slow, away, forged.

use std::time::{Duration, Instant};

use postgres::{Client, NoTls};
use sealvec_e2e::cluster::is_root;
use sealvec_e2e::kms::moto::REGION;
use sealvec_e2e::kms::{AWS_SECRET, Fault, FaultProxy, KeyAgent, Moto, Vault, aws_credentials};
use sealvec_e2e::{Cluster, Sidecar, data, error_of, eventually, nearest, one, run};
use serde_json::json;

/// moto, a proxy in front of it, an agent and a cluster that knows the agent; slot `aws` on a key of moto's.
struct Setting {
    moto: Moto,
    proxy: FaultProxy,
    agent: KeyAgent,
    cluster: Cluster,
}

impl Setting {
    fn new(name: &str) -> Self {
        let moto = Moto::start();
        let proxy = FaultProxy::start(moto.address());
        let kms = json!({"endpoints": [proxy.url()]});
        let agent = KeyAgent::start(name, &kms, &["--agent-cache-seconds", "0"], &aws_credentials());
        let cluster = Cluster::start(name, &[&agent.setting(), "autovacuum=off"]);
        let setting = Self { moto, proxy, agent, cluster };
        setting.create_slot("aws");
        setting
    }

    fn create_slot(&self, name: &str) {
        let options = json!({"key_id": self.moto.create_key(), "region": REGION, "endpoint": self.proxy.url()});
        run(
            &mut self.cluster.client(),
            &format!("DO $$ BEGIN PERFORM sealvec.create_kms('{name}', 'aws-kms', '{options}'); END $$"),
        );
    }

    /// Table `docs` of ring `vault` on slot `aws`, with an index, in a session that then ends.
    fn fill(&self, rows: usize) {
        let mut client = self.cluster.client();
        run(&mut client, "DO $$ BEGIN PERFORM sealvec.create_key_ring('vault', provider => 'aws'); END $$");
        data::table(&mut client, "docs", "vault", &data::vectors().cut(rows, 64));
        run(&mut client, "CREATE INDEX docs_l2 ON docs USING sealed_ivf (embedding)");
    }

    fn asked(&self) -> usize {
        self.proxy.take_seen().len()
    }
}

const OPEN: &str = "SELECT sealvec.unlock('vault')";

/// A search by the index, which needs the ring.
fn search(client: &mut Client) -> Result<i64, postgres::Error> {
    client.batch_execute("SET enable_seqscan = off")?;
    const SQL: &str =
        "SELECT count(*) FROM (SELECT id FROM docs ORDER BY embedding <-> $1::real[]::sealvec LIMIT 10) nearest";
    Ok(client.query_one(SQL, &[&data::queries().cut(1, 64).row(0)])?.get(0))
}

fn state(client: &mut Client) -> String {
    one(client, "SELECT state FROM sealvec.key_rings WHERE name = 'vault'")
}

/// The key service takes its time, in which the grant is taken back: nobody is told of that twice.
#[test]
fn a_grant_that_goes_while_the_key_service_is_asked_opens_nothing() {
    let setting = Setting::new("kms-revoked");
    setting.fill(100);
    let mut admin = setting.cluster.client();
    run(&mut admin, "CREATE ROLE app LOGIN; GRANT SELECT ON docs TO app; SELECT sealvec.grant_ring('vault', 'app')");
    let read = "SELECT count(sealvec.open(embedding)) FROM docs";
    let mut app = setting.cluster.connect_as("app", "e2e");
    assert_eq!(one::<i64>(&mut app, read), 100, "it opens by itself");
    for (statement, code) in [
        ("SELECT sealvec.lock('vault', everywhere => true)", "55000"),
        ("SELECT sealvec.revoke_ring('vault', 'app')", "42501"),
    ] {
        let mut app = setting.cluster.connect_as("app", "e2e");
        setting.asked();
        setting.proxy.set(Some(Fault::Slow(Duration::from_millis(1_500))));
        let reads = std::thread::spawn(move || error_of(&mut app, read));
        eventually("the service is asked", 10, || (setting.asked() > 0).then_some(()));
        run(&mut admin, statement);
        let error = reads.join().expect("it ended");
        setting.proxy.set(None);
        assert_eq!(error.code().code(), code, "{statement}: {error:?}");
    }
}

#[test]
fn a_ring_on_a_key_service_lives_as_any_other() {
    let mut setting = Setting::new("kms-life");
    setting.fill(1_000);
    let mut client = setting.cluster.client();
    setting.asked();
    assert_eq!(state(&mut client), "locked", "nobody waits for a view");
    assert_eq!(setting.asked(), 0);
    for _ in 0..3 {
        assert_eq!(search(&mut client).unwrap(), 10);
    }
    assert_eq!(setting.asked(), 1, "opened once in a session");
    assert_eq!(state(&mut client), "open");
    // What others do to other rings does not take it away; what is done to this one does.
    run(&mut setting.cluster.client(), "DO $$ BEGIN PERFORM sealvec.create_key_ring('other'); END $$");
    assert_eq!(search(&mut client).unwrap(), 10);
    assert_eq!(setting.asked(), 0);
    run(&mut setting.cluster.client(), "SELECT sealvec.lock('vault', everywhere => true)");
    assert_eq!(search(&mut client).unwrap(), 10);
    assert_eq!(setting.asked(), 1);

    // Server and agent start again, in any order.
    setting.cluster.stop();
    setting.agent.kill();
    setting.agent.start_again();
    setting.cluster.start_again();
    let mut client = setting.cluster.client();
    assert_eq!(search(&mut client).unwrap(), 10);
    setting.agent.kill();
    assert_eq!(search(&mut client).unwrap(), 10, "what is open stays open without an agent");
    let said = error_of(&mut setting.cluster.client(), OPEN);
    assert_eq!(said.code().code(), "58030", "{said:?}");
    setting.agent.start_again();
    run(&mut setting.cluster.client(), OPEN);

    // To another key, to the server's own, and back: data stays where it is.
    setting.create_slot("second");
    let error = error_of(&mut client, "SELECT sealvec.drop_kms('aws')");
    assert_eq!(error.code().code(), "2BP01", "{error:?}");
    for kms in ["second", "local", "aws", "second"] {
        run(&mut client, &format!("SELECT sealvec.rotate_kek('vault', kms => '{kms}')"));
        assert_eq!(one::<String>(&mut client, "SELECT kms FROM sealvec.key_rings WHERE name = 'vault'"), kms);
        assert_eq!(search(&mut setting.cluster.client()).unwrap(), 10, "{kms}");
    }
    run(&mut client, "SELECT sealvec.drop_kms('aws')");

    // As bytes to another database, whose slot has another name.
    let exported: Vec<u8> = one(&mut client, "SELECT sealvec.export_ring('vault')");
    run(&mut setting.cluster.connect_to("postgres"), "CREATE DATABASE other");
    let mut other = setting.cluster.connect_to("other");
    run(&mut other, "CREATE EXTENSION sealvec");
    let error = other.query_one("SELECT sealvec.import_ring($1)", &[&exported]).unwrap_err();
    assert_eq!(error.code().unwrap().code(), "22023", "no slot of its provider");
    let options: serde_json::Value = serde_json::from_str(&one::<String>(
        &mut client,
        "SELECT options::text FROM sealvec.kms_slots WHERE name = 'second'",
    ))
    .unwrap();
    run(&mut other, &format!("DO $$ BEGIN PERFORM sealvec.create_kms('there', 'aws-kms', '{options}'); END $$"));
    other.execute("SELECT sealvec.import_ring($1)", &[&exported]).unwrap();
    run(&mut other, OPEN);
    for log in [setting.agent.log(), setting.cluster.log()] {
        assert!(!log.contains(AWS_SECRET));
    }
    setting.cluster.log_is_clean();
}

#[test]
fn a_key_service_that_is_slow_or_away_costs_a_clear_error_and_nothing_else() {
    let mut setting = Setting::new("kms-away");
    setting.fill(1_000);

    // Each way to fail says what it is, at once.
    for (fault, code, words) in [
        (Fault::Aws("DisabledException"), "58000", "refuses the key"),
        (Fault::Aws("InvalidCiphertextException"), "28P01", "does not open key ring"),
        (Fault::Aws("NotFoundException"), "F0000", "is not set up"),
    ] {
        setting.proxy.set(Some(fault.clone()));
        let begun = Instant::now();
        let error = error_of(&mut setting.cluster.client(), OPEN);
        assert!(error.code().code() == code && error.message().contains(words), "{fault:?}: {error:?}");
        assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    }

    // One that says nothing: as long as the setting, the statement's own time, or until somebody cancels.
    setting.proxy.set(Some(Fault::Hang));
    let timed = |settings: &str| {
        let mut client = setting.cluster.client();
        run(&mut client, settings);
        let begun = Instant::now();
        (error_of(&mut client, OPEN), begun.elapsed())
    };
    let (error, time) = timed("SET sealvec.kms_timeout = '700ms'");
    assert!(error.code().code() == "58030" && error.message().contains("is unavailable"), "{error:?}");
    assert!(time < Duration::from_millis(1_700), "{time:?}");
    let (error, time) = timed("SET statement_timeout = 200");
    assert_eq!(error.code().code(), "57014", "{error:?}");
    assert!(time < Duration::from_millis(1_200), "{time:?}");
    let mut client = setting.cluster.client();
    let token = client.cancel_token();
    let canceller = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        token.cancel_query(NoTls).expect("the server takes the request");
        Instant::now()
    });
    let error = search(&mut client).expect_err("nobody answers");
    let time = canceller.join().unwrap().elapsed();
    assert_eq!(error.code().unwrap().code(), "57014", "{error:?}");
    assert!(time < Duration::from_secs(1), "{time:?}");

    // VACUUM goes on and leaves the merge; writers of sealed values and readers of other columns do not notice.
    run(&mut client, "SET sealvec.kms_timeout = '500ms'; DELETE FROM docs WHERE id < 300");
    run(&mut client, "INSERT INTO docs SELECT id + 100000, embedding FROM docs");
    let begun = Instant::now();
    run(&mut client, "VACUUM docs");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM docs"), 1_400);
    let tail = |client: &mut Client| one::<i64>(client, "SELECT rows_in_tail FROM sealvec.index_stats('docs_l2')");
    assert!(tail(&mut client) >= 700, "without its key nothing was merged: {}", tail(&mut client));

    // Away altogether: no socket, no setting.
    setting.agent.kill();
    let begun = Instant::now();
    let error = error_of(&mut setting.cluster.client(), OPEN);
    assert!(error.code().code() == "58030" && error.detail().is_some_and(|d| d.contains("agent.sock")), "{error:?}");
    run(&mut client, "VACUUM docs");
    assert!(begun.elapsed() < Duration::from_secs(2), "nobody waits for nobody: {:?}", begun.elapsed());

    // And back: nothing is lost, and VACUUM asks for the key by itself.
    setting.proxy.set(None);
    setting.agent.start_again();
    let mut fresh = setting.cluster.client();
    run(&mut fresh, "VACUUM docs");
    assert!(tail(&mut fresh) < 700, "VACUUM merged: {}", tail(&mut fresh));
    assert_eq!(search(&mut fresh).unwrap(), 10);
    assert_eq!(one::<i64>(&mut fresh, "SELECT sealvec.verify_index('docs_l2')"), 1_400);
    assert_eq!(nearest(&mut fresh, "docs", "<->", data::queries().cut(1, 64).row(0), 5).len(), 5);
    setting.cluster.log_is_clean();
}

#[test]
fn only_a_trusted_user_is_asked_for_keys() {
    if !is_root() {
        eprintln!("skipped: only root starts an agent as another user");
        return;
    }
    let mut setting = Setting::new("kms-peer");
    setting.fill(100);
    setting.agent.kill();
    setting.agent.run_as(Some("nobody"));
    setting.agent.start_again();
    setting.asked();
    let mut client = setting.cluster.client();
    let error = error_of(&mut client, OPEN);
    assert!(error.code().code() == "58000" && error.message().contains("not trusted with keys"), "{error:?}");
    assert_eq!(setting.asked(), 0, "nothing was said to it");
    let settle = |client: &mut Client, user: &str| {
        run(client, &format!("ALTER SYSTEM SET sealvec.agent_user = '{user}'"));
        run(client, "SELECT pg_reload_conf()");
        sealvec_e2e::eventually("the setting arrives", 10, || {
            (one::<String>(client, "SHOW sealvec.agent_user") == user).then_some(())
        });
    };
    settle(&mut client, "no such user");
    assert_eq!(error_of(&mut client, OPEN).code().code(), "F0000");
    settle(&mut client, "nobody");
    run(&mut client, OPEN);
    // And an agent that does not serve this server says so.
    setting.agent.kill();
    setting.agent.run_as(None);
    setting.agent.serve(Some("nobody"));
    setting.agent.start_again();
    let error = error_of(&mut setting.cluster.client(), OPEN);
    assert!(
        error.code().code() == "58000" && error.detail().is_some_and(|d| d.contains("does not serve")),
        "{error:?}"
    );
    setting.cluster.log_is_clean();
}

#[test]
fn rest_indexes_live_on_a_key_service() {
    let mut setting = Setting::new("kms-rest");
    let sidecar = Sidecar::start(&setting.cluster, "kms-rest", &[]);
    let mut http = sidecar.http();
    let items: Vec<_> = (0..50).map(|id| json!({"id": id.to_string(), "vector": [id, 1, 2, 3]})).collect();
    http.must("/v1/indexes/create", &json!({"index_name": "docs", "dimension": 4, "kms_name": "aws"}));
    http.must("/v1/vectors/upsert", &json!({"index_name": "docs", "items": items}));
    let query = json!({"index_name": "docs", "query_vectors": [7, 1, 2, 3], "top_k": 3});
    let found = http.must("/v1/vectors/query", &query);
    assert_eq!(found["results"][0]["id"], "7", "{found}");

    // Away: 502 for who needs the key and has not got it yet, and no half-made index.
    run(
        &mut setting.cluster.client(),
        "SELECT sealvec.lock(name, everywhere => true) FROM sealvec.key_rings WHERE kms = 'aws'",
    );
    setting.agent.kill();
    for (path, body) in [
        ("/v1/vectors/query", &query),
        ("/v1/indexes/create", &json!({"index_name": "more", "dimension": 4, "kms_name": "aws"})),
    ] {
        let answer = http.post(path, body).unwrap();
        assert!(answer.status == 502 && answer.text().contains("KMS error"), "{path}: {}", answer.text());
    }
    assert_eq!(one::<i64>(&mut setting.cluster.client(), "SELECT count(*) FROM sealvec.collection"), 1);
    setting.agent.start_again();
    assert_eq!(http.must("/v1/vectors/query", &query)["results"][0]["id"], "7");
    http.must("/v1/indexes/delete", &json!({"index_name": "docs"}));
    assert_eq!(one::<i64>(&mut setting.cluster.client(), "SELECT count(*) FROM sealvec.key_ring"), 0);
    setting.cluster.log_is_clean();
}

/// What KMS was asked since the last call.
fn operations(proxy: &FaultProxy) -> Vec<String> {
    let seen = proxy.take_seen();
    let targets = seen.iter().filter_map(|request| request.header("x-amz-target"));
    targets.map(|target| target.rsplit('.').next().unwrap_or_default().to_owned()).collect()
}

/// The ring's row: where its KEK is, and its bytes.
fn row(client: &mut Client) -> (String, Vec<u8>) {
    let row = client.query_one("SELECT kms, record FROM sealvec.key_ring WHERE name = 'vault'", &[]).unwrap();
    (row.get(0), row.get(1))
}

#[test]
fn a_kek_moves_inside_its_service_and_is_proved_before_it_counts() {
    let setting = Setting::new("kms-rewrap");
    setting.fill(300);
    setting.create_slot("second");
    let mut client = setting.cluster.client();
    let exported: Vec<u8> = one(&mut client, "SELECT sealvec.export_ring('vault')");
    operations(&setting.proxy);

    // To another key, and to the same again: AWS rewraps, and the server asks once whether it comes back.
    for kms in ["second", "second", "aws"] {
        let before = row(&mut client);
        run(&mut client, &format!("SELECT sealvec.rotate_kek('vault', kms => '{kms}')"));
        assert_eq!(operations(&setting.proxy), ["ReEncrypt", "Decrypt"], "{kms}");
        let after = row(&mut client);
        assert!(after.0 == kms && after.1 != before.1);
        assert_eq!(search(&mut setting.cluster.client()).unwrap(), 10, "{kms}");
        operations(&setting.proxy);
    }
    run(&mut client, "SELECT sealvec.rotate_kek('vault')");
    assert_eq!(operations(&setting.proxy), ["ReEncrypt", "Decrypt"]);
    // Another KEK, where the old one may be known.
    run(&mut client, "SELECT sealvec.rotate_kek('vault', fresh => true)");
    let asked = operations(&setting.proxy);
    assert!(asked.contains(&"GenerateDataKey".to_owned()) && !asked.contains(&"ReEncrypt".to_owned()), "{asked:?}");
    assert_eq!(search(&mut setting.cluster.client()).unwrap(), 10);

    // What does not come back does not count; nothing has changed.
    let before = row(&mut client);
    for (fault, expected) in [
        (Fault::Aws("DisabledException"), "58000"),
        (Fault::Aws("InvalidCiphertextException"), "28P01"),
        (Fault::OtherKeyId, "F0000"),
        (Fault::Empty, "58030"),
        (Fault::Status(500, None), "58030"),
    ] {
        setting.proxy.set(Some(fault.clone()));
        let error = error_of(&mut client, "SELECT sealvec.rotate_kek('vault', kms => 'second')");
        assert_eq!(error.code().code(), expected, "{fault:?}: {error:?}");
        setting.proxy.set(None);
        assert_eq!(row(&mut client), before, "{fault:?}");
    }
    assert_eq!(search(&mut setting.cluster.client()).unwrap(), 10);
    // Data keys of their own versions come through it all, and an export from before still opens elsewhere.
    run(&mut client, "DO $$ BEGIN PERFORM sealvec.rekey('vault'); END $$");
    run(&mut client, "CALL sealvec.reseal('docs'); ");
    run(&mut client, "REINDEX INDEX CONCURRENTLY docs_l2");
    run(&mut client, "CALL sealvec.retire_dek('vault', 1)");
    assert_eq!(search(&mut setting.cluster.client()).unwrap(), 10);
    run(&mut client, "DROP TABLE docs; SELECT sealvec.drop_key_ring('vault')");
    client.execute("SELECT sealvec.import_ring($1, kms => 'aws')", &[&exported]).unwrap();
    run(&mut client, OPEN);
    setting.cluster.log_is_clean();
}

#[test]
fn a_kek_moves_to_the_newest_version_of_its_transit_key() {
    let vault = Vault::start();
    vault.create_key("k");
    let token = vault.create_token("k", &["encrypt", "decrypt", "rewrap"]);
    let proxy = FaultProxy::start(vault.address());
    let home = tempfile::tempdir().unwrap();
    let token_file = home.path().join("token");
    std::fs::write(&token_file, format!("{token}\n")).unwrap();
    let kms = json!({"credentials": {"v": {"address": proxy.url(), "token_file": token_file}}});
    let agent = KeyAgent::start("kms-transit", &kms, &["--agent-cache-seconds", "0"], &[]);
    let cluster = Cluster::start("kms-transit", &[&agent.setting(), "autovacuum=off"]);
    let mut client = cluster.client();
    let options = json!({"key": "k", "mount": vault.mount(), "credentials": "v"});
    run(&mut client, &format!("DO $$ BEGIN PERFORM sealvec.create_kms('transit', 'vault', '{options}'); END $$"));
    run(&mut client, "DO $$ BEGIN PERFORM sealvec.create_key_ring('vault', provider => 'transit'); END $$");
    data::table(&mut client, "docs", "vault", &data::vectors().cut(50, 64));
    let reference = |client: &mut Client, version: u32| {
        let text = format!("{}/k#{version}", vault.mount());
        let (_, record) = row(client);
        record.windows(text.len()).any(|window| window == text.as_bytes())
    };
    assert!(reference(&mut client, 1));
    vault.rotate_key("k");
    proxy.take_seen();
    run(&mut client, "SELECT sealvec.rotate_kek('vault')");
    let seen = proxy.take_seen();
    let asked: Vec<&str> = seen.iter().filter_map(|request| request.path.rsplit('/').nth(1)).collect();
    assert!(asked.first() == Some(&"rewrap") && asked.last() == Some(&"decrypt"), "{asked:?}");
    assert!(reference(&mut client, 2) && !reference(&mut client, 1));
    // The old version may go now: the ring does not need it any more.
    vault.retire_before("k", 2);
    const READ: &str = "SELECT count(sealvec.open(embedding)) FROM docs";
    assert_eq!(one::<i64>(&mut cluster.client(), READ), 50);
    // From Transit to the server itself and back, where nobody can move it inside.
    for kms in ["local", "transit"] {
        run(&mut client, &format!("SELECT sealvec.rotate_kek('vault', kms => '{kms}')"));
        assert_eq!(one::<i64>(&mut cluster.client(), READ), 50, "{kms}");
    }
    assert!(!agent.log().contains(&token) && !cluster.log().contains(&token));
    cluster.log_is_clean();
}
