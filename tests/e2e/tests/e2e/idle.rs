//! Keys leave the memory of a session that does nothing: when their time is up, when somebody locks the ring
//! everywhere, when the user changes.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use postgres::Client;
use sealvec_core::crypto::kdf::{Deriver, Label};
use sealvec_core::keys::{Kek, RingRecord, Uuid};
use sealvec_e2e::standby::Standby;
use sealvec_e2e::{Cluster, cluster, data, error_of, memory, one, page, run};

const KEK: &str = "decode(repeat('a7', 32), 'hex')";
const DIMS: usize = 32;
/// Offset of the index UUID in the meta page; docs/FORMAT.md.
const INDEX_UUID: usize = 24 + 16;

/// A server with a client-held ring, a table and an index; the keys that a backend with it open holds.
struct Vault {
    cluster: Cluster,
    dek: [u8; 32],
    directory: [u8; 32],
}

impl Vault {
    fn start(name: &str, settings: &[&str]) -> Self {
        let cluster = Cluster::start(name, &[settings, &["autovacuum=off"]].concat());
        let mut admin = cluster.client();
        run(&mut admin, "CREATE ROLE app LOGIN; CREATE ROLE other LOGIN");
        run(&mut admin, &format!("DO $$ BEGIN PERFORM sealvec.create_key_ring('vault', kek => {KEK}); END $$"));
        run(&mut admin, &format!("SELECT sealvec.unlock('vault', {KEK})"));
        data::table(&mut admin, "secrets", "vault", &data::vectors().cut(5_000, DIMS));
        run(
            &mut admin,
            "CREATE INDEX secrets_idx ON secrets USING sealed_ivf (embedding); GRANT SELECT ON secrets TO app",
        );
        run(&mut admin, "CHECKPOINT");
        let record: Vec<u8> = one(&mut admin, "SELECT record FROM sealvec.key_ring");
        let open =
            RingRecord::decode(&record).expect("a record").open(&Kek::from_slice(&[0xa7; 32]).expect("32 bytes"));
        let dek = *open.expect("the KEK").deks[0].as_dek().expose();
        let meta = page::read(&cluster.file(&mut admin, "secrets_idx"));
        let uuid = Uuid::from_bytes(meta[INDEX_UUID..][..16].try_into().expect("16 bytes"));
        let directory = *Deriver::new(&dek).subkey(Label::IndexDirectory, &uuid);
        Self { cluster, dek, directory }
    }

    /// A session of `user` that has searched under the ring, with both keys in its memory; and its process.
    fn open_as(&self, user: &str, ttl: &str) -> (Client, i32) {
        self.open_in(self.cluster.connect_as(user, "e2e"), ttl)
    }

    fn open_in(&self, mut client: Client, ttl: &str) -> (Client, i32) {
        run(&mut client, &format!("SET sealvec.key_ttl = '{ttl}'"));
        let pid = one(&mut client, "SELECT pg_backend_pid()");
        self.use_it(&mut client);
        let (deks, directories) = self.held(pid);
        assert!(deks > 0 && directories > 0, "the search for keys finds those of an open ring: {deks} {directories}");
        (client, pid)
    }

    fn use_it(&self, client: &mut Client) {
        run(client, &format!("SELECT sealvec.unlock('vault', {KEK}); SET enable_seqscan = off"));
        run(
            client,
            "SELECT id FROM secrets ORDER BY embedding <-> '{1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0}' LIMIT 3",
        );
    }

    /// How often the DEK, and the key of the index's directory, lie in the memory of the process.
    fn held(&self, pid: i32) -> (usize, usize) {
        let found = memory::count(pid, &[&self.dek, &self.directory]);
        (found[0], found[1])
    }

    /// Whether both are gone within `limit`.
    fn gone_within(&self, pid: i32, limit: Duration) -> bool {
        let begun = Instant::now();
        loop {
            if self.held(pid) == (0, 0) {
                return true;
            }
            if begun.elapsed() > limit {
                return false;
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn an_idle_session_keeps_no_key_beyond_its_time() {
    if !cluster::is_root() {
        eprintln!("skipped: looking into a backend's memory needs root");
        return;
    }
    let vault = Vault::start("idle-time", &[]);
    let (mut long, long_pid) = vault.open_as("app", "1h");
    let (mut idle, pid) = vault.open_as("app", "2s");
    thread::sleep(Duration::from_millis(1_000));
    assert_ne!(vault.held(pid).0, 0, "not before its time");
    assert!(vault.gone_within(pid, Duration::from_millis(1_600)), "gone when it is up: {:?}", vault.held(pid));
    assert_eq!(error_of(&mut idle, "SELECT sealvec.open(embedding) FROM secrets LIMIT 1").code().code(), "55000");

    // ERRORs cancel every timeout of Postgres; this one stays. In a block, the keys go when the block ends.
    vault.use_it(&mut idle);
    run(&mut idle, "BEGIN");
    error_of(&mut idle, "SELECT 1/0");
    error_of(&mut idle, "SELECT 1");
    run(&mut idle, "ROLLBACK");
    assert_ne!(vault.held(pid).0, 0, "not before its time");
    assert!(vault.gone_within(pid, Duration::from_millis(2_600)), "after an error: {:?}", vault.held(pid));
    vault.use_it(&mut idle);
    run(&mut idle, "BEGIN; SELECT 1");
    thread::sleep(Duration::from_millis(2_500));
    run(&mut idle, "COMMIT");
    assert!(vault.gone_within(pid, Duration::from_millis(500)), "after a block: {:?}", vault.held(pid));
    vault.use_it(&mut idle);
    run(&mut idle, "BEGIN; SELECT 1");
    thread::sleep(Duration::from_millis(2_500));
    run(&mut idle, "ROLLBACK");
    assert!(vault.gone_within(pid, Duration::from_millis(5_500)), "after a rollback: {:?}", vault.held(pid));

    // A shorter time counts for what is open already; a statement that outlasts it ends in peace.
    run(&mut long, "SET sealvec.key_ttl = '1s'");
    assert!(vault.gone_within(long_pid, Duration::from_millis(1_600)), "shortened: {:?}", vault.held(long_pid));
    vault.use_it(&mut long);
    run(
        &mut long,
        "SELECT sealvec.open(embedding), CASE WHEN id % 50 = 0 THEN pg_sleep(0.1) END FROM secrets WHERE id < 1000",
    );
    assert!(vault.gone_within(long_pid, Duration::from_millis(500)), "after its statement: {:?}", vault.held(long_pid));
    vault.cluster.log_is_clean();
}

#[test]
fn locking_everywhere_and_another_user_take_the_keys_out_of_memory() {
    if !cluster::is_root() {
        eprintln!("skipped: looking into a backend's memory needs root");
        return;
    }
    let vault = Vault::start("idle-lock", &[]);
    let soon = Duration::from_millis(1_000);
    let (_app, app) = vault.open_as("app", "1h");
    let (mut inside, inside_pid) = vault.open_as("app", "1h");
    let mut admin = vault.cluster.client();
    run(&mut admin, "BEGIN; SELECT sealvec.lock('vault', everywhere => true); ROLLBACK");
    thread::sleep(soon);
    assert_ne!(vault.held(app).0, 0, "a rolled-back lock locks nothing");
    run(&mut inside, "BEGIN; SELECT 1");
    run(&mut admin, "SELECT sealvec.lock('vault', everywhere => true)");
    assert!(vault.gone_within(app, soon), "an idle session: {:?}", vault.held(app));
    run(&mut inside, "COMMIT");
    assert!(vault.gone_within(inside_pid, soon), "when its block ends: {:?}", vault.held(inside_pid));

    // Another user on the same connection, who never calls sealvec.
    let pid: i32 = one(&mut admin, "SELECT pg_backend_pid()");
    for (change, back) in
        [("SET ROLE other", "RESET ROLE"), ("SET SESSION AUTHORIZATION other", "RESET SESSION AUTHORIZATION")]
    {
        vault.use_it(&mut admin);
        assert_ne!(vault.held(pid).0, 0, "open");
        run(&mut admin, change);
        assert_eq!(vault.held(pid), (0, 0), "{change}");
        run(&mut admin, back);
    }
    vault.cluster.log_is_clean();
}

#[test]
fn a_statement_that_meets_the_closing_of_a_ring_leaves_nothing_that_it_opened() {
    if !cluster::is_root() {
        eprintln!("skipped: looking into a backend's memory needs root");
        return;
    }
    let vault = Vault::start("idle-closing", &[]);
    let mut admin = vault.cluster.client();
    let ring: String = one(&mut admin, "SELECT uuid::text FROM sealvec.key_rings");
    let key = *Deriver::new(&vault.dek).subkey(Label::ColumnValue, &ring.parse().expect("a UUID"));
    let vectors = data::vectors().cut(5_000, DIMS);
    let front = |row: usize| -> [u8; 32] {
        let bytes: Vec<u8> = vectors.row(row)[..8].iter().flat_map(|value| value.to_le_bytes()).collect();
        bytes.try_into().expect("eight elements")
    };
    let (left, right) = (front(1), front(2));
    let (mut app, pid) = vault.open_as("app", "1h");
    let distance = "SELECT a.embedding <-> b.embedding FROM secrets a, secrets b WHERE a.id = 1 AND b.id = 2";
    run(&mut app, &format!("BEGIN; {distance}; {distance}; {distance}; SAVEPOINT before"));
    let held = || memory::count(pid, &[&key[..], &left[..], &right[..]]);
    let found = held();
    assert!(found.iter().all(|count| *count > 0), "the search finds what is there: {found:?}");
    run(&mut admin, "SELECT sealvec.lock('vault', everywhere => true)");
    thread::sleep(Duration::from_millis(1_000));
    for statement in [distance, "SELECT sealvec.open(embedding) FROM secrets WHERE id = 1"] {
        assert_eq!(error_of(&mut app, statement).code().code(), "55000");
        run(&mut app, "ROLLBACK TO before");
    }
    assert_eq!(held(), [0, 0, 0], "of the key and two values");
    run(&mut app, "ROLLBACK");
    vault.cluster.log_is_clean();
}

#[test]
fn a_session_of_a_standby_hears_that_the_primary_locked_the_ring() {
    if !cluster::is_root() {
        eprintln!("skipped: looking into a backend's memory needs root");
        return;
    }
    let vault = Vault::start("idle-standby", &[]);
    let standby = Standby::start(&vault.cluster);
    standby.catch_up();
    let (_idle, idle) = vault.open_in(standby.client(), "0");
    thread::sleep(Duration::from_millis(2_500));
    assert_ne!(vault.held(idle).0, 0, "nothing happened yet");
    run(&mut vault.cluster.client(), "SELECT sealvec.lock('vault', everywhere => true)");
    standby.catch_up();
    assert!(vault.gone_within(idle, Duration::from_millis(2_000)), "an idle session: {:?}", vault.held(idle));
    vault.cluster.log_is_clean();
}

/// Stops the process named by its argument when it is about to give its memory back, until a line comes in.
const AT_EXIT: &str = "
import ctypes, os, sys
pid = int(sys.argv[1])
ptrace = ctypes.CDLL(None, use_errno=True).ptrace
ptrace.argtypes = [ctypes.c_long] * 4
SEIZE, DETACH, CONT, TRACEEXIT = 0x4206, 17, 7, 0x40
if ptrace(SEIZE, pid, 0, TRACEEXIT):
    sys.exit(os.strerror(ctypes.get_errno()))
print('seized', flush=True)
while True:
    _, status = os.waitpid(pid, 0x40000000)
    if status >> 16 == 6:
        break
    ptrace(CONT, pid, 0, 0 if status >> 16 else os.WSTOPSIG(status))
print('exits', flush=True)
sys.stdin.readline()
ptrace(DETACH, pid, 0, 0)
";

#[test]
fn a_session_that_ends_leaves_no_key_in_the_memory_it_gives_back() {
    if !cluster::is_root() || Command::new("python3").arg("--version").output().is_err() {
        eprintln!("skipped: looking into a backend's memory at its end needs root and python3");
        return;
    }
    for settings in [&[][..], &["shared_preload_libraries=sealvec"]] {
        let vault = Vault::start("idle-exit", settings);
        let (client, pid) = vault.open_as("app", "1h");
        let mut watcher = Command::new("python3")
            .args(["-c", AT_EXIT, &pid.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 runs");
        let mut lines = BufReader::new(watcher.stdout.take().expect("piped")).lines();
        let mut line = || lines.next().expect("a line").expect("text");
        assert_eq!(line(), "seized");
        drop(client);
        assert_eq!(line(), "exits");
        let deks = vault.held(pid).0;
        drop(watcher.stdin.take());
        assert!(watcher.wait().expect("it ends").success());
        assert_eq!(deks, 0, "{settings:?}");
        vault.cluster.log_is_clean();
    }
}
