//! What the operator says: flags over environment over YAML over defaults, checked before anything starts.

mod args;
mod file;
mod secret;
mod slot;

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::auth::Auth;
use crate::db::PoolSettings;
use crate::limits::Limits;

pub use args::LogFormat;
use args::{Cli, Command, ServeArgs};
pub use secret::{Secret, read_file as read_secret_file};
pub use slot::{Provider, Slot};

const PORT: u16 = 8000;
const ROOT_KEY: &str = "SEALVEC_ROOT_KEY";
const API_KEY: &str = "CYBORGDB_API_KEY";
/// A root key shorter than this can be guessed; it is taken, with a warning.
const ROOT_KEY_LEN_MIN: usize = 16;
/// Where the file is looked for when none is named.
const PLACES: [&str; 3] = ["cyborgdb.yaml", "cyborgdb.yml", "/etc/cyborgdb/cyborgdb.yaml"];

/// Older names of variables: the original's, and the one that every platform sets.
const ALIASES: [(&str, &str); 5] = [
    ("SEALVEC_DATABASE_URL", "DATABASE_URL"),
    (ROOT_KEY, "CYBORGDB_SERVICE_ROOT_KEY"),
    ("SEALVEC_TLS_CERT", "SSL_CERT_PATH"),
    ("SEALVEC_TLS_KEY", "SSL_KEY_PATH"),
    ("SEALVEC_LOG_LEVEL", "CYBORGDB_SERVICE_LOG_LEVEL"),
];

/// What is to be done.
#[derive(Debug)]
pub enum Job {
    /// `serve`
    Serve(Box<Settings>),
    /// `agent`
    #[cfg(feature = "agent")]
    Agent(AgentJob),
}

/// Everything `agent` needs.
#[cfg(feature = "agent")]
#[derive(Debug)]
pub struct AgentJob {
    /// The agent.
    pub agent: AgentSettings,
    /// `error` to `trace`.
    pub log_level: String,
    /// Text or JSON.
    pub log_format: LogFormat,
}

/// A key agent.
#[cfg(feature = "agent")]
#[derive(Debug)]
pub struct AgentSettings {
    /// Where it listens.
    pub socket: PathBuf,
    /// Who may ask.
    pub access: sealvec_agent::Access,
    /// How long it keeps keys.
    pub limits: sealvec_agent::Limits,
    /// What it knows of key services.
    pub registry: sealvec_agent::Registry,
}

/// Everything `serve` needs.
#[derive(Debug)]
pub struct Settings {
    /// Where to listen.
    pub listen: SocketAddr,
    /// A listener of its own for `/metrics`; without it they are on `listen`.
    pub metrics_listen: Option<SocketAddr>,
    /// Connection string; may hold a password.
    pub database_url: Secret,
    /// Password that overrides the connection string's.
    pub database_password: Option<Secret>,
    /// Certificates that the database's must lead to; without it the system's.
    pub database_ca: Option<PathBuf>,
    /// The pool.
    pub pool: PoolSettings,
    /// Limits of a request.
    pub limits: Limits,
    /// How long running requests may go on after the signal to stop.
    pub shutdown_max: Duration,
    /// HTTPS, or HTTP if absent.
    pub tls: Option<TlsFiles>,
    /// Origins whose scripts may call; none by default.
    pub cors_origins: Vec<String>,
    /// `error` to `trace`, or directives of tracing-subscriber.
    pub log_level: String,
    /// Text or JSON.
    pub log_format: LogFormat,
    /// Who may call.
    pub auth: Auth,
    /// Slots of the key registry, by name.
    pub slots: Vec<Slot>,
    /// A key agent beside the server, if it is asked for.
    #[cfg(feature = "agent")]
    pub agent: Option<AgentSettings>,
    /// Directory of embedding models.
    pub model_dir: PathBuf,
    /// Threads of the model; its own choice if absent.
    pub model_threads: Option<NonZeroUsize>,
    /// What is allowed but should be known; logged once at the start.
    pub warnings: Vec<String>,
}

/// Certificate chain and private key, PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Chain, leaf first.
    pub cert: PathBuf,
    /// PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

/// Why the server does not start. Names settings, never their values.
#[derive(Debug)]
pub enum ConfigError {
    /// A flag, or a request for help: clap prints it.
    Usage(clap::Error),
    /// Anything else.
    Invalid(String),
}

impl From<String> for ConfigError {
    fn from(message: String) -> Self {
        Self::Invalid(message)
    }
}

/// Reads arguments (the first is the program's name), environment and file.
///
/// # Errors
/// See [`ConfigError`].
pub fn read(args: impl IntoIterator<Item = String>, env: &dyn Fn(&str) -> Option<String>) -> Result<Job, ConfigError> {
    let args: Vec<String> = args.into_iter().collect();
    let env = &|name: &str| {
        let set = |name: &str| env(name).filter(|value| !value.is_empty());
        let older = ALIASES.iter().find(|(new, _)| *new == name).and_then(|(_, old)| set(old));
        set(name).or(older)
    };
    let cli = Cli::parse(&args, env, None).map_err(ConfigError::Usage)?;
    let file = match file::locate(path_of_file(&cli), &PLACES)? {
        Some(path) => file::read(&path, env)?,
        None => file::File::default(),
    };
    let cli = Cli::parse(&args, env, Some(&file)).map_err(ConfigError::Usage)?;
    match cli.command {
        Command::Serve(args) => settle(*args, env, file).map(Box::new).map(Job::Serve),
        #[cfg(feature = "agent")]
        Command::Agent(args) => {
            let agent = settle_agent(args.socket, args.limits, file.registry)?;
            Ok(Job::Agent(AgentJob { agent, log_level: args.log_level, log_format: args.log_format }))
        }
    }
}

fn path_of_file(cli: &Cli) -> Option<&Path> {
    match &cli.command {
        Command::Serve(args) => args.config.as_deref(),
        #[cfg(feature = "agent")]
        Command::Agent(args) => args.config.as_deref(),
    }
}

#[cfg(feature = "agent")]
fn settle_agent(
    socket: PathBuf,
    limits: args::AgentLimits,
    registry: sealvec_agent::Registry,
) -> Result<AgentSettings, ConfigError> {
    Ok(AgentSettings {
        socket,
        access: sealvec_agent::Access::of_users(&limits.agent_allow_user)?,
        limits: sealvec_agent::Limits {
            cache_age_max: Duration::from_secs(limits.agent_cache_seconds),
            cache_uses_max: limits.agent_cache_uses,
        },
        registry,
    })
}

fn settle(args: ServeArgs, env: &dyn Fn(&str) -> Option<String>, file: file::File) -> Result<Settings, ConfigError> {
    let mut warnings = file.warnings.clone();
    let secret = |name: &str| env(name).or_else(|| file.setting(name).map(str::to_owned)).map(Secret::new);
    let root_key = match &args.root_key_file {
        Some(path) => Some(secret::read_file(path)?),
        None => secret(ROOT_KEY),
    };
    let auth = settle_auth(root_key, secret(API_KEY), args.require_api_key, &mut warnings)?;
    let database_url = args.database_url.map(Secret::new).ok_or_else(|| {
        "no database: set --database-url or SEALVEC_DATABASE_URL, such as postgres://user@host:5432/name".to_owned()
    })?;
    let database_password = args.database_password_file.as_deref().map(secret::read_file).transpose()?;
    let tls = match (args.tls_cert, args.tls_key) {
        (Some(cert), Some(key)) => Some(TlsFiles { cert, key }),
        (None, None) => None,
        _ => {
            let message = "HTTPS needs both SEALVEC_TLS_CERT and SEALVEC_TLS_KEY; only one of them is set";
            return Err(message.to_owned().into());
        }
    };
    #[cfg(feature = "agent")]
    let agent = args.agent_socket.map(|socket| settle_agent(socket, args.agent, file.registry)).transpose()?;
    let listen = args.listen.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, args.port.unwrap_or(PORT)).into());
    if tls.is_none() && !listen.ip().is_loopback() {
        warnings.push("keys and vectors travel in clear: HTTP on an address that others reach".to_owned());
    }
    let train_max = Duration::from_secs(args.train_timeout);
    let request_max = Duration::from_secs(args.request_timeout);
    Ok(Settings {
        listen,
        metrics_listen: args.metrics_listen,
        database_url,
        database_password,
        database_ca: args.database_ca,
        pool: PoolSettings {
            connections_max: args.pool_size.get().into(),
            wait_max: Duration::from_secs(args.pool_timeout),
            connect_max: Duration::from_secs(args.connect_timeout),
            statement_max: train_max.max(request_max),
        },
        limits: Limits {
            body_bytes_max: args.max_body_bytes,
            batch_max: args.max_batch,
            top_k_max: args.max_top_k,
            requests_max: args.max_requests,
            bodies_bytes_max: args.max_bodies_bytes,
            body_time_max: Duration::from_secs(args.body_timeout),
            request_time_max: request_max,
            train_time_max: train_max,
        },
        shutdown_max: Duration::from_secs(args.shutdown_timeout),
        tls,
        cors_origins: args.cors_origins,
        log_level: args.log_level,
        log_format: args.log_format,
        auth,
        slots: file.slots,
        #[cfg(feature = "agent")]
        agent,
        model_dir: args.model_dir,
        model_threads: args.model_threads,
        warnings,
    })
}

/// Secure unless said otherwise: without a key the server does not start.
fn settle_auth(
    root: Option<Secret>,
    single: Option<Secret>,
    required: bool,
    warnings: &mut Vec<String>,
) -> Result<Auth, ConfigError> {
    match (root, single) {
        (Some(_), _) if !required => {
            let message = "REQUIRE_API_KEY=false and a root key are both set: unset one, or anyone could administer";
            Err(message.to_owned().into())
        }
        (Some(root), _) => {
            if root.expose().len() < ROOT_KEY_LEN_MIN {
                warnings.push(format!("the root key is shorter than {ROOT_KEY_LEN_MIN} characters"));
            }
            Ok(Auth::root(root.expose()))
        }
        (None, _) if !required => {
            warnings.push("REQUIRE_API_KEY=false: whoever reaches this address may read, write and delete".to_owned());
            Ok(Auth::Open)
        }
        (None, Some(key)) => {
            warnings.push(format!("{API_KEY} alone: one key does everything, and there are no users"));
            Ok(Auth::single(key.expose()))
        }
        (None, None) => {
            let message = "no API key: set SEALVEC_ROOT_KEY (or CYBORGDB_API_KEY for one key without users), or \
                           REQUIRE_API_KEY=false to let everyone in";
            Err(message.to_owned().into())
        }
    }
}

#[cfg(test)]
mod tests;
