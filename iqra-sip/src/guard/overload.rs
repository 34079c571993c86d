//! Overload: new requests are answered 503 before queues grow, and served again once they are short.

use std::time::Duration;

/// What the load is measured by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests that the program has not answered at all, not even provisionally.
    pub waiting: usize,
    /// Requests in the queue to the program.
    pub queued: usize,
    /// Since when the oldest of the waiting waits.
    pub oldest: Duration,
}

/// Where shedding begins and where it ends. The gap keeps it from flickering.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverloadConfig {
    /// Any measure at or above its mark starts it. Default 5,000 waiting, 1,000 queued, 2 s old.
    pub start: Load,
    /// All measures at or below their marks end it. Default 2,500 waiting, 250 queued, 500 ms old.
    pub end: Load,
    /// Seconds of Retry-After, drawn between these two, so that callers do not come back all at once
    /// (RFC 3261 §21.5.4). Default 2 to 10.
    pub retry_after: (u32, u32),
    /// New requests to `urn:service:sos` are served all the same (RFC 5031 §4.2). Default true.
    pub spare_emergency: bool,
}

impl Default for OverloadConfig {
    fn default() -> Self {
        Self {
            start: Load { waiting: 5_000, queued: 1_000, oldest: Duration::from_secs(2) },
            end: Load { waiting: 2_500, queued: 250, oldest: Duration::from_millis(500) },
            retry_after: (2, 10),
            spare_emergency: true,
        }
    }
}

/// Remembers whether it sheds.
#[derive(Debug, Default)]
pub(super) struct Overload {
    pub(super) sheds: bool,
}

impl Overload {
    /// Looks at the load; true where new requests are to be refused.
    pub(super) fn judge(&mut self, config: &OverloadConfig, load: &Load) -> bool {
        let (start, end) = (&config.start, &config.end);
        let high =
            load.waiting >= start.waiting || load.queued >= start.queued || load.oldest >= start.oldest;
        let low = load.waiting <= end.waiting && load.queued <= end.queued && load.oldest <= end.oldest;
        let sheds = high || (self.sheds && !low);
        if sheds != self.sheds {
            tracing::warn!(
                sheds,
                ?load,
                "overload: new requests are {}",
                if sheds { "refused" } else { "served" }
            );
        }
        self.sheds = sheds;
        sheds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shedding_begins_at_the_upper_mark_and_ends_at_the_lower_one() {
        let (mut overload, config) = (Overload::default(), OverloadConfig::default());
        let mut judge = |waiting| overload.judge(&config, &Load { waiting, ..Load::default() });
        let verdicts: Vec<_> = [0, 4_999, 5_000, 4_999, 2_501, 2_500, 4_999].map(&mut judge).into();
        assert_eq!(verdicts, [false, false, true, true, true, false, false]);
    }

    #[test]
    fn any_measure_starts_it_and_all_must_be_low_to_end_it() {
        let config = OverloadConfig::default();
        let old = Load { oldest: Duration::from_secs(2), ..Load::default() };
        let queued = Load { queued: 1_000, ..Load::default() };
        for load in [old, queued] {
            let mut overload = Overload::default();
            assert!(overload.judge(&config, &load), "{load:?}");
            assert!(overload.judge(&config, &Load { queued: 251, ..Load::default() }));
            assert!(!overload.judge(&config, &Load { queued: 250, ..Load::default() }));
        }
    }
}
