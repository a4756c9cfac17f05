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
        let Some(collection) = registry::try_find(name)? else { return train_index(name) };
        let _scope = call::open(&collection, &Shown { index_key, user_id, user_token }, Need::Own)?;
        registry::lock(name, Part::Training)?;
        let Some(index) = names::index_oid(collection.uuid) else { return Ok(0) };
        spi::connect(|spi| {
            if let Some(lists) = n_lists {
                let index = names::index(collection.uuid);
                spi.run(&format!("ALTER INDEX sealvec_data.\"{index}\" SET (lists = {lists})"))?;
            }
            let trained = spi.one("SELECT sealvec.train($1)", (pg_sys::REGCLASSOID, index.into()))?;
            Ok(trained.unwrap_or(0))
        })
    })()
    .or_raise()
}

/// An index on somebody's own table, by its name as SQL writes it.
fn train_index(name: &str) -> Result<i32, SqlError> {
    spi::connect_as_is(|spi| {
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
    const HELD: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype = 'object' AND granted \
        AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) \
        AND classid = 'sealvec.collection'::pg_catalog.regclass AND objid = $1 AND objsubid = 2)";
    (|| {
        let mut collections = registry::all()?;
        collections.retain(describe::may_see);
        collections.sort_by(|a, b| a.name.cmp(&b.name));
        // SAFETY: the call of this very function, which returns a set.
        let mut rows = unsafe { Rows::new(call)? };
        for collection in &collections {
            let address = registry::lock_address(&collection.name);
            let training = spi::connect(|spi| spi.one::<bool>(HELD, (pg_sys::OIDOID, address.into())))?;
            let lists = describe::lists(collection)?;
            rows.push(|| {
                [
                    collection.name.as_str().into_datum(),
                    training.into_datum(),
                    (lists > 0).into_datum(),
                    (lists.max(1) as i32).into_datum(),
                ]
            });
        }
        Ok::<_, SqlError>(None)
    })()
    .or_raise()
}
