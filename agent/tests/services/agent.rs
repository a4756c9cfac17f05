//! An agent in a process of its own, and a client of its socket.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sealvec_agent::{Access, Limits, Registry, Server, Service};
use sealvec_core::keys::{Kek, KeyContext, Uuid};
use sealvec_e2e::eventually;
use sealvec_kms::agent::{Answer, Call, Class, LENGTH_LEN, Refusal, Reply, Request, Slot, Wrapped, frame_len};
use serde_json::{Value, json};

/// What a backend waits at most, unless a test says otherwise.
pub const TIME_MAX: Duration = Duration::from_secs(3);
/// What the answer may take beyond that on a busy machine.
const SLACK: Duration = Duration::from_secs(2);
/// The secret key of the AWS credentials of every agent here: no log may hold it.
pub const AWS_SECRET: &str = "s3cr3tkeyofatests3cr3tkeyofatest";

/// A running agent. Dropping it ends it.
pub struct Agent {
    home: tempfile::TempDir,
    kms: Value,
    environment: Vec<(String, String)>,
    process: Option<Child>,
}

/// How it is started.
#[derive(Clone, Copy)]
pub struct How {
    pub cache: Duration,
    pub uids: Option<u32>,
}

/// Without a cache, for the user of the test.
pub const PLAIN: How = How { cache: Duration::ZERO, uids: None };

impl Agent {
    /// With this `kms` section and these variables, beside AWS credentials.
    pub fn start(kms: Value, environment: &[(&str, String)]) -> Self {
        Self::start_as(kms, environment, PLAIN)
    }

    pub fn start_as(kms: Value, environment: &[(&str, String)], how: How) -> Self {
        let mut all: Vec<_> = environment.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
        all.push(("SEALVEC_TEST_CACHE_MS".into(), how.cache.as_millis().to_string()));
        all.extend(how.uids.map(|uid| ("SEALVEC_TEST_UID".into(), uid.to_string())));
        let mut agent = Self { home: tempfile::tempdir().unwrap(), kms, environment: all, process: None };
        agent.start_again();
        agent
    }

    /// Starts it on its socket, which a killed one has left there.
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        let log = File::options().create(true).append(true).open(self.log_path()).unwrap();
        let process = Command::new(std::env::current_exe().unwrap())
            .args(["agent::agent_process", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
            .env_clear()
            .envs([("AWS_ACCESS_KEY_ID", "AKIDTEST"), ("AWS_SECRET_ACCESS_KEY", AWS_SECRET)])
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("HOME", self.home.path()) // no file of whoever runs the tests
            .env("SEALVEC_TEST_SOCKET", self.socket())
            .env("SEALVEC_TEST_KMS", self.kms.to_string())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(process);
        eventually("the agent listens", 20, || {
            let ended = self.process.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "the agent ended: {}", self.log());
            UnixStream::connect(self.socket()).ok()
        });
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.kill().unwrap();
        process.wait().unwrap();
    }

    pub fn socket(&self) -> PathBuf {
        self.home.path().join("agent.sock")
    }

    fn log_path(&self) -> PathBuf {
        self.home.path().join("log")
    }

    /// Everything that it has written.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap()
    }

    /// A new connection.
    pub fn connect(&self) -> Client {
        Client { stream: UnixStream::connect(self.socket()).unwrap(), last_id: 0 }
    }

    /// One call on a connection of its own, answered in time.
    pub fn ask(&self, request: Request) -> Answer {
        self.ask_within(TIME_MAX, request)
    }

    pub fn ask_within(&self, time_max: Duration, request: Request) -> Answer {
        let begun = Instant::now();
        let answer = self.connect().call(time_max, request).unwrap();
        assert!(begun.elapsed() < time_max + SLACK, "took {:?}: {answer:?}", begun.elapsed());
        answer
    }

    pub fn wrap(&self, slot: &Slot, context: KeyContext, kek: &Kek) -> Result<Wrapped, Refusal> {
        let kek = Kek::from_slice(kek.expose()).unwrap();
        match self.ask(Request::Wrap { slot: slot.clone(), context, kek }) {
            Answer::Wrapped(wrapped) => Ok(wrapped),
            other => Err(refused(other)),
        }
    }

    pub fn generate(&self, slot: &Slot, context: KeyContext) -> Result<(Kek, Wrapped), Refusal> {
        match self.ask(Request::Generate { slot: slot.clone(), context }) {
            Answer::Generated(kek, wrapped) => Ok((kek, wrapped)),
            other => Err(refused(other)),
        }
    }

    pub fn unwrap(&self, slot: &Slot, context: KeyContext, wrapped: &Wrapped) -> Result<Kek, Refusal> {
        let Wrapped { key_reference, wrapped, .. } = wrapped.clone();
        match self.ask(Request::Unwrap { slot: slot.clone(), context, key_reference, wrapped }) {
            Answer::Key(kek) => Ok(kek),
            other => Err(refused(other)),
        }
    }

    pub fn rewrap(&self, from: &Slot, to: &Slot, context: KeyContext, wrapped: &Wrapped) -> Result<Wrapped, Refusal> {
        let Wrapped { key_reference, wrapped, .. } = wrapped.clone();
        match self.ask(Request::Rewrap { from: from.clone(), to: to.clone(), context, key_reference, wrapped }) {
            Answer::Wrapped(wrapped) => Ok(wrapped),
            other => Err(refused(other)),
        }
    }

    pub fn check(&self, slot: &Slot) -> Result<(), Refusal> {
        match self.ask(Request::Check { slot: slot.clone() }) {
            Answer::Ok => Ok(()),
            other => Err(refused(other)),
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("log of the agent:\n{}", self.log());
        }
        if self.process.is_some() {
            self.kill();
        }
    }
}

/// One connection.
pub struct Client {
    stream: UnixStream,
    last_id: u64,
}

impl Client {
    pub fn call(&mut self, time_max: Duration, request: Request) -> io::Result<Answer> {
        self.send(time_max, request)?;
        self.stream.set_read_timeout(Some(time_max + SLACK * 10))?;
        let reply = self.receive()?;
        assert!(reply.id == self.last_id || reply.id == 0, "the answer to another call");
        Ok(reply.answer)
    }

    pub fn send(&mut self, time_max: Duration, request: Request) -> io::Result<()> {
        self.last_id += 1;
        let call = Call { id: self.last_id, time_max, request };
        self.send_raw(&call.encode().map_err(io::Error::other)?)
    }

    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    pub fn receive(&mut self) -> io::Result<Reply> {
        let mut length = [0; LENGTH_LEN];
        self.stream.read_exact(&mut length)?;
        let mut frame = vec![0; frame_len(length).map_err(io::Error::other)?];
        self.stream.read_exact(&mut frame)?;
        Reply::decode(&frame).map_err(io::Error::other)
    }
}

pub fn slot(name: &str, provider: &str, options: Value) -> Slot {
    Slot { name: name.into(), provider: provider.into(), options: options.to_string() }
}

pub fn context() -> KeyContext {
    KeyContext::kek(Uuid::random().unwrap())
}

pub fn refused(answer: Answer) -> Refusal {
    match answer {
        Answer::Refused(refusal) => refusal,
        other => panic!("expected a refusal, not {other:?}"),
    }
}

/// That something was refused, with this class and a text that holds `words`.
#[track_caller]
pub fn expect<T>(result: Result<T, Refusal>, class: Class, words: &str) {
    let Err(refusal) = result else { panic!("expected {class:?}, and it succeeded") };
    assert!(refusal.class == class && refusal.text.contains(words), "expected {class:?} with {words:?}: {refusal:?}");
}

/// Not a test: the agent that the others start. Ends with the process that started it.
#[test]
#[ignore = "the process of an agent, started by other tests"]
fn agent_process() {
    let variable = |name: &str| std::env::var(name).unwrap();
    std::thread::spawn(|| {
        let _ = io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    tracing_subscriber::fmt()
        .with_env_filter("warn,aws_config=off,sealvec_agent=trace") // as the sidecar has it
        .with_ansi(false)
        .with_writer(io::stderr)
        .init();
    let kms: Value = serde_json::from_str(&variable("SEALVEC_TEST_KMS")).unwrap_or(json!(null));
    let registry = Registry::from_value(kms).unwrap();
    let age = Duration::from_millis(variable("SEALVEC_TEST_CACHE_MS").parse().unwrap());
    let service = Arc::new(Service::new(registry, Limits { cache_age_max: age, ..Limits::default() }));
    let access = match std::env::var("SEALVEC_TEST_UID") {
        Ok(uid) => Access::of_uids([uid.parse().unwrap()]),
        Err(_) => Access::of_users(&[] as &[&str]).unwrap(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let server = Server::bind(Path::new(&variable("SEALVEC_TEST_SOCKET")), access).unwrap();
        server.serve(service, std::future::pending()).await;
    });
}
