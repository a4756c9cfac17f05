//! Keys in the backend: which rings exist, who may open them, and the DEKs open right now.
//!
//! `datatype` and `index` use what is re-exported here and nothing below it.

mod agent;
mod arena;
mod backend;
mod catalog;
mod cipher_heap;
mod expiry;
mod export;
mod functions;
mod held;
mod hold;
mod kek;
pub mod kms_slot;
mod lease;
mod places;
mod provider;
mod ring_user;
mod scoped;
mod session;
mod session_key;
pub mod table;
mod users;
mod watch;

pub use catalog::{
    RingInfo, close_cached, hold_by_name, hold_by_number, info, lasting_dek_version, retired, ring_by_number,
    ring_of_slot, ring_table, set_retiring,
};
pub use functions::{
    check_kek, check_owner, create_ring, drop_ring, hold_for_change, owned_ring, remove_dek, ring_exists, shred,
    with_ring,
};
pub use held::generation as closings;
pub use held::{Right, on_close};
pub use kek::{shown, shown_token};
pub use lease::{Lease, Standing};
pub use ring_user::newest_of_users;
pub use scoped::{Credential, Scope, open_again, open_for_call, remember};
pub use session::{generation, is_denied, is_open, is_open_in_session, opens_by_itself, with_dek, with_keys};
pub use session_key::with_session_key;

/// Called once per backend from `_PG_init`.
pub fn init() {
    cipher_heap::install();
    places::install();
    watch::init();
}
