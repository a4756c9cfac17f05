//! Retries: what may pass by itself is tried again, with jitter, as long as the caller waits.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use sealvec_kms::agent::Refusal;
use tokio::time::{Instant, timeout_at};

use crate::Result;

/// Mean of the first wait is 1.5 times this; each further one is twice as long.
const WAIT_MIN: Duration = Duration::from_millis(50);
const WAIT_MAX: Duration = Duration::from_secs(1);
const RETRIES_MAX: usize = 5;
/// An attempt that begins with less time than this is not worth its load.
const ATTEMPT_MIN: Duration = Duration::from_millis(20);

/// Why an attempt failed.
#[derive(Debug)]
pub enum Failure {
    /// Refused by the service or by what is in front of it.
    Refused(Refusal),
    /// Not even tried; another try would not be either.
    Final(Refusal),
}

/// Tries until it succeeds, fails for good, or no try is left that could end before `deadline`. What comes of the
/// last try that was answered is the outcome; none at the deadline if there was no such try.
pub async fn until<T, Attempt>(deadline: Instant, attempt: impl FnMut() -> Attempt) -> Option<Result<T>>
where
    Attempt: Future<Output = Result<T, Failure>>,
{
    let waits = ExponentialBuilder::new()
        .with_min_delay(WAIT_MIN)
        .with_max_delay(WAIT_MAX)
        .with_max_times(RETRIES_MAX)
        .with_jitter();
    let mut last = None;
    let tries = attempt
        .retry(waits)
        .when(|failure| matches!(failure, Failure::Refused(refusal) if refusal.class.is_transient()))
        .adjust(|failure, wait| {
            let Failure::Refused(refusal) = failure else { return None };
            last = Some(refusal.clone());
            let wait = wait?.max(refusal.retry_after.unwrap_or_default());
            let left = deadline.saturating_duration_since(Instant::now());
            (wait + ATTEMPT_MIN < left).then_some(wait)
        });
    match timeout_at(deadline, tries).await {
        Ok(Ok(given)) => Some(Ok(given)),
        Ok(Err(Failure::Refused(refusal))) => Some(Err(refusal)),
        Ok(Err(Failure::Final(refusal))) => Some(Err(last.unwrap_or(refusal))),
        Err(_) => last.map(Err),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use sealvec_kms::agent::Class;

    use super::*;

    fn refused(class: Class) -> Failure {
        Failure::Refused(Refusal::new(class, "no"))
    }

    async fn run(time_max: Duration, failures: Vec<Failure>) -> (u32, Duration, Result<()>) {
        let tries = Cell::new(0);
        let failures = std::cell::RefCell::new(failures.into_iter());
        let begun = Instant::now();
        let result = until(begun + time_max, || {
            tries.set(tries.get() + 1);
            std::future::ready(failures.borrow_mut().next().map_or(Ok(()), Err))
        });
        let result = result.await.expect("it was answered");
        (tries.get(), begun.elapsed(), result)
    }

    #[tokio::test(start_paused = true)]
    async fn what_passes_is_tried_again() {
        for class in [Class::Unavailable, Class::Throttled] {
            let (tries, time, result) = run(Duration::from_secs(5), vec![refused(class), refused(class)]).await;
            assert!(result.is_ok() && tries == 3, "{tries} {result:?}");
            assert!(time >= WAIT_MIN * 3 && time <= WAIT_MIN * 6 + Duration::from_millis(10), "{time:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_stays_is_not() {
        let rest = [Class::Denied, Class::WrongKey, Class::Misconfigured, Class::Protocol].map(refused);
        for failure in rest.into_iter().chain([Failure::Final(Refusal::new(Class::Unavailable, "no"))]) {
            let (tries, time, result) = run(Duration::from_secs(5), vec![failure]).await;
            assert!(result.is_err() && tries == 1 && time.is_zero());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_service_said_last_is_told_not_what_ended_it() {
        let end = Failure::Final(Refusal::new(Class::Unavailable, "left alone"));
        let (tries, _, result) = run(Duration::from_secs(5), vec![refused(Class::Throttled), end]).await;
        assert_eq!((tries, result.unwrap_err().class), (2, Class::Throttled));
        let deadline = Instant::now() + Duration::from_secs(1);
        assert!(until(deadline, std::future::pending::<Result<(), Failure>>).await.is_none());
        assert_eq!(Instant::now(), deadline);
    }

    #[tokio::test(start_paused = true)]
    async fn tries_and_time_are_bounded() {
        let fail = |n: usize| (0..n).map(|_| refused(Class::Unavailable)).collect();
        let (tries, _, result) = run(Duration::from_secs(60), fail(100)).await;
        assert!(result.is_err() && tries == 1 + RETRIES_MAX as u32);
        let (tries, time, result) = run(Duration::from_millis(200), fail(100)).await;
        assert!(result.is_err() && tries >= 2 && time < Duration::from_millis(200), "{tries} {time:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_is_left_alone_for_as_long_as_it_asks() {
        let asks =
            |wait| vec![Failure::Refused(Refusal { retry_after: Some(wait), ..Refusal::new(Class::Throttled, "no") })];
        let (tries, time, result) = run(Duration::from_secs(5), asks(Duration::from_secs(2))).await;
        assert!(result.is_ok() && tries == 2 && time >= Duration::from_secs(2), "{time:?}");
        let (tries, time, result) = run(Duration::from_secs(5), asks(Duration::from_secs(6))).await;
        assert!(result.is_err() && tries == 1 && time.is_zero());
    }
}
