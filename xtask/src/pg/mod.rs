//! `cargo xtask pg`: private clusters with the extension installed.

pub mod cluster;
pub mod debian13;
pub mod extension;
pub mod server;
pub mod wheel;

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use postgres::error::SqlState;

use crate::run::step;
use crate::tree;
pub use cluster::Cluster;
pub use server::Server;

#[derive(Subcommand)]
pub enum Pg {
    /// Build and install the extension, start the cluster, print its connection URL as the last line.
    ///
    /// Makes what is missing: Debian packages (as root), a private copy of the server under target/pg, the cluster,
    /// and the root key of the `local` provider. Restarts the server when the library or a setting changed.
    Start {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        how: How,
    },
    /// Stop the cluster; its data stays.
    Stop {
        #[command(flatten)]
        which: Which,
        /// Stop every cluster of every version of this tree.
        #[arg(long)]
        all: bool,
        /// Also delete the cluster, its data and its keys.
        #[arg(long)]
        remove: bool,
    },
    /// Open psql on the cluster. Arguments after -- go to psql.
    Psql {
        #[command(flatten)]
        which: Which,
        #[arg(last = true, value_name = "PSQL_ARGUMENT")]
        arguments: Vec<String>,
    },
    /// Print only the connection URL.
    Url {
        #[command(flatten)]
        which: Which,
    },
    /// Print the cluster's state and paths, one `name value` a line. Exit code 1 when it is not running.
    Status {
        #[command(flatten)]
        which: Which,
    },
}

/// Which cluster.
#[derive(Args, Clone)]
pub struct Which {
    /// Major version of Postgres: 15 is Debian 12's, 16 and 18 come from a wheel on PyPI, 17 from Debian 13.
    #[arg(long, value_name = "VERSION", default_value_t = 15, value_parser = clap::value_parser!(u32).range(15..=18))]
    pub pg: u32,
    /// Name of the cluster. Several may run at once.
    #[arg(long, default_value = "main")]
    pub name: String,
}

/// How to build and start it.
#[derive(Args, Clone)]
pub struct How {
    /// Build profile of the extension.
    #[arg(long, value_enum, default_value_t = Profile::Dev)]
    pub profile: Profile,
    /// Use the extension as it was installed last; build nothing.
    #[arg(long)]
    pub no_build: bool,
    /// A postgresql.conf setting, kept for later starts. May be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    pub settings: Vec<(String, String)>,
    /// Delete the cluster first and begin with an empty one.
    #[arg(long)]
    pub fresh: bool,
    /// Build the sidecar as well.
    #[arg(skip)]
    pub sidecar: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    Dev,
    Release,
}

impl Profile {
    pub fn name(self) -> &'static str {
        match self {
            Profile::Dev => "dev",
            Profile::Release => "release",
        }
    }
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("expected KEY=VALUE, not {text:?}"))?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

impl Pg {
    pub fn run(self) -> Result<()> {
        match self {
            Pg::Start { which, how } => println!("{}", start(&which, &how)?.url()?),
            Pg::Stop { which, all, remove } => {
                let clusters = if all { every_cluster()? } else { vec![Cluster::named(which.pg, &which.name)?] };
                for cluster in clusters {
                    if !cluster.stop("fast")? {
                        eprintln!("  {} was not running", cluster.home.display());
                    }
                    if remove {
                        cluster.remove()?;
                    }
                }
            }
            Pg::Psql { which, arguments } => {
                let cluster = running(&which)?;
                let url = cluster.url()?;
                let error =
                    std::process::Command::new(cluster.programs()?.join("psql")).arg(url).args(arguments).exec();
                return Err(error).context("could not run psql");
            }
            Pg::Url { which } => println!("{}", Cluster::named(which.pg, &which.name)?.url()?),
            Pg::Status { which } => {
                let cluster = Cluster::named(which.pg, &which.name)?;
                let pid = cluster.running();
                println!(
                    "state {}",
                    if pid.is_some() {
                        "running"
                    } else if cluster.exists() {
                        "stopped"
                    } else {
                        "absent"
                    }
                );
                if cluster.exists() {
                    println!("pid {}", pid.map_or_else(|| String::from("-"), |pid| pid.to_string()));
                    println!("url {}", cluster.url()?);
                    println!("port {}", cluster.port()?);
                    println!("bin {}", cluster.programs()?.display());
                    println!("data {}", cluster.data().display());
                    println!("socket {}", cluster.socket().display());
                    println!("log {}", cluster.log().display());
                    println!("root_key {}", cluster.root_key().display());
                }
                if pid.is_none() {
                    std::process::exit(1);
                }
            }
        }
        Ok(())
    }
}

/// Builds the extension and puts it into the private copy of the server.
pub fn install(version: u32, profile: Profile) -> Result<Server> {
    let how = How { profile, no_build: false, settings: Vec::new(), fresh: false, sidecar: false };
    prepare(version, &how).map(|(server, _)| server)
}

/// The private copy, and whether the extension is in it.
fn prepare(version: u32, how: &How) -> Result<(Server, bool)> {
    let (toolchain, profile) = (server::toolchain(version)?, how.profile.name());
    // Tests start several clusters at once, and all install into the same copy.
    let _lock = lock(&format!("{version}-{profile}"))?;
    let server = server::private_copy(&toolchain, profile)?;
    if !extension::present() {
        eprintln!(
            "note: no sealvec.control and src/lib.rs in {}: starting without the extension",
            tree::root().display()
        );
        return Ok((server, false));
    }
    if !how.no_build {
        let library = extension::build(&toolchain, profile, how.sidecar)?;
        extension::install(&server, &library)?;
    }
    let installed = server.lib.join("sealvec.so").exists();
    Ok((server, installed))
}

/// Where what was built for this version lies.
pub fn programs(version: u32, profile: Profile) -> PathBuf {
    extension::directory(version, profile.name())
}

/// Brings a cluster up with the extension installed and the root key made.
pub fn start(which: &Which, how: &How) -> Result<Cluster> {
    let (server, installed) = prepare(which.pg, how)?;
    let cluster = Cluster::named(which.pg, &which.name)?;
    if how.fresh {
        cluster.remove()?;
    }
    cluster.create(&server)?;
    let reconfigured = cluster.configure(&how.settings)?;
    if cluster.running().is_some() && (reconfigured || !cluster.up_to_date(&server)) {
        cluster.stop("fast")?;
    }
    if cluster.running().is_none() {
        cluster.remember(&server)?;
        cluster.start(&server)?;
    }
    if installed && !cluster.root_key().exists() {
        make_root_key(&cluster)?;
    }
    Ok(cluster)
}

/// Calls `sealvec.init_root_key()` in a database of its own; the file stays when the database goes.
fn make_root_key(cluster: &Cluster) -> Result<()> {
    step("making the root key of the local provider", || {
        const DATABASE: &str = "xtask_root_key";
        let mut admin = cluster.connect("postgres")?;
        admin.batch_execute(&format!("DROP DATABASE IF EXISTS {DATABASE}"))?;
        admin.batch_execute(&format!("CREATE DATABASE {DATABASE}"))?;
        let made = (|| -> Result<()> {
            let mut client = cluster.connect(DATABASE)?;
            client.batch_execute("CREATE EXTENSION sealvec").context("CREATE EXTENSION sealvec failed")?;
            match client.batch_execute("SELECT sealvec.init_root_key()") {
                Err(error) if error.code() == Some(&SqlState::UNDEFINED_FUNCTION) => {
                    eprintln!("note: this tree has no sealvec.init_root_key() yet: no root key made");
                    Ok(())
                }
                other => other.context("sealvec.init_root_key() failed"),
            }
        })();
        admin.batch_execute(&format!("DROP DATABASE {DATABASE}"))?;
        made
    })
}

fn running(which: &Which) -> Result<Cluster> {
    let cluster = Cluster::named(which.pg, &which.name)?;
    if cluster.running().is_none() {
        bail!(
            "cluster {} of Postgres {} is not running: `cargo xtask pg start --pg {1} --name {0}` starts it",
            which.name,
            which.pg
        );
    }
    Ok(cluster)
}

fn every_cluster() -> Result<Vec<Cluster>> {
    let mut clusters = Vec::new();
    for version in fs::read_dir(tree::clusters()?)? {
        let version = version?.path();
        if !version.is_dir() {
            continue;
        }
        for home in fs::read_dir(version)? {
            let cluster = Cluster { home: home?.path() };
            if cluster.exists() {
                clusters.push(cluster);
            }
        }
    }
    Ok(clusters)
}

/// Held until dropped; other processes of this tree that ask for the same name wait.
fn lock(name: &str) -> Result<File> {
    let path = tree::clusters()?.join(format!("lock-{name}"));
    let file = File::create(&path)?;
    file.lock().with_context(|| format!("could not lock {}", path.display()))?;
    Ok(file)
}
