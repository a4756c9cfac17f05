//! The server's key pair, whose secret half opens, and its public half, which seals.

use std::fmt;

use zeroize::Zeroizing;

use super::sealed::SealedKey;
use super::{Binding, SECRET_LEN_MAX};
use crate::crypto::{KEY_LEN, hpke, nonce};
use crate::{Error, Result};

/// Names a key pair: 16 random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyId([u8; Self::LEN]);

impl KeyId {
    /// Bytes of an id.
    pub const LEN: usize = 16;

    /// Of bytes that are one.
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

/// A key pair of a server. Not Clone; the secret half is wiped on drop.
pub struct TransportKey {
    id: KeyId,
    secret: Box<Zeroizing<[u8; KEY_LEN]>>, // stays where it is: a move would leave a copy
    public: [u8; KEY_LEN],
}

impl TransportKey {
    /// A fresh one, from the kernel's random bytes.
    pub fn generate() -> Result<Self> {
        let id = KeyId(nonce::random()?);
        let mut secret = Box::new(Zeroizing::new([0; KEY_LEN]));
        nonce::fill(&mut secret[..])?;
        let public = hpke::public_key(&secret);
        Ok(Self { id, secret, public })
    }

    /// Of halves that belong together, from the memory that keeps them.
    pub fn of_parts(id: KeyId, secret: &[u8; KEY_LEN], public: [u8; KEY_LEN]) -> Self {
        let mut own = Box::new(Zeroizing::new([0; KEY_LEN]));
        own.copy_from_slice(secret);
        Self { id, secret: own, public }
    }

    /// The secret half, for the memory that keeps it.
    pub fn expose(&self) -> &[u8; KEY_LEN] {
        &self.secret
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey { id: self.id, bytes: self.public }
    }

    /// The secret that was sealed to this key and bound to `binding`.
    ///
    /// # Errors
    /// [`Error::SealedElsewhere`], whatever of it does not fit; [`Error::TooLong`] for a name that is none.
    pub fn open(&self, binding: &Binding<'_>, sealed: &SealedKey) -> Result<Zeroizing<Vec<u8>>> {
        let info = binding.info(self.id)?;
        if sealed.key_id() != self.id {
            return Err(Error::SealedElsewhere);
        }
        let (enc, ciphertext) = sealed.parts();
        hpke::open(&self.secret, &info, enc, ciphertext).map_err(|_| Error::SealedElsewhere)
    }
}

impl fmt::Debug for TransportKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TransportKey({:?}, [redacted])", self.id)
    }
}

/// What a server tells everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey {
    id: KeyId,
    bytes: [u8; KEY_LEN],
}

impl PublicKey {
    /// As `sealvec.transport_key()` gave it.
    pub fn new(id: KeyId, bytes: [u8; KEY_LEN]) -> Self {
        Self { id, bytes }
    }

    /// Its id.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The point itself.
    pub fn as_bytes(&self) -> &[u8; KEY_LEN] {
        &self.bytes
    }

    /// Seals `secret` so that only the holder of the secret half can open it, and only where `binding` says.
    ///
    /// # Errors
    /// [`Error::TooLong`], [`Error::Malformed`] for a point that gives no secret (RFC 9180, section 7.1.4).
    pub fn seal(&self, binding: &Binding<'_>, secret: &[u8]) -> Result<SealedKey> {
        if secret.len() > SECRET_LEN_MAX || secret.is_empty() {
            return Err(Error::TooLong { what: "a secret", max: SECRET_LEN_MAX, found: secret.len() });
        }
        let info = binding.info(self.id)?;
        let sealed = hpke::seal(&self.bytes, &info, secret);
        let (enc, ciphertext) = sealed.map_err(|_| Error::Malformed { what: "transport key" })?;
        Ok(SealedKey::new(self.id, &enc, &ciphertext))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Argument;
    use super::*;

    const HERE: Binding<'static> = Binding { database: "app", role: "me", name: "notes", argument: Argument::Kek };

    #[test]
    fn opens_where_it_is_bound_to_and_nowhere_else() {
        let key = TransportKey::generate().unwrap();
        let sealed = key.public().seal(&HERE, &[7; 32]).unwrap();
        assert_eq!(&**key.open(&HERE, &sealed).unwrap(), &[7; 32]);
        assert_eq!(&**key.open(&HERE, &sealed).unwrap(), &[7; 32], "again, as clients that keep it do");
        let elsewhere = [
            Binding { database: "App", ..HERE },
            Binding { database: "", ..HERE },
            Binding { role: "you", ..HERE },
            Binding { role: "app", database: "me", ..HERE },
            Binding { name: "notes ", ..HERE },
            Binding { name: "note", ..HERE },
            Binding { argument: Argument::NewKek, ..HERE },
            Binding { argument: Argument::IndexKey, ..HERE },
        ];
        for other in elsewhere {
            assert!(matches!(key.open(&other, &sealed), Err(Error::SealedElsewhere)), "{other:?}");
        }
        let id = key.public().id();
        for (id, key) in [(id, TransportKey::generate().unwrap()), (KeyId([9; 16]), key)] {
            let other = TransportKey::of_parts(id, key.expose(), *key.public().as_bytes());
            assert!(matches!(other.open(&HERE, &sealed), Err(Error::SealedElsewhere)));
        }
    }

    #[test]
    fn every_changed_bit_is_refused() {
        let key = TransportKey::generate().unwrap();
        let sealed = key.public().seal(&HERE, b"cdbk_1_a-token").unwrap();
        // Bit 255 of an X25519 point is ignored (RFC 7748, section 5), but HPKE hashes the encapsulation as it came.
        for bit in super::super::MAGIC.len() * 8..sealed.as_bytes().len() * 8 {
            let mut bytes = sealed.as_bytes().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let altered = SealedKey::read(&bytes).unwrap().unwrap();
            assert!(matches!(key.open(&HERE, &altered), Err(Error::SealedElsewhere)), "bit {bit}");
        }
        for len in 73..sealed.as_bytes().len() {
            let cut = SealedKey::read(&sealed.as_bytes()[..len]).unwrap().unwrap();
            assert!(key.open(&HERE, &cut).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn two_seals_share_nothing() {
        let key = TransportKey::generate().unwrap();
        let (a, b) = (key.public().seal(&HERE, &[7; 32]).unwrap(), key.public().seal(&HERE, &[7; 32]).unwrap());
        let same = a.as_bytes()[24..].iter().zip(&b.as_bytes()[24..]).filter(|(a, b)| a == b).count();
        assert!(same < 10, "{same} of 80 bytes");
    }

    #[test]
    fn a_point_of_low_order_seals_nothing() {
        for bytes in [[0; 32], [1; 32].map(|_| 0), std::array::from_fn(|i| u8::from(i == 0))] {
            let result = PublicKey::new(KeyId([1; 16]), bytes).seal(&HERE, &[7; 32]);
            assert!(matches!(result, Err(Error::Malformed { what: "transport key" })));
        }
    }

    #[test]
    fn a_secret_has_bytes_and_an_end() {
        let public = TransportKey::generate().unwrap().public();
        for len in [0, SECRET_LEN_MAX + 1] {
            assert!(matches!(public.seal(&HERE, &vec![1; len]), Err(Error::TooLong { found, .. }) if found == len));
        }
    }

    #[test]
    fn debug_shows_no_key() {
        let key = TransportKey::of_parts(KeyId([2; 16]), &[0x41; 32], [0x42; 32]);
        let shown = format!("{key:?}");
        assert!(shown.contains("[redacted]") && !shown.contains("65") && !shown.contains("41"), "{shown}");
    }
}
