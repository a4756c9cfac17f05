//! A key ring: one KEK, its DEKs by version, its id key, and the commitment that tells a wrong KEK.

use zeroize::Zeroizing;

use super::envelope::{Envelope, Reader};
use super::provider::{KekProvider, KeyContext, Purpose};
use super::{DekBytes, IdKey, Kek, Uuid};
use crate::crypto::KEY_LEN;
use crate::crypto::commit::Commitment;
use crate::crypto::kdf::{Deriver, Label};
use crate::crypto::mac::{self, MAC_LEN};
use crate::{Error, Result};

const MAGIC: &[u8; 4] = b"SVKR";
const VERSION: u8 = 2;
const WHAT: &str = "key ring";
const MALFORMED: Error = Error::Malformed { what: WHAT };

/// Most DEK versions of one ring: a rotation a day for eleven years.
pub const DEK_VERSIONS_MAX: usize = 4_096;
/// Name of the provider of rings whose KEK only the client holds.
pub const CLIENT_PROVIDER: &str = "client";
/// Draws of a UUID before giving up: with a tenth of all numbers taken, 64 collisions are a 10^-64 event.
const DRAWS_MAX: usize = 64;

/// Who keeps the KEK of a ring.
pub enum KekSource<'a> {
    /// A provider makes it and wraps it; the ring stores its envelope.
    Provider(&'a dyn KekProvider),
    /// The client keeps it; the ring stores nothing of it but its commitment.
    Client(&'a Kek),
}

/// A key ring at rest: everything the catalogue holds of it but its name. Nothing in it is secret.
#[derive(Clone, Debug)]
pub struct RingRecord {
    uuid: Uuid,
    kek: Option<Envelope>,
    deks: Vec<Envelope>, // ascending versions, never empty
    id_key: Envelope,
    commitment: Commitment,
    /// Of all bytes before it, under a subkey of the KEK: single envelopes are sound by themselves, their list is not.
    code: [u8; MAC_LEN],
}

/// A ring that its KEK has opened. Not Clone; every key is wiped on drop.
#[derive(Debug)]
pub struct OpenRing {
    /// DEKs in ascending versions; new data is sealed under the last.
    pub deks: Vec<DekBytes>,
    /// The id key.
    pub id_key: IdKey,
}

impl RingRecord {
    /// A new ring with one DEK. `is_taken` says which ring numbers are in use; the UUID is drawn until its number is free.
    ///
    /// # Errors
    /// [`Error::Provider`] if the provider fails, or if no free number was found.
    pub fn create(source: KekSource<'_>, mut is_taken: impl FnMut(u32) -> bool) -> Result<Self> {
        let uuid = draw_uuid(Uuid::random, &mut is_taken)?;
        let (kek, envelope) = obtain(source, uuid)?;
        let dek = DekBytes::generate(1)?;
        let ring = Self {
            uuid,
            kek: envelope,
            deks: vec![Envelope::wrap_under_kek(&kek, KeyContext::dek(uuid, 1), dek.as_dek().expose())?],
            id_key: Envelope::wrap_under_kek(&kek, KeyContext::id_key(uuid), IdKey::generate()?.expose())?,
            commitment: Commitment::of_kek(kek.expose(), &uuid),
            code: [0; MAC_LEN],
        };
        Ok(ring.authenticated(&kek))
    }

    /// Its UUID.
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// Its number: what values and typmods carry.
    pub fn number(&self) -> u32 {
        self.uuid.number()
    }

    /// Name of the provider that keeps its KEK; [`CLIENT_PROVIDER`] if the client does.
    pub fn provider(&self) -> &str {
        self.kek.as_ref().map_or(CLIENT_PROVIDER, Envelope::provider)
    }

    /// Whether only the client holds its KEK.
    pub fn is_client_held(&self) -> bool {
        self.kek.is_none()
    }

    /// The KEK's envelope, if a provider keeps the KEK.
    pub fn kek_envelope(&self) -> Option<&Envelope> {
        self.kek.as_ref()
    }

    /// Version of the DEK that seals new data.
    pub fn current_version(&self) -> u32 {
        self.deks.last().expect("a ring has a DEK").context().dek_version
    }

    /// Its DEK versions, ascending.
    pub fn versions(&self) -> impl Iterator<Item = u32> + '_ {
        self.deks.iter().map(|envelope| envelope.context().dek_version)
    }

    /// The DEK envelope of `version`.
    pub(super) fn dek_envelope(&self, version: u32) -> Option<&Envelope> {
        self.deks.iter().find(|envelope| envelope.context().dek_version == version)
    }

    /// The id key's envelope.
    pub(super) fn id_key_envelope(&self) -> &Envelope {
        &self.id_key
    }

    /// The KEK from its provider, checked against both commitments.
    ///
    /// # Errors
    /// [`Error::Provider`] as the provider reports; [`Error::WrongKey`] if it gave another key; [`Error::Bug`]
    /// for a client-held ring.
    pub fn unwrap_kek(&self, provider: &dyn KekProvider) -> Result<Kek> {
        let envelope = self.kek.as_ref().ok_or(Error::Bug("a client-held key ring has no provider to ask"))?;
        let kek = envelope.unwrap_kek(provider)?;
        self.check_kek(&kek)?;
        Ok(kek)
    }

    /// Whether `kek` is this ring's, in constant time and without opening anything.
    ///
    /// # Errors
    /// [`Error::WrongKey`], which says only that.
    pub fn check_kek(&self, kek: &Kek) -> Result<()> {
        self.commitment.check(&Commitment::of_kek(kek.expose(), &self.uuid))
    }

    /// Whether `kek` is this ring's, and everything in it as it was written under that KEK.
    ///
    /// # Errors
    /// [`Error::WrongKey`], which says only that; [`Error::Altered`] only to whoever has the right key.
    fn check(&self, kek: &Kek) -> Result<()> {
        self.check_kek(kek)?;
        match mac::is_authentic(&self.code_key(kek), &self.encode_body(), &self.code) {
            true => Ok(()),
            false => Err(Error::Altered { what: WHAT }),
        }
    }

    fn authenticated(mut self, kek: &Kek) -> Self {
        self.code = mac::authenticate(&self.code_key(kek), &self.encode_body());
        self
    }

    fn code_key(&self, kek: &Kek) -> Zeroizing<[u8; KEY_LEN]> {
        Deriver::new(kek.expose()).subkey(Label::RingRecord, &self.uuid)
    }

    /// Every key of the ring. Its commitment is checked first, then its code, then each envelope's commitment.
    ///
    /// # Errors
    /// [`Error::WrongKey`] if the KEK is not the ring's; [`Error::Altered`] if a key was removed from the list,
    /// exchanged or brought back, or anything else was changed.
    pub fn open(&self, kek: &Kek) -> Result<OpenRing> {
        self.check(kek)?;
        Ok(OpenRing {
            deks: self.deks.iter().map(|envelope| envelope.unwrap_dek(kek)).collect::<Result<_>>()?,
            id_key: self.id_key.unwrap_id_key(kek)?,
        })
    }

    /// Adds a fresh DEK, which seals new data from now on, and returns its version. Old data keeps its own.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`Error::Bug`] at 4,096 versions.
    pub fn add_dek(&mut self, kek: &Kek) -> Result<u32> {
        self.check(kek)?; // or an altered list would be made good
        if self.deks.len() == DEK_VERSIONS_MAX {
            return Err(Error::Bug("a key ring holds at most 4096 versions of its data key"));
        }
        let version = self.current_version().checked_add(1).ok_or(Error::Bug("DEK versions are used up"))?;
        let dek = DekBytes::generate(version)?;
        self.deks.push(Envelope::wrap_under_kek(kek, KeyContext::dek(self.uuid, version), dek.as_dek().expose())?);
        *self = self.clone().authenticated(kek);
        Ok(version)
    }

    /// Removes the DEK of `version`: what is sealed under it opens no more.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`Error::UnknownDekVersion`] if the ring has no such DEK; [`Error::Bug`] for the newest,
    /// which seals new data.
    pub fn remove_dek(&mut self, kek: &Kek, version: u32) -> Result<()> {
        self.check(kek)?; // or an altered list would be made good
        if version == self.current_version() {
            return Err(Error::Bug("the newest data key of a ring is not removed"));
        }
        let place = self.versions().position(|known| known == version).ok_or(Error::UnknownDekVersion(version))?;
        self.deks.remove(place);
        *self = self.clone().authenticated(kek);
        Ok(())
    }

    /// The same ring with its KEK in another envelope: `wrapped` by `provider`, whose own service may have moved it there.
    /// It is unwrapped once, because a KEK that does not come back is lost with all that it wraps.
    ///
    /// # Errors
    /// As [`unwrap_kek`](Self::unwrap_kek) for the new envelope; [`Error::Altered`] for a ring that was changed.
    pub fn move_kek(&mut self, provider: &dyn KekProvider, key_reference: &str, wrapped: Vec<u8>) -> Result<()> {
        let envelope = self.kek.as_ref().ok_or(Error::Bug("a client-held key ring has no envelope to move"))?;
        let moved = envelope.moved(provider, key_reference, wrapped)?;
        let kek = moved.unwrap_kek(provider)?;
        self.check(&kek)?;
        *self = Self { kek: Some(moved), ..self.clone() }.authenticated(&kek);
        Ok(())
    }

    /// Moves every key under a new KEK, and so to another provider or client. Data is not touched; this ring is unchanged on an error.
    ///
    /// # Errors
    /// As [`open`](Self::open) for `old`; [`Error::Provider`] if the new provider fails.
    pub fn rewrap(&mut self, old: &Kek, source: KekSource<'_>) -> Result<()> {
        let open = self.open(old)?;
        let (kek, envelope) = obtain(source, self.uuid)?;
        let deks = open
            .deks
            .iter()
            .map(|dek| {
                Envelope::wrap_under_kek(
                    &kek,
                    KeyContext::dek(self.uuid, dek.as_dek().version()),
                    dek.as_dek().expose(),
                )
            })
            .collect::<Result<_>>()?;
        let id_key = Envelope::wrap_under_kek(&kek, KeyContext::id_key(self.uuid), open.id_key.expose())?;
        let rewrapped = Self {
            uuid: self.uuid,
            kek: envelope,
            deks,
            id_key,
            commitment: Commitment::of_kek(kek.expose(), &self.uuid),
            code: [0; MAC_LEN],
        };
        *self = rewrapped.authenticated(&kek);
        Ok(())
    }

    /// The whole ring as bytes, for the catalogue and for export.
    ///
    /// | offset | size | meaning |
    /// |---|---|---|
    /// | 0 | 4 | magic, `SVKR` |
    /// | 4 | 1 | format version, 2 |
    /// | 5 | 1 | 1 if a KEK envelope follows, 0 if the client holds the KEK |
    /// | 6 | 2 | number n of DEK envelopes, 1 to 4,096 |
    /// | 8 | 16 | ring UUID |
    /// | 24 | 32 | commitment of the KEK |
    /// | 56 | | envelopes: KEK if any, id key, n DEKs in ascending versions; each after its length in 2 bytes |
    /// | end - 32 | 32 | HMAC-SHA-256 of all bytes before it, under the subkey `ring record` of the KEK |
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.encode_body();
        out.extend_from_slice(&self.code);
        out
    }

    /// All but the code.
    fn encode_body(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&[VERSION, u8::from(self.kek.is_some())]);
        out.extend_from_slice(&(self.deks.len() as u16).to_le_bytes());
        out.extend_from_slice(self.uuid.as_bytes());
        out.extend_from_slice(self.commitment.as_bytes());
        for envelope in self.kek.iter().chain([&self.id_key]).chain(&self.deks) {
            let bytes = envelope.encode();
            out.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
            out.extend_from_slice(&bytes);
        }
        out
    }

    /// Reads what [`encode`](Self::encode) wrote, to the last byte.
    ///
    /// # Errors
    /// [`Error::Version`] for another format version, of the ring or of an envelope; [`Error::Malformed`] for
    /// anything else that no build writes, such as an envelope of another ring. The code is checked by
    /// [`open`](Self::open), which has the key.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader { rest: bytes, what: WHAT };
        let has_kek = reader.front(MAGIC, VERSION)?;
        let deks_len = usize::from(u16::from_le_bytes(reader.array()?));
        let uuid = Uuid::from_bytes(reader.array()?);
        if has_kek > 1 || !(1..=DEK_VERSIONS_MAX).contains(&deks_len) || uuid.number() == 0 {
            return Err(MALFORMED);
        }
        let commitment = Commitment::from_bytes(reader.array()?);
        let mut envelope = |purpose: Purpose| {
            let len = u16::from_le_bytes(reader.array()?);
            let envelope = Envelope::decode(reader.take(len.into())?)?;
            let fits = envelope.context().purpose == purpose && envelope.context().ring == uuid;
            if fits { Ok(envelope) } else { Err(MALFORMED) }
        };
        let kek = if has_kek == 1 { Some(envelope(Purpose::Kek)?) } else { None };
        let id_key = envelope(Purpose::IdKey)?;
        let deks = (0..deks_len).map(|_| envelope(Purpose::Dek)).collect::<Result<Vec<_>>>()?;
        let code = reader.array()?;
        let ring = Self { uuid, kek, deks, id_key, commitment, code };
        if reader.rest.is_empty() && ring.versions().is_sorted_by(|a, b| a < b) { Ok(ring) } else { Err(MALFORMED) }
    }
}

/// A KEK that was made here, or the client's, which is only lent.
enum Obtained<'a> {
    Owned(Kek),
    Lent(&'a Kek),
}

impl std::ops::Deref for Obtained<'_> {
    type Target = Kek;

    fn deref(&self) -> &Kek {
        match self {
            Obtained::Owned(kek) => kek,
            Obtained::Lent(kek) => kek,
        }
    }
}

fn obtain(source: KekSource<'_>, ring: Uuid) -> Result<(Obtained<'_>, Option<Envelope>)> {
    match source {
        KekSource::Provider(provider) => {
            let (kek, envelope) = Envelope::generate_kek(ring, provider)?;
            Ok((Obtained::Owned(kek), Some(envelope)))
        }
        KekSource::Client(kek) => Ok((Obtained::Lent(kek), None)),
    }
}

/// A UUID whose number is neither 0 nor taken.
fn draw_uuid(mut draw: impl FnMut() -> Result<Uuid>, is_taken: &mut impl FnMut(u32) -> bool) -> Result<Uuid> {
    for _ in 0..DRAWS_MAX {
        let uuid = draw()?;
        if uuid.number() != 0 && !is_taken(uuid.number()) {
            return Ok(uuid);
        }
    }
    Err(Error::Bug("found no free key ring number; too many key rings in this database"))
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
