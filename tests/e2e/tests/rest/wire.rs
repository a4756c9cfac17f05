//! One request on a connection of its own, with any method, headers and body.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub location: Option<String>,
    pub body: String,
}

/// Sends and reads to the end.
pub fn send(address: &str, method: &str, path: &str, headers: &[(String, String)], body: Option<&str>) -> Answer {
    let mut stream = TcpStream::connect(address).expect("the sidecar listens");
    stream.set_read_timeout(Some(Duration::from_secs(300))).expect("a positive time");
    let mut message = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        message += &format!("{name}: {value}\r\n");
    }
    if let Some(body) = body {
        message += &format!("Content-Length: {}\r\n", body.len());
    }
    message += "\r\n";
    message += body.unwrap_or_default();
    stream.write_all(message.as_bytes()).expect("the sidecar reads");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
    let text = String::from_utf8(bytes).expect("answers are UTF-8");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{method} {path}: no head in {text:?}"));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    };
    assert_ne!(header("transfer-encoding").as_deref(), Some("chunked"), "answers are sent whole");
    Answer { status, location: header("location"), body: body.to_owned() }
}
