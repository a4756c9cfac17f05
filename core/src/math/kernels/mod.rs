//! The function table of SIMD kernels: chosen once per process, the portable version is the oracle.
//!
//! Every slice length is checked here, before a kernel sees a pointer; a kernel relies on that and on
//! the CPU features it is compiled for, which [`table`] has detected.

#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use std::sync::OnceLock;

use super::code::{BLOCK_ROWS, SHORT_ROWS};

/// Points in one tile of the assignment kernel.
pub(super) const TILE_POINTS: usize = 8;
/// Centroids in one packed panel of the assignment kernel.
pub(super) const PANEL: usize = 32;

type Compare<B> = unsafe fn(&[f32], &[B]) -> f32;

/// One complete set of kernels. A function may only be called on a CPU that has the set's features.
pub(super) struct Kernels {
    pub(super) name: &'static str,
    l2_squared: Compare<f32>,
    dot: Compare<f32>,
    l2_squared_f32le: Compare<u8>,
    dot_f32le: Compare<u8>,
    l2_squared_f16le: Compare<u8>,
    dot_f16le: Compare<u8>,
    l2_squared_many: unsafe fn(&[f32], &[f32], &mut [f32]),
    dot_many: unsafe fn(&[f32], &[f32], &mut [f32]),
    l2_squared_many_f16le: unsafe fn(&[f32], &[u8], &mut [f32]),
    dot_many_f16le: unsafe fn(&[f32], &[u8], &mut [f32]),
    encode_f16: unsafe fn(&[f32], &mut [u8]),
    decode_f16: unsafe fn(&[u8], &mut [f32]),
    flip: unsafe fn(&mut [f32], &[u32]),
    hadamard: unsafe fn(&mut [f32], f32),
    halves: unsafe fn(&mut [f32]),
    residual: unsafe fn(&[f32], &[f32], &mut [u8]) -> Residual,
    table: unsafe fn(&[f32], &mut [u8]) -> QueryTable,
    score: unsafe fn(&ScoreArgs<'_>, &mut [f32; BLOCK_ROWS], &mut [f32; BLOCK_ROWS]) -> f32,
    short_sums: unsafe fn(&[u8], &[u8], usize) -> [u32; BLOCK_ROWS],
    finish: unsafe fn(&ScoreArgs<'_>, &[u32; BLOCK_ROWS], &mut [f32; BLOCK_ROWS], &mut [f32; BLOCK_ROWS]) -> f32,
    tile: unsafe fn(&[&[f32]; TILE_POINTS], &[f32], &mut [f32; TILE_POINTS * PANEL]),
}

/// What scoring one block needs. `lut` (entries of at most 127) and `codes` hold 16 bytes a group of four dimensions.
///
/// estimate = base + f_add - f_rescale (delta sum + bias)
/// lower = estimate - err f_err - lut_err f_rescale - slack |f_add| - constant, where f_rescale = scale times its float16
/// and f_err is the bare float16.
pub(super) struct ScoreArgs<'a> {
    pub lut: &'a [u8],
    pub codes: &'a [u8],
    /// 32 f32 `f_add`, 32 f16 `f_rescale`, 32 f16 `f_err`, little-endian.
    pub factors: &'a [u8],
    pub scale: f32,
    pub delta: f32,
    pub bias: f32,
    pub base: f32,
    pub err: f32,
    pub lut_err: f32,
    pub slack: f32,
    pub constant: f32,
    /// No true score is below this.
    pub floor: f32,
}

/// Sums over the elements r of a row less its centroid, whose elements are c; s is the sign of r, plus for zero.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Residual {
    /// Of |r|.
    pub l1: f64,
    /// Of r r.
    pub norm_squared: f64,
    /// Of s c.
    pub signed_centroid: f64,
}

/// What [`Kernels::table`] says of the table it made.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueryTable {
    /// `<s, q> = delta * sum + bias` for the sum of the entries that the code of s selects.
    pub delta: f32,
    pub bias: f32,
    /// Sum over the groups of the worst error of an entry, and of the mean squared error, in units of delta.
    pub worst: f32,
    pub variance: f32,
}

/// The kernels for this CPU.
pub(super) fn table() -> &'static Kernels {
    static TABLE: OnceLock<&'static Kernels> = OnceLock::new();
    TABLE.get_or_init(|| all().last().expect("the portable set is always there"))
}

/// Every set this CPU can run, slowest first.
pub(super) fn all() -> Vec<&'static Kernels> {
    let mut sets = vec![&portable::KERNELS];
    #[cfg(target_arch = "x86_64")]
    {
        sets.extend(avx2::detected().then_some(&avx2::KERNELS));
        sets.extend(avx512::detected().then_some(&avx512::KERNELS));
    }
    sets
}

impl Kernels {
    pub(super) fn l2_squared(&self, a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len());
        // SAFETY: equal lengths, and `all` lists only sets whose CPU features were detected.
        unsafe { (self.l2_squared)(a, b) }
    }

    pub(super) fn dot(&self, a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len());
        // SAFETY: as in `l2_squared`.
        unsafe { (self.dot)(a, b) }
    }

    pub(super) fn l2_squared_f32le(&self, q: &[f32], x: &[u8]) -> f32 {
        assert_eq!(q.len() * 4, x.len());
        // SAFETY: four bytes an element, and the CPU features were detected.
        unsafe { (self.l2_squared_f32le)(q, x) }
    }

    pub(super) fn dot_f32le(&self, q: &[f32], x: &[u8]) -> f32 {
        assert_eq!(q.len() * 4, x.len());
        // SAFETY: as in `l2_squared_f32le`.
        unsafe { (self.dot_f32le)(q, x) }
    }

    pub(super) fn l2_squared_f16le(&self, q: &[f32], x: &[u8]) -> f32 {
        assert_eq!(q.len() * 2, x.len());
        // SAFETY: two bytes an element, and the CPU features were detected.
        unsafe { (self.l2_squared_f16le)(q, x) }
    }

    pub(super) fn dot_f16le(&self, q: &[f32], x: &[u8]) -> f32 {
        assert_eq!(q.len() * 2, x.len());
        // SAFETY: as in `l2_squared_f16le`.
        unsafe { (self.dot_f16le)(q, x) }
    }

    pub(super) fn l2_squared_many(&self, q: &[f32], rows: &[f32], out: &mut [f32]) {
        assert!(!q.is_empty());
        assert_eq!(rows.len(), q.len() * out.len());
        // SAFETY: as many whole rows as results, and the CPU features were detected.
        unsafe { (self.l2_squared_many)(q, rows, out) }
    }

    pub(super) fn dot_many(&self, q: &[f32], rows: &[f32], out: &mut [f32]) {
        assert!(!q.is_empty());
        assert_eq!(rows.len(), q.len() * out.len());
        // SAFETY: as in `l2_squared_many`.
        unsafe { (self.dot_many)(q, rows, out) }
    }

    pub(super) fn l2_squared_many_f16le(&self, q: &[f32], rows: &[u8], out: &mut [f32]) {
        assert!(!q.is_empty());
        assert_eq!(rows.len(), q.len() * 2 * out.len());
        // SAFETY: as many whole rows of two bytes an element as results, and the CPU features were detected.
        unsafe { (self.l2_squared_many_f16le)(q, rows, out) }
    }

    pub(super) fn dot_many_f16le(&self, q: &[f32], rows: &[u8], out: &mut [f32]) {
        assert!(!q.is_empty());
        assert_eq!(rows.len(), q.len() * 2 * out.len());
        // SAFETY: as in `l2_squared_many_f16le`.
        unsafe { (self.dot_many_f16le)(q, rows, out) }
    }

    pub(super) fn encode_f16(&self, x: &[f32], out: &mut [u8]) {
        assert_eq!(x.len() * 2, out.len());
        // SAFETY: two bytes an element, and the CPU features were detected.
        unsafe { (self.encode_f16)(x, out) }
    }

    pub(super) fn decode_f16(&self, bytes: &[u8], out: &mut [f32]) {
        assert_eq!(out.len() * 2, bytes.len());
        // SAFETY: two bytes an element, and the CPU features were detected.
        unsafe { (self.decode_f16)(bytes, out) }
    }

    /// XORs each element's bits with `flips`: sign bits.
    pub(super) fn flip(&self, x: &mut [f32], flips: &[u32]) {
        assert_eq!(x.len(), flips.len());
        // SAFETY: equal lengths, and the CPU features were detected.
        unsafe { (self.flip)(x, flips) }
    }

    /// Walsh-Hadamard transform in place, times `scale`.
    pub(super) fn hadamard(&self, x: &mut [f32], scale: f32) {
        assert!(x.len().is_power_of_two() && x.len() >= 64);
        // SAFETY: a power of two of at least 64 elements, and the CPU features were detected.
        unsafe { (self.hadamard)(x, scale) }
    }

    /// Sum and difference, over the root of two, of each element and the one half the length further.
    pub(super) fn halves(&self, x: &mut [f32]) {
        assert!(x.len().is_multiple_of(2));
        // SAFETY: two equal halves, and the CPU features were detected.
        unsafe { (self.halves)(x) }
    }

    /// The sums of `row` less `centroid`; the signs go to `signs`, four to the low half of each byte, set for plus. The
    /// same bits in every set.
    pub(super) fn residual(&self, centroid: &[f32], row: &[f32], signs: &mut [u8]) -> Residual {
        assert_eq!(centroid.len(), row.len());
        assert!(row.len().is_multiple_of(64));
        assert_eq!(signs.len() * 4, row.len());
        // SAFETY: equal lengths, whole steps, a byte for four elements, and the CPU features were detected.
        unsafe { (self.residual)(centroid, row, signs) }
    }

    /// Writes the table of a rotated query: 16 entries for each group of four dimensions, entry e the sum of the four
    /// with a plus where e has a bit.
    pub(super) fn table(&self, rotated: &[f32], lut: &mut [u8]) -> QueryTable {
        assert!(rotated.len().is_multiple_of(64));
        assert_eq!(lut.len(), rotated.len() * 4);
        // SAFETY: whole groups, 16 bytes each, and the CPU features were detected.
        unsafe { (self.table)(rotated, lut) }
    }

    /// Lower bound and estimate of the score of all 32 rows of a block; returns the least bound.
    pub(super) fn score(
        &self,
        args: &ScoreArgs<'_>,
        lower: &mut [f32; BLOCK_ROWS],
        estimate: &mut [f32; BLOCK_ROWS],
    ) -> f32 {
        assert_eq!(args.lut.len(), args.codes.len());
        assert!(args.codes.len().is_multiple_of(256));
        assert_eq!(args.factors.len(), BLOCK_ROWS * 8);
        // SAFETY: both tables are whole 256-byte steps of equal length, the factors are complete, and the CPU
        // features were detected.
        unsafe { (self.score)(args, lower, estimate) }
    }

    /// As [`Kernels::score`] for a short block of `rows` rows: its codes in `args` are columns of that many bytes, its
    /// factors are spread to the columns of a whole block. What comes behind its rows means nothing.
    pub(super) fn score_short(
        &self,
        args: &ScoreArgs<'_>,
        rows: usize,
        lower: &mut [f32; BLOCK_ROWS],
        estimate: &mut [f32; BLOCK_ROWS],
    ) {
        assert!((1..=SHORT_ROWS).contains(&rows));
        assert!(args.lut.len().is_multiple_of(32));
        assert_eq!(args.codes.len(), args.lut.len() / 32 * rows);
        assert_eq!(args.factors.len(), BLOCK_ROWS * 8);
        // SAFETY: a column of codes for each pair of tables, at most 16 rows, complete factors, and the CPU features
        // were detected.
        unsafe {
            let sums = (self.short_sums)(args.lut, args.codes, rows);
            (self.finish)(args, &sums, lower, estimate);
        }
    }

    /// Inner products of [`TILE_POINTS`] points with [`PANEL`] centroids, which lie by dimension; `out` is
    /// `TILE_POINTS x PANEL`.
    pub(super) fn tile(&self, points: &[&[f32]; TILE_POINTS], panel: &[f32], out: &mut [f32; TILE_POINTS * PANEL]) {
        assert!(panel.len().is_multiple_of(PANEL));
        assert!(points.iter().all(|point| point.len() == panel.len() / PANEL));
        // SAFETY: all operands hold the same number of dimensions, and the CPU features were detected.
        unsafe { (self.tile)(points, panel, out) }
    }
}
