//! KEKs, DEKs, envelopes and key rings: who wraps what, and what is checked before a key is used.
//!
//! ```text
//! provider ──wraps──> KEK ──HKDF──> wrap key ──wraps──> DEK (versioned) ──HKDF──> subkeys
//!   (or the client holds the KEK)          └────wraps──> id key (belongs to the ring)
//! user's token ────> user KEK ──HKDF──> user wrap key ──wraps──> copies of both, per permission
//! user's X25519 key ──HPKE──> user KEK, drawn for each wrap
//! ```

pub mod dek;
pub mod envelope;
pub mod index;
pub mod provider;
pub mod ring;
pub mod user;
pub mod user_token;
pub mod user_wrap;
pub mod uuid;
pub mod voucher;

pub use dek::{Dek, DekBytes, IdKey, Kek};
pub use envelope::Envelope;
pub use index::IndexKeys;
pub use provider::{KekProvider, KeyContext, Purpose};
pub use ring::{KekSource, OpenRing, RingRecord};
pub use user::{OpenUser, Permission, Permissions, UserId, UserRecord};
pub use user_token::{ServerKey, UserToken};
pub use user_wrap::{UserPublicKey, UserWrap};
pub use uuid::Uuid;
pub use voucher::Voucher;
