//! Reloptions: `WITH (lists = …, storage_precision = …)`.

use std::cell::Cell;
use std::mem::offset_of;

use pgrx::pg_sys;
use pgrx::prelude::*;
use sealvec_core::format::Precision;

/// Most lists that a user may ask for.
const LISTS_MAX: i32 = 65_536;

/// What a user may set at CREATE INDEX. Both are read by a build: after ALTER INDEX … SET, REINDEX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Lists to cluster into; 0 = automatic.
    pub lists: u32,
    /// How vectors lie in the index.
    pub precision: Precision,
}

/// `rd_options` as Postgres fills it: a varlena.
#[repr(C)]
struct Parsed {
    vl_len: i32,
    lists: i32,
    precision: i32,
}

thread_local! {
    static KIND: Cell<pg_sys::relopt_kind::Type> = const { Cell::new(0) };
}

/// Registers the options; once per backend.
pub fn init() {
    // Enum members end with a null name; the array is read as long as the backend lives.
    let members = Box::leak(Box::new([
        pg_sys::relopt_enum_elt_def { string_val: c"float32".as_ptr(), symbol_val: Precision::Float32 as i32 },
        pg_sys::relopt_enum_elt_def { string_val: c"float16".as_ptr(), symbol_val: Precision::Float16 as i32 },
        pg_sys::relopt_enum_elt_def { string_val: std::ptr::null(), symbol_val: 0 },
    ]));
    // The options take effect when the index is next built, so no lock keeps anybody from anything.
    let lock = pg_sys::ShareUpdateExclusiveLock as pg_sys::LOCKMODE;
    // SAFETY: C strings and an array that live for the program; names are copied.
    unsafe {
        let kind = pg_sys::add_reloption_kind();
        KIND.set(kind);
        pg_sys::add_int_reloption(
            kind,
            c"lists".as_ptr(),
            c"Number of lists; 0 chooses by the number of rows.".as_ptr(),
            0,
            0,
            LISTS_MAX,
            lock,
        );
        pg_sys::add_enum_reloption(
            kind,
            c"storage_precision".as_ptr(),
            c"How vectors lie in the index: float32 or float16.".as_ptr(),
            members.as_mut_ptr(),
            Precision::Float32 as i32,
            c"Valid values are \"float32\" and \"float16\".".as_ptr(),
            lock,
        );
    }
}

/// Parses `pg_class.reloptions`.
#[pg_guard]
pub unsafe extern "C-unwind" fn amoptions(reloptions: pg_sys::Datum, validate: bool) -> *mut pg_sys::bytea {
    let element = |name: &'static std::ffi::CStr, kind, offset: usize| pg_sys::relopt_parse_elt {
        optname: name.as_ptr(),
        opttype: kind,
        offset: offset as i32,
        #[cfg(feature = "pg18")]
        isset_offset: 0,
    };
    use pg_sys::relopt_type::*;
    let elements = [
        element(c"lists", RELOPT_TYPE_INT, offset_of!(Parsed, lists)),
        element(c"storage_precision", RELOPT_TYPE_ENUM, offset_of!(Parsed, precision)),
    ];
    // SAFETY: called by Postgres with the Datum of a text[] or 0; the elements describe `Parsed`.
    unsafe {
        pg_sys::build_reloptions(
            reloptions,
            validate,
            KIND.get(),
            size_of::<Parsed>(),
            elements.as_ptr(),
            elements.len() as i32,
        )
        .cast()
    }
}

impl Options {
    /// Those of an index.
    ///
    /// # Safety
    /// `index` is an open `sealed_ivf` index.
    pub unsafe fn of(index: pg_sys::Relation) -> Self {
        // SAFETY: rd_options is null or what `amoptions` made.
        let parsed = unsafe { (*index).rd_options.cast::<Parsed>().as_ref() };
        parsed.map_or(Self { lists: 0, precision: Precision::Float32 }, |parsed| Self {
            lists: u32::try_from(parsed.lists).expect("the lower bound is 0"),
            precision: if parsed.precision == Precision::Float16 as i32 {
                Precision::Float16
            } else {
                Precision::Float32
            },
        })
    }
}
