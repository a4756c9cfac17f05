//! A hot standby of a cluster: base backup, streaming, promotion.

use std::path::PathBuf;
use std::process::Command;

use postgres::{Client, Config, NoTls};

use crate::cluster::Cluster;
use crate::xtask::must;

/// A server that replays what `primary` writes. Dropping it stops it; its data goes with the primary's.
pub struct Standby<'a> {
    primary: &'a Cluster,
    data: PathBuf,
    log: PathBuf,
    port: u16,
}

impl<'a> Standby<'a> {
    /// Takes a base backup and starts from it.
    pub fn start(primary: &'a Cluster) -> Self {
        let data = primary.owned_directory("standby");
        must(
            primary
                .server_program("pg_basebackup")
                .arg("-h")
                .arg(primary.path("socket"))
                .args(["-p", &primary.port().to_string(), "-U", "postgres", "--checkpoint=fast", "-R", "-D"])
                .arg(&data),
        );
        // Free for the moment, as the port that xtask chose for the primary was.
        let port =
            std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
        let standby = Self { primary, log: data.join("standby.log"), data, port };
        must(
            standby
                .pg_ctl("start")
                .arg("-l")
                .arg(&standby.log)
                .arg("-o")
                .arg(format!("-c port={port} -c max_standby_streaming_delay=-1 -c hot_standby_feedback=off")),
        );
        standby
    }

    fn pg_ctl(&self, what: &str) -> Command {
        let mut command = self.primary.server_program("pg_ctl");
        command.args([what, "--wait", "--silent", "--timeout=60", "-D"]).arg(&self.data);
        command
    }

    /// How to connect.
    pub fn config(&self, database: &str) -> Config {
        let mut config = Config::new();
        config.host_path(self.primary.path("socket")).port(self.port).user("postgres").dbname(database);
        config
    }

    /// A session in database `e2e`.
    pub fn client(&self) -> Client {
        self.config("e2e").connect(NoTls).unwrap_or_else(|error| panic!("standby: {error}\n{}", self.log()))
    }

    /// Waits until all that the primary has written is replayed.
    pub fn catch_up(&self) {
        let mut primary = self.primary.client();
        let wanted: String = crate::one(&mut primary, "SELECT pg_current_wal_insert_lsn()::text");
        let mut here = self.client();
        crate::eventually("the standby replays everything", 120, || {
            let done: bool =
                here.query_one("SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn", &[&wanted]).ok()?.get(0);
            done.then_some(())
        });
    }

    /// Makes it a primary.
    pub fn promote(&self) {
        must(&mut self.pg_ctl("promote"));
    }

    /// Everything that it has logged.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Standby<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("standby, end of its log:\n{}", lines[lines.len().saturating_sub(20)..].join("\n"));
        }
        let _ = self.pg_ctl("stop").args(["-m", "immediate"]).output();
    }
}
