//! The least client that can time a query: one Unix socket, one prepared statement, binary both ways.
//!
//! A general client costs 20 to 40 µs a query in tasks and buffers, a third of what is measured here. This one writes
//! Bind, Execute and Sync in one `write` and reads the answer in one `read`. It also inserts and copies, as bare.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

pub struct Wire {
    stream: UnixStream,
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
    /// Bytes of `incoming` read from the socket and not yet parsed.
    unread: std::ops::Range<usize>,
    /// The backend's process id.
    pub pid: u32,
}

impl Wire {
    pub fn connect(socket_directory: &Path, port: u16, database: &str) -> Result<Self> {
        let path = socket_directory.join(format!(".s.PGSQL.{port}"));
        let stream = UnixStream::connect(&path).with_context(|| format!("could not connect to {}", path.display()))?;
        let mut wire = Self { stream, outgoing: Vec::new(), incoming: vec![0; 1 << 16], unread: 0..0, pid: 0 };
        let mut body = 196_608_u32.to_be_bytes().to_vec(); // protocol 3.0
        for word in ["user", "postgres", "database", database] {
            body.extend(word.as_bytes());
            body.push(0);
        }
        body.push(0);
        wire.outgoing.extend((body.len() as u32 + 4).to_be_bytes());
        wire.outgoing.extend(body);
        wire.flush()?;
        let mut pid = 0;
        wire.until_ready(|kind, body| {
            match kind {
                b'R' => ensure!(body == [0; 4], "the server asks for a password; this cluster should trust its socket"),
                b'K' => pid = u32::from_be_bytes(body[..4].try_into()?),
                _ => {}
            }
            Ok(())
        })?;
        wire.pid = pid;
        Ok(wire)
    }

    /// Runs SQL that returns nothing of interest.
    pub fn execute(&mut self, sql: &str) -> Result<()> {
        self.message(b'Q', |body| {
            body.extend(sql.as_bytes());
            body.push(0);
        });
        self.flush()?;
        self.until_ready(|_, _| Ok(())).with_context(|| format!("in: {sql}"))
    }

    /// Prepares the statement that [`Wire::query`] and [`Wire::insert`] run, with parameters of these types.
    pub fn prepare(&mut self, sql: &str, types: &[u32]) -> Result<()> {
        self.message(b'P', |body| {
            body.extend(b"query\0");
            body.extend(sql.as_bytes());
            body.push(0);
            body.extend((types.len() as u16).to_be_bytes());
            body.extend(types.iter().flat_map(|oid| oid.to_be_bytes()));
        });
        self.message(b'S', |_| {});
        self.flush()?;
        self.until_ready(|_, _| Ok(())).with_context(|| format!("in: {sql}"))
    }

    /// Runs the prepared statement; `rows` gets the int4 of each row.
    pub fn query(&mut self, parameter: &[u8], rows: &mut Vec<i32>) -> Result<()> {
        rows.clear();
        self.bind(&[parameter]);
        self.message(b'S', |_| {});
        self.flush()?;
        self.until_ready(|kind, body| {
            if kind == b'D' {
                ensure!(body.len() == 10 && body[..6] == [0, 1, 0, 0, 0, 4], "expected rows of one int4");
                rows.push(i32::from_be_bytes(body[6..].try_into()?));
            }
            Ok(())
        })
    }

    /// Runs the prepared statement, an INSERT of an int4 and a vector, once for each row: sent as one pipeline, done in
    /// one transaction, committed when this returns.
    pub fn insert<'a>(&mut self, rows: impl IntoIterator<Item = (i32, &'a [u8])>) -> Result<()> {
        for (id, vector) in rows {
            self.bind(&[&id.to_be_bytes(), vector]);
        }
        self.message(b'S', |_| {});
        self.flush()?;
        self.until_ready(|_, _| Ok(()))
    }

    /// Runs `COPY … FROM STDIN` with this data; returns when it is committed.
    pub fn copy(&mut self, sql: &str, data: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Result<()> {
        self.message(b'Q', |body| {
            body.extend(sql.as_bytes());
            body.push(0);
        });
        for piece in data {
            self.message(b'd', |body| body.extend(piece.as_ref()));
            if let Err(error) = self.flush() {
                // The server went away, and said why before: read that.
                self.outgoing.clear();
                self.until_ready(|_, _| Ok(())).with_context(|| format!("in: {sql}"))?;
                return Err(error);
            }
        }
        self.message(b'c', |_| {});
        self.flush()?;
        self.until_ready(|_, _| Ok(())).with_context(|| format!("in: {sql}"))
    }

    /// Binds the unnamed portal, parameters and results in binary, and executes it.
    fn bind(&mut self, parameters: &[&[u8]]) {
        self.message(b'B', |body| {
            body.extend(b"\0query\0"); // unnamed portal
            body.extend([0, 1, 0, 1]); // one format for all parameters: binary
            body.extend((parameters.len() as u16).to_be_bytes());
            for parameter in parameters {
                body.extend((parameter.len() as u32).to_be_bytes());
                body.extend(*parameter);
            }
            body.extend([0, 1, 0, 1]); // results in binary
        });
        self.message(b'E', |body| body.extend([0; 5]));
    }

    fn message(&mut self, kind: u8, fill: impl FnOnce(&mut Vec<u8>)) {
        self.outgoing.push(kind);
        let begin = self.outgoing.len();
        self.outgoing.extend([0; 4]);
        fill(&mut self.outgoing);
        let length = (self.outgoing.len() - begin) as u32;
        self.outgoing[begin..begin + 4].copy_from_slice(&length.to_be_bytes());
    }

    fn flush(&mut self) -> Result<()> {
        self.stream.write_all(&self.outgoing).context("the server closed the connection")?;
        self.outgoing.clear();
        Ok(())
    }

    /// Hands each message to `each` until ReadyForQuery; the first ErrorResponse becomes the error.
    fn until_ready(&mut self, mut each: impl FnMut(u8, &[u8]) -> Result<()>) -> Result<()> {
        let mut failure = None;
        loop {
            self.need(5)?;
            let head = self.unread.start;
            let kind = self.incoming[head];
            let length = u32::from_be_bytes(self.incoming[head + 1..head + 5].try_into()?) as usize;
            ensure!(length >= 4, "the server sent a message shorter than its own header");
            self.need(length + 1)?;
            let head = self.unread.start;
            let body = &self.incoming[head + 5..head + 1 + length];
            match kind {
                b'E' if failure.is_none() => failure = Some(error_text(body)),
                b'Z' => {
                    self.unread.start = head + 1 + length;
                    return failure.map_or(Ok(()), |text| bail!(text));
                }
                _ if failure.is_none() => each(kind, body)?,
                _ => {}
            }
            self.unread.start = head + 1 + length;
        }
    }

    /// Reads until `bytes` unparsed bytes are in the buffer.
    fn need(&mut self, bytes: usize) -> Result<()> {
        if self.unread.is_empty() {
            self.unread = 0..0;
        } else if self.unread.start + bytes > self.incoming.len() {
            self.incoming.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
        }
        if bytes > self.incoming.len() {
            self.incoming.resize(bytes * 2, 0);
        }
        while self.unread.len() < bytes {
            let read = self.stream.read(&mut self.incoming[self.unread.end..])?;
            ensure!(read > 0, "the server closed the connection; see its log");
            self.unread.end += read;
        }
        Ok(())
    }
}

/// Message, detail and hint of an ErrorResponse.
fn error_text(body: &[u8]) -> String {
    let field = |wanted: u8| {
        body.split(|&byte| byte == 0)
            .find(|field| field.first() == Some(&wanted))
            .map(|field| String::from_utf8_lossy(&field[1..]).into_owned())
    };
    [b'M', b'D', b'H'].into_iter().filter_map(field).collect::<Vec<_>>().join("\n")
}
