//! `cargo xtask demo`: the whole of sealvec on real data, from an empty machine to a search for leaks.

mod data;
mod leaks;
mod rest;

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use postgres::Client;

use crate::data::random_bytes;
use crate::pg::{self, Cluster, How, Profile, Which};
use crate::run::step;
use data::{Kek, Packages};

/// Version of Postgres.
const PG: u32 = 15;
/// Questions of the set that are shown; all of them are checked.
const SHOWN: [usize; 5] = [2, 6, 9, 18, 26];
/// Names asked for.
const K: usize = 5;
/// Least share of the exact answers, over all questions, that the index must return.
const RECALL: f64 = 0.95;

/// Show sealvec at work: seal 5,000 real embeddings, ask in words, change rows, then search the disk for leaks.
///
/// Installs what is missing (as root), builds in release, and starts a cluster of its own named `demo` under target/, and
/// a sidecar before it for as long as it is asked.
/// Exit code 0 only if every answer, plan and search came out as promised.
#[derive(Args)]
pub struct Demo {
    /// Use the extension as it was installed last; build nothing.
    #[arg(long)]
    no_build: bool,
}

impl Demo {
    pub fn run(self) -> Result<()> {
        let begun = Instant::now();
        let packages = Packages::read()?;
        let cluster = self.cluster()?;
        let mut client = cluster.connect("postgres")?;

        heading("Seal and index");
        seal(&mut client, &packages)?;
        heading("Ask in words");
        ask(&mut client, &packages)?;
        show_plan(&mut client, &packages)?;
        heading("Change rows in a transaction");
        change(&mut client, &packages)?;
        heading("A key that only the client holds");
        let client_key = hold_key(&mut client, &packages)?;
        heading("An encrypted index over HTTP");
        let [root, index_key] = rest::round(&cluster, &packages)?;
        heading("Search the disk for plaintext");
        leaks::search(&cluster, &mut client, &packages, &[&client_key.0, &root.0, &index_key.0])?;

        println!("\nEverything held, in {:.0} s. The cluster still runs:", begun.elapsed().as_secs_f64());
        println!("  cargo xtask pg psql --name demo            look around");
        println!("  cargo xtask pg stop --name demo --remove   clear it away");
        Ok(())
    }

    fn cluster(&self) -> Result<Cluster> {
        let which = Which { pg: PG, name: String::from("demo") };
        let (settings, no_build) = (Vec::new(), self.no_build);
        let how = How { profile: Profile::Release, no_build, settings, fresh: true, sidecar: true };
        let cluster = pg::start(&which, &how)?;
        ensure!(cluster.root_key().exists(), "the cluster has no root key: is the extension in this tree?");
        Ok(cluster)
    }
}

fn heading(text: &str) {
    println!("\n== {text}");
}

fn seal(client: &mut Client, packages: &Packages) -> Result<()> {
    run(client, "CREATE EXTENSION sealvec")?;
    run(client, "SELECT sealvec.create_key_ring('demo')")?;
    run(
        client,
        &format!(
            "CREATE TABLE packages (name text PRIMARY KEY, description text, embedding sealvec({}, demo))",
            packages.vectors.dims
        ),
    )?;
    let sealed = packages.sealed();
    step(&format!("sealing {} package descriptions", sealed.len()), || {
        data::copy(client, "COPY packages FROM STDIN", sealed.clone().map(|row| packages.line(row)))
    })?;
    println!("   {} rows sealed by COPY; what the table holds:", sealed.len());
    let stored: String = client.query_one("SELECT left(embedding::text, 60) FROM packages LIMIT 1", &[])?.get(0);
    println!("   {stored}…");
    let sql = "CREATE INDEX packages_embedding_idx ON packages USING sealed_ivf (embedding sealvec_cosine_ops) WITH (storage_precision = 'float16')";
    step("building the index", || run(client, sql))?;
    run(client, "VACUUM ANALYZE packages")
}

/// One answer: name, distance, description.
type Answer = (String, f64, String);

fn answers(client: &mut Client, vector: &[f32]) -> Result<Vec<Answer>> {
    let sql = format!(
        "SELECT name, embedding <=> $1::real[], description FROM packages ORDER BY embedding <=> $1::real[] LIMIT {K}"
    );
    let rows = client.query(&sql, &[&vector])?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect())
}

fn ask(client: &mut Client, packages: &Packages) -> Result<()> {
    answers(client, packages.questions.row(0))?; // the first query of a session opens the index's directory
    for question in SHOWN {
        let begun = Instant::now();
        let found = answers(client, packages.questions.row(question))?;
        let elapsed = begun.elapsed().as_secs_f64() * 1e3;
        println!("\n   \"{}\"  ({elapsed:.1} ms)", packages.question_texts[question]);
        for (name, distance, description) in found {
            println!("     {distance:.4}  {name:28} {}", description.chars().take(64).collect::<String>());
        }
    }
    let mut right = 0;
    for question in 0..packages.questions.rows() {
        let asked = packages.questions.row(question);
        let exact = packages.nearest(asked, K);
        let limit = exact[K - 1].1 + 1e-6;
        for (name, distance, _) in answers(client, asked)? {
            let row =
                packages.row_of(&name).with_context(|| format!("the index returned {name}, which was never stored"))?;
            let truth = packages.distance(row, asked);
            ensure!((distance - truth).abs() < 1e-5, "{name}: expected distance {truth}, the index says {distance}");
            right += usize::from(truth <= limit);
        }
    }
    let recall = right as f64 / (K * packages.questions.rows()) as f64;
    println!(
        "\n   recall@{K} over all {} questions, against an exact search of the plaintext: {recall:.3}",
        packages.questions.rows()
    );
    ensure!(recall >= RECALL, "expected recall of at least {RECALL}, got {recall:.3}");
    Ok(())
}

fn show_plan(client: &mut Client, packages: &Packages) -> Result<()> {
    let array: Vec<String> = packages.questions.row(0).iter().map(f32::to_string).collect();
    let sql = format!(
        "EXPLAIN (COSTS OFF) SELECT name FROM packages ORDER BY embedding <=> '[{}]' LIMIT {K}",
        array.join(",")
    );
    let plan: Vec<String> = client.query(&sql, &[])?.iter().map(|row| row.get(0)).collect();
    println!("\n   EXPLAIN:");
    for line in &plan {
        println!("   {}", line.chars().take(110).collect::<String>());
    }
    ensure!(
        plan.iter().any(|line| line.contains("Index Scan using packages_embedding_idx")),
        "expected a plan that uses the index"
    );
    Ok(())
}

fn change(client: &mut Client, packages: &Packages) -> Result<()> {
    let (first, second) = (packages.questions.row(SHOWN[0]), packages.questions.row(SHOWN[1]));
    let changed = answers(client, first)?.pop().context("no answers")?.0;
    let deleted = answers(client, second)?.remove(0).0;
    let apply = |transaction: &mut postgres::Transaction| -> Result<()> {
        let updated =
            transaction.execute("UPDATE packages SET embedding = $1::real[] WHERE name = $2", &[&first, &changed])?;
        let gone = transaction.execute("DELETE FROM packages WHERE name = $1", &[&deleted])?;
        ensure!((updated, gone) == (1, 1), "expected to update and delete one row each, not {updated} and {gone}");
        Ok(())
    };

    let before = (answers(client, first)?, answers(client, second)?);
    let mut transaction = client.transaction()?;
    apply(&mut transaction)?;
    transaction.rollback()?;
    ensure!(
        before == (answers(client, first)?, answers(client, second)?),
        "a rolled-back transaction changed the answers"
    );
    println!("   BEGIN; UPDATE; DELETE; ROLLBACK: the answers are what they were");

    let mut transaction = client.transaction()?;
    apply(&mut transaction)?;
    transaction.commit()?;
    let (name, distance, _) = answers(client, first)?.remove(0);
    ensure!(
        name == changed && distance.abs() < 1e-5,
        "expected {changed} at distance 0 after its update, got {name} at {distance}"
    );
    ensure!(
        answers(client, second)?.iter().all(|answer| answer.0 != deleted),
        "{deleted} was deleted and is still found"
    );
    println!(
        "   BEGIN; UPDATE; DELETE; COMMIT: {changed} moved to the question itself (distance {distance:.6}), {deleted} is gone"
    );
    step("VACUUM", || run(client, "VACUUM packages"))?;
    step("sealvec.verify_index", || run(client, "SELECT sealvec.verify_index('packages_embedding_idx')"))?;
    println!("   sealvec.verify_index: every page opens, and the index agrees with the table");
    Ok(())
}

/// Seals rows under a key that never lies on the server's disk; returns the key, so that it can be searched for.
fn hold_key(client: &mut Client, packages: &Packages) -> Result<Kek> {
    let key = Kek(random_bytes(32)?);
    client.execute("SELECT sealvec.create_key_ring('vault', kek => $1)", &[&key])?;
    client.execute("SELECT sealvec.unlock('vault', $1)", &[&key])?;
    run(
        client,
        &format!("CREATE TABLE vault (name text PRIMARY KEY, embedding sealvec({}, vault))", packages.vectors.dims),
    )?;
    data::copy(client, "COPY vault FROM STDIN", packages.sealed().take(100).map(|row| packages.short_line(row)))?;
    let count = "SELECT count(*) FROM vault WHERE sealvec.open(embedding) IS NOT NULL";
    let opened: i64 = client.query_one(count, &[])?.get(0);
    ensure!(opened == 100, "expected to open 100 rows, opened {opened}");
    run(client, "SELECT sealvec.lock_all()")?;
    match client.query_one(count, &[]) {
        Ok(_) => bail!("a locked ring still opens its values"),
        Err(error) => {
            println!("   100 rows open while unlocked; after sealvec.lock_all():\n     ERROR: {}", message(&error))
        }
    }
    let mut wrong = Kek(key.0.clone());
    wrong.0[31] ^= 1;
    match client.execute("SELECT sealvec.unlock('vault', $1)", &[&wrong]) {
        Ok(_) => bail!("a wrong key unlocked the ring"),
        Err(error) => println!("   with a key that differs in one bit:\n     ERROR: {}", message(&error)),
    }
    Ok(key)
}

fn message(error: &postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned())
}

fn run(client: &mut Client, sql: &str) -> Result<()> {
    client.batch_execute(sql).with_context(|| format!("in: {sql}"))
}
