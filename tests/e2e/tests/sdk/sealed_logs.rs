//! Every way in which SQL can carry a key, with everything logged that can be: a sealed key is found nowhere, and the same
//! search finds the plain one wherever that way leaks.

use std::path::{Path, PathBuf};

use postgres::{Client, SimpleQueryMessage};
use sealvec_core::keys::{UserPublicKey, UserWrap};
use sealvec_e2e::packages::pgaudit;
use sealvec_e2e::seal::{seal, url};
use sealvec_e2e::text::Text;
use sealvec_e2e::xtask::{output, version};
use sealvec_e2e::{Cluster, one, run};

use super::LOGS_EVERYTHING;

/// A way in, and where a plain key that takes it ends.
struct Way {
    name: &'static str,
    leaks: &'static [Place],
    show: fn(&mut Client, &Shown),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Log,
    Statements,
    Activity,
}

/// A key as a way shows it: bytes that a call takes, and their literal.
struct Shown {
    ring: String,
    bytes: Vec<u8>,
}

impl Shown {
    fn literal(&self) -> String {
        format!("'\\x{}'", self.bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    }
}

const WAYS: &[Way] = &[
    Way {
        name: "literal",
        leaks: &[Place::Log],
        show: |client, shown| run(client, &format!("SELECT sealvec.unlock('{}', {})", shown.ring, shown.literal())),
    },
    Way {
        name: "bound text",
        leaks: &[Place::Log],
        show: |client, shown| {
            let text = Text(shown.literal().trim_matches('\'').to_owned());
            client.execute("SELECT sealvec.unlock($1, $2::bytea)", &[&shown.ring, &text]).expect("unlocked");
        },
    },
    Way {
        name: "bound binary",
        leaks: &[Place::Log],
        show: |client, shown| {
            client.execute("SELECT sealvec.unlock($1, $2::bytea)", &[&shown.ring, &shown.bytes]).expect("unlocked");
        },
    },
    Way {
        name: "PREPARE",
        leaks: &[Place::Log],
        show: |client, shown| {
            run(client, "PREPARE way(text, bytea) AS SELECT sealvec.unlock($1, $2)");
            run(client, &format!("EXECUTE way('{}', {})", shown.ring, shown.literal()));
            run(client, "DEALLOCATE way");
        },
    },
    Way {
        name: "DO",
        leaks: &[Place::Log, Place::Statements],
        show: |client, shown| {
            run(client, &format!("DO $$ BEGIN PERFORM sealvec.unlock('{}', {}); END $$", shown.ring, shown.literal()))
        },
    },
    Way {
        name: "an error",
        leaks: &[Place::Log],
        show: |client, shown| {
            // Nothing but errors is logged here, and what the client sent with them.
            run(
                client,
                "SET log_statement = none; SET log_min_duration_statement = -1; SET auto_explain.log_min_duration = -1",
            );
            let sql = format!("SELECT sealvec.unlock('{}', {}), 1 / (SELECT 0)", shown.ring, shown.literal());
            client.batch_execute(&sql).expect_err("division by zero");
            let bound = "SELECT sealvec.unlock($1, $2::bytea), 1 / (SELECT 0)";
            client.execute(bound, &[&shown.ring, &shown.bytes]).expect_err("division by zero");
            run(client, "RESET log_statement; RESET log_min_duration_statement; RESET auto_explain.log_min_duration");
        },
    },
    Way {
        name: "auto_explain",
        leaks: &[Place::Log],
        show: |client, shown| {
            // Nothing but plans is logged here. A parameter that is planned for its value is a constant in them.
            run(
                client,
                "SET log_statement = none; SET log_min_duration_statement = -1; SET log_parameter_max_length = 0",
            );
            let sql =
                "SELECT sealvec.unlock($1, $2::bytea) FROM pg_class WHERE relname::text::bytea <> $2::bytea LIMIT 1";
            client.execute(sql, &[&shown.ring, &shown.bytes]).expect("unlocked");
            run(client, "RESET log_statement; RESET log_min_duration_statement; RESET log_parameter_max_length");
        },
    },
    Way {
        name: "pgaudit",
        leaks: &[Place::Log],
        show: |client, shown| {
            // Nothing but the audit's lines is logged here.
            run(
                client,
                "SET log_statement = none; SET log_min_duration_statement = -1; SET auto_explain.log_min_duration = -1",
            );
            client.execute("SELECT sealvec.unlock($1, $2::bytea)", &[&shown.ring, &shown.bytes]).expect("unlocked");
            run(client, "RESET log_statement; RESET log_min_duration_statement; RESET auto_explain.log_min_duration");
        },
    },
    Way {
        name: "pg_stat_activity",
        leaks: &[Place::Activity, Place::Log],
        show: |client, shown| {
            // A session that idles shows its last statement.
            run(client, &format!("SELECT sealvec.unlock('{}', {}), 'last'", shown.ring, shown.literal()));
        },
    },
];

/// Hexadecimal; each way has its own key, sealed and plain, so that what is found tells where it came in.
fn key(way: usize, plain: bool) -> String {
    format!("{:02x}5ea1edc0ffee{:02x}", 0x40 + way, u8::from(plain)).repeat(4)
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
}

/// By pgaudit, too.
fn log_settings() -> Vec<&'static str> {
    [&LOGS_EVERYTHING[..], &["pgaudit.log=all", "pgaudit.log_parameter=on"]].concat()
}

#[test]
fn a_sealed_key_is_in_no_log_plan_or_view() {
    let mut cluster = Cluster::start("sealed-logs", &log_settings());
    let loaded = load(&mut cluster);
    let mut client = cluster.client();
    if loaded.contains(&"pg_stat_statements") {
        run(&mut client, "CREATE EXTENSION pg_stat_statements");
    }
    // Rings of both kinds are made with sealed keys.
    for way in 0..WAYS.len() {
        for plain in [false, true] {
            let key = key(way, plain);
            let ring = ring_of(way, plain);
            let sealed = seal(&key, &["--ring", &ring, "--database-url", &url(cluster.port())]);
            run(
                &mut client,
                &format!("DO $$ BEGIN PERFORM sealvec.create_key_ring('{ring}', kek => '{sealed}'); END $$"),
            );
        }
    }
    let mut statements = String::new();
    let mut activity = String::new();
    for plain in [false, true] {
        for (number, way) in WAYS.iter().enumerate() {
            let mut session = cluster.client();
            let ring = ring_of(number, plain);
            let bytes = if plain {
                run(&mut session, "SET sealvec.allow_plain_key = on");
                bytes(&key(number, plain))
            } else {
                let hex =
                    seal(&key(number, plain), &["--ring", &ring, "--hex", "--database-url", &url(cluster.port())]);
                bytes(hex.trim_start_matches("\\x"))
            };
            (way.show)(&mut session, &Shown { ring, bytes });
            if !way.name.contains("error") {
                let open: bool = one(
                    &mut session,
                    &format!("SELECT state = 'open' FROM sealvec.key_rings WHERE name = '{}'", ring_of(number, plain)),
                );
                assert!(open, "{}: the key that was shown opens its ring", way.name);
            }
            // The session's own look at the ring is a bound statement of the driver's; show once more what it did.
            if way.leaks.contains(&Place::Activity) {
                (way.show)(
                    &mut session,
                    &Shown { ring: ring_of(number, plain), bytes: again(&cluster, number, plain) },
                );
            }
            activity += &everything(&mut client, "SELECT query FROM pg_stat_activity");
        }
    }
    if loaded.contains(&"pg_stat_statements") {
        statements = everything(&mut client, "SELECT query FROM pg_stat_statements");
    }
    let log = cluster.log();
    for (number, way) in WAYS.iter().enumerate() {
        for (place, text) in [(Place::Log, &log), (Place::Statements, &statements), (Place::Activity, &activity)] {
            let there = |plain| text.contains(&key(number, plain));
            assert!(!there(false), "{}: the sealed key is in {place:?}", way.name);
            let visible = match place {
                Place::Statements => loaded.contains(&"pg_stat_statements"),
                Place::Log => !MODULES.contains(&way.name) || loaded.contains(&way.name),
                Place::Activity => true,
            };
            if way.leaks.contains(&place) && visible {
                assert!(there(true), "{}: the plain key is not in {place:?}, so the search proves nothing", way.name);
            }
        }
    }
    drop(client);
    cluster.stop();
    // In every form, in everything that is on disk: the log, the file of pg_stat_statements, tables and WAL.
    let places = [cluster.path("data").to_owned(), cluster.path("log").to_owned()];
    for number in 0..WAYS.len() {
        scan(&key(number, false), &places, false);
    }
    scan(&key(0, true), &places, true);
    cluster.log_is_clean();
}

/// The key that opens a user's copies of a ring's keys, from his wrap: his secret never reaches the server, and what it
/// opens is found nowhere either. A token is, wherever it is shown: it is made by the server.
#[test]
fn a_users_key_is_in_no_log_plan_or_view() {
    let mut cluster = Cluster::start("sealed-user", &log_settings());
    let loaded = load(&mut cluster);
    let mut client = cluster.client();
    if loaded.contains(&"pg_stat_statements") {
        run(&mut client, "CREATE EXTENSION pg_stat_statements");
    }
    run(&mut client, "CREATE ROLE analyst LOGIN; DO $$ BEGIN PERFORM sealvec.create_key_ring('vault'); END $$");
    let (secret, plain) = ([0x5e; 32], [0x5f; 32]);
    for (role, secret) in [("analyst", secret), ("postgres", plain)] {
        let public = UserPublicKey::of_secret(&secret);
        let grant = "SELECT sealvec.grant_user('vault', $1, '{read,write}', $2::bytea)";
        client.execute(grant, &[&role, &public.as_bytes().as_slice()]).expect("a user");
    }
    // Both users' clients open their wraps. One shows what was in it sealed, the other as it is.
    let mut keys = Vec::new();
    for (role, secret) in [("analyst", secret), ("postgres", plain)] {
        let sql = "SELECT wrap FROM sealvec.my_wraps('vault') WHERE role = $1";
        let wrap: Vec<u8> = cluster.connect_as(role, "e2e").query_one(sql, &[&role]).expect("a wrap").get(0);
        let key = UserWrap::decode(&wrap).expect("a wrap").open(&secret).expect("his secret opens it");
        keys.push(key.expose().iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    }
    let mut analyst = cluster.connect_as("analyst", "e2e");
    let url = format!("postgresql://analyst@127.0.0.1:{}/e2e", cluster.port());
    let own = cluster.home().join("analyst.key");
    std::fs::write(&own, secret).expect("a file");
    let sealed =
        seal("", &["--ring", "vault", "--secret-key-file", &own.display().to_string(), "--database-url", &url]);
    std::fs::remove_file(own).expect("there");
    let mut activity = String::new();
    run(&mut analyst, &format!("SELECT sealvec.unlock('vault', user_key => '{sealed}')"));
    activity += &everything(&mut client, "SELECT query FROM pg_stat_activity");
    let bound = "SELECT sealvec.unlock($1, user_key => $2::bytea)";
    analyst.execute(bound, &[&"vault", &sealed.as_bytes()]).expect("unlocked");
    run(
        &mut analyst,
        &format!(
            "PREPARE way(text, bytea) AS SELECT sealvec.unlock($1, user_key => $2); EXECUTE way('vault', '{sealed}')"
        ),
    );
    run(&mut analyst, &format!("DO $$ BEGIN PERFORM sealvec.unlock('vault', user_key => '{sealed}'); END $$"));
    let failing = format!("SELECT sealvec.unlock('vault', user_key => '{sealed}'), 1 / (SELECT 0)");
    analyst.batch_execute(&failing).expect_err("division by zero");
    run(&mut analyst, &format!("SELECT sealvec.unlock('vault', user_key => '{sealed}')"));
    let open: bool = one(&mut analyst, "SELECT state = 'open' FROM sealvec.key_rings WHERE name = 'vault'");
    assert!(open, "the key opens the ring");
    let show = format!("SELECT sealvec.unlock('vault', user_key => '\\x{}')", keys[1]);
    run(&mut client, &format!("SET sealvec.allow_plain_key = on; {show}; RESET sealvec.allow_plain_key"));
    let refused =
        analyst.batch_execute(&format!("SELECT sealvec.unlock('vault', user_key => '\\x{}')", "61".repeat(32)));
    let refused = refused.expect_err("plain, and all is logged");
    assert!(
        refused.as_db_error().is_some_and(|error| error.message().starts_with("no plain key is taken")),
        "{refused}"
    );
    activity += &everything(&mut client, "SELECT query FROM pg_stat_activity");
    if loaded.contains(&"pg_stat_statements") {
        activity += &everything(&mut client, "SELECT query FROM pg_stat_statements");
    }
    let log = cluster.log();
    for text in [&log, &activity] {
        assert!(!text.contains(&keys[0]), "the sealed key is in a log or view");
    }
    assert!(log.contains(&keys[1]), "the plain one is, or the search proves nothing");
    drop((client, analyst));
    cluster.stop();
    let places = [cluster.path("data").to_owned(), cluster.path("log").to_owned()];
    scan(&keys[0], &places, false);
    scan(&secret.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), &places, false);
    scan(&keys[1], &places, true);
    cluster.log_is_clean();
}

fn ring_of(way: usize, plain: bool) -> String {
    format!("way {way} {}", if plain { "plain" } else { "sealed" })
}

/// The same key once more: the plain bytes, or sealed anew.
fn again(cluster: &Cluster, way: usize, plain: bool) -> Vec<u8> {
    match plain {
        true => bytes(&key(way, true)),
        false => {
            let ring = ring_of(way, false);
            let hex = seal(&key(way, false), &["--ring", &ring, "--hex", "--database-url", &url(cluster.port())]);
            bytes(hex.trim_start_matches("\\x"))
        }
    }
}

/// The first column of every row, as text. By the simple protocol: the driver adds no parameter of its own.
fn everything(client: &mut Client, sql: &str) -> String {
    let rows = client.simple_query(sql).expect("rows");
    let texts = rows.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(|text| format!("{text}\n")),
        _ => None,
    });
    texts.collect()
}

fn scan(key: &str, places: &[PathBuf], expected: bool) {
    let mut command: Vec<String> = vec!["scan".into(), "--key-hex".into(), key.into()];
    if expected {
        command.extend(["--expect-found".into(), "hex of key".into()]);
    }
    command.extend(places.iter().map(|place| place.display().to_string()));
    let output = output(&command);
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "expected the key to be {}:\n{text}", if expected { "found" } else { "nowhere" });
}

const MODULES: [&str; 3] = ["pg_stat_statements", "auto_explain", "pgaudit"];

/// Loads what there is of the modules, which takes a restart. The wheel that Postgres 16 and 18 come from may have none, and
/// Debian 12 has pgaudit for 15.
fn load(cluster: &mut Cluster) -> Vec<&'static str> {
    let mut client = cluster.client();
    let libraries: String = one(&mut client, "SELECT setting FROM pg_config WHERE name = 'PKGLIBDIR'");
    let mut loaded = Vec::new();
    let mut files = Vec::new();
    for name in MODULES {
        let mut file = Path::new(&libraries).join(format!("{name}.so"));
        if name == "pgaudit" && version() == "15" {
            file = cluster.home().join("pgaudit.so"); // the server's user may not reach target/
            std::fs::copy(pgaudit(), &file).expect("a copy");
        }
        if file.exists() {
            loaded.push(name);
            files.push(format!("'{}'", file.display()));
        }
    }
    run(&mut client, &format!("ALTER SYSTEM SET shared_preload_libraries = {}", files.join(", ")));
    drop(client);
    cluster.stop();
    cluster.start_again();
    loaded
}
