//! TLS in front of a server, with a certificate of the sidecar's tests.

use std::io::{BufReader, Write};
use std::net::TcpListener;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use sealvec_e2e::kms::http_server::{Response, forward, read_request, write_answer};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../sidecar/tests/data/");

/// Where the authority of its certificate is.
pub fn ca_file() -> String {
    format!("{DATA}ca.pem")
}

/// Port of a TLS server in front of `upstream`. It runs as long as the tests.
pub fn start(upstream: String) -> u16 {
    let chain =
        CertificateDer::pem_file_iter(format!("{DATA}one.pem")).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(format!("{DATA}one.key")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (config, upstream) = (Arc::clone(&config), upstream.clone());
            std::thread::spawn(move || {
                let stream = StreamOwned::new(ServerConnection::new(config).unwrap(), stream.unwrap());
                let mut reader = BufReader::new(stream);
                let Ok(Some(request)) = read_request(&mut reader) else { return }; // no certificate that it trusts
                if let Ok(Response::Answer { status, headers, body }) = forward(&upstream, &request) {
                    let stream = reader.get_mut();
                    write_answer(stream, status, &headers, &body).unwrap();
                    stream.conn.send_close_notify();
                    let _ = stream.flush();
                }
            });
        }
    });
    port
}
