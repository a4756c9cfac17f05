//! Buffers, pages and WAL: `sealvec_core::store` on a Postgres relation. Knows nothing of keys or vectors.
//!
//! Nothing outside this room calls a buffer, page, free-space or WAL function. Three rules hold here:
//!
//! * A guard is named by what it holds, and releases it on drop, except while a Postgres ERROR unwinds: then
//!   transaction abort releases pins and locks through the resource owner, and a release from here could
//!   raise a second error inside a drop.
//! * No interrupt is served while a page is held (Postgres holds them off under a content lock); callers
//!   serve them between pages through [`RelationStore`]'s `check_interrupts`.
//! * A page changes only as the private copy of an [`xlog::RelationAction`].

mod buffer;
mod extend;
mod recent;
mod relation;
mod space;
mod xlog;

pub use buffer::SharedPage;
pub use relation::{Interrupts, RelationStore};
pub use xlog::RelationAction;
