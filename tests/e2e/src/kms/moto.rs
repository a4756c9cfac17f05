//! moto: AWS KMS, Secrets Manager and STS as far as a Python package has them. It lets every credential do everything
//! and a disabled key work; the [fault proxy](super::faults) says no in its place.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::http::send_once;
use crate::packages::virtual_environment;
use crate::{Http, eventually};

const PACKAGES: [&str; 1] = ["moto[kms,secretsmanager,sts,server]==5.2.5"];
/// Ends with this process, however that ends: its standard input closes then.
const START: &str = "\
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
from moto.server import main
main(['-H', '127.0.0.1', '-p', sys.argv[1]])
";

/// Region of everything in it.
pub const REGION: &str = "us-east-1";

/// A running moto. Dropping it ends it.
pub struct Moto {
    process: Child,
    address: String,
}

impl Moto {
    /// On a free port.
    pub fn start() -> Self {
        let python = virtual_environment("moto", &PACKAGES);
        // Bound and given back: another process may take it in between, and the wait below then says so.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port();
        let mut process = Command::new(python)
            .args(["-c", START, &port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the interpreter runs");
        let address = format!("127.0.0.1:{port}");
        eventually("moto answers", 60, || {
            assert!(process.try_wait().expect("our own child").is_none(), "moto ended");
            Http::new(&*address, None).get("/moto-api/").ok().map(drop)
        });
        Self { process, address }
    }

    /// `127.0.0.1:port`
    pub fn address(&self) -> &str {
        &self.address
    }

    /// `http://127.0.0.1:port`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A request of an administrator.
    pub fn must(&self, service: &str, operation: &str, body: &Value) -> Value {
        let scope = format!("Credential=test/20260101/{REGION}/{service}/aws4_request");
        let authorization = format!("AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0");
        let target = match service {
            "kms" => format!("TrentService.{operation}"),
            service => format!("{service}.{operation}"),
        };
        let headers = [
            ("X-Amz-Target".to_owned(), target),
            ("Authorization".to_owned(), authorization),
            ("Content-Type".to_owned(), "application/x-amz-json-1.1".to_owned()),
        ];
        let answer = send_once(&self.address, "POST", "/", &headers, Some(&body.to_string()));
        let answer = answer.unwrap_or_else(|error| panic!("{operation}: {error}"));
        assert_eq!(answer.status, 200, "{operation}: {}", answer.text());
        match &answer.body[..] {
            [] => Value::Null,
            _ => answer.json(),
        }
    }

    /// A fresh symmetric key; returns its ARN.
    pub fn create_key(&self) -> String {
        let made = self.must("kms", "CreateKey", &json!({}));
        made["KeyMetadata"]["Arn"].as_str().expect("an ARN").to_owned()
    }

    /// A secret of Secrets Manager; returns its ARN.
    pub fn create_secret(&self, name: &str, value: &Value) -> String {
        let mut body = json!({"Name": name});
        body.as_object_mut().expect("an object").extend(value.as_object().expect("an object").clone());
        let made = self.must("secretsmanager", "CreateSecret", &body);
        made["ARN"].as_str().expect("an ARN").to_owned()
    }

    /// Another value, which is the current one from now on.
    pub fn put_secret(&self, arn: &str, value: &Value) {
        let mut body = json!({"SecretId": arn});
        body.as_object_mut().expect("an object").extend(value.as_object().expect("an object").clone());
        self.must("secretsmanager", "PutSecretValue", &body);
    }

    /// Marks it for deletion: nobody reads it any more.
    pub fn delete_secret(&self, arn: &str) {
        self.must("secretsmanager", "DeleteSecret", &json!({"SecretId": arn, "RecoveryWindowInDays": 7}));
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
