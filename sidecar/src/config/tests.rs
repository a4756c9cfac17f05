use std::collections::HashMap;

use super::*;

const ROOT: &str = "a root key of a test";
const URL: &str = "postgres://u@127.0.0.1/db";

fn run(flags: &[&str], env: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    let env: HashMap<String, String> = env.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let args = ["sealvec-sidecar", "serve"].iter().chain(flags).map(|arg| arg.to_string());
    match read(args, &move |name| env.get(name).cloned())? {
        Job::Serve(settings) => Ok(*settings),
        #[cfg(feature = "agent")]
        Job::Agent(_) => panic!("serve was asked for"),
    }
}

fn base<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&[(ROOT_KEY, ROOT), ("SEALVEC_DATABASE_URL", URL)], more].concat()
}

fn message(result: Result<Settings, ConfigError>) -> String {
    match result {
        Err(ConfigError::Invalid(message)) => message,
        Err(ConfigError::Usage(usage)) => usage.to_string(),
        Ok(_) => panic!("expected an error"),
    }
}

/// A file in the test's own directory, gone with it.
struct Yaml(PathBuf);

impl Yaml {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sealvec-config-{}-{name}.yaml", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Yaml {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn defaults_are_local_and_closed() {
    let settings = run(&[], &base(&[])).unwrap();
    assert_eq!(settings.listen.to_string(), "127.0.0.1:8000");
    assert!(matches!(settings.auth, Auth::Root(..)));
    assert_eq!((settings.tls, settings.metrics_listen), (None, None));
    assert_eq!((settings.cors_origins.len(), settings.slots.len(), settings.warnings.len()), (0, 0, 0));
    assert_eq!(settings.limits, Limits::default());
    assert_eq!(settings.pool.statement_max, settings.limits.train_time_max);
}

#[test]
fn flag_over_variable_over_file() {
    let yaml = Yaml::new("order", "service: {max_top_k: 30, SEALVEC_MAX_BATCH: 31, Pool_Size: 3}\n");
    let env = [("CYBORGDB_CONFIG_FILE", yaml.path()), ("SEALVEC_MAX_TOP_K", "20")];
    let settings = run(&[], &base(&env)).unwrap();
    assert_eq!((settings.limits.top_k_max, settings.limits.batch_max, settings.pool.connections_max), (20, 31, 3));
    let settings = run(&["--max-top-k", "10"], &base(&env)).unwrap();
    assert_eq!((settings.limits.top_k_max, settings.limits.batch_max), (10, 31));
    let settings = run(&["--config", yaml.path()], &base(&[])).unwrap();
    assert_eq!(settings.limits.top_k_max, 30);
}

#[test]
fn port_moves_the_default_address_only() {
    assert_eq!(run(&[], &base(&[("PORT", "9001")])).unwrap().listen.to_string(), "127.0.0.1:9001");
    let both = [("PORT", "9001"), ("SEALVEC_LISTEN", "127.0.0.2:7000")];
    assert_eq!(run(&[], &base(&both)).unwrap().listen.to_string(), "127.0.0.2:7000");
}

#[test]
fn older_names_mean_the_same() {
    let env = [
        ("CYBORGDB_SERVICE_ROOT_KEY", ROOT),
        ("DATABASE_URL", URL),
        ("SSL_CERT_PATH", "/c"),
        ("SSL_KEY_PATH", "/k"),
        ("CYBORGDB_SERVICE_LOG_LEVEL", "WARNING"),
    ];
    let settings = run(&[], &env).unwrap();
    assert!(matches!(settings.auth, Auth::Root(..)));
    assert_eq!(settings.tls, Some(TlsFiles { cert: "/c".into(), key: "/k".into() }));
    assert_eq!((settings.database_url.expose(), settings.log_level.as_str()), (URL, "WARNING"));
    let newer = [&env[..], &[("SEALVEC_DATABASE_URL", "postgres://other/")]].concat();
    assert_eq!(run(&[], &newer).unwrap().database_url.expose(), "postgres://other/");
}

#[test]
fn it_does_not_start_without_a_key() {
    let url = ("SEALVEC_DATABASE_URL", URL);
    assert!(message(run(&[], &[url])).contains("SEALVEC_ROOT_KEY"));
    assert!(message(run(&[], &[url, (ROOT_KEY, ""), (API_KEY, "")])).contains("SEALVEC_ROOT_KEY"));
    let open = run(&[], &[url, ("REQUIRE_API_KEY", "false")]).unwrap();
    assert!(matches!(open.auth, Auth::Open) && open.warnings.iter().any(|text| text.contains("REQUIRE_API_KEY")));
    // The documents' licence key, with checks off.
    let open = run(&[], &[url, ("REQUIRE_API_KEY", "FALSE"), (API_KEY, "x")]).unwrap();
    assert!(matches!(open.auth, Auth::Open));
    let single = run(&[], &[url, (API_KEY, "cyborg_1")]).unwrap();
    assert!(matches!(single.auth, Auth::Single(_)));
    let both = run(&[], &base(&[(API_KEY, "cyborg_1")])).unwrap();
    assert!(matches!(both.auth, Auth::Root(..)));
    assert!(message(run(&[], &base(&[("REQUIRE_API_KEY", "0")]))).contains("unset one"));
    assert!(message(run(&[], &base(&[("REQUIRE_API_KEY", "maybe")]))).contains("require-api-key"));
}

#[test]
fn half_of_tls_is_refused() {
    for half in [("SSL_CERT_PATH", "/c"), ("SEALVEC_TLS_KEY", "/k")] {
        assert!(message(run(&[], &base(&[half]))).contains("both"));
    }
    assert!(message(run(&["--tls-cert", "/c"], &base(&[]))).contains("both"));
}

#[test]
fn clear_http_on_an_open_address_is_told() {
    let settings = run(&["--listen", "0.0.0.0:1"], &base(&[])).unwrap();
    assert!(settings.warnings.iter().any(|text| text.contains("in clear")));
    let settings = run(&["--listen", "0.0.0.0:1", "--tls-cert", "/c", "--tls-key", "/k"], &base(&[])).unwrap();
    assert_eq!(settings.warnings.len(), 0);
}

#[test]
fn no_value_of_a_secret_is_shown() {
    const PASSWORD: &str = "hunter2hunter2hunter2";
    let url = format!("postgres://u:{PASSWORD}@h/db");
    let yaml = Yaml::new(
        "secrets",
        &format!("service:\n  cyborgdb_service_root_key: {PASSWORD}\n  database_url: {url}\nkms: {{registry: {{}}}}\n"),
    );
    let settings = run(&["--config", yaml.path()], &[]).unwrap();
    assert_eq!((settings.database_url.expose(), matches!(settings.auth, Auth::Root(..))), (url.as_str(), true));
    let shown = format!("{settings:?}");
    assert!(!shown.contains(PASSWORD) && shown.contains("redacted"), "{shown}");
    for flags in [&["--help"][..], &["--max-batch", "x"], &["--no-such-flag"]] {
        let shown = message(run(flags, &[("DATABASE_URL", &url), (ROOT_KEY, PASSWORD)]));
        assert!(!shown.contains(PASSWORD), "{shown}");
    }
}

#[test]
fn help_names_the_variables() {
    let help = message(run(&["--help"], &[]));
    for name in ["SEALVEC_LISTEN", "SEALVEC_DATABASE_URL", "SEALVEC_ROOT_KEY", "REQUIRE_API_KEY", "[default: 16]"] {
        assert!(help.contains(name), "{name} in {help}");
    }
}

#[test]
fn a_secret_comes_from_a_file() {
    let file = Yaml::new("root", "root key in a file\nmore\n");
    let env = [("SEALVEC_ROOT_KEY_FILE", file.path()), ("DATABASE_URL", URL)];
    assert!(matches!(run(&[], &env).unwrap().auth, Auth::Root(..)));
    let empty = Yaml::new("empty", "\n");
    assert!(message(run(&["--root-key-file", empty.path()], &base(&[]))).contains("is empty"));
    assert!(message(run(&["--root-key-file", "/nowhere/x"], &base(&[]))).contains("/nowhere/x"));
}

#[test]
fn cors_origins_are_a_list() {
    let two = ["https://a.example", "https://b.example"];
    let joined = two.join(", ");
    assert_eq!(run(&[], &base(&[("SEALVEC_CORS_ORIGINS", &joined)])).unwrap().cors_origins, two);
    assert_eq!(run(&["--cors-origins", &two.join(",")], &base(&[])).unwrap().cors_origins, two);
    let yaml = Yaml::new("cors", "service: {cors_origins: ['https://a.example', 'https://b.example']}");
    assert_eq!(run(&["--config", yaml.path()], &base(&[])).unwrap().cors_origins, two);
}

#[test]
fn the_registry_of_the_documents_is_read() {
    let text = r#"
service: {port: 8000, cyborgdb_service_root_key: "${ROOT}", index_kek_cache_ttl_seconds: 60}
kms:
  registry:
    vendor-default: {provider: aws-kms, key_id: alias/x, region: us-east-1}
    customer-acme:  {provider: aws, key_id: customers/acme/kek, region: us-west-2, role_arn: "${ARN}", external_id: "${EXT:-}", role_session_name: cyborgdb-acme}
    ours: {provider: local}
"#;
    let env = |name: &str| match name {
        "ROOT" => Some("from the environment".to_owned()),
        "ARN" => Some("arn:aws:iam::1:role/x".to_owned()),
        _ => None,
    };
    let file = file::parse(text, &env).unwrap();
    assert_eq!(file.setting(ROOT_KEY), Some("from the environment"));
    assert_eq!(file.setting("PORT"), Some("8000"));
    assert_eq!(file.warnings.len(), 1);
    let names: Vec<_> = file.slots.iter().map(|slot| (slot.name.as_str(), slot.provider)).collect();
    assert_eq!(
        names,
        [("customer-acme", Provider::Aws), ("ours", Provider::Local), ("vendor-default", Provider::AwsKms)]
    );
    let acme = &file.slots[0];
    assert_eq!(acme.role_arn.as_deref(), Some("arn:aws:iam::1:role/x"));
    assert_eq!((acme.external_id.as_deref(), acme.region.as_deref()), (None, Some("us-west-2")));
    for slot in &file.slots {
        assert!(slot.check().is_ok(), "{}", slot.name);
    }
}

#[test]
fn a_slot_that_lacks_something_says_so() {
    let check = |fields: &str| {
        let file = file::parse(&format!("kms: {{registry: {{s: {fields}}}}}"), &|_| None).unwrap();
        let error = file.slots[0].check().unwrap_err();
        assert_eq!(error.status, 502);
        format!("{:?}", error.detail)
    };
    assert!(check("{provider: aws-kms}").contains("provider=aws-kms requires key_id (KMS key id / ARN / alias)"));
    let both = check("{provider: aws-kms, key_id: k, external_id: e}");
    assert!(both.contains("external_id is only meaningful with role_arn"));
}

#[test]
fn what_a_file_may_not_say() {
    const SECRET: &str = "s3cr3t";
    let cases = [
        ("service: {nonsense: s3cr3t}", "service.nonsense"),
        ("service: {cyborgdb_config_file: s3cr3t}", "service.cyborgdb_config_file"),
        ("services: {port: 1}", "unknown key services"),
        ("kms: {registry: {}, cache: s3cr3t}", "kms"), // with and without the key agent
        ("kms: {registry: {a: {provider: none}}}", "kms.registry.a"),
        ("kms: {registry: {a: {provider: s3cr3t}}}", "kms.registry.a"),
        ("kms: {registry: {a: {key_id: s3cr3t}}}", "kms.registry.a"),
        ("kms: {registry: {a: {provider: local, secret: s3cr3t}}}", "kms.registry.a"),
        ("kms: {registry: [s3cr3t]}", "kms"),
        ("service: [s3cr3t]", "service must be a mapping"),
        ("s3cr3t", "the file must be a mapping"),
        ("service: {port: {a: s3cr3t}}", "service.port"),
        ("service: {root_key: \"${UNSET}s3cr3t\"}", "UNSET is not set"),
        ("service: {root_key: s3cr3t, root_key: s3cr3t}", "not valid YAML"),
        ("service: {root_key: 's3cr3t", "not valid YAML"),
        ("service: {a: [s3cr3t}", "not valid YAML"),
    ];
    for (text, expected) in cases {
        let error = file::parse(text, &|_| None).err().unwrap_or_else(|| panic!("{text} is taken"));
        assert!(error.contains(expected), "{text}: {error}");
        assert!(!error.contains(SECRET), "{error}");
    }
}

#[test]
fn variables_in_values() {
    let env = |name: &str| (name == "A_1").then(|| "x: [y".to_owned());
    let read = |text: &str| {
        file::parse(&format!("service: {{log_level: {text}}}"), &env)
            .map(|file| file.setting("SEALVEC_LOG_LEVEL").map(str::to_owned))
    };
    for (text, expected) in [
        ("'${A_1}'", Some("x: [y")), // never read as YAML
        ("'<${A_1}|${A_1}>'", Some("<x: [y|x: [y>")),
        ("'${B:-d}'", Some("d")),
        ("'${A_1:-d}'", Some("x: [y")),
        ("'${B:-}'", None), // empty is unset
        ("''", None),
        ("null", None),
        ("'${lower} ${1A} ${} ${A_1 $A_1 ${B-x}'", Some("${lower} ${1A} ${} ${A_1 $A_1 ${B-x}")),
    ] {
        assert_eq!(read(text).unwrap().as_deref(), expected, "{text}");
    }
    assert!(read("'${B}'").unwrap_err().contains('B'));
}

#[test]
fn a_named_file_must_be_there() {
    assert!(message(run(&["--config", "/nowhere/c.yaml"], &base(&[]))).contains("/nowhere/c.yaml"));
    let second = Yaml::new("second", "service: {}");
    let found = file::locate(None, &["/nowhere/c.yaml", second.path()]).unwrap();
    assert_eq!(found.as_deref(), Some(second.0.as_path()));
    assert_eq!(file::locate(None, &["/nowhere/c.yaml"]).unwrap(), None);
}
