//! `train`, `training_status`: lists made anew from every row, and who does so at this moment.

use pgrx::PgSqlErrorCode::*;
use pgrx::prelude::*;
use pgrx::{IntoDatum, pg_sys};

use super::call::{self, Need, Shown, required};
use super::registry::{self, Part};
use super::rows::Rows;
use super::{describe, names, spi};
use crate::error::{OrRaise, SqlError};

/// Most lists that may be asked for, as the original has it.
const LISTS_MAX: i32 = 65_535;

/// `train(name, n_lists, …) → integer`; a name that is no collection's is an index's.
#[pg_extern(sql = false)]
fn sealvec_train(
    name: Option<&str>,
    n_lists: Option<i32>,
    index_key: Option<&[u8]>,
    user_id: Option<&[u8]>,
    user_token: Option<&[u8]>,
) -> i32 {
    (|| {
        let name = required(name, "name")?;
        if let Some(lists) = n_lists.filter(|lists| !(0..=LISTS_MAX).contains(lists)) {
            return Err(SqlError::new(
                ERRCODE_INVALID_PARAMETER_VALUE,
                format!("n_lists must be <= {LISTS_MAX} and not negative; got {lists}"),
            ));
        }
        // Another's collection of this name, which the caller can't see, is none of his business.
        let Some(collection) = registry::try_find(name)?.filter(describe::may_see) else { return train_index(name) };
        let _scope = call::open(&collection, &Shown { index_key, user_id, user_token }, Need::Own)?;
        registry::lock(name, Part::Training)?;
        let Some(index) = names::index_oid(collection.uuid) else { return Ok(0) };
        spi::connect(|spi| {
            if let Some(lists) = n_lists.filter(|lists| *lists > 0) {
                // How many lists an index is made for, its meta page says under a seal: another number is another build.
                let index = names::index(collection.uuid);
                spi.run(&format!("ALTER INDEX sealvec_data.\"{index}\" SET (lists = {lists})"))?;
                spi.run(&format!("REINDEX INDEX sealvec_data.\"{index}\""))?;
                return Ok(describe::lists(&collection)? as i32);
            }
            let trained = spi.one("SELECT sealvec.train($1)", (pg_sys::REGCLASSOID, index.into()))?;
            Ok(trained.unwrap_or(0))
        })
    })()
    .or_raise()
}

/// An index on somebody's own table, by its name as SQL writes it.
fn train_index(name: &str) -> Result<i32, SqlError> {
    spi::connect(|spi| {
        let text = name.into_datum().expect("a text is a Datum");
        let index: Option<pg_sys::Oid> =
            spi.one("SELECT pg_catalog.to_regclass($1)::pg_catalog.oid", (pg_sys::TEXTOID, text))?;
        let index =
            index.ok_or_else(|| SqlError::new(ERRCODE_UNDEFINED_OBJECT, format!("index \"{name}\" does not exist")))?;
        Ok(spi.one("SELECT sealvec.train($1)", (pg_sys::REGCLASSOID, index.into()))?.unwrap_or(0))
    })
}

/// `training_status()`
#[pg_extern(sql = false)]
fn sealvec_training_status(call: pg_sys::FunctionCallInfo) -> Option<i32> {
    // Those of $1 that somebody trains, and those that somebody makes, changes or removes.
    const HELD: &str = "SELECT objid, objsubid::pg_catalog.int4 FROM pg_catalog.pg_locks \
        WHERE locktype OPERATOR(pg_catalog.=) 'object' AND granted \
        AND database OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_database \
            WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database()) \
        AND classid OPERATOR(pg_catalog.=) $1";
    (|| {
        let mut collections = registry::all()?;
        collections.retain(describe::may_see);
        collections.sort_by(|a, b| a.name.cmp(&b.name));
        let class = registry::lock_class()?;
        let held = spi::connect(|spi| spi.pairs(HELD, (pg_sys::OIDOID, class.into())))?;
        // SAFETY: the call of this very function, which returns a set.
        let mut rows = unsafe { Rows::new(call)? };
        for collection in &collections {
            let address = registry::lock_address(&collection.name);
            let is_held = |part: Part| held.contains(&(address, part as i32));
            // What is being changed is not waited for.
            let lists = if is_held(Part::Shape) { 0 } else { describe::lists(collection)? };
            rows.push(|| {
                [
                    collection.name.as_str().into_datum(),
                    is_held(Part::Training).into_datum(),
                    (lists > 0).into_datum(),
                    (lists.max(1) as i32).into_datum(),
                ]
            })?;
        }
        Ok::<_, SqlError>(None)
    })()
    .or_raise()
}
