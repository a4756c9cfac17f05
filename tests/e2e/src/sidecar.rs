//! A real `sealvec-sidecar` process in front of a cluster.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::xtask::{build, must, target};
use crate::{Cluster, Http, run};

/// The role that the sidecar logs in as: no superuser, and what it may do is what the README tells to grant.
pub const ROLE: &str = "sidecar";
/// The root key of every sidecar of a test.
pub const ROOT_KEY: &str = "root-key-of-a-test-5ea1edc0ffee0123456789";
/// A slot of the key registry, on the `local` provider: the one that the documents' example names.
pub const SLOT: &str = "prod-aws";

/// A running sidecar. Dropping it ends the process; a failing test prints the end of its log first.
pub struct Sidecar {
    name: String,
    port: u16,
    database: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    process: Option<Child>,
}

impl Sidecar {
    /// Makes its role in the cluster's database `e2e` and starts it on a free port. `arguments` are flags after
    /// `serve`, beyond those that say where to listen and where the database is.
    pub fn start(cluster: &Cluster, name: &str, arguments: &[&str]) -> Self {
        Self::start_with(cluster, name, arguments, &[])
    }

    /// Like [`Sidecar::start`], with environment variables of its own.
    pub fn start_with(cluster: &Cluster, name: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let kms = serde_json::json!({"registry": {SLOT: {"provider": "local"}}});
        Self::start_on(cluster, name, &kms, arguments, environment)
    }

    /// With another `kms` section of its file than the one slot.
    pub fn start_on(
        cluster: &Cluster,
        name: &str,
        kms: &serde_json::Value,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        run(
            &mut cluster.client(),
            &format!(
                "DO $$ BEGIN
                     IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{ROLE}') THEN CREATE ROLE {ROLE} LOGIN; END IF;
                 END $$;
                 GRANT CREATE ON SCHEMA sealvec_data TO {ROLE};
                 GRANT EXECUTE ON FUNCTION sealvec.create_index, sealvec.create_kms, sealvec.drop_kms TO {ROLE}"
            ),
        );
        // Bound and given back: another process may take it in between, and the start below then says so.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port();
        let config = cluster.home().join(format!("sidecar-{name}.yaml"));
        fs::write(&config, serde_json::json!({"kms": kms}).to_string()).expect("written"); // JSON is YAML
        let mut all = vec!["--config".to_owned(), config.display().to_string()];
        all.extend(arguments.iter().map(|&word| word.to_owned()));
        let mut sidecar = Self {
            name: name.to_owned(),
            port,
            database: format!("postgresql://{ROLE}@127.0.0.1:{}/e2e", cluster.port()),
            arguments: all,
            environment: environment.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect(),
            process: None,
        };
        let _ = fs::remove_file(sidecar.log_path());
        sidecar.start_again();
        sidecar
    }

    /// Starts it, on the port that it had.
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        let log = File::options().create(true).append(true).open(self.log_path()).expect("target/ can be written");
        let mut command = Command::new(program());
        command
            .arg("serve")
            .args(["--listen", &self.address(), "--database-url", &self.database])
            .args(&self.arguments)
            .env_clear()
            .env("SEALVEC_ROOT_KEY", ROOT_KEY)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log);
        self.process = Some(command.spawn().expect("the sidecar was built"));
        self.wait_until_healthy();
    }

    fn wait_until_healthy(&mut self) {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.process.as_mut().expect("just started").try_wait().expect("our own child") {
                panic!("the sidecar ended with {status}\n{}", self.log_end());
            }
            if self.http().get("/v1/health").is_ok_and(|answer| answer.status == 200) {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "the sidecar is not healthy\n{}", self.log_end());
            std::thread::sleep(Duration::from_millis(25));
        }
    }

    /// SIGTERM; panics if it does not end well within 20 s.
    pub fn stop(&mut self) {
        let mut process = self.process.take().expect("it runs");
        must(Command::new("kill").arg(process.id().to_string()));
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(20) {
            if let Some(status) = process.try_wait().expect("our own child") {
                assert!(status.success(), "the sidecar ended with {status} after SIGTERM\n{}", self.log_end());
                return;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        let _ = process.kill();
        let _ = process.wait();
        panic!("the sidecar still ran 20 s after SIGTERM\n{}", self.log_end());
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.kill().expect("our own child");
        process.wait().expect("our own child");
    }

    /// `http://127.0.0.1:port`, without the routes' `/v1`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// `127.0.0.1:port`
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A client with the root key.
    pub fn http(&self) -> Http {
        Http::new(self.address(), Some(ROOT_KEY))
    }

    /// Everything that it has written, over all its starts.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    pub fn log_path(&self) -> PathBuf {
        let logs = target().join("test-logs");
        fs::create_dir_all(&logs).expect("target/ can be written");
        logs.join(format!("sidecar-{}.log", self.name))
    }

    fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        format!("end of {}:\n{}", self.log_path().display(), lines[lines.len().saturating_sub(25)..].join("\n"))
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("sidecar {}, {}", self.name, self.log_end());
        }
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Built once, with the profile that the extension is tested in.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        build("sealvec-sidecar", &std::env::var("SEALVEC_E2E_PROFILE").unwrap_or_else(|_| "dev".into()))
    })
}
