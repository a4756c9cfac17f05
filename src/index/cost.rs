//! What the planner is told a scan costs.
//!
//! A scan pays before its first row: it ranks every list by its centroid, opens and scores the nearest lists,
//! L0 and the tail, and opens the best few records. From there each further row costs a little more of all of
//! it, up to every list and record. So the startup cost is that of the first rows, the total that of all
//! rows, and Postgres's straight line between them prices LIMIT, and a filter that lets few rows pass: it asks for
//! as many more rows as the filter throws away.

use pgrx::pg_sys;
use pgrx::prelude::*;
use sealvec_core::ivf::{self, LIST_ROWS};

use crate::guc;
use crate::storage::RelationStore;

/// Nanoseconds that one `cpu_operator_cost` stands for: an integer comparison through the executor.
const OPERATOR_NS: f64 = 10.0;
/// Scoring one centroid at 384 dimensions, and what scales with dimensions.
const CENTROID_NS: f64 = 28.0;
/// Opening and scoring one coded row at 384 dimensions.
const CODE_NS: f64 = 4.3;
/// Opening one record, decoding and scoring it.
const RECORD_NS: f64 = 350.0;
/// Records opened for one row emitted while the first rows are looked for.
const RECORDS_FIRST: f64 = 32.0;
/// Dimensions at which the above were measured (`spec/prototype.md`).
const MEASURED_DIMS: f64 = 384.0;
/// Lists per probe when the scan chooses: about the square root of their number, as measured on real embeddings.
const PROBES_FACTOR: f64 = 1.2;
/// Bytes of a record beside its elements.
const RECORD_BYTES: f64 = 48.0;
/// Bytes of a page that hold something.
const PAGE_BYTES: f64 = 8000.0;

/// What of the meta page the planner needs, kept in `rd_amcache`, which a relcache invalidation drops.
#[repr(C)]
#[derive(Clone, Copy)]
struct Known {
    /// Pages of the index when this was read: an index that grew is looked at again.
    pages: u32,
    dims: u16,
    lists: u32,
    rows_in_lists: f64,
    rows_in_l0: f64,
    rows_in_tail: f64,
}

/// Estimates a scan.
#[pg_guard]
#[allow(clippy::too_many_arguments)] // Postgres's signature
pub unsafe extern "C-unwind" fn amcostestimate(
    root: *mut pg_sys::PlannerInfo,
    path: *mut pg_sys::IndexPath,
    loop_count: f64,
    startup_cost: *mut pg_sys::Cost,
    total_cost: *mut pg_sys::Cost,
    selectivity: *mut pg_sys::Selectivity,
    correlation: *mut f64,
    pages: *mut f64,
) {
    // SAFETY: called by the planner with a path over an index of ours that it has locked.
    unsafe {
        let path = &mut *path;
        path.path.parallel_safe = false; // the keys are in this backend
        (*selectivity, *correlation) = (1.0, 0.0);
        if path.indexorderbys.is_null() {
            // Without an order there is nothing that this index could return.
            (*startup_cost, *total_cost, *pages) = (f64::INFINITY, f64::INFINITY, 0.0);
            #[cfg(feature = "pg18")]
            {
                path.path.disabled_nodes = 2;
            }
            return;
        }
        let info = &*path.indexinfo;
        let estimate = Estimate::new(&known(info), info.tuples, info.pages.into());
        let prices = Prices::of(info);
        *startup_cost = prices.cost(&estimate.first, loop_count, root, info);
        *total_cost = prices.cost(&estimate.all, loop_count, root, info).max(*startup_cost);
        *pages = estimate.all.pages();
    }
}

/// What part of the index a scan touches.
#[derive(Clone, Copy)]
struct Touched {
    centroids: f64,
    codes: f64,
    records: f64,
    /// Pages reached by a jump, and pages read after their neighbour.
    pages_random: f64,
    pages_in_row: f64,
    dims: f64,
}

impl Touched {
    fn pages(&self) -> f64 {
        self.pages_random + self.pages_in_row
    }
}

struct Estimate {
    /// Until the first rows come out.
    first: Touched,
    /// Until the last row came out.
    all: Touched,
}

impl Estimate {
    fn new(known: &Known, tuples: f64, index_pages: f64) -> Self {
        let lists = f64::from(known.lists);
        let dims = f64::from(known.dims);
        let code_bytes = dims / 8.0 + 12.0;
        let rows = tuples.max(1.0);
        let per_list = if lists > 0.0 { (known.rows_in_lists / lists).max(1.0) } else { 0.0 };
        let list_pages = (per_list * code_bytes / PAGE_BYTES).ceil();
        let l0_pages = (known.rows_in_l0 * code_bytes / PAGE_BYTES).ceil();
        // A record, its slot leaf being one of few that stay in memory.
        let record_pages = |records: f64| records.min(index_pages);

        let probes = match guc::probes() {
            0 => (PROBES_FACTOR * lists.sqrt()).ceil(),
            probes => f64::from(probes),
        }
        .min(lists);
        // Rows that no merge had coded when this was read, each of them opened by every scan: many after a build
        // without the key. Rows that came since count as coded, as most of them are.
        let tail = known.rows_in_tail.min(rows);
        let tail_pages = (tail * (dims * 4.0 + RECORD_BYTES) / PAGE_BYTES).ceil();
        let nearest = RECORDS_FIRST.min(rows);
        let first = Touched {
            centroids: lists,
            codes: probes * per_list + known.rows_in_l0,
            records: (nearest + tail).min(rows),
            pages_random: probes + record_pages(nearest),
            pages_in_row: probes * (list_pages - 1.0).max(0.0) + l0_pages + tail_pages,
            dims,
        };
        let all = Touched {
            centroids: lists,
            codes: known.rows_in_lists + known.rows_in_l0,
            records: rows,
            pages_random: lists + record_pages(rows),
            pages_in_row: lists * (list_pages - 1.0).max(0.0) + l0_pages,
            dims,
        };
        Self { first, all }
    }
}

/// Cost of a page and of a nanosecond.
struct Prices {
    random_page: f64,
    page_in_row: f64,
    nanosecond: f64,
}

impl Prices {
    unsafe fn of(info: &pg_sys::IndexOptInfo) -> Self {
        let (mut random_page, mut page_in_row) = (0.0, 0.0);
        // SAFETY: a look-up by OID, and a GUC.
        let operator = unsafe {
            pg_sys::get_tablespace_page_costs(info.reltablespace, &mut random_page, &mut page_in_row);
            pg_sys::cpu_operator_cost
        };
        Self { random_page, page_in_row, nanosecond: operator / OPERATOR_NS }
    }

    /// The cost of touching that much, in one of `loops` scans.
    unsafe fn cost(
        &self,
        touched: &Touched,
        loops: f64,
        root: *mut pg_sys::PlannerInfo,
        info: &pg_sys::IndexOptInfo,
    ) -> f64 {
        let scale = touched.dims / MEASURED_DIMS;
        let computing =
            scale * (touched.centroids * CENTROID_NS + touched.codes * CODE_NS + touched.records * RECORD_NS);
        // Inner side of a nested loop: later scans find pages that earlier ones brought in.
        let random = if loops > 1.0 {
            // SAFETY: the planner's root; arithmetic on effective_cache_size.
            let fetched = unsafe {
                pg_sys::index_pages_fetched(touched.pages_random * loops, info.pages, info.pages.into(), root)
            };
            fetched / loops
        } else {
            touched.pages_random
        };
        computing * self.nanosecond + random * self.random_page + touched.pages_in_row * self.page_in_row
    }
}

/// The meta page as it was when last looked at.
unsafe fn known(info: &pg_sys::IndexOptInfo) -> Known {
    // SAFETY: the planner holds a lock on the index, so it opens without one. What lies in rd_amcache is ours,
    // one palloc'ed chunk, as the relcache demands.
    unsafe {
        let index = pg_sys::index_open(info.indexoid, pg_sys::NoLock as i32);
        let cached = (*index).rd_amcache.cast::<Known>();
        let known = match cached.as_ref() {
            Some(known) if info.pages <= known.pages + known.pages / 8 => *known,
            _ => {
                let known = read(index, info.pages);
                if cached.is_null() {
                    (*index).rd_amcache = pg_sys::MemoryContextAlloc((*index).rd_indexcxt, size_of::<Known>()).cast();
                }
                (*index).rd_amcache.cast::<Known>().write(known);
                known
            }
        };
        pg_sys::index_close(index, pg_sys::NoLock as i32);
        known
    }
}

/// Reads the meta page. A damaged one is the scan's to report, not the planner's.
unsafe fn read(index: pg_sys::Relation, pages: u32) -> Known {
    // SAFETY: the index is open.
    let store = unsafe { RelationStore::new(index) };
    let seen = ivf::read_meta(&store).and_then(|meta| Ok((meta, ivf::stats::tail_rows(&store, &meta)?)));
    match seen {
        Ok((meta, tail)) => Known {
            pages,
            dims: meta.identity.dims,
            lists: meta.lists,
            rows_in_lists: meta.list_rows as f64,
            rows_in_l0: meta.l0_rows as f64,
            rows_in_tail: tail as f64,
        },
        Err(_) => Known {
            pages,
            dims: 1,
            lists: (f64::from(pages) / LIST_ROWS as f64) as u32,
            rows_in_lists: 0.0,
            rows_in_l0: 0.0,
            rows_in_tail: 0.0,
        },
    }
}
