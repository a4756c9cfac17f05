//! One error for the crate, its variants sorted by who is at fault.

/// Result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong. No variant carries key bytes, vector elements or user text.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum Error {
    // ---- the caller's fault -------------------------------------------------------------
    /// Two vectors, or a vector and its column, differ in length.
    #[error("expected {expected} dimensions, not {found}")]
    Dimensions {
        /// What the column, index or other vector has.
        expected: usize,
        /// What came.
        found: usize,
    },
    /// An element is NaN or infinite.
    #[error("{0} not allowed in a sealed vector")]
    NotFinite(&'static str),
    /// No dimensions, or more than [`crate::format::MAX_DIMS`].
    #[error("a vector has 1 to 16000 dimensions, not {0}")]
    DimensionsOutOfRange(usize),
    /// Something is longer than its format allows.
    #[error("{what} may have {max} bytes, not {found}")]
    TooLong {
        /// What was given.
        what: &'static str,
        /// The most it may have.
        max: usize,
        /// What it has.
        found: usize,
    },

    // ---- keys ---------------------------------------------------------------------------
    /// A key is not 32 bytes long.
    #[error("expected a key of 32 bytes, not {0}")]
    KeyLength(usize),
    /// The key does not fit: its commitment differs or a wrapped key would not unwrap. Never says which.
    #[error("the key does not open this key ring")]
    WrongKey,
    /// The ring has no DEK of this version.
    #[error("the key ring has no data key of version {0}")]
    UnknownDekVersion(u32),
    /// The key is a user's, and right, but was not made for this.
    #[error("permission denied")]
    PermissionDenied,
    /// A user's key is right, but it was made before the ring got this version of its DEK.
    #[error("this user has no key for version {0} of the data key")]
    NotShared(u32),
    /// A sealed key was made for another server key, database, role, name or argument, or was altered. Never says which.
    #[error("the sealed key does not open here")]
    SealedElsewhere,
    /// A new user's key is the ring's own, which opens all that there is.
    #[error("a user needs a key of his own, not that of the key ring")]
    NotHisOwn,

    // ---- data ---------------------------------------------------------------------------
    /// A tag failed. Deliberately without detail.
    #[error("could not open")]
    Open,
    /// Bytes that no version of this format writes.
    #[error("malformed {what}")]
    Malformed {
        /// What was being decoded.
        what: &'static str,
    },
    /// An authentication code does not fit: part of it was removed, exchanged or brought back.
    #[error("{what} is not as it was written")]
    Altered {
        /// What was being opened.
        what: &'static str,
    },
    /// A format version that this build does not know.
    #[error("{what} has format version {found}, this build reads up to {known}")]
    Version {
        /// What was being decoded.
        what: &'static str,
        /// The version found.
        found: u16,
        /// The newest version known.
        known: u16,
    },
    /// An index page is not what the protocol says it must be; `XX002` in Postgres.
    #[error("index corrupted in block {block}: {what}")]
    Corrupt {
        /// The block at fault.
        block: u32,
        /// What is wrong with it.
        what: &'static str,
    },

    // ---- provider -----------------------------------------------------------------------
    /// A key provider failed; the text names the provider and no secret.
    #[error("{0}")]
    Provider(String),
    /// The page store failed or the caller cancelled; the store keeps the details.
    #[error("the page store gave up")]
    Store,

    // ---- our bug ------------------------------------------------------------------------
    /// A state that this crate promises can't happen.
    #[error("internal error: {0}")]
    Bug(&'static str),
}
