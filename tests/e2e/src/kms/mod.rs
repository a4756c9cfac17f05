//! Key services that are as real as they can be had: moto, SoftHSM2, OpenBao where there is one and otherwise a server
//! of Transit's contract; and a proxy in front of them for what goes wrong.

pub mod agent;
pub mod faults;
pub mod http_server;
pub mod moto;
pub mod softhsm;
pub mod transit;
pub mod vault;

pub use agent::{AWS_SECRET, KeyAgent, aws_credentials};
pub use faults::{Fault, FaultProxy};
pub use moto::Moto;
pub use softhsm::SoftHsm;
pub use vault::Vault;
