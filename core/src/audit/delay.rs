//! How long a failed unlock waits.
//!
//! Not to keep anybody from finding a key by trying, which 256 bits do, but so that whoever tries is slow, and is seen.

/// Failures that cost nothing: a mistyped key, a client that has not heard of a rotation.
pub const FREE_FAILURES: u32 = 5;

/// What the first one after them waits.
const FIRST_MS: u32 = 250;

/// How long the `failures`th failure in a row waits, in milliseconds: doubled with each, at most `max_ms`.
pub fn delay_ms(failures: u32, max_ms: u32) -> u32 {
    let Some(doubled) = failures.checked_sub(FREE_FAILURES + 1) else { return 0 };
    FIRST_MS.saturating_mul(1_u32.checked_shl(doubled).unwrap_or(u32::MAX)).min(max_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sixth_failure_waits_and_each_after_it_longer_up_to_a_bound() {
        let waits: Vec<u32> = (0..12).map(|failures| delay_ms(failures, 4_000)).collect();
        assert_eq!(waits, [0, 0, 0, 0, 0, 0, 250, 500, 1_000, 2_000, 4_000, 4_000]);
        for failures in [31, 36, 37, 38, 40, 1_000, u32::MAX] {
            assert_eq!(delay_ms(failures, 4_000), 4_000);
            assert_eq!(delay_ms(failures, 0), 0);
        }
    }
}
