//! Keys going out: as telephone-events where they were agreed (RFC 4733), else as their tones in the audio (ITU-T Q.23).
//!
//! In: once per packet time in which nothing is said, the line's digit. Out: an event for a packet of its own, or tones
//! in the samples that are about to be encoded; and that the digit was sent, so that the line goes on. A key is down for
//! 100 ms and followed by 60 ms of nothing either way. The line says nothing until then, and a recording has silence
//! there either way: what we type may be somebody's secret.

use std::time::Duration;

use crate::codec::CodecSpec;
use crate::detect::dtmf::{Generator, Pace};
use crate::rtp::telephone_event::{DEFAULT_DURATION_MS, Digit, EventPacket, GAP_MS, Sender};
use crate::sdp::TelephoneEvent;

/// A packet of an event.
pub(super) struct Event {
    pub(super) payload_type: u8,
    pub(super) packet: EventPacket,
}

/// How keys go out.
enum Way {
    /// With the clock rate of events and that of audio.
    Events {
        payload_type: u8,
        sender: Sender,
        ptime_ms: u8,
        clocks: (u32, u32),
    },
    Tones {
        generator: Generator,
        rate: u32,
    },
}

pub(super) struct Keys {
    way: Way,
    /// The line's digit is under way.
    pressed: bool,
}

impl Keys {
    pub(super) fn new(agreed: Option<TelephoneEvent>, codec: CodecSpec, ptime_ms: u8) -> Self {
        let way = match agreed {
            Some(te) => {
                let sender = Sender::new(te.clock_rate, codec.clock_rate, ptime_ms);
                let clocks = (te.clock_rate, codec.clock_rate);
                Way::Events { payload_type: te.send_payload, sender, ptime_ms, clocks }
            }
            None => {
                Way::Tones { generator: Generator::new(codec.sample_rate, pace()), rate: codec.sample_rate }
            }
        };
        Self { way, pressed: false }
    }

    /// Takes over a re-INVITE. A key that is under way goes on as it began where it can, and else begins again.
    pub(super) fn update(&mut self, agreed: Option<TelephoneEvent>, codec: CodecSpec, ptime: u8) {
        match (&mut self.way, agreed) {
            (Way::Events { payload_type, ptime_ms, clocks, .. }, Some(te))
                if (*ptime_ms, *clocks) == (ptime, (te.clock_rate, codec.clock_rate)) =>
            {
                *payload_type = te.send_payload;
            }
            (Way::Tones { rate, .. }, None) if *rate == codec.sample_rate => {}
            _ => *self = Self::new(agreed, codec, ptime),
        }
    }

    /// Goes on with the line's digit for a packet time that begins at `timestamp`; `pcm`, mono, takes its tones. Tells
    /// whether the digit was sent.
    pub(super) fn next(
        &mut self,
        digit: Option<Digit>,
        timestamp: u32,
        pcm: &mut [i16],
    ) -> (Option<Event>, bool) {
        if let Some(digit) = digit
            && !self.pressed
        {
            self.pressed = self.way.press(digit);
        }
        let event = self.way.next(timestamp, pcm);
        let sent = self.pressed && !self.way.is_active();
        self.pressed &= !sent;
        (event, sent)
    }
}

impl Way {
    fn press(&mut self, digit: Digit) -> bool {
        match self {
            Self::Events { sender, .. } => sender.press(digit),
            Self::Tones { generator, .. } => generator.press(digit),
        }
    }

    fn next(&mut self, timestamp: u32, pcm: &mut [i16]) -> Option<Event> {
        match self {
            Self::Events { payload_type, sender, .. } => {
                let packet = sender.poll(timestamp)?;
                Some(Event { payload_type: *payload_type, packet })
            }
            Self::Tones { generator, .. } => {
                generator.fill(pcm);
                None
            }
        }
    }

    fn is_active(&self) -> bool {
        match self {
            Self::Events { sender, .. } => sender.is_active(),
            Self::Tones { generator, .. } => generator.is_active(),
        }
    }
}

/// That of events.
fn pace() -> Pace {
    let ms = |ms: u16| Duration::from_millis(ms.into());
    Pace { tone: ms(DEFAULT_DURATION_MS), pause: ms(GAP_MS), ..Pace::default() }
}
