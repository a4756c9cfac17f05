//! The key agent as a process, its socket, and real key services behind it.
//!
//! moto and SoftHSM2 are installed where they are missing (PyPI, Debian). `SEALVEC_OPENBAO=http://TOKEN@host:port` runs the Vault tests
//! against a real OpenBao or Vault in dev mode; without it they meet a server of Transit's contract.

mod agent;
mod aws_kms;
mod aws_secrets;
mod contract;
mod pkcs11;
mod process;
mod tls;
mod vault;
