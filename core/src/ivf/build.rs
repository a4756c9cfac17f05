//! Build: rows are inserted as ever, then coded and clustered in one go.

use super::{
    Cache, Keys, Work, cluster,
    merge::{self, Effort},
    read_meta, slots,
};
use crate::{Result, format::meta::Meta, store::PageStore};

/// Codes and clusters what [`super::insert::insert`] brought: the second half of a build with the key.
pub fn finish<S: PageStore>(store: &S, cache: &mut Cache, keys: &mut Keys<'_>, work: &mut Work<'_>) -> Result<Meta> {
    let meta = read_meta(store)?;
    let rows = slots::end(store)?;
    if rows == 0 {
        return Ok(meta);
    }
    if cluster::wants_lists(&meta.identity, rows) {
        return merge::train(store, cache, keys, work);
    }
    merge::merge(store, cache, keys, Effort::All, work)?;
    read_meta(store)
}
