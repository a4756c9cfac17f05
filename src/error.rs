//! Every error that sealvec raises in Postgres: SQLSTATE, message, detail, hint.
//!
//! Inside the crate errors are values; a callback or SQL function turns them into `ereport` once, at its edge,
//! with [`SqlError::raise`] or [`OrRaise::or_raise`]. No text here may hold a key, a vector element or
//! what the user typed, except names of objects that the user named.

use std::borrow::Cow;
use std::ffi::{c_int, c_void};
use std::ptr;

use pgrx::PgSqlErrorCode::{self, *};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use sealvec_core::Error;
use sealvec_core::filter::FilterError;
use sealvec_kms::RootKeyError;

/// An error on its way to the client.
#[derive(Debug)]
pub struct SqlError {
    /// The five-character code clients test.
    pub sqlstate: PgSqlErrorCode,
    /// What was expected and what came, in one line.
    pub message: Cow<'static, str>,
    /// More about the state that led here.
    pub detail: Option<Cow<'static, str>>,
    /// What to do about it.
    pub hint: Option<Cow<'static, str>>,
    /// A code of our own instead of `sqlstate`.
    pub own: Option<OwnState>,
}

impl SqlError {
    /// An error with neither detail nor hint.
    pub fn new(sqlstate: PgSqlErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { sqlstate, message: message.into(), detail: None, hint: None, own: None }
    }

    /// The same error with a detail line.
    pub fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// The same error with a hint line.
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same error under a code of our own; `sqlstate` is what comes nearest to it among Postgres's.
    pub fn state(mut self, own: OwnState) -> Self {
        self.own = Some(own);
        self
    }

    /// Reports the error to Postgres; the current statement ends here.
    ///
    /// Travels as a panic up to the nearest `#[pg_guard]`, so every value on the way is dropped.
    pub fn raise(self) -> ! {
        let mut report = ErrorReport::new(self.sqlstate, self.message, "sealvec");
        if let Some(detail) = self.detail {
            report = report.set_detail(detail);
        }
        if let Some(hint) = self.hint {
            report = report.set_hint(hint);
        }
        if let Some(own) = self.own {
            own.replace_at_report();
        }
        report.report(PgLogLevel::ERROR);
        unreachable!("ereport(ERROR) does not return")
    }
}

/// Codes of our own: clients do something about these. Class SV is nobody else's (classes from I on are free to
/// implementations).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnState {
    /// SV001: sealed to a transport key that is gone. Ask for the new one, seal again, retry once.
    StaleTransportKey,
}

impl OwnState {
    fn code(self) -> [u8; 5] {
        match self {
            Self::StaleTransportKey => *b"SV001",
        }
    }

    /// pgrx knows Postgres's own codes alone, and no other passes through its report. Postgres asks the callbacks of
    /// its stack of contexts while it completes an error; ours sets the code there. Whoever catches the error puts the
    /// stack back to what it was.
    fn replace_at_report(self) {
        unsafe extern "C-unwind" {
            fn errcode(code: c_int) -> c_int;
        }
        unsafe extern "C-unwind" fn set(code: *mut c_void) {
            // SAFETY: called by Postgres while it completes an error, which is when the code may be set.
            unsafe { errcode(code.addr() as c_int) };
        }
        // MAKE_SQLSTATE: six bits a character.
        let code = self.code().iter().rev().fold(0, |code, byte| code << 6 | usize::from((byte - b'0') & 0x3f));
        static mut CALLBACK: pg_sys::ErrorContextCallback =
            pg_sys::ErrorContextCallback { previous: ptr::null_mut(), callback: None, arg: ptr::null_mut() };
        // SAFETY: a backend has one thread, and this is out of the stack before the next error is raised.
        unsafe {
            CALLBACK = pg_sys::ErrorContextCallback {
                previous: pg_sys::error_context_stack,
                callback: Some(set),
                arg: ptr::without_provenance_mut(code),
            };
            pg_sys::error_context_stack = &raw mut CALLBACK;
        }
    }
}

/// `result.or_raise()` at the edge of a callback.
pub trait OrRaise<T> {
    /// The value, or the end of the statement.
    fn or_raise(self) -> T;
}

impl<T, E: Into<SqlError>> OrRaise<T> for Result<T, E> {
    fn or_raise(self) -> T {
        self.unwrap_or_else(|error| error.into().raise())
    }
}

/// The table: one row for each way `core` can fail.
impl From<Error> for SqlError {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            // ---- the caller's fault: data exceptions, as pgvector's ------------------------------
            Error::Dimensions { .. } | Error::NotFinite(_) => Self::new(ERRCODE_DATA_EXCEPTION, message),
            Error::DimensionsOutOfRange(0) => {
                Self::new(ERRCODE_DATA_EXCEPTION, "a sealed vector must have at least 1 dimension")
            }
            Error::DimensionsOutOfRange(_) | Error::TooLong { .. } => {
                Self::new(ERRCODE_PROGRAM_LIMIT_EXCEEDED, message)
            }
            // ---- keys -----------------------------------------------------------------------
            Error::KeyLength(_) => Self::new(ERRCODE_INVALID_PARAMETER_VALUE, message)
                .hint("Bind the 32 raw bytes as sealvec.kek, or leave the parameter's type open: a bytea may stand in logs. 64 hex digits are another text: decode them first."),
            // As a wrong password: what was shown does not open, and no more is said.
            Error::WrongKey => Self::new(ERRCODE_INVALID_PASSWORD, message),
            Error::SealedElsewhere => Self::new(ERRCODE_INVALID_PASSWORD, message),
            Error::UnknownDekVersion(_) => Self::new(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, message)
                .hint("The data is newer than this key ring: import a newer export with sealvec.import_ring()."),
            Error::PermissionDenied => Self::new(ERRCODE_INSUFFICIENT_PRIVILEGE, message)
                .detail("The user's key is right, but it was made without this permission."),
            Error::NotShared(_) => Self::new(ERRCODE_INSUFFICIENT_PRIVILEGE, message)
                .detail("The key ring got a new data key after this user was made.")
                .hint("Make the user anew: what was sealed before stays readable with the old key."),
            Error::NotHisOwn => Self::new(ERRCODE_INVALID_PARAMETER_VALUE, message)
                .hint("Leave user_key out to have one made, or pass 32 other random bytes."),
            // ---- data -----------------------------------------------------------------------
            // A failed tag: the bytes are not those that were sealed. Why is not for the client.
            Error::Open => Self::new(ERRCODE_DATA_CORRUPTED, "could not open sealed value"),
            Error::Malformed { .. } => Self::new(ERRCODE_INVALID_BINARY_REPRESENTATION, message),
            Error::Altered { .. } => Self::new(ERRCODE_DATA_CORRUPTED, message)
                .detail("Its authentication code does not fit: part of it was removed, exchanged or brought back.")
                .hint("Bring it back from a backup or an export that is not altered."),
            Error::Version { .. } => Self::new(ERRCODE_FEATURE_NOT_SUPPORTED, message)
                .hint("It was written by a newer sealvec: upgrade the extension, or REINDEX if it is an index."),
            Error::Corrupt { .. } => Self::new(ERRCODE_INDEX_CORRUPTED, message)
                .hint("Run sealvec.verify_index() for the extent of the damage; REINDEX builds the index anew from the table."),
            // ---- provider, store ------------------------------------------------------------
            Error::Provider(_) => Self::new(ERRCODE_SYSTEM_ERROR, message),
            Error::Store => Self::new(ERRCODE_INTERNAL_ERROR, message),
            // ---- our bug --------------------------------------------------------------------
            _ => Self::new(ERRCODE_INTERNAL_ERROR, message).hint("This is a bug in sealvec; please report it."),
        }
    }
}

/// A filter or an order that is none. Without the words of the caller, which a log would keep.
impl From<FilterError> for SqlError {
    fn from(error: FilterError) -> Self {
        let sqlstate = match error {
            FilterError::Limit(_) => ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            _ => ERRCODE_INVALID_PARAMETER_VALUE,
        };
        Self::new(sqlstate, error.to_string())
    }
}

/// What is wrong with the root-key file of the `local` provider.
impl From<RootKeyError> for SqlError {
    fn from(error: RootKeyError) -> Self {
        let sqlstate = match error {
            RootKeyError::Missing(_) => ERRCODE_UNDEFINED_FILE,
            RootKeyError::Exists(_) => ERRCODE_DUPLICATE_FILE,
            RootKeyError::Io { .. } => ERRCODE_IO_ERROR,
            RootKeyError::Random(_) => ERRCODE_SYSTEM_ERROR,
            _ => ERRCODE_CONFIG_FILE_ERROR,
        };
        Self::new(sqlstate, error.to_string()).hint(error.hint())
    }
}
