//! Vectors as parameters of the drivers that people use. Each driver is installed below `target/` by its own package
//! manager, or from Debian where that is missing and we are root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sealvec_e2e::packages::{apt, has, home, install};
use sealvec_e2e::xtask::{must, root};
use sealvec_e2e::{Cluster, one, run};

/// A cluster with a table of the given name, two rings apart from the test's own.
fn with_table(name: &str) -> Cluster {
    let cluster = Cluster::start(&format!("driver-{name}"), &[]);
    let mut client = cluster.client();
    run(&mut client, "DO $$ BEGIN PERFORM sealvec.create_key_ring('notes'); END $$");
    run(
        &mut client,
        &format!(
            "CREATE TABLE {name} (id text PRIMARY KEY, embedding sealvec(4, notes));
             CREATE INDEX ON {name} USING sealed_ivf (embedding);
             CREATE TABLE staging (id text, embedding real[])"
        ),
    );
    cluster
}

/// Runs a driver's script, which prints `ok` at its end; then the index still agrees with the table.
fn passes(cluster: &Cluster, name: &str, command: &mut Command) {
    let said = must(command.arg("127.0.0.1").arg(cluster.port().to_string()));
    assert_eq!(said.lines().last(), Some("ok"), "{name}: {said}");
    let mut client = cluster.client();
    let rows: i64 = one(&mut client, &format!("SELECT count(*) FROM {name}"));
    let verified: i64 = one(&mut client, &format!("SELECT sealvec.verify_index('{name}_embedding_idx')"));
    assert_eq!(rows, verified);
    cluster.log_is_clean();
}

fn script(name: &str) -> PathBuf {
    root().join("tests/e2e/drivers").join(name)
}

/// A Python with `package` in it.
fn python(package: &str, debian: &str) -> PathBuf {
    let home = home(&format!("python-{}", package.split(['[', '=']).next().expect("a name")));
    let python = home.join("bin/python");
    if home.join("installed").exists() {
        return python;
    }
    let made = has("python3")
        && Command::new("python3").args(["-m", "venv"]).arg(&home).output().is_ok_and(|output| output.status.success());
    if !made {
        apt(&["python3", debian]);
        return "/usr/bin/python3".into();
    }
    install(package, Command::new(&python).args(["-m", "pip", "install", "--quiet", package]));
    fs::write(home.join("installed"), package).expect("written");
    python
}

#[test]
fn psycopg_parameters_survive() {
    let cluster = with_table("psycopg");
    passes(
        &cluster,
        "psycopg",
        Command::new(python("psycopg[binary]", "python3-psycopg")).arg(script("with_psycopg.py")),
    );
}

#[test]
fn asyncpg_parameters_survive() {
    let cluster = with_table("asyncpg");
    passes(&cluster, "asyncpg", Command::new(python("asyncpg", "python3-asyncpg")).arg(script("with_asyncpg.py")));
}

#[test]
fn node_pg_parameters_survive() {
    let home = home("node");
    let mut modules = home.join("node_modules");
    if !modules.join("pg").exists() {
        if has("npm") {
            install(
                "pg",
                Command::new("npm").args(["install", "--silent", "--no-audit", "--prefix"]).arg(&home).arg("pg@8"),
            );
        } else {
            apt(&["nodejs", "node-pg"]);
            modules = "/usr/share/nodejs".into();
        }
    }
    let cluster = with_table("nodepg");
    passes(&cluster, "nodepg", Command::new("node").arg(script("with_pg.js")).env("NODE_PATH", modules));
}

#[test]
fn jdbc_parameters_survive() {
    const VERSION: &str = "42.7.4";
    let home = home("jdbc");
    let mut jar = home.join(format!("org/postgresql/postgresql/{VERSION}/postgresql-{VERSION}.jar"));
    if !jar.exists() {
        let fetched = has("java")
            && Command::new("mvn")
                .args(["--batch-mode", "--quiet", "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:get"])
                .arg(format!("-Dartifact=org.postgresql:postgresql:{VERSION}"))
                .args(["-Dtransitive=false", &format!("-Dmaven.repo.local={}", home.display())])
                .current_dir(&home)
                .output()
                .is_ok_and(|output| output.status.success());
        if !fetched {
            jar = Path::new("/usr/share/java/postgresql.jar").into();
            let packages = ["libpostgresql-jdbc-java", "default-jdk-headless"];
            if !jar.exists() || !has("java") {
                apt(&packages[..if has("java") { 1 } else { 2 }]);
            }
        }
    }
    let cluster = with_table("jdbc");
    passes(&cluster, "jdbc", Command::new("java").arg("-cp").arg(&jar).arg(script("WithJdbc.java")));
}
