//! When a key that comes unsealed is refused: on a connection that others can listen to, and while the server logs what
//! it was sent.
//!
//! A literal stands in the log of statements, in `pg_stat_activity` and in plans; a bound parameter in the log, unless its
//! type masks it. What a client does with a key can't be seen from here, so all plain keys are refused alike.

use std::borrow::Cow;
use std::ffi::CStr;

use pgrx::PgSqlErrorCode::*;
use pgrx::pg_sys;

use crate::error::SqlError;
use crate::guc;

const HOW: &str = "Seal it to this server: \"sealvec-sidecar seal\" or the Python client do it, README, \"A key in no log\". A superuser can allow plain keys: sealvec.allow_plain_key.";

/// Whether a plain key may be taken.
///
/// # Errors
/// 55000, which says what the matter is.
pub fn check_plain() -> Result<(), SqlError> {
    if prints_trees() {
        return Err(SqlError::new(
            ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "no key is taken while the server logs the trees of statements",
        )
        .detail("debug_print_plan, debug_print_parse or debug_print_rewritten is on. They print keys as they are: this one may stand in the log already.")
        .hint("Switch them off, look for the key in the server's log, and change it if it is there: sealvec.rotate_kek()."));
    }
    if guc::allow_plain_key() {
        return Ok(());
    }
    if let Some(setting) = logs_statements() {
        return Err(SqlError::new(
            ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "no plain key is taken while the server logs statements",
        )
        .detail(format!("{setting} has them logged; this one may stand in the log already."))
        .hint(HOW));
    }
    if is_overheard() {
        return Err(SqlError::new(
            ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "no plain key is taken over a network connection without TLS",
        )
        .hint(HOW));
    }
    Ok(())
}

/// Whether a secret may be told to the client.
///
/// # Errors
/// 55000 on a connection that others can listen to.
pub fn check_telling() -> Result<(), SqlError> {
    if guc::allow_plain_key() || !is_overheard() {
        return Ok(());
    }
    Err(SqlError::new(
        ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        "no token is given out over a network connection without TLS",
    )
    .hint("Connect with TLS or over the Unix socket. Or let the user have a key that is not told: a public key (grant_user), or one that is shown sealed, as user_key (create_user). A superuser can allow it: sealvec.allow_plain_key."))
}

/// A constant is printed byte by byte there, whatever its type's output says. A custom plan makes a constant of a bound
/// parameter and was printed before this runs, so what is spared is the second time.
fn prints_trees() -> bool {
    // SAFETY: settings of this backend, which reads and writes them in one thread.
    unsafe { pg_sys::Debug_print_plan || pg_sys::Debug_print_parse || pg_sys::Debug_print_rewritten }
}

/// A setting by which this statement is, or may be, in the log.
fn logs_statements() -> Option<Cow<'static, str>> {
    // SAFETY: settings of this backend, which reads and writes them in one thread.
    let (statement, duration, sample, sample_rate, transaction_rate) = unsafe {
        (
            pg_sys::log_statement,
            pg_sys::log_min_duration_statement,
            pg_sys::log_min_duration_sample,
            pg_sys::log_statement_sample_rate,
            pg_sys::log_xact_sample_rate,
        )
    };
    let own = [
        ("log_statement", statement != 0), // LOGSTMT_NONE
        ("log_min_duration_statement", duration >= 0),
        ("log_min_duration_sample", sample >= 0 && sample_rate > 0.0),
        ("log_transaction_sample_rate", transaction_rate > 0.0),
        ("auto_explain.log_min_duration", of_module(EXPLAINS, |value| !value.starts_with(b"-"))),
        ("pgaudit.log", of_module(AUDITS, |value| !value.is_empty() && !value.eq_ignore_ascii_case(b"none"))),
        ("pgaudit.role", of_module(AUDITS_AS, |value| !value.is_empty())),
    ];
    own.into_iter().find(|(_, logs)| *logs).map(|(name, _)| name.into())
}

const EXPLAINS: &CStr = c"auto_explain.log_min_duration";
const AUDITS: &CStr = c"pgaudit.log";
const AUDITS_AS: &CStr = c"pgaudit.role";

/// Whether the setting's module is loaded and its value says that it logs.
fn of_module(name: &CStr, logs: impl FnOnce(&[u8]) -> bool) -> bool {
    // SAFETY: look-ups by name that give no error for one that is unknown; the text lives until the next look-up.
    unsafe {
        let value = pg_sys::GetConfigOption(name.as_ptr(), true, false);
        // A setting in a file makes a placeholder where the library is not loaded.
        !value.is_null()
            && pg_sys::GetConfigOptionFlags(name.as_ptr(), true) & pg_sys::GUC_CUSTOM_PLACEHOLDER as i32 == 0
            && logs(CStr::from_ptr(value).to_bytes())
    }
}

/// Whether the client came over TCP with neither TLS nor Kerberos encryption. Loopback is no exception: a tunnel ends there,
/// and any process with the right to capture packets reads it.
fn is_overheard() -> bool {
    // SAFETY: this backend's own entry, written before it took its first statement and never changed since; null in a
    // process without one. The status of Kerberos is there where the entry says so.
    unsafe {
        let Some(entry) = pg_sys::MyBEEntry.as_ref() else { return false };
        let family = i32::from(entry.st_clientaddr.addr.ss_family);
        let sealed_by_kerberos = entry.st_gss && entry.st_gssstatus.as_ref().is_some_and(|status| status.gss_enc);
        matches!(family, libc::AF_INET | libc::AF_INET6) && !entry.st_ssl && !sealed_by_kerberos
    }
}
