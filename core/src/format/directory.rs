//! The centroid directory: a sealed stream of centroids and list uids, cut into pages.
//!
//! Backends open it once and keep it by (index uuid, epoch). [`DirectoryPage`] heads each piece;
//! the stream itself is encoded and decoded here.

use zeroize::Zeroizing;

use super::{Reader, Writer};
use crate::{
    Error, Result,
    math::{BLOCK_ROWS, BlockLayout, Centroids, calibrate::Calibration, probe::ListStats},
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
    pub mean: Zeroizing<Vec<f32>>,
    /// The lists.
    pub entries: Vec<DirectoryEntry>,
    /// Their centroids, in the same order.
    pub centroids: Centroids,
    /// What follows from mean and centroids, so that a backend's first query need not work it out. None until it has been.
    pub digest: Option<Digest>,
}

/// What queries want to know of all centroids together.
pub struct Digest {
    /// Mean of the centroids less the mean of the rows.
    pub offset: Zeroizing<Vec<f32>>,
    /// Mean squared distance of the centroids from the mean of the rows.
    pub spread: f32,
    /// Codes of the centroids about the mean of the rows, in whole blocks of [`BLOCK_ROWS`] (of which the last may need
    /// less); none of few lists.
    pub codes: Zeroizing<Vec<u8>>,
}

impl Digest {
    /// Bytes of the codes of `lists` lists in `dims` dimensions.
    pub fn code_bytes(lists: usize, dims: usize) -> usize {
        lists.div_ceil(BLOCK_ROWS) * BlockLayout::new(dims).block_bytes(BLOCK_ROWS)
    }
}

const STREAM_VERSION: u16 = 2;
const ENTRY: usize = 8 + 4 + 4 + 4 + 4 + 4;

impl DirectoryStream {
    /// Encodes the stream, which has its digest, for vectors of `dims` elements.
    pub fn encode(&self, dims: usize) -> Zeroizing<Vec<u8>> {
        let digest = self.digest.as_ref().expect("what is written was a directory before");
        let (scale, halves) = (self.centroids.scale(), self.centroids.halves());
        const FIXED: usize = 2 + 2 + 4 + 4 + 32 + Calibration::BYTES;
        // All of its room at once: a vector that grows leaves its old bytes behind.
        let room = FIXED + self.mean.len() * 4 + self.entries.len() * ENTRY + halves.len();
        let room = room + digest.offset.len() * 4 + 4 + digest.codes.len();
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
        digest.offset.iter().for_each(|value| head.extend_from_slice(&value.to_le_bytes()));
        head.extend_from_slice(&digest.spread.to_le_bytes());
        head.extend_from_slice(&digest.codes);
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
        let lists = count.checked_mul(ENTRY + dims * 2).and_then(|rest| rest.checked_add(fixed + dims * 4 + 4));
        let Some(codes) = lists.and_then(|before| bytes.len().checked_sub(before)) else {
            return Err(malformed);
        };
        if stored_dims as usize != dims || !(codes == 0 || codes == Digest::code_bytes(count, dims)) {
            return Err(malformed);
        }
        let seed = r.bytes();
        let calibration = Calibration::decode(&r.bytes::<{ Calibration::BYTES }>())?;
        let mean = Zeroizing::new((0..dims).map(|_| r.f32()).collect());
        let entries = (0..count)
            .map(|_| DirectoryEntry {
                uid: r.u64(),
                position: r.u32(),
                head: r.u32(),
                rows: r.u32(),
                stats: ListStats { r2: r.f32(), sigma: r.f32() },
            })
            .collect();
        let (halves, rest) = r.0.split_at(count * dims * 2);
        let centroids = Centroids::from_halves(dims, scale, halves);
        let mut r = Reader(rest);
        let offset = Zeroizing::new((0..dims).map(|_| r.f32()).collect());
        let digest = Digest { offset, spread: r.f32(), codes: Zeroizing::new(r.0.to_vec()) };
        Ok(Self { seed, calibration, mean, entries, centroids, digest: Some(digest) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_streams_are_refused() {
        let digest = |len| Digest {
            offset: Zeroizing::new(vec![0.25, -1.0, 2.0]),
            spread: 7.5,
            codes: Zeroizing::new(vec![3; len]),
        };
        let mut stream = DirectoryStream {
            seed: [7; 32],
            calibration: Calibration::everything(),
            mean: vec![0.5; 3].into(),
            entries: vec![DirectoryEntry { uid: 9, position: 1, head: 4, rows: 2, stats: ListStats::default() }],
            centroids: Centroids::new(3, &[1.0, -2.0, 0.25]),
            digest: Some(digest(0)),
        };
        let bytes = stream.encode(3);
        let back = DirectoryStream::decode(&bytes, 3).unwrap();
        assert_eq!((back.mean, back.entries[0].uid), (stream.mean.clone(), 9));
        assert_eq!(*back.centroids.to_floats(), [1.0, -2.0, 0.25]);
        for len in 0..bytes.len() {
            assert!(DirectoryStream::decode(&bytes[..len], 3).is_err(), "cut at {len}");
        }
        assert!(DirectoryStream::decode(&bytes, 4).is_err());
        let mut other = bytes.clone();
        for version in [1, 3] {
            other[0] = version;
            assert!(matches!(DirectoryStream::decode(&other, 3), Err(Error::Version { .. })));
        }

        for len in [0, Digest::code_bytes(1, 3)] {
            stream.digest = Some(digest(len));
            let bytes = stream.encode(3);
            let back = DirectoryStream::decode(&bytes, 3).unwrap().digest.unwrap();
            assert_eq!((&back.offset[..], back.spread, back.codes.len()), (&[0.25, -1.0, 2.0][..], 7.5, len));
            for len in 0..bytes.len() {
                let cut = DirectoryStream::decode(&bytes[..len], 3);
                assert!(cut.is_err() || cut.unwrap().digest.unwrap().codes.is_empty(), "cut at {len}");
            }
        }
    }
}
