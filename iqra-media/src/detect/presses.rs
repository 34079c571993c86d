//! Presses of keys that come by more than one way at once: by telephone-events, in the audio, in INFO requests. Some lines
//! use two of them for the same press.
//!
//! In: each key with its source. Out: whether another source has told of this press already. A key that comes again from
//! the same source is a new press.

use std::time::{Duration, Instant};

use crate::rtp::telephone_event::Digit;

/// Within this a key from another source is the same press, unless it is said otherwise: a detector in the audio takes
/// 35 ms, a jitter buffer up to 200, INFO its way through proxies.
pub const MERGE: Duration = Duration::from_millis(400);
/// Presses that are remembered to tell repeats by.
const REMEMBERED: usize = 8;

/// How a key came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// RTP telephone events (RFC 4733).
    Event,
    /// Tones in the audio.
    Audio,
    /// The body of an INFO.
    Info,
    /// A provider's message, or the program itself.
    Other,
}

impl Source {
    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// The presses of late.
#[derive(Debug)]
pub(crate) struct Presses {
    merge: Duration,
    recent: Vec<Recent>,
}

/// A press, and the sources that told of it.
#[derive(Clone, Copy, Debug)]
struct Recent {
    digit: Digit,
    at: Instant,
    sources: u8,
}

impl Presses {
    /// What comes within `merge` may be the same press.
    pub(crate) fn new(merge: Duration) -> Self {
        Self { merge, recent: Vec::with_capacity(REMEMBERED) }
    }

    /// Whether another source has told of this press already; if not, it is remembered.
    pub(crate) fn is_repeat(&mut self, now: Instant, digit: Digit, source: Source) -> bool {
        self.recent.retain(|press| now.saturating_duration_since(press.at) <= self.merge);
        let same = |press: &&mut Recent| press.digit == digit && press.sources & source.bit() == 0;
        if let Some(press) = self.recent.iter_mut().find(same) {
            press.sources |= source.bit();
            return true;
        }
        if self.recent.len() == REMEMBERED {
            self.recent.remove(0);
        }
        self.recent.push(Recent { digit, at: now, sources: source.bit() });
        false
    }
}
