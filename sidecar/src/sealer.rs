//! Seals keys to the database server, so that a statement carries none: whatever logs it, logs ciphertext.
//!
//! The server's public key is asked for once an hour, on a connection that a request has anyway; in between a request makes no
//! round trip more than without.
//!
//! **Sealed bytes are used again**: the same key, for the same index and argument, goes as the same bytes until the server's
//! key changes. They open only there, and can be replayed within that binding in any case, since the server keeps no
//! memory of them; sealing anew would spend 0.1 ms a request and hide only that two statements show the same
//! key, which the index's name in both tells as well. A counter on one HPKE context would make the server keep state for
//! each client, and a pool of many connections would use it out of order.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use sealvec_core::crypto::mac;
use sealvec_core::transport::{Argument, Binding, KeyId, PublicKey, SealedKey};
use zeroize::Zeroizing;

use crate::db::{Conn, DbError};
use crate::sql::Kek;

const SQL: &str = "SELECT key_id, public_key, extract(epoch FROM expires - clock_timestamp())::float8, database, role \
    FROM sealvec.transport_key()";

/// Most sealed keys kept. One has a hundred bytes; when there are more, all are sealed anew.
const KEPT_MAX: usize = 4_096;

/// Whom a key is sealed to, and the names that it is bound to.
#[derive(Debug)]
pub struct Receiver {
    key: PublicKey,
    database: String,
    role: String,
    /// Another is asked for afterwards; never, if the time has no end that a clock can tell.
    until: Option<Instant>,
}

impl Receiver {
    /// Good for `life` from now.
    pub fn new(key: PublicKey, database: String, role: String, life: Duration) -> Self {
        Self { key, database, role, until: Instant::now().checked_add(life) }
    }

    /// Seals `secret` for a call about `name`, which goes to this server.
    ///
    /// # Errors
    /// A name that is none, or a public key that is none.
    pub fn seal(&self, argument: Argument, name: &str, secret: &[u8]) -> sealvec_core::Result<SealedKey> {
        let binding = Binding { database: &self.database, role: &self.role, name, argument };
        self.key.seal(&binding, secret)
    }

    /// Asks the server at the other end of `conn`.
    ///
    /// # Errors
    /// The database's, or an answer that is none.
    pub async fn ask(conn: &mut Conn) -> Result<Self, DbError> {
        let row = conn.query_one(SQL, &[]).await?;
        let odd = || DbError::Unavailable("The database gave no transport key");
        let id: [u8; KeyId::LEN] = row.get::<_, &[u8]>(0).try_into().map_err(|_| odd())?;
        let key: [u8; 32] = row.get::<_, &[u8]>(1).try_into().map_err(|_| odd())?;
        let life = Duration::try_from_secs_f64(row.get::<_, f64>(2)).unwrap_or_default();
        Ok(Self::new(PublicKey::new(KeyId::from_bytes(id), key), row.get(3), row.get(4), life))
    }
}

/// The server's key and what was sealed to it.
pub struct Sealer {
    state: Mutex<State>,
    /// Names keys in `state` without keeping them.
    name_key: Zeroizing<[u8; 32]>,
}

#[derive(Default)]
struct State {
    receiver: Option<Arc<Receiver>>,
    sealed: HashMap<[u8; 32], Arc<SealedKey>>,
}

impl Default for Sealer {
    fn default() -> Self {
        let mut name_key = Zeroizing::new([0; 32]);
        getrandom::fill(&mut name_key[..]).expect("the kernel gives random bytes");
        Self { state: Mutex::default(), name_key }
    }
}

impl Sealer {
    /// Whom to seal to, if that is known and its time is not up.
    pub fn receiver(&self) -> Option<Arc<Receiver>> {
        let state = self.state();
        state.receiver.clone().filter(|receiver| receiver.until.is_none_or(|until| Instant::now() < until))
    }

    /// Asks the server, and forgets what was sealed to another key.
    ///
    /// # Errors
    /// See [`Receiver::ask`].
    pub async fn ask(&self, conn: &mut Conn) -> Result<Arc<Receiver>, DbError> {
        let receiver = Arc::new(Receiver::ask(conn).await?);
        self.settle(receiver.clone());
        Ok(receiver)
    }

    fn settle(&self, receiver: Arc<Receiver>) {
        let mut state = self.state();
        state.receiver = Some(receiver);
        state.sealed.clear();
    }

    /// The sealed key, made before or now; `None` for an index whose name no server takes.
    pub fn seal(&self, to: &Receiver, argument: Argument, index: &str, key: &Kek) -> Option<Arc<SealedKey>> {
        let name = self.name(to, argument, index, key);
        if let Some(sealed) = self.state().sealed.get(&name) {
            return Some(sealed.clone());
        }
        let sealed = Arc::new(to.seal(argument, index, key.expose()).ok()?);
        let mut state = self.state();
        if state.sealed.len() >= KEPT_MAX {
            state.sealed.clear();
        }
        state.sealed.insert(name, sealed.clone());
        Some(sealed)
    }

    /// Equal only where the sealed bytes may be: same receiver, argument, key and index.
    fn name(&self, to: &Receiver, argument: Argument, index: &str, key: &Kek) -> [u8; 32] {
        let mut message = Zeroizing::new(Vec::with_capacity(64 + index.len())); // never regrown: no copy is left
        message.extend_from_slice(to.key.id().as_bytes());
        message.push(argument as u8);
        message.extend_from_slice(key.expose());
        message.extend_from_slice(index.as_bytes());
        mac::authenticate(&self.name_key, &message)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics here")
    }
}

#[cfg(test)]
mod tests {
    use sealvec_core::transport::TransportKey;

    use super::*;

    fn receiver(life: Duration) -> (TransportKey, Arc<Receiver>) {
        let key = TransportKey::generate().unwrap();
        let receiver = Receiver::new(key.public(), "app".into(), "me".into(), life);
        (key, Arc::new(receiver))
    }

    #[test]
    fn the_same_bytes_for_the_same_place_and_no_other() {
        let sealer = Sealer::default();
        let (_, to) = receiver(Duration::from_secs(60));
        let seal = |argument, index, byte| sealer.seal(&to, argument, index, &Kek::new(&[byte; 32])).unwrap();
        let first = seal(Argument::IndexKey, "notes", 7);
        assert!(Arc::ptr_eq(&first, &seal(Argument::IndexKey, "notes", 7)));
        for (argument, index, byte) in
            [(Argument::UserKey, "notes", 7), (Argument::IndexKey, "note", 7), (Argument::IndexKey, "notes", 8)]
        {
            assert_ne!(first, seal(argument, index, byte));
        }
        let (key, other) = receiver(Duration::from_secs(60));
        sealer.settle(other.clone());
        let anew = sealer.seal(&other, Argument::IndexKey, "notes", &Kek::new(&[7; 32])).unwrap();
        assert_eq!(anew.key_id(), key.public().id());
    }

    #[test]
    fn a_receiver_is_asked_for_again_when_its_time_is_up() {
        let sealer = Sealer::default();
        assert!(sealer.receiver().is_none());
        sealer.settle(receiver(Duration::from_secs(60)).1);
        assert!(sealer.receiver().is_some());
        sealer.settle(receiver(Duration::ZERO).1);
        assert!(sealer.receiver().is_none());
    }

    #[test]
    fn what_is_kept_is_bounded_and_no_key() {
        let sealer = Sealer::default();
        let (_, to) = receiver(Duration::from_secs(60));
        sealer.state().sealed =
            (0..KEPT_MAX).map(|n| (mac::authenticate(&[1; 32], &n.to_le_bytes()), sealed(&to))).collect();
        sealer.seal(&to, Argument::IndexKey, "notes", &Kek::new(&[7; 32])).unwrap();
        assert_eq!(sealer.state().sealed.len(), 1);
        assert!(sealer.state().sealed.keys().all(|name| name != &[7; 32]));
    }

    fn sealed(to: &Receiver) -> Arc<SealedKey> {
        static ONE: std::sync::OnceLock<Arc<SealedKey>> = std::sync::OnceLock::new();
        ONE.get_or_init(|| Arc::new(to.seal(Argument::Kek, "x", &[1; 32]).unwrap())).clone()
    }
}
