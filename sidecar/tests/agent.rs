//! The program as a key agent: what it refuses to start with, whom it answers, how it ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn command(words: &[&str], env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sealvec-sidecar"));
    command.args(words).env_clear().envs(env.iter().copied()).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn refusal(words: &[&str]) -> String {
    let output = command(words, &[]).output().unwrap();
    assert!(!output.status.success(), "{words:?} is taken");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

struct Agent {
    child: Child,
    log: BufReader<std::process::ChildStderr>,
    socket: PathBuf,
}

impl Agent {
    /// With this YAML, on a socket in `home`. The last of `words` is the flag for the socket.
    fn start(words: &[&str], home: &Path, yaml: &str, env: &[(&str, &str)]) -> Self {
        let (config, socket) = (home.join("c.yaml"), home.join("agent.sock"));
        std::fs::write(&config, yaml).unwrap();
        let paths = [socket.to_str().unwrap(), "--config", config.to_str().unwrap()];
        let mut child = command(&[words, &paths].concat(), env).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("key agent on") {
            line.clear();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended");
        }
        let begun = Instant::now();
        while UnixStream::connect(&socket).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(10), "it does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { child, log, socket }
    }

    /// Asks whether a slot works: the class of the refusal, or none, and its text.
    fn check(&self, slot: &str, provider: &str) -> (u8, String) {
        let mut body = Vec::from(5_000u32.to_le_bytes());
        for text in [slot, provider, "{}"] {
            body.extend_from_slice(&(text.len() as u32).to_le_bytes());
            body.extend_from_slice(text.as_bytes());
        }
        let mut frame = Vec::from((body.len() as u32 + 10).to_le_bytes());
        frame.extend_from_slice(&[1, 5]);
        frame.extend_from_slice(&7u64.to_le_bytes());
        frame.extend_from_slice(&body);
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream.write_all(&frame).unwrap();
        let mut length = [0; 4];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; u32::from_le_bytes(length) as usize];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer[2..10], &7u64.to_le_bytes());
        match answer[1] {
            255 => (answer[10], String::from_utf8(answer[19..].to_vec()).unwrap()),
            _ => (0, String::new()),
        }
    }

    /// After SIGTERM: its exit code and the rest of its log.
    fn end(mut self) -> (Option<i32>, String) {
        assert!(Command::new("kill").arg(self.child.id().to_string()).status().unwrap().success());
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

#[test]
fn it_does_not_start_with_half_a_configuration() {
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("c.yaml");
    std::fs::write(&config, "kms: {credentials: {v: {address: 'https://v', token: s3cr3t}}}").unwrap();
    let said = refusal(&["agent", "--socket", "/tmp/x", "--config", config.to_str().unwrap()]);
    assert!(said.contains("kms.credentials.v") && !said.contains("s3cr3t"), "{said}");
    for (words, expected) in [
        (&["agent"][..], "--socket"),
        (&["agent", "--socket", "/nowhere/x"], "cannot bind"),
        (&["agent", "--socket", "/tmp/x", "--agent-allow-user", "no such user"], "no user"),
        (&["agent", "--socket", "/tmp/x", "--config", "/nowhere/c.yaml"], "/nowhere/c.yaml"),
        (&["agent", "--socket", "/tmp/x", "--agent-cache-seconds", "3601"], "3601"),
    ] {
        let said = refusal(words);
        assert!(said.contains(expected), "{words:?}: {said}");
    }
}

#[test]
fn it_answers_for_its_slots_and_goes_with_its_socket() {
    let home = tempfile::tempdir().unwrap();
    // Port 1 of this machine: nobody is there.
    let yaml = "kms:\n  registry:\n    on-premises: {provider: vault, key: k, credentials: v}\n    ours: {provider: local}\n  \
                credentials:\n    v: {address: 'http://127.0.0.1:1', token_env: TOKEN}\n";
    let agent = Agent::start(&["agent", "--socket"], home.path(), yaml, &[("TOKEN", "s3cr3t-token")]);
    let (class, text) = agent.check("on-premises", "of SQL");
    assert!(class == 1 && text.contains("Vault cannot be reached"), "{class} {text}");
    let (class, text) = agent.check("ours", "local");
    assert!(class == 5 && text.contains("database server's own"), "{class} {text}");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", agent.child.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().filter(|word| *word == "0").count(), 2, "no core dump: {core}");
    let socket = agent.socket.clone();
    let (code, log) = agent.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(
        log.contains("operation=\"check\"") && log.contains("result=\"unavailable\"") && !log.contains("s3cr3t"),
        "{log}"
    );
    assert!(!socket.exists());
}

#[test]
fn serve_runs_one_beside_the_server() {
    let home = tempfile::tempdir().unwrap();
    let env = [("SEALVEC_ROOT_KEY", "a root key of a test"), ("DATABASE_URL", "postgres://u@127.0.0.1:1/db")];
    let words = ["serve", "--listen", "127.0.0.1:0", "--shutdown-timeout", "1", "--agent-socket"];
    let agent = Agent::start(&words, home.path(), "kms: {registry: {ours: {provider: local}}}\n", &env);
    let (class, text) = agent.check("ours", "local");
    assert!(class == 5 && text.contains("database server's own"), "{class} {text}");
    let socket = agent.socket.clone();
    let (code, log) = agent.end();
    assert!(code == Some(0) && log.contains("stopped"), "{code:?} {log}");
    assert!(!socket.exists());
}
