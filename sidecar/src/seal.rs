//! `sealvec-sidecar seal`: one key, sealed to the server, for a statement that is written by hand.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, ValueEnum};
use sealvec_core::transport::{Argument, KeyId, PublicKey, SECRET_LEN_MAX, SealedKey};
use zeroize::Zeroizing;

use crate::config::read_secret_file;
use crate::db::{DbError, Pool, PoolSettings};
use crate::sealer::Receiver;
use crate::sql::KEK_LEN;
use crate::{serve, tls};

/// Seals a key or a user's token to a PostgreSQL server with sealvec, and prints what a statement may carry instead.
///
/// The key is 32 bytes or 64 hex digits. What is printed opens only in that server, in the database and for the role of
/// the URL, for that ring or index, as that argument, and within the hour.
#[derive(Debug, Parser)]
#[command(name = "sealvec-sidecar seal", version)]
#[command(after_help = "psql \"$SEALVEC_DATABASE_URL\" -v key=\"$(sealvec-sidecar seal --ring notes --key-file k)\" \
                        <<< \"SELECT sealvec.unlock('notes', :'key')\"")]
struct Cli {
    #[command(flatten)]
    object: Object,
    /// The argument that it is for [default: kek of a ring, index_key of an index]
    #[arg(long = "as", value_enum, value_name = "ARGUMENT")]
    argument: Option<As>,
    /// File with the key or the token; - reads it from standard input
    #[arg(long, value_name = "FILE", default_value = "-")]
    key_file: PathBuf,
    /// Prints \x and hex digits, for a bytea, instead of text that any argument takes
    #[arg(long)]
    hex: bool,
    /// postgres://user@host:5432/database; put a password in the variable or the file, not in a flag
    #[arg(long, env = "SEALVEC_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: Option<String>,
    /// File whose first line is the database password
    #[arg(long, env = "SEALVEC_DATABASE_PASSWORD_FILE", value_name = "FILE")]
    database_password_file: Option<PathBuf>,
    /// PEM file of the authority that signed the database's certificate (sslmode=require) [default: the system's]
    #[arg(long, env = "SEALVEC_DATABASE_CA", value_name = "FILE")]
    database_ca: Option<PathBuf>,
    #[command(flatten)]
    offline: Option<Offline>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Object {
    /// Name of the key ring
    #[arg(long, value_name = "NAME")]
    ring: Option<String>,
    /// Name of the index
    #[arg(long, value_name = "NAME")]
    index: Option<String>,
}

/// What sealvec.transport_key() says, where this machine does not reach the database.
#[derive(Debug, Args)]
#[group(requires_all = ["key_id", "public_key", "database", "role"])]
struct Offline {
    /// Instead of asking: key_id of sealvec.transport_key(), in hex
    #[arg(long, value_name = "HEX", required = false)]
    key_id: String,
    /// Instead of asking: its public_key, in hex
    #[arg(long, value_name = "HEX", required = false)]
    public_key: String,
    /// Instead of asking: its database
    #[arg(long, value_name = "NAME", required = false)]
    database: String,
    /// Instead of asking: its role
    #[arg(long, value_name = "NAME", required = false)]
    role: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
enum As {
    Kek,
    NewKek,
    IndexKey,
    UserKey,
    UserToken,
}

impl From<As> for Argument {
    fn from(argument: As) -> Self {
        match argument {
            As::Kek => Self::Kek,
            As::NewKek => Self::NewKek,
            As::IndexKey => Self::IndexKey,
            As::UserKey => Self::UserKey,
            As::UserToken => Self::UserToken,
        }
    }
}

/// Runs it: `args` are the program's, with `seal` as the first. Returns what is to be printed.
///
/// # Errors
/// A message that names no secret.
pub fn run(args: impl IntoIterator<Item = String>) -> Result<String, String> {
    let cli = Cli::parse_from(args);
    let (name, default) = match (&cli.object.ring, &cli.object.index) {
        (Some(ring), _) => (ring, Argument::Kek),
        (None, Some(index)) => (index, Argument::IndexKey),
        (None, None) => unreachable!("clap asks for one of them"),
    };
    let argument = cli.argument.map_or(default, Argument::from);
    let of_ring = matches!(argument, Argument::Kek | Argument::NewKek);
    if of_ring != cli.object.ring.is_some() {
        let what = if of_ring { "--ring" } else { "--index" };
        return Err(format!("{} goes with {what}", argument.name()));
    }
    let secret = read_secret(&cli.key_file, argument)?;
    let receiver = match &cli.offline {
        Some(offline) => offline.receiver()?,
        None => ask(&cli)?,
    };
    let sealed = receiver.seal(argument, name, &secret).map_err(|error| error.to_string())?;
    Ok(written(&sealed, cli.hex))
}

fn written(sealed: &SealedKey, hex: bool) -> String {
    if hex { format!("\\x{}", hex::encode(sealed.as_bytes())) } else { sealed.to_text() }
}

impl Offline {
    fn receiver(&self) -> Result<Receiver, String> {
        let mut id = [0; KeyId::LEN];
        let mut key = [0; 32];
        decode(&self.key_id, &mut id).ok_or("--key-id has 32 hex digits")?;
        decode(&self.public_key, &mut key).ok_or("--public-key has 64 hex digits")?;
        let key = PublicKey::new(KeyId::from_bytes(id), key);
        Ok(Receiver::new(key, self.database.clone(), self.role.clone(), Duration::MAX))
    }
}

/// Hex digits, as psql prints a bytea or without its `\x`.
fn decode(text: &str, out: &mut [u8]) -> Option<()> {
    hex::decode_to_slice(text.strip_prefix("\\x").unwrap_or(text), out).ok()
}

fn ask(cli: &Cli) -> Result<Receiver, String> {
    let url = cli.database_url.as_deref().ok_or("set --database-url or SEALVEC_DATABASE_URL, or give --public-key")?;
    let password = cli.database_password_file.as_deref().map(read_secret_file).transpose()?;
    tls::install_provider();
    let (config, tls) = serve::database(url, password.as_ref(), cli.database_ca.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let pool = Pool::new(config, tls, &PoolSettings { connections_max: 1, ..PoolSettings::default() });
        let asked = async { Receiver::ask(&mut pool.get().await?).await }.await;
        asked.map_err(|error| {
            let why = match &error {
                DbError::Unavailable(why) => (*why).to_owned(),
                DbError::Sql(error) => {
                    error.as_db_error().map_or_else(|| error.to_string(), |r| r.message().to_owned())
                }
            };
            format!("could not ask the database for its transport key: {why}")
        })
    })
}

/// The secret in the bytes that are sealed: the key raw, the token as text.
fn read_secret(file: &std::path::Path, argument: Argument) -> Result<Zeroizing<Vec<u8>>, String> {
    // Twice a key in hex and a line's end; a buffer that never grows leaves no copy.
    let mut bytes = Zeroizing::new(vec![0; SECRET_LEN_MAX + 1]);
    let mut input: Box<dyn Read> = match file.as_os_str() == "-" {
        true => Box::new(std::io::stdin().lock()),
        false => Box::new(File::open(file).map_err(|error| format!("{}: {error}", file.display()))?),
    };
    let mut len = 0;
    loop {
        match input.read(&mut bytes[len..]).map_err(|error| format!("{}: {error}", file.display()))? {
            0 => break,
            more => len += more,
        }
    }
    secret_of(&bytes[..len], argument)
}

fn secret_of(bytes: &[u8], argument: Argument) -> Result<Zeroizing<Vec<u8>>, String> {
    let end = bytes.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r')).map_or(0, |last| last + 1);
    let line = &bytes[..end];
    if argument == Argument::UserToken {
        let is_token = line.starts_with(b"cdbk_") && line.len() < SECRET_LEN_MAX;
        return if is_token { Ok(Zeroizing::new(line.to_vec())) } else { Err("that is no user's token".to_owned()) };
    }
    if bytes.len() == KEK_LEN {
        return Ok(Zeroizing::new(bytes.to_vec()));
    }
    let mut key = Zeroizing::new(vec![0; KEK_LEN]);
    hex::decode_to_slice(line, &mut key[..]).map_err(|_| "a key is 32 bytes or 64 hex digits".to_owned())?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use sealvec_core::transport::{Binding, TransportKey};

    use super::*;

    fn args(more: &[&str]) -> Vec<String> {
        std::iter::once("seal").chain(more.iter().copied()).map(str::to_owned).collect()
    }

    #[test]
    fn seals_without_a_database() {
        let key = TransportKey::generate().unwrap();
        let file = std::env::temp_dir().join(format!("sealvec-seal-{}", std::process::id()));
        std::fs::write(&file, "07".repeat(32) + "\n").unwrap();
        let (id, public) = (hex::encode(key.public().id().as_bytes()), hex::encode(key.public().as_bytes()));
        let file_name = file.display().to_string();
        let offline = ["--key-id", &*format!("\\x{id}"), "--public-key", &public, "--database", "app", "--role", "me"];
        let common = [&["--key-file", &*file_name], &offline[..]].concat();
        let (ring, index) = (&["--ring", "notes"][..], &["--index", "notes", "--hex"][..]);
        for (object, argument) in [(ring, Argument::Kek), (index, Argument::IndexKey)] {
            let printed = run(args(&[object, &common].concat())).unwrap();
            let bytes = match printed.strip_prefix("\\x") {
                Some(digits) => hex::decode(digits).unwrap(),
                None => printed.into_bytes(),
            };
            let sealed = SealedKey::read(&bytes).unwrap().unwrap();
            let binding = Binding { database: "app", role: "me", name: "notes", argument };
            assert_eq!(**key.open(&binding, &sealed).unwrap(), [7; 32]);
        }
        let odd = run(args(&[&["--ring", "notes", "--as", "user_key"], &common[..]].concat()));
        assert_eq!(odd.unwrap_err(), "user_key goes with --index");
        std::fs::remove_file(file).unwrap();
    }

    #[test]
    fn a_key_is_raw_or_hex_and_a_token_is_text() {
        let token = b"cdbk_1_AAECAwQFBgcICQoLDA0OD4CBgoOEhYaHiImKi4yNjo-QkZKTlJWWl5iZmpucnZ6f_jy5s8nENrE\n";
        assert_eq!(**secret_of(token, Argument::UserToken).unwrap(), token[..82]);
        let mut raw = [9; 32];
        raw[31] = b'\n'; // of the key, not a line's end
        assert_eq!(**secret_of(&raw, Argument::Kek).unwrap(), raw);
        assert_eq!(**secret_of(("aB".repeat(32) + "\r\n").as_bytes(), Argument::Kek).unwrap(), [0xab; 32]);
        for bad in [&b""[..], &[1; 31], &[1; 33], b"zz", &[b'0'; 63], &[b'a'; 257]] {
            assert!(secret_of(bad, Argument::IndexKey).is_err());
            assert!(secret_of(bad, Argument::UserToken).is_err());
        }
    }

    #[test]
    fn the_flags_fit_together() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
        for bad in [&["--key-file", "x"][..], &["--ring", "a", "--index", "b"], &["--ring", "a", "--key-id", "00"]] {
            assert!(Cli::try_parse_from(args(bad)).is_err(), "{bad:?}");
        }
    }
}
