//! Comfort noise of the sending half: while nothing is said, a description of the background now and then, and no audio
//! (RFC 3389).
//!
//! In, once per packet time: the samples that are about to be encoded. Out: whether they are sent, a description in their
//! place, or nothing. What is soft for [`SilenceSuppression::hang_over`] is a pause. It is described when it begins, when
//! its level has changed by [`CHANGE`], and every [`SilenceSuppression::refresh`], so that NAT bindings stay open and a
//! lost description is made up for. The first packet that is louder ends it, and carries the marker (RFC 3551 §4.1).

use std::time::Duration;

use crate::codec::comfort_noise;
use crate::sdp::Negotiated;

/// When comfort noise takes the place of audio, where the far end negotiated it (`CN`, RFC 3389).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SilenceSuppression {
    /// What is softer than this many dB below overload is a pause, 0 to 127. Default 60: softer than the noise of most
    /// rooms, so that of audio which comes from a microphone little is taken for a pause.
    pub below: u8,
    /// How long audio is still sent when a pause has begun. Default 200 ms: the ends of words are soft.
    pub hang_over: Duration,
    /// How long after a description the next is sent at the latest. Default 400 ms.
    pub refresh: Duration,
}

impl Default for SilenceSuppression {
    fn default() -> Self {
        Self { below: 60, hang_over: Duration::from_millis(200), refresh: Duration::from_millis(400) }
    }
}

/// A change of level that is told, in dB.
const CHANGE: u8 = 3;
/// Descriptions are so far apart at least.
const LEAST_APART: Duration = Duration::from_millis(100);
/// Share of a packet in the level of a pause.
const SHARE: f32 = 0.2;

/// What one packet time is sent as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sound {
    Audio,
    Noise([u8; 1]),
    Nothing,
}

/// The pauses of one stream.
pub(super) struct Pauses {
    config: SilenceSuppression,
    payload_type: u8,
    /// For how long nothing is said.
    quiet: Duration,
    /// Smoothed, in dB below overload.
    level: f32,
    /// The last description of this pause, and how long ago it was sent.
    told: Option<(u8, Duration)>,
}

impl Pauses {
    /// `None` where it is not wanted, or was not negotiated for the codec's clock.
    pub(super) fn new(config: Option<SilenceSuppression>, negotiated: &Negotiated) -> Option<Self> {
        let noise = negotiated.comfort_noise?;
        let fits = negotiated.codec.clock_rate == comfort_noise::CLOCK_RATE;
        config.filter(|_| fits).map(|config| Self {
            config,
            payload_type: noise.send_payload,
            quiet: Duration::ZERO,
            level: 0.0,
            told: None,
        })
    }

    pub(super) fn payload_type(&self) -> u8 {
        self.payload_type
    }

    /// Something is said.
    pub(super) fn end(&mut self) {
        (self.quiet, self.told) = (Duration::ZERO, None);
    }

    /// What these samples, which last for `time`, are sent as.
    pub(super) fn judge(&mut self, pcm: &[i16], time: Duration) -> Sound {
        let [level] = comfort_noise::describe(pcm);
        if level < self.config.below {
            self.end();
            return Sound::Audio;
        }
        let before = if self.quiet.is_zero() { f32::from(level) } else { self.level };
        self.level = before + (f32::from(level) - before) * SHARE;
        self.quiet = self.quiet.saturating_add(time);
        if self.quiet <= self.config.hang_over {
            return Sound::Audio;
        }
        self.describe(time)
    }

    fn describe(&mut self, time: Duration) -> Sound {
        let level = self.level.round() as u8;
        let due = self.told.is_none_or(|(told, ago)| {
            let changed = level.abs_diff(told) >= CHANGE && ago + time >= LEAST_APART;
            changed || ago + time >= self.config.refresh
        });
        self.told = match self.told {
            Some((told, ago)) if !due => Some((told, ago + time)),
            _ => Some((level, Duration::ZERO)),
        };
        if due { Sound::Noise([level]) } else { Sound::Nothing }
    }
}
