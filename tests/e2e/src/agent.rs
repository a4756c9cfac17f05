//! A real key agent: `sealvec-sidecar agent` on a socket of its own.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::cluster::is_root;
use crate::eventually;
use crate::sidecar::program;
use crate::xtask::must;

/// The secret key of its AWS credentials: no log may hold it.
pub const AWS_SECRET: &str = "s3cr3tkeyofatests3cr3tkeyofatest";

/// A running agent that caches nothing. Dropping it ends it; a failing test prints its log first.
pub struct Agent {
    home: tempfile::TempDir,
    user: Option<String>,
    serves: Option<String>,
    process: Option<Child>,
}

impl Agent {
    /// An agent for the user that clusters run as; `endpoint` is where slots made by SQL may send AWS requests. Starts
    /// when told to, so that the socket can be named in the settings of a cluster that is not there yet.
    pub fn new(endpoint: &str) -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o777)).expect("our own directory");
        fs::write(home.path().join("kms.yaml"), format!("kms:\n  endpoints: [\"{endpoint}\"]\n")).expect("written");
        let serves = is_root().then(|| "postgres".to_owned()); // which clusters run as then
        Self { home, user: None, serves, process: None }
    }

    /// From its next start on, runs it as another user; needs root.
    pub fn run_as(&mut self, user: Option<&str>) {
        self.user = user.map(str::to_owned);
    }

    /// From its next start on, whom it serves beside its own user.
    pub fn serve(&mut self, user: Option<&str>) {
        self.serves = user.map(str::to_owned);
    }

    /// Starts it on its socket, which a killed one has left there.
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        let _ = fs::remove_file(self.socket()); // perhaps of another user
        let log =
            File::options().create(true).append(true).open(self.home.path().join("log")).expect("our own directory");
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
        command.arg("agent").arg("--socket").arg(self.socket()).arg("--config").arg(self.home.path().join("kms.yaml"));
        command.args(["--agent-cache-seconds", "0"]);
        if let Some(user) = &self.serves {
            command.args(["--agent-allow-user", user]);
        }
        let process = command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs([("AWS_ACCESS_KEY_ID", "AKIDTEST"), ("AWS_SECRET_ACCESS_KEY", AWS_SECRET)])
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("HOME", self.home.path()) // no file of whoever runs the tests
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the agent was built");
        self.process = Some(process);
        eventually("the agent listens", 20, || {
            let ended = self.process.as_mut().expect("just started").try_wait().expect("our own child");
            assert!(ended.is_none(), "the agent ended: {}", self.log());
            UnixStream::connect(self.socket()).ok()
        });
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.kill().expect("our own child");
        process.wait().expect("our own child");
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.home.path().join("agent.sock")
    }

    /// As a line of postgresql.conf.
    pub fn setting(&self) -> String {
        format!("sealvec.agent_socket={}", Path::display(&self.socket()))
    }

    /// Everything that it has written.
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
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
