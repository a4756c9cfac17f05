//! One request on a connection of its own, with any method, headers and body.

use sealvec_e2e::http::send_once;

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub location: Option<String>,
    pub body: String,
}

/// Sends and reads to the end.
pub fn send(address: &str, method: &str, path: &str, headers: &[(String, String)], body: Option<&str>) -> Answer {
    let answer =
        send_once(address, method, path, headers, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
    assert_ne!(answer.header("transfer-encoding"), Some("chunked"), "answers are sent whole");
    Answer {
        status: answer.status,
        location: answer.header("location").map(str::to_owned),
        body: String::from_utf8(answer.body).expect("answers are UTF-8"),
    }
}
