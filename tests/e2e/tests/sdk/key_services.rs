//! The unmodified Python SDK on indexes whose keys AWS keeps (moto), by both providers: made, used, given users, deleted. The
//! sidecar that serves them is the database server's key agent, too.

use sealvec_e2e::cluster::is_root;
use sealvec_e2e::kms::moto::REGION;
use sealvec_e2e::kms::{AWS_SECRET, FaultProxy, Moto, aws_credentials};
use sealvec_e2e::packages::virtual_environment;
use sealvec_e2e::{Cluster, Sidecar, one};
use serde_json::json;

use crate::python::{packages, passes};

/// Groups of calls with a KMS-backed index in them.
const GROUPS: [&str; 3] = ["client_calls", "text", "users"];

fn on_key_services(version: &str) {
    let python = virtual_environment(&format!("python-cyborgdb-{version}"), &packages(version));
    let name = format!("kms-python-{}", version.replace('.', "-"));
    let moto = Moto::start();
    let proxy = FaultProxy::start(moto.address()); // it counts
    let home = tempfile::Builder::new().prefix("sealvec-agent-").tempdir_in("/tmp").expect("/tmp can be written");
    let socket = home.path().join("agent.sock").display().to_string();
    std::fs::set_permissions(home.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("our own");
    let cluster = Cluster::start(&name, &[&format!("sealvec.agent_socket={socket}")]);
    let secret =
        moto.create_secret("acme/kek", &json!({"SecretString": "c2VhbHZlYyBlMmUgd3JhcCBrZXksIDMyIGJ5dGVzISE="}));
    let slot = |provider: &str, key: &str| json!({"provider": provider, "key_id": key, "region": REGION, "endpoint": proxy.url()});
    let kms = json!({
        "registry": {"in-kms": slot("aws-kms", &moto.create_key()), "in-secrets-manager": slot("aws", &secret)},
        "endpoints": [proxy.url()],
    });
    let mut arguments = vec!["--agent-socket", &*socket, "--agent-cache-seconds", "0"];
    if is_root() {
        arguments.extend(["--agent-allow-user", "postgres"]);
    }
    let credentials = aws_credentials();
    let mut environment: Vec<(&str, &str)> = credentials.iter().map(|(name, value)| (*name, value.as_str())).collect();
    environment.push(("AWS_EC2_METADATA_DISABLED", "true"));
    let mut sidecar = Sidecar::start_on(&cluster, &name, &kms, &arguments, &environment);

    for (slot, service) in [("in-kms", "TrentService."), ("in-secrets-manager", "secretsmanager.")] {
        proxy.take_seen();
        passes(&python, &sidecar, slot, false, &GROUPS);
        let seen = proxy.take_seen();
        assert!(!seen.is_empty(), "nobody asked the key service");
        for request in &seen {
            let target = request.header("x-amz-target").unwrap_or_default();
            assert!(target.starts_with(service), "slot {slot} asked {target:?}");
        }
    }
    let mut client = cluster.client();
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM sealvec.key_ring"), 0, "every index was deleted");
    sidecar.stop();
    assert!(!std::path::Path::new(&socket).exists(), "the agent ended with it");
    for log in [sidecar.log(), cluster.log()] {
        assert!(!log.contains(AWS_SECRET));
    }
    cluster.log_is_clean();
}

#[test]
fn python_0_17_on_aws_kms_and_secrets_manager() {
    on_key_services("0.17.0");
}

#[test]
fn python_0_18_on_aws_kms_and_secrets_manager() {
    on_key_services("0.18.0");
}
