//! How long one end alone was heard, while media was agreed both ways: a caller who hears nothing, or is not heard.
//!
//! In: how long nothing came, at each tick, and how far the far end's reports say that it heard us. Out: two durations
//! of [`MediaReport`](crate::quality::MediaReport). Shorter silences than [`SILENCE`] are pauses and losses.

use std::time::{Duration, Instant};

/// The shortest silence that counts; then all of it does.
const SILENCE: Duration = Duration::from_secs(2);
/// Packets of ours that must have left within it, for the far end to miss them.
const FEW: u64 = 10;

/// What the far end last said of our stream.
#[derive(Clone, Copy)]
struct Mark {
    at: Instant,
    sent: u64,
    highest: Option<u32>,
}

#[derive(Default)]
pub(super) struct OneWay {
    /// Since when both directions are expected.
    since: Option<Instant>,
    /// Until when the present silence is counted.
    counted: Option<Instant>,
    mark: Option<Mark>,
    pub(super) nothing_came: Duration,
    pub(super) nothing_arrived: Duration,
}

impl OneWay {
    /// At `now` nothing came for `silent`, and we sent so many packets; `expected` is whether media is to flow both ways.
    pub(super) fn tick(&mut self, now: Instant, expected: bool, silent: Duration, sent: u64) {
        if !expected {
            (self.since, self.counted, self.mark) = (None, None, None);
            return;
        }
        let since = *self.since.get_or_insert(now);
        self.mark.get_or_insert(Mark { at: now, sent, highest: None });
        let silent = silent.min(now.saturating_duration_since(since));
        if silent < SILENCE {
            self.counted = None;
            return;
        }
        let more = self.counted.map_or(silent, |counted| now.saturating_duration_since(counted));
        self.nothing_came += more;
        self.counted = Some(now);
    }

    /// A report of the far end, which names the highest of our sequence numbers if it heard us since the last one.
    pub(super) fn reported(&mut self, now: Instant, highest: Option<u32>, sent: u64) {
        let Some(mark) = self.mark else { return };
        let elapsed = now.saturating_duration_since(mark.at);
        let is_heard = highest.is_some() && highest != mark.highest;
        if !is_heard && (elapsed < SILENCE || sent < mark.sent + FEW) {
            return;
        }
        if !is_heard {
            self.nothing_arrived += elapsed;
        }
        self.mark = Some(Mark { at: now, sent, highest: highest.or(mark.highest) });
    }
}
