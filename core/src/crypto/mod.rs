//! Sealing: AES-256-GCM, its extended-nonce form, the key derivation and what each ciphertext is bound to.
//!
//! Primitives are aws-lc's; only their composition is ours. Reading order: [`kdf`] (the label table),
//! [`aad`] (what is bound), [`nonce`] (why none repeats), [`aead`] and [`xaes`] (seal and open),
//! [`commit`] (why a second key can't open what the first one sealed).

pub mod aad;
pub mod aead;
pub mod commit;
pub mod digest;
pub mod hpke;
pub mod kdf;
#[cfg(test)]
mod known_answers;
pub mod mac;
pub mod nonce;
pub mod place;
pub mod stretch;
pub mod xaes;

pub use aad::{
    Aad, AadBytes, ChunkAad, DirectoryAad, ItemAad, MetaAad, RecordAad, TransitAad, UserWrapAad, ValueAad, WrapAad,
};
pub use aead::{AeadKey, OVERHEAD, Sealed};
pub use place::KeyPlace;
pub use xaes::{OVERHEAD24, Sealed24, XaesKey};

/// Bytes of every key here: KEK, DEK, subkey.
pub const KEY_LEN: usize = 32;
/// Bytes of the GCM tag. Never truncated.
pub const TAG_LEN: usize = 16;
