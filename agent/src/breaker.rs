//! A breaker: a service that fails again and again is left alone for a while, so that callers hear at once.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row that open it.
const FAILURES_MAX: u32 = 5;
/// How long it is open the first time; twice as long after each probe that fails.
const REST_MIN: Duration = Duration::from_secs(1);
/// How long at most.
const REST_MAX: Duration = Duration::from_secs(10);

/// Closed: all may try. Open: none until its rest is over, then one at a time, until one succeeds.
#[derive(Debug, Default)]
pub struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    rest: Option<Rest>,
}

#[derive(Clone, Copy, Debug)]
struct Rest {
    until: Instant,
    length: Duration,
    probing: bool,
}

/// The right to one attempt. Dropped without a result, it counts for nothing.
#[derive(Debug)]
pub struct Permit<'a>(Option<&'a Breaker>);

impl Breaker {
    /// Leave to try, or how long to wait.
    pub fn admit(&self, now: Instant) -> Result<Permit<'_>, Duration> {
        if let Some(rest) = &mut self.state().rest {
            if rest.probing {
                return Err(rest.length);
            }
            if now < rest.until {
                return Err(rest.until - now);
            }
            rest.probing = true;
        }
        Ok(Permit(Some(self)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit<'_> {
    /// The service answered; a refusal is an answer.
    pub fn answered(mut self) {
        if let Some(breaker) = self.0.take() {
            *breaker.state() = State::default();
        }
    }

    /// It did not.
    pub fn failed(mut self, now: Instant) {
        let Some(breaker) = self.0.take() else { return };
        let mut state = breaker.state();
        state.failures = state.failures.saturating_add(1);
        let length = match state.rest {
            // Begun before it opened: says nothing new.
            Some(rest) if !rest.probing => return,
            Some(rest) => (rest.length * 2).min(REST_MAX),
            None if state.failures >= FAILURES_MAX => REST_MIN,
            None => return,
        };
        state.rest = Some(Rest { until: now + length, length, probing: false });
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if let Some(breaker) = self.0
            && let Some(rest) = &mut breaker.state().rest
        {
            rest.probing = false; // the next one probes
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(now: Instant) -> Breaker {
        let breaker = Breaker::default();
        for _ in 0..FAILURES_MAX {
            breaker.admit(now).unwrap().failed(now);
        }
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it() {
        let now = Instant::now();
        let breaker = Breaker::default();
        for _ in 0..3 {
            for _ in 1..FAILURES_MAX {
                breaker.admit(now).unwrap().failed(now);
            }
            breaker.admit(now).unwrap().answered();
        }
        assert!(breaker.admit(now).is_ok());
        assert_eq!(opened(now).admit(now).unwrap_err(), REST_MIN);
    }

    #[test]
    fn one_probes_after_its_rest() {
        let now = Instant::now();
        let breaker = opened(now);
        assert!(breaker.admit(now + REST_MIN - Duration::from_millis(1)).is_err());
        let later = now + REST_MIN;
        let probe = breaker.admit(later).unwrap();
        assert!(breaker.admit(later).is_err());
        probe.answered();
        assert!(breaker.admit(later).is_ok());
    }

    #[test]
    fn a_failed_probe_doubles_the_rest_up_to_a_limit() {
        let mut now = Instant::now();
        let breaker = opened(now);
        let mut rests = Vec::new();
        for _ in 0..6 {
            let rest = breaker.admit(now).unwrap_err();
            rests.push(rest.as_secs());
            now += rest;
            breaker.admit(now).unwrap().failed(now);
        }
        assert_eq!(rests, [1, 2, 4, 8, 10, 10]);
    }

    #[test]
    fn a_probe_that_was_given_up_lets_the_next_one_try() {
        let now = Instant::now();
        let breaker = opened(now);
        let later = now + REST_MIN;
        drop(breaker.admit(later).unwrap());
        assert!(breaker.admit(later).is_ok());
    }

    #[test]
    fn attempts_from_before_it_opened_do_not_lengthen_the_rest() {
        let now = Instant::now();
        let breaker = Breaker::default();
        let slow: Vec<_> = (0..FAILURES_MAX + 3).map(|_| breaker.admit(now).unwrap()).collect();
        for permit in slow {
            permit.failed(now);
        }
        assert_eq!(breaker.admit(now).unwrap_err(), REST_MIN);
    }
}
