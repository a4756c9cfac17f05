//! One indexed value: checked against the index, then opened or taken as it is.

use pgrx::PgSqlErrorCode::*;
use pgrx::pg_sys;
use sealvec_core::format::Tid;
use sealvec_core::format::meta::Identity;
use sealvec_core::format::value::{ValueHeader, ValueKind};

use crate::datatype::{self, Value, errors, typmod};
use crate::error::SqlError;

/// A non-null Datum of the indexed column, detoasted for as long as this lives.
pub struct SealedValue {
    original: *mut pg_sys::varlena,
    detoasted: *mut pg_sys::varlena,
}

impl SealedValue {
    /// Detoasts `datum`.
    ///
    /// # Safety
    /// `datum` is a non-null `sealvec` that outlives the result.
    pub unsafe fn new(datum: pg_sys::Datum) -> Self {
        let original = datum.cast_mut_ptr::<pg_sys::varlena>();
        // SAFETY: the caller's duty.
        let detoasted = unsafe { pg_sys::pg_detoast_datum_packed(original) };
        Self { original, detoasted }
    }

    /// The sealed bytes, without the varlena header.
    pub fn bytes(&self) -> &[u8] {
        self.value().bytes()
    }

    /// Checks that the value belongs into an index of this identity. Needs no key.
    pub fn check(&self, identity: &Identity) -> Result<(), SqlError> {
        let header = ValueHeader::decode(self.bytes())?;
        if header.kind() != ValueKind::Column {
            return Err(SqlError::new(ERRCODE_DATA_EXCEPTION, "a vector that has met no column can't be indexed")
                .hint("Declare the column as sealvec(dims, ring)."));
        }
        if header.ring() != identity.ring {
            return Err(errors::other_ring(&typmod::ring_name(identity.ring), &typmod::ring_name(header.ring())));
        }
        if header.dims() != usize::from(identity.dims) {
            return Err(errors::wrong_dims(identity.dims.into(), header.dims()));
        }
        Ok(())
    }

    /// Runs `f` on the elements, which are wiped afterwards.
    pub fn with_vector<R>(&self, f: impl FnOnce(&[f32]) -> R) -> Result<R, SqlError> {
        datatype::with_vector(self.value(), f)
    }

    /// As [`with_vector`](Self::with_vector), to write them into the index.
    pub fn with_vector_to_store<R>(&self, f: impl FnOnce(&[f32]) -> R) -> Result<R, SqlError> {
        datatype::with_vector_to_store(self.value(), f)
    }

    fn value(&self) -> Value<'_> {
        // SAFETY: a detoasted sealvec that lives as long as `self`.
        unsafe { Value::from_datum(pg_sys::Datum::from(self.detoasted)) }
    }
}

impl Drop for SealedValue {
    fn drop(&mut self) {
        // While an ERROR unwinds its memory context frees the copy.
        if self.detoasted != self.original && !std::thread::panicking() {
            // SAFETY: palloc'ed by `new`.
            unsafe { pg_sys::pfree(self.detoasted.cast()) }
        }
    }
}

/// The TID that Postgres means.
///
/// # Safety
/// `tid` points to a valid item pointer.
pub unsafe fn tid(tid: pg_sys::ItemPointer) -> Tid {
    // SAFETY: the caller's duty.
    let (block, offset) = pgrx::itemptr::item_pointer_get_both(unsafe { *tid });
    Tid { block, offset }
}

/// The item pointer of `tid`.
pub fn item_pointer(tid: Tid) -> pg_sys::ItemPointerData {
    let mut pointer = pg_sys::ItemPointerData::default();
    pgrx::itemptr::item_pointer_set_all(&mut pointer, tid.block, tid.offset);
    pointer
}
