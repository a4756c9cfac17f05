//! From a call to its answer: slot, cache, breaker, retries, provider; and one line in the log.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sealvec_core::keys::{Kek, KeyContext, Uuid};
use sealvec_kms::agent::{Answer, Call, Class, Refusal, Request, Slot, Wrapped};
use tokio::time::{Instant, timeout, timeout_at};

use crate::Result;
use crate::aws_kms::AwsKms;
use crate::aws_secrets::AwsSecrets;
use crate::breaker::Breaker;
use crate::cache::{Cache, Question};
use crate::pkcs11::Pkcs11;
use crate::provider::{Later, Provider, WrappedKey, misconfigured, random_kek, unavailable};
use crate::registry::{ProviderName, Registry, Settings};
use crate::retry::{self, Failure};
use crate::vault::Vault;

/// Most slots whose clients are kept.
const SLOTS_MAX: usize = 256;
/// Longest that a call may take, whatever its caller says.
const CALL_TIME_MAX: Duration = Duration::from_secs(60);
/// An attempt gets this part of the time that is left, so that one that hangs can be followed by another.
const ATTEMPT_SHARE: f64 = 0.6;
/// An attempt that had less time than this and got no answer says nothing of the service, only that its caller was in a
/// hurry; callers choose their time themselves (`sealvec.kms_timeout`), and the breaker is everybody's. A service that is
/// well answers in a fraction of it, and the first attempt of a call with the default of `sealvec.kms_timeout` has more.
const ATTEMPT_FAIR_MIN: Duration = Duration::from_secs(1);
/// The answer leaves this part of the time before the caller gives up.
const ANSWER_SHARE: f64 = 0.1;

/// What an operator can set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long an unwrapped KEK is kept, and so how long a key that was taken away at the service still opens.
    pub cache_age_max: Duration,
    /// How often it is given out meanwhile.
    pub cache_uses_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { cache_age_max: Duration::from_secs(60), cache_uses_max: 1_000 }
    }
}

/// Makes the provider of a slot: replaced in tests.
type Opener = Box<dyn Fn(&Registry, &Settings) -> Result<Box<dyn Provider>> + Send + Sync>;

/// By name and fingerprint.
type Slots = HashMap<(String, String), Arc<Reached>>;

/// The agent without its socket.
pub struct Service {
    registry: Registry,
    cache: Cache,
    opener: Opener,
    slots: Mutex<Slots>,
}

/// A slot in use.
struct Reached {
    settings: Settings,
    fingerprint: String,
    provider: Box<dyn Provider>,
    breaker: Breaker,
    used: Mutex<Instant>,
}

impl Service {
    /// With the providers of this crate.
    pub fn new(registry: Registry, limits: Limits) -> Self {
        Self::with_opener(registry, limits, Box::new(open))
    }

    fn with_opener(registry: Registry, limits: Limits, opener: Opener) -> Self {
        let cache = Cache::new(limits.cache_age_max, limits.cache_uses_max);
        Self { registry, cache, opener, slots: Mutex::default() }
    }

    /// Answers within the time that the call gives. Dropping it gives up.
    pub async fn answer(&self, call: &Call) -> Answer {
        let begun = Instant::now();
        let time_max = call.time_max.min(CALL_TIME_MAX);
        let deadline = begun + time_max.mul_f64(1.0 - ANSWER_SHARE);
        let answer = match self.dispatch(&call.request, deadline).await {
            Ok(answer) => answer,
            Err(refusal) => Answer::Refused(refusal),
        };
        log(&call.request, &answer, begun.elapsed());
        answer
    }

    /// Wipes what is too old in the cache.
    pub fn sweep(&self) {
        self.cache.sweep(Instant::now());
    }

    async fn dispatch(&self, request: &Request, deadline: Instant) -> Result<Answer> {
        match request {
            Request::Wrap { slot, context, kek } => {
                let reached = self.reach(slot)?;
                let wrapped = reached.ask(deadline, |provider| provider.wrap(context, kek)).await?;
                reached.prove(deadline, context, kek, &wrapped).await?;
                Ok(Answer::Wrapped(reached.name(wrapped)))
            }
            Request::Generate { slot, context } => {
                let reached = self.reach(slot)?;
                let (kek, wrapped) = reached.ask(deadline, |provider| provider.generate(context)).await?;
                reached.prove(deadline, context, &kek, &wrapped).await?;
                Ok(Answer::Generated(kek, reached.name(wrapped)))
            }
            Request::Unwrap { slot, context, key_reference, wrapped } => {
                let reached = self.reach(slot)?;
                self.unwrap(&reached, deadline, context, key_reference, wrapped).await.map(Answer::Key)
            }
            Request::Rewrap { from, to, context, key_reference, wrapped } => {
                let (from, to) = (self.reach(from)?, self.reach(to)?);
                self.rewrap(&from, &to, deadline, context, key_reference, wrapped).await
            }
            Request::Check { slot } => {
                let reached = self.reach(slot)?;
                let context = KeyContext::kek(Uuid::from_bytes([0; 16])); // of no ring
                let kek = random_kek()?;
                let wrapped = reached.ask(deadline, |provider| provider.wrap(&context, &kek)).await?;
                reached.prove(deadline, &context, &kek, &wrapped).await?;
                Ok(Answer::Ok)
            }
        }
    }

    async fn unwrap(
        &self,
        reached: &Reached,
        deadline: Instant,
        context: &KeyContext,
        key_reference: &str,
        wrapped: &[u8],
    ) -> Result<Kek> {
        let question = Question::new(&reached.fingerprint, context, key_reference, wrapped);
        if let Some(kek) = self.cache.get(&question, Instant::now()) {
            return Ok(kek);
        }
        let _alone = timeout_at(deadline, self.cache.alone(&question)).await.map_err(|_| reached.late())?;
        if let Some(kek) = self.cache.get(&question, Instant::now()) {
            return Ok(kek);
        }
        let kek = reached.ask(deadline, |provider| provider.unwrap(context, key_reference, wrapped)).await?;
        self.cache.put(question, &kek, Instant::now());
        Ok(kek)
    }

    /// Inside the service where it can, otherwise through this process; the KEK does not leave it either way.
    async fn rewrap(
        &self,
        from: &Reached,
        to: &Reached,
        deadline: Instant,
        context: &KeyContext,
        key_reference: &str,
        wrapped: &[u8],
    ) -> Result<Answer> {
        let same = from.settings.provider == to.settings.provider
            && from.provider.realm().is_some_and(|realm| to.provider.realm() == Some(realm));
        let moved = if same {
            to.ask(deadline, |provider| provider.rewrap(context, key_reference, wrapped)).await?
        } else {
            let kek = from.ask(deadline, |provider| provider.unwrap(context, key_reference, wrapped)).await?;
            let moved = to.ask(deadline, |provider| provider.wrap(context, &kek)).await?;
            to.prove(deadline, context, &kek, &moved).await?;
            moved
        };
        Ok(Answer::Wrapped(to.name(moved)))
    }

    /// The slot's client, made on first use.
    fn reach(&self, slot: &Slot) -> Result<Arc<Reached>> {
        let named = |refusal: Refusal| Refusal {
            text: format!("key slot \"{}\": {}", shown(&slot.name), refusal.text),
            ..refusal
        };
        let settings = self.registry.resolve(slot).map_err(named)?;
        let fingerprint = settings.fingerprint();
        let now = Instant::now();
        let mut slots = self.slots();
        // By both: databases may have different slots of one name.
        let key = (settings.name.clone(), fingerprint.clone());
        if let Some(reached) = slots.get(&key) {
            *reached.used() = now;
            return Ok(Arc::clone(reached));
        }
        let provider = (self.opener)(&self.registry, &settings).map_err(named)?;
        if slots.len() >= SLOTS_MAX {
            let oldest = slots.iter().min_by_key(|(_, reached)| *reached.used()).map(|(key, _)| key.clone());
            slots.remove(&oldest.expect("it is full"));
        }
        let reached =
            Arc::new(Reached { settings, fingerprint, provider, breaker: Breaker::default(), used: now.into() });
        slots.insert(key, Arc::clone(&reached));
        Ok(reached)
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("registry", &self.registry).field("cache", &self.cache).finish_non_exhaustive()
    }
}

impl Reached {
    /// One request, with its retries, until `deadline`.
    async fn ask<'a, T>(&'a self, deadline: Instant, request: impl Fn(&'a dyn Provider) -> Later<'a, T>) -> Result<T> {
        match retry::until(deadline, || self.attempt(deadline, request(&*self.provider))).await {
            Some(result) => result.map_err(|refusal| self.place(refusal)),
            None => Err(self.late()),
        }
    }

    async fn attempt<T>(&self, deadline: Instant, request: Later<'_, T>) -> Result<T, Failure> {
        let now = Instant::now();
        let permit = self.breaker.admit(now).map_err(|rest| {
            let text = "did not answer several times in a row and is left alone for a moment";
            Failure::Final(Refusal { retry_after: Some(rest), ..unavailable(text) })
        })?;
        let time_max = deadline.saturating_duration_since(now).mul_f64(ATTEMPT_SHARE);
        let result = match timeout(time_max, request).await {
            Ok(result) => {
                match &result {
                    Err(refusal) if refusal.class == Class::Unavailable => permit.failed(Instant::now()),
                    _ => permit.answered(),
                }
                result
            }
            Err(_) => {
                match time_max < ATTEMPT_FAIR_MIN {
                    true => drop(permit),
                    false => permit.failed(Instant::now()),
                }
                Err(unavailable(format!("did not answer; the last try had {} ms", time_max.as_millis())))
            }
        };
        result.map_err(Failure::Refused)
    }

    /// A wrapped KEK that does not unwrap would be lost for ever once the plain one is forgotten: it is tried first.
    async fn prove(&self, deadline: Instant, context: &KeyContext, kek: &Kek, wrapped: &WrappedKey) -> Result<()> {
        let WrappedKey { key_reference, wrapped } = wrapped;
        let again = self.ask(deadline, |provider| provider.unwrap(context, key_reference, wrapped)).await?;
        match again.expose() == kek.expose() {
            true => Ok(()),
            false => Err(self.place(unavailable("gave a wrapped key that unwraps to another one"))),
        }
    }

    fn name(&self, key: WrappedKey) -> Wrapped {
        let WrappedKey { key_reference, wrapped } = key;
        Wrapped { provider: self.settings.provider.as_str().to_owned(), key_reference, wrapped }
    }

    /// Says which slot it was.
    fn place(&self, refusal: Refusal) -> Refusal {
        let Settings { name, provider, .. } = &self.settings;
        Refusal { text: format!("key slot \"{name}\" ({}): {}", provider.as_str(), refusal.text), ..refusal }
    }

    fn late(&self) -> Refusal {
        self.place(unavailable("did not answer in time"))
    }

    fn used(&self) -> MutexGuard<'_, Instant> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open(registry: &Registry, settings: &Settings) -> Result<Box<dyn Provider>> {
    Ok(match settings.provider {
        ProviderName::Local => {
            return Err(misconfigured("provider local is the database server's own and needs no key agent"));
        }
        ProviderName::AwsKms => Box::new(AwsKms::new(registry, settings)?),
        ProviderName::Aws => Box::new(AwsSecrets::new(registry, settings)?),
        ProviderName::Vault => Box::new(Vault::new(registry, settings)?),
        ProviderName::Pkcs11 => Box::new(Pkcs11::new(registry, settings)?),
    })
}

/// A name that was not checked yet.
fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(64).collect()
}

fn log(request: &Request, answer: &Answer, time: Duration) {
    let (operation, slot, context) = match request {
        Request::Wrap { slot, context, .. } => ("wrap", slot, Some(context)),
        Request::Unwrap { slot, context, .. } => ("unwrap", slot, Some(context)),
        Request::Generate { slot, context } => ("generate", slot, Some(context)),
        Request::Rewrap { to, context, .. } => ("rewrap", to, Some(context)),
        Request::Check { slot } => ("check", slot, None),
    };
    let slot = shown(&slot.name);
    let ring = context.map(|context| context.ring.to_string()).unwrap_or_default();
    let ms = time.as_millis() as u64;
    match answer {
        Answer::Refused(refusal) => {
            tracing::warn!(operation, slot, ring, ms, result = refusal.class.name(), "key call: {}", refusal.text);
        }
        _ => tracing::info!(operation, slot, ring, ms, result = "ok", "key call"),
    }
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
