//! A user's KEK, wrapped to a public key of his own: whoever makes him a user never holds what opens it.
//!
//! ```text
//! info = "sealvec v1 user wrap" ‖ bytes 0 to 76 + r of the wrap
//! enc, ciphertext ‖ tag = HPKE.SealBase(public key, info, aad = "", user KEK)      (RFC 9180, section 6.1)
//! ```
//!
//! The KEK is drawn for each wrap and opens one [`UserRecord`], which holds the DEKs. So a wrap has the same few bytes
//! however many DEKs there are, the user shows the server 32 bytes, and new DEKs take a new KEK, to his public key alone.
//!
//! HPKE's base mode says nothing of who made a wrap. Whoever writes the catalog can put one there that he made himself, of a
//! KEK and a record that he knows: that one opens nothing, because the server takes no key that is not the ring's own
//! ([`UserRecord::open`]), and gets no later DEK, because nobody with the ring's KEK vouched for it
//! ([`Voucher`](super::Voucher)).

use super::envelope::Reader;
use super::user::Permissions;
use super::{Kek, UserId, UserRecord, Uuid};
use crate::crypto::hpke::{self, ENC_LEN};
use crate::crypto::{KEY_LEN, TAG_LEN};
use crate::{Error, Result};

const MAGIC: &[u8; 4] = b"SVUW";
const VERSION: u8 = 1;
const LABEL: &[u8] = b"sealvec v1 user wrap";
const WHAT: &str = "user's wrap";
const MALFORMED: Error = Error::Malformed { what: WHAT };
const ROLE_AT: usize = 76;

/// Most bytes of a role's name, as Postgres has it.
pub const ROLE_LEN_MAX: usize = 63;

/// A user's X25519 public key, that gives a secret with any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserPublicKey([u8; KEY_LEN]);

impl UserPublicKey {
    /// Of 32 bytes.
    ///
    /// # Errors
    /// [`Error::KeyLength`]; [`Error::Malformed`] for a point of low order, which everybody could open.
    pub fn from_slice(bytes: &[u8]) -> Result<Self> {
        let key = bytes.try_into().map_err(|_| Error::KeyLength(bytes.len()))?;
        match hpke::seal(&key, b"", b"") {
            Ok(_) => Ok(Self(key)),
            Err(_) => Err(Error::Malformed { what: "X25519 public key" }),
        }
    }

    /// Of the secret half.
    pub fn of_secret(secret: &[u8; KEY_LEN]) -> Self {
        Self(hpke::public_key(secret))
    }

    /// The point.
    pub fn as_bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }
}

/// A user's KEK for his public key, at rest. Nothing in it is secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserWrap {
    permissions: Permissions,
    ring: Uuid,
    user: UserId,
    dek_version: u32,
    public_key: UserPublicKey,
    role: String,
    enc: [u8; ENC_LEN],
    wrapped: [u8; KEY_LEN + TAG_LEN],
}

impl UserWrap {
    /// Wraps `kek`, which opens `record`, to `public_key`, for a session of `role`.
    ///
    /// # Errors
    /// [`Error::WrongKey`] if it does not open the record; [`Error::TooLong`] for what is no role's name.
    pub fn create(record: &UserRecord, kek: &Kek, public_key: UserPublicKey, role: &str) -> Result<Self> {
        record.check_kek(kek)?;
        if !(1..=ROLE_LEN_MAX).contains(&role.len()) {
            return Err(Error::TooLong { what: "a role's name", max: ROLE_LEN_MAX, found: role.len() });
        }
        let mut wrap = Self {
            permissions: record.permissions(),
            ring: record.ring(),
            user: record.user(),
            dek_version: *record.versions().last().expect("a record has a DEK"),
            public_key,
            role: role.to_owned(),
            enc: [0; ENC_LEN],
            wrapped: [0; KEY_LEN + TAG_LEN],
        };
        let sealed = hpke::seal(&public_key.0, &wrap.info(), kek.expose());
        let (enc, wrapped) = sealed.map_err(|_| Error::Malformed { what: "X25519 public key" })?;
        (wrap.enc, wrap.wrapped) = (enc, wrapped.try_into().expect("a key and a tag"));
        Ok(wrap)
    }

    /// The KEK, for whoever has the secret half. Which ring and role it is for is for him to look at.
    ///
    /// # Errors
    /// [`Error::WrongKey`] if `secret` is of another public key, or a byte was changed.
    pub fn open(&self, secret: &[u8; KEY_LEN]) -> Result<Kek> {
        if UserPublicKey::of_secret(secret) != self.public_key {
            return Err(Error::WrongKey);
        }
        let opened = hpke::open(secret, &self.info(), &self.enc, &self.wrapped).map_err(|_| Error::WrongKey)?;
        Kek::from_slice(&opened)
    }

    /// What he may do.
    pub fn permissions(&self) -> Permissions {
        self.permissions
    }

    /// UUID of the ring.
    pub fn ring(&self) -> Uuid {
        self.ring
    }

    /// Id of the user.
    pub fn user(&self) -> UserId {
        self.user
    }

    /// The newest DEK that the KEK opens.
    pub fn dek_version(&self) -> u32 {
        self.dek_version
    }

    /// Whom it is for.
    pub fn public_key(&self) -> UserPublicKey {
        self.public_key
    }

    /// The role whose sessions may use it.
    pub fn role(&self) -> &str {
        &self.role
    }

    /// HPKE's `info`: everything that is clear.
    fn info(&self) -> Vec<u8> {
        [LABEL, &self.head()].concat()
    }

    fn head(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.encoded_len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&[VERSION, self.permissions.bits()]);
        out.extend_from_slice(&(self.role.len() as u16).to_le_bytes());
        out.extend_from_slice(self.ring.as_bytes());
        out.extend_from_slice(self.user.as_bytes());
        out.extend_from_slice(&self.dek_version.to_le_bytes());
        out.extend_from_slice(&self.public_key.0);
        out.extend_from_slice(self.role.as_bytes());
        out
    }

    fn encoded_len(&self) -> usize {
        ROLE_AT + self.role.len() + self.enc.len() + self.wrapped.len()
    }

    /// The whole wrap, for the catalogue and for its user.
    ///
    /// | offset | size | meaning |
    /// |---|---|---|
    /// | 0 | 4 | magic, `SVUW` |
    /// | 4 | 1 | format version, 1 |
    /// | 5 | 1 | permissions: 1 read, 2 write, 3 both |
    /// | 6 | 2 | length r of the role's name, 1 to 63 |
    /// | 8 | 16 | ring UUID |
    /// | 24 | 16 | user id |
    /// | 40 | 4 | newest DEK version of the user's record |
    /// | 44 | 32 | the user's X25519 public key |
    /// | 76 | r | the role's name, UTF-8 |
    /// | 76 + r | 32 | HPKE's encapsulated key |
    /// | 108 + r | 48 | ciphertext of the user's KEK, tag |
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.head();
        out.extend_from_slice(&self.enc);
        out.extend_from_slice(&self.wrapped);
        out
    }

    /// Reads what [`encode`](Self::encode) wrote, to the last byte.
    ///
    /// # Errors
    /// [`Error::Version`] for another format version, [`Error::Malformed`] for anything else that no build writes.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader { rest: bytes, what: WHAT };
        let permissions = Permissions::from_bits(reader.front(MAGIC, VERSION)?).ok_or(MALFORMED)?;
        let role_len = usize::from(u16::from_le_bytes(reader.array()?));
        let (ring, user) = (Uuid::from_bytes(reader.array()?), UserId::from_bytes(reader.array()?));
        let dek_version = u32::from_le_bytes(reader.array()?);
        let public_key = UserPublicKey(reader.array()?);
        let role = reader.text(role_len)?;
        let (enc, wrapped) = (reader.array()?, reader.array()?);
        let fits = (1..=ROLE_LEN_MAX).contains(&role_len) && dek_version > 0 && ring.number() > 0;
        if !reader.rest.is_empty() || !fits {
            return Err(MALFORMED);
        }
        Ok(Self { permissions, ring, user, dek_version, public_key, role, enc, wrapped })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::keys::{KekSource, OpenRing, RingRecord};

    const KNOWN: &str = include_str!("../../../tests/vectors/user_wrap_v1.json");
    const USER: UserId = UserId::from_bytes([0x77; 16]);
    const SECRET: [u8; 32] = [0x33; 32];

    fn kek(byte: u8) -> Kek {
        Kek::from_slice(&[byte; 32]).unwrap()
    }

    fn ring() -> (RingRecord, OpenRing) {
        let mut ring = RingRecord::create(KekSource::Client(&kek(1)), |_| false).unwrap();
        ring.add_dek(&kek(1)).unwrap();
        let open = ring.open(&kek(1)).unwrap();
        (ring, open)
    }

    fn wrap(role: &str) -> UserWrap {
        let (ring, open) = ring();
        let record = UserRecord::create(&ring, &open, USER, Permissions::READ, &kek(9)).unwrap();
        UserWrap::create(&record, &kek(9), UserPublicKey::of_secret(&SECRET), role).unwrap()
    }

    /// Made with Python's `cryptography`: its users' clients open such wraps.
    #[test]
    fn wrapped_by_another_implementation() {
        let file: Value = serde_json::from_str(KNOWN).unwrap();
        let bytes = |value: &Value| hex::decode(value.as_str().expect("hexadecimal")).expect("hexadecimal");
        let secret: [u8; 32] = bytes(&file["secret_key"]).try_into().unwrap();
        assert_eq!(UserPublicKey::of_secret(&secret).as_bytes()[..], bytes(&file["public_key"]));
        let cases = file["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 3, "one for each set of permissions");
        for (bits, case) in (1..).zip(cases) {
            let wrap = UserWrap::decode(&bytes(&case["wrap"])).unwrap();
            assert_eq!(wrap.info(), bytes(&case["info"]));
            assert_eq!(wrap.open(&secret).unwrap().expose()[..], bytes(&case["user_key"]));
            assert_eq!(wrap.encode(), bytes(&case["wrap"]));
            assert_eq!(wrap.permissions().bits(), bits);
            assert_eq!(wrap.ring().as_bytes()[..], bytes(&case["ring"]));
            assert_eq!(wrap.user().as_bytes()[..], bytes(&case["user_id"]));
            assert_eq!(u64::from(wrap.dek_version()), case["dek_version"].as_u64().unwrap());
            assert_eq!(wrap.role(), case["role"].as_str().unwrap());
            assert_eq!(wrap.public_key(), UserPublicKey::of_secret(&secret));
        }
    }

    #[test]
    fn his_secret_opens_what_opens_his_record() {
        let (ring, open) = ring();
        let record = UserRecord::create(&ring, &open, USER, Permissions::READ_WRITE, &kek(9)).unwrap();
        let wrap = UserWrap::create(&record, &kek(9), UserPublicKey::of_secret(&SECRET), "ärztin").unwrap();
        let read = UserWrap::decode(&wrap.encode()).unwrap();
        assert_eq!(read, wrap);
        assert_eq!((read.role(), read.dek_version(), read.user()), ("ärztin", 2, USER));
        let opened = record.open(&ring, &read.open(&SECRET).unwrap(), crate::keys::Permission::Write).unwrap();
        assert_eq!(opened.dek(2).unwrap().expose(), open.deks[1].as_dek().expose());
        for other in [[0x34; 32], [0; 32]] {
            assert!(matches!(read.open(&other), Err(Error::WrongKey)));
        }
    }

    #[test]
    fn two_wraps_share_nothing() {
        let (a, b) = (wrap("me"), wrap("me"));
        assert_ne!(a.enc, b.enc);
        assert_ne!(a.wrapped, b.wrapped);
    }

    /// Also every bit of what is clear: ring, version, user, role, permissions.
    #[test]
    fn every_changed_bit_is_refused() {
        let good = wrap("me").encode();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            if let Ok(wrap) = UserWrap::decode(&bad) {
                assert!(matches!(wrap.open(&SECRET), Err(Error::WrongKey)), "bit {bit}");
            }
        }
    }

    #[test]
    fn bad_bytes_are_refused() {
        let good = wrap("me").encode();
        assert_eq!(good.len(), 76 + 2 + 32 + 48);
        let set = |at: usize, with: &[u8]| {
            let mut bad = good.clone();
            bad[at..at + with.len()].copy_from_slice(with);
            bad
        };
        for (why, bad) in [
            ("magic", set(0, b"SVUR")),
            ("no permission", set(5, &[0])),
            ("permission 4", set(5, &[4])),
            ("no role", set(6, &[0, 0])),
            ("a longer role", set(6, &[3, 0])),
            ("a role past the end", set(6, &[0xff, 0xff])),
            ("a role that is no text", set(76, &[0xff])),
            ("a ring of number 0", set(8, &[0; 16])),
            ("DEK version 0", set(40, &[0; 4])),
            ("a byte too many", [&good[..], &[0]].concat()),
        ] {
            assert!(matches!(UserWrap::decode(&bad), Err(Error::Malformed { .. })), "{why}");
        }
        for version in [0, 2] {
            assert!(matches!(UserWrap::decode(&set(4, &[version])), Err(Error::Version { known: 1, .. })));
        }
        for len in 0..good.len() {
            assert!(UserWrap::decode(&good[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn what_is_no_key_no_kek_and_no_role_is_refused() {
        for len in [0, 31, 33] {
            assert!(matches!(UserPublicKey::from_slice(&vec![9; len]), Err(Error::KeyLength(found)) if found == len));
        }
        for low in [[0; 32], std::array::from_fn(|i| u8::from(i == 0))] {
            let what = UserPublicKey::from_slice(&low);
            assert!(matches!(what, Err(Error::Malformed { what: "X25519 public key" })));
        }
        let (ring, open) = ring();
        let record = UserRecord::create(&ring, &open, USER, Permissions::READ, &kek(9)).unwrap();
        let public_key = UserPublicKey::of_secret(&SECRET);
        assert!(matches!(UserWrap::create(&record, &kek(8), public_key, "me"), Err(Error::WrongKey)));
        for role in [String::new(), "x".repeat(64)] {
            let wrap = UserWrap::create(&record, &kek(9), public_key, &role);
            assert!(matches!(wrap, Err(Error::TooLong { max: 63, .. })));
        }
    }
}
