//! Parameters that Postgres must not print: sealvec's transport types, bound in binary.
//!
//! Their OIDs differ from database to database; `prepare` tells them, and a type is known by its name.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex};

use bytes::{BufMut, BytesMut};
use sealvec_core::transport::{Argument, NAME_LEN_MAX, SealedKey};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use zeroize::Zeroizing;

use crate::sealer::{Receiver, Sealer};

/// Where the extension's types live.
const SCHEMA: &str = "sealvec";

/// Bytes of a KEK.
pub const KEK_LEN: usize = 32;

type Written = Result<IsNull, Box<dyn Error + Sync + Send>>;

fn is_transport(ty: &Type, name: &str) -> bool {
    ty.schema() == SCHEMA && ty.name() == name
}

/// A caller's key. Not Clone; wiped on drop. No parameter of a statement: [`ShownKey`] is, which seals it.
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

/// `sealvec.kek`: a key, or none, as one call shows it. [`Pool::query_keyed`](crate::db::Pool::query_keyed) seals it
/// just before it is sent; before that it is no parameter.
pub struct ShownKey<'a> {
    key: Option<&'a Kek>,
    argument: Argument,
    index: &'a str,
    sealed: Mutex<Option<Arc<SealedKey>>>,
}

impl<'a> ShownKey<'a> {
    /// As `index_key` of a call about `index`.
    pub fn of_index(index: &'a str, key: Option<&'a Kek>) -> Self {
        Self::new(Argument::IndexKey, index, key)
    }

    /// As `user_key` of the call that makes the user.
    pub fn of_new_user(index: &'a str, key: &'a Kek) -> Self {
        Self::new(Argument::UserKey, index, Some(key))
    }

    fn new(argument: Argument, index: &'a str, key: Option<&'a Kek>) -> Self {
        Self { key, argument, index, sealed: Mutex::new(None) }
    }

    /// Whether there is a key to seal.
    pub fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// Seals it, or takes what `sealer` has sealed before.
    pub fn seal(&self, sealer: &Sealer, to: &Receiver) {
        let Some(key) = self.key else { return };
        let sealed = sealer.seal(to, self.argument, self.index, key);
        *self.sealed.lock().expect("no thread panics here") = sealed;
    }
}

impl fmt::Debug for ShownKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ShownKey([redacted])")
    }
}

impl ToSql for ShownKey<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Written {
        if self.key.is_none() {
            return Ok(IsNull::Yes);
        }
        match &*self.sealed.lock().expect("no thread panics here") {
            Some(sealed) => out.put_slice(sealed.as_bytes()),
            None if self.index.len() > NAME_LEN_MAX => return Ok(IsNull::Yes), // no index has such a name: that is the answer
            None => return Err("a key is sent sealed or not at all".into()),
        }
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
    use sealvec_core::transport::{Binding, TransportKey};
    use tokio_postgres::types::Kind;

    use super::*;

    fn ty(schema: &str, name: &str) -> Type {
        Type::new(name.to_owned(), 100_000, Kind::Simple, schema.to_owned())
    }

    #[test]
    fn a_type_is_known_by_name_and_schema() {
        assert!(<ShownKey<'_> as ToSql>::accepts(&ty("sealvec", "kek")));
        assert!(<Payload<'_> as ToSql>::accepts(&ty("sealvec", "payload")));
        assert!(<Vectors<'_> as ToSql>::accepts(&ty("sealvec", "vectors")));
        for other in [ty("public", "kek"), ty("sealvec", "payload"), Type::BYTEA, Type::TEXT] {
            assert!(!<ShownKey<'_> as ToSql>::accepts(&other));
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
    }

    #[test]
    fn a_key_is_sent_sealed_or_not_at_all() {
        let (kek, kek_type) = (Kek::new(&[7; KEK_LEN]), ty("sealvec", "kek"));
        let mut out = BytesMut::new();
        assert!(matches!(ShownKey::of_index("notes", None).to_sql(&kek_type, &mut out), Ok(IsNull::Yes)));
        let shown = ShownKey::of_index("notes", Some(&kek));
        assert!(shown.to_sql(&kek_type, &mut out).is_err());
        assert!(out.is_empty());

        let key = TransportKey::generate().unwrap();
        let receiver = Receiver::new(key.public(), "app".into(), "me".into(), std::time::Duration::MAX);
        shown.seal(&Sealer::default(), &receiver);
        shown.to_sql(&kek_type, &mut out).unwrap();
        assert!(!out.windows(8).any(|bytes| bytes == [7; 8]));
        let sealed = SealedKey::read(&out).expect("a sealed key").unwrap();
        let binding = Binding { database: "app", role: "me", name: "notes", argument: Argument::IndexKey };
        assert_eq!(**key.open(&binding, &sealed).unwrap(), [7; KEK_LEN]);
    }

    #[test]
    fn nothing_of_them_is_shown() {
        let payloads = [Some(Payload::text("secret text")), None, Some(Payload::owned("secret text"))];
        let shown = format!("{:?} {:?} {:?}", Kek::new(&[171; 32]), payloads, Vectors::bytes(b"secret text"));
        assert!(!shown.contains("secret") && !shown.contains("171") && !shown.contains("ab"), "{shown}");
        // What tokio-postgres would print of a statement's parameters.
        let kek = Kek::new(&[171; 32]);
        let params: [&(dyn ToSql + Sync); 2] = [&ShownKey::of_index("notes", Some(&kek)), &&payloads[..]];
        assert!(!format!("{params:?}").contains("171"));
    }
}
