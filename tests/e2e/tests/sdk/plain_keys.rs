//! Where a plain key is refused: on a connection that others can listen to, and while anything logs statements.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use postgres::{Client, NoTls};
use sealvec_e2e::cluster::is_root;
use sealvec_e2e::packages::pgaudit;
use sealvec_e2e::xtask::{must, root, version};
use sealvec_e2e::{Cluster, error_of, eventually, one, run};

const KEY: &str = "5ea1ed00c0ffee11223344556677889900aabbccddeeff0123456789abcdef51";

fn create(ring: &str) -> String {
    format!("SELECT sealvec.create_key_ring('{ring}', kek => '\\x{KEY}')")
}

/// The call is refused because `setting` logs.
fn refused_by(client: &mut Client, setting: &str) {
    let error = error_of(client, &create("logged"));
    assert_eq!(error.message(), "no plain key is taken while the server logs statements");
    assert_eq!(error.code().code(), "55000");
    assert!(error.detail().is_some_and(|detail| detail.contains(setting)), "{setting}: {error:?}");
    assert!(error.hint().is_some_and(|hint| hint.contains("Seal it") && hint.contains("allow_plain_key")), "{error:?}");
}

/// A ring with a plain key, and gone again.
fn taken(client: &mut Client) {
    run(client, &create("taken"));
    run(client, "SELECT sealvec.drop_key_ring('taken')");
}

#[test]
fn a_plain_key_is_refused_where_it_can_be_overheard() {
    let cluster = Cluster::start("plain-overheard", &[]);
    let mut near = cluster.client();
    taken(&mut near);
    let mut config = postgres::Config::new();
    config.host("127.0.0.1").port(cluster.port()).user("postgres").dbname("e2e");
    let mut far = config.connect(NoTls).expect("a session over TCP");
    let error = error_of(&mut far, &create("over TCP"));
    assert_eq!(error.message(), "no plain key is taken over a network connection without TLS");
    assert_eq!(error.code().code(), "55000");
    // Nor is a token told that way, that would do the same.
    run(&mut near, "SELECT sealvec.create_key_ring('tokens'); CREATE ROLE member");
    let token = "SELECT user_token FROM sealvec.grant_user('tokens', 'member', '{read}', token => true)";
    let error = error_of(&mut far, token);
    assert_eq!(error.message(), "no token is given out over a network connection without TLS");
    assert_eq!(error.code().code(), "55000");
    let public = format!(
        "SELECT user_token IS NULL FROM sealvec.grant_user('tokens', 'member', '{{read}}', '\\x09{}')",
        "00".repeat(31)
    );
    assert!(one::<bool>(&mut far, &public), "a public key and its wrap are for everybody's ears");
    assert!(one::<String>(&mut near, token).starts_with("cdbk_"));
    run(&mut far, "SET sealvec.allow_plain_key = on");
    taken(&mut far);
    assert!(one::<String>(&mut far, token).starts_with("cdbk_"));
    run(&mut near, "SELECT sealvec.drop_key_ring('tokens')");
    // Only a superuser allows it.
    run(&mut near, "CREATE ROLE plain LOGIN");
    let mut plain = config.user("plain").connect(NoTls).expect("a session over TCP");
    run(&mut plain, "SET sealvec.allow_plain_key = on"); // a placeholder, until the library is there
    run(&mut plain, "SELECT sealvec.transport_key()");
    assert_eq!(one::<String>(&mut plain, "SHOW sealvec.allow_plain_key"), "off");
    assert_eq!(error_of(&mut plain, "SET sealvec.allow_plain_key = on").code().code(), "42501");
    over_tls(&cluster);
    cluster.log_is_clean();
}

/// The same connection with TLS takes the key.
fn over_tls(cluster: &Cluster) {
    let mut client = cluster.client();
    let built: String = one(&mut client, "SELECT setting FROM pg_config WHERE name = 'CONFIGURE'");
    if !built.contains("--with-ssl") && !built.contains("--with-openssl") {
        eprintln!("skipped: this Postgres was built without TLS");
        return;
    }
    let home = cluster.owned_directory("tls");
    for file in ["one.pem", "one.key"] {
        let path = home.join(file);
        fs::copy(root().join("sidecar/tests/data").join(file), &path).expect("a copy");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("our own file");
        if is_root() {
            must(Command::new("chown").arg("postgres:postgres").arg(&path));
        }
    }
    let file = |name| Path::display(&home.join(name)).to_string();
    for (setting, value) in
        [("ssl_cert_file", file("one.pem")), ("ssl_key_file", file("one.key")), ("ssl", "on".to_owned())]
    {
        run(&mut client, &format!("ALTER SYSTEM SET {setting} = '{value}'"));
    }
    run(&mut client, "SELECT pg_reload_conf()");
    let psql = |mode: &str, sql: &str| {
        let mut command = cluster.program("psql", "e2e");
        command.args(["-XAt", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-c", sql]).env("PGSSLMODE", mode);
        command.output().expect("psql runs")
    };
    let has_tls = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    eventually("the server takes TLS", 10, || (psql("require", has_tls).stdout == b"t\n").then_some(()));
    assert_eq!(psql("disable", has_tls).stdout, b"f\n");
    let refused = psql("disable", &create("tls"));
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("no plain key is taken over a network connection without TLS"), "{said}");
    let taken = psql("require", &create("tls"));
    assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
    let opened = psql("require", &format!("SELECT sealvec.unlock('tls', '\\x{KEY}')"));
    assert!(opened.status.success(), "{}", String::from_utf8_lossy(&opened.stderr));
}

#[test]
fn a_plain_key_is_refused_while_statements_are_logged() {
    let mut cluster = Cluster::start("plain-logged", &[]);
    let mut client = cluster.client();
    // Each alone.
    for setting in [
        "log_statement = ddl",
        "log_min_duration_statement = 0",
        "log_min_duration_sample = 100",
        "log_transaction_sample_rate = 0.5",
    ] {
        let name = setting.split(' ').next().expect("a name");
        run(&mut client, &format!("SET {setting}"));
        refused_by(&mut client, name);
        run(&mut client, &format!("RESET {name}"));
    }
    taken(&mut client);
    // Settings of modules log nothing until their modules are there.
    for setting in ["auto_explain.log_min_duration = 0", "pgaudit.log = 'all'", "pgaudit.role = 'postgres'"] {
        run(&mut client, &format!("SET {setting}"));
        taken(&mut client);
    }
    let mut client = cluster.client();
    let libraries: String = one(&mut client, "SELECT setting FROM pg_config WHERE name = 'PKGLIBDIR'");
    if Path::new(&libraries).join("auto_explain.so").exists() {
        run(&mut client, "LOAD 'auto_explain'");
        taken(&mut client); // loaded, and off
        run(&mut client, "SET auto_explain.log_min_duration = '1h'"); // a statement may take that long
        refused_by(&mut client, "auto_explain.log_min_duration");
        run(&mut client, "SET auto_explain.log_min_duration = 0");
        refused_by(&mut client, "auto_explain.log_min_duration");
        run(&mut client, "SET auto_explain.log_min_duration = -1");
        taken(&mut client);
    }
    drop(client);
    if version() != "15" {
        eprintln!("pgaudit is left out: Debian 12 has it for Postgres 15");
        return;
    }
    let library = cluster.home().join("pgaudit.so"); // the server's user may not reach target/
    fs::copy(pgaudit(), &library).expect("a copy");
    run(&mut cluster.client(), &format!("ALTER SYSTEM SET shared_preload_libraries = '{}'", Path::display(&library)));
    cluster.stop();
    cluster.start_again();
    let mut client = cluster.client();
    taken(&mut client); // loaded, and off
    for (setting, value) in [("pgaudit.log", "function, misc"), ("pgaudit.role", "postgres")] {
        run(&mut client, &format!("SET {setting} = '{value}'"));
        refused_by(&mut client, setting);
        run(&mut client, &format!("RESET {setting}"));
    }
    run(&mut client, "SET pgaudit.log = 'NONE'");
    taken(&mut client);
    cluster.log_is_clean();
}
