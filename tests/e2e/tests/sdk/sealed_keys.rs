//! Where a sealed key opens, for how long, and what is said where it does not.

use postgres::Client;
use sealvec_e2e::seal::{seal, url};
use sealvec_e2e::sidecar::{ROLE, ROOT_KEY};
use sealvec_e2e::standby::Standby;
use sealvec_e2e::xtask::{must, root};
use sealvec_e2e::{Cluster, Http, Sidecar, error_of, eventually, one, run};
use serde_json::json;

const KEY: &str = "5ea1ed00c0ffee11223344556677889900aabbccddeeff0123456789abcdef51";
const NEXT: &str = "5ea1ed00c0ffee11223344556677889900aabbccddeeff0123456789abcdef52";

fn sealed(cluster: &Cluster, key: &str, arguments: &[&str]) -> String {
    seal(key, &[&["--database-url", &url(cluster.port())], arguments].concat())
}

fn code(client: &mut Client, sql: &str) -> String {
    error_of(client, sql).code().code().to_owned()
}

#[test]
fn a_sealed_key_opens_where_it_is_bound_to_and_nowhere_else() {
    let cluster = Cluster::start("sealed-binding", &[]);
    let mut client = cluster.client();
    let kek = sealed(&cluster, KEY, &["--ring", "vault"]);
    run(&mut client, &format!("DO $$ BEGIN PERFORM sealvec.create_key_ring('vault', kek => '{kek}'); END $$"));
    run(&mut client, &format!("SELECT sealvec.unlock('vault', '{kek}'); SELECT sealvec.lock('vault')"));
    run(&mut client, "CREATE DATABASE other");
    run(&mut client, "CREATE ROLE stranger");
    let unlock = format!("SELECT sealvec.unlock('vault', '{kek}')");
    // Another role, also by SET ROLE; but not a function that runs with another's rights.
    run(&mut client, "SET ROLE stranger");
    assert_eq!(code(&mut client, &unlock), "28P01");
    run(&mut client, "RESET ROLE");
    run(
        &mut client,
        "CREATE FUNCTION by_definer(kek text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
             AS $$ BEGIN EXECUTE format('SELECT sealvec.unlock(''vault'', %L)', kek); END $$;
         ALTER FUNCTION by_definer OWNER TO stranger",
    );
    run(&mut client, &format!("SELECT by_definer('{kek}'); SELECT sealvec.lock('vault')"));
    // Another database of the same server, with a ring of the same name and key.
    let mut other = cluster.connect_to("other");
    run(&mut other, "CREATE EXTENSION sealvec");
    run(
        &mut other,
        &format!("SET sealvec.allow_plain_key = on; SELECT sealvec.create_key_ring('vault', kek => '\\x{KEY}')"),
    );
    assert_eq!(code(&mut other, &unlock), "28P01");
    // Another name, and another argument.
    run(&mut client, &format!("SELECT sealvec.create_key_ring('Vault', kek => '\\x{KEY}')"));
    let error = error_of(&mut client, &format!("SELECT sealvec.unlock('Vault', '{kek}')"));
    assert_eq!((error.code().code(), error.message()), ("28P01", "the sealed key does not open here"));
    assert!(error.detail().is_some_and(|detail| detail.contains("\"e2e\"") && detail.contains("kek")), "{error}");
    let next = sealed(&cluster, NEXT, &["--ring", "vault", "--as", "new_kek"]);
    assert_eq!(code(&mut client, &format!("SELECT sealvec.rotate_kek('vault', '{next}', '{kek}')")), "28P01");
    run(&mut client, &format!("SELECT sealvec.rotate_kek('vault', '{kek}', '{next}')"));
    assert_eq!(code(&mut client, &unlock), "28P01", "the old key, rightly sealed, opens the ring no more");
    let after = sealed(&cluster, NEXT, &["--ring", "vault"]);
    run(&mut client, &format!("SELECT sealvec.rekey('vault', '{after}'); SELECT sealvec.unlock('vault', '{after}')"));
    // Damaged, and a key of another length.
    let damaged = format!("{}AAAA", &after[..after.len() - 4]);
    assert_eq!(code(&mut client, &format!("SELECT sealvec.unlock('vault', '{damaged}')")), "28P01");
    assert_eq!(code(&mut client, "SELECT sealvec.unlock('vault', 'sealed1.AAAA')"), "22P03");
    cluster.log_is_clean();
}

#[test]
fn every_argument_of_an_index_takes_a_sealed_key() {
    // All is logged, so a plain key would be refused.
    let cluster = Cluster::start("sealed-index", &["log_statement=all"]);
    let mut client = cluster.client();
    let user = "decode(repeat('0b', 16), 'hex')";
    let index_key = sealed(&cluster, KEY, &["--index", "docs"]);
    let user_key = sealed(&cluster, NEXT, &["--index", "docs", "--as", "user_key"]);
    let his = sealed(&cluster, NEXT, &["--index", "docs"]);
    run(
        &mut client,
        &format!(
            "SELECT sealvec.create_index('docs', 2, index_key => '{index_key}');
             SELECT sealvec.upsert('docs', '[{{\"id\": \"a\", \"vector\": [1, 2]}}]', index_key => '{index_key}')"
        ),
    );
    run(&mut client, "SET sealvec.allow_plain_key = on"); // a token is told over no TCP without TLS
    let token: String = one(
        &mut client,
        &format!("SELECT token FROM sealvec.create_user('docs', '{{read}}', {user}, '{user_key}', '{index_key}')"),
    );
    run(&mut client, "RESET sealvec.allow_plain_key");
    let count = |credential: &str| format!("SELECT sealvec.num_vectors('docs', {credential})");
    assert_eq!(one::<i64>(&mut client, &count(&format!("index_key => '{his}', user_id => {user}"))), 1);
    let user_token = sealed(&cluster, &token, &["--index", "docs", "--as", "user_token"]);
    assert_eq!(one::<i64>(&mut client, &count(&format!("user_token => '{user_token}'"))), 1);
    // The same bytes again, as clients that keep them do; then another key, a ring that is locked, and the role they are not for.
    let again = format!("SELECT sealvec.num_vectors('docs', index_key => '{index_key}')");
    for _ in 0..3 {
        assert_eq!(one::<i64>(&mut client, &again), 1);
    }
    let wrong = sealed(&cluster, NEXT, &["--index", "docs"]);
    assert_eq!(code(&mut client, &format!("SELECT sealvec.num_vectors('docs', index_key => '{wrong}')")), "28P01");
    assert_eq!(one::<i64>(&mut client, &again), 1);
    run(&mut client, "CREATE ROLE other SUPERUSER; SET ROLE other");
    assert_eq!(code(&mut client, &again), "28P01");
    run(&mut client, "RESET ROLE");
    assert_eq!(one::<i64>(&mut client, &again), 1);
    // Plain ones are refused, with a word on what to do, and without the key in it.
    for plain in [format!("index_key => '\\x{KEY}'"), format!("user_token => '{token}'")] {
        let error = error_of(&mut client, &count(&plain));
        assert_eq!(error.message(), "no plain key is taken while the server logs statements");
        assert!(error.hint().is_some_and(|hint| hint.contains("seal") && hint.contains("allow_plain_key")), "{error}");
    }
    // A sealed key is no token, nor the other way round.
    assert_eq!(code(&mut client, &count(&format!("user_token => '{index_key}'"))), "28P01");
    assert_eq!(code(&mut client, &count(&format!("index_key => '{user_token}'"))), "28P01");
    cluster.log_is_clean();
}

#[test]
fn a_stale_key_has_a_code_of_its_own_and_clients_seal_again() {
    let mut cluster = Cluster::start("sealed-stale", &["sealvec.transport_key_life=2"]);
    let mut client = cluster.client();
    let first = one_key(&mut client);
    assert_eq!(one_key(&mut cluster.client()), first, "every backend has the same");
    let create = sealed(&cluster, KEY, &["--ring", "vault"]);
    run(&mut client, &format!("SELECT sealvec.create_key_ring('vault', kek => '{create}')"));
    let old = sealed(&cluster, KEY, &["--ring", "vault"]);
    let unlock = format!("SELECT sealvec.unlock('vault', '{old}')");
    eventually("another key takes its place", 10, || (one_key(&mut client) != first).then_some(()));
    eventually("the old one is no longer taken", 10, || {
        let error = client.batch_execute(&unlock).err()?;
        let report = error.as_db_error().expect("of the server");
        assert_eq!(report.code().code(), "SV001", "{report}");
        assert!(report.hint().is_some_and(|hint| hint.contains("transport_key()")));
        Some(())
    });
    // PL/pgSQL sees the code; the next error has its own again.
    run(
        &mut client,
        &format!(
            "DO $$ BEGIN
                 PERFORM sealvec.unlock('vault', '{old}');
                 RAISE 'not reached';
             EXCEPTION WHEN SQLSTATE 'SV001' THEN
                 BEGIN PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN NULL; END;
             END $$"
        ),
    );
    assert_eq!(code(&mut client, "SELECT 1 / 0"), "22012");
    // Clients, while the keys change every other second and the server is restarted.
    let mut sidecar = Sidecar::start(&cluster, "stale", &["--connect-timeout", "2"]);
    let mut http = Http::new(sidecar.address(), Some(ROOT_KEY));
    http.must("/v1/indexes/create", &json!({"index_name": "docs", "index_key": KEY, "dimension": 2}));
    for round in 0..10 {
        http.must("/v1/vectors/num_vectors", &json!({"index_name": "docs", "index_key": KEY}));
        if round == 5 {
            run(&mut cluster.client(), "ALTER SYSTEM SET sealvec.transport_key_life = '1h'");
            cluster.stop();
            cluster.start_again();
            eventually("the sidecar answers again", 20, || {
                let answer = http.post("/v1/vectors/num_vectors", &json!({"index_name": "docs", "index_key": KEY}));
                answer.ok().filter(|answer| answer.status == 200).map(drop)
            });
        }
        std::thread::sleep(std::time::Duration::from_millis(700));
    }
    sidecar.stop();
    cluster.log_is_clean();
}

#[test]
fn the_python_client_seals_and_seals_again() {
    let cluster = Cluster::start("sealed-python", &["log_statement=all", "sealvec.transport_key_life=1"]);
    let python = sealvec_e2e::packages::virtual_environment(
        "python-psycopg-3.3.9-cryptography-50.0.2",
        &["psycopg[binary]==3.3.9", "cryptography==50.0.2"],
    );
    let said = must(
        std::process::Command::new(python)
            .arg(root().join("tests/e2e/sdk/python/sealed.py"))
            .args(["127.0.0.1", &cluster.port().to_string(), KEY])
            .env("PYTHONPATH", root().join("clients/python")),
    );
    assert_eq!(said.lines().last(), Some("ok"), "{said}");
    assert!(!cluster.log().contains(KEY) && cluster.log().contains("sealvec.unlock"));
    cluster.log_is_clean();
}

#[test]
fn the_python_client_passes_its_own_tests() {
    let python = sealvec_e2e::packages::virtual_environment(
        "python-sealvec-client",
        &["psycopg[binary]==3.3.9", "cryptography==50.0.2", "pytest==9.0.1"],
    );
    let home = root().join("clients/python");
    let mut command = std::process::Command::new(python);
    command.args(["-B", "-m", "pytest", "-q", "-p", "no:cacheprovider"]).arg(home.join("tests"));
    must(command.env("PYTHONPATH", &home));
}

#[test]
fn a_standby_has_a_key_of_its_own() {
    let cluster = Cluster::start("sealed-standby", &[]);
    let mut client = cluster.client();
    let kek = sealed(&cluster, KEY, &["--ring", "vault"]);
    run(
        &mut client,
        &format!(
            "DO $$ BEGIN PERFORM sealvec.create_key_ring('vault', kek => '{kek}'); END $$;
             SELECT sealvec.unlock('vault', '{kek}'); CREATE TABLE s (v sealvec(2, vault)); INSERT INTO s VALUES ('[1,2]')"
        ),
    );
    let standby = Standby::start(&cluster);
    standby.catch_up();
    let mut here = standby.client();
    assert_ne!(one_key(&mut here), one_key(&mut client));
    assert_eq!(code(&mut here, &format!("SELECT sealvec.unlock('vault', '{kek}')")), "SV001");
    let port: i32 = one(&mut here, "SELECT current_setting('port')::int");
    let own = seal(KEY, &["--database-url", &url(port as u16), "--ring", "vault"]);
    run(&mut here, &format!("SELECT sealvec.unlock('vault', '{own}')"));
    assert_eq!(one::<i64>(&mut here, "SELECT count(*) FROM s WHERE sealvec.open(v) IS NOT NULL"), 1);
    assert_eq!(code(&mut client, &format!("SELECT sealvec.unlock('vault', '{own}')")), "SV001");
}

#[test]
fn many_backends_claim_one_page() {
    let cluster = Cluster::start("sealed-page", &["max_connections=40"]);
    run(&mut cluster.client(), &format!("CREATE ROLE {ROLE} LOGIN"));
    let keys: Vec<Vec<u8>> = std::thread::scope(|scope| {
        let sessions: Vec<_> = (0..24).map(|_| scope.spawn(|| one_key(&mut cluster.connect_as(ROLE, "e2e")))).collect();
        sessions.into_iter().map(|session| session.join().expect("a key")).collect()
    });
    assert!(keys.iter().all(|key| key == &keys[0]), "one key for all");
    let pages = "SELECT string_agg(name, ', ' ORDER BY name) FROM pg_shmem_allocations WHERE name LIKE 'sealvec %'";
    let names: String = one(&mut cluster.client(), pages);
    assert_eq!(names, "sealvec audit 2, sealvec transport keys 1");
    cluster.log_is_clean();
}

fn one_key(client: &mut Client) -> Vec<u8> {
    one(client, "SELECT key_id || public_key FROM sealvec.transport_key()")
}
