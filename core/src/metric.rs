//! The three distances, and what each means for a stored vector.

/// How two vectors are compared. The index ranks by a *score* that is smaller for nearer rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Metric {
    /// `<->`: the score is the squared Euclidean distance; SQL shows its root.
    L2 = 1,
    /// `<=>`: vectors are normalised on the way in, so the score is `|x - q|^2 = 2 (1 - cos)`; SQL shows `1 - cos`.
    Cosine = 2,
    /// `<#>`: the score is the negative inner product, which SQL shows as it is.
    InnerProduct = 3,
}

impl Metric {
    /// The metric whose on-disk number is `byte`.
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::L2),
            2 => Some(Self::Cosine),
            3 => Some(Self::InnerProduct),
            _ => None,
        }
    }
}
