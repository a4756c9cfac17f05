//! Items and tokens of one collection, sealed and opened during one call.
//!
//! The derived keys live as long as the call; whether they may still be used is looked at for each item, so that a ring
//! that is closed meanwhile ends the call.

use pgrx::pg_sys;
use sealvec_core::Error;
use sealvec_core::crypto::XaesKey;
use sealvec_core::item::{self, IdToken, Item, ItemHeader, OpenItem, TokenKey};
use sealvec_core::keys::{IdKey, Uuid};
use zeroize::Zeroizing;

use super::registry::Collection;
use super::rows::{RESULT_BYTES_MAX, too_large};
use crate::error::SqlError;
use crate::keys::{self, Right};

/// What seals, opens and names the items of a collection. Wiped on drop.
pub struct ItemKeys {
    ring: u32,
    ring_uuid: Uuid,
    tokens: TokenKey,
    /// By DEK version.
    items: Vec<(u32, XaesKey)>,
}

impl ItemKeys {
    /// Of a collection whose ring is open.
    pub fn new(collection: &Collection) -> Result<Self, SqlError> {
        Self::of_ring(collection.ring)
    }

    /// Of the collection that has this ring, which is open.
    pub fn of_ring(ring: u32) -> Result<Self, SqlError> {
        let made = keys::with_keys(ring, None, Right::Either, |dek, id_key, ring| {
            let tokens = TokenKey::new(&IdKey::from_slice(id_key)?, &ring.uuid);
            let items = vec![(dek.version(), dek.item_key(&ring.uuid))];
            Ok::<_, Error>(Self { ring: ring.number, ring_uuid: ring.uuid, tokens, items })
        })?;
        Ok(made?)
    }

    /// The token of an id.
    pub fn token(&self, id: &str) -> IdToken {
        self.tokens.token(id)
    }

    /// Seals an item under the ring's current DEK.
    pub fn seal(&mut self, token: &IdToken, item: &Item<'_>) -> Result<pg_sys::Datum, SqlError> {
        let version = keys::with_dek(self.ring, None, Right::Write, |dek, _| dek.version())?;
        let (header, len) = (ItemHeader::new(&self.ring_uuid, version), item::sealed_len(item)?);
        let ring = self.ring_uuid;
        let key = self.key(version)?;
        // SAFETY: palloc returns as many aligned bytes or does not return; all of them are written.
        unsafe {
            let varlena = pg_sys::palloc(len + pg_sys::VARHDRSZ).cast::<pg_sys::varlena>();
            pgrx::set_varsize_4b(varlena, (len + pg_sys::VARHDRSZ) as i32);
            let out = std::slice::from_raw_parts_mut(varlena.cast::<u8>().add(pg_sys::VARHDRSZ), len);
            item::seal_item_into(key, &header, &ring, token, item, out)?;
            Ok(pg_sys::Datum::from(varlena))
        }
    }

    /// Opens the item of the row with this token.
    pub fn open(&mut self, token: &[u8], sealed: &[u8]) -> Result<OpenItem, SqlError> {
        let token = token.try_into().map_err(|_| Error::Malformed { what: "token of an id" })?;
        let (version, ring) = (ItemHeader::decode(sealed)?.dek_version(), self.ring_uuid);
        keys::with_dek(self.ring, Some(version), Right::Either, |_, _| ())?;
        item::open_item(self.key(version)?, &ring, token, sealed).map_err(|error| match error {
            Error::Open => SqlError::from(error)
                .detail(format!("An item's bytes are not those that were sealed for its row, whose id_token is {}.", Hex(token)))
                .hint("Bring the row back from a backup, or delete it by its token if it was never an item: who may INSERT into the table can store anything."),
            other => other.into(),
        })
    }

    /// The item of the row with this token sealed anew under the ring's newest DEK; `None` if it is so already, or is of a
    /// DEK that the ring has no more.
    pub fn reseal(&mut self, token: &[u8], sealed: &[u8]) -> Result<Option<Vec<u8>>, SqlError> {
        let token = token.try_into().map_err(|_| Error::Malformed { what: "token of an id" })?;
        let old = ItemHeader::decode(sealed)?.dek_version();
        let (newest, is_known) = keys::with_dek(self.ring, None, Right::Write, |dek, ring| {
            (dek.version(), ring.versions.binary_search(&old).is_ok())
        })?;
        if old >= newest || !is_known {
            return Ok(None);
        }
        self.key(old)?;
        self.key(newest)?;
        let key = |version| &self.items.iter().find(|(known, _)| *known == version).expect("derived above").1;
        let header = ItemHeader::new(&self.ring_uuid, newest);
        Ok(Some(item::reseal_item(key(old), key(newest), &header, &self.ring_uuid, token, sealed)?))
    }

    fn key(&mut self, version: u32) -> Result<&XaesKey, SqlError> {
        let place = match self.items.iter().position(|(known, _)| *known == version) {
            Some(place) => place,
            None => {
                let key =
                    keys::with_dek(self.ring, Some(version), Right::Either, |dek, ring| dek.item_key(&ring.uuid))?;
                self.items.push((version, key));
                self.items.len() - 1
            }
        };
        Ok(&self.items[place].1)
    }
}

/// What a result keeps of an item while it is put in order: not its contents, which may be long. Wiped on drop.
pub struct Told {
    pub id: Zeroizing<String>,
    pub metadata: Option<Zeroizing<String>>,
}

impl Told {
    /// Of an item; its metadata only if it is asked for.
    pub fn of(item: &OpenItem, metadata: bool) -> Self {
        let metadata = item.metadata().filter(|_| metadata).map(|json| Zeroizing::new(json.text().to_owned()));
        Self { id: Zeroizing::new(item.id().to_owned()), metadata }
    }
}

/// Counts what is kept of items: no call keeps more than [`RESULT_BYTES_MAX`].
#[derive(Default)]
pub struct Kept(usize);

impl Kept {
    /// Counts one more.
    ///
    /// # Errors
    /// 54000 above the limit.
    pub fn count(&mut self, told: &Told) -> Result<(), SqlError> {
        self.0 += told.id.len() + told.metadata.as_ref().map_or(0, |metadata| metadata.len());
        if self.0 > RESULT_BYTES_MAX { Err(too_large()) } else { Ok(()) }
    }
}

/// A token as SQL writes bytea: it is public.
struct Hex<'a>(&'a IdToken);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("\\x")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
