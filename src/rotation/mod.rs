//! Rotation of data keys: what a version of one still seals, rows sealed anew under the newest, and the end of a version or
//! of a whole ring.
//!
//! `keys` adds versions and takes them away; whether one may go is found out here, by looking at every place where
//! something sealed can lie ([`usage`]). `docs/DECISIONS.md`, "Rotation", says why nothing in flight is lost.

mod attempt;
mod heap;
mod places;
mod progress;
mod reseal;
mod retire;
mod shred;
mod usage;
