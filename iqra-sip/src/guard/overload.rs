//! Overload: new requests are refused before queues grow, and served again once they are short.
//!
//! Two things can be slow. Where the program is, or the tables fill, a new request is answered 503. Where we are, for the
//! sockets are never read empty, an answer would cost more than there is: new datagrams are dropped before the parse, and
//! their senders repeat them (RFC 3261 §17.1). A stream is read no faster than we are, so its requests get their 503.

use std::time::{Duration, Instant};

/// So many requests have to wait before it matters how long they do: a few slow ones are a slow path of the program, many
/// are a slow program.
pub const CROWD: usize = 50;

/// What the load is measured by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests that the program has not answered at all, not even provisionally.
    pub waiting: usize,
    /// Requests in the queue to the program.
    pub queued: usize,
    /// How long the [`CROWD`]th oldest of the waiting has waited; zero where fewer wait.
    pub stalled: Duration,
    /// How long a socket has not been read empty: what is read then has waited, and more is waiting.
    pub behind: Duration,
    /// How full the table of transactions is, in percent of `max_transactions`.
    pub fill: u8,
}

/// Where shedding begins and where it ends. The gap keeps it from flickering.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverloadConfig {
    /// Any measure at or above its mark starts it; a mark of zero is off. Default 5,000 waiting, 1,000 queued, 2 s
    /// stalled, 100 ms behind, 80 % full.
    pub start: Load,
    /// All measures at or below their marks end it, `behind` aside, which [`hold`](Self::hold) ends. Default 2,500
    /// waiting, 250 queued, 500 ms stalled, 70 % full.
    pub end: Load,
    /// How long new requests are dropped after we were last behind: what catches up by dropping would fall behind again
    /// at once. Default 1 s.
    pub hold: Duration,
    /// Seconds of Retry-After, drawn between these two, so that callers do not come back all at once
    /// (RFC 3261 §21.5.4). Default 2 to 10.
    pub retry_after: (u32, u32),
    /// New requests to `urn:service:sos` are served all the same (RFC 5031 §4.2). Default true.
    pub spare_emergency: bool,
}

impl Default for OverloadConfig {
    fn default() -> Self {
        let (seconds, millis) = (Duration::from_secs, Duration::from_millis);
        Self {
            start: Load { waiting: 5_000, queued: 1_000, stalled: seconds(2), behind: millis(100), fill: 80 },
            end: Load { waiting: 2_500, queued: 250, stalled: millis(500), behind: Duration::ZERO, fill: 70 },
            hold: seconds(1),
            retry_after: (2, 10),
            spare_emergency: true,
        }
    }
}

/// What becomes of new requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Pressure {
    /// They are served.
    #[default]
    None,
    /// They are answered 503.
    Refuse,
    /// They are dropped where their sender repeats them, else answered 503.
    Drop,
}

/// Remembers whether it sheds.
#[derive(Debug, Default)]
pub(super) struct Overload {
    pub(super) pressure: Pressure,
    refuses: bool,
    behind_until: Option<Instant>,
}

impl Overload {
    /// Looks at the load and says what becomes of new requests.
    pub(super) fn judge(&mut self, now: Instant, config: &OverloadConfig, load: &Load) -> Pressure {
        let (start, end) = (&config.start, &config.end);
        let high = reaches(load.waiting, start.waiting)
            || reaches(load.queued, start.queued)
            || reaches(load.stalled, start.stalled)
            || reaches(load.fill, start.fill);
        let low = load.waiting <= end.waiting
            && load.queued <= end.queued
            && load.stalled <= end.stalled
            && load.fill <= end.fill;
        self.refuses = high || (self.refuses && !low);
        if reaches(load.behind, start.behind) {
            self.behind_until = now.checked_add(config.hold);
        }
        let behind = self.behind_until.is_some_and(|until| now < until);
        let pressure = match (behind, self.refuses) {
            (true, _) => Pressure::Drop,
            (false, true) => Pressure::Refuse,
            (false, false) => Pressure::None,
        };
        if pressure != self.pressure {
            tracing::warn!(?pressure, ?load, "overload: what becomes of new requests has changed");
        }
        self.pressure = pressure;
        pressure
    }
}

/// Whether a measure is at its mark; zero is none.
fn reaches<T: Default + PartialOrd>(measure: T, mark: T) -> bool {
    mark > T::default() && measure >= mark
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shedding_begins_at_the_upper_mark_and_ends_at_the_lower_one() {
        let (mut overload, config, now) = (Overload::default(), OverloadConfig::default(), Instant::now());
        let mut sheds =
            |waiting| overload.judge(now, &config, &Load { waiting, ..Load::default() }) == Pressure::Refuse;
        let verdicts: Vec<_> = [0, 4_999, 5_000, 4_999, 2_501, 2_500, 4_999].map(&mut sheds).into();
        assert_eq!(verdicts, [false, false, true, true, true, false, false]);
    }

    #[test]
    fn any_measure_starts_it_and_all_must_be_low_to_end_it() {
        let (config, now) = (OverloadConfig::default(), Instant::now());
        let stalled = Load { stalled: Duration::from_secs(2), ..Load::default() };
        let queued = Load { queued: 1_000, ..Load::default() };
        let full = Load { fill: 80, ..Load::default() };
        for load in [stalled, queued, full] {
            let mut overload = Overload::default();
            let mut judge = |load: Load| overload.judge(now, &config, &load);
            assert_eq!(judge(load), Pressure::Refuse, "{load:?}");
            assert_eq!(judge(Load { queued: 251, ..Load::default() }), Pressure::Refuse);
            assert_eq!(judge(Load { fill: 71, ..Load::default() }), Pressure::Refuse);
            assert_eq!(judge(Load { queued: 250, fill: 70, ..Load::default() }), Pressure::None);
        }
    }

    #[test]
    fn who_was_behind_drops_until_the_hold_is_over() {
        let (mut overload, config, start) = (Overload::default(), OverloadConfig::default(), Instant::now());
        let mut judge = |ms, behind| {
            let load = Load { behind: Duration::from_millis(behind), ..Load::default() };
            overload.judge(start + Duration::from_millis(ms), &config, &load)
        };
        assert_eq!(judge(0, 99), Pressure::None, "a burst");
        assert_eq!(judge(1, 100), Pressure::Drop);
        assert_eq!(judge(1_000, 0), Pressure::Drop);
        assert_eq!(judge(1_001, 0), Pressure::None);
    }

    #[test]
    fn a_mark_of_zero_is_off() {
        let config = OverloadConfig { start: Load::default(), ..OverloadConfig::default() };
        let load = Load { waiting: 1 << 20, fill: 100, behind: Duration::MAX, ..Load::default() };
        assert_eq!(Overload::default().judge(Instant::now(), &config, &load), Pressure::None);
    }
}
