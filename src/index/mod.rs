//! The access method `sealed_ivf`: callbacks between Postgres and `sealvec_core::ivf`.
//!
//! Each callback is five calls: say what the index is ([`shape`]), resolve its keys ([`session`]), wrap the
//! relation in a page store, call core, convert the result. The algorithm, its locks and its WAL are in
//! `README.md` beside this file.

mod build;
mod cost;
mod functions;
mod insert;
mod opclass;
mod open;
mod options;
mod row;
mod scan;
mod session;
mod shape;
mod together;
mod unopened;
mod vacuum;
mod validate;
mod verify;
mod work;

pub use functions::{DekUses, dek_uses, lists};
pub use row::tid;
pub use together::together;

use pgrx::prelude::*;
use pgrx::{PgBox, pg_sys};
use sealvec_core::Error;

use crate::error::SqlError;

/// Called once per backend from `_PG_init`: reloptions, so that autovacuum, too, can parse them.
pub fn init() {
    options::init();
    crate::keys::on_close(session::forget_all);
}

/// What the planner and the executor may ask of a `sealed_ivf` index, and where.
#[pg_extern(sql = false)]
fn sealed_ivf_handler(_fcinfo: pg_sys::FunctionCallInfo) -> PgBox<pg_sys::IndexAmRoutine> {
    // SAFETY: the tag belongs to the struct; whatever is not set below is zero: false, none, not there.
    let mut am = unsafe { PgBox::<pg_sys::IndexAmRoutine>::alloc_node(pg_sys::NodeTag::T_IndexAmRoutine) };

    am.amstrategies = opclass::STRATEGIES; // the one ordering operator
    am.amsupport = opclass::SUPPORT_FUNCTIONS; // which distance the operator class stands for
    am.amcanorderbyop = true; // ORDER BY embedding <-> query is all it does
    am.amoptionalkey = true; // a scan has no WHERE clause of ours
    am.amcanorder = false; // a sealed value has no order of its own
    am.amcanbackward = false; // the scan widens as it goes; executor nodes above keep what SCROLL needs
    am.amcanunique = false;
    am.amcanmulticol = false; // two vectors are two indexes
    am.amcaninclude = false; // INCLUDE columns would lie on our pages unsealed
    am.amstorage = false;
    am.amclusterable = false;
    am.ampredlocks = false; // SERIALIZABLE takes a lock on the whole index
    am.amcanparallel = false; // keys and lists opened live in one backend
    am.amusemaintenanceworkmem = true; // cleanup may merge, and merging may cluster
    // Marking dead rows needs nothing of the leader. Cleanup stays with it, because it may merge and the
    // leader's session is the one that may have the key ring open.
    am.amparallelvacuumoptions = pg_sys::VACUUM_OPTION_PARALLEL_BULKDEL as u8;
    am.amkeytype = pg_sys::InvalidOid;

    am.ambuild = Some(build::ambuild);
    am.ambuildempty = Some(build::ambuildempty);
    am.ambuildphasename = Some(work::ambuildphasename);
    am.aminsert = Some(insert::aminsert);
    am.ambulkdelete = Some(vacuum::ambulkdelete);
    am.amvacuumcleanup = Some(vacuum::amvacuumcleanup);
    am.amcanreturn = None; // opening is the executor's business: a Datum never holds an opened vector
    am.amcostestimate = Some(cost::amcostestimate);
    am.amoptions = Some(options::amoptions);
    am.amvalidate = Some(validate::amvalidate);
    am.ambeginscan = Some(scan::ambeginscan);
    am.amrescan = Some(scan::amrescan);
    am.amgettuple = Some(scan::amgettuple);
    am.amgetbitmap = None; // a bitmap forgets the order
    am.amendscan = Some(scan::amendscan);
    am.into_pg_boxed()
}

/// An error of core that comes from an index: a tag that fails there is damage to the index (`XX002`).
fn index_error(error: Error) -> SqlError {
    match error {
        Error::Open => Error::Corrupt { block: 0, what: "a sealed part does not open" }.into(),
        other => other.into(),
    }
}
