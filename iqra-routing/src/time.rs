//! The one notion of time in this crate: milliseconds since the Unix epoch, handed in by the caller.
//!
//! Stores take `now` as an argument and keep no clock. That is the simplest thing that works for all of them: a test
//! moves time by adding to a number, a token's expiry means the same to the proxy and to the backend, and a store in a
//! file can compare what two processes wrote. [`SystemClock`] makes it safe to use for leases too: it reads the wall
//! clock once and then counts monotonically, so a wall clock that is set back or forward expires nothing.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A moment, in milliseconds since the Unix epoch (1970-01-01T00:00:00Z).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The moment `millis` milliseconds after the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Seconds since the Unix epoch, rounded down.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// How long after `earlier` this is; zero when it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{:03}", self.as_secs(), self.0 % 1000)
    }
}

/// Where the programs take `now` from: the wall clock at the start, counted on monotonically.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    started: Instant,
    wall: Timestamp,
}

impl SystemClock {
    /// Reads the wall clock once. A wall clock before 1970 reads as 1970.
    pub fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), wall: Timestamp::default() + wall }
    }

    /// The present moment; never earlier than an answer given before.
    pub fn now(&self) -> Timestamp {
        self.wall + self.started.elapsed()
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::start()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_instead_of_wrapping() {
        let start = Timestamp::from_millis(5);
        assert_eq!(start - Duration::from_secs(1), Timestamp::from_millis(0));
        assert_eq!((start + Duration::MAX).as_millis(), u64::MAX);
        assert_eq!(start.since(start + Duration::from_secs(1)), Duration::ZERO);
    }

    #[test]
    fn the_system_clock_does_not_go_back() {
        let clock = SystemClock::start();
        let first = clock.now();
        assert!(clock.now() >= first);
        assert!(first.as_secs() > 1_600_000_000);
    }
}
