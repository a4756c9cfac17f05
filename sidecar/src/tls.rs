//! TLS on both sides: certificate files for the callers, trusted authorities for the database.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config::TlsFiles;

/// Makes aws-lc the process's provider. A second call changes nothing.
pub fn install_provider() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// What callers meet: the chain and key of `files`, HTTP/2 and HTTP/1.1.
///
/// # Errors
/// A message that names the file.
pub fn server(files: &TlsFiles) -> Result<Arc<ServerConfig>, String> {
    let chain = certificates(&files.cert)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| format!("no private key in {}: {error}", files.key.display()))?;
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
    let mut config = config.map_err(|error| {
        format!("{} and {} do not fit each other: {error}", files.cert.display(), files.key.display())
    })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// How to reach the database: always checked against `ca` or the system's authorities, never "if possible".
/// `None` where the connection string asks for no TLS.
///
/// # Errors
/// A message about the file, or that the system has no authorities.
pub fn database(mode: SslMode, ca: Option<&Path>) -> Result<Option<MakeRustlsConnect>, String> {
    if mode != SslMode::Require {
        return Ok(None);
    }
    let Some(ca) = ca else {
        let connect = MakeRustlsConnect::with_native_certs();
        return match connect {
            Ok((connect, _unreadable)) => Ok(Some(connect)),
            Err(_) => Err("the system has no certificate authorities: set --database-ca".to_owned()),
        };
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots.add(certificate).map_err(|error| format!("{}: {error}", ca.display()))?;
    }
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    Ok(Some(MakeRustlsConnect::new(config)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(chain) if chain.is_empty() => Err(format!("no certificate in {}", path.display())),
        Ok(chain) => Ok(chain),
        Err(error) => Err(format!("no certificate in {}: {error}", path.display())),
    }
}
