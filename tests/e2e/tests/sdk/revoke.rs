//! `docs/OPERATING.md`, "Users of a key ring, and how to revoke one": its commands, as they stand there.

use std::fs;
use std::process::Command;

use postgres::Client;
use sealvec_e2e::packages::{apt, has};
use sealvec_e2e::sidecar::program;
use sealvec_e2e::xtask::{must, root};
use sealvec_e2e::{Cluster, error_of, eventually, one, run};

/// The code blocks of the section, in order.
fn blocks() -> Vec<(String, String)> {
    let text = fs::read_to_string(root().join("docs/OPERATING.md")).expect("the handbook is in the tree");
    let section = text.split("\n## ").find(|text| text.starts_with("Users of a key ring")).expect("the section");
    let parts: Vec<&str> = section.split("\n```").collect();
    // Outside, inside, outside, …; each inside begins with its language.
    let inside = parts.iter().skip(1).step_by(2);
    inside.map(|part| part.split_once('\n').expect("a language")).map(|(k, b)| (k.into(), b.into())).collect()
}

/// The statements of a block, without their comments.
fn statements(block: &str) -> Vec<String> {
    let lines: Vec<&str> =
        block.lines().map(|line| line.split(" -- ").next().expect("split gives one").trim_end()).collect();
    let text =
        lines.iter().map(|line| line.split("   --").next().expect("split gives one")).collect::<Vec<_>>().join(" ");
    text.split(';').map(str::trim).filter(|sql| !sql.is_empty()).map(str::to_owned).collect()
}

/// A shell on the analyst's machine, with the programs of this tree.
fn bash_in(cluster: &Cluster, directory: &std::path::Path, script: &str) -> Command {
    let bin = program().parent().expect("target").to_owned();
    let path =
        format!("{}:{}:{}", bin.display(), cluster.path("bin").display(), std::env::var("PATH").unwrap_or_default());
    let url = format!("postgresql://analyst@127.0.0.1:{}/e2e", cluster.port());
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", script]).current_dir(directory);
    command.env("PATH", path).env("SEALVEC_DATABASE_URL", url);
    command
}

fn count(client: &mut Client, sql: &str) -> i64 {
    one(client, sql)
}

#[test]
fn a_user_comes_and_goes_as_the_handbook_says() {
    if !has("openssl") {
        apt(&["openssl"]);
    }
    let [(bash, make), (sql, grant), (bash_too, show), (sql_too, revoke)] =
        <[_; 4]>::try_from(blocks()).expect("four blocks");
    assert_eq!([&*bash, &sql, &bash_too, &sql_too], ["bash", "sql", "bash", "sql"]);
    let cluster = Cluster::start("sdk-revoke", &["autovacuum=off"]);
    let directory = tempfile::tempdir().expect("a directory");
    let mut owner = cluster.client();
    run(
        &mut owner,
        "CREATE ROLE analyst LOGIN; CREATE ROLE loader LOGIN; DO $$ BEGIN PERFORM sealvec.create_key_ring('notes'); END $$;
         CREATE TABLE docs (id int, embedding sealvec(3, notes)); CREATE INDEX docs_embedding_idx ON docs USING sealed_ivf (embedding);
         INSERT INTO docs SELECT i, ARRAY[i, 0, -i]::real[] FROM generate_series(1, 500) i",
    );
    // The user makes his key, and the owner makes him a user.
    let public = must(&mut bash_in(&cluster, directory.path(), &make));
    assert_eq!(public.trim().len(), 64, "{public}");
    for statement in statements(&grant) {
        run(&mut owner, &statement.replace("…64 digits…", public.trim()));
    }
    assert_eq!(count(&mut owner, "SELECT count(*) FROM sealvec.ring_users WHERE ring = 'notes' AND is_granted"), 2);
    run(&mut owner, "GRANT INSERT ON docs TO analyst"); // so that it is the key that he lacks
    // He opens the ring and reads; the loader's token came with a statement that this test ran, and is lost.
    let read = show.replace("'SELECT …'", "'SELECT count(sealvec.open(embedding)) FROM docs'");
    assert!(read.contains("count(sealvec.open"), "{read}");
    let uuid: String = one(&mut owner, "SELECT uuid::text FROM sealvec.key_rings WHERE name = 'notes'");
    let said = must(bash_in(&cluster, directory.path(), &read).env("RING_UUID", &uuid));
    assert!(said.lines().any(|line| line.trim() == "500"), "{said}");
    let write = show.replace("'SELECT …'", "\"INSERT INTO docs VALUES (0, '[1,2,3]')\"");
    let refused = bash_in(&cluster, directory.path(), &write).env("RING_UUID", &uuid).output().expect("bash runs");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("permission denied for key ring"),
        "an analyst does not write: {said}"
    );
    // A server that shows the wrap of another ring learns nothing.
    let other = "5a5a5a5a-5a5a-5a5a-5a5a-5a5a5a5a5a5a";
    let refused = bash_in(&cluster, directory.path(), &read).env("RING_UUID", other).output().expect("bash runs");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains(&format!("a wrap of ring {uuid}")), "{said}");

    // Revoked, and what he could read is sealed anew.
    for statement in statements(&revoke) {
        if statement.starts_with("CALL sealvec.retire_dek") {
            eventually("older transactions end", 30, || {
                let left = "SELECT coalesce(sum(uses), 0)::bigint FROM sealvec.dek_usage('notes') WHERE version = 1 AND kind <> 'user'";
                (count(&mut owner, left) == 0).then_some(())
            });
            // The loader's token is of the old data key alone, and stands in the way: he gets another, as the handbook says.
            assert_eq!(error_of(&mut owner, &statement).code().code(), "55006");
            run(&mut owner, "SELECT sealvec.grant_user('notes', 'loader', '{write}', token => true)");
        }
        run(&mut owner, &statement);
    }
    assert_eq!(count(&mut owner, "SELECT count(*) FROM sealvec.ring_users WHERE role = 'analyst'"), 0);
    let mut analyst = cluster.connect_as("analyst", "e2e");
    assert_eq!(count(&mut analyst, "SELECT count(*) FROM sealvec.my_wraps('notes')"), 0);
    assert_eq!(error_of(&mut analyst, "SELECT sealvec.open(embedding) FROM docs LIMIT 1").code().code(), "42501");
    assert_eq!(count(&mut owner, "SELECT count(sealvec.open(embedding)) FROM docs"), 500);
    assert_eq!(count(&mut owner, "SELECT dek_version::bigint FROM sealvec.key_rings WHERE name = 'notes'"), 2);
    cluster.log_is_clean();
}
