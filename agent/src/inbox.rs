//! Frames off a connection, in a buffer that is wiped: some of them hold a KEK.

use std::io;
use std::time::Duration;

use sealvec_kms::agent::{Call, FRAME_LEN_MAX, LENGTH_LEN, ProtocolError, frame_len};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;
use zeroize::{Zeroize, Zeroizing};

/// For the rest of a frame once it began.
const FRAME_TIME_MAX: Duration = Duration::from_secs(10);

/// The reading half of a connection.
pub(crate) struct Inbox<R> {
    reader: R,
    held: Zeroizing<Vec<u8>>, // never grows: growing would leave a copy behind
    filled: usize,
}

impl<R: AsyncRead + Unpin> Inbox<R> {
    pub fn new(reader: R) -> Self {
        Self { reader, held: Zeroizing::new(vec![0; LENGTH_LEN + FRAME_LEN_MAX]), filled: 0 }
    }

    /// The next call, or none at the end of the connection. Bytes that are no call are a [`ProtocolError`], after
    /// which nothing more can be read.
    pub async fn next(&mut self) -> io::Result<Option<Result<Call, ProtocolError>>> {
        if self.filled == 0 && self.more().await? == 0 {
            return Ok(None);
        }
        timeout(FRAME_TIME_MAX, self.rest()).await.map_err(io::Error::from)?.map(Some)
    }

    async fn rest(&mut self) -> io::Result<Result<Call, ProtocolError>> {
        while self.filled < LENGTH_LEN {
            self.some().await?;
        }
        let length = self.held[..LENGTH_LEN].try_into().expect("4 bytes");
        let end = match frame_len(length) {
            Ok(len) => LENGTH_LEN + len,
            Err(error) => return Ok(Err(error)),
        };
        while self.filled < end {
            self.some().await?;
        }
        let call = Call::decode(&self.held[LENGTH_LEN..end]);
        self.held.copy_within(end..self.filled, 0);
        let rest = self.filled - end;
        self.held[rest..self.filled].zeroize();
        self.filled = rest;
        Ok(call)
    }

    /// Done when the other side has closed. Not done while it only sends more.
    pub async fn closed(&mut self) {
        while self.filled < self.held.len() {
            if matches!(self.more().await, Ok(0) | Err(_)) {
                return;
            }
        }
        std::future::pending().await
    }

    async fn some(&mut self) -> io::Result<()> {
        match self.more().await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    async fn more(&mut self) -> io::Result<usize> {
        let read = self.reader.read(&mut self.held[self.filled..]).await?;
        self.filled += read;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use sealvec_core::keys::{Kek, KeyContext, Uuid};
    use sealvec_kms::agent::{Request, Slot};
    use tokio::io::AsyncWriteExt;

    use super::*;

    fn call(id: u64) -> Call {
        let slot = Slot { name: "s".into(), provider: "vault".into(), options: "{}".into() };
        let context = KeyContext::kek(Uuid::from_bytes([1; 16]));
        let kek = Kek::from_slice(&[0xe7; 32]).unwrap();
        Call { id, time_max: Duration::from_secs(1), request: Request::Wrap { slot, context, kek } }
    }

    #[tokio::test]
    async fn frames_come_in_any_pieces_and_leave_nothing_behind() {
        let both = [&call(1).encode().unwrap()[..], &call(2).encode().unwrap()].concat();
        for piece in [1, 7, 50, both.len()] {
            let (mut ours, theirs) = tokio::io::duplex(both.len());
            let mut inbox = Inbox::new(theirs);
            let frames = both.clone();
            tokio::spawn(async move {
                for part in frames.chunks(piece) {
                    ours.write_all(part).await.unwrap();
                    tokio::task::yield_now().await;
                }
            });
            for id in [1, 2] {
                assert_eq!(inbox.next().await.unwrap().unwrap().unwrap().id, id);
            }
            assert!(inbox.next().await.unwrap().is_none());
            assert!(!inbox.held.contains(&0xe7));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_frame_is_not_waited_for_without_end() {
        let (mut ours, theirs) = tokio::io::duplex(64);
        let mut inbox = Inbox::new(theirs);
        ours.write_all(&call(1).encode().unwrap()[..20]).await.unwrap();
        assert_eq!(inbox.next().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(ours);
        assert_eq!(inbox.next().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn it_tells_a_hangup_from_another_frame() {
        let (mut ours, theirs) = tokio::io::duplex(4_096);
        let mut inbox = Inbox::new(theirs);
        ours.write_all(&call(1).encode().unwrap()).await.unwrap();
        assert!(timeout(Duration::from_millis(50), inbox.closed()).await.is_err());
        assert_eq!(inbox.next().await.unwrap().unwrap().unwrap().id, 1);
        drop(ours);
        timeout(Duration::from_secs(5), inbox.closed()).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_no_frame_is_told() {
        let (mut ours, theirs) = tokio::io::duplex(64);
        let mut inbox = Inbox::new(theirs);
        ours.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        assert!(inbox.next().await.unwrap().unwrap().is_err());
    }
}
