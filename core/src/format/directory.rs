//! The centroid directory: a sealed stream of centroids and list uids, cut into pages.
//!
//! Backends open it once and keep it by (index uuid, epoch). [`DirectoryPage`] heads each piece;
//! the stream itself is encoded and decoded here.

use zeroize::Zeroizing;

use super::{Reader, Writer};
use crate::{
    Error, Result,
    math::{
        Centroids,
        probe::{Calibration, ListStats},
    },
    store::{BODY, Block, Clear},
};

/// Head of a directory page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectoryPage {
    /// Directory epoch that published it.
    pub epoch: u64,
    /// Number of the piece, from 0.
    pub ordinal: u32,
}

impl Clear for DirectoryPage {
    const LEN: usize = 16;

    fn encode(&self, out: &mut [u8]) {
        Writer(out).u64(self.epoch).u32(self.ordinal).u32(0);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut r = Reader(bytes);
        let page = Self { epoch: r.u64(), ordinal: r.u32() };
        (r.u32() == 0).then_some(page)
    }
}

/// Plaintext bytes of one directory page.
pub const PIECE_PLAIN_MAX: usize = BODY - DirectoryPage::LEN - crate::crypto::OVERHEAD;

/// One list as the directory knows it.
#[derive(Clone, Copy, Debug)]
pub struct DirectoryEntry {
    /// The list.
    pub uid: u64,
    /// Its position in the list map.
    pub position: u32,
    /// Its first page when the directory was written: a hint.
    pub head: Block,
    /// Its rows when the directory was written.
    pub rows: u32,
    /// What the probe rule needs to know of its rows.
    pub stats: ListStats,
}

/// The whole directory in the clear. Lives in backend memory only.
pub struct DirectoryStream {
    /// Seed of the rotation.
    pub seed: [u8; 32],
    /// Recall targets measured when the lists were clustered.
    pub calibration: Calibration,
    /// Mean of all rows, which codes are taken against: L0's centroid.
    pub mean: Vec<f32>,
    /// The lists.
    pub entries: Vec<DirectoryEntry>,
    /// Their centroids, in the same order.
    pub centroids: Centroids,
}

const STREAM_VERSION: u16 = 1;
const ENTRY: usize = 8 + 4 + 4 + 4 + 4 + 4;

impl DirectoryStream {
    /// Encodes the stream for vectors of `dims` elements.
    pub fn encode(&self, dims: usize) -> Zeroizing<Vec<u8>> {
        let (scale, halves) = (self.centroids.scale(), self.centroids.halves());
        const FIXED: usize = 2 + 2 + 4 + 4 + 32 + Calibration::BYTES;
        // All of its room at once: a vector that grows leaves its old bytes behind.
        let room = FIXED + self.mean.len() * 4 + self.entries.len() * ENTRY + halves.len();
        let mut head = Zeroizing::new(Vec::with_capacity(room));
        head.resize(FIXED, 0);
        let mut w = Writer(&mut head);
        w.u16(STREAM_VERSION).u16(dims as u16).u32(self.entries.len() as u32).bytes(&scale.to_le_bytes());
        w.bytes(&self.seed).bytes(&self.calibration.encode());
        self.mean.iter().for_each(|value| head.extend_from_slice(&value.to_le_bytes()));
        for entry in &self.entries {
            let mut bytes = [0; ENTRY];
            let mut w = Writer(&mut bytes);
            w.u64(entry.uid).u32(entry.position).u32(entry.head).u32(entry.rows);
            w.bytes(&entry.stats.r2.to_le_bytes()).bytes(&entry.stats.sigma.to_le_bytes());
            head.extend_from_slice(&bytes);
        }
        head.extend_from_slice(halves);
        head
    }

    /// Decodes a stream that was authenticated piece by piece.
    pub fn decode(bytes: &[u8], dims: usize) -> Result<Self> {
        let malformed = Error::Malformed { what: "centroid directory" };
        let fixed = 2 + 2 + 4 + 4 + 32 + Calibration::BYTES + dims * 4;
        if bytes.len() < fixed {
            return Err(malformed);
        }
        let mut r = Reader(bytes);
        let (version, stored_dims, count, scale) = (r.u16(), r.u16(), r.u32() as usize, r.f32());
        if version != STREAM_VERSION {
            return Err(Error::Version { what: "centroid directory", found: version, known: STREAM_VERSION });
        }
        let expected = count.checked_mul(ENTRY + dims * 2).and_then(|rest| rest.checked_add(fixed));
        if stored_dims as usize != dims || expected != Some(bytes.len()) {
            return Err(malformed);
        }
        let seed = r.bytes();
        let calibration = Calibration::decode(&r.bytes::<{ Calibration::BYTES }>())?;
        let mean = (0..dims).map(|_| r.f32()).collect();
        let entries = (0..count)
            .map(|_| DirectoryEntry {
                uid: r.u64(),
                position: r.u32(),
                head: r.u32(),
                rows: r.u32(),
                stats: ListStats { r2: r.f32(), sigma: r.f32() },
            })
            .collect();
        let centroids = Centroids::from_halves(dims, scale, r.0);
        Ok(Self { seed, calibration, mean, entries, centroids })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_streams_are_refused() {
        let stream = DirectoryStream {
            seed: [7; 32],
            calibration: Calibration::everything(),
            mean: vec![0.5; 3],
            entries: vec![DirectoryEntry { uid: 9, position: 1, head: 4, rows: 2, stats: ListStats::default() }],
            centroids: Centroids::new(3, &[1.0, -2.0, 0.25]),
        };
        let bytes = stream.encode(3);
        let back = DirectoryStream::decode(&bytes, 3).unwrap();
        assert_eq!((back.mean, back.entries[0].uid), (stream.mean, 9));
        assert_eq!(*back.centroids.to_floats(), [1.0, -2.0, 0.25]);
        for len in 0..bytes.len() {
            assert!(DirectoryStream::decode(&bytes[..len], 3).is_err(), "cut at {len}");
        }
        assert!(DirectoryStream::decode(&bytes, 4).is_err());
        let mut other = bytes.clone();
        other[0] = 2;
        assert!(matches!(DirectoryStream::decode(&other, 3), Err(Error::Version { .. })));
    }
}
