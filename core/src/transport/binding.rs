//! Where a sealed key may be shown: HPKE's `info`.

use super::KeyId;
use crate::{Error, Result};

const LABEL: &[u8] = b"sealvec v1 transport";

/// Most bytes of a name. Longer than any that Postgres or sealvec gives, and far below what HPKE takes.
pub const NAME_LEN_MAX: usize = 4_096;

/// The argument that a secret is shown as. Numbers are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Argument {
    /// `kek`: the key of a ring, to make or to open it.
    Kek = 1,
    /// `new_kek`: the next key of a ring.
    NewKek = 2,
    /// `index_key`: the key of an index, or of one of its users, to make or to open it.
    IndexKey = 3,
    /// `user_key`: the key of a user to be.
    UserKey = 4,
    /// `user_token`: a user's id and key in one text, for an index.
    UserToken = 5,
    /// `user_key`: the key of a user of a ring, to open it.
    RingUserKey = 6,
    /// `user_token`: a user's id and key in one text, for a ring.
    RingUserToken = 7,
}

impl Argument {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Kek,
        Self::NewKek,
        Self::IndexKey,
        Self::UserKey,
        Self::UserToken,
        Self::RingUserKey,
        Self::RingUserToken,
    ];

    /// Its name in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kek => "kek",
            Self::NewKek => "new_kek",
            Self::IndexKey => "index_key",
            Self::UserKey | Self::RingUserKey => "user_key",
            Self::UserToken | Self::RingUserToken => "user_token",
        }
    }

    /// Whether the name that it is bound to is a ring's; else it is an index's.
    pub fn is_of_ring(self) -> bool {
        matches!(self, Self::Kek | Self::NewKek | Self::RingUserKey | Self::RingUserToken)
    }
}

/// What both sides know when a key is shown. UTF-8, byte by byte as they are: nothing is folded or trimmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding<'a> {
    /// `current_database()`.
    pub database: &'a str,
    /// `current_user` of the statement: SET ROLE changes it, a SECURITY DEFINER function does not.
    pub role: &'a str,
    /// The ring or index, as the same call names it.
    pub name: &'a str,
    /// The argument that the key is shown as; it tells a ring's name from an index's.
    pub argument: Argument,
}

impl Binding<'_> {
    /// # Errors
    /// [`Error::TooLong`].
    pub(super) fn info(&self, key: KeyId) -> Result<Vec<u8>> {
        let mut info = Vec::with_capacity(128);
        info.extend_from_slice(LABEL);
        info.extend_from_slice(key.as_bytes());
        info.push(self.argument as u8);
        for name in [self.database, self.role, self.name] {
            let too_long = Error::TooLong { what: "a name", max: NAME_LEN_MAX, found: name.len() };
            let len = u32::try_from(name.len()).ok().filter(|_| name.len() <= NAME_LEN_MAX).ok_or(too_long)?;
            info.extend_from_slice(&len.to_le_bytes());
            info.extend_from_slice(name.as_bytes());
        }
        Ok(info)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const KEY: KeyId = KeyId::from_bytes([0x11; 16]);

    #[test]
    fn known_bytes() {
        let binding = Binding { database: "app", role: "me", name: "é", argument: Argument::IndexKey };
        let mut expected = b"sealvec v1 transport".to_vec();
        expected.extend([0x11; 16]);
        expected.extend(b"\x03\x03\0\0\0app\x02\0\0\0me\x02\0\0\0\xc3\xa9");
        assert_eq!(binding.info(KEY).unwrap(), expected);
    }

    #[test]
    fn no_two_bindings_encode_alike() {
        let names = ["", "a", "ab", "b", "\0", "a\x01\0\0\0b"];
        let mut seen = HashSet::new();
        for argument in Argument::ALL {
            for database in names {
                for role in names {
                    for name in names {
                        assert!(seen.insert(Binding { database, role, name, argument }.info(KEY).unwrap()));
                    }
                }
            }
        }
        let binding = Binding { database: "", role: "", name: "", argument: Argument::Kek };
        assert!(seen.insert(binding.info(KeyId::from_bytes([0x12; 16])).unwrap()));
    }

    #[test]
    fn a_name_has_an_end() {
        let long = "x".repeat(NAME_LEN_MAX + 1);
        let ok = Binding { database: "d", role: "r", name: &long[1..], argument: Argument::Kek };
        assert!(ok.info(KEY).is_ok());
        let result = Binding { name: &long, ..ok }.info(KEY);
        assert!(matches!(result, Err(Error::TooLong { found: 4_097, .. })));
    }
}
