//! Flags of `sealvec-sidecar`, each with its variable.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroUsize};
use std::path::PathBuf;

use clap::builder::{BoolishValueParser, Resettable, StyledStr};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use super::file::File;

/// REST server for encrypted vector search: CyborgDB's v1 routes over PostgreSQL with sealvec.
#[derive(Debug, Parser)]
#[command(name = "sealvec-sidecar", version)]
#[command(after_help = "sealvec-sidecar seal seals a key for a statement that is written by hand; see seal --help.")]
pub(super) struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Answers REST requests until it gets SIGTERM or SIGINT.
    #[command(after_help = "Keys have no flag, for every user of the machine sees flags: set SEALVEC_ROOT_KEY \
                            (or CYBORGDB_SERVICE_ROOT_KEY, or --root-key-file), or CYBORGDB_API_KEY.\n\
                            A variable's name, in any case and with or without SEALVEC_, is also its key under \
                            `service:` in the YAML file. Flag over variable over file.")]
    Serve(Box<ServeArgs>),
    /// Asks key services on behalf of the database server, over a Unix socket, until it gets SIGTERM or SIGINT.
    #[cfg(feature = "agent")]
    #[command(after_help = "Slots and credentials stand under `kms:` in the YAML file; docs/KMS.md describes them.")]
    Agent(AgentArgs),
}

#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// YAML file; otherwise ./cyborgdb.yaml, ./cyborgdb.yml or /etc/cyborgdb/cyborgdb.yaml, where there is one
    #[arg(long, env = "CYBORGDB_CONFIG_FILE", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address and port [default: 127.0.0.1:8000]
    #[arg(long, env = "SEALVEC_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Port on 127.0.0.1, where --listen is not given
    #[arg(long, env = "PORT")]
    pub port: Option<u16>,
    /// Separate address for /metrics, which is then not on the other
    #[arg(long, env = "SEALVEC_METRICS_LISTEN", value_name = "ADDRESS")]
    pub metrics_listen: Option<SocketAddr>,

    /// postgres://user@host:5432/database; put a password in the variable or the file, not in a flag
    #[arg(long, env = "SEALVEC_DATABASE_URL", value_name = "URL", help_heading = "Database")]
    pub database_url: Option<String>,
    /// File whose first line is the database password
    #[arg(long, env = "SEALVEC_DATABASE_PASSWORD_FILE", value_name = "FILE", help_heading = "Database")]
    pub database_password_file: Option<PathBuf>,
    /// PEM file of the authority that signed the database's certificate (sslmode=require) [default: the system's]
    #[arg(long, env = "SEALVEC_DATABASE_CA", value_name = "FILE", help_heading = "Database")]
    pub database_ca: Option<PathBuf>,
    /// Most connections at once
    #[arg(long, env = "SEALVEC_POOL_SIZE", default_value = "16", help_heading = "Database")]
    pub pool_size: NonZeroU16,
    /// Seconds to wait for a free connection before 503
    #[arg(long, env = "SEALVEC_POOL_TIMEOUT", default_value = "5", help_heading = "Database",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub pool_timeout: u64,
    /// Seconds to wait for a new connection before 503
    #[arg(long, env = "SEALVEC_CONNECT_TIMEOUT", default_value = "5", help_heading = "Database",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub connect_timeout: u64,

    /// File whose first line is the root key
    #[arg(long, env = "SEALVEC_ROOT_KEY_FILE", value_name = "FILE", help_heading = "Access")]
    pub root_key_file: Option<PathBuf>,
    /// `false` lets everyone in
    #[arg(long, env = "REQUIRE_API_KEY", default_value = "true", value_name = "BOOL", action = clap::ArgAction::Set,
          value_parser = BoolishValueParser::new(), help_heading = "Access")]
    pub require_api_key: bool,
    /// Certificate chain, PEM; with --tls-key
    #[arg(long, env = "SEALVEC_TLS_CERT", value_name = "FILE", help_heading = "Access")]
    pub tls_cert: Option<PathBuf>,
    /// Private key, PEM; with --tls-cert
    #[arg(long, env = "SEALVEC_TLS_KEY", value_name = "FILE", help_heading = "Access")]
    pub tls_key: Option<PathBuf>,
    /// Origins whose scripts may call, such as https://app.example; `*` for all; separated by commas [default: none]
    #[arg(long, env = "SEALVEC_CORS_ORIGINS", value_name = "ORIGIN", value_delimiter = ',', help_heading = "Access")]
    pub cors_origins: Vec<String>,

    /// Bytes of a body
    #[arg(long, env = "SEALVEC_MAX_BODY_BYTES", default_value = "67108864", help_heading = "Limits")]
    pub max_body_bytes: usize,
    /// Items, ids or query vectors in a request
    #[arg(long, env = "SEALVEC_MAX_BATCH", default_value = "100000", help_heading = "Limits")]
    pub max_batch: usize,
    /// Rows of a query
    #[arg(long, env = "SEALVEC_MAX_TOP_K", default_value = "10000", help_heading = "Limits",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_top_k: u32,
    /// Requests that are worked on at once; more get 503
    #[arg(long, env = "SEALVEC_MAX_REQUESTS", default_value = "256", help_heading = "Limits",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub max_requests: u32,
    /// Bytes of all bodies longer than 64 KiB at once; who brings more gets 503
    #[arg(long, env = "SEALVEC_MAX_BODIES_BYTES", default_value = "1073741824", help_heading = "Limits")]
    pub max_bodies_bytes: usize,
    /// Seconds for a body to come, before 408
    #[arg(long, env = "SEALVEC_BODY_TIMEOUT", default_value = "30", help_heading = "Limits",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub body_timeout: u64,
    /// Seconds for a request
    #[arg(long, env = "SEALVEC_REQUEST_TIMEOUT", default_value = "60", help_heading = "Limits",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub request_timeout: u64,
    /// Seconds for training
    #[arg(long, env = "SEALVEC_TRAIN_TIMEOUT", default_value = "3600", help_heading = "Limits",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub train_timeout: u64,
    /// Seconds that running requests get after SIGTERM
    #[arg(long, env = "SEALVEC_SHUTDOWN_TIMEOUT", default_value = "30", help_heading = "Limits")]
    pub shutdown_timeout: u64,

    /// error, warn, info, debug, trace
    #[arg(long, env = "SEALVEC_LOG_LEVEL", default_value = "info", help_heading = "Logs")]
    pub log_level: String,
    /// Form of the log on stderr
    #[arg(long, env = "SEALVEC_LOG_FORMAT", default_value = "text", help_heading = "Logs")]
    pub log_format: LogFormat,

    /// Unix socket on which this process is the database server's key agent, too [default: none]
    #[cfg(feature = "agent")]
    #[arg(long, env = "SEALVEC_AGENT_SOCKET", value_name = "PATH", help_heading = "Key agent")]
    pub agent_socket: Option<PathBuf>,
    #[cfg(feature = "agent")]
    #[command(flatten)]
    pub agent: AgentLimits,

    /// Directory of embedding models; one that is missing is a 503 that says which files to put there
    #[arg(
        long,
        env = "SEALVEC_MODEL_DIR",
        value_name = "DIR",
        default_value = "/var/lib/sealvec/models",
        help_heading = "Embedding"
    )]
    pub model_dir: PathBuf,
    /// Threads of the model [default: one a processor, at most four]
    #[arg(long, env = "SEALVEC_MODEL_THREADS", value_name = "N", help_heading = "Embedding")]
    pub model_threads: Option<NonZeroUsize>,
}

#[cfg(feature = "agent")]
#[derive(Debug, Args)]
pub(super) struct AgentArgs {
    /// Unix socket to listen on; set sealvec.agent_socket in PostgreSQL to the same
    #[arg(long, env = "SEALVEC_AGENT_SOCKET", value_name = "PATH")]
    pub socket: PathBuf,
    /// YAML file; otherwise ./cyborgdb.yaml, ./cyborgdb.yml or /etc/cyborgdb/cyborgdb.yaml, where there is one
    #[arg(long, env = "CYBORGDB_CONFIG_FILE", value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub limits: AgentLimits,
    /// error, warn, info, debug, trace
    #[arg(long, env = "SEALVEC_LOG_LEVEL", default_value = "info")]
    pub log_level: String,
    /// Form of the log on stderr
    #[arg(long, env = "SEALVEC_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// Who may ask the agent, and how long it keeps what it was given.
#[cfg(feature = "agent")]
#[derive(Debug, Args)]
pub(super) struct AgentLimits {
    /// User that PostgreSQL runs as, by name or number, if it is another than this process's; separated by commas
    #[arg(
        long,
        env = "SEALVEC_AGENT_ALLOW_USER",
        value_name = "USER",
        value_delimiter = ',',
        help_heading = "Key agent"
    )]
    pub agent_allow_user: Vec<String>,
    /// Seconds that an unwrapped key is kept, and so still opens after it was taken away at its service; 0 keeps none
    #[arg(long, env = "SEALVEC_AGENT_CACHE_SECONDS", default_value = "60", help_heading = "Key agent",
          value_parser = clap::value_parser!(u64).range(..=3_600))]
    pub agent_cache_seconds: u64,
    /// How often it is given out meanwhile
    #[arg(long, env = "SEALVEC_AGENT_CACHE_USES", default_value = "1000", help_heading = "Key agent")]
    pub agent_cache_uses: u32,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

impl Cli {
    /// Parses, with the environment and then the file as defaults, so that each value meets the same checks
    /// wherever it comes from. The environment is an argument, not the process's own: tests have theirs.
    pub fn parse(
        args: &[String],
        env: &dyn Fn(&str) -> Option<String>,
        file: Option<&File>,
    ) -> Result<Self, clap::Error> {
        let defaults = |arg: clap::Arg| {
            let Some(variable) = arg.get_env().and_then(|name| name.to_str()).map(str::to_owned) else {
                return arg;
            };
            let help = arg.get_help().map(StyledStr::to_string).unwrap_or_default();
            // The variable's value would be shown beside its name by clap itself.
            let arg = arg.env(Resettable::Reset).help(format!("{help} [{variable}]"));
            let value = env(&variable).or_else(|| file?.setting(&variable).map(str::to_owned));
            match value {
                Some(value) => arg.default_values(split(&variable, value)).hide_default_value(true).required(false),
                None => arg,
            }
        };
        let command = Self::command().mut_subcommands(|subcommand| subcommand.mut_args(defaults));
        let mut command = command;
        let matches = command.try_get_matches_from_mut(args)?;
        Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
    }
}

/// Defaults are not split by clap.
fn split(variable: &str, value: String) -> Vec<OsString> {
    match variable {
        "SEALVEC_CORS_ORIGINS" | "SEALVEC_AGENT_ALLOW_USER" => {
            value.split(',').map(|origin| origin.trim().into()).collect()
        }
        _ => vec![value.into()],
    }
}
