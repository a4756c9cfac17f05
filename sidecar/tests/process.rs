//! The program itself: what it refuses to start with, what it writes to its log, and how it ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// Made by `make.sh` there.
const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/");
const ROOT: &str = "ROOTKEY-that-must-not-be-logged";
const PASSWORD: &str = "PASSWORD-that-must-not-be-logged";

struct Server {
    child: Child,
    address: SocketAddr,
    log: BufReader<ChildStderr>,
    first: String,
}

fn command(env: &[(&str, &str)], flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sealvec-sidecar"));
    command.arg("serve").args(flags).env_clear().envs(env.iter().copied()).current_dir(std::env::temp_dir());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

impl Server {
    fn start(database: SocketAddr, flags: &[&str]) -> Self {
        let url = format!("postgres://u:{PASSWORD}@{database}/db");
        let env = [("SEALVEC_ROOT_KEY", ROOT), ("DATABASE_URL", &url), ("SEALVEC_LISTEN", "127.0.0.1:0")];
        let mut child = command(&env, flags).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut first = String::new();
        let address = loop {
            let mut line = String::new();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended: {first}");
            first += &line;
            if let Some((_, rest)) = line.split_once("REST on ") {
                let (_, rest) = rest.split_once("://").unwrap();
                break rest.split(['"', '\n']).next().unwrap().parse().unwrap();
            }
        };
        Self { child, address, log, first }
    }

    fn signal(&self, name: &str) {
        let number = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &number]).status().unwrap().success());
    }

    /// Its exit status and everything that it logged.
    fn end(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), std::mem::take(&mut self.first) + &rest)
    }
}

fn ask(address: SocketAddr, head: &str) -> TcpStream {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(socket, "{head}\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    socket
}

fn read(mut socket: TcpStream) -> String {
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

/// An address that nobody listens on.
fn nowhere() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn refused(env: &[(&str, &str)], flags: &[&str]) -> String {
    let output = command(env, flags).output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

/// The certificate that the server shows to a client that trusts the tests' authority, and its answer.
fn ask_tls(address: SocketAddr) -> (Vec<u8>, String) {
    let authority = CertificateDer::from_pem_file(DATA.to_owned() + "ca.pem").unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(authority).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let name = "localhost".try_into().unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(session, TcpStream::connect(address).unwrap());
    stream.write_all(b"GET /v1/openapi.json HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (stream.conn.peer_certificates().unwrap()[0].to_vec(), answer)
}

/// Never HTTP where HTTPS is asked for; SIGHUP changes the certificate, but not to one that does not fit its key.
#[test]
fn https_and_nothing_else() {
    let certificate = |name: &str| CertificateDer::from_pem_file(format!("{DATA}{name}.pem")).unwrap().to_vec();
    let dir = std::env::temp_dir().join(format!("sealvec-tls-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (cert, key) = (dir.join("cert"), dir.join("key"));
    let install = |cert_of: &str, key_of: &str| {
        std::fs::copy(format!("{DATA}{cert_of}.pem"), &cert).unwrap();
        std::fs::copy(format!("{DATA}{key_of}.key"), &key).unwrap();
    };
    let flags = ["--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let env = [("SEALVEC_ROOT_KEY", ROOT), ("DATABASE_URL", "postgres://u@h/db")];
    install("one", "two");
    assert!(refused(&env, &flags).contains("do not fit each other"));

    install("one", "one");
    let server = Server::start(nowhere(), &flags);
    assert!(server.first.contains("https://"));
    let (shown, answer) = ask_tls(server.address);
    assert!(answer.starts_with("HTTP/1.1 200 ") && shown == certificate("one"), "{answer}");
    let mut clear = Vec::new();
    let _ = ask(server.address, "GET /v1/openapi.json HTTP/1.1").read_to_end(&mut clear);
    assert!(!clear.starts_with(b"HTTP/"), "it answers in clear");

    let hang_up = |expected: &str| {
        server.signal("-HUP");
        for _ in 0..100 {
            if ask_tls(server.address).0 == certificate(expected) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("it does not show {expected}");
    };
    install("two", "two");
    hang_up("two");
    install("one", "two");
    server.signal("-HUP");
    std::thread::sleep(Duration::from_millis(200));
    assert!(ask_tls(server.address).0 == certificate("two"));
    server.signal("-TERM");
    let (status, log) = server.end();
    assert_eq!(status, Some(0));
    assert!(log.contains("the certificate stays as it was"), "{log}");
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn it_refuses_to_start_insecure() {
    let url = ("DATABASE_URL", "postgres://u:PASSWORD-that-must-not-be-logged@h/db");
    let key = ("SEALVEC_ROOT_KEY", ROOT);
    for (env, flags, expected) in [
        (&[url][..], &[][..], "no API key"),
        (&[key], &[], "no database"),
        (&[key, url, ("SSL_CERT_PATH", "/nowhere/cert")], &[], "HTTPS needs both"),
        (&[key, url], &["--tls-cert", "/nowhere/cert", "--tls-key", "/nowhere/key"], "no certificate in /nowhere/cert"),
        (&[key, ("DATABASE_URL", "PASSWORD-that-must-not-be-logged")], &[], "the database URL must look like"),
        (&[key, url, ("SEALVEC_LOG_LEVEL", "loud")], &[], "the log level must be"),
        (&[key, url], &["--listen", "192.0.2.1:1"], "cannot listen on 192.0.2.1:1"),
    ] {
        let said = refused(env, flags);
        assert!(said.contains(expected), "{expected}: {said}");
        assert!(!said.contains(PASSWORD) && !said.contains(ROOT), "{said}");
    }
}

#[test]
fn the_log_holds_no_key_path_or_header() {
    for format in ["text", "json"] {
        let server = Server::start(nowhere(), &["--log-level", "trace", "--log-format", format]);
        let token = "cdbk_1_TOKEN-that-must-not-be-logged";
        for head in [
            format!(
                "GET /v1/docs?q=QUERY-that-must-not-be-logged HTTP/1.1\r\nx-api-key: {ROOT}\r\nx-request-id: req-17"
            ),
            format!("GET /v1/indexes/NAME-that-must-not-be-logged/users HTTP/1.1\r\nx-api-key: {token}"),
            format!("GET /ready HTTP/1.1\r\nx-index-key: {ROOT}\r\nuser-agent: AGENT-that-must-not-be-logged"),
            "METHOD-that-must-not-be-logged /docs HTTP/1.1".to_owned(),
        ] {
            assert!(read(ask(server.address, &head)).starts_with("HTTP/1.1 "));
        }
        server.signal("-TERM");
        let (status, log) = server.end();
        assert_eq!(status, Some(0), "{log}");
        assert!(log.contains("req-17") && log.contains("/v1/docs") && log.contains("no connection"), "{log}");
        assert!(!log.contains("that-must-not-be-logged"), "{log}");
        if format == "json" {
            for line in log.lines() {
                serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
            }
        }
    }
}

/// The database takes the connection and says nothing, so that a request runs for `--connect-timeout`.
#[test]
fn a_running_request_ends_well() {
    let database = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Server::start(database.local_addr().unwrap(), &["--connect-timeout", "2"]);
    let (begun, running) = (Instant::now(), ask(server.address, "GET /ready HTTP/1.1"));
    let (asked, _) = database.accept().unwrap(); // the request is running
    server.signal("-TERM");
    std::thread::sleep(Duration::from_millis(300));
    assert!(TcpStream::connect(server.address).is_err(), "it takes new connections");
    let answer = read(running);
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 2"), "{answer}");
    assert!(begun.elapsed() > Duration::from_secs(1));
    let (status, log) = server.end();
    assert_eq!(status, Some(0), "{log}");
    assert!(log.contains("stopping") && log.trim_end().ends_with("stopped"), "{log}");
    drop(asked);
}

#[test]
fn a_request_that_does_not_end_is_left_behind() {
    let database = TcpListener::bind("127.0.0.1:0").unwrap();
    for (flags, signals) in [(["--shutdown-timeout", "1"], 1), (["--shutdown-timeout", "60"], 2)] {
        let flags = [&flags[..], &["--connect-timeout", "60"]].concat();
        let server = Server::start(database.local_addr().unwrap(), &flags);
        let running = ask(server.address, "GET /ready HTTP/1.1");
        let _asked = database.accept().unwrap();
        let begun = Instant::now();
        for _ in 0..signals {
            server.signal("-INT");
            std::thread::sleep(Duration::from_millis(200));
        }
        let (status, log) = server.end();
        assert_eq!(status, Some(0), "{log}");
        assert!(begun.elapsed() < Duration::from_secs(15));
        drop(running);
    }
}

/// More senders than `--max-requests`, each of whom holds the rest of his body back.
#[test]
fn slow_senders_keep_no_query_out() {
    let server = Server::start(nowhere(), &["--max-requests", "2", "--body-timeout", "2"]);
    let head = |length: usize| {
        format!("POST /v1/vectors/query HTTP/1.1\r\nx-api-key: {ROOT}\r\nhost: x\r\ncontent-length: {length}\r\n\r\n")
    };
    let body = r#"{"index_name": "a", "query_vectors": [1, 0]}"#;
    let begin = |text: &str| {
        let mut socket = TcpStream::connect(server.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket.write_all((head(body.len()) + text).as_bytes()).unwrap();
        socket
    };
    let answer = |socket: TcpStream| {
        let mut line = String::new();
        let mut lines = BufReader::new(socket);
        lines.read_line(&mut line).unwrap();
        let (mut rest, mut length) = (String::new(), 0);
        while rest != "\r\n" {
            rest.clear();
            lines.read_line(&mut rest).unwrap();
            length = rest.strip_prefix("content-length: ").map_or(length, |number| number.trim().parse().unwrap());
        }
        let mut body = vec![0; length];
        lines.read_exact(&mut body).unwrap();
        line + &String::from_utf8(body).unwrap()
    };
    let slow: Vec<TcpStream> = (0..20).map(|_| begin("{")).collect();
    std::thread::sleep(Duration::from_millis(300)); // all of them are being read
    for _ in 0..5 {
        let said = answer(begin(body));
        // As far as the database, which is not there.
        assert!(said.starts_with("HTTP/1.1 503 ") && said.contains("The database is not available"), "{said}");
    }
    for socket in slow {
        let said = answer(socket);
        assert!(said.starts_with("HTTP/1.1 408 ") && said.contains("The body took longer than 2 seconds"), "{said}");
    }
    server.signal("-TERM");
    assert_eq!(server.end().0, Some(0));
}
