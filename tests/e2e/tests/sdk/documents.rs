//! Every example request of CyborgDB's documents, run as it is written.

use std::fs;
use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use sealvec_e2e::http::{Answer, read_answer};
use sealvec_e2e::packages::{apt, has, models};
use sealvec_e2e::sidecar::{ROOT_KEY, SLOT};
use sealvec_e2e::xtask::root;
use sealvec_e2e::{Cluster, Http, Sidecar};
use serde_json::{Value, json};

/// A key as the placeholders `your_64_character_hex_key_here` and `64_character_hex_string_…` ask for.
const KEY: &str = "5ea1edc0ffee0123456789abcdef00005ea1edc0ffee0123456789abcdef1111";

/// The fenced blocks of one section, by kind, in the order of the page.
fn blocks(section: &str, kind: &str) -> Vec<String> {
    let page = fs::read_to_string(root().join("tests/data/cyborgdb/documents.md")).expect("the page is in the tree");
    let begin = page.find(&format!("## {section}\n")).unwrap_or_else(|| panic!("no section {section}"));
    let text = page[begin + 3..].split("\n## ").next().expect("split gives one");
    let fence = format!("```{kind}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("\n```").next().expect("split gives one").to_owned()).collect()
}

/// The commands of the `bash` blocks of a section, each as it is written, comments left out.
fn commands(section: &str) -> Vec<String> {
    let blocks = blocks(section, "bash");
    let paragraphs = blocks.iter().flat_map(|block| block.split("\n\n"));
    let commands =
        paragraphs.map(|text| text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n"));
    commands.filter(|text| text.starts_with("curl ")).collect()
}

struct Reader<'a> {
    sidecar: &'a Sidecar,
    home: std::path::PathBuf,
}

impl<'a> Reader<'a> {
    /// curl's own settings file makes it print the status behind the body, so that the command stays as it is.
    fn new(cluster: &Cluster, sidecar: &'a Sidecar) -> Self {
        if !has("curl") {
            apt(&["curl"]);
        }
        let home = cluster.home().join("reader");
        fs::create_dir(&home).expect("a fresh directory");
        fs::write(home.join(".curlrc"), "silent\nshow-error\nwrite-out = \"\\n%{http_code} %{content_type}\"\n")
            .expect("written");
        Self { sidecar, home }
    }

    /// What a reader of the page puts in: where his server is and his keys.
    fn fill(&self, text: &str) -> String {
        text.replace("http://localhost:8000", &self.sidecar.url())
            .replace("https://api.example.com", &self.sidecar.url())
            .replace("cyborg_your_api_key_here", ROOT_KEY)
            .replace("your_64_character_hex_key_here", KEY)
            .replace("64_character_hex_string_representing_32_bytes", KEY)
    }

    /// Runs a command of the page in a shell.
    fn run(&self, command: &str) -> (u16, Value) {
        let mut shell = Command::new("sh");
        let output = shell.args(["-c", &self.fill(command)]).env("HOME", &self.home).env_remove("CURL_HOME").output();
        let output = output.expect("a shell");
        assert!(output.status.success(), "{command}\n{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let (body, last) = text.rsplit_once('\n').expect("curl wrote the status");
        let (status, kind) = last.split_once(' ').expect("status and type");
        assert_eq!(kind, "application/json", "{command}");
        (status.parse().expect("a status"), serde_json::from_str(body).unwrap_or_else(|_| panic!("{command}\n{body}")))
    }
}

fn error(status: u16, detail: &str) -> (u16, Value) {
    (status, json!({"status_code": status, "detail": detail}))
}

fn success(message: &str) -> (u16, Value) {
    (200, json!({"status": "success", "message": message}))
}

#[test]
fn examples_of_the_documents_work_as_written() {
    let cluster = Cluster::start("sdk-documents", &[]);
    let models = models().display().to_string();
    let mut sidecar = Sidecar::start(&cluster, "documents", &["--model-dir", &models]);
    let reader = Reader::new(&cluster, &sidecar);
    let mut http = sidecar.http();
    assert_eq!(SLOT, "prod-aws", "the slot of the page's example");

    let create = commands("Create Index");
    let [bare, basic, kms, embedding, float16] = &create[..] else { panic!("five commands, not {}", create.len()) };
    assert_eq!(reader.run(bare), error(401, "API Key is required"));
    assert_eq!(reader.run(basic), success("Index 'my_index' created successfully"));
    assert_eq!(reader.run(kms), success("Index 'kms_index' created successfully"));
    assert_eq!(reader.run(embedding), success("Index 'semantic_index' created successfully"));
    assert_eq!(reader.run(float16), success("Index 'compact_index' created successfully"));
    for again in [basic, kms, embedding, float16] {
        let (status, body) = reader.run(again);
        assert_eq!((status, body["status_code"].as_u64()), (409, Some(409)), "{body}");
    }
    let describe = |http: &mut Http, name: &str, key: Option<&str>| {
        http.must("/v1/indexes/describe", &json!({"index_name": name, "index_key": key}))
    };
    for (name, key, dimension) in [
        ("my_index", Some(KEY), 384),
        ("kms_index", None, 384),
        ("semantic_index", Some(KEY), 384),
        ("compact_index", Some(KEY), 768),
    ] {
        let body = describe(&mut http, name, key);
        assert_eq!((&body["index_name"], &body["dimension"]), (&json!(name), &json!(dimension)), "{body}");
        assert_eq!(body["metric"], json!("euclidean"));
    }

    // The page's request bodies and answers are each other's.
    let json_of = |section: &str| -> Vec<Value> {
        blocks(section, "json").iter().map(|text| serde_json::from_str(&reader.fill(text)).expect("JSON")).collect()
    };
    let [body, answer] = &json_of("Delete Index")[..] else { panic!("a request and an answer") };
    assert_eq!(http.must("/v1/indexes/delete", body), *answer);
    let [body, answer] = &json_of("Create Index")[..] else { panic!("a request and an answer") };
    assert_eq!(http.must("/v1/indexes/create", body), *answer);

    let delete = commands("Delete Index");
    let [single, list, old, list_again] = &delete[..] else { panic!("four commands, not {}", delete.len()) };
    http.must("/v1/indexes/create", &json!({"index_name": "old_index", "index_key": KEY}));
    assert_eq!(reader.run(single), success("Index 'my_index' deleted successfully"));
    let (status, body) = reader.run(single);
    assert_eq!((status, body["status_code"].as_u64()), (404, Some(404)), "{body}");
    let rest = ["compact_index", "kms_index", "old_index", "semantic_index"];
    assert_eq!(reader.run(list), (200, json!({"indexes": rest})));
    assert_eq!(reader.run(old), success("Index 'old_index' deleted successfully"));
    assert_eq!(reader.run(list_again), (200, json!({"indexes": ["compact_index", "kms_index", "semantic_index"]})));
    sidecar.stop();
    cluster.log_is_clean();
}

/// The table of statuses that the introduction gives, and the words that it quotes.
#[test]
fn errors_are_what_the_documents_say() {
    let cluster = Cluster::start("sdk-errors", &[]);
    let mut sidecar = Sidecar::start(&cluster, "errors", &[]);
    let mut http = sidecar.http();
    http.must("/v1/indexes/create", &json!({"index_name": "mine", "index_key": KEY, "dimension": 2}));
    http.must("/v1/indexes/create", &json!({"index_name": "kms", "kms_name": SLOT, "dimension": 2}));
    let other = KEY.replace('5', "6");
    let asked = |path: &str, body: Value, key: Option<&str>, status: u16, words: &str| {
        let answer = Http::new(sidecar.address(), key).post(path, &body).expect("an answer");
        assert_eq!(answer.status, status, "{path} {}", answer.text());
        assert!(answer.text().contains(words), "{path}: expected {words:?} in {}", answer.text());
        assert_eq!(answer.json()["status_code"], json!(status), "{path}: {}", answer.text());
        assert!(answer.header("x-request-id").is_some(), "{path}: {:?}", answer.headers);
        for secret in [KEY, &other, ROOT_KEY] {
            assert!(!answer.text().contains(secret), "{path} repeats a key");
        }
    };
    let root = Some(ROOT_KEY);
    let query = |name: &str, key: Option<&str>| json!({"index_name": name, "index_key": key, "query_vectors": [1, 2]});
    // 400: an index key for an index that has none.
    for path in
        ["/v1/vectors/query", "/v1/vectors/get", "/v1/indexes/describe", "/v1/indexes/delete", "/v1/indexes/train"]
    {
        let mut body = query("kms", Some(KEY));
        body["ids"] = json!(["a"]);
        asked(path, body, root, 400, "KMS-backed; do not supply index_key.");
    }
    asked("/v1/indexes/create", json!({"index_name": "new"}), root, 400, "exactly one of kms_name or index_key");
    asked(
        "/v1/indexes/create",
        json!({"index_name": "new", "index_key": KEY, "kms_name": SLOT}),
        root,
        400,
        "index_key must not be supplied",
    );
    // 401: (a) the API key, (b) the index key.
    for key in [None, Some("wrong"), Some("cdbk_1_wrong")] {
        asked("/v1/vectors/query", query("mine", Some(KEY)), key, 401, "API");
    }
    asked("/v1/vectors/query", query("mine", Some(&other)), root, 401, "Invalid encryption key for index");
    asked("/v1/indexes/delete", query("mine", Some(&other)), root, 401, "Invalid encryption key for index");
    // 404, 409, 422.
    asked("/v1/vectors/query", query("nowhere", Some(KEY)), root, 404, "nowhere");
    asked("/v1/indexes/create", json!({"index_name": "mine", "index_key": KEY, "dimension": 2}), root, 409, "mine");
    asked("/v1/vectors/query", json!({"index_key": KEY}), root, 422, "index_name");
    asked("/v1/vectors/get", json!({"index_name": "mine", "index_key": KEY, "ids": 5}), root, 422, "ids");
    // 403: user routes without the root key. In the single-key mode that is everyone.
    let mut single = Sidecar::start_with(
        &cluster,
        "single",
        &[],
        &[("SEALVEC_ROOT_KEY", ""), ("CYBORGDB_API_KEY", "single-key-of-a-test-0123456789abcdef")],
    );
    let mut with_single = Http::new(single.address(), Some("single-key-of-a-test-0123456789abcdef"));
    assert_eq!(with_single.must("/v1/vectors/query", &query("mine", Some(KEY)))["results"], json!([]));
    let answer = with_single
        .post("/v1/indexes/mine/users", &json!({"permissions": ["read"], "index_key": KEY}))
        .expect("an answer");
    assert_eq!((answer.status, &answer.json()["status_code"]), (403, &json!(403)), "{}", answer.text());
    single.stop();
    // Every route but health needs a key, and says so before it looks at the body.
    let specification = http.get("/v1/openapi.json").expect("an answer").json();
    let paths = specification["paths"].as_object().expect("paths");
    let mut routes = 0;
    for (path, methods) in paths {
        for method in
            methods.as_object().expect("methods").keys().filter(|name| ["get", "post", "delete"].contains(&&***name))
        {
            let path = path.replace("{index_name}", "mine").replace("{user_id}", &"00".repeat(16));
            let body = (method == "post").then_some(&b"{"[..]);
            let answer =
                Http::new(sidecar.address(), None).request(&method.to_uppercase(), &path, body).expect("an answer");
            // SDK 0.14 for JavaScript shows no key for training-status, which answers it with nothing about any index.
            let open = ["/v1/health", "/v1/indexes/training-status"].contains(&&*path);
            assert_eq!(answer.status, if open { 200 } else { 401 }, "{method} {path}: {}", answer.text());
            assert!(!answer.text().contains("mine"), "{path} names an index to a stranger");
            routes += 1;
        }
    }
    assert_eq!(routes, 21, "all of CyborgDB's routes, and ours for the audit");
    sidecar.stop();
    cluster.log_is_clean();
}

/// SDK 0.17 keeps its connection and does not try a request again: a refusal that leaves the body unread may not close it.
#[test]
fn a_refused_request_leaves_its_connection_usable() {
    let cluster = Cluster::start("sdk-kept", &[]);
    let mut sidecar = Sidecar::start(&cluster, "kept", &[]);
    let mut stream = BufReader::new(TcpStream::connect(sidecar.address()).expect("it listens"));
    let mut ask = |path: &str, key: &str, body: &[u8]| -> Answer {
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.get_mut().write_all(head.as_bytes()).expect("still open");
        // As Python's http.client does: the body comes in a segment of its own.
        std::thread::sleep(Duration::from_millis(30));
        let _ = stream.get_mut().write_all(body);
        read_answer(&mut stream).expect("an answer")
    };
    for (path, key, status) in
        [("/v1/vectors/query", "wrong", 401), ("/v1/nothing", ROOT_KEY, 404), ("/v1/indexes/list", ROOT_KEY, 405)]
    {
        for size in [1, 2_000, 200_000] {
            let answer = ask(path, key, &vec![b' '; size]);
            assert_eq!((answer.status, answer.header("connection")), (status, None), "{path} {size}");
        }
    }
    // Too much to read for nothing: the answer comes, and says that the connection goes.
    let answer = ask("/v1/vectors/query", "wrong", &vec![b' '; 8 << 20]);
    assert_eq!((answer.status, answer.header("connection")), (401, Some("close")));
    sidecar.stop();
}
