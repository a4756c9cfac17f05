//! Settings: `sealvec.*` in postgresql.conf, SET and ALTER ROLE.

use std::ffi::{CStr, CString};
use std::time::Duration;

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};
use pgrx::pg_sys;

static LOCAL_ROOT_KEY_FILE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static AGENT_SOCKET: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static AGENT_USER: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static KMS_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(5_000);
static KEY_TTL: GucSetting<i32> = GucSetting::<i32>::new(300);
static DISABLE_CORE_DUMPS: GucSetting<bool> = GucSetting::<bool>::new(true);
static ALLOW_PLAIN_KEY: GucSetting<bool> = GucSetting::<bool>::new(false);
static TRANSPORT_KEY_LIFE: GucSetting<i32> = GucSetting::<i32>::new(3600);
static AUDIT_OPENINGS: GucSetting<bool> = GucSetting::<bool>::new(false);
static FAILED_UNLOCK_DELAY_MAX: GucSetting<i32> = GucSetting::<i32>::new(4_000);
static PROBES: GucSetting<i32> = GucSetting::<i32>::new(0);
static TARGET_RECALL: GucSetting<f64> = GucSetting::<f64>::new(0.95);
static MAX_SCAN_TUPLES: GucSetting<i32> = GucSetting::<i32>::new(0);
static LIST_CACHE: GucSetting<i32> = GucSetting::<i32>::new(8 << 10);

/// Registers every setting; once per backend.
pub fn init() {
    let none = GucFlags::default();
    GucRegistry::define_string_guc(
        c"sealvec.local_root_key_file",
        c"File with the root key of the local key provider.",
        c"Must lie outside the data directory. Empty means .sealvec/root.key in the home directory of the server's operating-system user.",
        &LOCAL_ROOT_KEY_FILE,
        GucContext::Sighup,
        GucFlags::SUPERUSER_ONLY,
    );
    GucRegistry::define_string_guc(
        c"sealvec.agent_socket",
        c"Unix socket of the key agent, which asks key services.",
        c"An absolute path. Empty means none: only key rings of provider local, or whose key the client holds, can be opened.",
        &AGENT_SOCKET,
        GucContext::Sighup,
        none,
    );
    GucRegistry::define_string_guc(
        c"sealvec.agent_user",
        c"Operating-system user that the key agent runs as, by name or number.",
        c"The server's own user and root are trusted as well.",
        &AGENT_USER,
        GucContext::Sighup,
        none,
    );
    GucRegistry::define_int_guc(
        c"sealvec.kms_timeout",
        c"How long a session waits for a key service.",
        c"",
        &KMS_TIMEOUT,
        1,
        600_000,
        GucContext::Userset,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"sealvec.key_ttl",
        c"How long an unlocked key ring stays open in a session.",
        c"Counted from the unlock; a statement that runs when it ends may finish. 0 keeps it open until it is locked or the session ends.",
        &KEY_TTL,
        0,
        i32::MAX / 1000,
        GucContext::Userset,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_bool_guc(
        c"sealvec.disable_core_dumps",
        c"Forbids core dumps and debugger attachment of a backend that has opened a key.",
        c"",
        &DISABLE_CORE_DUMPS,
        GucContext::Suset,
        none,
    );
    GucRegistry::define_bool_guc(
        c"sealvec.allow_plain_key",
        c"Takes keys that are not sealed also over a network without TLS, and while statements are logged.",
        c"Off refuses them there; a key that is sealed to sealvec.transport_key() is always taken.",
        &ALLOW_PLAIN_KEY,
        GucContext::Suset,
        none,
    );
    GucRegistry::define_int_guc(
        c"sealvec.transport_key_life",
        c"How long clients are given the same key to seal to.",
        c"It opens for as long again afterwards, at most ten minutes.",
        &TRANSPORT_KEY_LIFE,
        1,
        86_400,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_bool_guc(
        c"sealvec.audit_openings",
        c"Also logs each opening of a key ring of provider local by a statement that needs it.",
        c"Once for each session that opens it, and again when its time was up. Calls of sealvec.unlock() are always logged.",
        &AUDIT_OPENINGS,
        GucContext::Suset,
        none,
    );
    GucRegistry::define_int_guc(
        c"sealvec.failed_unlock_delay_max",
        c"Longest time that a session waits after it has shown a wrong key.",
        c"The sixth in a row for the same role and key ring waits 250 ms, each after it twice as long. 0 lets none wait.",
        &FAILED_UNLOCK_DELAY_MAX,
        0,
        60_000,
        GucContext::Suset,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"sealvec.probes",
        c"Number of index lists that a search visits first.",
        c"0 chooses and widens by sealvec.target_recall.",
        &PROBES,
        0,
        1 << 20,
        GucContext::Userset,
        none,
    );
    GucRegistry::define_float_guc(
        c"sealvec.target_recall",
        c"Share of the true nearest neighbours that an index search should find.",
        c"Drives the number of lists visited when sealvec.probes is 0.",
        &TARGET_RECALL,
        0.5,
        1.0,
        GucContext::Userset,
        none,
    );
    GucRegistry::define_int_guc(
        c"sealvec.max_scan_tuples",
        c"Number of rows an index search may score before it stops widening.",
        c"0 sets no limit.",
        &MAX_SCAN_TUPLES,
        0,
        i32::MAX,
        GucContext::Userset,
        none,
    );
    GucRegistry::define_int_guc(
        c"sealvec.list_cache",
        c"Memory in which a session keeps lists of an index that it has opened.",
        c"For each index, until its key ring is closed. 0 keeps none.",
        &LIST_CACHE,
        0,
        i32::MAX / 1024,
        GucContext::Userset,
        GucFlags::UNIT_KB,
    );
}

/// `sealvec.local_root_key_file` as set; empty means the default path.
pub fn local_root_key_file() -> CString {
    LOCAL_ROOT_KEY_FILE.get().unwrap_or_default()
}

/// `sealvec.agent_socket`; empty means none.
pub fn agent_socket() -> CString {
    AGENT_SOCKET.get().unwrap_or_default()
}

/// `sealvec.agent_user`; empty means no other than the server's own user and root.
pub fn agent_user() -> CString {
    AGENT_USER.get().unwrap_or_default()
}

/// `sealvec.kms_timeout`.
pub fn kms_timeout() -> Duration {
    Duration::from_millis(u64::try_from(KMS_TIMEOUT.get()).expect("the GUC's lower bound is 1"))
}

/// `sealvec.key_ttl` in seconds; 0 sets no limit.
pub fn key_ttl_s() -> u32 {
    u32::try_from(KEY_TTL.get()).expect("the GUC's lower bound is 0")
}

/// `sealvec.disable_core_dumps`.
pub fn disable_core_dumps() -> bool {
    DISABLE_CORE_DUMPS.get()
}

/// `sealvec.allow_plain_key`.
pub fn allow_plain_key() -> bool {
    ALLOW_PLAIN_KEY.get()
}

/// `sealvec.transport_key_life` in seconds.
pub fn transport_key_life_s() -> u32 {
    u32::try_from(TRANSPORT_KEY_LIFE.get()).expect("the GUC's lower bound is 1")
}

/// `sealvec.audit_openings`.
pub fn audit_openings() -> bool {
    AUDIT_OPENINGS.get()
}

/// `sealvec.failed_unlock_delay_max` in milliseconds.
pub fn failed_unlock_delay_max_ms() -> u32 {
    u32::try_from(FAILED_UNLOCK_DELAY_MAX.get()).expect("the GUC's lower bound is 0")
}

/// `sealvec.probes`; 0 is adaptive.
pub fn probes() -> u32 {
    u32::try_from(PROBES.get()).expect("the GUC's lower bound is 0")
}

/// `sealvec.target_recall`, 0.5 to 1.
pub fn target_recall() -> f64 {
    TARGET_RECALL.get()
}

/// `sealvec.max_scan_tuples`; 0 sets no limit.
pub fn max_scan_tuples() -> u32 {
    u32::try_from(MAX_SCAN_TUPLES.get()).expect("the GUC's lower bound is 0")
}

/// `sealvec.list_cache` in bytes.
pub fn list_cache() -> usize {
    usize::try_from(LIST_CACHE.get()).expect("the GUC's lower bound is 0") << 10
}

/// Refuses settings under our prefix that nobody registered; called when all modules have registered theirs.
pub fn reserve_prefix() {
    const PREFIX: &CStr = c"sealvec";
    // SAFETY: takes a C string that lives for the program; only emits warnings and removes placeholders.
    unsafe { pg_sys::MarkGUCPrefixReserved(PREFIX.as_ptr()) }
}
