//! Parameters that Postgres must not print: sealvec's transport types, bound in binary.
//!
//! Their OIDs differ from database to database; `prepare` tells them, and a type is known by its name.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use zeroize::Zeroizing;

/// Where the extension's types live.
const SCHEMA: &str = "sealvec";

/// Bytes of a KEK.
pub const KEK_LEN: usize = 32;

type Written = Result<IsNull, Box<dyn Error + Sync + Send>>;

fn is_transport(ty: &Type, name: &str) -> bool {
    ty.schema() == SCHEMA && ty.name() == name
}

/// `sealvec.kek`: a caller's key. Not Clone; wiped on drop.
pub struct Kek(Zeroizing<[u8; KEK_LEN]>);

impl Kek {
    /// Copies a key.
    pub fn new(bytes: &[u8; KEK_LEN]) -> Self {
        Self(Zeroizing::new(*bytes))
    }

    /// The key itself.
    pub fn expose(&self) -> &[u8; KEK_LEN] {
        &self.0
    }
}

impl fmt::Debug for Kek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kek([redacted])")
    }
}

impl ToSql for Kek {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Written {
        out.put_slice(&self.0[..]);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        is_transport(ty, "kek")
    }

    to_sql_checked!();
}

/// `sealvec.payload`: a text or JSON that is the caller's affair. An array of them is a slice or `Vec`, with
/// `None` for an absent element.
#[derive(Clone)]
pub struct Payload<'a>(Cow<'a, [u8]>);

impl<'a> Payload<'a> {
    /// Of a text that lives elsewhere.
    pub fn text(text: &'a str) -> Self {
        Self(Cow::Borrowed(text.as_bytes()))
    }

    /// Of UTF-8 that was made for the call.
    pub fn owned(text: impl Into<Vec<u8>>) -> Payload<'static> {
        Payload(Cow::Owned(text.into()))
    }
}

impl fmt::Debug for Payload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Payload([redacted])")
    }
}

impl ToSql for Payload<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Written {
        out.put_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        is_transport(ty, "payload")
    }

    to_sql_checked!();
}

/// `sealvec.vectors`: float32, little-endian, row-major, without a header.
#[derive(Clone)]
pub struct Vectors<'a>(Cow<'a, [u8]>);

impl<'a> Vectors<'a> {
    /// Of bytes that are in this form already.
    pub fn bytes(bytes: &'a [u8]) -> Self {
        Self(Cow::Borrowed(bytes))
    }

    /// Of floats.
    pub fn floats(floats: &[f32]) -> Vectors<'static> {
        Vectors(Cow::Owned(floats.iter().flat_map(|x| x.to_le_bytes()).collect()))
    }
}

impl fmt::Debug for Vectors<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vectors([redacted])")
    }
}

impl ToSql for Vectors<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Written {
        out.put_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        is_transport(ty, "vectors")
    }

    to_sql_checked!();
}

/// A result of type `json`, as the text that it is.
pub struct JsonText(pub Box<serde_json::value::RawValue>);

impl<'a> FromSql<'a> for JsonText {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(serde_json::from_slice(raw)?))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::JSON
    }
}

#[cfg(test)]
mod tests {
    use tokio_postgres::types::Kind;

    use super::*;

    fn ty(schema: &str, name: &str) -> Type {
        Type::new(name.to_owned(), 100_000, Kind::Simple, schema.to_owned())
    }

    #[test]
    fn a_type_is_known_by_name_and_schema() {
        assert!(<Kek as ToSql>::accepts(&ty("sealvec", "kek")));
        assert!(<Payload<'_> as ToSql>::accepts(&ty("sealvec", "payload")));
        assert!(<Vectors<'_> as ToSql>::accepts(&ty("sealvec", "vectors")));
        for other in [ty("public", "kek"), ty("sealvec", "payload"), Type::BYTEA, Type::TEXT] {
            assert!(!<Kek as ToSql>::accepts(&other));
        }
        let array = Type::new("_payload".into(), 1, Kind::Array(ty("sealvec", "payload")), "sealvec".into());
        assert!(<&[Option<Payload<'_>>] as ToSql>::accepts(&array));
        assert!(!<&[Option<Payload<'_>>] as ToSql>::accepts(&Type::BYTEA_ARRAY));
    }

    #[test]
    fn bytes_are_as_the_contract_says() {
        let mut out = BytesMut::new();
        Vectors::floats(&[1.0, -0.5]).to_sql(&ty("sealvec", "vectors"), &mut out).unwrap();
        assert_eq!(&out[..], [0, 0, 0x80, 0x3f, 0, 0, 0, 0xbf]);
        let mut out = BytesMut::new();
        Kek::new(&[7; KEK_LEN]).to_sql(&ty("sealvec", "kek"), &mut out).unwrap();
        assert_eq!(&out[..], [7; KEK_LEN]);
    }

    #[test]
    fn nothing_of_them_is_shown() {
        let payloads = [Some(Payload::text("secret text")), None, Some(Payload::owned("secret text"))];
        let shown = format!("{:?} {:?} {:?}", Kek::new(&[171; 32]), payloads, Vectors::bytes(b"secret text"));
        assert!(!shown.contains("secret") && !shown.contains("171") && !shown.contains("ab"), "{shown}");
        // What tokio-postgres would print of a statement's parameters.
        let params: [&(dyn ToSql + Sync); 2] = [&Kek::new(&[171; 32]), &&payloads[..]];
        assert!(!format!("{params:?}").contains("171"));
    }
}
