//! KEKs that were unwrapped a moment ago: bounded in age, in uses and in number, wiped when they leave.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sealvec_core::keys::{Kek, KeyContext};
use tokio::time::Instant;

use crate::provider::bound_to;

/// Most KEKs held at once.
const KEYS_MAX: usize = 1_024;

/// What was asked, to the last byte: nothing but the same question gets the answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    slot: String,
    context: Vec<u8>,
    key_reference: String,
    wrapped: Vec<u8>,
}

impl Question {
    /// `slot`: everything that says which service is asked, and how.
    pub fn new(slot: &str, context: &KeyContext, key_reference: &str, wrapped: &[u8]) -> Self {
        Self {
            slot: slot.to_owned(),
            context: bound_to(context),
            key_reference: key_reference.to_owned(),
            wrapped: wrapped.to_vec(),
        }
    }
}

struct Held {
    kek: Kek,
    since: Instant,
    uses: u32,
}

/// The cache.
pub struct Cache {
    age_max: Duration,
    uses_max: u32,
    held: Mutex<HashMap<Question, Held>>,
    flights: Mutex<HashMap<Question, Arc<tokio::sync::Mutex<()>>>>,
}

impl Cache {
    /// Empty. With an age of zero or no uses it stays so.
    pub fn new(age_max: Duration, uses_max: u32) -> Self {
        Self { age_max, uses_max, held: Mutex::default(), flights: Mutex::default() }
    }

    /// A copy of the KEK, if it is young and unused enough.
    pub fn get(&self, question: &Question, now: Instant) -> Option<Kek> {
        let mut held = self.held();
        let found = held.get_mut(question)?;
        if now.duration_since(found.since) >= self.age_max || found.uses >= self.uses_max {
            held.remove(question);
            return None;
        }
        found.uses += 1;
        Some(copy(&found.kek))
    }

    /// Keeps a copy of what a service has just given.
    pub fn put(&self, question: Question, kek: &Kek, now: Instant) {
        if self.age_max.is_zero() || self.uses_max == 0 {
            return;
        }
        let mut held = self.held();
        if held.len() >= KEYS_MAX && !held.contains_key(&question) {
            let oldest = held.iter().min_by_key(|(_, held)| held.since).map(|(question, _)| question.clone());
            held.remove(&oldest.expect("it is full"));
        }
        held.insert(question, Held { kek: copy(kek), since: now, uses: 0 });
    }

    /// Wipes what is too old, asked for or not.
    pub fn sweep(&self, now: Instant) {
        self.held().retain(|_, held| now.duration_since(held.since) < self.age_max);
        self.flights().retain(|_, flight| Arc::strong_count(flight) > 1);
    }

    /// How many KEKs it holds.
    pub fn len(&self) -> usize {
        self.held().len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// For one asker of a question at a time: the others wait, and then find the answer here.
    pub async fn alone(&self, question: &Question) -> tokio::sync::OwnedMutexGuard<()> {
        let flight = Arc::clone(self.flights().entry(question.clone()).or_default());
        flight.lock_owned().await
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Question, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<Question, Arc<tokio::sync::Mutex<()>>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cache({} keys, [redacted])", self.len())
    }
}

fn copy(kek: &Kek) -> Kek {
    Kek::from_slice(kek.expose()).expect("a KEK has 32 bytes")
}

#[cfg(test)]
mod tests {
    use sealvec_core::keys::Uuid;

    use super::*;

    const AGE: Duration = Duration::from_secs(60);

    fn question(n: u32) -> Question {
        Question::new("s", &KeyContext::kek(Uuid::from_bytes([1; 16])), "r", &n.to_le_bytes())
    }

    fn kek() -> Kek {
        Kek::from_slice(&[7; 32]).unwrap()
    }

    #[test]
    fn age_ends_it() {
        let (cache, now) = (Cache::new(AGE, 100), Instant::now());
        cache.put(question(1), &kek(), now);
        let last = now + AGE - Duration::from_millis(1);
        assert_eq!(cache.get(&question(1), last).unwrap().expose(), kek().expose());
        assert!(cache.get(&question(1), now + AGE).is_none() && cache.is_empty());
        cache.put(question(1), &kek(), now);
        cache.sweep(last);
        assert_eq!(cache.len(), 1);
        cache.sweep(now + AGE);
        assert!(cache.is_empty());
    }

    #[test]
    fn uses_end_it() {
        let (cache, now) = (Cache::new(AGE, 2), Instant::now());
        cache.put(question(1), &kek(), now);
        assert!(cache.get(&question(1), now).is_some() && cache.get(&question(1), now).is_some());
        assert!(cache.get(&question(1), now).is_none());
        for off in [Cache::new(AGE, 0), Cache::new(Duration::ZERO, 2)] {
            off.put(question(1), &kek(), now);
            assert!(off.is_empty());
        }
    }

    #[test]
    fn only_the_same_question_is_answered() {
        let (cache, now) = (Cache::new(AGE, 100), Instant::now());
        let (a, b) = (KeyContext::kek(Uuid::from_bytes([1; 16])), KeyContext::kek(Uuid::from_bytes([2; 16])));
        cache.put(Question::new("s", &a, "r", b"w"), &kek(), now);
        assert!(cache.get(&Question::new("s", &a, "r", b"w"), now).is_some());
        let others = [
            Question::new("t", &a, "r", b"w"),
            Question::new("s", &b, "r", b"w"),
            Question::new("s", &KeyContext::id_key(a.ring), "r", b"w"),
            Question::new("s", &a, "q", b"w"),
            Question::new("s", &a, "r", b"v"),
        ];
        for other in others {
            assert!(cache.get(&other, now).is_none(), "{other:?}");
        }
    }

    #[test]
    fn the_oldest_leaves_when_it_is_full() {
        let (cache, now) = (Cache::new(AGE, 100), Instant::now());
        for n in 0..=KEYS_MAX as u32 {
            cache.put(question(n), &kek(), now + Duration::from_millis(n.into()));
        }
        let now = now + Duration::from_secs(2);
        assert_eq!(cache.len(), KEYS_MAX);
        assert!(cache.get(&question(0), now).is_none() && cache.get(&question(1), now).is_some());
        assert!(!format!("{cache:?}").contains('7'));
    }
}
