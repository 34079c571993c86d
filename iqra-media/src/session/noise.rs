//! Comfort noise of the receiving half: what the far side said of its background, kept for the gaps that follow.

use crate::codec::CodecSpec;
use crate::codec::comfort_noise::{CLOCK_RATE, Generator, PAYLOAD_TYPE};

pub(super) struct Noise {
    generator: Generator,
    /// Whether the audio's payload types leave 13 to comfort noise: at 8 kHz it is static (RFC 3551 §6).
    possible: bool,
    /// Extended timestamp of the description in force.
    since: Option<u64>,
}

impl Noise {
    pub(super) fn new(negotiated: CodecSpec, decoded: CodecSpec) -> Self {
        let possible = negotiated.clock_rate == CLOCK_RATE && decoded.channels == 1;
        Self { generator: Generator::new(), possible, since: None }
    }

    pub(super) fn is_described_by(&self, payload_type: u8) -> bool {
        self.possible && payload_type == PAYLOAD_TYPE
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

    /// Fills a gap; `false` when the far side described no noise.
    pub(super) fn fill(&mut self, pcm: &mut [i16]) -> bool {
        if self.since.is_some() {
            self.generator.fill(pcm);
        }
        self.since.is_some()
    }
}
