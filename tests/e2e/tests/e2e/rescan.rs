//! A nested loop that scans the index 100,000 times takes no more memory than one that scans it a few times.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sealvec_e2e::{Cluster, data, memory, one, run};

const ROWS: usize = 2_000;
const RESCANS: usize = 100_000;

#[test]
fn rescans_give_their_memory_back() {
    let cluster = Cluster::start("rescan", &["autovacuum=off"]);
    let mut client = cluster.client();
    run(&mut client, "DO $$ BEGIN PERFORM sealvec.create_key_ring('notes'); END $$");
    data::table(&mut client, "docs", "notes", &data::vectors().cut(ROWS, 32));
    run(&mut client, "CREATE INDEX docs_l2 ON docs USING sealed_ivf (embedding) WITH (lists = 20)");
    run(&mut client, "SET enable_seqscan = off; SET sealvec.probes = 2; SET jit = off");
    // A series of 100,000 would be memory itself.
    let loops = |rescans: usize| {
        format!(
            "SELECT count(found.id) FROM generate_series(1, {}), docs AS query,
               LATERAL (SELECT id FROM docs ORDER BY embedding <-> query.embedding LIMIT 1) AS found",
            rescans / ROWS
        )
    };
    let plan = client.query(&format!("EXPLAIN {}", loops(RESCANS)), &[]).expect("a plan");
    let uses = plan.iter().filter(|line| line.get::<_, String>(0).contains("Index Scan using docs_l2")).count();
    assert_eq!(uses, 1, "{plan:?}");

    let found: i64 = one(&mut client, &loops(ROWS));
    assert_eq!(found, ROWS as i64);
    let pid: i32 = one(&mut client, "SELECT pg_backend_pid()");
    let before = memory::private_bytes(pid).expect("the backend waits");
    let done = AtomicBool::new(false);
    let most = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut most = 0;
            while !done.load(Ordering::Relaxed) {
                most = memory::private_bytes(pid).expect("the backend runs").max(most);
                std::thread::sleep(Duration::from_millis(50));
            }
            most
        });
        let found: i64 = one(&mut client, &loops(RESCANS));
        done.store(true, Ordering::Relaxed);
        assert_eq!(found, RESCANS as i64);
        watch.join().expect("watched")
    });
    // 20 bytes left behind by each would be seen.
    let grown = most.saturating_sub(before);
    eprintln!("{before} bytes before, {grown} more during {RESCANS} rescans");
    assert!(grown < 20 * RESCANS, "{grown} bytes more than the {before} before");
}
