//! A key on its way to the server: sealed to a key pair that only the running server has, and bound to where it is used.
//!
//! A statement's text and parameters end in logs, plans and views. So a client does not show its key: it asks for the
//! server's public key once an hour, and shows `seal[public key](binding, key)` instead. Whoever reads that in a log can't
//! open it, and shown in another database, by another role, for another ring or index, or as another argument, it opens
//! nothing.
//!
//! ```text
//! sealed = magic 8 ‖ key id 16 ‖ enc 32 ‖ ciphertext ‖ tag 16
//! enc, ciphertext ‖ tag = HPKE.SealBase(public key, info, aad = "", secret)      (RFC 9180, section 6.1)
//! info = "sealvec v1 transport" ‖ key id 16 ‖ argument 1 ‖ database ‖ role ‖ name, each behind its length as u32
//! ```
//!
//! The suite is DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM (0x0020, 0x0001, 0x0002), all of it the crate
//! `hpke`'s; only the binding and the wire form are ours.
//!
//! **Not bound**: the moment. Within the life of the key pair, the same bytes open again where they are bound to, which
//! lets a client reuse them; a role that can read another session's statements and *is* the role they are bound to
//! can do the same, and could have anyway.
//!
//! The server's system identifier is not part of the binding. The key pair is made anew by each start of a server and
//! never leaves its memory, so it tells servers apart more finely: a primary and its standby share that identifier.

mod binding;
mod key;
#[cfg(test)]
mod known_answers;
mod sealed;

pub use binding::{Argument, Binding, NAME_LEN_MAX};
pub use key::{KeyId, PublicKey, TransportKey};
pub use sealed::{MAGIC, SECRET_LEN_MAX, SealedKey, TEXT_PREFIX};
