//! SQL on the table of a collection, with the rights of whoever calls: plans kept per collection, cursors, and settings
//! that last as long as one of them.
//!
//! Not pgrx's client: it has no way to ask for a generic plan, and each custom plan costs what a whole query does.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::ptr;
use std::rc::Rc;

use pgrx::PgSqlErrorCode::ERRCODE_INTERNAL_ERROR;
use pgrx::{FromDatum, pg_sys};
use sealvec_core::format::Tid;
use sealvec_core::keys::Uuid;

use crate::error::SqlError;
use crate::index;

/// Plans kept at a time; when there are as many, all go.
const PLANS_MAX: usize = 256;

/// What a collection is asked.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Statement {
    Nearest,
    NearestWithDistance,
    Zeros,
    Everything,
    Fetch,
    FetchWithVector,
    Delete,
    Count,
    Upsert,
}

/// Whose plan: the types belong to it, because those of an extension that was dropped and made again are others.
type Asked = (Uuid, Statement, Vec<pg_sys::Oid>);

thread_local! {
    static PLANS: RefCell<HashMap<Asked, Rc<Plan>>> = RefCell::default();
}

/// A statement that Postgres keeps planned. Freed on drop; whoever executes it holds it.
struct Plan(pg_sys::SPIPlanPtr);

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: kept by `prepare`, freed once.
        unsafe { pg_sys::SPI_freeplan(self.0) };
    }
}

/// A connection to SPI; ends with it what it allocated.
pub struct Spi(());

/// Runs `f` inside a connection. Names and operators in our SQL are qualified: the search path is the caller's, as his
/// triggers expect. An ERROR leaves the connection to the end of the transaction, as SPI has it.
pub fn connect<R>(f: impl FnOnce(&mut Spi) -> Result<R, SqlError>) -> Result<R, SqlError> {
    // SAFETY: connects once, and finishes once below.
    check(unsafe { pg_sys::SPI_connect() })?;
    let result = f(&mut Spi(()));
    // SAFETY: as above.
    check(unsafe { pg_sys::SPI_finish() })?;
    result
}

impl Spi {
    /// Runs SQL without parameters that returns nothing of interest.
    pub fn run(&mut self, sql: &str) -> Result<(), SqlError> {
        let sql = c_string(sql);
        // SAFETY: a C string; inside a connection.
        check(unsafe { pg_sys::SPI_execute(sql.as_ptr(), false, 0) })
    }

    /// The first column of the one row that `sql` returns, given one parameter.
    pub fn one<T: FromDatum>(
        &mut self,
        sql: &str,
        parameter: (pg_sys::Oid, pg_sys::Datum),
    ) -> Result<Option<T>, SqlError> {
        Ok(self.select(sql, parameter, 1)?.rows().next().and_then(|row| row.get(1)))
    }

    /// The rows of an OID and an integer that `sql` returns, given one parameter.
    pub fn pairs(
        &mut self,
        sql: &str,
        parameter: (pg_sys::Oid, pg_sys::Datum),
    ) -> Result<Vec<(pg_sys::Oid, i32)>, SqlError> {
        Ok(self.select(sql, parameter, 0)?.rows().filter_map(|row| Some((row.get(1)?, row.get(2)?))).collect())
    }

    /// The rows that `sql` returns, given one parameter; at most `limit`, if it is not 0.
    pub fn select(
        &mut self,
        sql: &str,
        parameter: (pg_sys::Oid, pg_sys::Datum),
        limit: i64,
    ) -> Result<Fetched, SqlError> {
        let sql = c_string(sql);
        let (mut types, mut values) = ([parameter.0], [parameter.1]);
        let (types, values) = (types.as_mut_ptr(), values.as_mut_ptr());
        // SAFETY: one parameter, not null, of the type named. Not read-only: `sealvec.train` is asked this way.
        check(unsafe { pg_sys::SPI_execute_with_args(sql.as_ptr(), 1, types, values, ptr::null(), false, limit) })?;
        Ok(Fetched::take())
    }

    /// Executes a statement of the collection `uuid`; `sql` says what it is, and is asked for at first use. Returns
    /// the rows that it returned, and how many it concerned.
    pub fn execute(
        &mut self,
        uuid: Uuid,
        statement: Statement,
        sql: impl FnOnce(&mut Spi) -> Result<String, SqlError>,
        parameters: &[(pg_sys::Oid, pg_sys::Datum)],
        read_only: bool,
    ) -> Result<(Fetched, u64), SqlError> {
        let plan = plan(self, uuid, statement, sql, parameters)?;
        let mut values: Vec<pg_sys::Datum> = parameters.iter().map(|parameter| parameter.1).collect();
        // SAFETY: the plan takes these parameters, none of them null; it is kept until this returns, or an ERROR.
        check(unsafe { pg_sys::SPI_execute_plan(plan.0, values.as_mut_ptr(), ptr::null(), read_only, 0) })?;
        // SAFETY: set by the call before.
        let count = unsafe { pg_sys::SPI_processed };
        Ok((Fetched::take(), count))
    }

    /// Opens a cursor on a statement, as [`execute`](Self::execute).
    pub fn open(
        &mut self,
        uuid: Uuid,
        statement: Statement,
        sql: impl FnOnce(&mut Spi) -> Result<String, SqlError>,
        parameters: &[(pg_sys::Oid, pg_sys::Datum)],
    ) -> Result<Cursor, SqlError> {
        let plan = plan(self, uuid, statement, sql, parameters)?;
        let mut values: Vec<pg_sys::Datum> = parameters.iter().map(|parameter| parameter.1).collect();
        // SAFETY: as in `execute`; a cursor keeps the plan itself.
        let portal = unsafe { pg_sys::SPI_cursor_open(ptr::null(), plan.0, values.as_mut_ptr(), ptr::null(), true) };
        Ok(Cursor(portal))
    }
}

fn plan(
    spi: &mut Spi,
    uuid: Uuid,
    statement: Statement,
    sql: impl FnOnce(&mut Spi) -> Result<String, SqlError>,
    parameters: &[(pg_sys::Oid, pg_sys::Datum)],
) -> Result<Rc<Plan>, SqlError> {
    let mut types: Vec<pg_sys::Oid> = parameters.iter().map(|parameter| parameter.0).collect();
    let asked = (uuid, statement, types.clone());
    if let Some(plan) = PLANS.with_borrow(|plans| plans.get(&asked).cloned()) {
        return Ok(plan);
    }
    let sql = c_string(&sql(spi)?);
    let options = (pg_sys::CURSOR_OPT_GENERIC_PLAN | pg_sys::CURSOR_OPT_NO_SCROLL) as i32;
    // SAFETY: a C string and the parameters' types; a failure is an ERROR or null.
    let prepared = unsafe {
        let prepared = pg_sys::SPI_prepare_cursor(sql.as_ptr(), types.len() as i32, types.as_mut_ptr(), options);
        if prepared.is_null() {
            check(pg_sys::SPI_result)?;
            return Err(SqlError::new(ERRCODE_INTERNAL_ERROR, "SPI prepared nothing"));
        }
        check(pg_sys::SPI_keepplan(prepared))?;
        Rc::new(Plan(prepared))
    };
    let freed = PLANS.with_borrow_mut(|plans| {
        let freed = if plans.len() >= PLANS_MAX { std::mem::take(plans) } else { HashMap::new() };
        plans.insert(asked, prepared.clone());
        freed
    });
    drop(freed); // with nothing borrowed: what Postgres does then is its own affair
    Ok(prepared)
}

/// Rows that come one batch at a time. Closed on drop.
pub struct Cursor(pg_sys::Portal);

impl Cursor {
    /// The next rows, at most `count`; fewer are the last.
    pub fn fetch(&mut self, count: usize) -> Fetched {
        // SAFETY: the portal is open until `self` is dropped.
        unsafe { pg_sys::SPI_cursor_fetch(self.0, true, count as i64) };
        Fetched::take()
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: opened by `open`, closed once; when an ERROR is under way, abort closes it instead.
            unsafe { pg_sys::SPI_cursor_close(self.0) };
        }
    }
}

/// How many rows to fetch next: twice as many each time, as long as they are small.
pub struct Batch(usize);

impl Batch {
    const FIRST: usize = 64;
    const MAX: usize = 1_000;
    const BYTES_ENOUGH: usize = 4 << 20;

    /// For a first batch of which `likely` rows will be wanted.
    pub fn first(likely: usize) -> Self {
        Self(likely.clamp(1, Self::FIRST))
    }

    /// Rows of this batch.
    pub fn len(&self) -> usize {
        self.0
    }

    /// After a batch of so many bytes.
    pub fn next(&mut self, bytes: usize) {
        self.0 = if bytes < Self::BYTES_ENOUGH { (2 * self.0).min(Self::MAX) } else { (self.0 / 2).max(1) };
    }
}

/// Rows in memory. Freed on drop.
pub struct Fetched {
    table: *mut pg_sys::SPITupleTable,
    len: usize,
}

impl Fetched {
    /// What the last call left.
    fn take() -> Self {
        // SAFETY: both were set by the last call of SPI, inside a connection.
        unsafe {
            let table = (&raw mut pg_sys::SPI_tuptable).replace(ptr::null_mut());
            Self { table, len: if table.is_null() { 0 } else { (*table).numvals as usize } }
        }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Each row.
    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        (0..self.len).map(|place| Row { fetched: self, place })
    }
}

impl Drop for Fetched {
    fn drop(&mut self) {
        if !self.table.is_null() && !std::thread::panicking() {
            // SAFETY: made by SPI in this connection, which is not finished while anything fetched lives.
            unsafe { pg_sys::SPI_freetuptable(self.table) };
        }
    }
}

/// One of them.
pub struct Row<'a> {
    fetched: &'a Fetched,
    place: usize,
}

impl<'a> Row<'a> {
    /// Column `column`, from 1; `None` for NULL.
    pub fn datum(&self, column: i32) -> Option<pg_sys::Datum> {
        let mut is_null = false;
        // SAFETY: the table has this row and the statement this column.
        let datum = unsafe {
            let table = &*self.fetched.table;
            pg_sys::SPI_getbinval(*table.vals.add(self.place), table.tupdesc, column, &mut is_null)
        };
        (!is_null).then_some(datum)
    }

    /// As `T`.
    pub fn get<T: FromDatum>(&self, column: i32) -> Option<T> {
        // SAFETY: the caller asks for the type of the column.
        self.datum(column).and_then(|datum| unsafe { T::from_datum(datum, false) })
    }

    /// A TID column that is not NULL.
    pub fn tid(&self, column: i32) -> Tid {
        let datum = self.datum(column).expect("a row has a TID");
        // SAFETY: the caller asks for a column of type tid, whose Datum points to one in the row.
        unsafe { index::tid(datum.cast_mut_ptr()) }
    }

    /// A bytea column that is not NULL, without a copy unless it was stored out of line.
    pub fn bytes(&self, column: i32) -> &'a [u8] {
        let datum = self.datum(column).expect("a NOT NULL column");
        // SAFETY: a varlena of the row, or what detoasting makes of it in the memory of what was fetched; both live as
        // long as that.
        unsafe {
            let before = pg_sys::MemoryContextSwitchTo((*self.fetched.table).tuptabcxt);
            let varlena = pg_sys::pg_detoast_datum_packed(datum.cast_mut_ptr());
            pg_sys::MemoryContextSwitchTo(before);
            std::slice::from_raw_parts(pgrx::vardata_any(varlena).cast::<u8>(), pgrx::varsize_any_exhdr(varlena))
        }
    }
}

/// Settings that end with it, as those of a function's SET clause.
pub struct Settings(i32);

impl Settings {
    /// None yet.
    pub fn new() -> Self {
        // SAFETY: counts a level up; AtEOXact_GUC takes it back, here or at abort.
        Self(unsafe { pg_sys::NewGUCNestLevel() })
    }

    /// Sets one.
    pub fn set(&self, name: &CStr, value: &CStr) {
        // SAFETY: C strings; an ERROR for a value that is none.
        unsafe {
            pg_sys::set_config_option(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SAVE,
                true,
                0,
                false,
            );
        }
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: the level that `new` opened; when an ERROR is under way, abort takes it back.
            unsafe { pg_sys::AtEOXact_GUC(true, self.0) };
        }
    }
}

fn c_string(sql: &str) -> CString {
    CString::new(sql).expect("our SQL holds no zero byte")
}

fn check(status: i32) -> Result<(), SqlError> {
    match status >= 0 {
        true => Ok(()),
        false => Err(SqlError::new(ERRCODE_INTERNAL_ERROR, format!("SPI failed with {status}"))),
    }
}
