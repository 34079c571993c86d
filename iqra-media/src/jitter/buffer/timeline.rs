//! The time line of the jitter buffer: what comes next at the cursor.
//!
//! In: the packets that wait, and how far the line was given out. Out: one [`Step`] after the other, each of which moves the
//! cursor by its length.

use std::time::Instant;

use super::{Buffer, MAX_GAP, SHORTEST_FILL, State, units};
use crate::jitter::dry::Dry;
use crate::jitter::model::Adjustment;
use crate::rtp::reception::Position;

pub(super) enum Step {
    Audio(Position),
    Lost(u32),
    Dry(u32),
    Silence(u32),
}

impl Buffer {
    /// One step of the time line at the cursor; `None` when something was consumed that takes no time.
    pub(super) fn step(&mut self) -> Option<Step> {
        if self.cursor < self.hold_until {
            let left = units(self.hold_until - self.cursor, self.config.clock_rate).max(1);
            return self.silence(left.min(self.frame));
        }
        let Some(slot) = self.ring.first_from(self.next.sequence) else { return self.run_dry() };
        let (position, duration, arrival) = (slot.position, slot.duration, slot.arrival);
        self.end_dry(position);
        if duration == 0 {
            self.skip_to(position.sequence);
            self.consume(position.sequence);
            self.after_other = true;
            return None;
        }
        let ahead = position.timestamp.wrapping_sub(self.next.timestamp) as i64;
        if ahead != 0 && !(1..=i64::from(units(MAX_GAP, self.config.clock_rate))).contains(&ahead) {
            self.counts.jumps += 1;
            self.arrivals.begin(arrival, position.timestamp);
            self.aim_at(position);
            return None;
        }
        match (position.sequence > self.next.sequence, ahead) {
            (_, 0) => self.play(position, duration, arrival),
            (true, _) => self.lose(self.frame.min(ahead as u32)),
            (false, _) => self.silence_in_stream(ahead as u32),
        }
    }

    fn play(&mut self, position: Position, duration: u32, arrival: Instant) -> Option<Step> {
        let beyond = self.is_beyond_bounds();
        self.skip_to(position.sequence);
        self.consume(position.sequence);
        self.next.timestamp = position.timestamp + u64::from(duration);
        self.frame = duration.max(units(SHORTEST_FILL, self.config.clock_rate));
        self.after_other = false;
        self.concealed = 0;
        if beyond && self.ring.len() > 0 {
            self.counts.dropped += 1;
            return None;
        }
        self.delay = self.cursor.saturating_duration_since(arrival);
        self.advance(duration);
        self.counts.played += 1;
        Some(Step::Audio(position))
    }

    /// Nothing waits: conceal for a while, then fall silent.
    fn run_dry(&mut self) -> Option<Step> {
        let concealed = self.concealed + self.frame;
        if self.state == State::Playing && !self.after_other && self.span(concealed) <= self.config.conceal {
            self.concealed = concealed;
            let dry = self.dry.get_or_insert(Dry::at(self.next));
            (dry.frames, dry.samples) = (dry.frames + 1, dry.samples + self.frame);
            return Some(Step::Dry(self.pass_by(self.frame)));
        }
        self.state = State::Silent;
        self.silence(self.frame)
    }

    /// The packet that comes next tells why nothing was there.
    pub(super) fn end_dry(&mut self, next: Position) {
        let Some(dry) = self.dry.take() else { return };
        let missing = dry.missing(next, self.frame);
        self.counts.lost += dry.frames_of(missing);
        self.counts.underruns += u64::from(missing > 0);
        self.missing += missing;
    }

    fn lose(&mut self, samples: u32) -> Option<Step> {
        self.counts.lost += 1;
        Some(Step::Lost(self.pass_by(samples)))
    }

    /// The next packet's time goes by without it.
    fn pass_by(&mut self, samples: u32) -> u32 {
        self.skip_to(self.next.sequence + 1);
        self.next.timestamp += u64::from(samples);
        self.advance(samples);
        samples
    }

    /// A gap that the sender left, with `ahead` still to come: where the delay is to change, the gap does.
    fn silence_in_stream(&mut self, ahead: u32) -> Option<Step> {
        let samples = self.frame.min(ahead);
        let units = |length| units(length, self.config.clock_rate).min(samples);
        match self.adjustment() {
            Adjustment::Shorten(length) => {
                let cut = units(length).max(1);
                self.next.timestamp += u64::from(cut);
                self.counts.shortened += self.span(cut);
                None
            }
            Adjustment::Lengthen(length) => {
                let more = units(length).max(1);
                self.counts.stretched += self.span(more);
                self.silence(more)
            }
            Adjustment::Keep => {
                self.next.timestamp += u64::from(samples);
                self.silence(samples)
            }
        }
    }

    fn silence(&mut self, samples: u32) -> Option<Step> {
        self.advance(samples);
        Some(Step::Silence(samples))
    }
}
