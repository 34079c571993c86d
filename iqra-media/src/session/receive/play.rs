//! The second part of the way of what is heard: what is due in the jitter buffer → decode, recover or conceal →
//! stretch → resample → the conversation; and keys, whichever way they came.

use std::time::Instant;

use super::{Counts, Receiving, span};
use crate::conversation::{Event, LineEnd};
use crate::detect::dtmf::KeyEvent;
use crate::detect::presses::{self, Presses};
use crate::jitter::{Adjustment, Frame};
use crate::rtp::telephone_event::Digit;
use crate::session::decoders::MadeOf;
use crate::session::recording::Tap;

/// The most packets that one stretch of made-up audio counts as; a stretch is no longer than a frame.
const MAX_MISSING: u32 = 12;

impl Receiving {
    /// Gives the conversation all that is due: keys, then audio.
    pub(in crate::session) fn play(&mut self, now: Instant, line: &mut LineEnd, tap: Option<&mut Tap>) {
        self.give_keys(now, line);
        let mut tap = tap;
        while let Some(concealed) = self.next_frame(now) {
            if !concealed {
                self.give_tones(now, line);
            }
            let key_down = self.key_down();
            let hidden = self.discretion.judge(now, line.is_secret(), key_down, &self.pcm);
            self.stretch(concealed);
            if !self.wanted {
                continue;
            }
            if let Some(tap) = tap.as_deref_mut() {
                tap.heard(now, &self.pcm, hidden.from_recording);
            }
            line.keep_back(hidden.from_bridge);
            self.heard.clear();
            self.to_hearing.process(&self.pcm, &mut self.heard);
            if let Some(agc) = &mut self.agc {
                agc.process(&mut self.heard);
            }
            line.give_audio(&self.heard, concealed);
            if let Some(ears) = &mut self.ears {
                ears.hear(&self.heard, line);
            }
        }
    }

    /// The call is answered.
    pub(in crate::session) fn answered(&mut self, line: &LineEnd) {
        if let Some(ears) = &mut self.ears {
            ears.answered(line);
        }
    }

    /// Nothing is heard from here on, or for now.
    pub(in crate::session) fn pause(&mut self, line: &mut LineEnd) {
        if let Some(ears) = &mut self.ears {
            ears.pause(line);
        }
    }

    fn give_keys(&mut self, now: Instant, line: &mut LineEnd) {
        let Some((_, receiver)) = &mut self.events else { return };
        receiver.handle_timeout(now);
        while let Some(press) = receiver.poll() {
            self.key_came = true;
            pressed(&mut self.presses, &mut self.counts, line, now, press.digit, presses::Source::Event);
        }
    }

    /// A key that came beside the media.
    pub(in crate::session) fn press(&mut self, now: Instant, digit: Digit, line: &mut LineEnd) {
        pressed(&mut self.presses, &mut self.counts, line, now, digit, presses::Source::Info);
    }

    /// Whether a key is down, or was since the last frame.
    fn key_down(&mut self) -> bool {
        let event = self.events.as_ref().is_some_and(|(_, receiver)| receiver.is_pressed());
        let tone = self.tones.as_ref().is_some_and(|tones| tones.pressed().is_some());
        std::mem::take(&mut self.key_came) || event || tone
    }

    fn give_tones(&mut self, now: Instant, line: &mut LineEnd) {
        let Some(tones) = &mut self.tones else { return };
        tones.process(&self.pcm, |event| {
            if let KeyEvent::Down { digit, .. } = event {
                pressed(&mut self.presses, &mut self.counts, line, now, digit, presses::Source::Audio);
            }
        });
    }

    /// Puts the next due frame into `pcm`, mono; tells whether it was made up.
    fn next_frame(&mut self, now: Instant) -> Option<bool> {
        let mut is_dry = false;
        let lost = match self.jitter.pop(now)? {
            Frame::Audio { payload, format, timestamp } => {
                self.decoders.change_to(format);
                let length = self.decoders.duration(format, payload);
                if self.decoders.decode(payload, &mut self.pcm) {
                    self.noise.stop_at(timestamp);
                    self.concealer.heard(&mut self.pcm);
                    self.first_played.get_or_insert(now);
                    self.settle();
                    self.bursts.came();
                    return Some(false);
                }
                length
            }
            Frame::Lost { samples } => samples,
            Frame::Dry { samples } => {
                is_dry = true;
                samples
            }
            Frame::Silence { samples } => {
                self.be_silent(samples);
                return Some(false);
            }
        };
        self.settle();
        if self.conceal(lost) {
            self.counts.recovered += 1;
            self.bursts.came();
        } else if !is_dry {
            self.count_missing(lost);
        }
        Some(true)
    }

    /// What was dry before the packet that has come: of a pause of the sender nothing was missing.
    fn settle(&mut self) {
        let missing = self.jitter.settle();
        if missing > 0 {
            self.count_missing(missing);
        }
    }

    /// Makes the frame in `pcm` as long as the jitter buffer wants it; what was made up stays as it is.
    fn stretch(&mut self, made_up: bool) {
        let wanted = if made_up { Adjustment::Keep } else { self.jitter.adjustment() };
        self.jitter.adjusted(self.stretch.process(&mut self.pcm, wanted));
    }

    /// Audio that was made up stands for as many packets as are as long.
    fn count_missing(&mut self, clock_units: u32) {
        self.counts.concealed += span(clock_units.into(), self.clock_rate);
        let packets = clock_units.div_ceil(self.packet_units.max(1)).clamp(1, MAX_MISSING);
        (0..packets).for_each(|_| self.bursts.missing());
    }

    /// What was lost: by the copy in the packet that follows, which it tells, else as the codec does it, else from the
    /// last frame.
    fn conceal(&mut self, clock_units: u32) -> bool {
        let next = self.jitter.peek();
        let made_of = self.decoders.recover(clock_units, next, &mut self.pcm);
        match made_of {
            MadeOf::Silence => self.concealer.conceal(&mut self.pcm),
            MadeOf::Copy | MadeOf::Guess => self.concealer.heard(&mut self.pcm),
        }
        made_of == MadeOf::Copy
    }

    /// What the sender left out: comfort noise as it described it, else as its codec does it, else silence.
    fn be_silent(&mut self, clock_units: u32) {
        if self.noise.is_described() {
            self.decoders.be_silent(clock_units, &mut self.pcm);
            self.noise.fill(&mut self.pcm);
        } else {
            self.decoders.recover(clock_units, None, &mut self.pcm);
        }
        self.concealer.reset();
    }
}

/// The conversation hears of a press, unless it has by another source.
fn pressed(
    presses: &mut Presses,
    counts: &mut Counts,
    line: &mut LineEnd,
    now: Instant,
    digit: Digit,
    source: presses::Source,
) {
    if !presses.is_repeat(now, digit, source) {
        counts.keys += 1;
        line.give_event(Event::Dtmf(digit));
    }
}
