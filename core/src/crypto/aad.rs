//! What each ciphertext is bound to: one struct per kind of sealed thing.
//!
//! | offset | size | meaning |
//! |---|---|---|
//! | 0 | 1 | format version, 1 |
//! | 1 | 1 | algorithm: 1 AES-256-GCM, 2 XAES-256-GCM |
//! | 2 | 1 | kind |
//! | 3 | 1 | zero |
//! | 4 | 16 | index UUID or ring UUID |
//! | 20 | 4 | DEK version |
//! | 24 |  | the fields of the kind, integers little-endian |
//!
//! A kind has one length and its own number, so no two structs encode alike. No OID, relfilenode or
//! database id: tablespace moves, template copies and REINDEX CONCURRENTLY change those. No LSN, checksum
//! or hint bit: they change without us.

use crate::keys::Uuid;

const VERSION: u8 = 1;

/// What a key can seal with; the second byte of every AAD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Algorithm {
    /// 96-bit random nonce.
    Aes256Gcm = 1,
    /// 192-bit random nonce (C2SP).
    Xaes256Gcm = 2,
}

mod private {
    /// Keeps [`super::Aad`] closed: a new kind is a change of format and belongs in this file.
    pub trait Kind {
        const KIND: u8;
        const ALGORITHM: super::Algorithm;
    }
}
pub(crate) use private::Kind;

/// Something that a ciphertext can be bound to. Only the structs of this module are.
pub trait Aad: Kind {
    /// The bytes that go to the cipher.
    fn encode(&self) -> AadBytes;
}

/// Encoded AAD on the stack: at most 64 bytes.
#[derive(Clone, Copy)]
pub struct AadBytes {
    bytes: [u8; 64],
    len: usize,
}

impl AadBytes {
    fn new<K: Kind>(id: Uuid, dek_version: u32) -> Self {
        let mut aad = Self { bytes: [0; 64], len: 0 };
        aad.put(&[VERSION, K::ALGORITHM as u8, K::KIND, 0]);
        aad.put(id.as_bytes());
        aad.put(&dek_version.to_le_bytes());
        aad
    }

    fn put(&mut self, field: &[u8]) {
        self.bytes[self.len..][..field.len()].copy_from_slice(field);
        self.len += field.len();
    }

    fn with(mut self, field: &[u8]) -> Self {
        self.put(field);
        self
    }
}

impl AsRef<[u8]> for AadBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// A chunk of a list (kind 1, 48 bytes): it can't move to another list, place, block or moment.
#[derive(Clone, Copy, Debug)]
pub struct ChunkAad {
    /// UUID of this build of the index.
    pub index: Uuid,
    /// Version of the DEK.
    pub dek_version: u32,
    /// Uid of the list.
    pub list: u64,
    /// Epoch in which the list was written.
    pub epoch: u64,
    /// Place of the chunk in its list.
    pub ordinal: u32,
    /// Block that holds it.
    pub block: u32,
}

impl Kind for ChunkAad {
    const KIND: u8 = 1;
    const ALGORITHM: Algorithm = Algorithm::Aes256Gcm;
}

impl Aad for ChunkAad {
    fn encode(&self) -> AadBytes {
        AadBytes::new::<Self>(self.index, self.dek_version)
            .with(&self.list.to_le_bytes())
            .with(&self.epoch.to_le_bytes())
            .with(&self.ordinal.to_le_bytes())
            .with(&self.block.to_le_bytes())
    }
}

/// A chunk of the directory (kind 2, 40 bytes).
#[derive(Clone, Copy, Debug)]
pub struct DirectoryAad {
    /// UUID of this build of the index.
    pub index: Uuid,
    /// Version of the DEK.
    pub dek_version: u32,
    /// Epoch of the directory.
    pub epoch: u64,
    /// Place of the chunk in the directory.
    pub ordinal: u32,
    /// Block that holds it.
    pub block: u32,
}

impl Kind for DirectoryAad {
    const KIND: u8 = 2;
    const ALGORITHM: Algorithm = Algorithm::Aes256Gcm;
}

impl Aad for DirectoryAad {
    fn encode(&self) -> AadBytes {
        AadBytes::new::<Self>(self.index, self.dek_version)
            .with(&self.epoch.to_le_bytes())
            .with(&self.ordinal.to_le_bytes())
            .with(&self.block.to_le_bytes())
    }
}

/// A vector record (kind 3, 40 bytes). It names slot and TID but no block, because VACUUM moves records without a key.
#[derive(Clone, Copy, Debug)]
pub struct RecordAad {
    /// UUID of this build of the index.
    pub index: Uuid,
    /// Version of the DEK.
    pub dek_version: u32,
    /// Slot of the row; never reused.
    pub slot: u64,
    /// Heap TID as Postgres stores it.
    pub tid: [u8; 6],
    /// Which part, where a vector spans pages.
    pub part: u16,
}

impl Kind for RecordAad {
    const KIND: u8 = 3;
    const ALGORITHM: Algorithm = Algorithm::Aes256Gcm;
}

impl Aad for RecordAad {
    fn encode(&self) -> AadBytes {
        AadBytes::new::<Self>(self.index, self.dek_version)
            .with(&self.slot.to_le_bytes())
            .with(&self.tid)
            .with(&self.part.to_le_bytes())
    }
}

/// The sealed part of the meta page (kind 4, 32 bytes), bound to the clear part that decides how to read it.
#[derive(Clone, Copy, Debug)]
pub struct MetaAad {
    /// UUID of this build of the index.
    pub index: Uuid,
    /// Version of the DEK.
    pub dek_version: u32,
    /// Number of the ring.
    pub ring: u32,
    /// Dimensions of the index.
    pub dims: u16,
    /// Its metric's number.
    pub metric: u8,
    /// Its precision's number.
    pub precision: u8,
}

impl Kind for MetaAad {
    const KIND: u8 = 4;
    const ALGORITHM: Algorithm = Algorithm::Aes256Gcm;
}

impl Aad for MetaAad {
    fn encode(&self) -> AadBytes {
        AadBytes::new::<Self>(self.index, self.dek_version)
            .with(&self.ring.to_le_bytes())
            .with(&self.dims.to_le_bytes())
            .with(&[self.metric, self.precision])
    }
}

/// A value of the type (kind 5, 26 bytes). A session's values name the session's UUID and version 0.
///
/// No row and no column: a type's input function sees neither, so values can be swapped within a ring (THREAT_MODEL).
#[derive(Clone, Copy, Debug)]
pub struct ValueAad {
    /// UUID of the ring, or of the session.
    pub ring: Uuid,
    /// Version of the DEK, 0 in a session.
    pub dek_version: u32,
    /// Dimensions of the value.
    pub dims: u16,
}

impl Kind for ValueAad {
    const KIND: u8 = 5;
    const ALGORITHM: Algorithm = Algorithm::Xaes256Gcm;
}

impl Aad for ValueAad {
    fn encode(&self) -> AadBytes {
        AadBytes::new::<Self>(self.ring, self.dek_version).with(&self.dims.to_le_bytes())
    }
}

/// A wrapped key (kind 6, 25 bytes): a DEK or id key under its KEK, or a KEK under the local root key.
#[derive(Clone, Copy, Debug)]
pub struct WrapAad {
    /// UUID of the ring.
    pub ring: Uuid,
    /// Version of the DEK; 0 for other keys.
    pub dek_version: u32,
    /// Number of the [`Purpose`](crate::keys::Purpose).
    pub purpose: u8,
}

impl Kind for WrapAad {
    const KIND: u8 = 6;
    const ALGORITHM: Algorithm = Algorithm::Aes256Gcm;
}

impl Aad for WrapAad {
    fn encode(&self) -> AadBytes {
        AadBytes::new::<Self>(self.ring, self.dek_version).with(&[self.purpose])
    }
}

/// An item of a collection (kind 7, 56 bytes): it can't stand under another id's token.
#[derive(Clone, Copy, Debug)]
pub struct ItemAad {
    /// UUID of the ring.
    pub ring: Uuid,
    /// Version of the DEK.
    pub dek_version: u32,
    /// Token of the id, the row's primary key.
    pub token: [u8; 32],
}

impl Kind for ItemAad {
    const KIND: u8 = 7;
    const ALGORITHM: Algorithm = Algorithm::Xaes256Gcm;
}

impl Aad for ItemAad {
    fn encode(&self) -> AadBytes {
        AadBytes::new::<Self>(self.ring, self.dek_version).with(&self.token)
    }
}

/// Vectors on their way to a function, under the session's key (kind 9, 24 bytes): never written anywhere.
#[derive(Clone, Copy, Debug)]
pub struct TransitAad {
    /// UUID of the session.
    pub session: Uuid,
}

impl Kind for TransitAad {
    const KIND: u8 = 9;
    const ALGORITHM: Algorithm = Algorithm::Xaes256Gcm;
}

impl Aad for TransitAad {
    fn encode(&self) -> AadBytes {
        AadBytes::new::<Self>(self.session, 0)
    }
}

/// A DEK or id key under a user's KEK (kind 8, 42 bytes): it can't move to another user, permission or version.
#[derive(Clone, Copy, Debug)]
pub struct UserWrapAad {
    /// UUID of the ring.
    pub ring: Uuid,
    /// Version of the DEK; 0 for the id key.
    pub dek_version: u32,
    /// Id of the user.
    pub user: [u8; 16],
    /// Number of the [`Permission`](crate::keys::Permission).
    pub permission: u8,
    /// Number of the [`Purpose`](crate::keys::Purpose).
    pub purpose: u8,
}

impl Kind for UserWrapAad {
    const KIND: u8 = 8;
    const ALGORITHM: Algorithm = Algorithm::Aes256Gcm;
}

impl Aad for UserWrapAad {
    fn encode(&self) -> AadBytes {
        AadBytes::new::<Self>(self.ring, self.dek_version).with(&self.user).with(&[self.permission, self.purpose])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const ID: Uuid = Uuid::from_bytes([0xa5; 16]);
    const OTHER: Uuid = Uuid::from_bytes([0xa6; 16]);

    const CHUNK: ChunkAad = ChunkAad { index: ID, dek_version: 1, list: 2, epoch: 3, ordinal: 4, block: 5 };
    const DIRECTORY: DirectoryAad = DirectoryAad { index: ID, dek_version: 1, epoch: 3, ordinal: 4, block: 5 };
    const RECORD: RecordAad = RecordAad { index: ID, dek_version: 1, slot: 2, tid: [1, 2, 3, 4, 5, 6], part: 0 };
    const META: MetaAad = MetaAad { index: ID, dek_version: 1, ring: 2, dims: 384, metric: 1, precision: 1 };
    const VALUE: ValueAad = ValueAad { ring: ID, dek_version: 1, dims: 384 };
    const WRAP: WrapAad = WrapAad { ring: ID, dek_version: 1, purpose: 2 };
    const ITEM: ItemAad = ItemAad { ring: ID, dek_version: 1, token: [7; 32] };
    const USER: UserWrapAad = UserWrapAad { ring: ID, dek_version: 1, user: [7; 16], permission: 1, purpose: 2 };

    fn bytes(aad: &impl Aad) -> Vec<u8> {
        aad.encode().as_ref().to_vec()
    }

    /// Every variant must encode differently from every other.
    fn check(variants: Vec<Vec<u8>>) {
        assert_eq!(variants.iter().collect::<HashSet<_>>().len(), variants.len());
        assert!(variants.iter().all(|variant| variant.len() == variants[0].len()), "a kind has one length");
    }

    #[test]
    fn each_field_changes_the_bytes() {
        check(vec![
            bytes(&CHUNK),
            bytes(&ChunkAad { index: OTHER, ..CHUNK }),
            bytes(&ChunkAad { dek_version: 9, ..CHUNK }),
            bytes(&ChunkAad { list: 9, ..CHUNK }),
            bytes(&ChunkAad { epoch: 9, ..CHUNK }),
            bytes(&ChunkAad { ordinal: 9, ..CHUNK }),
            bytes(&ChunkAad { block: 9, ..CHUNK }),
        ]);
        check(vec![
            bytes(&DIRECTORY),
            bytes(&DirectoryAad { index: OTHER, ..DIRECTORY }),
            bytes(&DirectoryAad { dek_version: 9, ..DIRECTORY }),
            bytes(&DirectoryAad { epoch: 9, ..DIRECTORY }),
            bytes(&DirectoryAad { ordinal: 9, ..DIRECTORY }),
            bytes(&DirectoryAad { block: 9, ..DIRECTORY }),
        ]);
        check(vec![
            bytes(&RECORD),
            bytes(&RecordAad { index: OTHER, ..RECORD }),
            bytes(&RecordAad { dek_version: 9, ..RECORD }),
            bytes(&RecordAad { slot: 9, ..RECORD }),
            bytes(&RecordAad { tid: [1, 2, 3, 4, 5, 7], ..RECORD }),
            bytes(&RecordAad { part: 9, ..RECORD }),
        ]);
        check(vec![
            bytes(&META),
            bytes(&MetaAad { index: OTHER, ..META }),
            bytes(&MetaAad { dek_version: 9, ..META }),
            bytes(&MetaAad { ring: 9, ..META }),
            bytes(&MetaAad { dims: 9, ..META }),
            bytes(&MetaAad { metric: 9, ..META }),
            bytes(&MetaAad { precision: 9, ..META }),
        ]);
        check(vec![
            bytes(&VALUE),
            bytes(&ValueAad { ring: OTHER, ..VALUE }),
            bytes(&ValueAad { dek_version: 9, ..VALUE }),
            bytes(&ValueAad { dims: 9, ..VALUE }),
        ]);
        check(vec![
            bytes(&WRAP),
            bytes(&WrapAad { ring: OTHER, ..WRAP }),
            bytes(&WrapAad { dek_version: 9, ..WRAP }),
            bytes(&WrapAad { purpose: 9, ..WRAP }),
        ]);
        check(vec![
            bytes(&ITEM),
            bytes(&ItemAad { ring: OTHER, ..ITEM }),
            bytes(&ItemAad { dek_version: 9, ..ITEM }),
            bytes(&ItemAad { token: [8; 32], ..ITEM }),
        ]);
        check(vec![
            bytes(&USER),
            bytes(&UserWrapAad { ring: OTHER, ..USER }),
            bytes(&UserWrapAad { dek_version: 9, ..USER }),
            bytes(&UserWrapAad { user: [8; 16], ..USER }),
            bytes(&UserWrapAad { permission: 9, ..USER }),
            bytes(&UserWrapAad { purpose: 9, ..USER }),
        ]);
    }

    #[test]
    fn no_two_kinds_encode_alike() {
        let all = [
            bytes(&CHUNK),
            bytes(&DIRECTORY),
            bytes(&RECORD),
            bytes(&META),
            bytes(&VALUE),
            bytes(&WRAP),
            bytes(&ITEM),
            bytes(&USER),
        ];
        let prefixes = all.map(|encoded| encoded[..4].to_vec());
        // The third byte is the kind whatever the fields are, so differing here is differing always.
        let kinds: HashSet<_> = prefixes.iter().map(|prefix| prefix[2]).collect();
        assert_eq!(kinds.len(), prefixes.len());
        assert!(prefixes.iter().all(|prefix| prefix[0] == VERSION && prefix[3] == 0));
    }

    #[test]
    fn layouts_are_frozen() {
        assert_eq!(
            hex::encode(CHUNK.encode()),
            "01010100a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5010000000200000000000000030000000000000004000000\
             05000000"
        );
        assert_eq!(
            hex::encode(DIRECTORY.encode()),
            "01010200a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a50100000003000000000000000400000005000000"
        );
        assert_eq!(
            hex::encode(RECORD.encode()),
            "01010300a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a50100000002000000000000000102030405060000"
        );
        assert_eq!(
            hex::encode(META.encode()),
            "01010400a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a501000000020000008001\
             0101"
        );
        assert_eq!(hex::encode(VALUE.encode()), "01020500a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5010000008001");
        assert_eq!(hex::encode(WRAP.encode()), "01010600a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a50100000002");
        let front = "a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a501000000";
        assert_eq!(hex::encode(ITEM.encode()), format!("01020700{front}{}", "07".repeat(32)));
        assert_eq!(hex::encode(USER.encode()), format!("01010800{front}{}0102", "07".repeat(16)));
    }
}
