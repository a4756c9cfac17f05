//! The meta page: what an index is, where its trees start, and the epochs that publish changes.

use super::{Precision, Reader, Writer};
use crate::{
    Error, Result,
    keys::Uuid,
    metric::Metric,
    store::{Block, Clear},
};

/// Block of the meta page.
pub const META_BLOCK: Block = 0;
/// First bytes of every index.
pub const MAGIC: [u8; 8] = *b"sealivf\0";
/// Newest format version that this build reads and the one it writes.
pub const VERSION: u16 = 1;

/// What never changes after a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Drawn at each build.
    pub index: Uuid,
    /// Ring number of the indexed column.
    pub ring: u32,
    /// Dimensions of every vector.
    pub dims: u16,
    /// How vectors are compared.
    pub metric: Metric,
    /// How they lie in the index.
    pub precision: Precision,
    /// Reloption `lists`; 0 = automatic.
    pub lists: u32,
}

/// The meta page. Everything in it is clear; a sealed tag behind it binds [`Identity`] and the DEK version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// What never changes.
    pub identity: Identity,
    /// DEK version that seals this index; 0 until a build or merge had the key.
    pub dek_version: u32,
    /// Data epoch D: a chunk or list is live if `born <= D < died`.
    pub data_epoch: u64,
    /// Directory epoch E: changes with the set of lists only.
    pub directory_epoch: u64,
    /// `D + 1` while a batch is being written that recovery must undo if it is not published; else 0.
    pub work_epoch: u64,
    /// Slots below this are coded in L0 or a list; the others are the tail.
    pub merged_upto: u64,
    /// Root of the slot directory.
    pub slot_root: Block,
    /// Levels of the slot directory above the leaves.
    pub slot_height: u32,
    /// The list map's block of blocks.
    pub map_root: Block,
    /// Positions of the list map ever used.
    pub map_len: u32,
    /// First index block of the centroid directory; 0 = none.
    pub directory_root: Block,
    /// Lists in the directory.
    pub lists: u32,
    /// The list that every scan probes; 0 = none.
    pub l0_uid: u64,
    /// Its position in the list map.
    pub l0_position: u32,
    /// The next list uid; uids are never reused.
    pub next_uid: u64,
    /// Rows coded in L0.
    pub l0_rows: u64,
    /// Rows coded in lists.
    pub list_rows: u64,
    /// Rows in lists when they were last clustered from scratch.
    pub clustered_rows: u64,
    /// Slots that VACUUM marked dead since the lists were last rewritten.
    pub dead_rows: u64,
    /// Key commitment salted with the index uuid; zero while `dek_version` is 0.
    pub commitment: [u8; 32],
}

impl Meta {
    /// An index without rows.
    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            dek_version: 0,
            data_epoch: 1,
            directory_epoch: 0,
            work_epoch: 0,
            merged_upto: 0,
            slot_root: 0,
            slot_height: 0,
            map_root: 0,
            map_len: 0,
            directory_root: 0,
            lists: 0,
            l0_uid: 0,
            l0_position: 0,
            next_uid: 1,
            l0_rows: 0,
            list_rows: 0,
            clustered_rows: 0,
            dead_rows: 0,
            commitment: [0; 32],
        }
    }

    /// Decodes a meta page body, telling another format version from garbage.
    pub fn read(body: &[u8]) -> Result<Self> {
        let what = "index meta page";
        if body.len() < Self::LEN || body[..8] != MAGIC {
            return Err(Error::Corrupt { block: META_BLOCK, what: "malformed meta page" });
        }
        let version = u16::from_le_bytes([body[8], body[9]]);
        if version != VERSION {
            return Err(Error::Version { what, found: version, known: VERSION });
        }
        Self::at(body, 0).ok_or(Error::Corrupt { block: META_BLOCK, what: "malformed meta page" })
    }
}

impl Clear for Meta {
    const LEN: usize = 200;

    fn encode(&self, out: &mut [u8]) {
        Writer(out)
            .bytes(&MAGIC)
            .u16(VERSION)
            .u16(self.identity.dims)
            .u8(self.identity.metric as u8)
            .u8(self.identity.precision as u8)
            .u16(0)
            .bytes(self.identity.index.as_bytes())
            .u32(self.identity.ring)
            .u32(self.identity.lists)
            .u32(self.dek_version)
            .u32(0)
            .u64(self.data_epoch)
            .u64(self.directory_epoch)
            .u64(self.work_epoch)
            .u64(self.merged_upto)
            .u32(self.slot_root)
            .u32(self.slot_height)
            .u32(self.map_root)
            .u32(self.map_len)
            .u32(self.directory_root)
            .u32(self.lists)
            .u64(self.l0_uid)
            .u32(self.l0_position)
            .u32(0)
            .u64(self.next_uid)
            .u64(self.l0_rows)
            .u64(self.list_rows)
            .u64(self.clustered_rows)
            .u64(self.dead_rows)
            .bytes(&self.commitment)
            .bytes(&[0; 8]);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut r = Reader(bytes);
        let (magic, version) = (r.bytes::<8>(), r.u16());
        let dims = r.u16();
        let (metric, precision) = (Metric::from_byte(r.u8())?, Precision::from_byte(r.u8())?);
        let reserved = r.u16();
        let index = Uuid::from_bytes(r.bytes());
        let (ring, lists_option) = (r.u32(), r.u32());
        let (dek_version, reserved_2) = (r.u32(), r.u32());
        let valid = magic == MAGIC && version == VERSION && dims as usize <= super::DIMS_MAX && dims > 0;
        if !valid || reserved != 0 || reserved_2 != 0 {
            return None;
        }
        let meta = Self {
            identity: Identity { index, ring, dims, metric, precision, lists: lists_option },
            dek_version,
            data_epoch: r.u64(),
            directory_epoch: r.u64(),
            work_epoch: r.u64(),
            merged_upto: r.u64(),
            slot_root: r.u32(),
            slot_height: r.u32(),
            map_root: r.u32(),
            map_len: r.u32(),
            directory_root: r.u32(),
            lists: r.u32(),
            l0_uid: r.u64(),
            l0_position: r.u32(),
            next_uid: {
                if r.u32() != 0 {
                    return None;
                }
                r.u64()
            },
            l0_rows: r.u64(),
            list_rows: r.u64(),
            clustered_rows: r.u64(),
            dead_rows: r.u64(),
            commitment: r.bytes(),
        };
        (r.bytes::<8>() == [0; 8]).then_some(meta)
    }
}
