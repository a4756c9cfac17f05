//! What the planner is told a scan costs.
//!
//! A scan pays before its first row: it ranks every list by its centroid, opens and scores the nearest lists,
//! L0 and the tail, and opens the best few records. From there each further row costs a little more of all of
//! it, up to every list and record: the farther a row, the more others may lie as near by their codes, and are opened
//! before it is given out. Postgres draws a straight line from the startup cost, of the first row, to the total, of all
//! rows, and takes the cost of LIMIT from it. The true line is far from straight, and a filter asks for as many more rows
//! as it throws away; so where the limit is known, the startup cost is what puts Postgres's line through the cost at it.

use pgrx::pg_sys;
use pgrx::prelude::*;
use sealvec_core::format::Precision;
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
/// Records opened while the first rows are looked for, and how many rows these are.
const RECORDS_FIRST: f64 = 32.0;
const ROWS_FIRST: f64 = 10.0;
/// Records opened for each row after them, and by how much fewer it gets as a scan comes through the index. Measured:
/// for 320 rows of 62,666 7.4 each, for 2,560 5.3, for 10,240 3.1.
const RECORDS_A_ROW: f64 = 7.4;
const RECORDS_FALL: f64 = 9.0;
/// Rows that are near are mostly of one kind, so a filter throws most of them away, or none: by so much more a scan needs
/// than rows by chance. The middle of twelve filters on real metadata, which needed 0.4 to 6 times as many.
const FILTER_ROWS: f64 = 2.0;
/// The distance that the executor computes of each row again if the index keeps a rounded vector: a value to open.
const RECHECK_NS: f64 = 800.0;
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
    is_rounded: bool,
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
        let cost = |rows: f64| prices.cost(&estimate.touched(rows), loop_count, root, info);
        let (first, all) = (cost(ROWS_FIRST), cost(estimate.rows));
        (*startup_cost, *total_cost) = (first, all.max(first));
        let passing = (*info.rel).rows.clamp(1.0, estimate.rows);
        let limit = (*root).limit_tuples;
        if limit > 0.0 && limit < passing && (*total_cost).is_finite() {
            let thrown_away = if passing < estimate.rows { FILTER_ROWS } else { 1.0 };
            let at_limit = cost((limit * estimate.rows / passing * thrown_away).min(estimate.rows));
            let share = limit / passing;
            *startup_cost = ((at_limit - *total_cost * share) / (1.0 - share)).clamp(first, *total_cost);
        }
        *pages = estimate.touched(estimate.rows).pages();
    }
}

/// What part of the index a scan touches.
#[derive(Clone, Copy)]
struct Touched {
    centroids: f64,
    codes: f64,
    records: f64,
    /// Distances that the executor computes again.
    rechecks: f64,
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
    known: Known,
    index_pages: f64,
    rows: f64,
}

impl Estimate {
    fn new(known: &Known, tuples: f64, index_pages: f64) -> Self {
        Self { known: *known, index_pages, rows: tuples.max(1.0) }
    }

    /// Until so many rows came out.
    fn touched(&self, out: f64) -> Touched {
        let Self { known, index_pages, rows } = self;
        let (lists, dims) = (f64::from(known.lists), f64::from(known.dims));
        let code_bytes = dims / 8.0 + 12.0;
        let per_list = if lists > 0.0 { (known.rows_in_lists / lists).max(1.0) } else { 0.0 };
        let list_pages = (per_list * code_bytes / PAGE_BYTES).ceil();
        let l0_pages = (known.rows_in_l0 * code_bytes / PAGE_BYTES).ceil();
        let first = match guc::probes() {
            0 => (PROBES_FACTOR * lists.sqrt()).ceil(),
            probes => f64::from(probes),
        }
        .min(lists);

        // Rows that no merge had coded when this was read, each of them opened by every scan: many after a build
        // without the key. Rows that came since count as coded, as most of them are.
        let tail = known.rows_in_tail.min(*rows);
        let tail_pages = (tail * (dims * 4.0 + RECORD_BYTES) / PAGE_BYTES).ceil();
        let later = RECORDS_A_ROW * (out - ROWS_FIRST).max(0.0) / (1.0 + RECORDS_FALL * out / rows);
        let opened = if out < *rows { (RECORDS_FIRST + later).min(*rows) } else { *rows };
        // A page of records has several, of which a scan through much of the index meets more than one.
        let record_pages = 2.0 * index_pages * opened / (2.0 * index_pages + opened);
        // Lists come a little sooner than the records of their rows.
        let probes = first + (lists - first) * (2.0 * (opened - RECORDS_FIRST).max(0.0) / rows).min(1.0);
        Touched {
            centroids: lists,
            codes: probes * per_list + known.rows_in_l0,
            records: (opened + tail).min(*rows),
            rechecks: if known.is_rounded { out } else { 0.0 },
            pages_random: probes + record_pages,
            pages_in_row: probes * (list_pages - 1.0).max(0.0) + l0_pages + tail_pages,
            dims,
        }
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
        let computing = scale
            * (touched.centroids * CENTROID_NS
                + touched.codes * CODE_NS
                + touched.records * RECORD_NS
                + touched.rechecks * RECHECK_NS);
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
        // As Postgres prices the pages of a bitmap: the more of the whole is read, the less one by one.
        let share = (random / f64::from(info.pages.max(1))).min(1.0);
        let random_page = self.random_page - (self.random_page - self.page_in_row) * share.sqrt();
        computing * self.nanosecond + random * random_page + touched.pages_in_row * self.page_in_row
    }
}

/// Rows of a tail that is looked at each time.
const LONG_TAIL: f64 = 8192.0;

/// The meta page as it was when last looked at.
unsafe fn known(info: &pg_sys::IndexOptInfo) -> Known {
    // SAFETY: the planner holds a lock on the index, so it opens without one. What lies in rd_amcache is ours,
    // one palloc'ed chunk, as the relcache demands.
    unsafe {
        let index = pg_sys::index_open(info.indexoid, pg_sys::NoLock as i32);
        let cached = (*index).rd_amcache.cast::<Known>();
        let known = match cached.as_ref() {
            // A tail is coded without many pages, and who opened it row by row is told nothing of it.
            Some(known) if info.pages <= known.pages + known.pages / 8 && known.rows_in_tail < LONG_TAIL => *known,
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
            is_rounded: meta.identity.precision != Precision::Float32,
            lists: meta.lists,
            rows_in_lists: meta.list_rows as f64,
            rows_in_l0: meta.l0_rows as f64,
            rows_in_tail: tail as f64,
        },
        Err(_) => Known {
            pages,
            dims: 1,
            is_rounded: false,
            lists: (f64::from(pages) / LIST_ROWS as f64) as u32,
            rows_in_lists: 0.0,
            rows_in_l0: 0.0,
            rows_in_tail: 0.0,
        },
    }
}
