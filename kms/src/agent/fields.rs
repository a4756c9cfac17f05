//! Fields of a frame: written in one piece that is wiped, read off the front of untrusted bytes.

use sealvec_core::keys::{Kek, KeyContext, Purpose, Uuid};
use zeroize::Zeroizing;

use super::{FRAME_LEN_MAX, LENGTH_LEN, ProtocolError, VERSION};

const KEK_LEN: usize = 32;
/// Room for everything but texts and bytes: header, times, contexts, KEK and lengths.
const FIXED_LEN_MAX: usize = 256;

/// A frame that is being written. It never grows: growing would leave a copy of a key behind.
pub(super) struct Writer(Zeroizing<Vec<u8>>);

impl Writer {
    /// `texts_len`: bytes of all texts and byte fields.
    pub fn new(kind: u8, id: u64, texts_len: usize) -> Self {
        let mut out = Zeroizing::new(Vec::with_capacity(FIXED_LEN_MAX + texts_len));
        out.extend_from_slice(&[0; LENGTH_LEN]);
        out.extend_from_slice(&[VERSION, kind]);
        out.extend_from_slice(&id.to_le_bytes());
        Self(out)
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        assert!(self.0.len() + bytes.len() <= self.0.capacity(), "the length of all texts was given");
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn byte(self, byte: u8) -> Self {
        self.raw(&[byte])
    }

    pub fn number(self, number: u32) -> Self {
        self.raw(&number.to_le_bytes())
    }

    pub fn bytes(self, bytes: &[u8]) -> Self {
        self.raw(&(bytes.len() as u32).to_le_bytes()).raw(bytes)
    }

    pub fn kek(self, kek: &Kek) -> Self {
        self.raw(kek.expose())
    }

    pub fn context(self, context: &KeyContext) -> Self {
        self.raw(context.ring.as_bytes()).number(context.dek_version).byte(context.purpose as u8)
    }

    /// The whole frame.
    pub fn finish(mut self) -> Result<Zeroizing<Vec<u8>>, ProtocolError> {
        let len = self.0.len() - LENGTH_LEN;
        if len > FRAME_LEN_MAX {
            return Err(ProtocolError { what: "a frame of more than 65,536 bytes" });
        }
        self.0[..LENGTH_LEN].copy_from_slice(&(len as u32).to_le_bytes());
        Ok(self.0)
    }
}

/// Takes fields off what follows a frame's length.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Kind and id, then the fields.
    pub fn new(frame: &'a [u8]) -> Result<(u8, u64, Self), ProtocolError> {
        let mut reader = Self(frame);
        let [version, kind] = reader.array("a frame")?;
        if version != VERSION {
            return Err(ProtocolError { what: "a frame's version" });
        }
        let id = u64::from_le_bytes(reader.array("a frame")?);
        Ok((kind, id, reader))
    }

    fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], ProtocolError> {
        let (field, rest) = self.0.split_at_checked(len).ok_or(ProtocolError { what })?;
        self.0 = rest;
        Ok(field)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], ProtocolError> {
        Ok(self.take(N, what)?.try_into().expect("take gave N bytes"))
    }

    pub fn byte(&mut self, what: &'static str) -> Result<u8, ProtocolError> {
        Ok(self.array::<1>(what)?[0])
    }

    pub fn number(&mut self, what: &'static str) -> Result<u32, ProtocolError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], ProtocolError> {
        let len = self.number(what)?;
        self.take(len as usize, what)
    }

    pub fn text(&mut self, what: &'static str) -> Result<String, ProtocolError> {
        let text = std::str::from_utf8(self.bytes(what)?).map_err(|_| ProtocolError { what })?;
        Ok(text.to_owned())
    }

    pub fn kek(&mut self) -> Result<Kek, ProtocolError> {
        Ok(Kek::from_slice(self.take(KEK_LEN, "a KEK")?).expect("32 bytes"))
    }

    pub fn context(&mut self) -> Result<KeyContext, ProtocolError> {
        const WHAT: &str = "a key context";
        let ring = Uuid::from_bytes(self.array(WHAT)?);
        let dek_version = self.number(WHAT)?;
        let purpose = Purpose::from_byte(self.byte(WHAT)?).ok_or(ProtocolError { what: WHAT })?;
        Ok(KeyContext { ring, dek_version, purpose })
    }

    pub fn end(self) -> Result<(), ProtocolError> {
        if self.0.is_empty() { Ok(()) } else { Err(ProtocolError { what: "what follows a frame's last field" }) }
    }
}
