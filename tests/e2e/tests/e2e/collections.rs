//! Collections on whole servers: moved, replicated, killed, and used by many at a time.

use std::thread;

use postgres::Client;
use sealvec_e2e::standby::Standby;
use sealvec_e2e::xtask::must;
use sealvec_e2e::{Cluster, error_of, eventually, one, run, said};

const KEY: &str = "decode(repeat('5e', 32), 'hex')";
const USER: &str = "decode(repeat('0b', 16), 'hex'), user_key => decode(repeat('6f', 32), 'hex')";

/// `count` items from `first` on: ids, vectors of 8 dimensions that lie on a line, contents and metadata.
fn upsert(
    client: &mut Client,
    name: &str,
    first: usize,
    count: usize,
    credential: &str,
) -> Result<(), postgres::Error> {
    client.batch_execute(&format!(
        "SELECT sealvec.upsert('{name}', array_agg('item ' || i), array_agg(ARRAY[i, i, i, i, 1, 2, 3, 4]::real[]),
             contents => array_agg('contents of ' || i), metadata => array_agg(format('{{\"n\": %s}}', i)){credential})
         FROM generate_series({first}, {}) i",
        first + count - 1
    ))
}

fn make(client: &mut Client) {
    run(
        client,
        &format!(
            "SELECT sealvec.create_index('own', 8, index_key => {KEY}), sealvec.create_index('kms', 8, kms_name => 'local')"
        ),
    );
    let key = format!(", index_key => {KEY}");
    upsert(client, "own", 0, 300, &key).expect("upserted");
    upsert(client, "kms", 0, 300, "").expect("upserted");
    run(client, &format!("SELECT sealvec.create_user('own', '{{read}}', {USER}, index_key => {KEY})"));
}

/// Items 100, 99 and 101 are the nearest to what is asked, by the collection's own key and by its user's.
fn answers(client: &mut Client, name: &str, credential: &str) -> Vec<String> {
    let rows = client.query(
        &format!("SELECT id FROM sealvec.query('{name}', '[100,100,100,100.4,1,2,3,4]', top_k => 3{credential})"),
        &[],
    );
    rows.unwrap_or_else(|error| panic!("{name}: {}", said(&error))).iter().map(|row| row.get(0)).collect()
}

const NEAREST: [&str; 3] = ["item 100", "item 101", "item 99"];

fn check(client: &mut Client, what: &str) {
    let own = format!(", index_key => {KEY}");
    assert_eq!(answers(client, "own", &own), NEAREST, "{what}");
    let user = ", index_key => decode(repeat('6f', 32), 'hex'), user_id => decode(repeat('0b', 16), 'hex')";
    assert_eq!(answers(client, "own", user), NEAREST, "{what}");
    let contents: String =
        one(client, &format!("SELECT contents FROM sealvec.get('own', '{{item 7}}', index_key => {KEY})"));
    assert_eq!(contents, "contents of 7", "{what}");
    error_of(client, "SELECT sealvec.num_vectors('own')");
}

#[test]
fn collections_move_with_a_dump() {
    let cluster = Cluster::start("collections-dump", &["autovacuum=off"]);
    make(&mut cluster.client());
    check(&mut cluster.client(), "before");
    let dump = cluster.home().join("dump.sql");
    must(cluster.program("pg_dump", "e2e").arg("-f").arg(&dump));
    let text = std::fs::read_to_string(&dump).expect("a dump is text");
    for plain in ["item 1", "contents of", "\"n\""] {
        assert!(!text.contains(plain), "{plain} is in the dump");
    }
    run(&mut cluster.client(), "CREATE DATABASE again");
    must(
        cluster.program("psql", "again").args(["-v", "ON_ERROR_STOP=1", "-q", "--single-transaction", "-f"]).arg(&dump),
    );
    let mut there = cluster.connect_to("again");
    check(&mut there, "restored");
    assert_eq!(answers(&mut there, "kms", ""), NEAREST);
    let key = format!(", index_key => {KEY}");
    upsert(&mut there, "own", 290, 20, &key).expect("a restored collection takes items");
    assert_eq!(one::<i64>(&mut there, &format!("SELECT sealvec.num_vectors('own', {KEY})")), 310);
    run(&mut there, &format!("SELECT sealvec.delete_index('own', {KEY}), sealvec.delete_index('kms')"));
    assert_eq!(one::<i64>(&mut there, "SELECT count(*) FROM sealvec.collection_user"), 0);
    check(&mut cluster.client(), "the source is as it was");
    cluster.log_is_clean();
}

#[test]
fn a_standby_answers_and_refuses_to_write() {
    let cluster = Cluster::start("collections-standby", &["autovacuum=off"]);
    make(&mut cluster.client());
    let standby = Standby::start(&cluster);
    standby.catch_up();
    let mut here = standby.client();
    check(&mut here, "standby");
    for write in [
        format!("SELECT sealvec.upsert('own', '[{{\"id\":\"x\",\"vector\":[1,2,3,4,5,6,7,8]}}]', {KEY})"),
        format!("SELECT sealvec.delete('own', '{{item 1}}', {KEY})"),
        format!("SELECT sealvec.create_index('new', 8, index_key => {KEY})"),
        format!("SELECT sealvec.delete_index('own', {KEY})"),
        format!("SELECT sealvec.delete_user('own', decode(repeat('0b', 16), 'hex'), {KEY})"),
        format!("SELECT sealvec.train('own', index_key => {KEY})"),
    ] {
        let error = error_of(&mut here, &write);
        assert_eq!(error.code().code(), "25006", "{write}: {error:?}");
    }
    // A user who goes on the primary is gone here with the replay.
    run(&mut cluster.client(), &format!("SELECT sealvec.delete_user('own', decode(repeat('0b', 16), 'hex'), {KEY})"));
    standby.catch_up();
    let error = error_of(
        &mut here,
        "SELECT sealvec.num_vectors('own', decode(repeat('6f', 32), 'hex'), decode(repeat('0b', 16), 'hex'))",
    );
    assert_eq!(error.code().code(), "42501", "{error:?}");
}

#[test]
fn a_killed_server_keeps_whole_calls() {
    const BATCH: usize = 40;
    let mut cluster = Cluster::start("collections-crash", &["autovacuum=off"]);
    make(&mut cluster.client());
    let key = format!(", index_key => {KEY}");
    for round in 0..3 {
        let acknowledged = thread::scope(|scope| {
            let mut client = cluster.client();
            let key = &key;
            let writer = scope.spawn(move || {
                let mut acknowledged = Vec::new();
                for batch in 0.. {
                    let first = 1_000 + 100_000 * round + batch * BATCH;
                    if upsert(&mut client, "own", first, BATCH, key).is_err() {
                        break;
                    }
                    acknowledged.push(first);
                }
                acknowledged
            });
            thread::sleep(std::time::Duration::from_millis(700));
            cluster.kill();
            writer.join().expect("the writer ends with the server")
        });
        cluster.start_again();
        let mut client = cluster.client();
        let ids = client
            .query(&format!("SELECT sealvec.list_ids('own', {KEY})"), &[])
            .unwrap_or_else(|error| panic!("{}", said(&error)));
        let numbers: Vec<usize> =
            ids.iter().map(|row| row.get::<_, &str>(0)["item ".len()..].parse().expect("a number")).collect();
        for first in &acknowledged {
            let there = numbers.iter().filter(|number| (*first..first + BATCH).contains(number)).count();
            assert_eq!(there, BATCH, "round {round}: a call that was acknowledged is whole");
        }
        let of_round = numbers.iter().filter(|number| **number >= 1_000 + 100_000 * round).count();
        assert_eq!(of_round % BATCH, 0, "round {round}: no call is there in part");
        assert!(!acknowledged.is_empty(), "round {round}: the server was killed before it wrote anything");
        check(&mut client, "after the crash");
    }
}

#[test]
fn many_at_a_time_agree_on_the_dimension_and_never_wait_crosswise() {
    let cluster = Cluster::start("collections-many", &["autovacuum=off", "deadlock_timeout=100ms"]);
    run(&mut cluster.client(), &format!("SELECT sealvec.create_index('many', index_key => {KEY})"));
    thread::scope(|scope| {
        for worker in 0..8 {
            let mut client = cluster.client();
            scope.spawn(move || {
                for round in 0..10 {
                    // The same items from both ends, by everybody.
                    let order = if worker % 2 == 0 { "i" } else { "-i" };
                    let sql = format!(
                        "SELECT sealvec.upsert('many', array_agg('item ' || i ORDER BY {order}),
                             array_agg(ARRAY[i, {worker}, {round}]::real[] ORDER BY {order}), index_key => {KEY})
                         FROM generate_series(1, 50) i"
                    );
                    run(&mut client, &sql);
                    let ids: String = (0..10).map(|i| format!("item {},", 1 + (worker * 7 + i * 3) % 50)).collect();
                    run(
                        &mut client,
                        &format!("SELECT sealvec.delete('many', '{{{}}}', {KEY})", ids.trim_end_matches(',')),
                    );
                }
            });
        }
    });
    let mut client = cluster.client();
    assert_eq!(one::<i32>(&mut client, "SELECT dimension FROM sealvec.index_info('many')"), 3);
    let error =
        error_of(&mut client, &format!("SELECT sealvec.upsert('many', '[{{\"id\":\"x\",\"vector\":[1,2]}}]', {KEY})"));
    assert_eq!(error.code().code(), "22000");
    cluster.log_is_clean();
}

#[test]
fn first_upserts_at_the_same_moment_agree_on_the_dimension() {
    const ROUNDS: usize = 10;
    const CLIENTS: usize = 6;
    let cluster = Cluster::start("collections-first", &["autovacuum=off", "deadlock_timeout=100ms"]);
    for round in 0..ROUNDS {
        run(&mut cluster.client(), &format!("SELECT sealvec.create_index('first {round}', index_key => {KEY})"));
    }
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| cluster.client()).collect();
    for round in 0..ROUNDS {
        thread::scope(|scope| {
            for (number, client) in clients.iter_mut().enumerate() {
                scope.spawn(move || {
                    // One dimension or the other, whoever is first; who comes later with the other is told so.
                    let vector = ["[1,2]", "[1,2,3]"][number % 2];
                    let items = format!("[{{\"id\":\"item {number}\",\"vector\":{vector}}}]");
                    let sql = format!("SELECT sealvec.upsert('first {round}', '{items}', {KEY})");
                    if let Err(error) = client.query(&sql, &[]) {
                        let code = error.code().map(|code| code.code().to_owned());
                        assert_eq!(code.as_deref(), Some("22000"), "{}", said(&error));
                    }
                });
            }
        });
    }
    let mut client = cluster.client();
    for round in 0..ROUNDS {
        let count: i64 = one(&mut client, &format!("SELECT sealvec.num_vectors('first {round}', {KEY})"));
        assert_eq!(count as usize, CLIENTS / 2, "round {round}: everybody who has the dimension of the first");
    }
    cluster.log_is_clean();
}

#[test]
fn what_a_call_showed_serves_no_other_client_of_the_pool() {
    let cluster = Cluster::start("collections-pool", &["autovacuum=off"]);
    make(&mut cluster.client());
    // One session, as a pool hands it from client to client.
    let mut pooled = cluster.client();
    let mut admin = cluster.client();
    let user = "decode(repeat('6f', 32), 'hex'), decode(repeat('0b', 16), 'hex')";
    for _ in 0..3 {
        assert_eq!(one::<i64>(&mut pooled, &format!("SELECT sealvec.num_vectors('own', {KEY})")), 300);
        for other in [
            "SELECT sealvec.num_vectors('own')".to_owned(),
            "SELECT sealvec.num_vectors('own', decode(repeat('5f', 32), 'hex'))".to_owned(),
            format!("SELECT sealvec.delete('own', '{{item 1}}', {user})"),
            "DO $$ BEGIN EXECUTE 'SELECT sealvec.open(embedding) FROM ' || (SELECT \"table\" FROM sealvec.collections WHERE name = 'own'); END $$".to_owned(),
        ] {
            error_of(&mut pooled, &other);
        }
        assert_eq!(one::<i64>(&mut pooled, &format!("SELECT sealvec.num_vectors('own', {user})")), 300);
    }
    // Gone with the next request, whatever the session remembers.
    run(&mut admin, &format!("SELECT sealvec.delete_user('own', decode(repeat('0b', 16), 'hex'), {KEY})"));
    let error = error_of(&mut pooled, &format!("SELECT sealvec.num_vectors('own', {user})"));
    assert_eq!(error.code().code(), "42501");
    // A new KEK makes the old one wrong, also for a session that knows its digest.
    run(
        &mut admin,
        &format!(
            "SELECT sealvec.rotate_kek(ring, {KEY}, decode(repeat('77', 32), 'hex')) FROM sealvec.collections WHERE name = 'own'"
        ),
    );
    let error = error_of(&mut pooled, &format!("SELECT sealvec.num_vectors('own', {KEY})"));
    assert_eq!(error.code().code(), "28P01");
    assert_eq!(one::<i64>(&mut pooled, "SELECT sealvec.num_vectors('own', decode(repeat('77', 32), 'hex'))"), 300);
}

/// The call has opened the ring, and waits for the table.
#[test]
fn a_users_call_under_way_ends_when_he_is_deleted() {
    let cluster = Cluster::start("collections-deleted", &["autovacuum=off"]);
    let mut admin = cluster.client();
    make(&mut admin);
    let table: String = one(&mut admin, "SELECT \"table\"::text FROM sealvec.collections WHERE name = 'own'");
    let mut client = cluster.client();
    let pid: i32 = one(&mut client, "SELECT pg_backend_pid()");
    let list = "SELECT count(*) FROM sealvec.list_ids('own', decode(repeat('6f', 32), 'hex'), decode(repeat('0b', 16), 'hex'))";
    assert_eq!(one::<i64>(&mut client, list), 300);
    run(&mut admin, &format!("BEGIN; LOCK TABLE {table}"));
    run(&mut admin, &format!("SELECT sealvec.delete_user('own', decode(repeat('0b', 16), 'hex'), {KEY})"));
    let call = thread::spawn(move || error_of(&mut client, list));
    eventually("the call waits", 10, || {
        let waits = format!("SELECT count(*) FROM pg_locks WHERE pid = {pid} AND NOT granted");
        (one::<i64>(&mut admin, &waits) == 1).then_some(())
    });
    run(&mut admin, "COMMIT");
    let error = call.join().expect("it ended");
    assert_eq!(error.code().code(), "55000", "{error}");
    cluster.log_is_clean();
}

#[test]
fn nobody_but_its_owner_makes_others_wait_for_a_collection() {
    let cluster = Cluster::start("collections-waits", &["autovacuum=off"]);
    let mut admin = cluster.client();
    make(&mut admin);
    run(&mut admin, "CREATE ROLE stranger LOGIN");
    run(&mut admin, "BEGIN");
    run(&mut admin, &format!("SELECT sealvec.create_user('own', '{{write}}', index_key => {KEY})"));
    let mut stranger = cluster.connect_as("stranger", "e2e");
    run(&mut stranger, "SET lock_timeout = '1s'"); // who waited for that call would make others wait in his turn
    let wrong = "index_key => decode(repeat('00', 32), 'hex')";
    for call in [
        format!("delete_index('own', {wrong})"),
        format!("create_user('own', '{{read}}', {wrong})"),
        format!("delete_user('own', decode(repeat('0b', 16), 'hex'), {wrong})"),
    ] {
        let error = error_of(&mut stranger, &format!("SELECT sealvec.{call}"));
        assert_eq!(error.code().code(), "42501", "{call}: {error}");
    }
}
