//! How long to wait after failures in a row (RFC 5626 §4.5).

use std::time::Duration;

/// Waits that double with each failure up to a limit, each drawn at random from its upper half, so that the clients of
/// a server that comes back do not come back all at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The upper bound before the first doubling. Default 30 s (RFC 5626 §4.5, where every flow has failed).
    pub base: Duration,
    /// The largest upper bound. Default 30 minutes.
    pub most: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { base: Duration::from_secs(30), most: Duration::from_secs(1_800) }
    }
}

impl Backoff {
    /// The wait after `failures` in a row; `share` is random, 0 to 1.
    #[must_use]
    pub fn wait(&self, failures: u32, share: f64) -> Duration {
        let doubled = self.base.saturating_mul(1 << failures.min(20));
        doubled.min(self.most).mul_f64(0.5 + share.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_their_limit_and_lie_in_the_upper_half() {
        let backoff = Backoff::default();
        let seconds = |failures, share| backoff.wait(failures, share).as_secs();
        assert_eq!([1, 2, 3, 4].map(|failures| seconds(failures, 1.0)), [60, 120, 240, 480]);
        assert_eq!((seconds(1, 0.0), seconds(9, 1.0), seconds(u32::MAX, 0.0)), (30, 1_800, 900));
    }
}
