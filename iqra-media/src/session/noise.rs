//! Comfort noise of the receiving half: what the far side said of its background, kept for the gaps that follow.

use crate::codec::CodecSpec;
use crate::codec::comfort_noise::{CLOCK_RATE, Generator, PAYLOAD_TYPE};
use crate::sdp::ComfortNoise;

pub(super) struct Noise {
    generator: Generator,
    /// What names a description; `None` beside audio that it does not belong to.
    payload_type: Option<u8>,
    /// Extended timestamp of the description in force.
    since: Option<u64>,
}

impl Noise {
    /// At 8 kHz the payload type is static (RFC 3551 §6), so that a far end which did not name it may send it as well.
    pub(super) fn new(audio: CodecSpec, decoded: CodecSpec, negotiated: Option<ComfortNoise>) -> Self {
        let possible = audio.clock_rate == CLOCK_RATE && decoded.channels == 1;
        let payload_type = possible.then(|| negotiated.map_or(PAYLOAD_TYPE, |noise| noise.receive_payload));
        Self { generator: Generator::new(), payload_type, since: None }
    }

    /// Takes over a re-INVITE.
    pub(super) fn renumbered(&mut self, negotiated: Option<ComfortNoise>) {
        if let (Some(payload_type), Some(noise)) = (&mut self.payload_type, negotiated) {
            *payload_type = noise.receive_payload;
        }
    }

    pub(super) fn is_described_by(&self, payload_type: u8) -> bool {
        self.payload_type == Some(payload_type)
    }

    /// Takes a description; the newest counts.
    pub(super) fn describe(&mut self, timestamp: u64, payload: &[u8]) {
        if self.since.is_none_or(|since| timestamp >= since) && self.generator.describe(payload) {
            self.since = Some(timestamp);
        }
    }

    /// Audio of this time is played: what was said of an earlier gap is over.
    pub(super) fn stop_at(&mut self, timestamp: u64) {
        self.since = self.since.filter(|&since| since > timestamp);
    }

    pub(super) fn stop(&mut self) {
        self.since = None;
    }

    /// Whether the far side said how this gap sounds.
    pub(super) fn is_described(&self) -> bool {
        self.since.is_some()
    }

    /// Fills a gap as it was described.
    pub(super) fn fill(&mut self, pcm: &mut [i16]) {
        self.generator.fill(pcm);
    }
}
