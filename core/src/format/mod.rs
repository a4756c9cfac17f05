//! Every stored layout: little-endian, versioned, decoded strictly. `docs/FORMAT.md` has the byte tables.

pub mod binary;
pub mod directory;
pub mod list;
pub mod meta;
pub mod slot;
pub mod text;
pub mod typmod;
pub mod value;
pub mod vector;

pub use typmod::DIMS_MAX;

/// A heap row's address: block number and line pointer, as Postgres's `ItemPointerData` means them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tid {
    /// Heap block.
    pub block: u32,
    /// Line pointer, from 1.
    pub offset: u16,
}

impl Tid {
    /// Block then offset, little-endian.
    pub fn to_bytes(self) -> [u8; 6] {
        let mut bytes = [0; 6];
        bytes[..4].copy_from_slice(&self.block.to_le_bytes());
        bytes[4..].copy_from_slice(&self.offset.to_le_bytes());
        bytes
    }

    /// The reverse of [`Tid::to_bytes`].
    pub fn from_bytes(bytes: [u8; 6]) -> Self {
        let [b0, b1, b2, b3, o0, o1] = bytes;
        Self { block: u32::from_le_bytes([b0, b1, b2, b3]), offset: u16::from_le_bytes([o0, o1]) }
    }
}

/// How vectors lie in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Precision {
    /// Four bytes an element.
    Float32 = 1,
    /// Two bytes an element; the record keeps how far rounding moved the vector.
    Float16 = 2,
}

impl Precision {
    /// The precision whose on-disk number is `byte`.
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Float32),
            2 => Some(Self::Float16),
            _ => None,
        }
    }

    /// Bytes of one element.
    pub fn element_bytes(self) -> usize {
        match self {
            Self::Float32 => 4,
            Self::Float16 => 2,
        }
    }
}

/// Reads little-endian integers off a slice that is long enough by construction.
pub(crate) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let (head, tail) = self.0.split_at(N);
        self.0 = tail;
        head.try_into().expect("split_at gave N bytes")
    }
    pub fn u8(&mut self) -> u8 {
        self.bytes::<1>()[0]
    }
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.bytes())
    }
    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.bytes())
    }
    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes())
    }
    pub fn f32(&mut self) -> f32 {
        f32::from_le_bytes(self.bytes())
    }
}

/// Writes little-endian integers into a slice that is long enough by construction.
pub(crate) struct Writer<'a>(pub &'a mut [u8]);

impl Writer<'_> {
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        let out = std::mem::take(&mut self.0);
        let (head, tail) = out.split_at_mut(bytes.len());
        head.copy_from_slice(bytes);
        self.0 = tail;
        self
    }
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes(&[value])
    }
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }
}
