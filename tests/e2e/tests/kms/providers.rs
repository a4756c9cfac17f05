//! Every provider behind a whole server: rings and REST indexes live on it; and what happens to key services in the world costs a
//! clear error, 502 over REST, and nothing else. What each provider says to its service is tested in `agent/tests`.

use std::time::{Duration, Instant};

use postgres::NoTls;
use sealvec_e2e::kms::moto::REGION;
use sealvec_e2e::kms::softhsm::{MODULE, PIN};
use sealvec_e2e::kms::{AWS_SECRET, Fault, FaultProxy, KeyAgent, Moto, SoftHsm, Vault, aws_credentials};
use sealvec_e2e::{Cluster, Http, Sidecar, error_of, eventually, one, run};
use serde_json::{Value, json};

const OPEN: &str = "SELECT sealvec.unlock('vault')";
/// The faults' own words, which no answer, log or error repeats.
const OWN_WORDS: &str = "made by a test";

/// Caches nothing, so that each session's unlock reaches the service.
const NO_CACHE: [&str; 2] = ["--agent-cache-seconds", "0"];

/// A slot of one provider, and an agent that reaches its service.
struct Service {
    provider: &'static str,
    options: Value,
    agent: KeyAgent,
}

/// A ring, a table and a REST index on the slot.
struct Setting {
    service: Service,
    cluster: Cluster,
    sidecar: Sidecar,
    http: Http,
}

impl Setting {
    fn new(service: Service) -> Self {
        let Service { provider, options, agent } = &service;
        let name = format!("provider-{provider}");
        // Each session has its own wait; the sidecar's have the setting's.
        let cluster = Cluster::start(&name, &[&agent.setting(), "sealvec.kms_timeout=1500ms", "autovacuum=off"]);
        let mut client = cluster.client();
        let create = "SELECT sealvec.create_kms('slot', $1, $2::text::jsonb)";
        client.execute(create, &[provider, &options.to_string()]).expect("a slot");
        run(&mut client, "DO $$ BEGIN PERFORM sealvec.create_key_ring('vault', provider => 'slot'); END $$");
        run(
            &mut client,
            "CREATE TABLE docs (id int, v sealvec(3, vault));
             INSERT INTO docs SELECT n, format('[%s,1,2]', n)::sealvec FROM generate_series(1, 300) n;
             CREATE INDEX docs_v ON docs USING sealed_ivf (v)",
        );
        let sidecar = Sidecar::start(&cluster, &name, &[]);
        let mut http = sidecar.http();
        http.must("/v1/indexes/create", &json!({"index_name": "rest", "dimension": 3, "kms_name": "slot"}));
        let items: Vec<Value> = (0..50).map(|n| json!({"id": n.to_string(), "vector": [n, 1, 2]})).collect();
        http.must("/v1/vectors/upsert", &json!({"index_name": "rest", "items": items}));
        let mut setting = Self { service, cluster, sidecar, http };
        setting.works();
        setting
    }

    /// Everything is there, in a session that asks the service anew.
    fn works(&mut self) {
        self.forget();
        let mut client = self.cluster.client();
        eventually("the ring opens", 30, || client.batch_execute(OPEN).ok()); // a breaker may rest for a while
        assert_eq!(one::<i64>(&mut client, "SELECT sealvec.verify_index('docs_v')"), 300);
        assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM docs WHERE (sealvec.open(v))[1] = id"), 300);
        let nearest = "SELECT id FROM docs ORDER BY v <-> '[7,1,2]' LIMIT 1";
        run(&mut client, "SET enable_seqscan = off");
        assert_eq!(one::<i32>(&mut client, nearest), 7);
        assert_eq!(self.query().expect("an answer")["results"][0]["id"], "7");
    }

    fn query(&mut self) -> Result<Value, String> {
        let body = json!({"index_name": "rest", "query_vectors": [7, 1, 2], "top_k": 1});
        let answer = self.http.post("/v1/vectors/query", &body).expect("the sidecar answers");
        match answer.status {
            200 => Ok(answer.json()),
            status => Err(format!("{status} {}", answer.text())),
        }
    }

    /// No session has a key any more.
    fn forget(&self) {
        run(&mut self.cluster.client(), "SELECT sealvec.lock(name, everywhere => true) FROM sealvec.key_rings");
    }

    /// In this state of the service: the error in SQL, in time, and 502 over REST.
    fn refuses(&mut self, what: &str, code: &str, words: &str) {
        self.forget();
        let mut client = self.cluster.client();
        let begun = Instant::now();
        let error = error_of(&mut client, OPEN);
        let time = begun.elapsed();
        assert!(error.code().code() == code && error.message().contains(words), "{what}: {error:?}");
        assert!(error.hint().is_some(), "{what}: {error:?}");
        assert!(time < Duration::from_millis(2_500), "{what}: {time:?}");
        assert!(!format!("{error:?}").contains(OWN_WORDS), "{error:?}");
        // Rows are there for who needs no key.
        assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM docs"), 300);
        let answer = self.query().expect_err(what);
        assert!(answer.starts_with("502 ") && answer.contains("KMS error"), "{what}: {answer}");
    }

    fn unavailable(&mut self, what: &str) {
        self.refuses(what, "58030", "is unavailable");
    }

    /// What any service behind HTTP can do. `denied` is how this one says no.
    fn lives_through_trouble(&mut self, proxy: &FaultProxy, denied: Fault) {
        proxy.set(Some(Fault::Slow(Duration::from_millis(400))));
        self.works();
        for (fault, code, words) in [
            (denied, "58000", "refuses the key"),
            (Fault::Status(429, None), "58030", "is unavailable"),
            (Fault::Status(503, None), "58030", "is unavailable"),
            (Fault::Broken, "58030", "is unavailable"),
            (Fault::Malformed, "58030", "is unavailable"),
            (Fault::Hang, "58030", "is unavailable"),
        ] {
            proxy.set(Some(fault.clone()));
            self.refuses(&format!("{fault:?}"), code, words);
            proxy.set(None);
            self.works();
        }
        // While nobody answers, a cancel is obeyed at once.
        proxy.set(Some(Fault::Hang));
        self.forget();
        let mut client = self.cluster.client();
        run(&mut client, "SET sealvec.kms_timeout = '1min'");
        let token = client.cancel_token();
        let canceller = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            token.cancel_query(NoTls).expect("the server takes the request");
            Instant::now()
        });
        assert_eq!(error_of(&mut client, OPEN).code().code(), "57014");
        let time = canceller.join().expect("it was sent").elapsed();
        assert!(time < Duration::from_secs(1), "{time:?}");
        proxy.set(None);
        self.works();
    }

    /// The agent goes away, and comes back while the server runs.
    fn lives_through_the_agents_end(&mut self) {
        self.service.agent.kill();
        self.unavailable("no agent");
        self.service.agent.start_again();
        self.works();
        self.service.agent.stop();
        self.unavailable("no socket");
        self.service.agent.start_again();
        self.works();
    }

    /// A wrapped KEK of which one bit differs opens nothing, and says who has to look where.
    fn opens_no_altered_envelope(&mut self) {
        let mut client = self.cluster.client();
        let rings = "SELECT number, record FROM sealvec.key_ring WHERE kms = 'slot'";
        let rings: Vec<(i32, Vec<u8>)> =
            client.query(rings, &[]).expect("two").iter().map(|row| (row.get(0), row.get(1))).collect();
        assert_eq!(rings.len(), 2, "the ring and the index's");
        let mut put = |number: i32, record: &Vec<u8>| {
            let sql = "UPDATE sealvec.key_ring SET record = $2 WHERE number = $1";
            client.execute(sql, &[&number, record]).expect("a superuser may");
        };
        for (number, record) in &rings {
            let mut bad = record.clone();
            bad[byte_of_wrapped_kek(record)] ^= 1;
            put(*number, &bad);
        }
        self.refuses("altered", "28P01", "does not open key ring");
        for (number, record) in &rings {
            put(*number, record);
        }
        self.works();
    }

    fn ends(mut self) {
        self.opens_no_altered_envelope();
        self.lives_through_the_agents_end();
        self.http.must("/v1/indexes/delete", &json!({"index_name": "rest"}));
        self.sidecar.stop();
        for log in [self.service.agent.log(), self.cluster.log(), self.sidecar.log()] {
            assert!(!log.contains(AWS_SECRET) && !log.contains(OWN_WORDS));
        }
        self.cluster.log_is_clean();
    }
}

/// Place of a byte near the end of the wrapped KEK in a ring's record (docs/FORMAT.md, key ring record and envelope).
fn byte_of_wrapped_kek(record: &[u8]) -> usize {
    const ENVELOPES: usize = 56;
    const COMMITMENT: usize = 32;
    let length = usize::from(u16::from_le_bytes([record[ENVELOPES], record[ENVELOPES + 1]]));
    assert_eq!(&record[ENVELOPES + 2..][..4], b"SVEN");
    ENVELOPES + 2 + length - COMMITMENT - 4
}

#[test]
fn aws_kms() {
    let moto = Moto::start();
    let proxy = FaultProxy::start(moto.address());
    let agent = KeyAgent::start("aws-kms", &json!({"endpoints": [proxy.url()]}), &NO_CACHE, &aws_credentials());
    let options = json!({"key_id": moto.create_key(), "region": REGION, "endpoint": proxy.url()});
    let mut setting = Setting::new(Service { provider: "aws-kms", options, agent });
    setting.lives_through_trouble(&proxy, Fault::Aws("DisabledException"));
    for name in ["KMSInvalidStateException", "AccessDeniedException"] {
        proxy.set(Some(Fault::Aws(name))); // pending deletion; no right
        setting.refuses(name, "58000", "refuses the key");
    }
    proxy.set(Some(Fault::Aws("ThrottlingException")));
    setting.unavailable("throttled");
    proxy.set(None);
    setting.works();
    setting.ends();
}

#[test]
fn aws_secrets_manager() {
    let moto = Moto::start();
    let proxy = FaultProxy::start(moto.address());
    let agent = KeyAgent::start("aws", &json!({"endpoints": [proxy.url()]}), &NO_CACHE, &aws_credentials());
    let secret = moto.create_secret("kek", &json!({"SecretString": "c2VhbHZlYyBlMmUgd3JhcCBrZXksIDMyIGJ5dGVzISE="}));
    let options = json!({"key_id": secret, "region": REGION, "endpoint": proxy.url()});
    let mut setting = Setting::new(Service { provider: "aws", options, agent });
    setting.lives_through_trouble(&proxy, Fault::Aws("AccessDeniedException"));
    setting.ends();
}

#[test]
fn vault_transit() {
    let vault = Vault::start();
    vault.create_key("k");
    let token = vault.create_token("k", &["encrypt", "decrypt"]);
    let proxy = FaultProxy::start(vault.address());
    let kms = json!({"credentials": {"v": {"address": proxy.url(), "token_env": "TOKEN"}}});
    let agent = KeyAgent::start("vault", &kms, &NO_CACHE, &[("TOKEN", token.clone())]);
    let options = json!({"key": "k", "mount": vault.mount(), "credentials": "v"});
    let mut setting = Setting::new(Service { provider: "vault", options, agent });
    setting.lives_through_trouble(&proxy, Fault::Status(403, None));
    assert!(!setting.service.agent.log().contains(&token) && !setting.cluster.log().contains(&token));
    setting.ends();
}

#[test]
fn pkcs11_token() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let token = SoftHsm::create(home.path(), "hsm");
    token.create_key("kek");
    let kms = json!({"credentials": {"hsm": {"module": MODULE, "token": "hsm", "pin_env": "PIN"}}});
    let environment = [token.environment(), ("PIN", PIN.to_owned())];
    let agent = KeyAgent::start("pkcs11", &kms, &NO_CACHE, &environment);
    let options = json!({"key": "kek", "credentials": "hsm"});
    let mut setting = Setting::new(Service { provider: "pkcs11", options, agent });
    token.remove_keys();
    setting.refuses("no key on the token", "F0000", "is not set up as it should");
    token.restore_keys();
    setting.service.agent.kill(); // SoftHSM does not look again at what it has seen go
    setting.service.agent.start_again();
    setting.works();
    setting.ends();
}
