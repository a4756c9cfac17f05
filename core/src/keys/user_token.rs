//! A user's token: `cdbk_1_` and base64url (RFC 4648, section 5, no padding) of
//! `user id (16) ‖ user KEK (32) ‖ tag (8)`, 82 characters in all.
//!
//! `tag = HMAC-SHA-256(server key, "1" ‖ user id ‖ user KEK)[..8]`
//! `server key = PBKDF2-HMAC-SHA-256(root key, salt = "sealvec v1 server key", 600,000)`
//!
//! Form and tag are the original's, so its clients' checks pass. The tag only keeps noise from the
//! database: 64 bits are no credential. What opens a ring is the KEK, against the record's commitment.
//!
//! Every user can try out root keys on the tag of his own token. The original's server key, one SHA-256 of the root
//! key, lets him try a billion a second; no client sees the server key, so ours is stretched.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use super::user::{USER_ID_LEN, UserId};
use super::{Kek, UserRecord};
use crate::crypto::stretch::stretch;
use crate::crypto::{KEY_LEN, digest, mac};
use crate::{Error, Result};

const PREFIX: &str = "cdbk_1_";
const VERSION: &[u8] = b"1";
const TAG_LEN: usize = 8;
const BODY_LEN: usize = USER_ID_LEN + KEY_LEN + TAG_LEN;
const SERVER_KEY_LABEL: &[u8] = b"sealvec v1 server key";
const PUBLIC_LABEL: &[u8] = b"sealvec public tag";
const MALFORMED: Error = Error::Malformed { what: "user token" };

/// Characters of a token.
pub const TOKEN_LEN: usize = PREFIX.len() + 75;

/// What a server's tokens are tagged with. Another root key makes every token foreign. Wiped on drop.
pub struct ServerKey(Box<Zeroizing<[u8; KEY_LEN]>>);

impl ServerKey {
    /// From the server's root key, of any length, as the server was given it. Takes a tenth of a second, on purpose:
    /// once per server, not per call.
    pub fn from_root_key(root_key: &[u8]) -> Self {
        Self::of(&stretch(SERVER_KEY_LABEL, root_key))
    }

    /// A key that everybody has, for tokens that no server of tags will see: the tag is a checksum.
    pub fn public() -> Self {
        Self::of(&digest::sha256(&[PUBLIC_LABEL]))
    }

    fn of(bytes: &[u8; KEY_LEN]) -> Self {
        let mut key = Box::new(Zeroizing::new([0; KEY_LEN])); // filled where it stays: a move would leave a copy
        key.copy_from_slice(bytes);
        Self(key)
    }

    fn tag(&self, body: &[u8]) -> [u8; TAG_LEN] {
        let message = Zeroizing::new([VERSION, body].concat());
        *mac::authenticate(&self.0, &message).first_chunk().expect("a code has 32 bytes")
    }
}

impl std::fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerKey([redacted])")
    }
}

/// What a user shows: who he is, and the KEK that opens his copies. Not Clone; wiped on drop.
#[derive(Debug)]
pub struct UserToken {
    user: UserId,
    kek: Kek,
}

impl UserToken {
    /// A fresh user with a fresh KEK.
    pub fn generate() -> Result<Self> {
        Ok(Self { user: UserId::random()?, kek: Kek::generate()? })
    }

    /// Of a user whose KEK is at hand.
    pub fn new(user: UserId, kek: Kek) -> Self {
        Self { user, kek }
    }

    /// The user.
    pub fn user(&self) -> UserId {
        self.user
    }

    /// The KEK of his [`UserRecord`]s.
    pub fn kek(&self) -> &Kek {
        &self.kek
    }

    /// Whether `record` is of this user, and the KEK its own.
    ///
    /// # Errors
    /// [`Error::WrongKey`], for both alike.
    pub fn check(&self, record: &UserRecord) -> Result<()> {
        if record.user() == self.user { record.check_kek(&self.kek) } else { Err(Error::WrongKey) }
    }

    /// The text that is shown once and kept nowhere. Wiped on drop; whoever copies it out wipes the copy.
    pub fn encode(&self, server: &ServerKey) -> Zeroizing<String> {
        let mut body = Zeroizing::new([0; BODY_LEN]);
        body[..USER_ID_LEN].copy_from_slice(self.user.as_bytes());
        body[USER_ID_LEN..][..KEY_LEN].copy_from_slice(self.kek.expose());
        let tag = server.tag(&body[..BODY_LEN - TAG_LEN]);
        body[BODY_LEN - TAG_LEN..].copy_from_slice(&tag);
        let mut text = Zeroizing::new(String::with_capacity(TOKEN_LEN)); // never regrown, so no copy is left behind
        text.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(&body[..], &mut text);
        text
    }

    /// Reads a token that `server` made. Strict: one text per token.
    ///
    /// # Errors
    /// [`Error::Malformed`] for text that is none, [`Error::WrongKey`] for a token of another server.
    pub fn decode(text: &str, server: &ServerKey) -> Result<Self> {
        let body = read_body(text)?;
        let (front, tag) = body.split_at(BODY_LEN - TAG_LEN);
        let mut expected = server.tag(front);
        let fits = bool::from(expected[..].ct_eq(tag));
        expected.zeroize();
        if fits { Self::of_front(front) } else { Err(Error::WrongKey) }
    }

    /// Reads a token of any server: for whoever has the user's record, which alone decides. The tag is looked at by
    /// servers, to turn strangers away without asking the database.
    ///
    /// # Errors
    /// [`Error::Malformed`] for text that is none.
    pub fn read(text: &str) -> Result<Self> {
        Self::of_front(&read_body(text)?[..BODY_LEN - TAG_LEN])
    }

    /// The user and his KEK.
    pub fn into_parts(self) -> (UserId, Kek) {
        (self.user, self.kek)
    }

    fn of_front(front: &[u8]) -> Result<Self> {
        let (user, kek) = front.split_first_chunk().expect("48 bytes");
        Ok(Self { user: UserId::from_bytes(*user), kek: Kek::from_slice(kek)? })
    }

    /// What a server keeps to know a token again: SHA-256 of its text. The text has 256 random bits, so no salt
    /// and no slow hash is needed.
    pub fn fingerprint(text: &str) -> [u8; 32] {
        digest::sha256(&[text.as_bytes()])
    }
}

fn read_body(text: &str) -> Result<Zeroizing<[u8; BODY_LEN]>> {
    let digits = text.strip_prefix(PREFIX).filter(|_| text.len() == TOKEN_LEN).ok_or(MALFORMED)?;
    let mut body = Zeroizing::new([0; BODY_LEN]);
    let decoded = URL_SAFE_NO_PAD.decode_slice(digits, &mut body[..]);
    if decoded == Ok(BODY_LEN) { Ok(body) } else { Err(MALFORMED) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &[u8] = b"root key of a test";

    fn token() -> UserToken {
        let kek = std::array::from_fn::<u8, 32, _>(|i| 0x80 + i as u8);
        UserToken::new(UserId::from_bytes(std::array::from_fn(|i| i as u8)), Kek::from_slice(&kek).unwrap())
    }

    /// Computed with Python's hashlib, hmac and base64, not by this module.
    const TEXT: &str = "cdbk_1_AAECAwQFBgcICQoLDA0OD4CBgoOEhYaHiImKi4yNjo-QkZKTlJWWl5iZmpucnZ6f_jy5s8nENrE";

    #[test]
    fn known_answer() {
        let server = ServerKey::from_root_key(ROOT);
        assert_eq!(*token().encode(&server), TEXT);
        let read = UserToken::decode(TEXT, &server).unwrap();
        assert_eq!((read.user(), read.kek().expose()), (token().user(), token().kek().expose()));
        assert_eq!(
            hex::encode(UserToken::fingerprint(TEXT)),
            "f15a6fa0a28b5d86839c0e83c3e9e9800c06825a49ac4fd6d3e68ca1e3eee2fd"
        );
    }

    #[test]
    fn a_public_tag_is_no_servers() {
        let text = token().encode(&ServerKey::public());
        assert_eq!(*text, "cdbk_1_AAECAwQFBgcICQoLDA0OD4CBgoOEhYaHiImKi4yNjo-QkZKTlJWWl5iZmpucnZ6f-0-L4KVLLE4");
        assert!(matches!(UserToken::decode(&text, &ServerKey::from_root_key(ROOT)), Err(Error::WrongKey)));
        assert!(matches!(UserToken::decode(TEXT, &ServerKey::public()), Err(Error::WrongKey)));
        assert_eq!(UserToken::read(&text).unwrap().user(), token().user());
    }

    #[test]
    fn a_fresh_token_reads_back() {
        let (server, token) = (ServerKey::from_root_key(ROOT), UserToken::generate().unwrap());
        let text = token.encode(&server);
        assert_eq!((text.len(), text.capacity()), (TOKEN_LEN, TOKEN_LEN));
        let read = UserToken::decode(&text, &server).unwrap();
        assert_eq!((read.user(), read.kek().expose()), (token.user(), token.kek().expose()));
        assert_ne!(UserToken::generate().unwrap().user(), token.user());
    }

    #[test]
    fn another_server_knows_it_not() {
        for other in [&b""[..], b"root key of a tesT", b"root key of a test\n"] {
            let read = UserToken::decode(TEXT, &ServerKey::from_root_key(other));
            assert!(matches!(read, Err(Error::WrongKey)));
        }
    }

    #[test]
    fn every_changed_character_is_refused() {
        let server = ServerKey::from_root_key(ROOT);
        for place in 0..TEXT.len() {
            for other in ["A", "b", "_", "=", " ", "\0", "+"] {
                let mut text = TEXT.to_owned();
                text.replace_range(place..=place, other);
                if text != TEXT {
                    assert!(UserToken::decode(&text, &server).is_err(), "{place} {other:?}");
                }
            }
        }
    }

    #[test]
    fn no_other_text_is_a_token() {
        let server = ServerKey::from_root_key(ROOT);
        let longer = format!("{TEXT}A");
        let padded = format!("{TEXT}=");
        let wide = format!("{}é", &TEXT[..TOKEN_LEN - 2]); // the right number of bytes
        let upper = TEXT.to_uppercase();
        let second = TEXT.replacen("_1_", "_2_", 1);
        for bad in ["", "cdbk_1_", &TEXT[1..], &TEXT[..TOKEN_LEN - 1], &longer, &padded, &wide, &upper, &second] {
            assert!(matches!(UserToken::decode(bad, &server), Err(Error::Malformed { .. })), "{bad}");
        }
    }

    #[test]
    fn stray_bits_in_the_last_digit_are_refused() {
        // 56 bytes end two bits short of a digit: another digit with the same upper bits would be a second text.
        let server = ServerKey::from_root_key(ROOT);
        let last = TEXT.chars().last().unwrap();
        let digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let place = digits.find(last).unwrap();
        assert_eq!(place % 4, 0);
        for stray in 1..4 {
            let text = format!("{}{}", &TEXT[..TOKEN_LEN - 1], &digits[place + stray..][..1]);
            assert!(matches!(UserToken::decode(&text, &server), Err(Error::Malformed { .. })));
        }
    }

    #[test]
    fn debug_shows_no_key() {
        let shown = format!("{:?} {:?}", token(), ServerKey::from_root_key(ROOT));
        assert!(shown.contains("Kek([redacted])") && shown.contains("ServerKey([redacted])"));
        assert!(!shown.contains("128") && !shown.contains("0x80"), "{shown}");
    }
}
