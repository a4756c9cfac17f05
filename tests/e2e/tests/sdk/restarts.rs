//! The sidecar dies, the database dies, the pool is exhausted: clean errors, recovery, and nothing acknowledged lost.

use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use sealvec_e2e::items::{Collection, Ledger, Patience, Worker};
use sealvec_e2e::sidecar::ROOT_KEY;
use sealvec_e2e::xtask::must;
use sealvec_e2e::{Cluster, Sidecar, eventually, one};
use serde_json::json;

const WRITERS: usize = 3;
const READERS: usize = 2;

fn load(collection: &Collection, round: u64, ledgers: Vec<Ledger>) -> (Vec<Worker>, Vec<Worker>) {
    let writers = ledgers.into_iter().enumerate();
    let writers = writers.map(|(number, ledger)| collection.write(number, 100 * round, Patience::Restarts, ledger));
    let readers = (0..READERS).map(|number| collection.read(7 * round + number as u64, Patience::Restarts));
    (writers.collect(), readers.collect())
}

/// Runs load while `disturb` does its harm, then waits until writes are acknowledged again, and settles.
fn survives(collection: &Collection, ledgers: Vec<Ledger>, round: u64, disturb: impl FnOnce()) -> Vec<Ledger> {
    let before: usize = ledgers.iter().map(|ledger| ledger.acknowledged).sum();
    let (writers, readers) = load(collection, round, ledgers);
    std::thread::sleep(Duration::from_millis(700));
    disturb();
    let mut http = collection.http();
    let begun = Instant::now();
    eventually("the collection answers again", 30, || {
        let answer = http.post("/v1/vectors/num_vectors", &collection.with(json!({}))).ok()?;
        assert!(answer.status == 200 || answer.is_clean_refusal(), "{} {}", answer.status, answer.text());
        (answer.status == 200).then_some(())
    });
    let recovered = begun.elapsed();
    std::thread::sleep(Duration::from_millis(700));
    let mut ledgers: Vec<Ledger> = writers.into_iter().map(Worker::finish).collect();
    let read: usize = readers.into_iter().map(|reader| reader.finish().acknowledged).sum();
    let acknowledged: usize = ledgers.iter().map(|ledger| ledger.acknowledged).sum();
    println!("round {round}: {} items, {read} answers, answered {recovered:?} after", acknowledged - before);
    assert!(acknowledged > before && read > 0, "there was load");
    collection.settle(&mut ledgers);
    ledgers
}

fn no_ledgers() -> Vec<Ledger> {
    (0..WRITERS).map(|_| Ledger::default()).collect()
}

#[test]
fn a_sidecar_that_is_restarted_loses_nothing() {
    let cluster = Cluster::start("sdk-restart", &[]);
    let mut sidecar = Sidecar::start(&cluster, "restart", &[]);
    let collection = Collection::create(&sidecar, ROOT_KEY, "sidecar restarts");
    let mut ledgers = no_ledgers();
    for round in 1..=4 {
        ledgers = survives(&collection, ledgers, round, || {
            if round % 2 == 0 {
                sidecar.stop()
            } else {
                sidecar.kill()
            }
            std::thread::sleep(Duration::from_millis(300));
            sidecar.start_again();
        });
    }
    sidecar.stop();
    cluster.log_is_clean();
}

#[test]
fn a_database_that_is_restarted_loses_nothing() {
    let mut cluster = Cluster::start("sdk-database", &["autovacuum=off"]);
    let mut sidecar = Sidecar::start(&cluster, "database", &["--connect-timeout", "2"]);
    let collection = Collection::create(&sidecar, ROOT_KEY, "database restarts");
    let mut ledgers = no_ledgers();
    for (round, mode) in [(1, "immediate"), (2, "fast"), (3, "immediate")] {
        ledgers = survives(&collection, ledgers, round, || {
            let mut stop = cluster.server_program("pg_ctl");
            must(stop.args(["stop", "--wait", "--silent", "-m", mode, "-D"]).arg(cluster.path("data")));
            // Down: an error that says so, at once and not after the pool's patience; health needs no database.
            let mut http = collection.http();
            let begun = Instant::now();
            let answer = http.post("/v1/vectors/num_vectors", &collection.with(json!({}))).expect("the sidecar lives");
            assert!(answer.is_clean_refusal(), "{} {}", answer.status, answer.text());
            assert!(begun.elapsed() < Duration::from_secs(8), "an answer after {:?}", begun.elapsed());
            assert_eq!(http.get("/v1/health").expect("the sidecar lives").status, 200);
            cluster.start_again();
        });
    }
    sidecar.stop();
}

#[test]
fn an_exhausted_pool_says_when_to_come_again() {
    let cluster = Cluster::start("sdk-pool", &[]);
    let mut sidecar = Sidecar::start(&cluster, "pool", &["--pool-size", "2", "--pool-timeout", "1"]);
    let collection = Collection::create(&sidecar, ROOT_KEY, "pool");
    let mut holder = cluster.client();
    let table: String = one(&mut holder, "SELECT \"table\"::text FROM sealvec.collections WHERE name = 'pool'");
    let mut transaction = holder.transaction().expect("begins");
    transaction.batch_execute(&format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")).expect("locked");

    // Two requests hold the two connections until the lock goes.
    let (sender, receiver) = mpsc::channel();
    for _ in 0..2 {
        let (collection, sender) = (collection.clone(), sender.clone());
        std::thread::spawn(move || {
            let answer = collection.http().post("/v1/vectors/num_vectors", &collection.with(json!({})));
            sender.send(answer.map(|answer| answer.status).map_err(|error| error.to_string()))
        });
    }
    eventually("both connections wait for the lock", 10, || {
        let waiting: i64 = transaction
            .query_one("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = $1::text::regclass", &[&table])
            .expect("pg_locks")
            .get(0);
        (waiting == 2).then_some(())
    });
    let mut http = sidecar.http();
    for path in ["/v1/vectors/num_vectors", "/v1/vectors/list_ids"] {
        let begun = Instant::now();
        let answer = http.post(path, &collection.with(json!({}))).expect("an answer");
        assert!(answer.is_clean_refusal(), "{} {} {:?}", answer.status, answer.text(), answer.headers);
        assert_eq!(answer.json()["status_code"], json!(503));
        let waited = begun.elapsed();
        assert!((Duration::from_millis(800)..Duration::from_secs(4)).contains(&waited), "after {waited:?}");
    }
    assert_eq!(http.get("/v1/health").expect("an answer").status, 200);

    transaction.rollback().expect("unlocked");
    for _ in 0..2 {
        assert_eq!(receiver.recv_timeout(Duration::from_secs(10)).expect("an answer"), Ok(200));
    }
    assert_eq!(http.must("/v1/vectors/num_vectors", &collection.with(json!({})))["result"], json!(1_000));
    collection.settle(&mut no_ledgers());

    // A client that goes away while its statement waits gives the connection back.
    let mut transaction = holder.transaction().expect("begins");
    transaction.batch_execute(&format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")).expect("locked");
    let body = collection.with(json!({})).to_string();
    for _ in 0..4 {
        // curl leaves after 300 ms.
        let left = Command::new("curl")
            .args(["-s", "--max-time", "0.3", "-H", "Content-Type: application/json", "-d", &body])
            .args(["-H", &format!("X-API-Key: {ROOT_KEY}"), &format!("{}/v1/vectors/num_vectors", sidecar.url())])
            .output()
            .expect("curl");
        assert!(!left.status.success(), "it had an answer");
    }
    transaction.rollback().expect("unlocked");
    assert_eq!(http.must("/v1/vectors/num_vectors", &collection.with(json!({})))["result"], json!(1_000));
    sidecar.stop();
    cluster.log_is_clean();
}
