//! Which part of what is heard stays out of recordings and bridges: a secret that the caller types.
//!
//! In, once per frame: whether the conversation keeps a secret, whether a key is down, and the samples. Out: what is
//! hidden. A secret is hidden from a bridge from its start, and from a recording from the first key; both until
//! [`AFTER`] past its end and past the last key, which may still sound when the input is complete. What a gateway lets
//! through of a tone beside its telephone-events waits in the jitter buffer that long.

use std::time::{Duration, Instant};

use crate::detect::dtmf::Detector;

/// How long it is hidden after the end.
const AFTER: Duration = Duration::from_millis(300);

/// What is not passed on of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hidden {
    pub(super) from_recording: bool,
    pub(super) from_bridge: bool,
}

pub(super) struct Discretion {
    /// Hears keys that nobody else listens for; `None` where somebody does, or nothing is recorded.
    guard: Option<Detector>,
    hidden: Hidden,
    until: Option<Instant>,
}

impl Discretion {
    pub(super) fn new(guard: Option<Detector>) -> Self {
        Self { guard, hidden: Hidden::default(), until: None }
    }

    /// Another codec.
    pub(super) fn set_guard(&mut self, guard: Option<Detector>) {
        self.guard = guard;
    }

    /// What is hidden of this frame.
    pub(super) fn judge(&mut self, now: Instant, is_secret: bool, key_down: bool, frame: &[i16]) -> Hidden {
        if !is_secret && self.until.is_none() {
            return Hidden::default();
        }
        let key_down = self.listen(frame) || key_down;
        self.hidden.from_bridge = true;
        self.hidden.from_recording |= key_down;
        if is_secret || key_down {
            self.until = Some(now + AFTER);
        } else if self.until.is_some_and(|until| until <= now) {
            (self.hidden, self.until) = (Hidden::default(), None);
            if let Some(guard) = &mut self.guard {
                guard.finish();
            }
        }
        self.hidden
    }

    fn listen(&mut self, frame: &[i16]) -> bool {
        let Some(guard) = &mut self.guard else { return false };
        let mut heard = false;
        guard.process(frame, |_| heard = true);
        heard || guard.pressed().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::dtmf::{Generator, Pace};
    use crate::rtp::telephone_event::Digit;

    const NOTHING: Hidden = Hidden { from_recording: false, from_bridge: false };
    const BRIDGE: Hidden = Hidden { from_recording: false, from_bridge: true };
    const ALL: Hidden = Hidden { from_recording: true, from_bridge: true };

    #[test]
    fn a_secret_is_hidden_from_its_first_key_until_after_its_end() {
        let (start, mut discretion) = (Instant::now(), Discretion::new(None));
        let rows = [
            (0, false, false, NOTHING),
            (20, false, true, NOTHING),
            (40, true, false, BRIDGE),
            (60, true, true, ALL),
            (80, true, false, ALL),
            // The input is over with its last key, which is still down.
            (100, false, true, ALL),
            (500, false, true, ALL),
            (799, false, false, ALL),
            (800, false, false, NOTHING),
            // Nobody typed anything.
            (900, true, false, BRIDGE),
            (1_200, false, false, NOTHING),
        ];
        for (ms, secret, down, expected) in rows {
            let now = start + Duration::from_millis(ms);
            assert_eq!(discretion.judge(now, secret, down, &[]), expected, "at {ms}");
        }
    }

    #[test]
    fn tones_in_the_audio_are_keys_whatever_was_agreed() {
        let (mut now, mut discretion) = (Instant::now(), Discretion::new(Some(Detector::new(8_000))));
        let mut generator = Generator::new(8_000, Pace::default());
        assert!(generator.press(Digit::from_char('5').unwrap()));
        let mut judged = Vec::new();
        for _ in 0..4 {
            let mut frame = [0; 160];
            generator.fill(&mut frame);
            judged.push(discretion.judge(now, true, false, &frame));
            now += Duration::from_millis(20);
        }
        assert_eq!(judged, [BRIDGE, ALL, ALL, ALL]);
    }
}
