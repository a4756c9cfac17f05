//! The arithmetic of the index: distances, rotation, 1-bit codes, k-means, assignment and probe statistics.
//!
//! Pure functions over slices. Nothing here knows a page, a key or a thread that it was not handed.
//! Only [`kernels`] holds unsafe code: SIMD loops behind one function table chosen at run time.

pub mod assign;
pub mod calibrate;
pub mod centroids;
pub mod code;
pub mod distance;
pub mod groups;
mod kernels;
pub mod kmeans;
pub mod probe;
pub mod random;
pub mod rotate;
pub mod split;

pub use assign::{Assigner, Groups, assign, nearest};
pub use calibrate::{Asking, Calibration};
pub use centroids::Centroids;
pub use code::{BLOCK_ROWS, BlockLayout, ListTerm, QueryCodes, encode_block};
pub use groups::{Clusters, cluster};
pub use kmeans::{KmeansOptions, kmeans};
pub use probe::{ListStats, Lists, Prober, Rule, Scored};
pub use rotate::Rotation;
pub use split::{TwoMeans, two_means};

/// Which kernels this process runs: `avx512`, `avx2`, `neon` or `portable`.
pub fn instruction_set() -> &'static str {
    kernels::table().name
}
