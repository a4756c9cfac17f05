//! No file that a server writes holds a plaintext vector or a key; the same search finds a plaintext control in each
//! form and in each place.

use std::fs;
use std::path::{Path, PathBuf};

use postgres::Client;
use sealvec_e2e::data::narrow;
use sealvec_e2e::seal::{seal, url};
use sealvec_e2e::text::Text;
use sealvec_e2e::xtask::{must, output, version};
use sealvec_e2e::{Cluster, Matrix, data, eventually, one, page, run};

/// Rows that are sealed, and rows beyond them that are the control.
const SEALED: usize = 2_000;
const CONTROL: usize = 40;
const KEK: &str = "5ea1ed00c0ffee11223344556677889900aabbccddeeff0123456789abcdef42";

/// Files with vectors for `xtask scan`.
struct Wanted {
    sealed: PathBuf,
    control: PathBuf,
    root_key: String,
}

impl Wanted {
    fn scan(&self, arguments: &[&str], places: &[&Path]) -> Result<(), String> {
        let mut command: Vec<String> = vec!["scan".into()];
        command.extend(arguments.iter().map(|word| (*word).to_owned()));
        command.extend(places.iter().map(|place| place.display().to_string()));
        let output = output(&command);
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        if output.status.success() { Ok(()) } else { Err(text) }
    }

    /// Nothing of what was sealed, and no key, is in any of `places`.
    fn absent(&self, what: &str, places: &[&Path]) {
        let sealed = self.sealed.display().to_string();
        self.scan(&["--vectors-text", &sealed, "--key-hex", KEK, "--key-hex", &self.root_key], places)
            .unwrap_or_else(|text| panic!("plaintext in {what}:\n{text}"));
    }

    /// The control is found in `place` in `form`: the search would have found what was sealed.
    fn found(&self, what: &str, place: &Path, form: &str) {
        let control = self.control.display().to_string();
        self.scan(&["--vectors-text", &control, "--expect-found", form], &[place])
            .unwrap_or_else(|text| panic!("the control is not found in {what}, so the search proves nothing:\n{text}"));
    }
}

/// Each form that the scanner knows, of one vector.
fn forms(vector: &[f32]) -> Vec<(String, Vec<u8>)> {
    let norm = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
    let unit: Vec<f32> = vector.iter().map(|x| (f64::from(*x) / norm) as f32).collect();
    let mut forms = Vec::new();
    for (prefix, vector) in [("", vector), ("unit ", &unit)] {
        let bytes = |encode: fn(f32) -> Vec<u8>| vector.iter().flat_map(|x| encode(*x)).collect::<Vec<u8>>();
        for (name, bytes) in [
            ("f32 little-endian", bytes(|x| x.to_le_bytes().to_vec())),
            ("f32 big-endian", bytes(|x| x.to_be_bytes().to_vec())),
            ("f16 little-endian", bytes(|x| narrow(x).to_le_bytes().to_vec())),
            ("f16 big-endian", bytes(|x| narrow(x).to_be_bytes().to_vec())),
            ("f64 little-endian", bytes(|x| f64::from(x).to_le_bytes().to_vec())),
            ("f64 big-endian", bytes(|x| f64::from(x).to_be_bytes().to_vec())),
        ] {
            forms.push((format!("{prefix}{name}"), bytes));
        }
        forms.push((format!("{prefix}decimal"), data::text(vector).into_bytes()));
        let doubles: Vec<String> = vector.iter().map(|x| f64::from(*x).to_string()).collect();
        forms.push((format!("{prefix}decimal of f64"), doubles.join(",").into_bytes()));
    }
    forms
}

fn lines(path: &Path, matrix: &Matrix, rows: impl Iterator<Item = usize>) {
    let text: String = rows.map(|row| matrix.text(row) + "\n").collect();
    fs::write(path, text).expect("written");
}

#[test]
fn plaintext_absent_from_everything_a_server_writes() {
    let cluster = Cluster::start(
        "plaintext",
        &[
            "wal_level=logical", // the most that WAL can hold
            "log_statement=all",
            "log_min_duration_statement=0",
            "log_parameter_max_length=-1",
            "log_error_verbosity=verbose",
            "auto_explain.log_min_duration=0",
            "auto_explain.log_verbose=on",
            "auto_explain.log_analyze=on",
            "autovacuum=off",
            "max_wal_size=2GB",
        ],
    );
    // Not of length one, so that "as given" and "normalised" differ.
    let vectors = data::vectors().cut(SEALED + CONTROL, 384).scaled(1.7);
    let wanted = Wanted {
        sealed: cluster.home().join("sealed.txt"),
        control: cluster.home().join("control.txt"),
        root_key: root_key(&cluster),
    };
    lines(&wanted.sealed, &vectors, (0..SEALED).step_by(SEALED / 100));
    lines(&wanted.control, &vectors, SEALED..SEALED + CONTROL);

    let plans_are_logged = load_auto_explain(&cluster);
    let mut client = cluster.client();
    seal_everything(&cluster, &mut client, &vectors);
    control(&mut client, &vectors);
    let (log, data) = (cluster.path("log").to_owned(), cluster.path("data").to_owned());

    // A sort that spills keeps its temp files as long as its cursor is open.
    for (table, control) in [("docs", false), ("plain", true)] {
        let mut transaction = client.transaction().expect("begins");
        transaction
            .batch_execute(&format!(
                "SET LOCAL work_mem = '64kB'; SET LOCAL enable_indexscan = off;
                 DECLARE spill CURSOR FOR SELECT id, t.* FROM {table} t ORDER BY id % 97, id; FETCH 1 FROM spill"
            ))
            .expect("a cursor");
        let temporary = data.join("base/pgsql_tmp");
        let spilled: u64 = fs::read_dir(&temporary)
            .expect("temp files")
            .map(|entry| entry.and_then(|entry| entry.metadata()).map_or(0, |file| file.len()))
            .sum();
        assert!(spilled > 100_000, "the sort of {table} has spilled: {spilled} bytes");
        if control {
            wanted.found("temp files", &temporary, "f32 little-endian");
        } else {
            wanted.absent("temp files", &[&temporary]);
        }
        transaction.rollback().expect("rolls back");
    }
    // Distances and opened vectors that a user asked for may spill; a sort by distance over sealed rows may not
    // take the vectors with it.
    let mut transaction = client.transaction().expect("begins");
    transaction
        .batch_execute(
            "SET LOCAL work_mem = '64kB'; SET LOCAL enable_indexscan = off;
             DECLARE spill CURSOR FOR SELECT embedding, id FROM docs
                 ORDER BY embedding <-> (SELECT embedding FROM docs WHERE id = 7); FETCH 1 FROM spill",
        )
        .expect("a cursor");
    wanted.absent("temp files of a sort by distance", &[&data.join("base/pgsql_tmp")]);
    transaction.rollback().expect("rolls back");

    for command in ["VACUUM", "ANALYZE", "CHECKPOINT"] {
        run(&mut client, command);
    }
    let statistic = cluster.file(&mut client, "pg_statistic");
    wanted.found("pg_statistic", &statistic, "f32 little-endian");
    let extended = cluster.file(&mut client, "pg_statistic_ext_data");
    wanted.found("pg_statistic_ext_data", &extended, "f32 little-endian");
    wanted.absent("statistics", &[&statistic, &extended]);
    wanted.found("WAL", &data.join("pg_wal"), "f32 little-endian");
    wanted.found("the log", &log, "decimal");
    assert_eq!(cluster.log().contains("embedding <-> 'sealvec1."), plans_are_logged, "a plan shows its query sealed");

    for form in ["plain", "custom"] {
        let dump = cluster.home().join(format!("dump.{form}"));
        must(cluster.program("pg_dump", "e2e").args(["--format", form, "--compress=0", "-f"]).arg(&dump));
        wanted.found("a dump", &dump, "decimal");
        wanted.absent("a dump", &[&dump]);
    }
    let basebackup = cluster.owned_directory("backup");
    must(
        cluster
            .server_program("pg_basebackup")
            .args(["--format=tar", "-X", "stream", "--checkpoint=fast", "-h"])
            .arg(cluster.path("socket"))
            .args(["-p", &cluster.port().to_string(), "-U", "postgres", "-D"])
            .arg(&basebackup),
    );
    wanted.absent("a base backup", &[&basebackup]);

    drop(client);
    wanted.absent("the running server's data directory and log", &[&data, &log]);
    cluster.stop();
    wanted.absent("the stopped server's data directory and log", &[&data, &log]);
    for (form, _) in forms(vectors.row(SEALED)) {
        wanted.found("the data directory", &data.join("base"), &form);
        if !form.contains("decimal") {
            wanted.found("the data directory", &data.join("base"), &format!("hex of {form}"));
            wanted.found("the data directory", &data.join("base"), &format!("base64 of {form}"));
        }
    }
    let key = cluster.home().join("key.txt");
    fs::write(&key, format!("kek {KEK}\n")).expect("written");
    wanted.scan(&["--key-hex", KEK, "--expect-found", "hex of key"], &[&key]).expect("a key in hexadecimal is found");
    cluster.log_is_clean();
}

/// Plans go to the log of each session to come, verbose. The wheel that Postgres 16 and 18 come from has no auto_explain.
fn load_auto_explain(cluster: &Cluster) -> bool {
    let mut client = cluster.client();
    let libraries: String = one(&mut client, "SELECT setting FROM pg_config WHERE name = 'PKGLIBDIR'");
    if !Path::new(&libraries).join("auto_explain.so").exists() {
        assert!(["16", "18"].contains(&version().as_str()), "no auto_explain in {libraries}");
        return false;
    }
    run(&mut client, "ALTER SYSTEM SET session_preload_libraries = auto_explain");
    run(&mut client, "SELECT pg_reload_conf()");
    eventually("new sessions load auto_explain", 10, || {
        let setting: String = one(&mut cluster.client(), "SHOW session_preload_libraries");
        (setting == "auto_explain").then_some(())
    });
    true
}

/// Every way in, every index, updates, deletes, statistics, errors with parameters.
fn seal_everything(cluster: &Cluster, client: &mut Client, vectors: &Matrix) {
    run(client, "DO $$ BEGIN PERFORM sealvec.create_key_ring('notes'); END $$");
    // The KEK is sealed, so that it may stand in a statement as a literal, with the log on.
    let kek = seal(KEK, &["--ring", "vault", "--database-url", &url(cluster.port())]);
    run(client, &format!("DO $$ BEGIN PERFORM sealvec.create_key_ring('vault', kek => '{kek}'); END $$"));
    run(client, &format!("SELECT sealvec.unlock('vault', '{kek}')"));

    run(
        client,
        "CREATE TABLE docs (id int PRIMARY KEY, embedding sealvec(384, notes));
         CREATE TABLE secrets (id int PRIMARY KEY, embedding sealvec(384, vault));
         CREATE TABLE filled (id int PRIMARY KEY, embedding sealvec(384, notes));
         CREATE INDEX ON filled USING sealed_ivf (embedding sealvec_ip_ops)",
    );
    data::copy(client, "docs", vectors, 0..SEALED);
    data::copy(client, "secrets", vectors, (0..SEALED).step_by(SEALED / 100));
    for row in (0..SEALED).step_by(SEALED / 100) {
        // Bound parameters, as sealvec would come from a driver: the array and its cast are logged by Postgres as the
        // client's own value, so the log is off for these; the other rows come by COPY.
        run(
            client,
            "SET log_statement = none; SET log_min_duration_statement = -1; SET auto_explain.log_min_duration = -1",
        );
        client
            .execute("INSERT INTO filled VALUES ($1, $2::real[])", &[&(row as i32), &vectors.row(row)])
            .expect("inserted");
        run(client, "RESET log_statement; RESET log_min_duration_statement; RESET auto_explain.log_min_duration");
    }
    // With the log on: a parameter of type sealvec is logged as the type prints it.
    for row in (0..SEALED).step_by(SEALED / 20) {
        client
            .execute("UPDATE filled SET embedding = $2 WHERE id = $1", &[&(row as i32), &Text(vectors.text(row))])
            .expect("updated");
        client
            .query("SELECT id FROM docs ORDER BY embedding <-> $1 LIMIT 3", &[&Text(vectors.text(row))])
            .expect("an answer");
        // An error while the parameter is at hand.
        client
            .execute("UPDATE filled SET embedding = $2 WHERE id = 1 / $1", &[&0i32, &Text(vectors.text(row))])
            .expect_err("division by zero");
    }
    run(
        client,
        "INSERT INTO filled SELECT id + 100000, embedding FROM docs;
         CREATE INDEX ON docs USING sealed_ivf (embedding) WITH (storage_precision = 'float16');
         CREATE INDEX ON docs USING sealed_ivf (embedding sealvec_cosine_ops);
         CREATE INDEX ON secrets USING sealed_ivf (embedding);
         UPDATE docs SET embedding = embedding WHERE id % 7 = 0;
         DELETE FROM docs WHERE id % 11 = 0;
         CREATE TABLE copied AS SELECT id, sealvec.open(embedding)::sealvec(384, vault) AS embedding FROM docs LIMIT 300;
         CREATE UNLOGGED TABLE unlogged AS SELECT id, embedding::sealvec(384, notes) AS embedding FROM docs;
         CREATE INDEX ON unlogged USING sealed_ivf (embedding)",
    );
}

/// Plain tables that the search must find, in statistics, WAL, log and dump as well.
fn control(client: &mut Client, vectors: &Matrix) {
    run(
        client,
        "CREATE TABLE control (form text, body bytea, hex text, base64 text);
         ALTER TABLE control ALTER body SET STORAGE EXTERNAL, ALTER hex SET STORAGE EXTERNAL, ALTER base64 SET STORAGE EXTERNAL;
         CREATE TABLE plain (id int, floats real[], digits text);
         CREATE TABLE few (part real[], copy real[]);
         ALTER TABLE plain ALTER floats SET STORAGE EXTERNAL, ALTER digits SET STORAGE EXTERNAL",
    );
    for (form, body) in forms(vectors.row(SEALED)) {
        client
            .execute(
                "INSERT INTO control VALUES ($1, $2, encode($2, 'hex'), replace(encode($2, 'base64'), E'\\n', ''))",
                &[&form, &body],
            )
            .expect("a control row");
    }
    let insert = "INSERT INTO plain SELECT i, $1, $2 FROM generate_series(1, 20) i";
    for row in SEALED..SEALED + CONTROL {
        client.execute(insert, &[&vectors.row(row), &vectors.text(row)]).expect("a control row");
    }
    // Few and short enough for a row of pg_statistic that is neither compressed nor out of line.
    let insert = "INSERT INTO few SELECT ($1::real[])[1:64], ($1::real[])[1:64] FROM generate_series(1, 100) i";
    for row in [SEALED, SEALED + 1] {
        client.execute(insert, &[&vectors.row(row)]).expect("a control row");
    }
    run(client, "CREATE STATISTICS few_s (mcv) ON part, copy FROM few");
}

/// The 32 bytes of the root key file in hexadecimal.
fn root_key(cluster: &Cluster) -> String {
    let text = fs::read_to_string(cluster.path("root_key")).expect("the root key file");
    text.lines().find_map(|line| line.strip_prefix("key ")).expect("a key line").trim().to_owned()
}

#[test]
fn two_builds_of_the_same_rows_share_no_sealed_block() {
    let cluster = Cluster::start("two-builds", &["autovacuum=off"]);
    let mut client = cluster.client();
    run(&mut client, "DO $$ BEGIN PERFORM sealvec.create_key_ring('notes'); END $$");
    let vectors = data::vectors().cut(1_500, 96);
    data::table(&mut client, "one", "notes", &vectors);
    data::table(&mut client, "two", "notes", &vectors);
    for table in ["one", "two"] {
        for precision in ["float32", "float16"] {
            run(
                &mut client,
                &format!(
                    "CREATE INDEX {table}_{precision} ON {table} USING sealed_ivf (embedding)
                     WITH (storage_precision = '{precision}', lists = 8)"
                ),
            );
        }
    }
    let mut files = Vec::new();
    run(&mut client, "CHECKPOINT");
    for relation in ["one", "two", "one_float32", "two_float32", "one_float16", "two_float16"] {
        let file = cluster.file(&mut client, relation);
        let bytes = page::read(&file);
        files.push((relation.to_owned(), if relation.contains('_') { page::sealed_pages(&bytes) } else { bytes }));
    }
    run(&mut client, "REINDEX INDEX one_float32");
    run(&mut client, "CHECKPOINT");
    let file = cluster.file(&mut client, "one_float32");
    files.push(("one_float32 again".into(), page::sealed_pages(&page::read(&file))));
    for (a, left) in &files {
        assert!(page::shared_blocks(left, left) > 2_000, "{a}: blocks are found where they are");
        for (b, right) in files.iter().filter(|(b, _)| b != a) {
            assert_eq!(page::shared_blocks(left, right), 0, "{a} and {b} share sealed blocks");
        }
    }
}

#[test]
fn centroids_are_not_on_disk() {
    // Eight vectors, each 300 times: whatever the clustering, centroids are these vectors.
    let cluster = Cluster::start("centroids", &["autovacuum=off"]);
    let mut client = cluster.client();
    run(&mut client, "DO $$ BEGIN PERFORM sealvec.create_key_ring('notes'); END $$");
    run(&mut client, "CREATE TABLE docs (id int PRIMARY KEY, embedding sealvec(384, notes))");
    let eight = data::vectors().cut(8, 384);
    let many = Matrix { dims: 384, values: (0..2_400).flat_map(|row| eight.row(row % 8).to_vec()).collect() };
    data::copy(&mut client, "docs", &many, 0..many.rows());
    run(
        &mut client,
        "CREATE INDEX docs_l2 ON docs USING sealed_ivf (embedding) WITH (lists = 8);
         CREATE INDEX docs_cosine ON docs USING sealed_ivf (embedding sealvec_cosine_ops) WITH (lists = 8, storage_precision = 'float16')",
    );
    let lists: i32 = one(&mut client, "SELECT lists FROM sealvec.index_stats('docs_l2')");
    assert!(lists >= 2, "there are centroids: {lists} lists");
    let wanted = Wanted {
        sealed: cluster.home().join("sealed.txt"),
        control: cluster.home().join("sealed.txt"),
        root_key: root_key(&cluster),
    };
    lines(&wanted.sealed, &eight, 0..8);
    cluster.stop();
    wanted.absent("an index", &[cluster.path("data")]);
}
