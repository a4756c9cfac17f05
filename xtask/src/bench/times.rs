//! Latencies and their percentiles.

use std::time::Duration;

use serde::Serialize;

/// Percentiles of a number of latencies, in milliseconds.
#[derive(Serialize, Clone, Debug, PartialEq)]
pub struct Latencies {
    pub count: usize,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}

impl Latencies {
    /// Of at least one time.
    pub fn of(times: &[Duration]) -> Self {
        let mut sorted: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
        sorted.sort_by(f64::total_cmp);
        Self {
            count: sorted.len(),
            p50_ms: percentile(&sorted, 0.50),
            p99_ms: percentile(&sorted, 0.99),
            max_ms: percentile(&sorted, 1.0),
        }
    }
}

/// The smallest of `sorted` that at least this share of them do not exceed (nearest rank).
pub fn percentile(sorted: &[f64], share: f64) -> f64 {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        for (share, wanted) in [(0.0, 1.0), (0.5, 50.0), (0.501, 51.0), (0.99, 99.0), (1.0, 100.0)] {
            assert_eq!(percentile(&hundred, share), wanted, "{share}");
        }
        assert_eq!(percentile(&[3.0], 0.99), 3.0);
        assert_eq!(percentile(&[1.0, 2.0, 3.0], 0.5), 2.0);
        assert_eq!(percentile(&[1.0, 2.0], 0.99), 2.0);
    }

    #[test]
    fn latencies_are_in_milliseconds_in_any_order() {
        let times = [30, 10, 20].map(Duration::from_millis);
        assert_eq!(Latencies::of(&times), Latencies { count: 3, p50_ms: 20.0, p99_ms: 30.0, max_ms: 30.0 });
    }
}
