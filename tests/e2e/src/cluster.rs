//! A private cluster for one test: started by xtask, removed when the test ends.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use postgres::{Client, Config, NoTls};

use crate::xtask::{must, output, version, xtask};
use crate::{eventually, said};

/// A cluster with database `e2e` and the extension in it. Dropping it removes it with its data; a failing test prints
/// the end of the server's log first. With `SEALVEC_E2E_KEEP` set it stays.
pub struct Cluster {
    name: String,
    paths: HashMap<String, String>,
}

impl Cluster {
    /// An empty cluster of its own. `settings` are `name=value` lines of postgresql.conf.
    pub fn start(name: &str, settings: &[&str]) -> Self {
        let mut cluster = Self { name: format!("e2e-{name}"), paths: HashMap::new() };
        let mut arguments = vec!["--fresh".to_owned()];
        for setting in settings {
            arguments.extend(["--set".to_owned(), (*setting).to_owned()]);
        }
        cluster.up(&arguments);
        let mut admin = cluster.connect_to("postgres");
        admin.batch_execute("CREATE DATABASE e2e").expect("a new cluster takes a database");
        cluster.client().batch_execute("CREATE EXTENSION sealvec").expect("the extension is installed");
        cluster
    }

    fn up(&mut self, more: &[String]) {
        let mut arguments = vec!["pg", "start", "--pg", &*version(), "--name", &*self.name]
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>();
        // `cargo xtask test` builds and installs once and says so by this variable; by hand each start looks.
        if let Ok(profile) = std::env::var("SEALVEC_E2E_PROFILE") {
            arguments.extend(["--no-build".into(), "--profile".into(), profile]);
        }
        arguments.extend(more.iter().cloned());
        xtask(&arguments);
        let status = xtask(["pg", "status", "--pg", &*version(), "--name", &*self.name]);
        self.paths =
            status.lines().filter_map(|line| line.split_once(' ')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    }

    /// Starts it again after [`Cluster::stop`] or [`Cluster::kill`].
    pub fn start_again(&mut self) {
        // After a kill the old backends may hold the shared memory for a moment, and the new postmaster refuses.
        eventually("the server starts again", 60, || {
            let mut arguments = vec!["pg".to_owned(), "start".into(), "--no-build".into()];
            arguments.extend(["--pg".into(), version(), "--name".into(), self.name.clone()]);
            if let Ok(profile) = std::env::var("SEALVEC_E2E_PROFILE") {
                arguments.extend(["--profile".into(), profile]);
            }
            output(&arguments).status.success().then_some(())
        });
        self.up(&[]);
    }

    /// Stops it with a checkpoint: all pages are in files afterwards.
    pub fn stop(&self) {
        xtask(["pg", "stop", "--pg", &*version(), "--name", &*self.name]);
    }

    /// `kill -9` of the postmaster.
    pub fn kill(&self) {
        must(Command::new("kill").args(["-9", self.path_text("pid")]));
    }

    /// A session of the superuser in database `e2e`.
    pub fn client(&self) -> Client {
        self.connect_to("e2e")
    }

    /// A session of the superuser in `database`.
    pub fn connect_to(&self, database: &str) -> Client {
        self.connect_as("postgres", database)
    }

    /// A session of `user` in `database`.
    pub fn connect_as(&self, user: &str, database: &str) -> Client {
        self.config(database).user(user).connect(NoTls).unwrap_or_else(|error| {
            panic!("could not connect to {}: {}\n{}", self.name, said(&error), self.log_end());
        })
    }

    /// How to connect over the Unix socket.
    pub fn config(&self, database: &str) -> Config {
        let mut config = Config::new();
        config
            .host_path(self.path_text("socket"))
            .port(self.port())
            .user("postgres")
            .dbname(database)
            .connect_timeout(std::time::Duration::from_secs(10));
        config
    }

    /// The TCP port on loopback.
    pub fn port(&self) -> u16 {
        self.path_text("port").parse().expect("a port is a number")
    }

    /// `bin`, `data`, `socket`, `log` or `root_key`.
    pub fn path(&self, name: &str) -> &Path {
        Path::new(self.path_text(name))
    }

    fn path_text(&self, name: &str) -> &str {
        self.paths.get(name).unwrap_or_else(|| panic!("xtask pg status printed no {name}"))
    }

    /// The file of a relation's first segment.
    pub fn file(&self, client: &mut Client, relation: &str) -> PathBuf {
        let path: String = crate::one(client, &format!("SELECT pg_relation_filepath('{relation}')"));
        self.path("data").join(path)
    }

    /// A client program of this server (psql, pg_dump, …) with connection options to `database`.
    pub fn program(&self, name: &str, database: &str) -> Command {
        let mut command = Command::new(self.path("bin").join(name));
        command
            .args(["-h", self.path_text("socket"), "-p", self.path_text("port"), "-U", "postgres", "-d", database])
            .env("LC_ALL", "C.UTF-8");
        command
    }

    /// A server program, as the user that owns the cluster: Postgres refuses root.
    pub fn server_program(&self, name: &str) -> Command {
        let program = self.path("bin").join(name);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--", "env", "-u", "RUST_BACKTRACE"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.env_remove("RUST_BACKTRACE").env("LC_ALL", "C.UTF-8").current_dir("/");
        command
    }

    /// The cluster's directory: what is made below it goes with it.
    pub fn home(&self) -> &Path {
        self.path("data").parent().expect("the data directory lies in the cluster's")
    }

    /// A directory below [`Cluster::home`] that the server's user owns.
    pub fn owned_directory(&self, name: &str) -> PathBuf {
        let dir = self.home().join(name);
        fs::create_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        if is_root() {
            must(Command::new("chown").arg("postgres:postgres").arg(&dir));
        }
        must(Command::new("chmod").arg("0700").arg(&dir));
        dir
    }

    /// Everything that the server has logged.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.path("log")).unwrap_or_default()).into_owned()
    }

    /// No crash, no assertion, no leaked buffer or snapshot since the cluster was made.
    pub fn log_is_clean(&self) {
        for line in self.log().lines() {
            for bad in ["PANIC:", "was terminated by signal", "refcount leak", "leaked", "TRAP:", "still referenced"] {
                assert!(!line.contains(bad), "the server logged: {line}");
            }
        }
    }

    fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        format!("end of its log:\n{}", lines[lines.len().saturating_sub(25)..].join("\n"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() && self.paths.contains_key("log") {
            eprintln!("cluster {}, {}", self.name, self.log_end());
        }
        if std::env::var_os("SEALVEC_E2E_KEEP").is_none() {
            let removed = output(["pg", "stop", "--remove", "--pg", &*version(), "--name", &*self.name]);
            if !removed.status.success() {
                eprintln!("could not remove {}: {}", self.name, String::from_utf8_lossy(&removed.stderr));
            }
        }
    }
}

/// Are we root?
pub fn is_root() -> bool {
    must(Command::new("id").arg("-u")).trim() == "0"
}
