//! The handbook's commands for keys do what it says: docs/OPERATING.md, "Back up, restore, move, lose".

use std::fs;
use std::process::Command;

use postgres::Client;
use sealvec_e2e::kms::moto::REGION;
use sealvec_e2e::kms::{FaultProxy, KeyAgent, Moto, aws_credentials};
use sealvec_e2e::xtask::root;
use sealvec_e2e::{Cluster, data, nearest, one, run};
use serde_json::json;

/// What comes between two fences of `bash` in the section, in order.
fn commands() -> Vec<String> {
    let handbook = fs::read_to_string(root().join("docs/OPERATING.md")).expect("the handbook is in the tree");
    let section = handbook.split("\n## ").find(|text| text.starts_with("Back up, restore")).expect("the section");
    let blocks = section.split("```bash\n").skip(1);
    blocks.map(|block| block.split("```").next().expect("split gives one").to_owned()).collect()
}

#[test]
fn the_handbooks_commands_for_keys_do_what_it_says() {
    let (moto, agent_name) = (Moto::start(), "handbook");
    let proxy = FaultProxy::start(moto.address());
    let agent = KeyAgent::start(agent_name, &json!({"endpoints": [proxy.url()]}), &[], &aws_credentials());
    let cluster = Cluster::start(agent_name, &[&agent.setting(), "autovacuum=off"]);
    let mut client = cluster.client();
    run(&mut client, "DO $$ BEGIN PERFORM sealvec.create_key_ring('notes'); END $$");
    let vectors = data::vectors().cut(600, 64);
    data::table(&mut client, "docs", "notes", &vectors);
    run(&mut client, "CREATE INDEX docs_embedding_idx ON docs USING sealed_ivf (embedding)");
    let query = data::queries().cut(1, 64);
    // Every list, surely: the database that is restored plans without statistics.
    let answers = |client: &mut Client| {
        run(client, "SET sealvec.target_recall = 1");
        nearest(client, "docs", "<->", query.row(0), 10)
    };
    let before = answers(&mut client);
    drop(client);

    // The handbook's key is one of Amazon's; ours is moto's, by another address.
    let options = |text: &str| {
        let key = r#""key_id": "alias/acme", "region": "us-east-1""#;
        assert!(text.contains(key) || !text.contains("create_kms"), "the handbook names another key");
        let ours = format!(r#""key_id": "{}", "region": "{REGION}", "endpoint": "{}""#, moto.create_key(), proxy.url());
        text.replace(key, &ours)
    };
    let blocks = commands();
    assert!(blocks.len() >= 5, "the handbook has {} blocks", blocks.len());
    let script = options(&blocks.join("\n"));
    let directory = tempfile::tempdir().expect("a directory");
    let path = format!("{}:{}", cluster.path("bin").display(), std::env::var("PATH").unwrap_or_default());
    let done = Command::new("bash")
        .args(["-euxo", "pipefail", "-c", &script])
        .current_dir(directory.path())
        .env("PATH", path)
        .env("PGHOST", cluster.path("socket"))
        .env("PGPORT", cluster.port().to_string())
        .env("PGUSER", "postgres")
        .env("PGDATABASE", "e2e")
        .env("PGOPTIONS", "-c client_min_messages=warning")
        .output()
        .expect("bash runs");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "the handbook's commands failed:\n{said}{}", String::from_utf8_lossy(&done.stdout));

    let ring = "SELECT kms || ' ' || dek_version FROM sealvec.key_rings WHERE name = 'notes'";
    assert_eq!(one::<String>(&mut cluster.client(), ring), "acme 2");
    assert_eq!(one::<String>(&mut cluster.connect_to("restored"), ring), "local 1");
    for database in ["e2e", "restored"] {
        let found = answers(&mut cluster.connect_to(database));
        assert_eq!(found, before, "{database}");
    }
    assert!(proxy.take_seen().iter().any(|request| format!("{request:?}").contains("Decrypt")), "moto was asked");
    cluster.log_is_clean();
}
