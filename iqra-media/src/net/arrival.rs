//! When a datagram arrived, on the clock that sessions go by.
//!
//! In: the kernel's stamp, which is of the wall clock, and both clocks as they were read after the datagram. Out: a time
//! of the monotonic clock. The wall clock may be set between the stamp and the reading, or run at another rate: so the age
//! that comes out is held between nothing and the time since the socket was last read, before which the datagram was not
//! there.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clocks {
    pub(super) now: Instant,
    /// Since the epoch.
    pub(super) wall: Duration,
}

impl Clocks {
    /// Reads both.
    pub(super) fn read() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { now: Instant::now(), wall }
    }

    /// When what was stamped at `stamp` came in, and was not yet there at `empty`; now, where there is no stamp.
    pub(super) fn arrival(&self, stamp: Option<Duration>, empty: Instant) -> Instant {
        let age = stamp.map_or(Duration::ZERO, |stamp| self.wall.saturating_sub(stamp));
        self.now.checked_sub(age).map_or(empty, |arrival| arrival.max(empty)).min(self.now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const WALL: Duration = Duration::from_secs(1_700_000_000);

    /// Arrival of what was stamped so long before (or after) a reading 5 ms after the last, in ms before the reading.
    fn age(stamp: Option<Duration>) -> Duration {
        let empty = Instant::now();
        let clocks = Clocks { now: empty + 5 * MS, wall: WALL };
        clocks.now - clocks.arrival(stamp, empty)
    }

    #[test]
    fn a_stamp_is_an_age() {
        assert_eq!(age(Some(WALL - 3 * MS)), 3 * MS);
        assert_eq!(age(Some(WALL)), Duration::ZERO);
    }

    #[test]
    fn a_wall_clock_that_was_set_moves_nothing_beyond_the_reading_and_the_one_before() {
        assert_eq!(age(Some(WALL - Duration::from_secs(3_600))), 5 * MS, "set forward");
        assert_eq!(age(Some(WALL + Duration::from_secs(3_600))), Duration::ZERO, "set back");
        assert_eq!(age(Some(Duration::ZERO)), 5 * MS, "a stamp of the epoch");
    }

    #[test]
    fn without_a_stamp_it_arrived_when_it_was_read() {
        assert_eq!(age(None), Duration::ZERO);
    }

    #[test]
    fn a_socket_that_was_read_later_than_now_gives_now() {
        let clocks = Clocks { now: Instant::now(), wall: WALL };
        assert_eq!(clocks.arrival(Some(WALL), clocks.now + MS), clocks.now);
    }
}
