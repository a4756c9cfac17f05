//! Input and output. Elements come in and are sealed at once; only sealed bytes go out.

use std::ffi::CString;

use pgrx::datum::Internal;
use pgrx::pg_sys;
use pgrx::prelude::*;
use sealvec_core::format::binary::Binary;
use sealvec_core::format::text;
use sealvec_core::format::value::ValueHeader;

use super::varlena::{InputText, SealedDatum, Value};
use super::{array, coerce, errors, seal, soft, typmod};
use crate::error::{OrRaise, SqlError};

/// Text input: elements, or the sealed text that [`sealvec_out`] prints.
#[pg_extern(sql = false)]
fn sealvec_in(
    mut input: InputText<'_>,
    _type: pg_sys::Oid,
    typmod: i32,
    call: pg_sys::FunctionCallInfo,
) -> SealedDatum {
    match read_text(input.bytes(), typmod) {
        Ok(sealed) => SealedDatum::new(&sealed),
        Err(error) => {
            // COPY and Bind quote what they passed in the context of an error, and the log keeps that.
            input.blank_digits();
            soft::tell(error, call)
        }
    }
}

/// Text output: always sealed, always valid input.
#[pg_extern(sql = false)]
fn sealvec_out(value: Value<'_>) -> CString {
    CString::new(text::encode_sealed(value.bytes())).expect("base64 holds no zero byte")
}

/// Binary input: what [`sealvec_send`] wrote, pgvector's layout, or a `float4[]` or `float8[]` that nobody cast.
#[pg_extern(sql = false)]
fn sealvec_recv(mut message: Internal, _type: pg_sys::Oid, typmod: i32) -> SealedDatum {
    // SAFETY: Postgres passes a StringInfo with the rest of the message to every receive function, and
    // wants its cursor at the end.
    let bytes = unsafe {
        let message = message.get_mut::<pg_sys::StringInfoData>().expect("receive functions are strict");
        let (start, len) = (message.cursor as usize, message.len as usize);
        message.cursor = message.len;
        std::slice::from_raw_parts(message.data.cast::<u8>(), len).get(start..).unwrap_or_default()
    };
    SealedDatum::new(&read_binary(bytes, typmod).or_raise())
}

/// Binary output: the sealed bytes.
#[pg_extern(sql = false)]
fn sealvec_send(value: Value<'_>) -> Vec<u8> {
    value.bytes().to_vec()
}

/// `typanalyze`: no statistics. ANALYZE could store nothing but sealed values, which are all different.
#[pg_extern(sql = false)]
fn sealvec_typanalyze(_stats: Internal) -> bool {
    false
}

fn read_text(input: &[u8], typmod: i32) -> Result<Vec<u8>, SqlError> {
    let typmod = typmod::decode(typmod)?;
    if text::is_sealed(input) {
        let sealed = text::decode_sealed(input).map_err(|_| errors::malformed(false))?;
        let header = ValueHeader::decode(&sealed).map_err(|error| errors::header(error, false))?;
        return coerce::accept(&header, sealed, typmod);
    }
    // An element takes two bytes at least: a digit and what ends it.
    seal::with_room(input.len() / 2 + 1, |room| {
        let elements = text::parse(input, room).map_err(errors::text)?;
        seal::seal(typmod, elements)
    })
}

fn read_binary(bytes: &[u8], typmod: i32) -> Result<Vec<u8>, SqlError> {
    let typmod = typmod::decode(typmod)?;
    match Binary::read(bytes).map_err(|error| errors::header(error, true))? {
        Binary::Sealed(header, sealed) => coerce::accept(&header, sealed.to_vec(), typmod),
        Binary::Elements(elements) => {
            let checked = (1..).zip(elements.iter()).map(|(place, e)| e.ok_or_else(|| errors::out_of_range(place)));
            array::seal_elements(typmod, elements.count(), checked)
        }
        Binary::Shape(0) => Err(errors::empty()),
        Binary::Shape(dimensions) => Err(errors::not_flat(dimensions)),
        Binary::Null => Err(errors::null_element()),
    }
}
