//! `sealvec-sidecar seal`: one key, sealed to the server, for a statement that is written by hand.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, ValueEnum};
use sealvec_core::keys::{Kek, UserPublicKey, UserWrap, Uuid};
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
/// the URL, for that ring or index, as that argument, and within the hour. A user of a ring gives his X25519 secret key in
/// place of a key: it opens what sealvec.my_wraps() has for his role, and that is what is sealed, as user_key.
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
    /// File with the X25519 secret key of a user of the ring, 32 bytes or 64 hex digits
    #[arg(long, value_name = "FILE", conflicts_with_all = ["key_file", "argument", "index"])]
    secret_key_file: Option<PathBuf>,
    /// UUID of that ring, as its owner told it (sealvec.key_rings): a wrap of another ring is not opened. Without it the
    /// server is believed which ring it is, and learns the key that is in the wrap
    #[arg(long, value_name = "UUID", requires = "secret_key_file")]
    ring_uuid: Option<Uuid>,
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
    /// With --secret-key-file, instead of asking: wrap of sealvec.my_wraps(), in hex
    #[arg(long, value_name = "HEX", requires = "secret_key_file")]
    wrap: Option<String>,
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

impl As {
    /// The argument of a call about a ring, or about an index.
    fn of(self, is_ring: bool) -> Argument {
        match (self, is_ring) {
            (Self::Kek, _) => Argument::Kek,
            (Self::NewKek, _) => Argument::NewKek,
            (Self::IndexKey, _) => Argument::IndexKey,
            (Self::UserKey, false) => Argument::UserKey,
            (Self::UserToken, false) => Argument::UserToken,
            (Self::UserKey, true) => Argument::RingUserKey,
            (Self::UserToken, true) => Argument::RingUserToken,
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
    let is_ring = cli.object.ring.is_some();
    let argument = cli.argument.map_or(default, |argument| argument.of(is_ring));
    if argument.is_of_ring() != is_ring {
        let what = if is_ring { "--index" } else { "--ring" };
        return Err(format!("{} goes with {what}", argument.name()));
    }
    if let Some(file) = &cli.secret_key_file {
        let own = read_secret(file, Argument::RingUserKey)?;
        let own: &[u8; KEK_LEN] = own[..].try_into().expect("a key has 32 bytes");
        let (receiver, wraps) = match &cli.offline {
            Some(offline) => (offline.receiver()?, vec![offline.wrap()?]),
            None => ask(&cli, Some(name))?,
        };
        let key = open_wrap(&wraps, own, name, cli.ring_uuid)?;
        let sealed = receiver.seal(Argument::RingUserKey, name, key.expose()).map_err(|error| error.to_string())?;
        return Ok(written(&sealed, cli.hex));
    }
    let secret = read_secret(&cli.key_file, argument)?;
    let receiver = match &cli.offline {
        Some(offline) => offline.receiver()?,
        None => ask(&cli, None)?.0,
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

    fn wrap(&self) -> Result<Vec<u8>, String> {
        let text = self.wrap.as_deref().ok_or("with --secret-key-file and --public-key, give --wrap, too")?;
        hex::decode(text.strip_prefix("\\x").unwrap_or(text)).map_err(|_| "--wrap has hex digits".to_owned())
    }
}

/// The key in the wrap that `own` opens, of the ring that is meant if that is known: the server, which is told the key
/// afterwards, may have put the wrap of another server's ring there.
fn open_wrap(wraps: &[Vec<u8>], own: &[u8; KEK_LEN], ring: &str, uuid: Option<Uuid>) -> Result<Kek, String> {
    if wraps.is_empty() {
        return Err(format!(
            "the database has no wrap of key ring \"{ring}\" for this role: its owner makes users with sealvec.grant_user()"
        ));
    }
    let public = UserPublicKey::of_secret(own);
    for wrap in wraps {
        let wrap = UserWrap::decode(wrap).map_err(|error| error.to_string())?;
        if wrap.public_key() == public {
            if let Some(uuid) = uuid.filter(|uuid| *uuid != wrap.ring()) {
                return Err(format!("the database has a wrap of ring {} as \"{ring}\", not of {uuid}", wrap.ring()));
            }
            return wrap.open(own).map_err(|_| "the wrap is not as it was written".to_owned());
        }
    }
    Err(format!("the wrap of key ring \"{ring}\" was made for another public key than this secret key's"))
}

/// Hex digits, as psql prints a bytea or without its `\x`.
fn decode(text: &str, out: &mut [u8]) -> Option<()> {
    hex::decode_to_slice(text.strip_prefix("\\x").unwrap_or(text), out).ok()
}

/// Whom to seal to; and what my_wraps() has of `ring`, if that is asked for.
fn ask(cli: &Cli, ring: Option<&str>) -> Result<(Receiver, Vec<Vec<u8>>), String> {
    let url = cli.database_url.as_deref().ok_or("set --database-url or SEALVEC_DATABASE_URL, or give --public-key")?;
    let password = cli.database_password_file.as_deref().map(read_secret_file).transpose()?;
    tls::install_provider();
    let (config, tls) = serve::database(url, password.as_ref(), cli.database_ca.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let pool = Pool::new(config, tls, &PoolSettings { connections_max: 1, ..PoolSettings::default() });
        let asked = async {
            let mut conn = pool.get().await?;
            let receiver = Receiver::ask(&mut conn).await?;
            let rows = match ring {
                Some(ring) => conn.query("SELECT wrap FROM sealvec.my_wraps($1)", &[&ring]).await?,
                None => Vec::new(),
            };
            Ok((receiver, rows.iter().map(|row| row.get(0)).collect()))
        };
        asked.await.map_err(|error| {
            let why = match &error {
                DbError::Unavailable(why) => (*why).to_owned(),
                DbError::Sql(error) => {
                    error.as_db_error().map_or_else(|| error.to_string(), |r| r.message().to_owned())
                }
            };
            format!("could not ask the database: {why}")
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
    if matches!(argument, Argument::UserToken | Argument::RingUserToken) {
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
        for (object, name, argument) in
            [("--ring", "user_key", Argument::RingUserKey), ("--index", "user_key", Argument::UserKey)]
        {
            let printed = run(args(&[&[object, "notes", "--as", name], &common[..]].concat())).unwrap();
            let binding = Binding { database: "app", role: "me", name: "notes", argument };
            assert!(key.open(&binding, &SealedKey::read(printed.as_bytes()).unwrap().unwrap()).is_ok());
        }
        for (object, name, other) in [("--ring", "index_key", "--index"), ("--index", "kek", "--ring")] {
            let odd = run(args(&[&[object, "notes", "--as", name], &common[..]].concat()));
            assert_eq!(odd.unwrap_err(), format!("{name} goes with {other}"));
        }
        std::fs::remove_file(file).unwrap();
    }

    /// The wraps of the project's own vectors.
    #[test]
    fn a_users_secret_opens_his_wrap_and_its_key_is_sealed() {
        let file: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/vectors/user_wrap_v1.json")).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let (wrap, expected) = (text(&file["cases"][0]["wrap"]), text(&file["cases"][0]["user_key"]));
        let key = TransportKey::generate().unwrap();
        let own = std::env::temp_dir().join(format!("sealvec-secret-{}", std::process::id()));
        std::fs::write(&own, text(&file["secret_key"])).unwrap();
        let (id, public) = (hex::encode(key.public().id().as_bytes()), hex::encode(key.public().as_bytes()));
        let own_file = own.display().to_string();
        let flags = ["--ring", "notes", "--secret-key-file", &*own_file, "--key-id", &id, "--public-key", &public];
        let offline = ["--database", "app", "--role", "me", "--wrap", &*wrap];
        let printed = run(args(&[&flags[..], &offline[..]].concat())).unwrap();
        let binding = Binding { database: "app", role: "me", name: "notes", argument: Argument::RingUserKey };
        let opened = key.open(&binding, &SealedKey::read(printed.as_bytes()).unwrap().unwrap()).unwrap();
        assert_eq!(hex::encode(&opened[..]), expected);
        assert!(run(args(&[&flags[..], &offline[..4]].concat())).unwrap_err().contains("--wrap"));
        let pinned = |uuid: &str| run(args(&[&flags[..], &offline[..], &["--ring-uuid", uuid]].concat()));
        assert!(pinned("5a5a5a5a-5a5a-5a5a-5a5a-5a5a5a5a5a5a").is_ok());
        let another = pinned("5a5a5a5a-5a5a-5a5a-5a5a-5a5a5a5a5a5b").unwrap_err();
        assert!(another.contains("a wrap of ring 5a5a5a5a-5a5a-5a5a-5a5a-5a5a5a5a5a5a"), "{another}");
        std::fs::write(&own, [5; 32]).unwrap();
        let other = run(args(&[&flags[..], &offline[..]].concat())).unwrap_err();
        assert!(other.contains("another public key"), "{other}");
        std::fs::remove_file(own).unwrap();
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
        for bad in [
            &["--key-file", "x"][..],
            &["--ring", "a", "--index", "b"],
            &["--ring", "a", "--key-id", "00"],
            &["--index", "a", "--secret-key-file", "x"],
            &["--ring", "a", "--secret-key-file", "x", "--key-file", "y"],
            &["--ring", "a", "--secret-key-file", "x", "--as", "kek"],
            &["--ring", "a", "--wrap", "00"],
            &["--ring", "a", "--ring-uuid", "5a5a5a5a-5a5a-5a5a-5a5a-5a5a5a5a5a5a"],
            &["--ring", "a", "--secret-key-file", "x", "--ring-uuid", "notes"],
        ] {
            assert!(Cli::try_parse_from(args(bad)).is_err(), "{bad:?}");
        }
    }
}
