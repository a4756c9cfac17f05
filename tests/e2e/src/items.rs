//! Writers and readers of one collection over HTTP, who remember what was acknowledged, and the comparison with what
//! is there afterwards.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use crate::http::Answer;
use crate::{Http, Matrix, Random, Sidecar};

/// Elements of a vector: enough for lists and codes, few enough for a debug build.
const DIMENSION: usize = 64;
/// Items that nobody changes: a reader must always find them.
const STEADY: usize = 1_000;
/// Most items in one request of a writer.
const BATCH: usize = 20;

/// A collection whose key the client holds, with [`STEADY`] items that stay.
#[derive(Clone)]
pub struct Collection {
    address: String,
    root_key: String,
    pub name: String,
    key: String,
    vectors: Arc<Matrix>,
}

/// What may be under an id: a version, or nothing. More than one only where an answer did not come.
type Possible = Vec<Option<u64>>;

/// What one writer knows.
#[derive(Default)]
pub struct Ledger {
    items: BTreeMap<String, Possible>,
    made: usize, // ids, so that none is made twice
    pub acknowledged: usize,
    pub refused: usize,
    /// Queries that left the number of lists to the server, and how many of them found the item that they asked with.
    pub approximate: usize,
    pub approximate_found: usize,
}

/// How a writer or reader takes an answer other than 200.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Any is a failure of the test.
    None,
    /// 503 with Retry-After, and a connection that breaks, are to be expected; nothing else is.
    Restarts,
}

/// A thread that reads or writes until it is told to stop.
pub struct Worker {
    thread: JoinHandle<Ledger>,
    stop: Arc<AtomicBool>,
}

impl Collection {
    /// Creates it and upserts the steady items.
    pub fn create(sidecar: &Sidecar, root_key: &str, name: &str) -> Self {
        let vectors = Arc::new(crate::data::vectors().cut(4_000, DIMENSION));
        let key: String = (0..32).map(|place| format!("{:02x}", (place * 7 + name.len() * 13 + 1) % 256)).collect();
        let collection =
            Self { address: sidecar.address(), root_key: root_key.into(), name: name.into(), key, vectors };
        let mut http = collection.http();
        http.must(
            "/v1/indexes/create",
            &json!({"index_name": name, "index_key": collection.key, "dimension": DIMENSION}),
        );
        for begin in (0..STEADY).step_by(200) {
            let items: Vec<Value> = (begin..begin + 200)
                .map(|row| json!({"id": steady(row), "vector": collection.vectors.row(row)}))
                .collect();
            http.must("/v1/vectors/upsert", &collection.with(json!({"items": items})));
        }
        collection
    }

    pub fn http(&self) -> Http {
        Http::new(&*self.address, Some(&self.root_key))
    }

    /// A request's body: `fields`, and the collection's name and key.
    pub fn with(&self, mut fields: Value) -> Value {
        fields["index_name"] = json!(self.name);
        fields["index_key"] = json!(self.key);
        fields
    }

    /// The item that a writer puts under `id` as `version`. No two have the same vector, nor one of the steady ones.
    fn item(&self, id: &str, version: u64) -> Value {
        let seed = id.bytes().fold(version, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let row = STEADY + seed as usize % (self.vectors.rows() - STEADY);
        let mut state = seed;
        let vector: Vec<f32> = (self.vectors.row(row).iter())
            .map(|x| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                x + ((state >> 40) as f32 / (1 << 24) as f32 - 0.5) * 0.1
            })
            .collect();
        json!({"id": id, "vector": vector, "contents": format!("{id} as {version}"), "metadata": {"version": version}})
    }

    /// Writer `number`; it goes on from what `ledger` says.
    pub fn write(&self, number: usize, seed: u64, patience: Patience, ledger: Ledger) -> Worker {
        let collection = self.clone();
        Worker::start(move |stop| collection.keep_writing(number, seed, patience, ledger, stop))
    }

    /// A reader of the steady items.
    pub fn read(&self, seed: u64, patience: Patience) -> Worker {
        let collection = self.clone();
        Worker::start(move |stop| collection.keep_reading(seed, patience, stop))
    }

    fn keep_writing(
        &self,
        number: usize,
        seed: u64,
        patience: Patience,
        mut ledger: Ledger,
        stop: &AtomicBool,
    ) -> Ledger {
        let mut random = Random::new(seed + number as u64);
        let (mut http, mut other) = (self.http(), self.http());
        while !stop.load(Ordering::Relaxed) {
            // An id whose last answer did not come is left alone: what it asked for may still be under way.
            let known: Vec<(String, Option<u64>)> = (ledger.items.iter())
                .filter(|(_, possible)| possible.len() == 1)
                .map(|(id, possible)| (id.clone(), possible[0]))
                .collect();
            let mut wanted: BTreeMap<String, Option<u64>> = BTreeMap::new();
            let removes = !known.is_empty() && random.below(5) == 0;
            for _ in 0..=random.below(BATCH) {
                let (id, version) = match random.below(3) {
                    0..=1 if removes || known.len() > 60 => known[random.below(known.len())].clone(),
                    _ if removes => continue,
                    _ => {
                        ledger.made += 1;
                        (format!("w{number}-{}", ledger.made), None)
                    }
                };
                wanted.insert(id, if removes { None } else { Some(version.map_or(0, |version| version + 1)) });
            }
            if wanted.is_empty() {
                continue;
            }
            let answer = if removes {
                let ids: Vec<&String> = wanted.keys().collect();
                http.post("/v1/vectors/delete", &self.with(json!({"ids": ids})))
            } else {
                let items: Vec<Value> =
                    wanted.iter().map(|(id, version)| self.item(id, version.expect("an upsert"))).collect();
                http.post("/v1/vectors/upsert", &self.with(json!({"items": items})))
            };
            let acknowledged = accept(answer, patience, "a write").is_some();
            for (id, version) in &wanted {
                let possible = ledger.items.entry(id.clone()).or_insert_with(|| vec![None]);
                match acknowledged {
                    true => *possible = vec![*version],
                    false => possible.push(*version),
                }
            }
            if !acknowledged {
                ledger.refused += 1;
                std::thread::sleep(Duration::from_millis(50));
                continue;
            }
            ledger.acknowledged += wanted.len();
            // Seen at once, over another connection.
            let (id, version) = wanted.iter().next().expect("not empty");
            let answer = other.post("/v1/vectors/get", &self.with(json!({"ids": [id]})));
            if let Some(answer) = accept(answer, patience, "a read of one's own write") {
                self.compare(id, &[*version], answer.json()["results"].get(0));
            }
        }
        ledger
    }

    fn keep_reading(&self, seed: u64, patience: Patience, stop: &AtomicBool) -> Ledger {
        let mut random = Random::new(seed);
        let mut http = self.http();
        let mut ledger = Ledger::default();
        while !stop.load(Ordering::Relaxed) {
            let row = random.below(STEADY);
            let mut body = json!({"query_vectors": self.vectors.row(row), "top_k": 10, "include": ["distance"]});
            let (path, body) = match random.below(8) {
                0 => ("/v1/vectors/get", json!({"ids": [steady(row)], "include": ["vector"]})),
                1 => ("/v1/vectors/num_vectors", json!({})),
                2..=4 => ("/v1/vectors/query", body),
                _ => {
                    body["n_probes"] = json!(1_000_000); // every list: the answer is exact
                    ("/v1/vectors/query", body)
                }
            };
            let exact = !path.ends_with("query") || body["n_probes"].is_u64();
            let Some(answer) = accept(http.post(path, &self.with(body)), patience, "a read") else {
                ledger.refused += 1;
                std::thread::sleep(Duration::from_millis(50));
                continue;
            };
            ledger.acknowledged += 1;
            let body = answer.json();
            if let Some(count) = body["result"].as_u64() {
                assert!(count as usize >= STEADY, "{count} items, although {STEADY} were never touched");
                continue;
            }
            let rows = body["results"].as_array().unwrap_or_else(|| panic!("no results in {body}"));
            // Equal vectors under other ids may come first.
            let mut nearest =
                rows.iter().take_while(|row| row["distance"].as_f64().is_none_or(|distance| distance < 1e-6));
            let found = nearest.any(|found| found["id"] == json!(steady(row)));
            assert!(found || !exact, "item {} is not found: {body}", steady(row));
            ledger.approximate += usize::from(!exact);
            ledger.approximate_found += usize::from(!exact && found);
        }
        ledger
    }

    /// One item as it was read, against the versions that it may have.
    fn compare(&self, id: &str, possible: &[Option<u64>], found: Option<&Value>) -> Option<u64> {
        let same = |version: &Option<u64>| match (version, found) {
            (None, None) => true,
            (Some(version), Some(found)) => {
                let wanted = self.item(id, *version);
                let floats = |item: &Value| -> Vec<f32> {
                    item["vector"]
                        .as_array()
                        .into_iter()
                        .flatten()
                        .map(|x| x.as_f64().unwrap_or(f64::NAN) as f32)
                        .collect()
                };
                ["id", "contents", "metadata"].iter().all(|field| wanted[field] == found[field])
                    && floats(&wanted) == floats(found)
            }
            _ => false,
        };
        match possible.iter().find(|version| same(version)) {
            Some(version) => *version,
            None => panic!("item {id}: acknowledged {possible:?}, but there is {}", found.unwrap_or(&Value::Null)),
        }
    }

    /// Compares with the collection: nothing acknowledged is lost, nothing torn, nothing else is there. Doubts are
    /// settled by what is.
    pub fn settle<'a>(&self, ledgers: impl IntoIterator<Item = &'a mut Ledger>) {
        let mut http = self.http();
        let ids = http.must("/v1/vectors/list_ids", &self.with(json!({})));
        let ids: Vec<String> = serde_json::from_value(ids["ids"].clone()).expect("a list of strings");
        let count = http.must("/v1/vectors/num_vectors", &self.with(json!({})));
        assert_eq!(count["result"].as_u64(), Some(ids.len() as u64));
        let mut there: BTreeMap<String, Value> = BTreeMap::new();
        for some in ids.chunks(500) {
            let body = http.must("/v1/vectors/get", &self.with(json!({"ids": some})));
            let rows = body["results"].as_array().expect("a list");
            assert_eq!(rows.len(), some.len(), "an id that is listed can be read");
            there.extend(rows.iter().map(|row| (row["id"].as_str().expect("an id").to_owned(), row.clone())));
        }
        for row in 0..STEADY {
            assert!(there.remove(&steady(row)).is_some(), "{} is lost", steady(row));
        }
        for ledger in ledgers {
            for (id, possible) in &mut ledger.items {
                let settled = self.compare(id, possible, there.remove(id).as_ref());
                *possible = vec![settled];
            }
        }
        assert!(there.is_empty(), "items that nobody wrote: {:?}", there.keys());
    }
}

impl Worker {
    fn start(work: impl FnOnce(&AtomicBool) -> Ledger + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        Self { thread: std::thread::spawn(move || work(&flag)), stop }
    }

    /// Tells it to stop, waits, and takes what it knows; panics if it saw what may not be.
    pub fn finish(self) -> Ledger {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("a worker saw something that may not be")
    }
}

fn steady(row: usize) -> String {
    format!("steady-{row}")
}

/// The answer, if it is one.
fn accept(answer: io::Result<Answer>, patience: Patience, what: &str) -> Option<Answer> {
    match answer {
        Ok(answer) if answer.status == 200 => Some(answer),
        Ok(answer) if patience == Patience::Restarts && answer.is_clean_refusal() => None,
        Ok(answer) => panic!("{what}: {} {} {:?}", answer.status, answer.text(), answer.headers),
        Err(_) if patience == Patience::Restarts => None,
        Err(error) => panic!("{what}: {error}"),
    }
}
