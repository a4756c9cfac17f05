//! A private cluster: data directory, socket, log, keys and port under one directory.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use postgres::{Client, NoTls};

use super::server::{Server, as_server_user};
use crate::run::{quiet, step};
use crate::tree;

/// Ports below the kernel's ephemeral range, so that an outgoing connection cannot hold one while a cluster is down.
const PORTS: std::ops::Range<u16> = 21_000..31_000;

/// One cluster's directory. Made by [`Cluster::create`]; a cluster that exists can be opened with no server at hand.
pub struct Cluster {
    pub home: PathBuf,
}

impl Cluster {
    pub fn named(version: u32, name: &str) -> Result<Self> {
        let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
        ensure!(
            plain && !name.starts_with("root-"),
            "expected a cluster name of letters, digits, - and _, not starting with root-: {name:?}"
        );
        Ok(Self { home: tree::clusters()?.join(version.to_string()).join(name) })
    }

    pub fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    pub fn socket(&self) -> PathBuf {
        self.home.join("socket")
    }

    pub fn log(&self) -> PathBuf {
        self.home.join("server.log")
    }

    /// The `local` provider's root key: outside the data directory, or the provider refuses it.
    pub fn root_key(&self) -> PathBuf {
        self.home.join("keys/root.key")
    }

    pub fn exists(&self) -> bool {
        self.data().join("PG_VERSION").exists()
    }

    pub fn port(&self) -> Result<u16> {
        let file = self.home.join("port");
        let text = fs::read_to_string(&file)
            .with_context(|| format!("no cluster at {}: run `cargo xtask pg start` first", self.home.display()))?;
        text.trim().parse().with_context(|| format!("{} holds no port", file.display()))
    }

    pub fn url(&self) -> Result<String> {
        Ok(format!("postgresql://postgres@127.0.0.1:{}/postgres", self.port()?))
    }

    /// A connection over the Unix socket.
    pub fn connect(&self, database: &str) -> Result<Client> {
        postgres::Config::new()
            .host_path(self.socket())
            .port(self.port()?)
            .user("postgres")
            .dbname(database)
            .connect(NoTls)
            .with_context(|| format!("could not connect to {}; log: {}", self.home.display(), self.log().display()))
    }

    /// The postmaster's process id, if it runs.
    pub fn running(&self) -> Option<u32> {
        let text = fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        let pid: u32 = text.lines().next()?.trim().parse().ok()?;
        // A stale file after a crash or reboot may name another program's process.
        let program = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        String::from_utf8_lossy(&program).contains(&*self.data().to_string_lossy()).then_some(pid)
    }

    /// Makes directories and runs initdb, unless done already.
    pub fn create(&self, server: &Server) -> Result<()> {
        if self.exists() {
            return Ok(());
        }
        let parent = self.home.parent().expect("a cluster lies below its version");
        fs::create_dir_all(parent)?;
        if self.home.exists() {
            fs::remove_dir_all(&self.home)?; // an initdb that was cut off
        }
        self.owned_directory(&self.home, 0o755)?;
        self.owned_directory(&self.socket(), 0o755)?;
        self.owned_directory(&self.home.join("keys"), 0o700)?;
        step("initdb", || {
            quiet(
                server
                    .program("initdb")
                    .args([
                        "--auth=trust",
                        "--username=postgres",
                        "--encoding=UTF8",
                        "--locale=C.UTF-8",
                        "--no-sync",
                        "-D",
                    ])
                    .arg(self.data()),
            )
        })?;
        let conf = self.data().join("postgresql.conf");
        let text = fs::read_to_string(&conf)?;
        fs::write(&conf, format!("{text}\ninclude_if_exists = 'xtask.conf'\n"))?;
        Ok(())
    }

    fn owned_directory(&self, dir: &Path, mode: u32) -> Result<()> {
        fs::DirBuilder::new().mode(mode).create(dir).with_context(|| format!("could not create {}", dir.display()))?;
        fs::set_permissions(dir, fs::Permissions::from_mode(mode))?;
        if let Some((uid, gid)) = server_owner()? {
            std::os::unix::fs::chown(dir, Some(uid), Some(gid))?;
        }
        Ok(())
    }

    /// Writes `xtask.conf`; true when it differs from what the cluster was started with.
    pub fn configure(&self, overrides: &[(String, String)]) -> Result<bool> {
        let port = self.settled_port()?;
        let kept = self.home.join("overrides");
        let mut settings: BTreeMap<String, String> = fs::read_to_string(&kept)
            .unwrap_or_default()
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        settings.extend(overrides.iter().cloned());
        fs::write(&kept, settings.iter().map(|(name, value)| format!("{name}={value}\n")).collect::<String>())?;

        let mut conf = String::from("# written by `cargo xtask pg start` at each start; use --set\n");
        let quoted = |value: &str| format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"));
        let ours = [
            ("port", port.to_string()),
            ("listen_addresses", "127.0.0.1".into()),
            ("unix_socket_directories", self.socket().display().to_string()),
            ("jit", "off".into()), // a plan with a disabled node costs 1e10 and would be compiled for 100 ms
            ("sealvec.local_root_key_file", self.root_key().display().to_string()),
        ];
        for (name, value) in ours.iter().filter(|(name, _)| !settings.contains_key(*name)) {
            conf.push_str(&format!("{name} = {}\n", quoted(value)));
        }
        for (name, value) in &settings {
            conf.push_str(&format!("{name} = {}\n", quoted(value)));
        }
        let file = self.data().join("xtask.conf");
        if fs::read_to_string(&file).is_ok_and(|old| old == conf) {
            return Ok(false);
        }
        fs::write(&file, conf)?;
        Ok(true)
    }

    /// The remembered port, or a free one when there is none or another program has taken it.
    fn settled_port(&self) -> Result<u16> {
        if let Ok(port) = self.port()
            && (self.running().is_some() || TcpListener::bind(("127.0.0.1", port)).is_ok())
        {
            return Ok(port);
        }
        let span = PORTS.end - PORTS.start;
        let begin = (std::process::id() as u16).wrapping_mul(37) % span;
        for step in 0..span {
            let port = PORTS.start + (begin + step) % span;
            if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                fs::write(self.home.join("port"), format!("{port}\n"))?;
                return Ok(port);
            }
        }
        bail!("no free port between {} and {}", PORTS.start, PORTS.end)
    }

    pub fn start(&self, server: &Server) -> Result<()> {
        step("starting Postgres", || {
            let log = self.log();
            if !log.exists() {
                File::create(&log)?;
                if let Some((uid, gid)) = server_owner()? {
                    std::os::unix::fs::chown(&log, Some(uid), Some(gid))?;
                }
                fs::set_permissions(&log, fs::Permissions::from_mode(0o644))?;
            }
            let started = quiet(
                server
                    .program("pg_ctl")
                    .args(["start", "--wait", "--timeout=60", "--silent", "-D"])
                    .arg(self.data())
                    .arg("-l")
                    .arg(&log),
            );
            started.map(drop).with_context(|| {
                let text = fs::read(&log).unwrap_or_default();
                let text = String::from_utf8_lossy(&text);
                let lines: Vec<&str> = text.lines().collect();
                format!(
                    "Postgres did not start. End of {}:\n{}",
                    log.display(),
                    lines[lines.len().saturating_sub(15)..].join("\n")
                )
            })
        })
    }

    /// Stops the server if it runs. `mode` is pg_ctl's: fast or immediate.
    pub fn stop(&self, mode: &str) -> Result<bool> {
        if self.running().is_none() {
            return Ok(false);
        }
        let pg_ctl = self.programs()?.join("pg_ctl");
        step("stopping Postgres", || {
            quiet(
                as_server_user(&pg_ctl)
                    .args(["stop", "--wait", "--timeout=60", "--silent", "-m", mode, "-D"])
                    .arg(self.data()),
            )
        })?;
        Ok(true)
    }

    /// Removes the cluster with its keys.
    pub fn remove(&self) -> Result<()> {
        self.stop("immediate")?;
        if self.home.exists() {
            fs::remove_dir_all(&self.home).with_context(|| format!("could not remove {}", self.home.display()))?;
        }
        Ok(())
    }

    /// Remembers which copy of the server runs this cluster and which library it was started with.
    pub fn remember(&self, server: &Server) -> Result<()> {
        fs::write(self.home.join("bin"), server.bin.as_os_str().as_encoded_bytes())?;
        fs::write(self.home.join("library"), library_stamp(server))?;
        Ok(())
    }

    /// Was the running server started with what now lies in `server`?
    pub fn up_to_date(&self, server: &Server) -> bool {
        fs::read(self.home.join("bin")).is_ok_and(|bin| bin == server.bin.as_os_str().as_encoded_bytes())
            && fs::read_to_string(self.home.join("library")).is_ok_and(|stamp| stamp == library_stamp(server))
    }

    /// The program directory of the server that runs this cluster.
    pub fn programs(&self) -> Result<PathBuf> {
        let text = fs::read_to_string(self.home.join("bin"))
            .with_context(|| format!("no cluster at {}: run `cargo xtask pg start` first", self.home.display()))?;
        Ok(PathBuf::from(text))
    }
}

fn library_stamp(server: &Server) -> String {
    match fs::metadata(server.lib.join("sealvec.so")) {
        Ok(meta) => format!("{} {}.{}", meta.len(), meta.mtime(), meta.mtime_nsec()),
        Err(_) => String::from("none"),
    }
}

/// uid and gid of the user that runs servers, when it is not ourselves.
fn server_owner() -> Result<Option<(u32, u32)>> {
    if !tree::is_root() {
        return Ok(None);
    }
    let id = |flag: &str| -> Result<u32> {
        let text = tree::output_of(std::process::Command::new("id").args([flag, "postgres"]))?;
        text.trim().parse().context("`id` printed no number")
    };
    Ok(Some((id("-u")?, id("-g")?)))
}
