//! An array that one place of a statement casts again for every row, such as a bound query vector: sealed once.
//!
//! Postgres does not fold a stable cast of a parameter: it runs for each row that a scan compares. What the cast made
//! the last time is given again if its array is the same, bit by bit. The same place and the same execution only (in
//! PL/pgSQL, whose expressions last as long, the same transaction), so that statements of different places, sessions or
//! transactions do not show by equal bytes that they asked for the same vector. Without a column only: what is stored is sealed anew each time.

use std::cell::Cell;

use pgrx::pg_sys;
use zeroize::Zeroizing;

use super::array;
use super::varlena::{ArrayArg, SealedDatum};
use crate::error::SqlError;
use crate::keys;

/// Places kept at once. A statement that compares with more vectors at a time seals them in turns.
const PLACES: usize = 4;
/// A longer array is sealed each time.
const BYTES_MAX: usize = 1 << 17;

/// What one place casts.
#[derive(Default)]
struct Cast {
    /// 0 for none.
    place: usize,
    array: Zeroizing<Vec<u8>>,
    sealed: Vec<u8>,
}

#[derive(Default)]
struct Casts {
    kept: [Cast; PLACES],
    /// The one that goes next.
    oldest: usize,
}

thread_local! {
    static CASTS: Cell<Option<Box<Casts>>> = const { Cell::new(None) };
    /// Number of the place that was met last.
    static MET: Cell<usize> = const { Cell::new(0) };
}

/// Seals `array` for the session, or gives again what this place of the statement got for the same array.
pub fn seal(array: &ArrayArg<'_>, call: pg_sys::FunctionCallInfo) -> Result<SealedDatum, SqlError> {
    let bytes = array.bytes();
    let Some(place) = place(call).filter(|_| bytes.len() <= BYTES_MAX) else {
        return Ok(SealedDatum::new(&array::seal_array(None, array)?));
    };
    let before = keys::closings();
    let mut casts = CASTS.take().unwrap_or_default();
    let sealed = casts.seal(place, bytes, || array::seal_array(None, array)).map(SealedDatum::new);
    // What closes a ring or drops the session's key wipes what it finds, and would not have found these.
    if sealed.is_ok() && keys::closings() == before {
        CASTS.set(Some(casts));
    }
    sealed
}

impl Casts {
    fn seal(
        &mut self,
        place: usize,
        array: &[u8],
        seal: impl FnOnce() -> Result<Vec<u8>, SqlError>,
    ) -> Result<&[u8], SqlError> {
        let at = self.kept.iter().position(|cast| cast.place == place).unwrap_or_else(|| {
            self.oldest = (self.oldest + 1) % PLACES;
            self.oldest
        });
        let cast = &mut self.kept[at];
        if cast.place != place || *cast.array != array {
            cast.place = 0; // nothing is kept if this fails
            cast.sealed = seal()?;
            if cast.array.capacity() < array.len() {
                cast.array = Zeroizing::new(Vec::with_capacity(array.len())); // never regrown: no copy is left behind
            }
            cast.array.clear();
            cast.array.extend_from_slice(array);
            cast.place = place;
        }
        Ok(&cast.sealed)
    }
}

/// Number of the place in the statement under way that calls, from its second call on: most cast once.
///
/// It stands in the call's own `fn_extra`, which begins empty with each execution of the statement.
fn place(call: pg_sys::FunctionCallInfo) -> Option<usize> {
    // SAFETY: Postgres calls a function with a valid call, whose function is null or lives as long as the expression;
    // `fn_extra` is the function's own, and nobody follows it.
    let extra = unsafe { &mut (*call).flinfo.as_mut()?.fn_extra };
    if extra.is_null() {
        MET.set(MET.get() + 1);
        *extra = std::ptr::without_provenance_mut(MET.get());
        return None;
    }
    Some(extra.addr())
}

/// Wipes what is kept. Allocates nothing, asks nobody.
pub fn forget() {
    let _ = CASTS.try_with(|casts| drop(casts.take())); // wiped by Zeroizing
}
