//! Makes the two tones of each key of a string, with pauses between: clean sines with rounded edges, at any sample rate.

use std::collections::VecDeque;
use std::f64::consts::{PI, TAU};
use std::time::Duration;

use super::super::samples_in;
use super::frequencies;
use crate::pcm::level;
use crate::rtp::telephone_event::Digit;

/// Keys that may wait.
pub const MAX_QUEUED: usize = 64;

/// How keys sound. Levels are of each tone in dBm0, together not above full scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// How long a key sounds, edges included. Default 100 ms; receivers need 40 (ITU-T Q.24).
    pub tone: Duration,
    /// How long it is quiet after each key. Default 60 ms; receivers need 40 (ITU-T Q.24).
    pub pause: Duration,
    /// Level of the low tone. Default -11 dBm0.
    pub low: f64,
    /// Level of the high tone. Default -9 dBm0: telephones send it 2 dB louder, since lines lose more of it.
    pub high: f64,
    /// How long a tone takes to its level and from it, which keeps clicks off the line. Default 3 ms.
    pub edge: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self { tone: ms(100), pause: ms(60), low: -11.0, high: -9.0, edge: ms(3) }
    }
}

/// Makes the sound of keys. `Debug` shows none.
///
/// # Contract
/// [`press`](Self::press) keys, then [`fill`](Self::fill) frames of any length for as long as it writes something. A
/// frame's end stops no tone: the next goes on at the same phase.
pub struct Generator {
    rate: u32,
    pace: Pace,
    keys: VecDeque<Digit>,
    /// The key that sounds, and how many samples of it and its pause were written.
    current: Option<(Sines, u64)>,
}

impl std::fmt::Debug for Generator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let waiting = self.keys.len();
        f.debug_struct("Generator")
            .field("rate", &self.rate)
            .field("waiting", &waiting)
            .finish_non_exhaustive()
    }
}

impl Generator {
    /// For a sample rate in Hz.
    pub fn new(rate: u32, pace: Pace) -> Self {
        Self { rate, pace, keys: VecDeque::with_capacity(MAX_QUEUED), current: None }
    }

    /// Queues a key; false where [`MAX_QUEUED`] wait.
    pub fn press(&mut self, digit: Digit) -> bool {
        let room = self.keys.len() < MAX_QUEUED;
        if room {
            self.keys.push_back(digit);
        }
        room
    }

    /// Whether a key sounds or waits, its pause included.
    pub fn is_active(&self) -> bool {
        !self.keys.is_empty() || self.current.as_ref().is_some_and(|(_, at)| *at < self.whole())
    }

    /// Forgets the keys that wait; the one that sounds ends as it should.
    pub fn clear(&mut self) {
        self.keys.clear();
    }

    /// Writes the next samples, pauses as zeros; gives how many, less than asked for after the last pause.
    pub fn fill(&mut self, out: &mut [i16]) -> usize {
        for (written, sample) in out.iter_mut().enumerate() {
            let Some(next) = self.next() else { return written };
            *sample = next;
        }
        out.len()
    }

    /// Samples of a key's tones.
    fn tone(&self) -> u64 {
        samples_in(self.pace.tone, self.rate).max(1)
    }

    /// And with its pause.
    fn whole(&self) -> u64 {
        self.tone() + samples_in(self.pace.pause, self.rate)
    }

    fn next(&mut self) -> Option<i16> {
        let tone = self.tone();
        let whole = self.whole();
        if self.current.as_ref().is_none_or(|(_, at)| *at >= whole) {
            let next = self.keys.pop_front();
            self.current = next.map(|digit| (Sines::new(digit, self.rate, &self.pace), 0));
        }
        let edge = samples_in(self.pace.edge, self.rate).min(tone / 2);
        let (sines, at) = self.current.as_mut()?;
        let from_edge = (*at).min((tone - 1).saturating_sub(*at));
        let sounds = *at < tone;
        *at += 1;
        Some(if sounds { (sines.next() * rise(from_edge, edge)).round() as i16 } else { 0 })
    }
}

/// Half a cosine from 0 to 1.
fn rise(at: u64, edge: u64) -> f64 {
    if at >= edge { 1.0 } else { 0.5 - 0.5 * (PI * (at as f64 + 0.5) / edge as f64).cos() }
}

/// Two sines, each a vector that turns.
struct Sines([Turning; 2]);

struct Turning {
    at: (f64, f64),
    turn: (f64, f64),
}

impl Sines {
    fn new(digit: Digit, rate: u32, pace: &Pace) -> Self {
        let (low, high) = frequencies(digit);
        let turning = |frequency: f64, level: f64| Turning {
            at: (f64::from(level::peak_of_dbm0(level)), 0.0),
            turn: (TAU * frequency / f64::from(rate)).sin_cos(),
        };
        Self([turning(low, pace.low), turning(high, pace.high)])
    }

    fn next(&mut self) -> f64 {
        self.0.iter_mut().map(Turning::next).sum()
    }
}

impl Turning {
    /// The sine before the turn: the first sample is 0.
    fn next(&mut self) -> f64 {
        let ((re, im), (sin, cos)) = (self.at, self.turn);
        self.at = (re * cos - im * sin, re * sin + im * cos);
        im
    }
}
