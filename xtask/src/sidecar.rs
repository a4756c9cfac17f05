//! A sidecar of our own: started on a free port against a cluster, and ended with what started it.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::pg::{self, Cluster, Profile};

/// How long a start may take.
const START_MAX: Duration = Duration::from_secs(20);
/// How long a request may take: training a large index, on a busy machine.
const REQUEST_MAX: Duration = Duration::from_secs(600);

/// The program that was built with the extension for this version of Postgres.
pub fn program(version: u32, profile: Profile) -> Result<PathBuf> {
    let program = pg::programs(version, profile).join("sealvec-sidecar");
    ensure!(program.exists(), "there is no {}: run this without --no-build first", program.display());
    Ok(program)
}

/// A running sidecar. Killed on drop.
pub struct Sidecar {
    child: Child,
    /// Where it listens, without a path.
    pub url: String,
    /// What opens everything.
    pub root_key: String,
    /// Its log.
    pub log: PathBuf,
}

impl Sidecar {
    /// Starts `program` on a free port before database `database` of the cluster, with a key service of each name.
    pub fn start(program: &Path, cluster: &Cluster, database: &str, root_key: &str, slots: &[&str]) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let log = cluster.log().with_file_name("sidecar.log");
        let output = File::create(&log).with_context(|| format!("could not create {}", log.display()))?;
        let config = cluster.log().with_file_name("sidecar.yaml");
        let slots: String = slots.iter().map(|slot| format!("    {slot}: {{provider: local}}\n")).collect();
        std::fs::write(&config, format!("kms:\n  registry:\n{slots}"))?;
        let child = Command::new(program)
            .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--config"])
            .arg(&config)
            .env("SEALVEC_DATABASE_URL", format!("{}/{database}", cluster.url()?.trim_end_matches("/postgres")))
            .env("SEALVEC_ROOT_KEY", root_key)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("could not start {}", program.display()))?;
        let mut sidecar = Self { child, url: format!("http://127.0.0.1:{port}"), root_key: root_key.to_owned(), log };
        sidecar.wait()?;
        Ok(sidecar)
    }

    fn wait(&mut self) -> Result<()> {
        let begun = Instant::now();
        let mut client = Client::new(self);
        loop {
            if client.get("/ready").is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the sidecar ended at once ({status}); its log is {}", self.log.display());
            }
            ensure!(begun.elapsed() < START_MAX, "the sidecar is not ready; its log is {}", self.log.display());
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a request was answered.
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

impl Answer {
    /// The body, if the request was done.
    pub fn ok(self) -> Result<Value> {
        ensure!((200..300).contains(&self.status), "the sidecar answered {}: {}", self.status, self.body);
        Ok(self.body)
    }
}

/// One client with connections of its own, kept open.
pub struct Client {
    agent: ureq::Agent,
    url: String,
    key: String,
}

impl Client {
    pub fn new(sidecar: &Sidecar) -> Self {
        let config =
            ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(REQUEST_MAX)).build();
        Self { agent: config.into(), url: sidecar.url.clone(), key: sidecar.root_key.clone() }
    }

    pub fn get(&mut self, path: &str) -> Result<Answer> {
        let response = self.agent.get(format!("{}{path}", self.url)).header("X-API-Key", &self.key).call()?;
        Self::answer(response)
    }

    pub fn post(&mut self, path: &str, body: &Value) -> Result<Answer> {
        self.post_text(path, &body.to_string())
    }

    /// As [`post`](Self::post), of a body that is written already.
    pub fn post_text(&mut self, path: &str, body: &str) -> Result<Answer> {
        let request = self
            .agent
            .post(format!("{}{path}", self.url))
            .header("X-API-Key", &self.key)
            .header("Content-Type", "application/json");
        Self::answer(request.send(body)?)
    }

    fn answer(mut response: ureq::http::Response<ureq::Body>) -> Result<Answer> {
        let status = response.status().as_u16();
        let text = response.body_mut().with_config().limit(1 << 30).read_to_string()?;
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok(Answer { status, body })
    }
}
