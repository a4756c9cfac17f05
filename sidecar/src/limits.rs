//! What one request may ask for.

use std::time::Duration;

use crate::error::ApiError;

/// Limits of one request, and of all at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a body.
    pub body_bytes_max: usize,
    /// Items, ids or query vectors in one request.
    pub batch_max: usize,
    /// Rows of one query.
    pub top_k_max: u32,
    /// Requests that are worked on at once, so that answers fit into memory.
    pub requests_max: u32,
    /// Bytes of all long bodies at once, so that they fit into memory.
    pub bodies_bytes_max: usize,
    /// For a body to come.
    pub body_time_max: Duration,
    /// From the request's head to its answer.
    pub request_time_max: Duration,
    /// The same for training.
    pub train_time_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 64 << 20,
            batch_max: 100_000,
            top_k_max: 10_000,
            requests_max: 256,
            bodies_bytes_max: 1 << 30,
            body_time_max: Duration::from_secs(30),
            request_time_max: Duration::from_secs(60),
            train_time_max: Duration::from_secs(3600),
        }
    }
}

impl Limits {
    /// Refuses a batch of more rows than the limit. `what` is a plural: "items", "ids", "query vectors".
    ///
    /// # Errors
    /// 400.
    pub fn check_batch(&self, what: &str, count: usize) -> Result<(), ApiError> {
        if count <= self.batch_max {
            return Ok(());
        }
        Err(ApiError::bad_request(format!("a request takes at most {} {what}, not {count}", self.batch_max)))
    }

    /// Refuses a `top_k` below 1 or above the limit, and gives it as SQL takes it.
    ///
    /// # Errors
    /// 400.
    pub fn check_top_k(&self, top_k: i64) -> Result<i32, ApiError> {
        match i32::try_from(top_k) {
            Ok(k) if k >= 1 && k.unsigned_abs() <= self.top_k_max => Ok(k),
            _ => Err(ApiError::bad_request(format!("top_k must be 1 to {}, not {top_k}", self.top_k_max))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_the_last_that_passes() {
        let limits = Limits { batch_max: 3, top_k_max: 5, ..Limits::default() };
        assert!(limits.check_batch("items", 3).is_ok());
        assert_eq!(limits.check_batch("items", 4).unwrap_err().status, 400);
        for (top_k, fits) in
            [(i64::MIN, false), (-1, false), (0, false), (1, true), (5, true), (6, false), (i64::MAX, false)]
        {
            assert_eq!(limits.check_top_k(top_k).is_ok(), fits, "{top_k}");
        }
    }
}
