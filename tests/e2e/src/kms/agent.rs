//! A real `sealvec-sidecar agent` process, which the servers of clusters may ask.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::cluster::is_root;
use crate::eventually;
use crate::sidecar::program;
use crate::xtask::{must, target};

/// The secret key of [`aws_credentials`]: no log may hold it.
pub const AWS_SECRET: &str = "s3cr3tkeyofatests3cr3tkeyofatest";

/// Variables for an agent that asks moto, which takes any.
pub fn aws_credentials() -> [(&'static str, String); 2] {
    [("AWS_ACCESS_KEY_ID", "AKIDTEST".to_owned()), ("AWS_SECRET_ACCESS_KEY", AWS_SECRET.to_owned())]
}

/// A running key agent. Dropping it ends the process; a failing test prints the end of its log first.
pub struct KeyAgent {
    name: String,
    home: tempfile::TempDir,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    user: Option<String>,
    serves: Option<String>,
    process: Option<Child>,
}

impl KeyAgent {
    /// With this `kms` section of the YAML file, these flags after `agent`, and these variables alone: AWS credentials, PINs, tokens,
    /// `SOFTHSM2_CONF`.
    pub fn start(name: &str, kms: &Value, arguments: &[&str], environment: &[(&str, String)]) -> Self {
        // A socket's path has 107 bytes, and user postgres must be able to reach it.
        let home = tempfile::Builder::new().prefix("sealvec-agent-").tempdir_in("/tmp").expect("/tmp can be written");
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o777)).expect("it is ours"); // see run_as
        let config = home.path().join("kms.yaml");
        fs::write(&config, serde_json::json!({"kms": kms}).to_string()).expect("written"); // JSON is YAML
        let mut all = vec!["--config".to_owned(), config.display().to_string()];
        all.extend(arguments.iter().map(|&word| word.to_owned()));
        let environment = environment.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
        let serves = is_root().then(|| "postgres".to_owned()); // which clusters run as then
        let name = name.to_owned();
        let mut agent = Self { name, home, arguments: all, environment, user: None, serves, process: None };
        let _ = fs::remove_file(agent.log_path());
        agent.start_again();
        agent
    }

    /// From its next start on, runs it as another user; needs root.
    pub fn run_as(&mut self, user: Option<&str>) {
        self.user = user.map(str::to_owned);
    }

    /// From its next start on, whom it serves beside its own user.
    pub fn serve(&mut self, user: Option<&str>) {
        self.serves = user.map(str::to_owned);
    }

    /// Starts it, on the socket that it had, which a killed one has left there.
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        let _ = fs::remove_file(self.socket()); // perhaps of another user
        let log = File::options().create(true).append(true).open(self.log_path()).expect("target/ can be written");
        let mut command = match &self.user {
            Some(user) => {
                let copy = self.home.path().join("sealvec-sidecar"); // target/ may be closed to others
                fs::copy(program(), &copy).expect("a copy");
                let group = must(Command::new("id").args(["-g", user]));
                let mut command = Command::new("setpriv");
                command.args(["--reuid", user, "--regid", group.trim(), "--clear-groups", "--"]).arg(copy);
                command
            }
            None => Command::new(program()),
        };
        command.args(["agent", "--socket"]).arg(self.socket()).args(&self.arguments);
        if let Some(user) = &self.serves {
            command.args(["--agent-allow-user", user]);
        }
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("HOME", self.home.path()) // no file of whoever runs the tests
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.process = Some(command.spawn().expect("the sidecar was built"));
        eventually("the key agent listens", 30, || {
            let ended = self.process.as_mut().expect("just started").try_wait().expect("our own child");
            assert!(ended.is_none(), "the key agent ended\n{}", self.log());
            UnixStream::connect(self.socket()).ok()
        });
    }

    /// For `sealvec.agent_socket`.
    pub fn socket(&self) -> PathBuf {
        self.home.path().join("agent.sock")
    }

    /// As a line of postgresql.conf.
    pub fn setting(&self) -> String {
        format!("sealvec.agent_socket={}", self.socket().display())
    }

    /// SIGTERM, and its socket is gone.
    pub fn stop(&mut self) {
        let mut process = self.process.take().expect("it runs");
        must(Command::new("kill").arg(process.id().to_string()));
        assert!(process.wait().expect("our own child").success(), "{}", self.log());
    }

    /// SIGKILL: its socket stays.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.kill().expect("our own child");
        process.wait().expect("our own child");
    }

    /// Everything that it has written, over all its starts.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    fn log_path(&self) -> PathBuf {
        let logs = target().join("test-logs");
        fs::create_dir_all(&logs).expect("target/ can be written");
        logs.join(format!("agent-{}.log", self.name))
    }
}

impl Drop for KeyAgent {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("key agent {}:\n{}", self.name, self.log());
        }
        if self.process.is_some() {
            self.kill();
        }
        let _ = fs::remove_dir_all(self.home.path());
    }
}
