//! HTTP/1.1 as much of it as the sidecar speaks, byte by byte: what these tests look at is what a client library hides,
//! such as kept connections after a refusal, retries, and headers that no library would send.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// A client of one server, with one API key.
pub struct Http {
    address: String,
    key: Option<String>,
    stream: Option<BufReader<TcpStream>>,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>, // names in lower case
    pub body: Vec<u8>,
}

impl Http {
    /// Connects at the first request. `address` is `host:port`.
    pub fn new(address: impl Into<String>, key: Option<&str>) -> Self {
        Self { address: address.into(), key: key.map(str::to_owned), stream: None }
    }

    pub fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.request("GET", path, None)
    }

    pub fn post(&mut self, path: &str, body: &Value) -> io::Result<Answer> {
        self.request("POST", path, Some(body.to_string().as_bytes()))
    }

    /// A POST that must be answered with 200.
    pub fn must(&mut self, path: &str, body: &Value) -> Value {
        let answer = self.post(path, body).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    /// One request. A kept connection that the server has closed meanwhile is replaced once; nothing else is tried again.
    pub fn request(&mut self, method: &str, path: &str, body: Option<&[u8]>) -> io::Result<Answer> {
        let kept = self.stream.is_some();
        match self.exchange(method, path, body) {
            Err(error) if kept && is_stale(&error) => {
                self.stream = None;
                self.exchange(method, path, body)
            }
            other => other,
        }
        .inspect_err(|_| self.stream = None)
    }

    fn exchange(&mut self, method: &str, path: &str, body: Option<&[u8]>) -> io::Result<Answer> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            empty => {
                let stream = TcpStream::connect(&self.address)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(Duration::from_secs(120)))?;
                empty.insert(BufReader::new(stream))
            }
        };
        let key = self.key.as_ref().map(|key| ("X-API-Key", &**key));
        let kind = body.map(|_| ("Content-Type", "application/json"));
        let headers = [("Host", &*self.address)].into_iter().chain(key).chain(kind);
        stream.get_mut().write_all(&message(method, path, headers, body))?;
        let answer = read_answer(stream)?;
        if answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            self.stream = None;
        }
        Ok(answer)
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.text()))
    }

    /// Seconds to wait, of an answer that says "not now": a 503 with Retry-After.
    pub fn is_clean_refusal(&self) -> bool {
        self.status == 503 && self.header("retry-after").is_some_and(|seconds| seconds.parse::<u32>().is_ok())
    }
}

/// The server closed the connection before it saw the request: nothing was done.
fn is_stale(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof)
}

/// One request on a connection of its own, with any headers.
pub fn send_once(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(String, String)],
    body: Option<&str>,
) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(300)))?;
    let own = [("Host", address), ("Connection", "close")];
    let given = headers.iter().map(|(name, value)| (&**name, &**value));
    stream.write_all(&message(method, path, own.into_iter().chain(given), body.map(str::as_bytes)))?;
    read(&mut BufReader::new(stream), method != "HEAD")
}

fn message<'a>(
    method: &str,
    path: &str,
    headers: impl Iterator<Item = (&'a str, &'a str)>,
    body: Option<&[u8]>,
) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    if let Some(body) = body {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    let mut message = (head + "\r\n").into_bytes();
    message.extend_from_slice(body.unwrap_or_default());
    message
}

/// One answer, its body whole.
pub fn read_answer(stream: &mut BufReader<TcpStream>) -> io::Result<Answer> {
    read(stream, true)
}

fn read(stream: &mut BufReader<TcpStream>, has_body: bool) -> io::Result<Answer> {
    let line = read_line(stream)?;
    let bad = || io::Error::new(io::ErrorKind::InvalidData, format!("not a status line: {line:?}"));
    let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok()).ok_or_else(bad)?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(stream)?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut answer = Answer { status, headers, body: Vec::new() };
    if !has_body {
        return Ok(answer);
    }
    if answer.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        loop {
            let line = read_line(stream)?;
            let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            let begin = answer.body.len();
            answer.body.resize(begin + size, 0);
            stream.read_exact(&mut answer.body[begin..])?;
            read_line(stream)?;
            if size == 0 {
                return Ok(answer);
            }
        }
    }
    let length = answer.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    answer.body.resize(length, 0);
    stream.read_exact(&mut answer.body)?;
    Ok(answer)
}

fn read_line(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}
