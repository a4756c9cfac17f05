//! Datums of type `sealvec` on their way in and out of SQL functions.

use std::marker::PhantomData;

use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::pg_sys;
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};

/// An argument of type `sealvec`, detoasted.
#[derive(Clone, Copy)]
pub struct Value<'fcx> {
    datum: pg_sys::Datum,
    bytes: &'fcx [u8],
}

impl<'fcx> Value<'fcx> {
    /// The value behind `datum`.
    ///
    /// # Safety
    /// `datum` is a non-null Datum of type `sealvec` that outlives `'fcx`, and so does the current memory context.
    pub unsafe fn from_datum(datum: pg_sys::Datum) -> Self {
        // SAFETY: the caller's duty. A packed varlena has its payload at vardata_any, unaligned, of
        // varsize_any_exhdr bytes.
        let bytes = unsafe {
            let mut varlena = datum.cast_mut_ptr::<pg_sys::varlena>();
            // Most values are as they should be; the guarded call costs more than it does for them.
            if pgrx::varlena::varatt_is_4b_c(varlena) || pgrx::varlena::varatt_is_1b_e(varlena) {
                varlena = pg_sys::pg_detoast_datum_packed(varlena);
            }
            std::slice::from_raw_parts(pgrx::vardata_any(varlena).cast::<u8>(), pgrx::varsize_any_exhdr(varlena))
        };
        Self { datum, bytes }
    }

    /// The sealed bytes, without the varlena header.
    pub fn bytes(&self) -> &'fcx [u8] {
        self.bytes
    }
}

/// A result of type `sealvec`.
pub struct SealedDatum(pg_sys::Datum);

impl SealedDatum {
    /// A new Datum with these sealed bytes, in the current memory context.
    pub fn new(bytes: &[u8]) -> Self {
        let size = bytes.len() + pg_sys::VARHDRSZ;
        let header = i32::try_from(size).expect("a sealed value has at most 64 kB");
        // SAFETY: palloc returns `size` aligned bytes or does not return.
        unsafe {
            let varlena = pg_sys::palloc(size).cast::<pg_sys::varlena>();
            pgrx::set_varsize_4b(varlena, header);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), varlena.cast::<u8>().add(pg_sys::VARHDRSZ), bytes.len());
            Self(pg_sys::Datum::from(varlena))
        }
    }
}

impl SealedDatum {
    /// The Datum itself.
    pub fn datum(&self) -> pg_sys::Datum {
        self.0
    }

    /// What an input function returns after a soft error.
    pub fn ignored() -> Self {
        Self(pg_sys::Datum::from(0))
    }
}

impl From<Value<'_>> for SealedDatum {
    /// The argument as it came, toasted or not.
    fn from(value: Value<'_>) -> Self {
        Self(value.datum)
    }
}

/// A result of type `real[]`.
pub struct RealArray(pg_sys::Datum);

impl RealArray {
    /// A new array of these elements, in the current memory context. No copy is made on the way.
    pub fn new(elements: &[f32]) -> Self {
        // ArrayType, one length and one lower bound.
        const HEADER: usize = size_of::<pg_sys::ArrayType>() + 2 * size_of::<i32>();
        let size = HEADER + size_of_val(elements);
        let varsize = i32::try_from(size).expect("a vector has at most 64 kB");
        // SAFETY: palloc returns `size` aligned bytes or does not return; the header is written in full.
        unsafe {
            let array = pg_sys::palloc(size).cast::<pg_sys::ArrayType>();
            pgrx::set_varsize_4b(array.cast(), varsize);
            (*array).ndim = 1;
            (*array).dataoffset = 0; // no NULLs
            (*array).elemtype = pg_sys::FLOAT4OID;
            let bounds = array.add(1).cast::<i32>();
            *bounds = elements.len() as i32;
            *bounds.add(1) = 1;
            std::ptr::copy_nonoverlapping(elements.as_ptr(), bounds.add(2).cast(), elements.len());
            Self(pg_sys::Datum::from(array))
        }
    }

    /// The Datum itself.
    pub fn datum(&self) -> pg_sys::Datum {
        self.0
    }
}

/// The text that an input function is given.
///
/// Postgres passes a private, writable, zero-terminated copy: COPY's attribute buffer, the message
/// buffer of Bind, the string of the lexer or of an output function.
pub struct InputText<'fcx>(&'fcx mut [u8]);

impl InputText<'_> {
    /// The text without its final zero.
    pub fn bytes(&self) -> &[u8] {
        self.0
    }

    /// Overwrites the digits, so that no error context can quote them.
    pub fn blank_digits(&mut self) {
        self.0.iter_mut().filter(|b| b.is_ascii_digit()).for_each(|b| *b = b'#');
    }
}

/// An argument of any array type, detoasted.
pub struct ArrayArg<'fcx> {
    pub(super) array: std::ptr::NonNull<pg_sys::ArrayType>,
    life: PhantomData<&'fcx ()>,
}

impl ArrayArg<'_> {
    /// As Postgres holds it; good as long as `self`.
    pub fn as_ptr(&self) -> *mut pg_sys::ArrayType {
        self.array.as_ptr()
    }

    /// All of it, headers too, but for the length.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: detoasted, so its length stands in front, in four bytes; it lives as long as `self`.
        unsafe {
            let varlena = self.array.as_ptr().cast::<pg_sys::varlena>();
            std::slice::from_raw_parts(pgrx::vardata_any(varlena).cast::<u8>(), pgrx::varsize_any_exhdr(varlena))
        }
    }
}

// SAFETY: a strict function is called with a Datum of its declared type, `sealvec`, which lives as long as the call.
unsafe impl<'fcx> ArgAbi<'fcx> for Value<'fcx> {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: as above.
        unsafe {
            let datum = arg.unbox_arg_using_from_datum::<pg_sys::Datum>().expect("the function is strict");
            Self::from_datum(datum)
        }
    }
}

// SAFETY: a strict input function is called with a C string as described at the type; nobody else uses it during the call.
unsafe impl<'fcx> ArgAbi<'fcx> for InputText<'fcx> {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: as above.
        unsafe {
            let datum = arg.unbox_arg_using_from_datum::<pg_sys::Datum>().expect("the function is strict");
            let text = datum.cast_mut_ptr::<std::ffi::c_char>();
            Self(std::slice::from_raw_parts_mut(text.cast::<u8>(), libc::strlen(text)))
        }
    }
}

// SAFETY: a strict function is called with a Datum of its declared type, an array, which lives as long as the call.
unsafe impl<'fcx> ArgAbi<'fcx> for ArrayArg<'fcx> {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: as above; detoasting an array gives an aligned ArrayType.
        let array = unsafe {
            let datum = arg.unbox_arg_using_from_datum::<pg_sys::Datum>().expect("the function is strict");
            pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast::<pg_sys::ArrayType>()
        };
        Self { array: std::ptr::NonNull::new(array).expect("detoasting returns a varlena"), life: PhantomData }
    }
}

// SAFETY: the Datum was made by `new`, or is an argument of this very call.
unsafe impl BoxRet for SealedDatum {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> pgrx::datum::Datum<'fcx> {
        // SAFETY: as above.
        unsafe { fcinfo.return_raw_datum(self.0) }
    }
}

// SAFETY: the Datum was made by `new`.
unsafe impl BoxRet for RealArray {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> pgrx::datum::Datum<'fcx> {
        // SAFETY: as above.
        unsafe { fcinfo.return_raw_datum(self.0) }
    }
}

/// pgrx wants to know each type's SQL name, although our SQL is written by hand.
macro_rules! sql_name {
    ($type:ty, $name:literal) => {
        // SAFETY: only names; nothing reads them while `sql = false`.
        unsafe impl SqlTranslatable for $type {
            const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!($type);
            const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
            const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> = Ok(SqlMappingRef::literal($name));
            const RETURN_SQL: Result<ReturnsRef, ReturnsError> = Ok(ReturnsRef::One(SqlMappingRef::literal($name)));
        }
    };
}
sql_name!(Value<'_>, "sealvec");
sql_name!(InputText<'_>, "cstring");
sql_name!(SealedDatum, "sealvec");
sql_name!(RealArray, "real[]");
sql_name!(ArrayArg<'_>, "anyarray");
