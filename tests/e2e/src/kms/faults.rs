//! A proxy that does to a key service's answers what happens in the world and no test double does by itself.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::http_server::{HttpServer, Request, Response, forward};

/// What is done to a request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// AWS's JSON error of this name, with status 400.
    Aws(&'static str),
    /// An empty answer of this status, and the seconds of `Retry-After`.
    Status(u16, Option<u32>),
    /// The right answer, later.
    Slow(Duration),
    /// None at all.
    Hang,
    /// The connection is closed.
    Broken,
    /// Status 200 and bytes that are no JSON.
    Malformed,
    /// Status 200 and an object that holds nothing.
    Empty,
    /// The right answer, but of a key that was not asked for.
    OtherKeyId,
}

#[derive(Default)]
struct State {
    fault: Option<Fault>,
    times_left: Option<u32>,
    seen: Vec<Request>,
}

/// A proxy in front of one server.
pub struct FaultProxy {
    server: HttpServer,
    state: Arc<Mutex<State>>,
}

impl FaultProxy {
    /// In front of `upstream`, a `host:port`. Without a fault it changes nothing.
    pub fn start(upstream: impl Into<String>) -> Self {
        let upstream = upstream.into();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let server = HttpServer::start(move |request| {
            let fault = {
                let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
                state.seen.push(request.clone());
                match &mut state.times_left {
                    Some(0) => None,
                    Some(left) => {
                        *left -= 1;
                        state.fault.clone()
                    }
                    None => state.fault.clone(),
                }
            };
            let ask = || forward(&upstream, &request).unwrap_or(Response::Close);
            match fault {
                None => ask(),
                Some(Fault::Slow(time)) => {
                    std::thread::sleep(time);
                    ask()
                }
                Some(Fault::Aws(name)) => {
                    let mut answer = Response::json(400, &json!({"__type": name, "message": "made by a test"}));
                    if let Response::Answer { headers, .. } = &mut answer {
                        headers[0].1 = "application/x-amz-json-1.1".to_owned();
                    }
                    answer
                }
                Some(Fault::Status(status, retry_after)) => {
                    let wait = retry_after.map(|seconds| ("retry-after".to_owned(), seconds.to_string()));
                    Response::Answer { status, headers: wait.into_iter().collect(), body: Vec::new() }
                }
                Some(Fault::Hang) => Response::Hang,
                Some(Fault::Broken) => Response::Close,
                Some(Fault::Malformed) => {
                    Response::Answer { status: 200, headers: Vec::new(), body: b"<html>made by a test".to_vec() }
                }
                Some(Fault::Empty) => Response::json(200, &json!({})),
                Some(Fault::OtherKeyId) => other_key_id(ask()),
            }
        });
        Self { server, state }
    }

    /// `127.0.0.1:port`
    pub fn address(&self) -> String {
        self.server.address()
    }

    /// `http://127.0.0.1:port`
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// From now on.
    pub fn set(&self, fault: Option<Fault>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.fault, state.times_left) = (fault, None);
    }

    /// For so many requests.
    pub fn set_times(&self, times: u32, fault: Fault) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.fault, state.times_left) = (Some(fault), Some(times));
    }

    /// The requests since the last call, and no more of them.
    pub fn take_seen(&self) -> Vec<Request> {
        std::mem::take(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner).seen)
    }
}

fn other_key_id(mut answer: Response) -> Response {
    if let Response::Answer { body, .. } = &mut answer
        && let Ok(mut object) = serde_json::from_slice::<Value>(body)
        && let Some(key_id) = object.get_mut("KeyId")
    {
        *key_id = json!("arn:aws:kms:us-east-1:123456789012:key/00000000-0000-0000-0000-000000000000");
        *body = object.to_string().into_bytes();
    }
    answer
}
