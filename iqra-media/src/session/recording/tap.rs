//! The media thread's end of a recording: frames come in with their times, and leave by two rings, each sample at its
//! place.
//!
//! A side's stream is a row of [`Span`]s: so much silence, then so many samples of the ring. What is silent, lost or
//! hidden costs no room, however long it lasts.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Shared, Start, State};
use crate::conversation::RecordingWish;
use crate::pcm::{Resampler, UnsupportedRate};

/// Audio that may wait for the writer, per direction.
const WAITING: Duration = Duration::from_secs(4);
/// Frames in it, the shortest of 5 ms.
const SPANS: usize = 1024;
/// What was heard waits for so long in case that a key turns out to be in it: a detector takes 40 ms, and a gateway may
/// let as much of a tone pass before it sends events.
const HELD: Duration = Duration::from_millis(100);
/// A side that is silent for longer is filled up with silence, so that the writer can go on with the other.
const PATIENCE: Duration = Duration::from_millis(200);
/// How far what is heard may be off before it is put in its place: packets do not come on the beat of the clock.
const SLACK: Duration = Duration::from_millis(60);
/// The longest frame.
const FRAME: Duration = Duration::from_millis(120);

/// A stretch of one side's time: silence, then samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) silence: u64,
    pub(super) samples: usize,
}

/// The writer's end of one side.
pub(super) struct SideEnd {
    pub(super) spans: rtrb::Consumer<Span>,
    pub(super) samples: rtrb::Consumer<i16>,
}

/// The media thread's end of a recording. Dropping it ends the file.
pub struct Tap {
    left: Side,
    right: Side,
    start: Start,
    clock: Option<Instant>,
    /// Whether it records now, and hid the caller's last frame.
    running: bool,
    hidden: bool,
    shared: Arc<Shared>,
}

impl Tap {
    pub(super) fn new(
        rate: u32,
        start: Start,
        shared: Arc<Shared>,
    ) -> Result<(Self, [SideEnd; 2]), UnsupportedRate> {
        let (left, left_end) = Side::new(rate, HELD, SLACK, shared.clone())?;
        let (right, right_end) = Side::new(rate, Duration::ZERO, Duration::ZERO, shared.clone())?;
        let tap = Self { left, right, start, clock: None, running: false, hidden: false, shared };
        Ok((tap, [left_end, right_end]))
    }

    /// From here on what is heard and spoken comes at these rates.
    pub(in crate::session) fn set_rates(&mut self, (heard, spoken): (u32, u32)) {
        self.left.set_rate(heard);
        self.right.set_rate(spoken);
    }

    /// Begins, pauses and goes on as the conversation wishes, and lets time pass on a side that is silent.
    pub(in crate::session) fn tick(&mut self, now: Instant, wish: RecordingWish) {
        let allowed = self.start == Start::AtOnce || wish.allowed;
        if allowed && self.clock.is_none() {
            self.clock = Some(now);
            self.shared.set(State::Recording);
        }
        self.running = allowed && !wish.paused;
        if let Some(place) = self.place(now.checked_sub(PATIENCE).unwrap_or(now)) {
            self.left.wait_until(place);
            self.right.wait_until(place);
        }
        self.shared.taken.store(self.left.told.max(self.right.told), Ordering::Release);
    }

    /// What the conversation heard at `now`; where it is `hidden` silence is recorded, here and in what is held back.
    pub(in crate::session) fn heard(&mut self, now: Instant, samples: &[i16], hidden: bool) {
        if hidden && !std::mem::replace(&mut self.hidden, hidden) {
            self.left.forget_held();
        }
        self.hidden = hidden;
        if let Some(place) = self.place(now).filter(|_| self.running) {
            self.left.record(place, samples, hidden);
        }
    }

    /// What leaves in the packet that was due at `due`.
    pub(in crate::session) fn spoken(&mut self, due: Instant, samples: &[i16]) {
        if let Some(place) = self.place(due).filter(|_| self.running) {
            self.right.record(place, samples, false);
        }
    }

    /// Samples from the beginning to a time; `None` before the beginning.
    fn place(&self, at: Instant) -> Option<u64> {
        let elapsed = at.saturating_duration_since(self.clock?);
        // To the nearest sample, so that packet times that are no whole number of nanoseconds add up.
        Some(((elapsed.as_nanos() * u128::from(self.left.rate) + 500_000_000) / 1_000_000_000) as u64)
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tap").field("rate", &self.left.rate).finish_non_exhaustive()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.left.let_go(0);
        let length = self.left.end().max(self.right.end());
        self.shared.length.store(length, Ordering::Release);
    }
}

/// One channel: the rings towards the writer, and how much time is in them already.
struct Side {
    spans: rtrb::Producer<Span>,
    ring: rtrb::Producer<i16>,
    rate: u32,
    from: u32,
    resampler: Resampler,
    converted: Vec<i16>,
    held: VecDeque<i16>,
    most_held: usize,
    slack: u64,
    /// Silence that no span tells of yet.
    silence: u64,
    /// Samples that the writer knows of or will, `silence` included, but not what is held.
    told: u64,
    shared: Arc<Shared>,
}

impl Side {
    fn new(
        rate: u32,
        held: Duration,
        slack: Duration,
        shared: Arc<Shared>,
    ) -> Result<(Self, SideEnd), UnsupportedRate> {
        let resampler = Resampler::new(rate, rate)?;
        let samples_in = |time: Duration| (time.as_millis() as usize) * rate as usize / 1_000;
        let (ring, samples) = rtrb::RingBuffer::new(samples_in(WAITING));
        let (spans_in, spans) = rtrb::RingBuffer::new(SPANS);
        let side = Self {
            spans: spans_in,
            ring,
            rate,
            from: rate,
            resampler,
            converted: Vec::with_capacity(2 * samples_in(FRAME)),
            held: VecDeque::with_capacity(samples_in(held) + 2 * samples_in(FRAME)),
            most_held: samples_in(held),
            slack: samples_in(slack) as u64 + 1,
            silence: 0,
            told: 0,
            shared,
        };
        Ok((side, SideEnd { spans, samples }))
    }

    fn set_rate(&mut self, rate: u32) {
        if rate != self.from
            && let Ok(resampler) = Resampler::new(rate, self.rate)
        {
            (self.from, self.resampler) = (rate, resampler);
        }
    }

    /// How many samples there are of this side.
    fn end(&self) -> u64 {
        self.told + self.held.len() as u64
    }

    fn record(&mut self, place: u64, samples: &[i16], hidden: bool) {
        let mut converted = std::mem::take(&mut self.converted);
        converted.clear();
        self.resampler.process(samples, &mut converted);
        if hidden {
            converted.fill(0);
        }
        let early = self.move_to(place).min(converted.len());
        if !hidden {
            self.shared.lose(early as u64);
        }
        self.held.extend(&converted[early..]);
        self.converted = converted;
        self.let_go(self.most_held);
    }

    /// Fills up to `place` what is missing before it, and gives how many samples there are too many after it; both only
    /// where it is more than the slack.
    fn move_to(&mut self, place: u64) -> usize {
        let missing = place.saturating_sub(self.end());
        if missing > self.slack {
            self.be_silent(missing);
        }
        let early = self.end().saturating_sub(place);
        usize::try_from(early.saturating_sub(self.slack)).unwrap_or(usize::MAX)
    }

    /// Nothing came so far: silence, which takes no room.
    fn wait_until(&mut self, place: u64) {
        let missing = place.saturating_sub(self.end());
        if missing > 0 {
            self.be_silent(missing);
        }
        // So that the writer goes on.
        if self.silence > u64::from(self.rate / 10) {
            self.tell(0);
        }
    }

    fn be_silent(&mut self, samples: u64) {
        self.let_go(0);
        self.silence += samples;
        self.told += samples;
    }

    fn forget_held(&mut self) {
        self.held.iter_mut().for_each(|sample| *sample = 0);
    }

    /// Hands over what is held beyond `keep` samples.
    fn let_go(&mut self, keep: usize) {
        let count = self.held.len().saturating_sub(keep);
        if count == 0 {
            return;
        }
        if self.tell(count) {
            self.told += count as u64;
            return;
        }
        self.shared.lose(count as u64);
        self.held.drain(..count);
        self.told += count as u64;
        self.silence += count as u64;
    }

    /// Tells the writer of the silence so far and of so many samples that are held after it; not if there is no room.
    fn tell(&mut self, count: usize) -> bool {
        if self.spans.slots() == 0 {
            return false;
        }
        let Ok(room) = self.ring.write_chunk_uninit(count) else { return false };
        room.fill_from_iter(self.held.drain(..count));
        let span = Span { silence: std::mem::take(&mut self.silence), samples: count };
        // There is a slot: nobody else fills them.
        let _ = self.spans.push(span);
        true
    }
}
