//! No id, contents, metadata, vector, key or token of a collection in anything that is written, through REST and
//! through a driver that binds in binary, with every log switched on; the same search finds a plaintext control.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sealvec_e2e::packages::virtual_environment;
use sealvec_e2e::sidecar::{ROLE, ROOT_KEY, SLOT};
use sealvec_e2e::xtask::{must, output, root};
use sealvec_e2e::{Cluster, Http, Matrix, Sidecar, data, eventually, one, run};
use serde_json::{Value, json};

use super::LOGS_EVERYTHING;

const ROWS: usize = 60;
const CONTROL: usize = 10;
const KEYS: [&str; 4] = [
    "5ea1ed00c0ffee11223344556677889900aabbccddeeff0123456789abcdef01", // REST
    "5ea1ed00c0ffee11223344556677889900aabbccddeeff0123456789abcdef02", // REST, wrong
    "b0b0ed00c0ffee11223344556677889900aabbccddeeff0123456789abcdef03", // psycopg
    "b0b0ed00c0ffee11223344556677889900aabbccddeeff0123456789abcdef04", // psycopg, wrong
];

/// What is looked for.
struct Hidden {
    texts: Vec<String>,
    keys: Vec<String>, // in hexadecimal
    home: PathBuf,
}

impl Hidden {
    fn scan(&self, arguments: &[String], places: &[&Path]) -> Result<(), String> {
        let places = places.iter().map(|place| place.display().to_string());
        let command: Vec<String> =
            ["scan".to_owned()].into_iter().chain(arguments.iter().cloned()).chain(places).collect();
        let output = output(&command);
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        if output.status.success() { Ok(()) } else { Err(text) }
    }

    fn file(&self, name: &str, lines: &[String]) -> String {
        let path = self.home.join(name);
        fs::write(&path, lines.join("\n") + "\n").expect("written");
        path.display().to_string()
    }

    /// None of it is in any of `places`.
    fn absent(&self, what: &str, vectors: &Matrix, places: &[&Path]) {
        let vectors: Vec<String> = (0..ROWS).map(|row| vectors.text(row)).collect();
        let mut arguments = vec!["--text-file".into(), self.file("hidden.txt", &self.texts)];
        arguments.extend(["--vectors-text".into(), self.file("vectors.txt", &vectors)]);
        arguments.extend(self.keys.iter().flat_map(|key| ["--key-hex".to_owned(), key.clone()]));
        self.scan(&arguments, places).unwrap_or_else(|text| panic!("plaintext in {what}:\n{text}"));
    }

    /// The control is found in `place`, so the search would have found the rest.
    fn found(&self, what: &str, vectors: &Matrix, place: &Path, form: &str) {
        let vectors: Vec<String> = (ROWS..ROWS + CONTROL).map(|row| vectors.text(row)).collect();
        let mut arguments = vec!["--text-file".into(), self.file("control.txt", &[control_text(0), control_text(7)])];
        arguments.extend(["--vectors-text".into(), self.file("control-vectors.txt", &vectors)]);
        arguments.extend(["--expect-found".into(), form.into()]);
        self.scan(&arguments, &[place])
            .unwrap_or_else(|text| panic!("the control is not found in {what}, so the search proves nothing:\n{text}"));
    }
}

fn control_text(row: usize) -> String {
    format!("contents of the control 90ab-{row:04}")
}

/// Texts of one session, told apart by `who`.
struct Session {
    who: &'static str,
    rows: std::ops::Range<usize>,
}

impl Session {
    fn id(&self, row: usize) -> String {
        format!("{}-id-7c1f09ab34de-{row:04}", self.who)
    }

    fn contents(&self, row: usize) -> String {
        format!("{} contents, not for everyone: 55d0-{row:04}", self.who)
    }

    fn metadata(&self, row: usize) -> Value {
        json!({ self.field(): self.value(row), "body": format!("{}text searched, of {row:04}", self.who) })
    }

    fn field(&self) -> String {
        format!("{}-field-of-metadata", self.who)
    }

    fn value(&self, row: usize) -> String {
        format!("{}-value-of-metadata-{row:04}", self.who)
    }

    fn word(&self, what: &str) -> String {
        format!("{}-{what}-31337-hidden", self.who)
    }

    fn texts(&self) -> Vec<String> {
        let words = ["bad-filter", "bad-json", "json-id", "json-contents", "question"].map(|what| self.word(what));
        let rows = self.rows.clone().flat_map(|row| [self.id(row), self.contents(row), self.value(row)]);
        let ends = self.rows.clone().map(|row| format!("{}text searched, of {row:04}", self.who));
        rows.chain(ends).chain(words).chain([self.field()]).collect()
    }
}

#[test]
fn plaintext_of_collections_is_nowhere() {
    let cluster = Cluster::start(
        "sdk-leaks",
        &[&LOGS_EVERYTHING[..], &["wal_level=logical", "autovacuum=off", "max_wal_size=2GB"]].concat(),
    );
    let mut sidecar = Sidecar::start(&cluster, "leaks", &["--log-level", "trace"]);
    let mut client = cluster.client();
    let libraries: String = one(&mut client, "SELECT setting FROM pg_config WHERE name = 'PKGLIBDIR'");
    if Path::new(&libraries).join("auto_explain.so").exists() {
        run(&mut client, "ALTER SYSTEM SET session_preload_libraries = auto_explain");
        run(&mut client, "SELECT pg_reload_conf()");
        eventually("new sessions load auto_explain", 10, || {
            let setting: String = one(&mut cluster.client(), "SHOW session_preload_libraries");
            (setting == "auto_explain").then_some(())
        });
    }
    // Not of length one, so that "as given" and "normalised" differ.
    let vectors = data::vectors().cut(ROWS + CONTROL, 384).scaled(1.7);
    let rest = Session { who: "rest", rows: 0..ROWS / 2 };
    let bound = Session { who: "bound", rows: ROWS / 2..ROWS };
    let mut tokens = through_rest(&sidecar, &rest, &vectors);
    tokens.push(through_psycopg(&cluster, &bound, &vectors));
    let mut keys: Vec<String> = KEYS.iter().map(|&key| key.to_owned()).collect();
    keys.extend(tokens.iter().map(|token| user_key(token)));
    let texts = [rest.texts(), bound.texts(), tokens, vec![ROOT_KEY.to_owned()]].concat();
    let hidden = Hidden { texts, keys, home: cluster.home().to_owned() };
    control(&mut client, &vectors);

    for command in ["VACUUM", "ANALYZE", "CHECKPOINT"] {
        run(&mut client, command);
    }
    let (data, log, own_log) = (cluster.path("data").to_owned(), cluster.path("log").to_owned(), sidecar.log_path());
    for form in ["plain", "custom"] {
        let dump = cluster.home().join(format!("dump.{form}"));
        must(cluster.program("pg_dump", "e2e").args(["--format", form, "--compress=0", "-f"]).arg(&dump));
        hidden.found("a dump", &vectors, &dump, "text");
        hidden.absent("a dump", &vectors, &[&dump]);
    }
    assert!(cluster.log().contains("sealvec.upsert("), "statements are logged");
    assert!(cluster.log().contains("***"), "and what was bound shows as the transport types print it");
    hidden.found("the server's log", &vectors, &log, "text");
    hidden.found("the server's log", &vectors, &log, "decimal");
    hidden.found("WAL", &vectors, &data.join("pg_wal"), "text");
    hidden.absent("the running server's files and both logs", &vectors, &[&data, &log, &own_log]);
    drop(client);
    sidecar.stop();
    cluster.stop();
    hidden.found("the data directory", &vectors, &data.join("base"), "text");
    hidden.found("the data directory", &vectors, &data.join("base"), "f32 little-endian");
    hidden.absent("the stopped server's files and both logs", &vectors, &[&data, &log, &own_log]);
    // The sidecar's log is no empty file, and a key in it would be found.
    let with_key = cluster.home().join("sidecar-log-with-a-key");
    fs::write(&with_key, format!("{}key={}\n", sidecar.log(), KEYS[0])).expect("written");
    assert!(sidecar.log().lines().count() > 10, "the sidecar logs requests:\n{}", sidecar.log());
    hidden
        .scan(&["--key-hex".into(), KEYS[0].into(), "--expect-found".into(), "hex of key".into()], &[&with_key])
        .expect("found");
    cluster.log_is_clean();
}

/// Every route with content in it, good and bad. Returns the tokens that were made.
fn through_rest(sidecar: &Sidecar, session: &Session, vectors: &Matrix) -> Vec<String> {
    let mut http = sidecar.http();
    let mut tokens = Vec::new();
    for (name, key, kms) in [("rest client key", Some(KEYS[0]), None), ("rest kms", None, Some(SLOT))] {
        let with = |mut body: Value| {
            body["index_name"] = json!(name);
            body["index_key"] = json!(key);
            body
        };
        let schema = json!({"body": {"full_text": true, "filterable": false}});
        http.must("/v1/indexes/create", &with(json!({"kms_name": kms, "dimension": 384, "metadata_schema": schema})));
        let items: Vec<Value> = session
            .rows
            .clone()
            .map(|row| {
                json!({"id": session.id(row), "vector": vectors.row(row), "contents": session.contents(row), "metadata": session.metadata(row)})
            })
            .collect();
        http.must("/v1/vectors/upsert", &with(json!({"items": items})));
        let bytes: Vec<u8> = vectors.row(3).iter().flat_map(|x| x.to_le_bytes()).collect();
        let batch = json!({"ids": [session.word("json-id")], "vectors_b64": base64(&bytes), "dimension": 384, "contents": [session.word("json-contents")]});
        http.must("/v1/vectors/upsert_binary", &with(json!({"batch": batch})));
        let filter = json!({session.field(): session.value(3)});
        let query = json!({"query_vectors": vectors.row(3), "top_k": 1, "filters": filter, "include": ["distance", "metadata"]});
        let body = http.must("/v1/vectors/query", &with(query));
        assert_eq!(body["results"][0]["metadata"], session.metadata(3), "{body}");
        let batch = json!({"vectors_b64": base64(&bytes), "dimension": 384});
        http.must("/v1/vectors/query_binary", &with(json!({"batch": batch, "filters": filter})));
        http.must("/v1/vectors/query_metadata", &with(json!({"filters": filter})));
        http.must(
            "/v1/vectors/query_metadata",
            &with(json!({"text": "searched", "filters": {"nobody": session.word("question")}})),
        );
        let body = http.must("/v1/vectors/get", &with(json!({"ids": [session.id(5)]})));
        assert_eq!(body["results"][0]["contents"], json!(session.contents(5)));
        http.must("/v1/vectors/list_ids", &with(json!({})));
        http.must("/v1/indexes/train", &with(json!({"n_lists": 2})));
        let path = format!("/v1/indexes/{}/users", name.replace(' ', "%20"));
        let user = http.must(&path, &json!({"permissions": ["read"], "index_key": key}));
        let token = user["api_key"].as_str().expect("a token").to_owned();
        let mut theirs = Http::new(sidecar.address(), Some(&token));
        theirs.must("/v1/vectors/get", &json!({"index_name": name, "ids": [session.id(5)]}));
        let refused = |http: &mut Http, path: &str, body: Value, status: u16| {
            let answer = http.post(path, &body).expect("an answer");
            assert_eq!(answer.status, status, "{path}: {}", answer.text());
        };
        refused(&mut theirs, "/v1/vectors/delete", json!({"index_name": name, "ids": [session.id(5)]}), 403);
        let short = json!({"items": [{"id": session.id(1), "vector": [1, 2], "contents": session.contents(1)}]});
        refused(&mut http, "/v1/vectors/upsert", with(short), 400);
        let bad =
            json!({"query_vectors": vectors.row(3), "filters": {session.field(): {"$in": session.word("bad-filter")}}});
        refused(&mut http, "/v1/vectors/query", with(bad), 400);
        refused(&mut http, "/v1/vectors/get", with(json!({"ids": session.word("bad-json")})), 422);
        if key.is_some() {
            let wrong = json!({"index_name": name, "index_key": KEYS[1], "query_vectors": vectors.row(3)});
            refused(&mut http, "/v1/vectors/query", wrong, 401);
        }
        http.must("/v1/vectors/delete", &with(json!({"ids": [session.id(session.rows.start)]})));
        tokens.push(token);
    }
    // Not JSON at all.
    let text = format!("{{\"index_name\": \"{}\", \"index_key\": \"{}\", ", session.word("bad-json"), KEYS[0]);
    let answer = http.request("POST", "/v1/vectors/query", Some(text.as_bytes())).expect("an answer");
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert!(!answer.text().contains(KEYS[0]), "{}", answer.text());
    tokens
}

/// The same in SQL, as the README tells users of psycopg. Returns the token that was made.
fn through_psycopg(cluster: &Cluster, session: &Session, vectors: &Matrix) -> String {
    let python = virtual_environment(
        "python-psycopg-3.3.9-cryptography-50.0.2",
        &["psycopg[binary]==3.3.9", "cryptography==50.0.2"],
    );
    let rows = || session.rows.clone();
    let words = |what| session.word(what);
    let said = json!({
        "key": KEYS[2],
        "wrong_key": KEYS[3],
        "ids": rows().map(|row| session.id(row)).collect::<Vec<_>>(),
        "contents": rows().map(|row| session.contents(row)).collect::<Vec<_>>(),
        "metadata": rows().map(|row| session.metadata(row).to_string()).collect::<Vec<_>>(),
        "vectors": rows().map(|row| vectors.row(row)).collect::<Vec<_>>(),
        "queries": [vectors.row(session.rows.start + 2)],
        "filter": json!({session.field(): session.value(session.rows.start + 2)}).to_string(),
        "bad_filter": json!({session.field(): {"$in": words("bad-filter")}}).to_string(),
        "bad_json": format!("[{{\"id\": \"{}\", ", words("bad-json")),
        "json_id": words("json-id"),
        "json_contents": words("json-contents"),
    });
    let file = cluster.home().join("session.json");
    fs::write(&file, said.to_string()).expect("written");
    run(&mut cluster.client(), "GRANT SET ON PARAMETER sealvec.allow_plain_key TO sidecar"); // to be told a token over TCP
    let said = must(
        Command::new(python)
            .arg(root().join("tests/e2e/sdk/python/bound.py"))
            .env("PYTHONPATH", root().join("clients/python"))
            .args(["127.0.0.1", &cluster.port().to_string()])
            .arg(&file),
    );
    assert_eq!(said.lines().last(), Some("ok"), "{said}");
    fs::read_to_string(file.with_file_name("session.json.token")).expect("a token").trim().to_owned()
}

/// A plain table that the search must find, in the log as well.
fn control(client: &mut postgres::Client, vectors: &Matrix) {
    run(
        client,
        &format!(
            "CREATE TABLE control (contents text, floats real[]);
             ALTER TABLE control ALTER floats SET STORAGE EXTERNAL; GRANT SELECT ON control TO {ROLE}"
        ),
    );
    for row in 0..CONTROL {
        client
            .execute("INSERT INTO control VALUES ($1, $2)", &[&control_text(row), &vectors.row(ROWS + row)])
            .expect("a control row");
    }
}

/// The user's key out of a token, in hexadecimal: base64url of id 16 ‖ key 32 ‖ tag 8 behind `cdbk_1_`.
fn user_key(token: &str) -> String {
    let text = token.strip_prefix("cdbk_1_").expect("a token").replace('-', "+").replace('_', "/");
    let bits = text.bytes().map(|byte| ALPHABET.iter().position(|known| *known == byte).expect("base64"));
    let bits: Vec<usize> = bits.flat_map(|value| (0..6).rev().map(move |bit| value >> bit & 1)).collect();
    let bytes = bits.chunks_exact(8).map(|bits| bits.iter().fold(0, |byte, bit| byte << 1 | bit));
    bytes.skip(16).take(32).map(|byte| format!("{byte:02x}")).collect()
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// RFC 4648 with padding.
fn base64(bytes: &[u8]) -> String {
    let groups = bytes.chunks(3).flat_map(|group| {
        let value = group.iter().chain(&[0; 2]).take(3).fold(0usize, |value, byte| value << 8 | usize::from(*byte));
        (0..4).map(
            move |place| if place <= group.len() { char::from(ALPHABET[value >> (18 - 6 * place) & 63]) } else { '=' },
        )
    });
    groups.collect()
}
