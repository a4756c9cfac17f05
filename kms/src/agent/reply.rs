//! What the key agent answers.

use std::time::Duration;

use sealvec_core::keys::Kek;
use zeroize::Zeroizing;

use super::ProtocolError;
use super::fields::{Reader, Writer};

const KEY: u8 = 129;
const WRAPPED: u8 = 130;
const GENERATED: u8 = 131;
const OK: u8 = 132;
const REFUSED: u8 = 255;
/// Most bytes of a refusal's text; what is longer loses its end.
const TEXT_LEN_MAX: usize = 1_024;

/// Why a call failed: what the caller can do about it. The numbers are those of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Class {
    /// The service did not answer, failed, or has failed so often that it is left alone for a while.
    Unavailable = 1,
    /// The service says: too many requests.
    Throttled = 2,
    /// No right to the key, or the key is disabled or will be deleted.
    Denied = 3,
    /// Altered, bound to something else, or wrapped by another key.
    WrongKey = 4,
    /// Unknown slot or key, bad option, missing credential.
    Misconfigured = 5,
    /// Bytes that are not of this protocol.
    Protocol = 6,
}

impl Class {
    /// Every class.
    pub const ALL: [Class; 6] =
        [Class::Unavailable, Class::Throttled, Class::Denied, Class::WrongKey, Class::Misconfigured, Class::Protocol];

    /// For logs and audit.
    pub const fn name(self) -> &'static str {
        match self {
            Class::Unavailable => "unavailable",
            Class::Throttled => "throttled",
            Class::Denied => "denied",
            Class::WrongKey => "wrong key",
            Class::Misconfigured => "misconfigured",
            Class::Protocol => "protocol",
        }
    }

    /// Whether the same call may succeed later without anyone doing anything.
    pub const fn is_transient(self) -> bool {
        matches!(self, Class::Unavailable | Class::Throttled)
    }
}

/// A wrapped KEK, as its envelope will have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrapped {
    /// Name of the provider.
    pub provider: String,
    /// Which of its keys wrapped it.
    pub key_reference: String,
    /// The wrapped KEK.
    pub wrapped: Vec<u8>,
}

impl Wrapped {
    fn len(&self) -> usize {
        self.provider.len() + self.key_reference.len() + self.wrapped.len()
    }
}

/// Why a call failed. Names slots, providers and keys; no secret and nothing that a service said in its own words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// What kind of failure.
    pub class: Class,
    /// For people.
    pub text: String,
    /// How long the service wants to be left alone.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// Without a time to wait.
    pub fn new(class: Class, text: impl Into<String>) -> Self {
        Self { class, text: text.into(), retry_after: None }
    }
}

impl From<ProtocolError> for Refusal {
    fn from(error: ProtocolError) -> Self {
        Self::new(Class::Protocol, error.to_string())
    }
}

/// One answer.
#[derive(Debug)]
pub struct Reply {
    /// The call's.
    pub id: u64,
    /// What came of it.
    pub answer: Answer,
}

/// What came of a call. Debug shows no key.
#[derive(Debug)]
pub enum Answer {
    /// The KEK of an unwrap.
    Key(Kek),
    /// The wrapped KEK of a wrap or rewrap.
    Wrapped(Wrapped),
    /// A fresh KEK.
    Generated(Kek, Wrapped),
    /// The slot works.
    Ok,
    /// It failed.
    Refused(Refusal),
}

impl Reply {
    /// The whole frame, its length included.
    ///
    /// # Errors
    /// If it has more than [`super::FRAME_LEN_MAX`] bytes.
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, ProtocolError> {
        let begin = |kind, texts_len| Writer::new(kind, self.id, texts_len);
        let wrapped_in = |writer: Writer, wrapped: &Wrapped| {
            writer.bytes(wrapped.provider.as_bytes()).bytes(wrapped.key_reference.as_bytes()).bytes(&wrapped.wrapped)
        };
        let writer = match &self.answer {
            Answer::Key(kek) => begin(KEY, 0).kek(kek),
            Answer::Wrapped(wrapped) => wrapped_in(begin(WRAPPED, wrapped.len()), wrapped),
            Answer::Generated(kek, wrapped) => wrapped_in(begin(GENERATED, wrapped.len()).kek(kek), wrapped),
            Answer::Ok => begin(OK, 0),
            Answer::Refused(Refusal { class, text, retry_after }) => {
                let text = &text[..text.floor_char_boundary(TEXT_LEN_MAX)];
                let wait_ms = retry_after.map_or(0, |wait| wait.as_millis().clamp(1, u32::MAX.into()) as u32);
                begin(REFUSED, text.len()).byte(*class as u8).number(wait_ms).bytes(text.as_bytes())
            }
        };
        writer.finish()
    }

    /// Reads what follows a frame's length.
    ///
    /// # Errors
    /// For anything that [`encode`](Self::encode) does not write.
    pub fn decode(frame: &[u8]) -> Result<Self, ProtocolError> {
        let (kind, id, mut reader) = Reader::new(frame)?;
        let answer = match kind {
            KEY => Answer::Key(reader.kek()?),
            WRAPPED => Answer::Wrapped(wrapped_from(&mut reader)?),
            GENERATED => Answer::Generated(reader.kek()?, wrapped_from(&mut reader)?),
            OK => Answer::Ok,
            REFUSED => {
                let class = reader.byte("a class")?;
                let class = Class::ALL.into_iter().find(|known| *known as u8 == class);
                let class = class.ok_or(ProtocolError { what: "a class" })?;
                let wait_ms = reader.number("a time")?;
                let retry_after = (wait_ms != 0).then(|| Duration::from_millis(wait_ms.into()));
                Answer::Refused(Refusal { class, text: reader.text("a text")?, retry_after })
            }
            _ => return Err(ProtocolError { what: "the kind of an answer" }),
        };
        reader.end()?;
        Ok(Self { id, answer })
    }
}

fn wrapped_from(reader: &mut Reader<'_>) -> Result<Wrapped, ProtocolError> {
    Ok(Wrapped {
        provider: reader.text("a provider's name")?,
        key_reference: reader.text("a key reference")?,
        wrapped: reader.bytes("a wrapped key")?.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::LENGTH_LEN;
    use super::*;

    fn kek() -> Kek {
        Kek::from_slice(&[9; 32]).unwrap()
    }

    fn replies() -> Vec<Reply> {
        let wrapped = Wrapped { provider: "aws-kms".into(), key_reference: "arn:aws".into(), wrapped: vec![7; 90] };
        let refused = Class::ALL.map(|class| Answer::Refused(Refusal::new(class, format!("slot \"é\" is {class:?}"))));
        let wait =
            Refusal { retry_after: Some(Duration::from_millis(1_500)), ..Refusal::new(Class::Throttled, "wait") };
        [Answer::Key(kek()), Answer::Wrapped(wrapped.clone()), Answer::Generated(kek(), wrapped), Answer::Ok]
            .into_iter()
            .chain(refused)
            .chain([Answer::Refused(wait)])
            .map(|answer| Reply { id: u64::MAX - 1, answer })
            .collect()
    }

    /// Version 1 for ever.
    #[test]
    fn golden_bytes() {
        let refusal = Refusal { retry_after: Some(Duration::from_millis(258)), ..Refusal::new(Class::Denied, "no") };
        let frame = Reply { id: 3, answer: Answer::Refused(refusal) }.encode().unwrap();
        let expected = [21, 0, 0, 0, 1, 255, 3, 0, 0, 0, 0, 0, 0, 0, 3, 2, 1, 0, 0, 2, 0, 0, 0, b'n', b'o'];
        assert_eq!(&frame[..], expected);
        let frame = Reply { id: 3, answer: Answer::Key(kek()) }.encode().unwrap();
        assert_eq!(&frame[..], [&[42, 0, 0, 0, 1, 129, 3, 0, 0, 0, 0, 0, 0, 0][..], &[9; 32]].concat());
    }

    #[test]
    fn replies_come_back() {
        for reply in replies() {
            let frame = reply.encode().unwrap();
            let again = Reply::decode(&frame[LENGTH_LEN..]).unwrap();
            assert_eq!(format!("{again:?}"), format!("{reply:?}"));
            assert_eq!(&again.encode().unwrap()[..], &frame[..]);
            assert!(!format!("{reply:?}").contains("9, 9"));
            for end in LENGTH_LEN..frame.len() {
                assert!(Reply::decode(&frame[LENGTH_LEN..end]).is_err(), "{end} of {reply:?}");
            }
            assert!(Reply::decode(&[&frame[LENGTH_LEN..], &[0]].concat()).is_err());
        }
    }

    #[test]
    fn a_long_text_loses_its_end() {
        let refusal = Refusal::new(Class::Denied, "é".repeat(TEXT_LEN_MAX));
        let frame = Reply { id: 3, answer: Answer::Refused(refusal) }.encode().unwrap();
        let Answer::Refused(refusal) = Reply::decode(&frame[LENGTH_LEN..]).unwrap().answer else { panic!() };
        assert_eq!(refusal.text, "é".repeat(TEXT_LEN_MAX / 2));
    }

    #[test]
    fn other_kinds_and_classes_are_refused() {
        let frame = Reply { id: 3, answer: Answer::Refused(Refusal::new(Class::Denied, "no")) }.encode().unwrap();
        for (at, value) in [(0, 2), (1, 1), (1, 128), (1, 133), (10, 0), (10, 7)] {
            let mut bad = frame[LENGTH_LEN..].to_vec();
            bad[at] = value;
            assert!(Reply::decode(&bad).is_err(), "{at} = {value}");
        }
    }
}
