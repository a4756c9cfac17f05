//! A user of a ring: copies of the ring's DEKs and id key under a KEK of the user's own, one set per permission.
//!
//! Any holder of a DEK can open and seal with it, so a permission is no mathematics: the server looks for the
//! copy that was made for what is asked. The mathematics is that nobody without the user's KEK can make a
//! copy, relabel a "read" one as "write", give it to another user, or take one out unseen.
//!
//! A copy is of one DEK version. When the ring gets a new one, its users keep what they have: they read what
//! was sealed before and nothing newer, and they seal nothing, because new data belongs under the ring's
//! current DEK ([`OpenUser::dek`] says [`Error::NotShared`]). A copy of a version that the ring has retired is passed over,
//! and whoever has no other has nothing. Their KEKs are theirs alone, so only
//! [`UserRecord::extend`], with the user's KEK and the opened ring both at hand, or a new user, changes that.

use zeroize::Zeroizing;

use super::envelope::Reader;
use super::ring::DEK_VERSIONS_MAX;
use super::{Dek, DekBytes, IdKey, Kek, OpenRing, Purpose, RingRecord, Uuid};
use crate::crypto::commit::{COMMITMENT_LEN, Commitment};
use crate::crypto::kdf::{Deriver, Label};
use crate::crypto::mac::{self, MAC_LEN};
use crate::crypto::{AeadKey, KEY_LEN, OVERHEAD, UserWrapAad, nonce};
use crate::{Error, Result};

const MAGIC: &[u8; 4] = b"SVUR";
const VERSION: u8 = 1;
const WHAT: &str = "user's record";
const MALFORMED: Error = Error::Malformed { what: WHAT };
const COPY_LEN: usize = KEY_LEN + OVERHEAD;

/// Bytes of a user's id.
pub const USER_ID_LEN: usize = 16;

/// Names a user of one ring. Public, random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId([u8; USER_ID_LEN]);

impl UserId {
    /// A fresh id from the kernel.
    pub fn random() -> Result<Self> {
        Ok(Self(nonce::random()?))
    }

    /// Any 16 bytes.
    pub const fn from_bytes(bytes: [u8; USER_ID_LEN]) -> Self {
        Self(bytes)
    }

    /// As the catalogue and the token hold it.
    pub const fn as_bytes(&self) -> &[u8; USER_ID_LEN] {
        &self.0
    }
}

/// What a call does to a collection. The numbers are on disk and in AAD, and are bits of [`Permissions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Permission {
    /// Query, get, list, count.
    Read = 1,
    /// Upsert and delete.
    Write = 2,
}

impl Permission {
    const ALL: [Permission; 2] = [Permission::Read, Permission::Write];
}

/// What a user may do: at least one of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permissions(u8);

impl Permissions {
    /// Query, get, list, count.
    pub const READ: Self = Self(1);
    /// Upsert and delete.
    pub const WRITE: Self = Self(2);
    /// Both.
    pub const READ_WRITE: Self = Self(3);

    /// `None` if neither is asked for.
    pub fn new(read: bool, write: bool) -> Option<Self> {
        Self::from_bits(u8::from(read) | u8::from(write) << 1)
    }

    /// Whether `permission` is among them.
    pub fn has(self, permission: Permission) -> bool {
        self.0 & permission as u8 != 0
    }

    /// In the order of the record.
    pub fn iter(self) -> impl Iterator<Item = Permission> {
        Permission::ALL.into_iter().filter(move |permission| self.has(*permission))
    }

    /// As the catalogue has them: 1 read, 2 write, 3 both.
    pub fn from_bits(bits: u8) -> Option<Self> {
        (1..=3).contains(&bits).then_some(Self(bits))
    }

    /// For the catalogue.
    pub fn bits(self) -> u8 {
        self.0
    }
}

/// One permission's copies: of the id key, and of the DEKs in the order of the record's versions.
#[derive(Clone, Debug)]
struct Copies {
    id_key: [u8; COPY_LEN],
    deks: Vec<[u8; COPY_LEN]>,
}

/// A user at rest: everything the catalogue holds of him. Nothing in it is secret.
#[derive(Clone, Debug)]
pub struct UserRecord {
    ring: Uuid,
    user: UserId,
    permissions: Permissions,
    commitment: Commitment,
    versions: Vec<u32>,  // ascending, never empty
    copies: Vec<Copies>, // one per permission, in their order
    code: [u8; MAC_LEN], // of all bytes before it, under a subkey of the user's KEK
}

/// What a user's KEK opens for one permission. Not Clone; every key is wiped on drop.
#[derive(Debug)]
pub struct OpenUser {
    /// DEKs in ascending versions; the ring may have newer ones.
    pub deks: Vec<DekBytes>,
    /// The id key.
    pub id_key: IdKey,
}

impl OpenUser {
    /// The DEK of `version`, such as the ring's [current](RingRecord::current_version), which alone may seal.
    ///
    /// # Errors
    /// [`Error::NotShared`] if the user was made before the ring had it.
    pub fn dek(&self, version: u32) -> Result<Dek<'_>> {
        let mut deks = self.deks.iter().map(DekBytes::as_dek);
        deks.find(|dek| dek.version() == version).ok_or(Error::NotShared(version))
    }
}

impl UserRecord {
    /// Makes `user` a user of `ring`, whose keys are `open`, with every DEK version that it has.
    ///
    /// # Errors
    /// [`Error::WrongKey`] if `open` is another ring's; [`Error::NotHisOwn`] if `kek` is the ring's, with which the user
    /// could do all that its owner can.
    pub fn create(
        ring: &RingRecord,
        open: &OpenRing,
        user: UserId,
        permissions: Permissions,
        kek: &Kek,
    ) -> Result<Self> {
        check_ring_keys(ring, &open.deks, &open.id_key)?;
        if ring.check_kek(kek).is_ok() {
            return Err(Error::NotHisOwn);
        }
        let mut record = Self {
            ring: ring.uuid(),
            user,
            permissions,
            commitment: Commitment::of_user(kek.expose(), &ring.uuid(), &user.0),
            versions: open.deks.iter().map(|dek| dek.as_dek().version()).collect(),
            copies: Vec::new(),
            code: [0; MAC_LEN],
        };
        let key = record.wrap_key(kek);
        for permission in permissions.iter() {
            let wrap = |purpose, version, secret: &[u8; KEY_LEN]| {
                let sealed = key.seal(&record.aad(permission, purpose, version), secret)?;
                Ok(sealed.as_bytes().try_into().expect("a sealed key has 60 bytes"))
            };
            let id_key = wrap(Purpose::IdKey, 0, open.id_key.expose())?;
            let deks = open.deks.iter().map(DekBytes::as_dek);
            let deks = deks.map(|dek| wrap(Purpose::Dek, dek.version(), dek.expose())).collect::<Result<_>>()?;
            record.copies.push(Copies { id_key, deks });
        }
        record.code = mac::authenticate(&record.code_key(kek), &record.encode_body());
        Ok(record)
    }

    /// Gives the user the DEK versions that `ring` got since.
    ///
    /// # Errors
    /// [`Error::WrongKey`] if `kek` is not the user's or `open` not the ring's; [`Error::Altered`] for a record
    /// that was changed.
    pub fn extend(&mut self, ring: &RingRecord, open: &OpenRing, kek: &Kek) -> Result<()> {
        self.check(ring, kek)?; // or an altered record would be made good
        *self = Self::create(ring, open, self.user, self.permissions, kek)?;
        Ok(())
    }

    /// UUID of the ring.
    pub fn ring(&self) -> Uuid {
        self.ring
    }

    /// Id of the user.
    pub fn user(&self) -> UserId {
        self.user
    }

    /// What he may do.
    pub fn permissions(&self) -> Permissions {
        self.permissions
    }

    /// DEK versions that he has, ascending.
    pub fn versions(&self) -> &[u32] {
        &self.versions
    }

    /// Whether `kek` is this user's, in constant time and without opening anything.
    ///
    /// # Errors
    /// [`Error::WrongKey`], which says only that.
    pub fn check_kek(&self, kek: &Kek) -> Result<()> {
        self.commitment.check(&Commitment::of_user(kek.expose(), &self.ring, &self.user.0))
    }

    /// The keys of `ring` for `permission`. The KEK's commitment is checked first, then the record's code, then
    /// the permission, then each key against the ring's own commitment to it: a user who can write the
    /// catalogue can't have others seal under a DEK that he made up.
    ///
    /// # Errors
    /// [`Error::WrongKey`] if the KEK is not the user's, the record not of this ring, or a key not the ring's;
    /// [`Error::Altered`] for a record that was changed; [`Error::PermissionDenied`] without the permission;
    /// [`Error::NotShared`] if the ring has none of the user's DEKs any more.
    pub fn open(&self, ring: &RingRecord, kek: &Kek, permission: Permission) -> Result<OpenUser> {
        self.check(ring, kek)?;
        let place = self.permissions.iter().position(|held| held == permission).ok_or(Error::PermissionDenied)?;
        let (copies, key) = (&self.copies[place], self.wrap_key(kek));
        let unwrap = |purpose, version, copy: &[u8; COPY_LEN]| -> Result<Zeroizing<[u8; KEY_LEN]>> {
            let (mut secret, aad) = (Zeroizing::new([0; KEY_LEN]), self.aad(permission, purpose, version));
            key.open_into(&aad, copy, &mut secret[..]).map_err(|_| Error::WrongKey)?;
            Ok(secret)
        };
        let id_key = IdKey::from_slice(&unwrap(Purpose::IdKey, 0, &copies.id_key)?[..])?;
        // A copy of a DEK that the ring has no more opens nothing any more.
        let newest = ring.current_version();
        let versions = self.versions.iter().zip(&copies.deks);
        let deks = versions
            .filter(|(version, _)| **version > newest || ring.dek_envelope(**version).is_some())
            .map(|(version, copy)| DekBytes::from_slice(*version, &unwrap(Purpose::Dek, *version, copy)?[..]))
            .collect::<Result<Vec<_>>>()?;
        check_ring_keys(ring, &deks, &id_key)?;
        if deks.is_empty() {
            return Err(Error::NotShared(newest));
        }
        Ok(OpenUser { deks, id_key })
    }

    /// Whether `kek` is the user's, and everything here as it was written under it, for this ring.
    fn check(&self, ring: &RingRecord, kek: &Kek) -> Result<()> {
        if ring.uuid() != self.ring {
            return Err(Error::WrongKey);
        }
        self.check_kek(kek)?;
        match mac::is_authentic(&self.code_key(kek), &self.encode_body(), &self.code) {
            true => Ok(()),
            false => Err(Error::Altered { what: WHAT }),
        }
    }

    fn derive(&self, kek: &Kek, label: Label) -> Zeroizing<[u8; KEY_LEN]> {
        Deriver::new(kek.expose()).derive(label, &[self.ring.as_bytes(), &self.user.0])
    }

    fn wrap_key(&self, kek: &Kek) -> AeadKey {
        AeadKey::new(&self.derive(kek, Label::UserWrap))
    }

    fn code_key(&self, kek: &Kek) -> Zeroizing<[u8; KEY_LEN]> {
        self.derive(kek, Label::UserRecord)
    }

    fn aad(&self, permission: Permission, purpose: Purpose, dek_version: u32) -> UserWrapAad {
        let (permission, purpose) = (permission as u8, purpose as u8);
        UserWrapAad { ring: self.ring, dek_version, user: self.user.0, permission, purpose }
    }

    /// The whole record, for the catalogue.
    ///
    /// | offset | size | meaning |
    /// |---|---|---|
    /// | 0 | 4 | magic, `SVUR` |
    /// | 4 | 1 | format version, 1 |
    /// | 5 | 1 | permissions: 1 read, 2 write, 3 both |
    /// | 6 | 2 | number n of DEK versions, 1 to 4,096 |
    /// | 8 | 16 | ring UUID |
    /// | 24 | 16 | user id |
    /// | 40 | 32 | commitment of the user's KEK |
    /// | 72 | 4 n | DEK versions, ascending |
    /// | 72 + 4 n | 60 (n + 1) each | per permission, read first: copy of the id key, then of n DEKs |
    /// | end - 32 | 32 | HMAC-SHA-256 of all bytes before it, under the subkey `user record` of the user's KEK |
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.encode_body();
        out.extend_from_slice(&self.code);
        out
    }

    /// All but the code.
    fn encode_body(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.encoded_len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&[VERSION, self.permissions.0]);
        out.extend_from_slice(&(self.versions.len() as u16).to_le_bytes());
        out.extend_from_slice(self.ring.as_bytes());
        out.extend_from_slice(&self.user.0);
        out.extend_from_slice(self.commitment.as_bytes());
        for version in &self.versions {
            out.extend_from_slice(&version.to_le_bytes());
        }
        for copies in &self.copies {
            out.extend_from_slice(&copies.id_key);
            out.extend(copies.deks.iter().flatten());
        }
        out
    }

    fn encoded_len(&self) -> usize {
        40 + COMMITMENT_LEN
            + 4 * self.versions.len()
            + COPY_LEN * (1 + self.versions.len()) * self.copies.len()
            + MAC_LEN
    }

    /// Reads what [`encode`](Self::encode) wrote, to the last byte.
    ///
    /// # Errors
    /// [`Error::Version`] for another format version, [`Error::Malformed`] for anything else that no build
    /// writes. The code is checked by [`open`](Self::open), which has the key.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader { rest: bytes, what: WHAT };
        let permissions = Permissions::from_bits(reader.front(MAGIC, VERSION)?).ok_or(MALFORMED)?;
        let count = usize::from(u16::from_le_bytes(reader.array()?));
        if !(1..=DEK_VERSIONS_MAX).contains(&count) {
            return Err(MALFORMED);
        }
        let ring = Uuid::from_bytes(reader.array()?);
        let user = UserId(reader.array()?);
        let commitment = Commitment::from_bytes(reader.array()?);
        let versions = (0..count).map(|_| Ok(u32::from_le_bytes(reader.array()?))).collect::<Result<Vec<_>>>()?;
        let copies = permissions
            .iter()
            .map(|_| {
                let id_key = reader.array()?;
                let deks = (0..count).map(|_| reader.array()).collect::<Result<_>>()?;
                Ok(Copies { id_key, deks })
            })
            .collect::<Result<_>>()?;
        let code = reader.array()?;
        let ascending = versions[0] > 0 && versions.is_sorted_by(|a, b| a < b);
        if !reader.rest.is_empty() || !ascending || ring.number() == 0 {
            return Err(MALFORMED);
        }
        Ok(Self { ring, user, permissions, commitment, versions, copies, code })
    }
}

/// Whether these are keys of `ring`, by the commitments of its envelopes. Public data, compared in constant time.
fn check_ring_keys(ring: &RingRecord, deks: &[DekBytes], id_key: &IdKey) -> Result<()> {
    ring.id_key_envelope().check_inside(id_key.expose())?;
    deks.iter().map(DekBytes::as_dek).try_for_each(|dek| {
        let envelope = ring.dek_envelope(dek.version()).ok_or(Error::UnknownDekVersion(dek.version()))?;
        envelope.check_inside(dek.expose())
    })
}

#[cfg(test)]
#[path = "user_tests.rs"]
mod tests;
