//! What the database server asks.

use std::time::Duration;

use sealvec_core::keys::{Kek, KeyContext};
use zeroize::Zeroizing;

use super::ProtocolError;
use super::fields::{Reader, Writer};

const WRAP: u8 = 1;
const UNWRAP: u8 = 2;
const GENERATE: u8 = 3;
const REWRAP: u8 = 4;
const CHECK: u8 = 5;

/// A slot as the catalogue has it. The agent's own registry may know better.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// Its provider's.
    pub provider: String,
    /// Text of a JSON object: where the key is, and no secret.
    pub options: String,
}

impl Slot {
    fn len(&self) -> usize {
        self.name.len() + self.provider.len() + self.options.len()
    }
}

/// One request and the time that it may take.
#[derive(Debug)]
pub struct Call {
    /// Comes back with the answer.
    pub id: u64,
    /// How long the caller waits; whole milliseconds.
    pub time_max: Duration,
    /// What is asked.
    pub request: Request,
}

/// What is asked. Debug shows no key.
#[derive(Debug)]
pub enum Request {
    /// Wrap this KEK: answered by `Wrapped`.
    Wrap {
        /// Under the slot's key.
        slot: Slot,
        /// Bound to this.
        context: KeyContext,
        /// The KEK.
        kek: Kek,
    },
    /// Unwrap a KEK: answered by `Key`.
    Unwrap {
        /// How to reach the service.
        slot: Slot,
        /// What it was bound to.
        context: KeyContext,
        /// Which key wrapped it, as its envelope says.
        key_reference: String,
        /// The wrapped KEK.
        wrapped: Vec<u8>,
    },
    /// Make a fresh KEK: answered by `Generated`.
    Generate {
        /// Under the slot's key.
        slot: Slot,
        /// Bound to this.
        context: KeyContext,
    },
    /// Move a wrapped KEK to another key, or to a newer version of the same: answered by `Wrapped`.
    Rewrap {
        /// Where it can be unwrapped.
        from: Slot,
        /// Whose key wraps it from now on.
        to: Slot,
        /// What it was and will be bound to.
        context: KeyContext,
        /// Which key wrapped it.
        key_reference: String,
        /// The wrapped KEK.
        wrapped: Vec<u8>,
    },
    /// Wrap and unwrap something, to see whether the slot works: answered by `Ok`.
    Check {
        /// The slot.
        slot: Slot,
    },
}

impl Call {
    /// The whole frame, its length included.
    ///
    /// # Errors
    /// If it has more than [`super::FRAME_LEN_MAX`] bytes.
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, ProtocolError> {
        let time_ms = u32::try_from(self.time_max.as_millis()).unwrap_or(u32::MAX);
        let begin = |kind, texts_len| Writer::new(kind, self.id, texts_len).number(time_ms);
        let slot_in = |writer: Writer, slot: &Slot| {
            writer.bytes(slot.name.as_bytes()).bytes(slot.provider.as_bytes()).bytes(slot.options.as_bytes())
        };
        let writer = match &self.request {
            Request::Wrap { slot, context, kek } => slot_in(begin(WRAP, slot.len()), slot).context(context).kek(kek),
            Request::Unwrap { slot, context, key_reference, wrapped } => {
                let begun = begin(UNWRAP, slot.len() + key_reference.len() + wrapped.len());
                slot_in(begun, slot).context(context).bytes(key_reference.as_bytes()).bytes(wrapped)
            }
            Request::Generate { slot, context } => slot_in(begin(GENERATE, slot.len()), slot).context(context),
            Request::Rewrap { from, to, context, key_reference, wrapped } => {
                let begun = begin(REWRAP, from.len() + to.len() + key_reference.len() + wrapped.len());
                let begun = slot_in(slot_in(begun, from), to);
                begun.context(context).bytes(key_reference.as_bytes()).bytes(wrapped)
            }
            Request::Check { slot } => slot_in(begin(CHECK, slot.len()), slot),
        };
        writer.finish()
    }

    /// Reads what follows a frame's length.
    ///
    /// # Errors
    /// For anything that [`encode`](Self::encode) does not write.
    pub fn decode(frame: &[u8]) -> Result<Self, ProtocolError> {
        let (kind, id, mut reader) = Reader::new(frame)?;
        if !(WRAP..=CHECK).contains(&kind) {
            return Err(ProtocolError { what: "the kind of a request" });
        }
        let time_max = Duration::from_millis(reader.number("a time")?.into());
        let slot = slot_from(&mut reader)?;
        let reference = |reader: &mut Reader<'_>| reader.text("a key reference");
        let wrapped = |reader: &mut Reader<'_>| reader.bytes("a wrapped key").map(<[u8]>::to_vec);
        let request = match kind {
            WRAP => Request::Wrap { slot, context: reader.context()?, kek: reader.kek()? },
            UNWRAP => Request::Unwrap {
                slot,
                context: reader.context()?,
                key_reference: reference(&mut reader)?,
                wrapped: wrapped(&mut reader)?,
            },
            GENERATE => Request::Generate { slot, context: reader.context()? },
            REWRAP => Request::Rewrap {
                from: slot,
                to: slot_from(&mut reader)?,
                context: reader.context()?,
                key_reference: reference(&mut reader)?,
                wrapped: wrapped(&mut reader)?,
            },
            _ => Request::Check { slot },
        };
        reader.end()?;
        Ok(Self { id, time_max, request })
    }
}

fn slot_from(reader: &mut Reader<'_>) -> Result<Slot, ProtocolError> {
    Ok(Slot {
        name: reader.text("a slot's name")?,
        provider: reader.text("a slot's provider")?,
        options: reader.text("a slot's options")?,
    })
}

#[cfg(test)]
mod tests {
    use sealvec_core::keys::Uuid;

    use super::super::{FRAME_LEN_MAX, LENGTH_LEN, frame_len};
    use super::*;

    fn slot(name: &str) -> Slot {
        Slot { name: name.into(), provider: "vault".into(), options: r#"{"key":"k"}"#.into() }
    }

    fn calls() -> Vec<Call> {
        let context = KeyContext::kek(Uuid::from_bytes([0x5a; 16]));
        let kek = Kek::from_slice(&[9; 32]).unwrap();
        let (key_reference, wrapped) = ("vault:v1".to_owned(), vec![1, 2, 3]);
        [
            Request::Wrap { slot: slot("a"), context, kek },
            Request::Unwrap {
                slot: slot("b"),
                context: KeyContext::dek(context.ring, 7),
                key_reference: key_reference.clone(),
                wrapped: wrapped.clone(),
            },
            Request::Generate { slot: slot(""), context: KeyContext::id_key(context.ring) },
            Request::Rewrap { from: slot("c"), to: slot("é"), context, key_reference, wrapped },
            Request::Check { slot: slot("d") },
        ]
        .into_iter()
        .zip(1..)
        .map(|(request, id)| Call { id, time_max: Duration::from_millis(5_000), request })
        .collect()
    }

    /// Version 1 for ever.
    #[test]
    fn golden_bytes() {
        let mut frame = vec![96, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0x88, 0x13, 0, 0];
        for text in [&b"a"[..], b"vault", br#"{"key":"k"}"#] {
            frame.extend_from_slice(&[text.len() as u8, 0, 0, 0]);
            frame.extend_from_slice(text);
        }
        frame.extend_from_slice(&[0x5a; 16]);
        frame.extend_from_slice(&[0, 0, 0, 0, 1]);
        frame.extend_from_slice(&[9; 32]);
        assert_eq!(&calls()[0].encode().unwrap()[..], &frame[..]);
    }

    #[test]
    fn calls_come_back() {
        for call in calls() {
            let frame = call.encode().unwrap();
            let (length, rest) = frame.split_at(LENGTH_LEN);
            assert_eq!(frame_len(length.try_into().unwrap()).unwrap(), rest.len());
            let again = Call::decode(rest).unwrap();
            assert_eq!((again.id, again.time_max), (call.id, call.time_max));
            assert_eq!(&again.encode().unwrap()[..], &frame[..]);
            assert!(!format!("{call:?}").contains("9, 9"));
        }
    }

    #[test]
    fn no_part_or_more_than_the_whole_is_taken() {
        for call in calls() {
            let frame = call.encode().unwrap();
            for end in LENGTH_LEN..frame.len() {
                assert!(Call::decode(&frame[LENGTH_LEN..end]).is_err(), "{end} of {call:?}");
            }
            assert!(Call::decode(&[&frame[LENGTH_LEN..], &[0]].concat()).is_err());
        }
    }

    #[test]
    fn other_versions_kinds_and_lengths_are_refused() {
        let frame = calls()[4].encode().unwrap();
        for (at, value) in [(0, 0), (0, 2), (1, 0), (1, 6), (1, 129), (1, 255), (14, 255)] {
            let mut bad = frame[LENGTH_LEN..].to_vec();
            bad[at] = value;
            assert!(Call::decode(&bad).is_err(), "{at} = {value}");
        }
        for len in [0, 9, FRAME_LEN_MAX as u32 + 1, u32::MAX] {
            assert!(frame_len(len.to_le_bytes()).is_err(), "{len}");
        }
        assert_eq!(frame_len((FRAME_LEN_MAX as u32).to_le_bytes()), Ok(FRAME_LEN_MAX));
        let long = Slot { options: "x".repeat(FRAME_LEN_MAX), ..slot("a") };
        assert!(Call { id: 1, time_max: Duration::ZERO, request: Request::Check { slot: long } }.encode().is_err());
    }
}
