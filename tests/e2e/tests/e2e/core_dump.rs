//! A core of a session that has open rings holds none of their keys, although its memory does.
//!
//! Cores are allowed here: by default a session that has opened a key leaves none at all.

use std::fs;
use std::process::Command;

use postgres::Client;
use sealvec_e2e::packages::require;
use sealvec_e2e::xtask::must;
use sealvec_e2e::{Cluster, cluster, data, memory, one, run};

use super::subkeys::{self, Key};

const KEK: [u8; 32] = *b"the KEK of a test, as it is kept";
const DIMS: usize = 32;
/// In the clear, where anybody can find it.
const PLANTED: &str = "planted-0123456789-abcdef-ghijkl";

fn kek() -> String {
    format!("decode('{}', 'hex')", KEK.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// All that a session does with keys: a table with an index, built, searched and written to; a collection.
fn use_keys(client: &mut Client) {
    let kek = kek();
    run(
        client,
        &format!("SELECT sealvec.create_key_ring('vault', kek => {kek}); SELECT sealvec.unlock('vault', {kek})"),
    );
    let vectors = data::vectors().cut(5_000, DIMS);
    data::table(client, "secrets", "vault", &vectors);
    run(client, "CREATE INDEX secrets_idx ON secrets USING sealed_ivf (embedding)");
    run(client, "INSERT INTO secrets SELECT id + 5000, embedding FROM secrets WHERE id < 100");
    run(client, "VACUUM secrets");
    run(
        client,
        &format!(
            "SELECT sealvec.create_index('docs', {DIMS}, index_key => {kek});
                  SELECT sealvec.upsert('docs', array_agg('item ' || i), array_agg(array_fill(i::real, ARRAY[{DIMS}])),
                      contents => array_agg('contents of ' || i), index_key => {kek}) FROM generate_series(1, 600) i;
                  SELECT sealvec.train('docs', index_key => {kek})"
        ),
    );
    run(client, "CHECKPOINT");
}

/// The session's last deeds: everything is open when the core is taken.
fn use_again(client: &mut Client) {
    let (kek, query) = (kek(), data::queries().cut(1, DIMS).text(0));
    run(client, &format!("SELECT sealvec.unlock('vault', {kek}); SET enable_seqscan = off"));
    run(client, &format!("SELECT id FROM secrets ORDER BY embedding <-> '{query}' LIMIT 10"));
    run(client, "SELECT sum(cardinality(sealvec.open(embedding)::real[])) FROM secrets WHERE id < 50");
    let three = format!("SELECT id FROM sealvec.query('docs', '{query}', top_k => 3, index_key => {kek})");
    run(client, &format!("{three}; SELECT id FROM sealvec.get('docs', '{{item 7}}', index_key => {kek})"));
    run(client, &format!("SET application_name = 'planted'; SET my.planted = '{PLANTED}'"));
}

/// A core of the session, as gdb writes it: like the kernel, without what the process wants left out of cores.
fn core_of(cluster: &Cluster, pid: i32) -> Vec<u8> {
    let front = cluster.home().join("core");
    let made = must(Command::new("gcore").arg("-o").arg(&front).arg(pid.to_string()));
    fs::read(cluster.home().join(format!("core.{pid}"))).unwrap_or_else(|error| panic!("{error}: {made}"))
}

/// How often the front half of each key lies in `bytes`: a schedule begins with the whole key.
fn count(bytes: &[u8], keys: &[Key]) -> Vec<usize> {
    let mut by_front = std::collections::HashMap::<[u8; 4], Vec<usize>>::new();
    let mut is_front = vec![false; 1 << 16];
    for (place, key) in keys.iter().enumerate() {
        by_front.entry(key.bytes[..4].try_into().expect("4 bytes")).or_default().push(place);
        is_front[usize::from(u16::from_le_bytes([key.bytes[0], key.bytes[1]]))] = true;
    }
    let mut found = vec![0; keys.len()];
    for window in bytes.windows(16) {
        if is_front[usize::from(u16::from_le_bytes([window[0], window[1]]))] {
            for &place in by_front.get(&window[..4]).into_iter().flatten() {
                found[place] += usize::from(window == &keys[place].bytes[..16]);
            }
        }
    }
    found
}

fn told(keys: &[Key], found: &[usize]) -> String {
    let found = keys.iter().zip(found).filter(|(_, times)| **times > 0);
    found.map(|(key, times)| format!("{} ({times})", key.name)).collect::<Vec<_>>().join(", ")
}

#[test]
fn a_core_of_a_session_holds_none_of_its_keys() {
    if !cluster::is_root() {
        eprintln!("skipped: a core of another user's process needs root");
        return;
    }
    require("gdb", &["gdb"]);
    let cluster = Cluster::start("core-dump", &["autovacuum=off", "sealvec.disable_core_dumps=off"]);
    let mut client = cluster.client();
    use_keys(&mut client);
    let mut keys = subkeys::all(&mut client, &cluster, "vault", "secrets_idx", &KEK);
    let docs: String = one(&mut client, "SELECT ring FROM sealvec.collections WHERE name = 'docs'");
    let index: String = one(
        &mut client,
        "SELECT i.indexrelid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
         JOIN sealvec.collections d ON d.\"table\" = i.indrelid WHERE a.amname = 'sealed_ivf'",
    );
    let of_docs = subkeys::all(&mut client, &cluster, &docs, &index, &KEK);
    keys.extend(of_docs.into_iter().map(|key| Key { name: format!("collection's {}", key.name), ..key }));
    use_again(&mut client);
    let pid: i32 = one(&mut client, "SELECT pg_backend_pid()");

    // Its memory holds them: what is looked for is what it works with.
    let needles: Vec<&[u8]> = keys.iter().take(12).map(|key| &key.bytes[..16]).collect();
    let held = memory::count(pid, &needles);
    assert!(held[0] > 0 && held[1] > 0, "DEK and id key: {held:?}");
    assert!(keys.iter().zip(&held).any(|(key, times)| key.name == "directory key" && *times > 0), "{held:?}");

    let core = core_of(&cluster, pid);
    eprintln!("core: {} MB", core.len() >> 20);
    let planted = core.windows(PLANTED.len()).filter(|window| window == &PLANTED.as_bytes()).count();
    assert!(planted > 0, "the search finds what is there");
    let found = count(&core, &keys);
    assert_eq!(told(&keys, &found), "", "keys in the core");
    cluster.log_is_clean();
}

/// Lets the server and all sessions that it starts from now on lock so many bytes.
fn limit_locked_memory(cluster: &Cluster, bytes: usize) {
    let postmaster = cluster.path("pid").display().to_string();
    let mut command = Command::new("prlimit");
    if cluster::is_root() {
        command = Command::new("runuser");
        command.args(["-u", "postgres", "--", "prlimit"]);
    }
    must(command.args(["--pid", &postmaster, &format!("--memlock={bytes}:")]));
}

/// Bytes that the process of this session has locked.
fn locked_memory(client: &mut Client) -> usize {
    let pid: i32 = one(client, "SELECT pg_backend_pid()");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmLck:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
}

#[test]
fn keys_that_must_be_locked_have_room_below_whatever_limit() {
    let cluster = Cluster::start("memlock", &["autovacuum=off", "max_parallel_maintenance_workers=0"]);

    // What a hash takes first must not be all there is.
    limit_locked_memory(&cluster, 64 * 1024);
    let mut client = cluster.client();
    run(&mut client, "SELECT sealvec.create_key_ring('small'); CREATE TABLE small (v sealvec(2, small))");
    run(&mut client, "INSERT INTO small VALUES ('[1,2]')");
    let mut client = cluster.client();
    run(&mut client, &format!("SELECT sealvec.create_index('items', 3, index_key => {})", kek()));
    let locked = locked_memory(&mut client);
    assert!(locked > 0 && locked <= 64 * 1024, "{locked}");

    // Nor what thousands of lists take.
    let limit = 256 * 1024;
    limit_locked_memory(&cluster, limit);
    let mut client = cluster.client();
    run(&mut client, "SELECT sealvec.create_key_ring('vault')");
    data::table(&mut client, "docs", "vault", &data::vectors().cut(10_000, DIMS));
    for _ in 0..6 {
        run(&mut client, "CREATE INDEX ON docs USING sealed_ivf (embedding)");
    }
    let rings = "SELECT sealvec.create_key_ring('r' || i) FROM generate_series(1, 200) i";
    run(&mut client, rings);
    run(&mut client, "SELECT sealvec.unlock('r' || i) FROM generate_series(1, 200) i");
    let locked = locked_memory(&mut client);
    assert!(locked > 64 * 1024 && locked <= limit, "{locked}");
    cluster.log_is_clean();
}
