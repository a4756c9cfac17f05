//! The YAML file: the original's form, with its `${VAR}` and its key registry.
//!
//! ```yaml
//! service: {port: 8000, cyborgdb_service_root_key: "${ROOT}"}
//! kms:
//!   registry:
//!     vendor-default: {provider: local}
//! ```
//!
//! Variables are put into values after YAML is parsed, so that what they hold is never read as YAML.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use serde_json::{Map, Value};

use super::args::Cli;
use super::slot::{Slot, SlotFields};
use super::{ALIASES, API_KEY, ROOT_KEY};

/// Settings of the original that mean nothing here: its storage, caches, threads and models.
const IGNORED: [&str; 24] = [
    "AUTO_TRAIN_DISABLED",
    "AUTO_TRAIN_MIN_VECTORS",
    "CACHE_POLICY_IDS",
    "CACHE_POLICY_METADATA",
    "CACHE_POLICY_VECTORS",
    "CPU_THREADS",
    "CYBORGDB_BOOTSTRAP_API_KEY",
    "CYBORGDB_DB_TYPE",
    "CYBORGDB_DISK_PATH",
    "CYBORGDB_EMBED_CACHE",
    "CYBORGDB_EMBED_OFFLINE",
    "CYBORGDB_S3_ACCESS_KEY",
    "CYBORGDB_S3_BUCKET",
    "CYBORGDB_S3_ENDPOINT",
    "CYBORGDB_S3_PREFIX",
    "CYBORGDB_S3_REGION",
    "CYBORGDB_S3_SECRET_KEY",
    "CYBORGDB_S3_SESSION_TOKEN",
    "GPU_OPERATIONS",
    "INDEX_CACHE_MAX_PER_THREAD",
    "INDEX_KEK_CACHE_TTL_SECONDS",
    "OMP_NUM_THREADS",
    "SERIALIZE_WRITES",
    "THREADPOOL_SIZE",
];

/// What a file says.
#[derive(Default)]
pub(super) struct File {
    settings: BTreeMap<String, String>, // by the variable's name
    pub slots: Vec<Slot>,
    pub warnings: Vec<String>,
    /// All of `kms`, as the key agent reads it.
    #[cfg(feature = "agent")]
    pub registry: sealvec_agent::Registry,
}

impl File {
    /// The value of a variable.
    pub fn setting(&self, variable: &str) -> Option<&str> {
        self.settings.get(variable).map(String::as_str)
    }
}

/// The named file, which must be there, or the first of `places` that is.
pub(super) fn locate(named: Option<&Path>, places: &[&str]) -> Result<Option<PathBuf>, String> {
    match named {
        Some(path) if path.is_file() => Ok(Some(path.to_owned())),
        Some(path) => Err(format!("the configuration file {} is not there", path.display())),
        None => Ok(places.iter().map(PathBuf::from).find(|path| path.is_file())),
    }
}

/// Reads and checks a file.
pub(super) fn read(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<File, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    parse(&text, env).map_err(|error| format!("{}: {error}", path.display()))
}

/// Errors name places and settings, never values: a value may be a key.
pub(super) fn parse(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<File, String> {
    let document: Option<Value> = serde_saphyr::from_str(text).map_err(|error| match error.location() {
        Some(place) => format!("not valid YAML at line {}, column {}", place.line(), place.column()),
        None => "not valid YAML".to_owned(),
    })?;
    let mut document = document.unwrap_or_default();
    expand_all(&mut document, env)?;
    let mut sections = object(document, "the file")?;
    let mut file = File::default();
    for (key, value) in object(sections.remove("service").unwrap_or_default(), "service")? {
        file.set(&key, value)?;
    }
    let kms = sections.remove("kms").unwrap_or_default();
    #[cfg(feature = "agent")]
    let of_agent = kms.clone();
    let mut kms = object(kms, "kms")?;
    for of_the_agent in ["credentials", "endpoints"] {
        kms.remove(of_the_agent);
    }
    for (name, fields) in object(kms.remove("registry").unwrap_or_default(), "kms.registry")? {
        let options = match &fields {
            Value::Object(fields) => fields.clone(),
            _ => Map::new(),
        };
        // serde's own message would quote a bad value.
        let fields: SlotFields = serde_json::from_value(fields).map_err(|_| {
            format!(
                "kms.registry.{name} must have provider (local, aws, aws-kms, vault or pkcs11) and may have key_id, region, \
                 role_arn, external_id, role_session_name, and what docs/KMS.md says of the provider"
            )
        })?;
        file.slots.push(Slot::new(name, fields, options));
    }
    file.slots.sort_by(|a, b| a.name.cmp(&b.name));
    for (section, rest) in [("", sections), ("kms.", kms)] {
        if let Some(key) = rest.keys().next() {
            return Err(format!("unknown key {section}{key}"));
        }
    }
    #[cfg(feature = "agent")]
    {
        file.registry = sealvec_agent::Registry::from_value(of_agent)?;
    }
    Ok(file)
}

impl File {
    fn set(&mut self, key: &str, value: Value) -> Result<(), String> {
        let value = match value {
            Value::Null => return Ok(()),
            Value::String(text) => text,
            Value::Bool(_) | Value::Number(_) => value.to_string(),
            Value::Array(list) if list.iter().all(Value::is_string) => {
                list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
            }
            _ => return Err(format!("service.{key} must be a text, a number or a list of texts")),
        };
        let upper = key.to_uppercase();
        if IGNORED.contains(&upper.as_str()) {
            self.warnings.push(format!("service.{key} has no meaning here and is ignored"));
            return Ok(());
        }
        let variable = variable(&upper).ok_or_else(|| format!("unknown key service.{key}"))?;
        self.settings.insert(variable, value);
        Ok(())
    }
}

/// The variable that a key stands for: its own name, an older one, or without the prefix.
fn variable(key: &str) -> Option<String> {
    let renamed = ALIASES.iter().find(|(_, old)| *old == key).map(|(new, _)| *new);
    let key = renamed.unwrap_or(key);
    let prefixed = format!("SEALVEC_{key}");
    let command = Cli::command();
    let serve = command.find_subcommand("serve").expect("it is there");
    let flags = serve.get_arguments().filter_map(|arg| arg.get_env()?.to_str());
    let mut known = flags.chain([ROOT_KEY, API_KEY]).filter(|name| *name != "CYBORGDB_CONFIG_FILE");
    known.find(|name| *name == key || *name == prefixed).map(str::to_owned)
}

fn object(value: Value, what: &str) -> Result<Map<String, Value>, String> {
    match value {
        Value::Object(map) => Ok(map),
        Value::Null => Ok(Map::new()),
        _ => Err(format!("{what} must be a mapping")),
    }
}

fn expand_all(value: &mut Value, env: &dyn Fn(&str) -> Option<String>) -> Result<(), String> {
    match value {
        Value::String(text) => {
            let text = expand(text, env)?;
            *value = if text.is_empty() { Value::Null } else { Value::String(text) };
        }
        Value::Array(list) => list.iter_mut().try_for_each(|item| expand_all(item, env))?,
        Value::Object(map) => map.values_mut().try_for_each(|item| expand_all(item, env))?,
        _ => {}
    }
    Ok(())
}

/// `${VAR}`, which must be set, and `${VAR:-default}`; an empty variable is not set. Anything else stays.
fn expand(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, from) = rest.split_at(start);
        out.push_str(before);
        let inside = &from[2..];
        let end = inside.find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'));
        let name = &inside[..end.unwrap_or(inside.len())];
        let after = &inside[name.len()..];
        let named = !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit());
        let form = match after.strip_prefix('}') {
            Some(after) => Some((None, after)),
            None => after.strip_prefix(":-").and_then(|text| text.split_once('}')).map(|(d, after)| (Some(d), after)),
        };
        let Some((default, after)) = form.filter(|_| named) else {
            out.push_str("${");
            rest = inside;
            continue;
        };
        match (env(name), default) {
            (Some(value), _) => out.push_str(&value),
            (None, Some(default)) => out.push_str(default),
            (None, None) => return Err(format!("the variable {name} is not set")),
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}
